"""What `recommend --sensitivity` says: a chart of what each input moves, and the table behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pdplan.report.blocks import Block, Bullets, Cell, Paragraph, Table, Verbatim, table
from pdplan.report.contract import candidate_json, record
from pdplan.report.pictures.tornado import BOTH, LESS, MORE, Bar, draw_bars
from pdplan.report.words import per_cent, short_plan
from pdplan.search.what_if.answers import Counted
from pdplan.search.what_if.sensitivity import FARTHEST, End, Sensitivity, Swing
from pdplan.search.what_if.varied import VariedInput
from pdplan.units import format_bytes, format_duration, format_money, format_rate, format_si

_UNITS: dict[Counted, str] = {
    "cost": "usd_per_h",
    "gpus": "gpus",
    "energy": "kw",
    "goodput": "requests_per_s",
}
_TITLES: dict[Counted, str] = {
    "cost": "dollars per hour",
    "gpus": "GPUs",
    "energy": "kW",
    "goodput": "requests/s",
}


MOST_TOLD = 8
"""Changes of kind that are told in words."""


def sensitivity_blocks(found: Sensitivity) -> list[Block]:
    """Chart, table, and where the kind of plan changes."""
    moving = [s for s in found.swings if s.width(found.amount) > 0]
    share = f"{found.change:.0%}"
    blocks: list[Block] = []
    if moving:
        blocks.append(Paragraph(_legend(found, share), title="Sensitivity"))
        bars = [Bar(s.input.title, *(_known(end.amount) for end in s.ends)) for s in moving]
        blocks.append(Verbatim(draw_bars(bars, found.amount, worse_right=found.counted != "goodput")))
    else:
        words = f"no input moves {_TITLES[found.counted]} when it alone is {share} less or more"
        blocks.append(Paragraph(words, title="Sensitivity"))
    blocks.append(_table(found, share))
    changes = list(_kind_changes(found, share))
    if len(changes) > MOST_TOLD:
        changes[MOST_TOLD:] = [f"and {len(changes) - MOST_TOLD} more: --format json has all"]
    if changes:
        blocks.append(Bullets(title="Where another kind of plan is better (*)", items=tuple(changes)))
    return blocks


def sensitivity_json(found: Sensitivity) -> dict[str, Any]:
    """The `sensitivity` object."""
    return {
        "change": found.change,
        "counted": found.counted,
        "unit": _UNITS[found.counted],
        "amount": found.amount,
        "fractional_amount": found.fractional,
        "inputs": [_swing_json(found, swing) for swing in found.swings],
        "searches": found.searches,
    }


def sensitivity_records(found: Sensitivity) -> list[dict[str, Any]]:
    """A row for each end of each input: the plan there, or none."""
    rows = []
    for swing in found.swings:
        for sign, end in ((-1, swing.low), (1, swing.high)):
            rows.append(
                {
                    "answer": "sensitivity",
                    "input": swing.input.key,
                    "input_unit": swing.input.unit,
                    "input_value": end.value,
                    "input_change": sign * found.change,
                    "amount": end.amount,
                    "fractional_amount": end.fractional,
                    **(record(end.best) if end.best else {}),
                }
            )
    return rows


def quantity_words(value: float, unit: str) -> str:
    """A value of a varied input with its unit.

    >>> quantity_words(0.04, "s"), quantity_words(4.8e12, "bytes_per_s"), quantity_words(1.1, "factor")
    ('40.0 ms', '4.80 TB/s', '1.1')
    """
    if unit == "requests_per_s":
        return format_rate(value)
    if unit == "s":
        return format_duration(value)
    if unit == "usd_per_h":
        return f"{format_money(value)}/h"
    if unit == "flop_per_s":
        return format_si(value, "FLOP/s")
    if unit == "bytes":
        return format_bytes(value)
    if unit == "bytes_per_s":
        return f"{format_bytes(value)}/s"
    if unit == "share":
        return f"{value:.1%}"
    if unit in ("tokens", "gpus"):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def amount_title(counted: Counted) -> str:
    """The name of an axis of amounts."""
    return _TITLES[counted]


def amount_words(amount: float, counted: Counted) -> str:
    """
    >>> amount_words(172.32, "cost"), amount_words(16.0, "gpus"), amount_words(float("nan"), "cost")
    ('$172.32/h', '16 GPUs', 'no plan')
    """
    if math.isnan(amount):
        return "no plan"
    if counted == "cost":
        return f"{format_money(amount)}/h"
    if counted == "gpus":
        return f"{amount:,.0f} GPU{'' if amount == 1 else 's'}"
    return f"{amount:,.1f} kW" if counted == "energy" else format_rate(amount)


# ------------------------------------------------------------------------ inside


def _legend(found: Sensitivity, share: str) -> str:
    marks = f"{LESS} with {share} less of an input, {MORE} with {share} more"
    if any(
        not math.isnan(s.low.amount)
        and not math.isnan(s.high.amount)
        and (s.low.amount - found.amount) * (s.high.amount - found.amount) > 0
        for s in found.swings
    ):
        marks += f", {BOTH} both"
    if any(math.isnan(end.amount) for s in found.swings for end in s.ends):
        marks += f", {'<' if found.counted == 'goodput' else '>'} no plan keeps the limits"
    return f"{_TITLES[found.counted]}, {amount_words(found.amount, found.counted)} as asked (|): {marks}"


def _known(amount: float) -> float | None:
    return None if math.isnan(amount) else amount


def _table(found: Sensitivity, share: str) -> Table:
    rows: list[tuple[Cell | str, ...]] = [
        (
            swing.input.title,
            quantity_words(swing.input.value, swing.input.unit),
            *(_end_cell(found, end) for end in swing.ends),
            " ".join(f"{_relative(end.fractional, found.fractional):>6}" for end in swing.ends),
            _holds(swing),
        )
        for swing in found.swings
    ]
    columns = f"~input|>?as asked|>{share} less|>{share} more|>?in fractions|>plan holds to"
    told = table(f"{share} less or more of one input, all else as asked", columns, rows)
    return replace(told, legend=_column_legend(found, share))


def _end_cell(found: Sensitivity, end: End) -> Cell | str:
    if end.best is None:
        return Cell("no plan", "bad")
    star = " *" if found.kind_changes(end) else ""
    if math.isclose(end.amount, found.amount, rel_tol=1e-9):
        return "same" + star
    words = amount_words(end.amount, found.counted).removesuffix("/h")
    return f"{words} {_relative(end.amount, found.amount)}{star}"


def _relative(amount: float, base: float) -> str:
    """
    >>> _relative(90.0, 100.0), _relative(100.2, 100.0), _relative(100.0, 100.0)
    ('-10%', '+0.2%', '0%')
    """
    share = amount / base - 1.0
    if math.isnan(share):
        return "n/a"
    if abs(share) < 5e-4:
        return "0%"
    return f"{'-' if share < 0 else '+'}{per_cent(abs(share))}"


def _holds(swing: Swing) -> str:
    if swing.holds_to is None:
        return ""
    varied = swing.input
    if math.isinf(swing.holds_to):
        return f"> {quantity_words(varied.at(FARTHEST), varied.unit)}"
    if swing.holds_to == 0:
        return f"< {quantity_words(varied.at(1 / FARTHEST), varied.unit)}"
    change = _relative(swing.holds_to, varied.value)
    return f"{quantity_words(swing.holds_to, varied.unit)} {change}"


def _column_legend(found: Sensitivity, share: str) -> tuple[tuple[str, str], ...]:
    """What the columns of the table mean."""
    fractions = (
        f"with {share} less and more if workers came in fractions and nobody ever queued "
        f"({amount_words(found.fractional, found.counted)} as asked); that moves without steps"
    )
    holds = "as far as the recommended plan, as it stands, keeps every limit"
    told = [("in fractions", fractions)]
    return (*told, ("plan holds to", holds)) if found.counted != "goodput" else tuple(told)


def _kind_changes(found: Sensitivity, share: str) -> Iterator[str]:
    for swing in found.swings:
        for what, end in (("less", swing.low), ("more", swing.high)):
            changes = found.kind_changes(end)
            if changes and end.best:
                same = amount_words(end.amount_of_kind, found.counted)
                yield (
                    f"{swing.input.title} {share} {what}: {short_plan(end.best.plan)} at "
                    f"{amount_words(end.amount, found.counted)} differs in {' and '.join(changes)}; "
                    f"today's kind: {same}"
                )


def _swing_json(found: Sensitivity, swing: Swing) -> dict[str, Any]:
    varied: VariedInput = swing.input
    return {
        "input": varied.key,
        "title": varied.title,
        "unit": varied.unit,
        "value": varied.value,
        "swing": swing.width(found.amount),
        "plan_holds_to": swing.holds_to,
        "low": _end_json(found, swing.low),
        "high": _end_json(found, swing.high),
    }


def _end_json(found: Sensitivity, end: End) -> dict[str, Any]:
    return {
        "value": end.value,
        "amount": end.amount,
        "fractional_amount": end.fractional,
        "amount_of_same_kind": end.amount_of_kind,
        "kind_changes": list(found.kind_changes(end)),
        **(candidate_json(end.best) or {"plan": None, "metrics": None}),
    }
