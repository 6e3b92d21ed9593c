"""Answers along one input: places on a logarithmic scale with 0 at today, each searched once.

Rates, lengths, limits and the network move every plan's amount one way. So the plan of an easier place
stays the best one where it is harder until it breaks a limit or another mode takes over; and what a harder
place costs is a ceiling for what is easier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.plan import Plan
from pdplan.question import Candidate, Recommendation
from pdplan.search.holding import excess_of_many, last_kept, last_kept_of_many
from pdplan.search.robust import with_spare_workers
from pdplan.search.what_if.answers import (
    AS_GOOD,
    BETTER,
    Answers,
    amount_of,
    better,
    cost_of,
    counted_in,
    planned,
)
from pdplan.search.what_if.varied import Problem, VariedInput

ASIDE = log(1.01)
"""So far to either side of a turn (1 %, of what is whole at least 1) the answers must differ."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How far and how closely inputs are looked at."""

    spans: Mapping[str, float]
    """By input: how many times it may grow or shrink."""
    price_span: float
    steps_per_octave: int
    precision: float
    """Ends of a bracket differ by less than this factor at last."""


COST = Scale(
    spans={
        "rate": 8.0, "isl": 8.0, "osl": 8.0, "tpot": 4.0, "ttft": 4.0, "latency": 4.0, "network": 16.0
    },
    price_span=8.0,
    steps_per_octave=2,
    precision=1.003,
)  # fmt: skip
GOODPUT = Scale(
    spans=dict.fromkeys(("max_gpus", "max_usd_per_h", "isl", "osl", "tpot", "ttft", "latency"), 4.0),
    price_span=4.0,
    steps_per_octave=1,
    precision=1.008,
)
"""Of goodput every search takes as long as many of a cost."""
MIXED = Scale(
    spans={**dict.fromkeys(COST.spans, 2.0), "network": 4.0},
    price_span=4.0,
    steps_per_octave=1,
    precision=1.01,
)
"""So does every one of mixes of workers, the more so the more of them there are."""


@dataclass(frozen=True)
class Point:
    """The answer at one place of a line."""

    at: float
    sized: Candidate | None
    """The best plan without its spare workers."""
    best: Candidate | None
    amount: float
    carried: bool = False
    """Whether the plan is that of a harder place, which does here, too: no other costs less."""

    @property
    def mode(self) -> str | None:
        return self.best.plan.mode if self.best else None


