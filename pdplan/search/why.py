"""Sensitivity and break-even points of one answer, their searches shared."""

from __future__ import annotations

from pdplan.question import Recommendation
from pdplan.search.answers import Answers, with_equal_workers
from pdplan.search.breakeven import BreakEven, break_even
from pdplan.search.kinds import kind_of
from pdplan.search.sensitivity import Sensitivity, sensitivity


def explore(found: Recommendation) -> tuple[Sensitivity, BreakEven]:
    """What moves an answer, and where it turns. InputError without a plan."""
    found, base = with_equal_workers(found)
    answers = Answers(kind_of(base.plan))
    moves = sensitivity(found, answers=answers)
    return moves, break_even(found, answers=answers)
