"""Sensitivity and break-even points of one answer, their searches shared."""

from __future__ import annotations

from pdplan.question import Recommendation
from pdplan.search.what_if.answers import to_vary
from pdplan.search.what_if.breakeven import BreakEven, break_even
from pdplan.search.what_if.mixed_answers import answers_for
from pdplan.search.what_if.sensitivity import Sensitivity, sensitivity


def explore(found: Recommendation) -> tuple[Sensitivity, BreakEven]:
    """What moves an answer, and where it turns. InputError without a plan."""
    found, _ = to_vary(found)
    answers = answers_for(found)
    moves = sensitivity(found, answers=answers)
    return moves, break_even(found, answers=answers)