class Line:
    """One input from its value / span to its value · span, on a logarithmic scale with 0 at today."""

    def __init__(self, found: Recommendation, varied: VariedInput, scale: Scale, answers: Answers) -> None:
        self.found, self.varied, self.scale, self.answers = found, varied, scale, answers
        self.counted = counted_in(found)
        self.reach = log(scale.spans.get(varied.key, scale.price_span))
        assert found.best is not None
        base, spare = found.best, found.question.spare_workers
        sized = replace(base, plan=with_spare_workers(base.plan, -spare))
        self.base = Point(0.0, sized, base, amount_of(base.metrics, self.counted))
        self.points: dict[float, Point] = {0.0: self.base}

    def value(self, at: float) -> float:
        return self.varied.at(exp(at))

    def problem(self, at: float) -> Problem:
        return self.varied.put(self.found.question, self.found.world, self.value(at))

    @property
    def of_goodput(self) -> bool:
        return self.counted == "goodput"

    @property
    def modes(self) -> set[str]:
        """Of the best plans at all places that were looked at."""
        return {point.mode for point in self.points.values() if point.mode}

    def differ(self, a: Point, b: Point) -> bool:
        """Whether one amount is better than the other."""
        return better(a.amount, b.amount, self.counted) or better(b.amount, a.amount, self.counted)

    # -------------------------------------------------------------------- places

    def snapped(self, at: float) -> float:
        """Of whole numbers, the one place of each."""
        return log(self.value(at) / self.varied.value) if self.varied.whole else at

    def aside(self, at: float) -> tuple[float, float]:
        """The places to either side of a turn where the answers must differ."""
        if not self.varied.whole:
            return at - ASIDE, at + ASIDE
        value = self.value(at)  # the first number of the upper side
        step = max(round(value * (exp(ASIDE) - 1)), 1)
        below, above = max(value - step, 1.0), value + step - 1
        return log(below / self.varied.value), log(above / self.varied.value)

    def next_to(self, at: float, way: int) -> float:
        """The nearest place that counts as another; of whole numbers the next at least."""
        if not self.varied.whole:
            return at + way * log(self.scale.precision) * (1 - 1e-9)
        value = self.value(at)
        other = value + way * max(int(value * (self.scale.precision - 1)), 1)
        return log(max(other, 1.0) / self.varied.value)

    # -------------------------------------------------------------------- answers

    def point(self, at: float) -> Point:
        """The answer at a place; remembered."""
        at = self.snapped(at)
        if at not in self.points:
            self.points[at] = self._from_harder(at) or self._searched(at)
        return self.points[at]

    def shown(self, at: float) -> Candidate | None:
        """The best plan of a place as it is told: of today's kind where that is as good, as it does there."""
        point, (question, world) = self.point(at), self.problem(self.snapped(at))
        if point.sized is None or self.of_goodput:
            return point.best
        sized = point.sized
        if point.carried:
            sized = replace(sized, metrics=self.answers.judged(sized.plan, question, world).metrics)
        return planned(self.answers.of_kind_or(sized, question, world), question, world)

    def todays(self, at: float) -> Candidate | None:
        """Today's plan as it does at a place; None where it breaks a limit."""
        assert self.base.sized is not None
        question, world = self.problem(self.snapped(at))
        return planned(self.answers.holding(self.base.sized.plan, question, world), question, world)

    def no_dearer(self, at: float, cheaper: bool) -> Candidate | None:
        """A plan that costs no more than today's does (or less), where there is one."""
        question, world = self.problem(at)
        assert self.base.sized is not None
        ceiling = cost_of(self.base.sized, self.found.question, self.found.world)
        return self.answers.within(question, world, ceiling * (BETTER if cheaper else AS_GOOD))

    def holds_from(self, at: float, plan: Plan, end: float) -> float:
        """How far a plan, which keeps the limits at a place, keeps them on the way to a harder one."""
        way, hair = 1 if end > at else -1, log(self.scale.precision) / 8
        if self.varied.in_arrays:
            put: Callable[..., Problem] = self.varied.put

            def each(beyond: Array) -> Array:
                values = np.array([self.value(at + way * float(x)) for x in beyond])
                return excess_of_many(plan, *put(self.found.question, self.found.world, values))

            return self.snapped(at + way * last_kept_of_many(each, abs(end - at), hair))

        def excess(beyond: float) -> float:
            return self.answers.excess(plan, *self.problem(self.snapped(at + way * beyond)))

        return self.snapped(at + way * last_kept(excess, excess(0.0), abs(end - at), hair))

    def edge(
        self, first: float, last: float, reached: Callable[[float], float | None]
    ) -> tuple[float, float]:
        """Two places next to each other on the way from an easier to a harder one, between which something
        ends. `reached`: how far it is there for certain, of a place; None where it is not there.

        Plans cover ground: what lies next beyond one is looked at first, the middle where that gains little.
        """
        way = 1 if last > first else -1
        low, high = self._farther(first, reached(first), last), last
        beyond = covers = low != first
        while abs(high - low) > log(self.scale.precision):
            at = self.next_to(low, way) if beyond else self.snapped((low + high) / 2)
            if (at - low) * way <= 0 or (high - at) * way <= 0:
                break
            to = reached(at)
            if to is None:
                high, beyond = at, covers
            else:
                low = self._farther(at, to, high)
                beyond, covers = abs(low - at) > abs(high - at) / 8, covers or low != at
        return low, high

    # -------------------------------------------------------------------- inside

    def _farther(self, at: float, to: float | None, end: float) -> float:
        """The farther of two places, short of the end."""
        way = 1 if end > at else -1
        if to is None or (to - at) * way <= 0:
            return at
        short = self.next_to(end, -way)
        return to if (short - to) * way >= 0 else max(at, short, key=lambda x: x * way)

    def _searched(self, at: float) -> Point:
        """The answer of a search that knows of no plan."""
        sized = self.answers.optimum(*self.problem(at))
        best = planned(sized, *self.problem(at))
        return Point(at, sized, best, amount_of(best.metrics, self.counted) if best else float("nan"))

    def _from_harder(self, at: float) -> Point | None:
        """The answer where a harder place's is known, whose plan does here, too: only a cheaper one is
        searched for. None where that says nothing."""
        way = self.varied.harder
        there = [p for p in self.points.values() if p.sized and (p.at - at) * way > 0]
        harder = min(there, key=lambda p: abs(p.at - at), default=None)
        if harder is None or self.of_goodput:
            return None
        sized = self.answers.optimum(*self.problem(at), harder.sized)
        if sized is harder.sized:
            return replace(harder, at=at, carried=True)
        best = planned(sized, *self.problem(at))
        assert best is not None
        return Point(at, sized, best, amount_of(best.metrics, self.counted))
