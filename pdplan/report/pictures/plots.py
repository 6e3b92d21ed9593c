"""Curves drawn with plain characters: they show in any terminal, in a log, and without colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 68, 20
BOTH = "#"
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Curve:
    """Points of one line, in the order of x, and the character it is drawn with."""

    name: str
    mark: str
    points: tuple[tuple[float, float], ...]


def draw(
    curves: Sequence[Curve], x_title: str, y_title: str, *, log_y: bool = False, width: int = WIDTH
) -> tuple[str, ...]:
    """The lines of a plot: straight lines between points, axes from zero (a logarithmic one: none).

    Every row is at most `width` and a label's length wide.
    """
    filled = [c for c in curves if c.points]
    xs = [x for c in filled for x, _ in c.points]
    ys = [y for c in filled for _, y in c.points]
    if not xs:
        return ()
    x_ticks = ticks(0.0, max(xs), 7)
    y_ticks = log_ticks(min(ys), max(ys)) if log_y else ticks(0.0, max(ys), 5)
    scale: Callable[[float], float] = math.log if log_y else float
    bottom, top = scale(min(y_ticks[0], *ys)), scale(max(y_ticks[-1], *ys))
    right = max(x_ticks[-1], *xs)

    def column(x: float) -> int:
        return round(x / right * (width - 1))

    def row(y: float) -> int:
        return round((top - scale(y)) / (top - bottom or 1.0) * (HEIGHT - 1))

    grid = [[" "] * width for _ in range(HEIGHT)]
    for curve in filled:
        for r, c in _cells(curve, column, row, right / (width - 1), scale):
            grid[r][c] = curve.mark if grid[r][c] in (" ", curve.mark) else BOTH
    legend = [f"{c.mark} {c.name}" for c in filled] + ([f"{BOTH} both"] if len(filled) > 1 else [])
    heading = f"{y_title}    {'   '.join(legend)}"
    across = {column(x): tick_text(x) for x in x_ticks}
    return framed(grid, heading, {row(y): tick_text(y) for y in y_ticks}, across, x_title)


def framed(
    grid: Sequence[Sequence[str]],
    heading: str,
    down: Mapping[int, str],
    across: Mapping[int, str],
    x_title: str,
) -> tuple[str, ...]:
    """Cells with axes around them; ticks by row (`down`) and by column (`across`)."""
    width, margin = len(grid[0]), max(len(text) for text in down.values())
    lines = [heading]
    for r, cells in enumerate(grid):
        edge = "+" if r in down else "|"
        lines.append(f"{down.get(r, ''):>{margin}} {edge}{''.join(cells)}".rstrip())
    axis, below = ["-"] * width, [" "] * (width + 8)
    for c, text in across.items():
        axis[c] = "+"
        start = max(c - len(text) // 2, 0)
        below[start : start + len(text)] = text
    indent = " " * margin
    return (
        *lines,
        f"{indent} +{''.join(axis)}",
        f"{indent}  {''.join(below)}".rstrip(),
        f"{indent}  {x_title:^{width}}".rstrip(),
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high` or the next one above, some `about` of them.

    >>> ticks(0.0, 118.9, 7), ticks(0.0, 1130.5, 5)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0], [0.0, 250.0, 500.0, 750.0, 1000.0, 1250.0])
    """
    span = (high - low) / about or 1.0
    unit = 10.0 ** math.floor(math.log10(span))
    step = min((n * unit for n in _NICE), key=lambda s: abs(math.log(s / span)))
    return [low + i * step for i in range(math.ceil((high - low) / step - 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten around a range, of ten alone where it is wide.

    >>> log_ticks(0.26, 3.1), log_ticks(0.02, 56)
    ([0.2, 0.5, 1.0, 2.0, 5.0], [0.01, 0.1, 1.0, 10.0, 100.0])
    """
    wide = high / low > 1e3
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    every = [float(f"{n}e{p}") for p in powers for n in ((1,) if wide else (1, 2, 5))]
    first = max(t for t in every if t <= low * (1 + 1e-9))
    last = min(t for t in every if t >= high * (1 - 1e-9))
    return [t for t in every if first <= t <= max(last, first * 2)]


def tick_text(value: float) -> str:
    """
    >>> tick_text(1250.0), tick_text(2.5), tick_text(0.0), tick_text(0.05)
    ('1,250', '2.5', '0', '0.05')
    """
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _cells(
    curve: Curve,
    column: Callable[[float], int],
    row: Callable[[float], int],
    per_column: float,
    scale: Callable[[float], float],
) -> set[tuple[int, int]]:
    """(row, column) of every character: one or more a column, without gaps."""
    points = sorted(curve.points)
    heights: dict[int, list[int]] = {}
    for x, y in points:
        heights.setdefault(column(x), []).append(row(y))
    first, last = column(points[0][0]), column(points[-1][0])
    for c in range(first, last + 1):
        if c not in heights:
            heights[c] = [row(_between(points, c * per_column, scale))]
    found: set[tuple[int, int]] = set()
    before = heights[first][0]
    for c in range(first, last + 1):
        rows = heights[c]
        low, high = min(rows), max(rows)
        # Join with the column before, half way down.
        if low > before + 1:
            low = before + 1
        elif high < before - 1:
            high = before - 1
        found |= {(r, c) for r in range(low, high + 1)}
        before = rows[-1]
    return found


def _between(points: list[tuple[float, float]], x: float, scale: Callable[[float], float]) -> float:
    """The line through the points at x, straight on the plot's scale."""
    after = next(i for i, (at, _) in enumerate(points) if at >= x)
    (x0, y0), (x1, y1) = points[max(after - 1, 0)], points[after]
    share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
    if scale is math.log:
        return float(y0 * (y1 / y0) ** share)
    return y0 + (y1 - y0) * share
