"""Prices at which an accelerator comes into or out of use in a role, and above which a budget buys no plan.

A plan's cost is a straight line in a price, the least cost the lower envelope of such lines. Where the
lines of two neighbours meet, either they are the least there or a search finds a third plan below
them, so every corner is exact. A goodput has no lines: it is looked at on the grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

from pdplan.compose import plan_bill
from pdplan.plan import Plan, role_of
from pdplan.question import Candidate
from pdplan.search.what_if.line import Line, Point
from pdplan.search.what_if.turns import Turn, feasible_turn, grid_turns


def price_turns(line: Line) -> Iterator[Turn]:
    """Every turn along the price of an accelerator, from the lowest."""
    hardware = line.varied.key.removeprefix("price.")
    if line.of_goodput:
        yield from grid_turns(line, "use", lambda plan: used_for(plan, hardware))
        return
    low, high = line.point(-line.reach), line.point(line.reach)
    end = None
    if high.best is None:  # beyond a budget
        end = feasible_turn(line, 0.0, high.at)
        high = max((p for p in line.points.values() if p.best), key=lambda p: p.at)
    for at, below, above in _corners(line, low, high):
        places = line.aside(at)
        sides = [line.point(place).best for place in places]
        uses = [used_for(best.plan, hardware) for best in sides if best]
        if uses[0] != uses[-1] and uses == [used_for(c.plan, hardware) for c in (below, above)]:
            yield Turn(input=line.varied, value=line.value(at), what="use", below=sides[0], above=sides[1])
    if end:
        yield end


def used_for(plan: Plan, hardware: str) -> set[str]:
    """Roles that an accelerator has in a plan."""
    return {role_of(name) for name, pool in plan.pools.items() if pool.hardware == hardware}


def _corners(line: Line, low: Point, high: Point) -> Iterator[tuple[float, Candidate, Candidate]]:
    """(place, plan below, plan above) of every corner of the least cost between two points."""
    assert low.best is not None
    assert high.best is not None
    slope_low, slope_high = _slope(line, low), _slope(line, high)
    if slope_low <= slope_high * (1 + 1e-9):
        return
    # amount_low + slope_low·(x − x_low) = amount_high + slope_high·(x − x_high)
    x_low, x_high = line.value(low.at), line.value(high.at)
    meet = (high.amount - low.amount + slope_low * x_low - slope_high * x_high) / (slope_low - slope_high)
    at = log(meet / line.varied.value)
    if not low.at < at < high.at:
        return
    point = line.point(at)
    expected = low.amount + slope_low * (meet - x_low)
    if point.best is None or point.amount >= expected * (1 - 1e-9):
        yield at, low.best, high.best
        return
    yield from _corners(line, low, point)
    yield from _corners(line, point, high)


def _slope(line: Line, point: Point) -> float:
    """Dollars per hour for each dollar of the price; the bill is proportional to it."""
    assert point.best is not None
    now = line.value(point.at)
    _, here = line.problem(point.at)
    _, doubled = line.varied.put(line.found.question, line.found.world, 2 * now)
    bills = [plan_bill(world, point.best.plan).usd_per_h for world in (here, doubled)]
    return float(bills[1] - bills[0]) / now
