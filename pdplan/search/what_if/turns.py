"""Where an answer turns along one input: modes, steps of the cost, ends of feasibility, use of accelerators.

An interval whose ends agree holds no turn; modes may change places more than once, so intervals are
looked into on a grid. Each turn is told only if the answers to either side differ as it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Literal

from pdplan.plan import Plan
from pdplan.question import Candidate
from pdplan.search.what_if.line import Line, Point
from pdplan.search.what_if.varied import VariedInput

Turning = Literal["mode", "cost", "feasible", "use"]
Feature = Callable[[Plan], object]


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


def turns_of(line: Line) -> Iterator[Turn]:
    """Every turn of a line but those of use, from its low end."""
    found = list(grid_turns(line, "mode", lambda plan: plan.mode))
    for turn in () if line.of_goodput else _cost_turns(line):  # where the mode changes too, that says it all
        if all(abs(log(turn.value / other.value)) > 2 * log(line.scale.precision) for other in found):
            found.append(turn)
    found += _feasibility_turns(line)
    yield from sorted(found, key=lambda turn: (turn.value, turn.what))


def grid_turns(line: Line, what: Turning, feature: Feature) -> Iterator[Turn]:
    """Where neighbours on the grid have plans that differ in a feature."""
    # Which layouts a number of accelerators divides into tips the modes often.
    finer = 2 if line.varied.unit == "gpus" else 1
    steps = round(line.reach / log(2) * max(line.scale.steps_per_octave, finer))
    grid = [line.reach * k / steps for k in range(-steps, steps + 1)]
    for low, high in _uneven(line, grid):
        if not low.best or not high.best or feature(low.best.plan) == feature(high.best.plan):
            continue
        if turn := _feature_turn(line, what, low, high, feature):
            yield turn


def feasible_turn(line: Line, served: float, unserved: float) -> Turn | None:
    """Where plans end on the way from a place that has one to a place that has none."""

    def reached(at: float) -> float | None:
        return _covered(line, at, line.point(at), unserved)

    low, high = line.edge(served, unserved, reached)
    return _turn(line, "feasible", (low, high), lambda p: p.best is not None)


# ------------------------------------------------------------------------ inside


def _uneven(line: Line, grid: Sequence[float]) -> Iterator[tuple[Point, Point]]:
    """Neighbours on the grid that differ; where the ends of an interval agree nothing differs inside."""
    low, high = line.point(grid[0]), line.point(grid[-1])
    if low.mode == high.mode and not line.differ(low, high):
        return
    if len(grid) == 2:
        yield low, high
        return
    middle = len(grid) // 2
    yield from _uneven(line, grid[: middle + 1])
    yield from _uneven(line, grid[middle:])


def _covered(line: Line, at: float, point: Point, end: float) -> float | None:
    """How far the best plan of a place, and its mode with it, stays the best on the way to a harder one."""
    if point.sized is None:
        return None
    if line.of_goodput or (end - at) * line.varied.harder <= 0:
        return at
    return line.holds_from(at, point.sized.plan, end)


def _feature_turn(line: Line, what: Turning, low: Point, high: Point, feature: Feature) -> Turn | None:
    """Where the plan stops having what it has at the easier of two places."""
    first, last = (low, high) if line.varied.harder >= 0 else (high, low)
    assert first.best is not None
    wanted = feature(first.best.plan)

    def like_first(point: Point) -> bool:
        return point.best is not None and feature(point.best.plan) == wanted

    def reached(at: float) -> float | None:
        point = line.point(at)
        if not like_first(point):
            return None
        return _covered(line, at, point, last.at) if what == "mode" else at

    return _turn(line, what, line.edge(first.at, last.at, reached), like_first)


def _turn(
    line: Line, what: Turning, edge: tuple[float, float], like_first: Callable[[Point], bool]
) -> Turn | None:
    """The turn between two places next to each other, if the answers aside of it differ as it says."""
    first, last = edge
    at = max(first, last) if line.varied.whole else (first + last) / 2
    below, above = line.aside(at)
    before, after = (below, above) if last > first else (above, below)
    if not like_first(line.point(before)) or like_first(line.point(after)):
        return None
    return Turn(
        input=line.varied,
        value=line.value(at),
        what=what,
        below=line.shown(below),
        above=line.shown(above),
    )


def _cost_turns(line: Line) -> Iterator[Turn]:
    """The nearest place on either side where the cost is no longer today's."""
    for end in (-line.reach, line.reach):
        before = 0.0
        for at in sorted((at for at in line.points if at * end > 0), key=abs):
            if line.differ(line.points[at], line.base):
                if turn := _cost_turn(line, before, at):
                    yield turn
                break
            before = at


def _cost_turn(line: Line, before: float, away: float) -> Turn | None:
    """Where the cost changes between a place of today's and one of another; None where plans end there."""
    dearer = (away - before) * line.varied.harder > 0
    easier, harder = (before, away) if dearer else (away, before)

    def reached(at: float) -> float | None:
        plan = line.points[at].sized if at == easier else line.no_dearer(at, cheaper=not dearer)
        return line.holds_from(at, plan.plan, harder) if plan else None

    first, last = line.edge(easier, harder, reached)
    at = max(first, last) if line.varied.whole else (first + last) / 2
    below, above = line.aside(at)
    near, far = (below, above) if away > before else (above, below)
    if line.point(far).best is None or not line.differ(line.point(far), line.base):
        return None
    todays = line.todays(near) if near * away > 0 else None
    if todays is None and line.differ(line.point(near), line.base):
        return None
    sides = {near: todays or line.shown(near), far: line.shown(far)}
    return Turn(input=line.varied, value=line.value(at), what="cost", below=sides[below], above=sides[above])


def _feasibility_turns(line: Line) -> Iterator[Turn]:
    """Where plans end: any at all, then each mode's own."""
    points = sorted(line.points.values(), key=lambda p: p.at)
    for low, high in pairwise(points):
        if (low.best is None) != (high.best is None):
            served, unserved = (low, high) if low.best else (high, low)
            if turn := feasible_turn(line, served.at, unserved.at):
                yield turn
    if line.found.question.mode == "any" and line.varied.unit == "s" and not line.of_goodput:
        for mode in ("colocated", "disaggregated"):
            if turn := _end_of_mode(line, mode):
                yield turn


def _end_of_mode(line: Line, mode: str) -> Turn | None:
    """The limit below which one mode has no plan while the other still has one."""

    def reached(at: float) -> float | None:
        point = line.points.get(at)
        if point is not None and (point.best is None or point.mode == mode):
            plan = point.sized
        else:
            plan = line.answers.of_mode(*line.problem(at), mode)
        return line.holds_from(at, plan.plan, -line.reach) if plan else None

    if reached(-line.reach) is not None or reached(0.0) is None:
        return None
    first, last = line.edge(0.0, -line.reach, reached)
    at = (first + last) / 2
    below, above = line.aside(at)
    if reached(below) is not None or reached(above) is None or line.point(below).best is None:
        return None  # where nothing works below, that is told already
    return Turn(
        input=line.varied,
        value=line.value(at),
        what="feasible",
        below=line.shown(below),
        above=line.shown(above),
        mode=mode,
    )
