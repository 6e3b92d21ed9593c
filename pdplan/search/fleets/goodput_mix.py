"""The most requests/s that pools of several kinds of workers serve within a budget or an inventory.

The integer programme of mixes (fleets/fleet.py) with the rate as what is sought: by bisection the highest
rate at which it has a solution. With rates of workers that are never less than true that bounds every
plan; with rates that are never more it gives a plan, whose goodput is then found by evaluation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World, plan_meets
from pdplan.goodput import highest_rate
from pdplan.plan import Plan
from pdplan.question import Question
from pdplan.search.fleets.capacity import Curve
from pdplan.search.fleets.fleet import columns_of
from pdplan.search.fleets.programme import Programme, solve
from pdplan.search.fleets.ways import Deployment, deployment_of, find_ways

ROUNDS = 4
CLOSED = 2e-3
"""A gap between plan and bound below this ends the search: rates of workers are found no closer."""
PRECISION = 1e-3
"""To which the programme's highest rate is found."""
TIME_LIMIT_S = 10.0
"""Of each programme; rounds end after as long in all, in processor time."""

Kinds = list[tuple[Curve, int]]


@dataclass(frozen=True, kw_only=True)
class MostOfMix:
    """The plan of most goodput, without its spare workers, and how good it is known to be."""

    plan: Plan
    requests_per_s: float
    bound: float
    """No plan serves more requests/s."""


def most_goodput_of_mix(question: Question, world: World, known: float) -> MostOfMix | None:
    """The best mix of a goodput question, and a bound on all of them; None where none was found.

    `known` [requests/s] is what equal workers in each pool serve.
    """
    names = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    most = known * (1 + len(names))
    asked = replace(question, workload=question.workload.at_rate(most), headroom=0.0, mix=True)
    deployment = deployment_of(asked, world, np.inf)
    best: MostOfMix | None = None
    bound, end = most, time.process_time() + TIME_LIMIT_S
    for _ in range(ROUNDS):
        find_ways(deployment)
        if not deployment.ways:
            return None
        start = best.requests_per_s if best else known * (1 - PRECISION)
        relaxed = _highest(deployment, question, True, start, bound)
        if relaxed is None:
            break
        if relaxed.rate * (1 + PRECISION) >= most:  # workers were followed up to this rate alone
            return most_goodput_of_mix(question, world, most)
        bound = min(bound, relaxed.rate * (1 + PRECISION))
        found = _highest(deployment, question, False, start, bound)
        changed = False
        for chosen in (relaxed, found):
            if chosen is None:
                continue
            at = replace(deployment, question=replace(asked, workload=question.workload.at_rate(bound)))
            plan = at.plan(chosen.kinds)
            rate = _printable(highest_rate(_holds(deployment, plan), start=chosen.rate, tolerance=1e-6))
            if rate > 0 and (best is None or rate > best.requests_per_s):
                best = MostOfMix(plan=plan, requests_per_s=rate, bound=bound)
            if rate < chosen.rate * (1 - PRECISION):
                late = replace(
                    deployment, question=replace(asked, workload=question.workload.at_rate(chosen.rate))
                )
                changed |= late.leave_for_transfers(plan)
                deployment.transfer_s = max(deployment.transfer_s, late.transfer_s)
            changed |= deployment.learn(chosen.kinds)
        if best is not None:
            best = replace(best, bound=max(bound, best.requests_per_s))
            if best.bound <= best.requests_per_s * (1 + CLOSED):
                break
        if not changed or time.process_time() > end:
            break
    return best


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The highest rate that the programme found a solution for, and its kinds of workers."""

    rate: float
    kinds: Kinds


def _printable(rate: float) -> float:
    """A rate of ten digits, no higher: what is printed of it is all of it.

    >>> _printable(39.385682594955), _printable(0.0)
    (39.38568259, 0.0)
    """
    if not rate:
        return rate
    scale = 10.0 ** (9 - math.floor(math.log10(rate)))
    return math.floor(rate * scale) / scale


def _holds(deployment: Deployment, plan: Plan) -> Callable[[float], bool]:
    """Whether every request keeps its limits at a rate, whichever workers it meets."""
    workload, slo = deployment.workload, deployment.slo
    return lambda rate: plan_meets(deployment.world, plan, workload.at_rate(rate), slo)


def _highest(
    deployment: Deployment, question: Question, relaxed: bool, low: float, high: float
) -> _Chosen | None:
    """The highest rate between two at which there is a solution; None where there is none at the lower."""
    best = _solved(deployment, question, relaxed, low)
    if best is None:
        return None
    while high > low * (1 + PRECISION):
        middle = math.sqrt(low * high)
        found = _solved(deployment, question, relaxed, middle)
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return _Chosen(rate=low, kinds=best)


def _solved(deployment: Deployment, question: Question, relaxed: bool, rate: float) -> Kinds | None:
    """The cheapest numbers of workers that serve a rate within the budget."""
    at = replace(deployment.question, workload=deployment.question.workload.at_rate(rate))
    built = columns_of([replace(deployment, question=at)], relaxed)
    solution = solve(
        Programme(
            options=built.options,
            columns=built.columns,
            tariffs=deployment.space.objective.tariffs,
            spare_workers=[question.spare_workers],
            own_max_gpus=[float(question.max_gpus or np.inf)],
            max_usd_per_h=np.inf if question.max_usd_per_h is None else question.max_usd_per_h,
        ),
        TIME_LIMIT_S,
    )
    if solution is None:
        return None
    return [(built.curves[built.columns[k].kind], n) for k, n in solution.counts.items()]
