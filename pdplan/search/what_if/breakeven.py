"""Break-even points: values of an input at which the answer turns, found on the search itself.

Kinds of turn: the best mode changes; the cost takes its next step up or down; no plan (or no plan of one
mode) keeps the limits any more. And prices at which an accelerator comes into or out of use. Each is
bracketed by bisection between searches that differ, and told only if answers 1 % to either side differ
as it says (pdplan.search.what_if.turns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pdplan.compose import World
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.what_if.answers import Answers, Counted, counted_in, to_vary
from pdplan.search.what_if.line import COST, GOODPUT, MIXED, Line
from pdplan.search.what_if.mixed_answers import MixedAnswers, answers_for
from pdplan.search.what_if.price_turns import price_turns, used_for
from pdplan.search.what_if.turns import Turn, Turning, turns_of
from pdplan.search.what_if.varied import VariedInput, chosen_inputs

__all__ = ["BreakEven", "Looked", "Turn", "Turning", "break_even", "used_for"]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """Where an input was looked at."""

    input: VariedInput
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """All turns that were found, by input, from its low end."""

    question: Question
    world: World
    base: Candidate
    counted: Counted
    turns: tuple[Turn, ...]
    looked: tuple[Looked, ...]
    searches: int
    modes: frozenset[str] = frozenset()
    """Of the best plans wherever was looked."""


def break_even(
    found: Recommendation, *, only: Sequence[str] = (), answers: Answers | None = None
) -> BreakEven:
    """Break-even points around an answer, of every input that has any or of `only` some.

    Of a cost, or of the goodput of a budget. InputError where there is no plan.
    """
    found, base = to_vary(found)
    question = found.question
    answers = answers or answers_for(found)
    turns: list[Turn] = []
    modes: set[str] = set()
    looked: list[Looked] = []
    for line, of_price in _lines(found, only, answers):
        turns += price_turns(line) if of_price else turns_of(line)
        modes |= line.modes
        looked.append(Looked(input=line.varied, low=line.value(-line.reach), high=line.value(line.reach)))
    return BreakEven(
        question=question,
        world=found.world,
        base=base,
        counted=counted_in(found),
        turns=tuple(turns),
        looked=tuple(looked),
        searches=answers.asked,
        modes=frozenset(modes),
    )


# ------------------------------------------------------------------------ inside


def _lines(found: Recommendation, only: Sequence[str], answers: Answers) -> Iterator[tuple[Line, bool]]:
    """The inputs to look at; whether each is a price."""
    question = found.question
    scale = GOODPUT if question.wants_goodput else MIXED if isinstance(answers, MixedAnswers) else COST
    choices = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    for varied in chosen_inputs(found, only):
        if varied.key in scale.spans:
            yield Line(found, varied, scale, answers), False
        elif varied.key.startswith("price.") and len(choices) > 1:
            yield Line(found, varied, scale, answers), True
