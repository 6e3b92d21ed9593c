"""A day of rates: which workers run when, what to reserve and what to rent by the hour.

The highest rate is planned as `recommend` plans it. Each of its answers gives worker types; for
every period the least workers of them are counted (search.schedule), and of the types
those with the cheapest day are kept. Reserved accelerators cost at all times, those on
demand while they run: the level that costs least is where the share of time in which
one more is used falls below reserved price / on-demand price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pdplan.compose import World
from pdplan.laws.roofline import Array
from pdplan.plan import Plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.days.schedule import schedule
from pdplan.search.days.series import Schedule
from pdplan.search.objective import build_objective
from pdplan.search.recommend import recommend

LEAST_RATE = 1e-9
"""A period without requests keeps one worker of each pool: the next request may come."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """Rates one after the other, each for so long."""

    hours: tuple[float, ...]
    """Length of each period [h]."""
    rates: tuple[float, ...]
    """Requests/s in each."""
    reserved_prices: Mapping[str, float]
    """Dollars per reserved accelerator and hour, by name, used or not."""

    @property
    def peak(self) -> float:
        return max(self.rates)

    @property
    def total_h(self) -> float:
        return sum(self.hours)


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """What of one kind of accelerator to reserve."""

    gpus: int
    on_demand: Array
    """Accelerators beyond the reserved ones, by period."""
    usd_reserved: float
    usd_on_demand: float
    """Of the whole day."""

    @property
    def usd(self) -> float:
        return self.usd_reserved + self.usd_on_demand


@dataclass(frozen=True, kw_only=True)
class DayPlan:
    """The cheapest day beside a fleet that stays as large as its peak."""

    question: Question
    """At the highest rate."""
    world: World
    day: Day
    peak: Recommendation
    """The answer at the highest rate; its best plan is the fixed fleet."""
    schedule: Schedule | None
    """None where the highest rate cannot be served."""
    reserve: dict[str, Reserve]
    """By accelerator."""

    @property
    def usd(self) -> float:
        """Of the whole day; NaN where a price is unknown."""
        return sum(r.usd for r in self.reserve.values())

    @property
    def usd_all_on_demand(self) -> float:
        """The same workers, nothing reserved."""
        return sum(
            float(np.dot(self.schedule.gpus(hw), self.day.hours)) * self.world.price(hw)
            for hw in self.reserve
            if self.schedule
        )

    @property
    def gpu_hours(self) -> float:
        return sum(
            float(np.dot(self.schedule.gpus(hw), self.day.hours)) for hw in self.reserve if self.schedule
        )

    @property
    def fixed(self) -> Candidate:
        assert self.peak.best is not None
        return self.peak.best

    @property
    def usd_fixed_on_demand(self) -> float:
        return float(self.fixed.metrics.usd_per_h) * self.day.total_h

    @property
    def usd_fixed(self) -> float:
        """The fixed fleet at the cheaper of both prices of each accelerator."""
        return _usd_per_h(self.fixed.plan, self.world, self.day) * self.day.total_h


def plan_day(question: Question, day: Day, world: World) -> DayPlan:
    """The cheapest day of `question`, whose rate is the highest of the day."""
    peak = recommend(question, world)
    if peak.best is None:
        return DayPlan(question=question, world=world, day=day, peak=peak, schedule=None, reserve={})
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    objective = build_objective(question, world, names)
    rates = np.maximum(np.asarray(day.rates, dtype=float), LEAST_RATE)
    plans = [c.plan for c in (peak.best, *peak.alternatives, peak.best_other_mode) if c is not None]
    found = [
        _with_reserve(schedule(plan, question, world, objective, rates), question, day, world, peak)
        for plan in dict.fromkeys(plans)
    ]
    if any(np.isnan(d.usd) for d in found):
        return min(found, key=lambda d: d.gpu_hours)
    return min(found, key=lambda d: round(d.usd, 9))  # the first of equals: recommend's own order


def reserve_level(demand: Array, hours: Array, reserved: float, on_demand: float) -> int:
    """Accelerators to reserve: the least level R at the least cost.

    cost(R) = reserved · R · Σ hours + on_demand · Σ hours · max(demand − R, 0)  [$]
    It is piecewise linear and convex, so the least lies at 0 or at a period's demand.

    >>> reserve_level(np.array([4.0, 8.0, 8.0, 16.0]), np.ones(4), 1.0, 2.0)
    8
    """
    levels = np.unique(np.append(demand, 0.0))
    beyond = np.maximum(demand[None, :] - levels[:, None], 0.0) @ hours
    return int(levels[np.argmin(np.round(reserved * levels * hours.sum() + on_demand * beyond, 9))])


# ------------------------------------------------------------------------ inside


def _with_reserve(
    found: Schedule, question: Question, day: Day, world: World, peak: Recommendation
) -> DayPlan:
    hours = np.asarray(day.hours, dtype=float)
    reserve: dict[str, Reserve] = {}
    for hardware in dict.fromkeys(p.hardware for p in found.plan.pools.values()):
        demand, price = found.gpus(hardware), world.price(hardware)
        reserved = day.reserved_prices.get(hardware)
        # Without a price on demand nothing can be weighed, without a reserved one nothing be reserved.
        known = reserved is not None and not np.isnan(price)
        level = reserve_level(demand, hours, reserved, price) if known and reserved is not None else 0
        beyond = np.maximum(demand - level, 0.0)
        reserve[hardware] = Reserve(
            gpus=level,
            on_demand=beyond,
            usd_reserved=level * (reserved or 0.0) * day.total_h,
            usd_on_demand=float(beyond @ hours) * price,
        )
    return DayPlan(question=question, world=world, day=day, peak=peak, schedule=found, reserve=reserve)


def _usd_per_h(plan: Plan, world: World, day: Day) -> float:
    """At the cheaper of both prices."""
    return sum(
        pool.gpus * min(world.price(pool.hardware), day.reserved_prices.get(pool.hardware, np.inf))
        for pool in plan.pools.values()
    )
