"""The cheapest single pool that serves both phases, exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pdplan.compose import World
from pdplan.evaluate import Economics, evaluate_colocated
from pdplan.laws.roofline import Array
from pdplan.plan import Colocated, Metrics, Serving
from pdplan.question import Candidate
from pdplan.search.goodput.rates import RELATIVE_TOLERANCE, highest_rate
from pdplan.search.objective import Objective, serves
from pdplan.search.space import Space
from pdplan.search.workers.candidates import (
    DecodeChoices,
    batch_to_configure,
    least_workers,
    running_at,
    workers_for_rate,
)
from pdplan.search.workers.whole import least_whole
from pdplan.serving.first_token import first_token
from pdplan.serving.open_loop import open_queue, open_ttft
from pdplan.serving.pools import mixed_step
from pdplan.serving.queueing import mean_for_peak, peak_count
from pdplan.uncertainty import slo_on
from pdplan.workload import Slo, Workload

BLOCK = 64
TIES = 2


def search_colocated(world: World, workload: Workload, slo: Slo, space: Space) -> list[Candidate]:
    """Feasible pools, the cheapest of all certainly among them unless it costs more than the ceiling.

    The workers that TPOT asks for bound the cost from below; pools are then tried in
    that order, with more workers where TTFT asks for them, until no bound is below the best.
    """
    assert workload.rate is not None
    choices, objective, serving = dict(space.colocated), space.objective, space.serving
    bounds: list[tuple[float, float, str, int, float]] = []
    for hardware, found in space.colocated.items():
        if np.isfinite(objective.ceiling):  # who is too dear without any fluctuation need not be sized
            least = least_workers(found, workload.rate, slo_on(slo, serving, hardware))
            cost = objective.pool_cost(hardware, found.candidates.pool.layout.gpus, least)
            found = found.take(np.flatnonzero(cost <= objective.ceiling * (1 + 1e-9)))
            choices[hardware] = found
        if len(found):
            workers = workers_for_rate(found, workload.rate, workload, slo_on(slo, serving, hardware))
            cost = objective.pool_cost(hardware, found.candidates.pool.layout.gpus, workers)
            bounds += [
                (float(cost[k]), float(found.fastest_tpot_s[k]), hardware, k, float(workers[k]))
                for k in range(len(found))
            ]
    bounds.sort()
    candidates: list[Candidate] = []
    best, ties = objective.ceiling, 0
    while bounds:
        if bounds[0][0] > best * (1 + 1e-9) or bounds[0][0] == np.inf:
            break
        ties += bounds[0][0] >= best * (1 - 1e-9)
        if ties > (TIES if objective.thorough else 0):
            break
        hardware = bounds[0][2]
        block = [b for b in bounds[: 4 * BLOCK] if b[2] == hardware][:BLOCK]
        taken = set(block)
        bounds = [b for b in bounds[: 4 * BLOCK] if b not in taken] + bounds[4 * BLOCK :]
        index = np.asarray([b[3] for b in block])
        start = np.asarray([b[4] for b in block])
        money = Economics(
            usd_per_gpu_h={"colocated": world.price(hardware)},
            watt_per_gpu={"colocated": world.watts(hardware)},
        )
        part = choices[hardware].take(index)
        unit, gpus = part.candidates.unit_cost, part.candidates.pool.layout.gpus
        spare = objective.spare_workers
        most = np.where(np.isfinite(best), np.floor(best / unit * (1 + 1e-9)) - spare, start * 8 + 64)
        most = np.minimum(most, space.limits.most_workers(hardware, gpus))
        sizing = _Sizing(
            serving=serving,
            workload=workload,
            slo=slo_on(slo, serving, hardware),
            money=money,
            objective=objective,
        )
        sized = sizing.candidates(part, start, most)
        candidates += [c for c in sized if np.isfinite(objective.cost(c)) and space.limits.allow(c)]
        best = min([best, *(objective.cost(c) for c in candidates)])
    return candidates


class _Sized(NamedTuple):
    """So many workers of each type, and what they do."""

    choices: DecodeChoices
    workers: Array
    metrics: Metrics
    good: Array
    batch: Array

    def cost(self, objective: Objective) -> Array:
        own = self.choices.candidates
        return objective.pool_cost(own.hardware, own.pool.layout.gpus, self.workers)


@dataclass(frozen=True, kw_only=True)
class _Sizing:
    """Pools of one kind of accelerators for one rate."""

    serving: Serving
    workload: Workload
    slo: Slo
    money: Economics
    objective: Objective

    def candidates(self, choices: DecodeChoices, workers: Array, most: Array) -> list[Candidate]:
        """Least workers of each type that meet everything, from `workers` up to `most`."""
        fits = np.flatnonzero(workers <= most)
        if not len(fits):
            return []
        sized = self._least(choices.take(fits), workers[fits], most[fits])
        cost = np.concatenate([each.cost(self.objective) for each in sized])
        places = [(each, k) for each in sized for k in range(len(each.workers))]
        good = np.flatnonzero(np.concatenate([each.good for each in sized]))
        return [self._candidate(*places[k]) for k in self.objective.worth_keeping(good, cost)]

    def _least(self, choices: DecodeChoices, workers: Array, most: Array) -> list[_Sized]:
        found = [self._sized(choices, workers)]
        late = np.flatnonzero(~found[0].good)
        if not len(late):
            return found
        # TTFT wants more.
        more = workers_for_latency(choices.take(late), workers[late], most[late], self.workload, self.slo)
        late, more = late[np.isfinite(more)], more[np.isfinite(more)]
        if not len(late):
            return found
        found.append(self._sized(choices.take(late), more))
        # Where a full batch serves less than one that is not, more workers may still be wanted.
        odd = late[~found[1].good]
        low, high = more[~found[1].good] + 1.0, most[odd]
        best = min(float(each.cost(self.objective)[each.good].min(initial=np.inf)) for each in found)
        candidates = choices.candidates
        gpus = candidates.pool.layout.gpus[odd]
        may = (low <= high) & (self.objective.pool_cost(candidates.hardware, gpus, low) <= best)
        odd, low, high = odd[may], low[may], high[may]
        if len(odd):
            part = choices.take(odd)
            can = np.flatnonzero(self._sized(part, high).good)
            part, low, high = part.take(can), low[can], high[can]
            enough = least_whole(lambda k, n: self._sized(part.take(k), n).good, low, high)
            found.append(self._sized(part, enough))
        return found

    def _sized(self, choices: DecodeChoices, workers: Array) -> _Sized:
        done = evaluate_workers(choices, workers, self.workload, self.slo, self.money)
        return _Sized(choices, workers, *done)

    def _candidate(self, sized: _Sized, k: int) -> Candidate:
        pool = sized.choices.candidates.plan(k, int(sized.workers[k]), int(sized.batch[k]))
        return Candidate(plan=Colocated(**vars(self.serving), colocated=pool), metrics=sized.metrics.at(k))


def workers_for_latency(
    choices: DecodeChoices, few: Array, most: Array, workload: Workload, slo: Slo
) -> Array:
    """The least workers of each type with which TTFT and latency keep their limits: more than `few`, of which
    that many are known to be too late; infinite where `most` are.

    With x sequences on each worker, λ asks for n(x) = λ·OSL·TPOT(x)/x workers: the largest x in time is
    found without solving for any, and whole numbers within its tolerance of n(x) are looked at themselves.
    """
    rate = np.broadcast_to(np.asarray(workload.rate, dtype=float), np.shape(few))

    def late(running: Array, which: Array) -> Array:
        return served_at(choices.take(which), None, running, workload.at_rate(rate[which]), slo).beyond

    running = highest_rate(late, mean_for_peak(few * choices.limit, slo.z) / few)
    each = served_at(choices, None, np.maximum(running, 1e-9), workload.at_rate(rate), slo).each
    enough = np.where(running > 0, rate / each, np.inf)
    low = np.maximum(np.ceil(enough * (1 - 4 * RELATIVE_TOLERANCE)), few + 1.0)
    high = np.maximum(np.ceil(enough * (1 + 1e-9)), low)
    answer = np.full(np.shape(few), np.inf)
    there = np.flatnonzero(low <= most)

    def in_time(cases: Array, workers: Array) -> Array:
        part, asked = choices.take(there[cases]), workload.at_rate(rate[there[cases]])
        known = running_at(part, workers, asked.rate, workload)
        return served_at(part, workers, known, asked, slo).beyond <= 0

    answer[there] = least_whole(in_time, low[there], high[there])
    return np.where(answer <= most, answer, np.inf)


def evaluate_workers(
    choices: DecodeChoices, workers: Array, workload: Workload, slo: Slo, money: Economics
) -> tuple[Metrics, Array, Array]:
    """Metrics of so many workers of each type, where they meet everything, the max_batch to set."""
    rate = np.asarray(workload.rate, dtype=float) * slo.tpot_factor  # so many run, should steps take longer
    running = running_at(choices, workers, rate, workload)
    return metrics_at(choices, workers, running, workload, slo, money)


def metrics_at(
    choices: DecodeChoices, workers: Array, running: Array, workload: Workload, slo: Slo, money: Economics
) -> tuple[Metrics, Array, Array]:
    """`evaluate_workers` where so many are known to run, should steps take longer."""
    pool = choices.candidates.with_workers(workers)
    batch = batch_to_configure(pool, running, choices.limit, slo)
    known = running if slo.tpot_factor == 1.0 else None
    metrics = evaluate_colocated(replace(pool, max_batch=batch), workload, slo, money, known)
    return metrics, np.broadcast_to(serves(metrics, slo), np.shape(workers)), batch


class Served(NamedTuple):
    """What workers do on each of which so many run."""

    each: Array
    """Requests/s of one."""
    beyond: Array
    """Logarithm of the largest share of a limit on TTFT or the whole request that is used; infinite where
    a queue grows."""


def served_at(
    choices: DecodeChoices, workers: Array | None, running: Array, workload: Workload, slo: Slo
) -> Served:
    """What so many workers do; None: as many as the workload's rate takes, in fractions.

    A rate follows from what runs directly, and it from a rate by solving.
    """
    candidates = choices.candidates
    step = mixed_step(candidates.pool, workload, running)
    each = np.asarray(running / (workload.osl * step.tpot_s))
    workers = np.asarray(workload.rate) / each if workers is None else workers
    pool = candidates.with_workers(workers)
    first = first_token(pool, workload, step, running)
    queue = open_queue(pool, workload, step, each * workers)
    ttft = slo.ttft_factor * open_ttft(queue, first, workload).quantile_s(slo.percentile)
    used = np.zeros(np.shape(ttft)) if slo.ttft_s is None else ttft / slo.ttft_s
    if slo.request_latency_s is not None:
        peak = peak_count(running * workers, slo.z) / workers
        tpot = slo.tpot_factor * mixed_step(pool, workload, np.minimum(peak, choices.limit)).tpot_s
        used = np.maximum(used, (ttft + tpot * max(workload.osl - 1.0, 0.0)) / slo.request_latency_s)
    beyond = np.where(np.isfinite(ttft), np.log(np.maximum(used, 1e-300)), np.inf)
    return Served(each=each, beyond=beyond)
