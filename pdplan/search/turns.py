"""Where an answer turns along one input: modes, steps of the cost, ends of feasibility, use of accelerators.

Rates, lengths, limits and the network move every plan's amount one way, so an interval whose ends agree
holds no turn; modes may change places more than once, so intervals are looked into on a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import exp, log
from typing import Literal

from pdplan.compose import evaluate_plan, plan_bill
from pdplan.plan import Plan
from pdplan.question import Candidate, Recommendation
from pdplan.search.answers import Answers, amount_of, better, counted_in, planned
from pdplan.search.objective import serves
from pdplan.search.robust import with_spare_workers
from pdplan.search.varied import Problem, VariedInput
from pdplan.uncertainty import slo_of

Turning = Literal["mode", "cost", "feasible", "use"]

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


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A value of an input at which the answer turns."""

    input: VariedInput
    value: float
    what: Turning
    below: Candidate | None
    """The best plan just below the value; None where none keeps the limits."""
    above: Candidate | None
    mode: str | None = None
    """Of what is feasible on one side only: the mode, None for any."""


@dataclass(frozen=True)
class _Point:
    """The answer at one place of a line."""

    at: float
    sized: Candidate | None
    """The best plan without its spare workers."""
    best: Candidate | None
    amount: float
    carried: bool = False
    """Whether the plan is that of another place, which does here, too: no other costs less."""

    @property
    def mode(self) -> str | None:
        return self.best.plan.mode if self.best else None


