"""Which inputs move the answer, and by how much: each one varied alone, the search run anew.

Whole workers make costs a staircase: many a change of 20 % costs nothing, the next one
a worker. So each input also says what fractional workers would cost (a bound that moves
smoothly) and how far the recommended plan, as it stands, holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, log

from pdplan.compose import World, evaluate_plan
from pdplan.plan import Plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.answers import Answers, Counted, amount_of, counted_in, planned, with_equal_workers
from pdplan.search.kinds import differences, kind_of
from pdplan.search.objective import limit_shares, serves
from pdplan.search.robust import with_spare_workers
from pdplan.search.varied import Problem, VariedInput, chosen_inputs
from pdplan.uncertainty import slo_of

CHANGE = 0.2
"""Share by which each input is varied."""
FARTHEST = 4.0
"""How many times an input may grow or shrink before the question whether a plan holds is given up."""
NEAR = 1.2
"""How many times it grows or shrinks at first."""
HOPELESS = 1.0
"""Logarithm of how far beyond its limits a plan counts that cannot do the work at all."""
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

    What is found is exact: each end is searched anew, among pools of equal workers. InputError where
    there is no plan to begin with.
    """
    found, base = with_equal_workers(found)
    question, world, counted = found.question, found.world, counted_in(found)
    answers = answers or Answers(kind_of(base.plan))
    sized = with_spare_workers(base.plan, -question.spare_workers)
    now = 0.0 if question.wants_goodput else _excess(sized, question, world)
    swings = []
    for varied in chosen_inputs(found, only):
        holds = None
        if varied.harder and not question.wants_goodput:
            holds = _holds_to(varied, sized, question, world, now)

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
        fractional=answers.answer(question, world).fractional,
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
    known = None
    if sized is not None:
        metrics = evaluate_plan(world, sized, question.sizing_workload, question.slo)
        if serves(metrics, slo_of(sized, question.slo)):
            known = Candidate(plan=sized, metrics=metrics)
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


def _excess(plan: Plan, question: Question, world: World) -> float:
    """How far beyond its limits a plan is, or within them where negative: a logarithm."""
    metrics = evaluate_plan(world, plan, question.sizing_workload, question.slo)
    slo = slo_of(plan, question.slo)
    most = max(limit_shares(metrics, slo), default=0.0)
    if not serves(metrics, slo):
        return max(log(max(most, 1.0)), 0.0) or HOPELESS
    return min(log(most or exp(-HOPELESS)), 0.0)


def _holds_to(varied: VariedInput, plan: Plan, question: Question, world: World, now: float) -> float:
    """The last value, going harder, at which a plan sized without spare workers keeps every limit.

    `now`: how far within its limits it is today.
    """

    def excess(factor: float) -> float:
        return _excess(plan, *varied.put(question, world, varied.at(factor)))

    factor = _last_good(excess, varied.harder, now)
    if factor is None:
        return float("inf") if varied.harder > 0 else 0.0
    return varied.at(factor)


def _last_good(excess: Callable[[float], float], direction: int, now: float) -> float | None:
    """The factor on 1, in a direction, up to which `excess` is not positive; None where to FARTHEST.

    `now` is the excess at 1.

    The first guess is NEAR, the next where a straight line through the last two says, on a logarithmic
    scale, and a hair beyond it, so that the two sides close in; where that closes in too slowly, the
    middle: excess may jump.
    """
    hair, most = log(PRECISION) / 2, log(FARTHEST)
    low, high = 0.0, most
    last, at = (0.0, now), log(NEAR)
    beyond = False  # whether anything was found that is too far
    while high - low > 2 * hair:
        found = excess(exp(at * direction))
        if found <= 0:
            low = at
            if at == most:
                return None
        else:
            high, beyond = at, True
        slow = abs(found) > abs(last[1]) / 2
        rise = (found - last[1]) / (at - last[0])
        ahead = at - found / rise + (hair if found <= 0 else -hair) if 0 < rise < inf else inf
        last = (at, found)
        if not beyond:
            at = most if ahead > most / 2 else max(ahead, low + 2 * hair)
        elif slow or ahead == inf:
            at = (low + high) / 2
        else:
            at = min(max(ahead, low + hair), high - hair)
    return exp(low * direction)
