"""Whether a plan keeps every limit of a question, as the search that would size it has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log
from typing import Any

import numpy as np

from pdplan.compose import World, evaluate_plan, evaluate_pools, mixed_routes, plan_meets
from pdplan.laws.roofline import Array
from pdplan.plan import Equal, Metrics, Mixed, Plan
from pdplan.question import Candidate, Question
from pdplan.search.limits import limits_of
from pdplan.search.objective import build_objective, excess, limit_shares, serves
from pdplan.serving.mixture import metrics_by_route
from pdplan.serving.queueing import peak_count
from pdplan.uncertainty import slo_of, tightened
from pdplan.workload import Slo, Workload

Evaluate = Callable[[World, Plan, Workload, Slo], Metrics]

HOPELESS = 1.0
"""Logarithm of how far beyond its limits a plan counts that cannot do the work at all."""
NEAR = log(1.2)
"""How far from where it holds a plan is looked at first, as a logarithm."""
AT_ONCE = 24
"""Places that are looked at in one call, where it takes arrays."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a plan, without spare workers, does for a question."""

    metrics: Metrics
    """At the rate that plans are sized for."""
    keeps: bool
    """Whether it keeps every limit on latency, and the rate."""
    share: float
    """The largest share of a limit that it uses."""

    @property
    def excess(self) -> float:
        """How far beyond its limits it is, or within them where negative: a logarithm."""
        if self.keeps:
            return min(log(self.share or exp(-HOPELESS)), 0.0)
        return log(max(self.share, 1.0)) or HOPELESS


def judged(plan: Plan, question: Question, world: World, evaluate: Evaluate = evaluate_plan) -> Judged:
    """What the search would say of a plan, sized without its spare workers, for a question at a rate."""
    metrics = evaluate(world, plan, question.sizing_workload, question.slo)
    if isinstance(plan, Mixed):
        slo = _of_mix(plan, question)
        keeps = plan_meets(world, plan, question.sizing_workload, slo)
        return Judged(metrics=metrics, keeps=keeps, share=max(limit_shares(metrics, slo), default=0.0))
    slo = slo_of(plan, question.slo)
    keeps, shares = bool(serves(metrics, slo)), limit_shares(metrics, slo)
    if slo.tpot_factor != 1.0:
        workload = question.sizing_workload
        slower = evaluate(world, plan, workload.at_rate(workload.rate * slo.tpot_factor), question.slo)
        share, fits = _when_slower(plan, slower, slo, workload.osl)
        keeps, shares = keeps and bool(fits) and float(share) <= 1 + 1e-9, [*shares, float(share)]
    return Judged(metrics=metrics, keeps=keeps, share=max(shares, default=0.0))


def _of_mix(plan: Mixed, question: Question) -> Slo:
    """The limits that a mix has to keep on whichever accelerators a question mixes."""
    names = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    return tightened(question.slo, plan, sorted(names))


def excess_of_many(plan: Plan, question: Question, world: World) -> Array:
    """How far a plan is beyond its limits, as `Judged` has it, for a workload of arrays."""
    workload = question.sizing_workload
    if isinstance(plan, Mixed):
        slo = _of_mix(plan, question)
        routes = metrics_by_route(mixed_routes(world, plan, workload, slo), workload, slo)
        return np.asarray(np.maximum.reduce([excess(metrics, slo) for metrics in routes]))
    slo = slo_of(plan, question.slo)
    found = excess(evaluate_pools(world, plan, workload, question.slo), slo)
    if slo.tpot_factor != 1.0:
        rate = np.asarray(workload.rate) * slo.tpot_factor
        slower = evaluate_pools(world, plan, workload.at_rate(rate), question.slo)
        share, fits = _when_slower(plan, slower, slo, workload.osl)
        found = np.maximum(found, np.where(fits, np.log(np.maximum(share, 1e-300)) - 1e-9, inf))
    return found


def _when_slower(plan: Equal, slower: Metrics, slo: Slo, osl: Any) -> tuple[Array, Array]:
    """The share of the TPOT limit that is used if each step takes as much longer as there has to be room for,
    and whether the slots are enough then.

    Requests stay longer, so as many run together as at a rate so much higher: `slower` is of that rate.
    """
    role, pool = list(plan.pools.items())[-1]
    peak = peak_count(np.asarray(slower.running[role]) * pool.workers, slo.z) / pool.workers
    limits: list[Any] = [] if slo.tpot_s is None else [slo.tpot_s]
    if slo.request_latency_s is not None:
        limits.append(slo.request_latency_s / np.maximum(np.asarray(osl) - 1.0, 1e-9))
    share = slo.tpot_factor * np.asarray(slower.tpot_slo_s) / np.minimum.reduce([*limits, inf])
    return share, np.asarray(peak <= np.asarray(slower.max_batch[role]) * (1 + 1e-9))


def allowed(candidate: Candidate, question: Question, world: World) -> bool:
    """Whether a plan, with the spare workers that come to it, is within inventory and budgets."""
    names = sorted(
        {
            *(pool.hardware for pool in candidate.plan.pools.values()),
            *question.prefill_hardware,
            *question.decode_hardware,
            *question.colocated_hardware,
        }
    )
    return limits_of(question, world, names, build_objective(question, world, names)).allow(candidate)


def candidate_of(
    plan: Plan, question: Question, world: World, evaluate: Evaluate = evaluate_plan
) -> Candidate | None:
    """The plan as a candidate of a question's search; None where it breaks a limit."""
    found = judged(plan, question, world, evaluate)
    candidate = Candidate(plan=plan, metrics=found.metrics)
    return candidate if found.keeps and allowed(candidate, question, world) else None


def last_kept(excess: Callable[[float], float], now: float, most: float, hair: float) -> float:
    """How far from 0 towards `most`, to twice a hair, `excess` is not positive; it is `now` at 0.

    The first guess is NEAR, the next where a straight line through the last two says, and a hair beyond
    it, so that the two sides close in; where that closes in too slowly, the middle: excess may jump.

    >>> round(last_kept(lambda x: x - 0.3, -0.3, 1.0, 1e-3), 2), last_kept(lambda x: x - 3, -3.0, 1.0, 1e-3)
    (0.3, 1.0)
    """
    low, high = 0.0, most
    last, at = (0.0, now), min(NEAR, most)
    beyond = False  # whether anything was found that is too far
    while high - low > 2 * hair:
        found = excess(at)
        if found <= 0:
            low = at
            if at == most:
                break
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
    return low


def last_kept_of_many(excess: Callable[[Array], Array], most: float, hair: float) -> float:
    """As `last_kept`, many places in a call; 0 is taken to keep the limits.

    >>> round(last_kept_of_many(lambda x: x - 0.3, 1.0, 1e-3), 2)
    0.3
    """
    low, high = 0.0, most
    while high - low > 2 * hair:
        places = np.linspace(low, high, AT_ONCE + 2)[1:]  # the end, too: it may keep them
        late = excess(places) > 0
        if not late.any():
            return float(places[-1]) if high == most else low
        first = int(np.argmax(late))
        low, high = float(places[first - 1]) if first else low, float(places[first])
    return low
