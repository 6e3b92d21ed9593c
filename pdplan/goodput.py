"""Goodput: the highest request rate at which a deployment still keeps its objectives."""

from __future__ import annotations

import math
from collections.abc import Callable

from pdplan.compose import World, evaluate_plan
from pdplan.evaluate import meets
from pdplan.plan import Plan
from pdplan.uncertainty import slo_of
from pdplan.workload import MAX_RATE_PER_S, Slo, Workload

LOWEST_RATE_PER_S = 1e-4
"""Below a request in three hours a deployment serves nobody: its goodput is 0."""


def highest_rate(holds: Callable[[float], bool], start: float = 1.0, tolerance: float = 1e-3) -> float:
    """The highest rate [1/s] at which `holds` is true, to a relative `tolerance` below it.

    `holds` must be true up to some rate and false beyond it: latency and utilisation rise
    with the rate. Brackets that rate by powers of four around `start`, then bisects its
    logarithm, so the result is itself a rate at which `holds` is true. 0 where it never
    holds, `MAX_RATE_PER_S` where it always does.

    >>> round(highest_rate(lambda rate: rate <= 20.0, tolerance=1e-6), 4)
    20.0
    >>> highest_rate(lambda rate: False)
    0.0
    """
    low = min(max(start, LOWEST_RATE_PER_S), MAX_RATE_PER_S)
    if holds(low):
        high = low
        while True:
            if high >= MAX_RATE_PER_S:
                return MAX_RATE_PER_S
            low, high = high, min(high * 4.0, MAX_RATE_PER_S)
            if not holds(high):
                break
    else:
        while True:
            if low <= LOWEST_RATE_PER_S:
                return 0.0
            low, high = max(low / 4.0, LOWEST_RATE_PER_S), low
            if holds(low):
                break
    while high > low * (1.0 + tolerance):
        middle = math.sqrt(low * high)
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def goodput_requests_per_s(world: World, plan: Plan, workload: Workload, slo: Slo) -> float:
    """The highest Poisson (or `arrival_cv`) rate [requests/s] at which `plan` meets `slo`.

    The workload's own rate or concurrency only starts the search. Without any limit
    in `slo` it is the rate beyond which the queue grows without bound.
    """
    strict = slo_of(plan, slo)
    return highest_rate(
        lambda rate: bool(meets(evaluate_plan(world, plan, workload.at_rate(rate), slo), strict)),
        start=workload.rate or 1.0,
    )
