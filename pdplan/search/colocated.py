"""The cheapest single pool that serves both phases, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pdplan.compose import World
from pdplan.evaluate import Economics, evaluate_colocated
from pdplan.first_token import first_token
from pdplan.laws.roofline import Array
from pdplan.open_loop import open_queue, open_ttft
from pdplan.plan import Colocated, Metrics, Serving
from pdplan.pools import mixed_step
from pdplan.question import Candidate
from pdplan.queueing import peak_count
from pdplan.search.candidates import (
    DecodeChoices,
    batch_to_configure,
    least_workers,
    running_at,
    workers_for_rate,
)
from pdplan.search.objective import Objective, serves
from pdplan.search.space import Space
from pdplan.search.whole import least_whole
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
        limits = slo_on(slo, serving, hardware)
        sized = _size(part, start, most, serving, workload, limits, money, objective)
        candidates += [c for c in sized if np.isfinite(objective.cost(c)) and space.limits.allow(c)]
        best = min([best, *(objective.cost(c) for c in candidates)])
    return candidates


def _size(
    choices: DecodeChoices,
    workers: Array,
    most: Array,
    serving: Serving,
    workload: Workload,
    slo: Slo,
    money: Economics,
    objective: Objective,
) -> list[Candidate]:
    """Least workers of each type that meet everything, from `workers` up to `most`."""
    fits = np.flatnonzero(workers <= most)
    if not len(fits):
        return []
    choices, low, high = choices.take(fits), workers[fits], most[fits]
    metrics, good, batch = evaluate_workers(choices, low, workload, slo, money)
    if not good.all():  # TTFT wants more: bisect between the bound and what may still pay
        _, reachable, _ = evaluate_workers(choices, high, workload, slo, money)
        keep = np.flatnonzero(good | reachable)
        if not len(keep):
            return []
        choices, low, high, good = choices.take(keep), low[keep], high[keep], good[keep]

        def serve(types: Array, workers: Array) -> Array:
            return evaluate_workers(choices.take(types), workers, workload, slo, money)[1]

        high = least_whole(serve, low, np.where(good, low, high))
        metrics, good, batch = evaluate_workers(choices, high, workload, slo, money)
        low = high
    cost = objective.pool_cost(choices.candidates.hardware, choices.candidates.pool.layout.gpus, low)
    shared = vars(serving)
    return [
        Candidate(
            plan=Colocated(**shared, colocated=choices.candidates.plan(k, int(low[k]), int(batch[k]))),
            metrics=metrics.at(k),
        )
        for k in objective.worth_keeping(np.flatnonzero(good), cost)
    ]


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


def served_at(
    choices: DecodeChoices, workers: Array, running: Array, workload: Workload, slo: Slo
) -> tuple[Array, Array]:
    """Requests/s of so many workers on each of which so many run, and how far latencies are beyond limits.

    The latter is the logarithm of the largest share of a limit on TTFT or the whole request that is used,
    infinite where a queue grows. A rate follows from what runs directly, and it from a rate by solving.
    """
    pool = choices.candidates.with_workers(workers)
    step = mixed_step(pool, workload, running)
    rate = np.asarray(running * workers / (workload.osl * step.tpot_s))
    first = first_token(pool, workload, step, running)
    queue = open_queue(pool, workload, step, rate)
    ttft = slo.ttft_factor * open_ttft(queue, first, workload).quantile_s(slo.percentile)
    used = np.zeros(np.shape(ttft)) if slo.ttft_s is None else ttft / slo.ttft_s
    if slo.request_latency_s is not None:
        peak = peak_count(running * workers, slo.z) / workers
        tpot = slo.tpot_factor * mixed_step(pool, workload, np.minimum(peak, choices.limit)).tpot_s
        used = np.maximum(used, (ttft + tpot * max(workload.osl - 1.0, 0.0)) / slo.request_latency_s)
    return rate, np.where(np.isfinite(ttft), np.log(np.maximum(used, 1e-300)), np.inf)
