"""Break-even points: values of an input at which the answer turns, found on the search itself.

Three kinds of turn: the best mode changes; the cost takes its next step up or down; no
plan (or no plan of one mode) keeps the limits any more. And prices at which an accelerator comes into
or out of use. Each is bracketed by bisection between searches that differ, and told
only if answers 1 % to either side differ as it says. Rates, limits and the network move every
plan's cost one way, so an interval whose ends agree holds no turn; modes may change places more than
once, so intervals are looked into on a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import exp, log
from typing import Literal

from pdplan.compose import World, plan_bill
from pdplan.errors import InputError
from pdplan.plan import Plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.answers import Answers, Counted, amount_of, better, counted_in, planned, with_equal_workers
from pdplan.search.kinds import kind_of
from pdplan.search.varied import Problem, VariedInput, chosen_inputs

Turning = Literal["mode", "cost", "feasible", "use"]

SPANS = {"rate": 8.0, "tpot": 4.0, "ttft": 4.0, "latency": 4.0, "network": 16.0}
"""Inputs that are looked at, and how many times they may grow or shrink."""
PRICE_SPAN = 8.0
STEPS_PER_OCTAVE = 2
PRECISION = 1.003
"""Ends of a bracket differ by less than this factor at last."""
ASIDE = log(1.01)
"""So far to either side of a turn (1 %) the answers must differ."""


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


def break_even(
    found: Recommendation, *, only: Sequence[str] = (), answers: Answers | None = None
) -> BreakEven:
    """Break-even points around an answer, of every input that has any or of `only` some.

    InputError where there is no plan, or goodput was asked for.
    """
    found, base = with_equal_workers(found)
    question, world = found.question, found.world
    if question.wants_goodput:
        raise InputError("break-even points are those of a cost; give --rate instead of --max-gpus alone")
    answers = answers or Answers(kind_of(base.plan))
    turns: list[Turn] = []
    looked: list[Looked] = []
    choices = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    for varied in chosen_inputs(found, only):
        if varied.key in SPANS:
            line = _Line(found, varied, SPANS[varied.key], answers)
            turns += line.turns()
        elif varied.key.startswith("price.") and len(choices) > 1:
            line = _Line(found, varied, PRICE_SPAN, answers)
            turns += line.price_turns()
        else:
            continue
        looked.append(Looked(input=varied, low=line.value(-line.reach), high=line.value(line.reach)))
    return BreakEven(
        question=question,
        world=world,
        base=base,
        counted=counted_in(found),
        turns=tuple(turns),
        looked=tuple(looked),
        searches=answers.asked,
    )


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True)
class _Point:
    """The answer at one place of a line."""

    at: float
    best: Candidate | None
    amount: float

    @property
    def mode(self) -> str | None:
        return self.best.plan.mode if self.best else None


class _Line:
    """One input from its value / span to its value · span, on a logarithmic scale with 0 at today."""

    def __init__(self, found: Recommendation, varied: VariedInput, span: float, answers: Answers) -> None:
        self._found, self._varied, self._answers = found, varied, answers
        self._counted = counted_in(found)
        self.reach = log(span)
        self._points: dict[float, _Point] = {}
        assert found.best is not None
        base = found.best
        self._base = _Point(0.0, base, amount_of(base.metrics, self._counted))
        self._points[0.0] = self._base

    def value(self, at: float) -> float:
        return self._varied.at(exp(at))

    def problem(self, at: float) -> Problem:
        return self._varied.put(self._found.question, self._found.world, self.value(at))

    def point(self, at: float) -> _Point:
        """The answer at a place; remembered."""
        if at not in self._points:
            question, world = self.problem(at)
            best = planned(self._answers.optimum(question, world), question, world)
            amount = amount_of(best.metrics, self._counted) if best else float("nan")
            self._points[at] = _Point(at, best, amount)
        return self._points[at]

    # -------------------------------------------------------------------- modes, costs, feasibility

    def turns(self) -> Iterator[Turn]:
        """Every turn of the line but those of use, from its low end."""
        found = list(self._mode_turns())
        for turn in self._cost_turns():  # where the mode changes too, that says it all
            if all(abs(log(turn.value / other.value)) > 2 * log(PRECISION) for other in found):
                found.append(turn)
        found += self._feasibility_turns()
        yield from sorted(found, key=lambda turn: (turn.value, turn.what))

    def _mode_turns(self) -> Iterator[Turn]:
        steps = round(self.reach / log(2) * STEPS_PER_OCTAVE)
        grid = [self.reach * k / steps for k in range(-steps, steps + 1)]
        for low, high in self._uneven(grid):
            if None not in (low.mode, high.mode) and low.mode != high.mode:
                turn = self._turn("mode", low.at, high.at, partial(_is_of, low.mode))
                if turn:
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
        if self._found.question.mode == "any" and self._varied.unit == "s":
            yield from self._mode_ends()

    def _mode_ends(self) -> Iterator[Turn]:
        """The limit below which one mode has no plan while the other still has one."""
        for mode in ("colocated", "disaggregated"):

            def serves(at: float, mode: str = mode) -> bool:
                point = self.point(at) if at in self._points else None
                if point is not None and (point.best is None or point.mode == mode):
                    return point.best is not None
                return self._answers.of_mode(*self.problem(at), mode) is not None

            if serves(-self.reach) or not serves(0.0):
                continue
            at = sum(_bisect(serves, -self.reach, 0.0)) / 2
            below, above = at - ASIDE, at + ASIDE
            if serves(below) or not serves(above) or self.point(below).best is None:
                continue  # where nothing works below, that is told already
            yield Turn(
                input=self._varied,
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
        first, last = _bisect(lambda at: not like_first(self.point(at)), low, high)
        at = (first + last) / 2
        before, after = (at - ASIDE, at + ASIDE) if last > first else (at + ASIDE, at - ASIDE)
        if not like_first(self.point(before)) or like_first(self.point(after)):
            return None
        return Turn(
            input=self._varied,
            value=self.value(at),
            what=what,
            below=self._shown(at - ASIDE),
            above=self._shown(at + ASIDE),
        )

    def _shown(self, at: float) -> Candidate | None:
        """The best plan of a place, of today's kind where that is as good."""
        question, world = self.problem(at)
        return planned(self._answers.answer(question, world).best, question, world)

    # -------------------------------------------------------------------- prices

    def price_turns(self) -> Iterator[Turn]:
        """Prices at which the accelerator comes into or out of use in a role.

        A plan's cost is a straight line in the price, the least cost their lower envelope: where
        the lines of two neighbours meet, either they are the least there or a search finds a third
        plan below them. So every corner is exact.
        """
        hardware = self._varied.key.removeprefix("price.")
        for at, below, above in self._corners(self.point(-self.reach), self.point(self.reach)):
            sides = [self.point(place).best for place in (at - ASIDE, at + ASIDE)]
            uses = [used_for(best.plan, hardware) for best in sides if best]
            if uses[0] != uses[1] and uses == [used_for(c.plan, hardware) for c in (below, above)]:
                yield Turn(
                    input=self._varied, value=self.value(at), what="use", below=sides[0], above=sides[1]
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
        at = log(meet / self._varied.value)
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
        _, doubled = self._varied.put(self._found.question, self._found.world, 2 * now)
        bills = [plan_bill(world, point.best.plan).usd_per_h for world in (here, doubled)]
        return float(bills[1] - bills[0]) / now


def used_for(plan: Plan, hardware: str) -> set[str]:
    """Roles that an accelerator has in a plan."""
    return {role for role, pool in plan.pools.items() if pool.hardware == hardware}


def _serves(point: _Point) -> bool:
    return point.best is not None


def _serves_not(point: _Point) -> bool:
    return point.best is None


def _is_of(mode: str | None, point: _Point) -> bool:
    return point.mode == mode


def _bisect(changed: Callable[[float], bool], first: float, last: float) -> tuple[float, float]:
    """Two places, closer than PRECISION, between which `changed` turns true on the way to `last`."""
    while abs(last - first) > log(PRECISION):
        middle = (first + last) / 2
        if changed(middle):
            last = middle
        else:
            first = middle
    return first, last
