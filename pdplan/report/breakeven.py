"""What `recommend --sensitivity` says of break-even points: where the answer turns, and into what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pdplan.question import Candidate
from pdplan.report.blocks import Block, Cell, Paragraph, table
from pdplan.report.contract import candidate_json, record
from pdplan.report.sensitivity import amount_words, quantity_words
from pdplan.report.words import short_plan
from pdplan.search.what_if.answers import amount_of
from pdplan.search.what_if.breakeven import BreakEven, Looked, Turn, used_for


def break_even_blocks(found: BreakEven) -> list[Block]:
    """A table for each input that has turns, and where was looked."""
    looked = "; ".join(f"{at.input.title} {_span(at)}" for at in found.looked)
    words = f"looked for at {looked}"
    if found.counted != "goodput":
        words += "; of the cost's steps only the nearest are told"
    other = "colocated" if found.base.plan.mode == "disaggregated" else "disaggregated"
    if found.question.mode == "any" and other not in found.modes:
        words += f"; nowhere was a {other} plan better"
    if not found.turns:
        return [Paragraph(f"none: {words}", title="Break-even points")]
    blocks: list[Block] = [Paragraph(_legend(found), title="Break-even points")]
    for key in dict.fromkeys(turn.input.key for turn in found.turns):
        turns = [turn for turn in found.turns if turn.input.key == key]
        asked = turns[0].input
        title = f"{asked.title}, {quantity_words(asked.value, asked.unit)} as asked"
        rows = [row for turn in turns for row in _rows(turn, found)]
        blocks.append(table(title, ">turns at|side|what|~plan", rows))
    return [*blocks, Paragraph(words)]


def _legend(found: BreakEven) -> str:
    """What the tables' columns say."""
    words = ["what holds on either side of a value, with the best plan there"]
    if any(turn.what == "mode" for turn in found.turns):
        ahead = "serves no less" if found.counted == "goodput" else "takes no more"
        words.append(f"of the modes, the one that {ahead}")
    if any(turn.what == "use" for turn in found.turns):
        words.append("of a price, what its accelerator is used for")
    return "; ".join(words)


def _rows(turn: Turn, found: BreakEven) -> Iterator[tuple[Cell | str, ...]]:
    """Each side of a turn of which there is something to say; the value stands on the first."""
    value = quantity_words(turn.value, turn.input.unit)
    for side, what, candidate in _sides(turn, found):
        yield (value, side, what, _plan(candidate, found) if candidate else "")
        value = ""


def _sides(turn: Turn, found: BreakEven) -> Iterator[tuple[str, str, Candidate | None]]:
    """(below or above, what holds there, the plan there)."""
    both = (("below", turn.below), ("above", turn.above))
    if turn.what == "mode":
        yield from ((side, c.plan.mode, c) for side, c in both if c)
    elif turn.what == "use":
        yield from ((side, _use(turn, c), c) for side, c in both if c)
    elif turn.what == "feasible":
        missing = "below" if turn.mode or turn.below is None else "above"
        yield missing, f"no {turn.mode} plan" if turn.mode else "no plan", turn.below if turn.mode else None
    else:
        side, away, dearer = _away(turn, found)
        yield side, "more is needed" if dearer else "less will do", away


def _away(turn: Turn, found: BreakEven) -> tuple[str, Candidate, bool]:
    """The side of a step of the cost on which it is not today's, the plan there, whether it is dearer."""
    side, away = ("above", turn.above) if turn.value > turn.input.value else ("below", turn.below)
    assert away is not None
    return side, away, amount_of(away.metrics, found.counted) > amount_of(found.base.metrics, found.counted)


def turn_words(turn: Turn, found: BreakEven) -> str:
    """What a turn means, in a sentence."""
    if turn.what == "use":
        return _use_words(turn, found)
    if turn.what == "mode":
        assert turn.below is not None
        assert turn.above is not None
        ahead = "serves no less" if found.counted == "goodput" else "takes no more"
        return (
            f"{turn.below.plan.mode} {ahead} below ({_plan(turn.below, found)}), "
            f"{turn.above.plan.mode} above ({_plan(turn.above, found)})"
        )
    if turn.what == "feasible":
        whose = f"{turn.mode} plan" if turn.mode else "plan"
        side = "above" if turn.above is None else "below"
        words = f"no {whose} keeps the limits {side}"
        return f"{words}; there {_plan(turn.below, found)}" if turn.mode and turn.below else words
    side, away, dearer = _away(turn, found)
    return f"{'more is needed' if dearer else 'less will do'} {side}: {_plan(away, found)}"


def break_even_json(found: BreakEven) -> dict[str, Any]:
    """The `break_even` object."""
    return {
        "turns": [
            {
                "input": turn.input.key,
                "unit": turn.input.unit,
                "as_asked": turn.input.value,
                "value": turn.value,
                "what": turn.what,
                "mode": turn.mode,
                "used_for_below": _uses(turn, turn.below),
                "used_for_above": _uses(turn, turn.above),
                "words": turn_words(turn, found),
                "below": candidate_json(turn.below),
                "above": candidate_json(turn.above),
            }
            for turn in found.turns
        ],
        "looked_at": [
            {"input": looked.input.key, "unit": looked.input.unit, "low": looked.low, "high": looked.high}
            for looked in found.looked
        ],
        "searches": found.searches,
    }


def break_even_records(found: BreakEven) -> list[dict[str, Any]]:
    """Two rows for each turn: the plan on either side."""
    return [
        {
            "answer": f"break_even_{side}",
            "input": turn.input.key,
            "input_unit": turn.input.unit,
            "input_value": turn.value,
            **(record(candidate) if candidate else {}),
        }
        for turn in found.turns
        for side, candidate in (("below", turn.below), ("above", turn.above))
    ]


# ------------------------------------------------------------------------ inside


def _plan(candidate: Candidate, found: BreakEven) -> str:
    amount = amount_words(amount_of(candidate.metrics, found.counted), found.counted)
    return f"{short_plan(candidate.plan)}, {amount}"


def _uses(turn: Turn, candidate: Candidate | None) -> list[str] | None:
    """Roles of the accelerator whose price turns; null where it is no price."""
    if turn.what != "use" or candidate is None:
        return None
    return sorted(used_for(candidate.plan, turn.input.key.removeprefix("price.")))


def _span(looked: Looked) -> str:
    low, high = (quantity_words(value, looked.input.unit) for value in (looked.low, looked.high))
    return f"{low} to {high}"


def _use_words(turn: Turn, found: BreakEven) -> str:
    """h20 pays for decode below (...), not at all above (...)."""
    hardware = turn.input.key.removeprefix("price.")
    words = []
    for side, candidate in (("below", turn.below), ("above", turn.above)):
        assert candidate is not None
        words.append(f"{_use(turn, candidate)} {side} ({_plan(candidate, found)})")
    return f"{hardware} pays {', '.join(words)}"


def _use(turn: Turn, candidate: Candidate) -> str:
    """What the accelerator of a price is used for: for prefill and decode; colocated; not at all."""
    roles = used_for(candidate.plan, turn.input.key.removeprefix("price."))
    if "colocated" in roles:
        return "colocated"
    ordered = [role for role in ("prefill", "decode") if role in roles]
    return f"for {' and '.join(ordered)}" if ordered else "not at all"