class Line:
    """One input from its value / span to its value · span, on a logarithmic scale with 0 at today."""

    def __init__(self, found: Recommendation, varied: VariedInput, scale: Scale, answers: Answers) -> None:
        self.varied = varied
        self.reach = log(scale.spans.get(varied.key, scale.price_span))
        self._found, self._answers, self._scale = found, answers, scale
        self._counted = counted_in(found)
        assert found.best is not None
        base, spare = found.best, found.question.spare_workers
        sized = replace(base, plan=with_spare_workers(base.plan, -spare))
        self._base = _Point(0.0, sized, base, amount_of(base.metrics, self._counted))
        self._points: dict[float, _Point] = {0.0: self._base}

    def value(self, at: float) -> float:
        return self.varied.at(exp(at))

    def problem(self, at: float) -> Problem:
        return self.varied.put(self._found.question, self._found.world, self.value(at))

    def point(self, at: float) -> _Point:
        """The answer at a place; remembered."""
        at = self._snapped(at)
        if at not in self._points:
            self._points[at] = self._from_harder(at) or self._searched(at)
        return self._points[at]

    def _searched(self, at: float) -> _Point:
        """The answer of a search that knows of no plan."""
        sized = self._answers.optimum(*self.problem(at))
        best = planned(sized, *self.problem(at))
        return _Point(at, sized, best, amount_of(best.metrics, self._counted) if best else float("nan"))

    def _from_harder(self, at: float) -> _Point | None:
        """The answer where a harder place's is known, whose plan does here, too: only a cheaper one is
        searched for. None where that says nothing."""
        harder = self._beside(at, 1)
        if harder is None or self._counted == "goodput":
            return None
        sized = self._answers.optimum(*self.problem(at), harder.sized)
        if sized is harder.sized:
            return replace(harder, at=at, carried=True)
        best = planned(sized, *self.problem(at))
        assert best is not None
        return _Point(at, sized, best, amount_of(best.metrics, self._counted))

    def _near(self, at: float) -> _Point:
        """The answer at a place; where the plan of an easier place does, too, that: nothing costs less."""
        at = self._snapped(at)
        easier = self._beside(at, -1)
        if at not in self._points and easier and easier.sized and self._counted != "goodput":
            question, world = self.problem(at)
            plan = easier.sized.plan
            metrics = evaluate_plan(world, plan, question.sizing_workload, question.slo)
            if serves(metrics, slo_of(plan, question.slo)):
                self._points[at] = replace(easier, at=at, carried=True)
        return self.point(at)

    def _beside(self, at: float, harder: int) -> _Point | None:
        """The next place, on the harder (1) or easier (−1) side, of which a plan is known."""
        way = harder * self.varied.harder
        there = [p for p in self._points.values() if p.sized and (p.at - at) * way > 0]
        return min(there, key=lambda p: abs(p.at - at), default=None)

    def _exact(self, at: float) -> _Point:
        """The answer of a search that knows of no plan, for one that is shown; remembered."""
        at = self._snapped(at)
        if at not in self._points or self._points[at].carried:
            self._points[at] = self._searched(at)
        return self._points[at]

    @property
    def modes(self) -> set[str]:
        """Of the best plans at all places that were looked at."""
        return {point.mode for point in self._points.values() if point.mode}

    def _snapped(self, at: float) -> float:
        """Of whole numbers, the one place of each."""
        return log(self.value(at) / self.varied.value) if self.varied.whole else at

    def _aside(self, at: float) -> tuple[float, float]:
        """The places to either side of a turn where the answers must differ."""
        if not self.varied.whole:
            return at - ASIDE, at + ASIDE
        value = self.value(at)  # the first number of the upper side
        step = max(round(value * (exp(ASIDE) - 1)), 1)
        below, above = max(value - step, 1.0), value + step - 1
        return log(below / self.varied.value), log(above / self.varied.value)

    # -------------------------------------------------------------------- modes, amounts, feasibility

    def turns(self) -> Iterator[Turn]:
        """Every turn of the line but those of use, from its low end."""
        found = list(self._grid_turns("mode", lambda plan: plan.mode))
        goodput = self._counted == "goodput"
        for turn in () if goodput else self._cost_turns():  # where the mode changes too, that says it all
            if all(abs(log(turn.value / other.value)) > 2 * log(self._scale.precision) for other in found):
                found.append(turn)
        found += self._feasibility_turns()
        yield from sorted(found, key=lambda turn: (turn.value, turn.what))

    def _grid_turns(self, what: Turning, feature: Callable[[Plan], object]) -> Iterator[Turn]:
        """Where neighbours on the grid have plans that differ in a feature."""
        # Which layouts a number of accelerators divides into tips the modes often.
        finer = 2 if self.varied.unit == "gpus" else 1
        steps = round(self.reach / log(2) * max(self._scale.steps_per_octave, finer))
        grid = [self.reach * k / steps for k in range(-steps, steps + 1)]
        for low, high in self._uneven(grid):
            if low.best and high.best and feature(low.best.plan) != feature(high.best.plan):
                like_first = partial(_has, feature, feature(low.best.plan))
                if turn := self._turn(what, low.at, high.at, like_first):
                    yield turn

    def _uneven(self, grid: Sequence[float]) -> Iterator[tuple[_Point, _Point]]:
        """Neighbours on the grid that differ; where the ends of an interval agree nothing differs inside."""
        low, high = self.point(grid[0]), self.point(grid[-1])
        if low.mode == high.mode and not self._differ(low, high):
            return
        if len(grid) == 2:
            yield low, high
            return
        middle = len(grid) // 2
        yield from self._uneven(grid[: middle + 1])
        yield from self._uneven(grid[middle:])

    def _differ(self, a: _Point, b: _Point) -> bool:
        return better(a.amount, b.amount, self._counted) or better(b.amount, a.amount, self._counted)

    def _cost_turns(self) -> Iterator[Turn]:
        """The nearest place on either side where the cost is no longer today's."""
        for end in (-self.reach, self.reach):
            known = sorted((at for at in self._points if at * end > 0), key=abs)
            before = 0.0
            for at in known:
                if self._differ(self.point(at), self._base):
                    turn = self._turn("cost", before, at, lambda p: not self._differ(p, self._base))
                    if turn and turn.below and turn.above:  # else plans end there, told as such
                        yield turn
                    break
                before = at

    def _feasibility_turns(self) -> Iterator[Turn]:
        """Where plans end: any at all, then each mode's own."""
        points = sorted(self._points.values(), key=lambda p: p.at)
        for low, high in pairwise(points):
            if (low.best is None) != (high.best is None):
                served = low.best is not None
                turn = self._turn("feasible", low.at, high.at, _serves if served else _serves_not)
                if turn:
                    yield turn
        limited = self.varied.unit == "s" and self._counted != "goodput"
        if self._found.question.mode == "any" and limited:
            yield from self._mode_ends()

    def _mode_ends(self) -> Iterator[Turn]:
        """The limit below which one mode has no plan while the other still has one."""
        for mode in ("colocated", "disaggregated"):

            def serves(at: float, mode: str = mode) -> bool:
                point = self._points.get(at)
                if point is not None and (point.best is None or point.mode == mode):
                    return point.best is not None
                return self._answers.of_mode(*self.problem(at), mode) is not None

            if serves(-self.reach) or not serves(0.0):
                continue
            at = sum(self._bisect(serves, -self.reach, 0.0)) / 2
            below, above = self._aside(at)
            if serves(below) or not serves(above) or self.point(below).best is None:
                continue  # where nothing works below, that is told already
            yield Turn(
                input=self.varied,
                value=self.value(at),
                what="feasible",
                below=self._shown(below),
                above=self._shown(above),
                mode=mode,
            )

    def _turn(
        self, what: Turning, low: float, high: float, like_first: Callable[[_Point], bool]
    ) -> Turn | None:
        """The place between two where the answer stops being like the first, if it holds 1 % aside."""
        first, last = self._bisect(lambda at: not like_first(self._near(at)), low, high)
        at = max(first, last) if self.varied.whole else (first + last) / 2
        below, above = self._aside(at)
        before, after = (below, above) if last > first else (above, below)
        if not like_first(self._exact(before)) or like_first(self._exact(after)):
            return None
        return Turn(
            input=self.varied,
            value=self.value(at),
            what=what,
            below=self._shown(below),
            above=self._shown(above),
        )

    def _bisect(self, changed: Callable[[float], bool], first: float, last: float) -> tuple[float, float]:
        """Two places close to each other between which `changed` turns true on the way to `last`.

        Of what is whole the last place is then the first number that is changed, or near it.
        """
        while abs(last - first) > log(self._scale.precision):
            middle = self._snapped((first + last) / 2)
            if middle in (first, last):
                break
            if changed(middle):
                last = middle
            else:
                first = middle
        return first, last

    def _shown(self, at: float) -> Candidate | None:
        """The best plan of a place, of today's kind where that is as good."""
        point = self._exact(at)
        if point.sized is None or self._counted == "goodput":
            return point.best
        question, world = self.problem(at)
        return planned(self._answers.of_kind_or(point.sized, question, world), question, world)

    # -------------------------------------------------------------------- prices

    def price_turns(self) -> Iterator[Turn]:
        """Prices at which the accelerator comes into or out of use in a role.

        A plan's cost is a straight line in the price, the least cost their lower envelope: where
        the lines of two neighbours meet, either they are the least there or a search finds a third
        plan below them. So every corner is exact. A goodput has no lines: it is looked at on the grid.
        """
        hardware = self.varied.key.removeprefix("price.")
        if self._counted == "goodput":
            yield from self._grid_turns("use", lambda plan: used_for(plan, hardware))
            return
        for at, below, above in self._corners(self.point(-self.reach), self.point(self.reach)):
            places = self._aside(at)
            sides = [self.point(place).best for place in places]
            uses = [used_for(best.plan, hardware) for best in sides if best]
            if uses[0] != uses[1] and uses == [used_for(c.plan, hardware) for c in (below, above)]:
                yield Turn(
                    input=self.varied, value=self.value(at), what="use", below=sides[0], above=sides[1]
                )

    def _corners(self, low: _Point, high: _Point) -> Iterator[tuple[float, Candidate, Candidate]]:
        """(place, plan below, plan above) of every corner of the least cost between two points."""
        assert low.best is not None
        assert high.best is not None
        slope_low, slope_high = self._slope(low), self._slope(high)
        if slope_low <= slope_high * (1 + 1e-9):
            return
        # amount_low + slope_low·(x − x_low) = amount_high + slope_high·(x − x_high)
        x_low, x_high = self.value(low.at), self.value(high.at)
        meet = (high.amount - low.amount + slope_low * x_low - slope_high * x_high) / (slope_low - slope_high)
        at = log(meet / self.varied.value)
        if not low.at < at < high.at:
            return
        point = self.point(at)
        expected = low.amount + slope_low * (meet - x_low)
        if point.best is None or point.amount >= expected * (1 - 1e-9):
            yield at, low.best, high.best
            return
        yield from self._corners(low, point)
        yield from self._corners(point, high)

    def _slope(self, point: _Point) -> float:
        """Dollars per hour for each dollar of the price; the bill is proportional to it."""
        assert point.best is not None
        now = self.value(point.at)
        _, here = self.problem(point.at)
        _, doubled = self.varied.put(self._found.question, self._found.world, 2 * now)
        bills = [plan_bill(world, point.best.plan).usd_per_h for world in (here, doubled)]
        return float(bills[1] - bills[0]) / now


def used_for(plan: Plan, hardware: str) -> set[str]:
    """Roles that an accelerator has in a plan."""
    return {role for role, pool in plan.pools.items() if pool.hardware == hardware}


# ------------------------------------------------------------------------ inside


def _serves(point: _Point) -> bool:
    return point.best is not None


def _serves_not(point: _Point) -> bool:
    return point.best is None


def _has(feature: Callable[[Plan], object], wanted: object, point: _Point) -> bool:
    return point.best is not None and feature(point.best.plan) == wanted
