"""Which inputs move the answer, and by how much: each one varied alone, the search run anew.

Whole workers make costs a staircase: many a change of 20 % costs nothing, the next one
a worker. So each input also says what fractional workers would cost (a bound that moves
smoothly) and how far the recommended plan, as it stands, holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from pdplan.compose import World
from pdplan.laws.roofline import Array
from pdplan.plan import Plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.holding import excess_of_many, last_kept, last_kept_of_many
from pdplan.search.kinds import differences, kind_of
from pdplan.search.robust import with_spare_workers
from pdplan.search.what_if.answers import Answers, Counted, amount_of, counted_in, planned, to_vary
from pdplan.search.what_if.mixed_answers import answers_for
from pdplan.search.what_if.varied import Problem, VariedInput, chosen_inputs

CHANGE = 0.2
"""Share by which each input is varied."""
FARTHEST = 4.0
"""How many times an input may grow or shrink before the question whether a plan holds is given up."""
PRECISION = 1.005
"""A limit up to which a plan holds is found this closely, on the safe side."""


@dataclass(frozen=True, kw_only=True)
class End:
    """One input with one other value."""

    value: float
    best: Candidate | None
    """None where no plan keeps the limits any more."""
    amount: float
    """$/h, accelerators, kW or requests/s; NaN without a plan."""
    fractional: float
    """The same with workers in fractions and no queues."""
    amount_of_kind: float
    """That of the best plan of today's kind: another, where the kind should change."""


@dataclass(frozen=True, kw_only=True)
class Swing:
    """What one input moves."""

    input: VariedInput
    low: End
    """At less."""
    high: End
    """At more."""
    holds_to: float | None
    """The value up to which (or down to which) the plan as it stands keeps every limit; infinite or 0
    where it holds throughout what was tried; None where the input is a price, or goodput is asked for."""

    @property
    def ends(self) -> tuple[End, End]:
        return self.low, self.high

    def width(self, base: float) -> float:
        """From the lowest to the highest amount; infinite where an end has no plan."""
        amounts = [base, *(end.amount for end in self.ends)]
        return float("inf") if any(a != a for a in amounts) else max(amounts) - min(amounts)

    def fractional_width(self) -> float:
        found = [end.fractional for end in self.ends if end.fractional == end.fractional]
        return max(found) - min(found) if found else 0.0


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How an answer depends on its inputs, widest swing first."""

    question: Question
    world: World
    base: Candidate
    counted: Counted
    change: float
    amount: float
    fractional: float
    swings: tuple[Swing, ...]
    searches: int

    def kind_changes(self, end: End) -> tuple[str, ...]:
        """In what the best plan of an end differs in kind from today's; nothing where today's is as good."""
        if end.best is None or end.amount == end.amount_of_kind:
            return ()
        return differences(kind_of(self.base.plan), kind_of(end.best.plan))


def sensitivity(
    found: Recommendation,
    *,
    change: float = CHANGE,
    only: Sequence[str] = (),
    answers: Answers | None = None,
) -> Sensitivity:
    """Every input, or `only` some, at (1 − change) and (1 + change) times its value, one at a time.

    What is found is exact: each end is searched anew, as `recommend` searches. InputError where there is no
    plan to begin with.
    """
    found, base = to_vary(found)
    question, world, counted = found.question, found.world, counted_in(found)
    answers = answers or answers_for(found)
    now = answers.answer(question, world)  # first, and without a ceiling: its worker types serve many ends
    sized = with_spare_workers(base.plan, -question.spare_workers)
    swings = []
    for varied in chosen_inputs(found, only):
        holds = None
        if varied.harder and not question.wants_goodput:
            holds = _holds_to(varied, sized, (question, world), answers)

        def end(factor: float, varied: VariedInput = varied, holds: float | None = holds) -> End:
            value = varied.at(factor)
            # Easier than where it holds last the plan does; of a goodput it is sized anew.
            does = holds is None or (holds - value) * varied.harder >= 0
            known = None if question.wants_goodput or not does else sized
            return _end(varied, value, (question, world), answers, counted, known)

        swings.append(Swing(input=varied, low=end(1.0 - change), high=end(1.0 + change), holds_to=holds))
    amount = amount_of(base.metrics, counted)
    swings.sort(key=lambda s: (-s.width(amount), -s.fractional_width(), s.input.key))
    return Sensitivity(
        question=question,
        world=world,
        base=base,
        counted=counted,
        change=change,
        amount=amount,
        fractional=now.fractional,
        swings=tuple(swings),
        searches=answers.asked,
    )


def _end(
    varied: VariedInput,
    value: float,
    problem: Problem,
    answers: Answers,
    counted: Counted,
    sized: Plan | None,
) -> End:
    """One input at a value; `sized`: today's plan without spare workers, where it is likely to do."""
    question, world = varied.put(*problem, value)
    known = answers.holding(sized, question, world) if sized else None
    answer = answers.answer(question, world, known)
    best = planned(answer.best, question, world)
    same = best if answer.of_kind is answer.best else planned(answer.of_kind, question, world)
    return End(
        value=value,
        best=best,
        amount=amount_of(best.metrics, counted) if best else float("nan"),
        amount_of_kind=amount_of(same.metrics, counted) if same else float("nan"),
        fractional=answer.fractional,
    )


def _holds_to(varied: VariedInput, plan: Plan, problem: Problem, answers: Answers) -> float:
    """The last value, going harder, at which a plan sized without spare workers keeps every limit."""

    def excess(at: float) -> float:
        return answers.excess(plan, *varied.put(*problem, varied.at(exp(at * varied.harder))))

    put: Callable[..., Problem] = varied.put

    def excess_of_each(places: Array) -> Array:
        values = np.array([varied.at(exp(at * varied.harder)) for at in places.tolist()])
        return excess_of_many(plan, *put(*problem, values))

    most, hair = log(FARTHEST), log(PRECISION) / 2
    if varied.in_arrays:
        at = last_kept_of_many(excess_of_each, most, hair)
    else:
        at = last_kept(excess, excess(0.0), most, hair)
    if at == most:
        return float("inf") if varied.harder > 0 else 0.0
    return varied.at(exp(at * varied.harder))
