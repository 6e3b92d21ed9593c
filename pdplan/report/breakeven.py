"""What `recommend --sensitivity` says of break-even points: where the answer turns, and into what."""

from __future__ import annotations

from typing import Any

from pdplan.question import Candidate
from pdplan.report.blocks import Block, Cell, Paragraph, table
from pdplan.report.contract import candidate_json, record
from pdplan.report.sensitivity import amount_words, quantity_words
from pdplan.report.words import short_plan
from pdplan.search.answers import amount_of
from pdplan.search.breakeven import BreakEven, Looked, Turn, used_for


def break_even_blocks(found: BreakEven) -> list[Block]:
    """A row for each turn, and where was looked."""
    rows: list[tuple[Cell | str, ...]] = []
    for number, turn in enumerate(found.turns):
        again = number > 0 and found.turns[number - 1].input.key == turn.input.key
        rows.append(
            (
                "" if again else turn.input.title,
                "" if again else quantity_words(turn.input.value, turn.input.unit),
                quantity_words(turn.value, turn.input.unit),
                turn_words(turn, found),
            )
        )
    looked = "; ".join(f"{at.input.title} {_span(at)}" for at in found.looked)
    words = f"looked for at {looked}; of the cost's steps only the nearest are told"
    if found.question.mode == "any" and all(turn.what != "mode" for turn in found.turns):
        other = "colocated" if found.base.plan.mode == "disaggregated" else "disaggregated"
        words += f"; nowhere was a {other} plan better"
    if not rows:
        return [Paragraph(f"none: {words}", title="Break-even points")]
    return [table("Break-even points", "input|>as asked|>turns at|~what changes", rows), Paragraph(words)]


def turn_words(turn: Turn, found: BreakEven) -> str:
    """What a turn means, in a sentence."""
    if turn.what == "use":
        return _use_words(turn, found)
    if turn.what == "mode":
        assert turn.below is not None
        assert turn.above is not None
        return (
            f"{turn.below.plan.mode} takes no more below ({_plan(turn.below, found)}), "
            f"{turn.above.plan.mode} above ({_plan(turn.above, found)})"
        )
    if turn.what == "feasible":
        whose = f"{turn.mode} plan" if turn.mode else "plan"
        side = "above" if turn.above is None else "below"
        words = f"no {whose} keeps the limits {side}"
        return f"{words}; there {_plan(turn.below, found)}" if turn.mode and turn.below else words
    away = turn.above if turn.value > turn.input.value else turn.below
    assert away is not None
    side = "above" if away is turn.above else "below"
    dearer = amount_of(away.metrics, found.counted) > amount_of(found.base.metrics, found.counted)
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
        roles = used_for(candidate.plan, hardware)
        use = " and ".join("colocated" if r == "colocated" else f"for {r}" for r in sorted(roles))
        words.append(f"{use or 'not at all'} {side} ({_plan(candidate, found)})")
    return f"{hardware} pays {', '.join(words)}"
