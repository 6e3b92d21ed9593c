"""Bars of plain characters around a middle line: what each of several inputs moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 48
LESS, MORE, BOTH, MIDDLE = "-", "+", "#", "|"


@dataclass(frozen=True)
class Bar:
    """One input: the amounts at less and at more of it; None where there is no plan."""

    name: str
    less: float | None
    more: float | None


def draw_bars(
    bars: Sequence[Bar], middle: float, *, worse_right: bool = True, width: int = WIDTH
) -> tuple[str, ...]:
    """Lines of a tornado chart, the scale first. No plan: a bar to the worse edge, with an arrow.

    >>> print(*draw_bars([Bar("rate", 8.0, 14.0), Bar("limit", None, 10.0)], 10.0, width=13), sep="\\n")
          8         14
    rate  ----|++++++++
    limit     |------->
    """
    amounts = [a for bar in bars for a in (bar.less, bar.more) if a is not None]
    low, high = min([middle, *amounts]), max([middle, *amounts])
    if high == low:  # every end has no plan, or the same
        low, high = low - (not worse_right), high + worse_right
    margin = max(len(bar.name) for bar in bars)

    def column(amount: float) -> int:
        return round((amount - low) / (high - low) * (width - 1))

    lines = [f"{'':{margin}}  {_scale(low, high, width)}"]
    for bar in bars:
        cells = [" "] * width
        for amount, mark in ((bar.less, LESS), (bar.more, MORE)):
            edge = (width - 1 if worse_right else 0) if amount is None else column(amount)
            start = column(middle)
            for c in range(min(start, edge), max(start, edge) + 1):
                if c != start:
                    cells[c] = mark if cells[c] == " " else BOTH
            if amount is None and edge != start:
                cells[edge] = ">" if worse_right else "<"
        cells[column(middle)] = MIDDLE
        lines.append(f"{bar.name:{margin}}  {''.join(cells)}".rstrip())
    return tuple(lines)


def _scale(low: float, high: float, width: int) -> str:
    """The ends of the scale above the ends of the bars."""
    left, right = (f"{value:,.4g}" for value in (low, high))
    return f"{left}{right:>{max(width - len(left), len(right) + 1)}}"
