"""The search turned round: the most requests/s that a number of accelerators serve within the SLO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from pdplan.compose import World, build_network, default_bandwidth
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, meets
from pdplan.laws.roofline import Array
from pdplan.plan import Colocated, Disaggregated, Metrics, Serving
from pdplan.pools import solve_running
from pdplan.question import Candidate, Question
from pdplan.search.candidates import DecodeChoices, PrefillChoices, batch_to_configure, largest_rate
from pdplan.workload import Slo

BLOCK = 96
RELATIVE_TOLERANCE = 1e-6


def most_goodput(
    question: Question,
    world: World,
    serving: Serving,
    prefill: Mapping[str, PrefillChoices],
    decode: Mapping[str, DecodeChoices],
    colocated: Mapping[str, DecodeChoices],
) -> list[Candidate]:
    """Candidates of both modes within `max_gpus` and the inventory, the highest rates among them.

    Every split of the accelerators between the pools is bounded by what each pool could
    serve without queues; splits are tried best bound first until none can beat the best. Of the
    prefill types for one split the BLOCK with the most capacity are tried, not all.
    """
    found: list[Candidate] = []
    for hardware, choices in colocated.items():
        found += _colocated(question, world, serving, hardware, choices)
    for p, d in ((p, d) for p in prefill for d in decode):
        if default_bandwidth(world, p, d) or world.network.bandwidth_bytes_per_s:
            found += _pairs(question, world, serving, (p, prefill[p]), (d, decode[d]))
    return found


def accelerators_at_hand(question: Question, world: World, *hardware: str) -> int:
    """How many of these kinds together a plan may use: the question's limit, the inventory's."""
    stock = sum(world.tariff(name).most for name in dict.fromkeys(hardware))
    most = min(stock, question.max_gpus or np.inf)
    assert np.isfinite(most), "no limit on accelerators: the rate has none either"
    return int(most)


def highest_rate(meets_at: Callable[[Array], Array], high: Array) -> Array:
    """The largest rate up to `high` at which a deployment still meets its SLO, 0 where none does.

    Bisection: everything here is monotone in the rate.
    """
    low, high = np.zeros(np.shape(high)), np.array(high, dtype=float)
    whole = meets_at(high)
    low = np.where(whole, high, low)
    for _ in range(60):
        if np.all(high - low <= RELATIVE_TOLERANCE * high):
            break
        middle = (low + high) / 2
        good = meets_at(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return low


def _colocated(
    question: Question, world: World, serving: Serving, hardware: str, choices: DecodeChoices
) -> list[Candidate]:
    workload, slo = question.workload, question.slo
    total = float(accelerators_at_hand(question, world, hardware))
    # Spare workers take accelerators and serve nothing.
    money = Economics(
        usd_per_gpu_h={"colocated": world.price(hardware)}, watt_per_gpu={"colocated": world.watts(hardware)}
    )
    workers = np.floor(total / choices.candidates.pool.layout.gpus) - question.spare_workers
    usable = np.flatnonzero(workers >= 1)
    choices, workers = choices.take(usable), workers[usable]
    if not len(choices):
        return []
    bound = largest_rate(choices, workers, workload, slo)
    order = np.argsort(-bound, kind="stable")
    found: list[Candidate] = []
    best = 0.0
    for start in range(0, len(order), BLOCK):
        index = order[start : start + BLOCK]
        if bound[index[0]] <= best * (1 + RELATIVE_TOLERANCE):
            break
        part, count = choices.take(index), workers[index]

        def metrics_at(
            rate: Array, part: DecodeChoices = part, count: Array = count
        ) -> tuple[Metrics, Array]:
            pool = part.candidates.with_workers(count)
            asked = workload.at_rate(rate)
            running = solve_running(pool, asked, rate, colocated=True)
            batch = batch_to_configure(pool, running, part.limit, slo)
            return evaluate_colocated(replace(pool, max_batch=batch), asked, slo, money), batch

        def good(rate: Array) -> Array:
            return _met(metrics_at(np.maximum(rate, 1e-9))[0], slo, rate)

        rate = highest_rate(good, bound[index])
        metrics, batch = metrics_at(np.maximum(rate, 1e-9))
        found += [
            Candidate(
                plan=Colocated(
                    **vars(serving), colocated=part.candidates.plan(k, int(count[k]), int(batch[k]))
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero(rate > 0)
        ]
        best = max([best, *rate])
    return found


def _met(metrics: Metrics, slo: Slo, rate: Array) -> Array:
    return np.broadcast_to(meets(metrics, slo), np.shape(rate))


def _pairs(
    question: Question,
    world: World,
    serving: Serving,
    prefill_of: tuple[str, PrefillChoices],
    decode_of: tuple[str, DecodeChoices],
) -> list[Candidate]:
    workload, slo = question.workload, question.slo
    spare = question.spare_workers
    (p, prefill), (d, decode) = prefill_of, decode_of
    total = accelerators_at_hand(question, world, p, d)
    stock = {name: accelerators_at_hand(question, world, name) for name in (p, d)}
    if not len(prefill) or not len(decode):
        return []
    fast = np.flatnonzero(prefill.service.time_s < (np.inf if slo.ttft_s is None else slo.ttft_s))
    prefill = prefill.take(fast)
    if not len(prefill):
        return []
    network = build_network(world, p, d)
    money = Economics(
        usd_per_gpu_h={"prefill": world.price(p), "decode": world.price(d)},
        watt_per_gpu={"prefill": world.watts(p), "decode": world.watts(d)},
    )
    gpus_p = prefill.candidates.pool.layout.gpus
    per_worker = prefill.service.rate_per_server * prefill.candidates.pool.servers_per_worker
    # Every (decode type, number of decode workers), bounded by the best prefill for what is left.
    most = np.maximum(np.floor(stock[d] / decode.candidates.pool.layout.gpus).astype(int) - spare, 0)
    types = np.repeat(np.arange(len(decode)), most)
    counts = np.concatenate([np.arange(1, m + 1) for m in most]).astype(float) if types.size else np.zeros(0)
    left = total - (counts + spare) * decode.candidates.pool.layout.gpus[types]
    left = np.minimum(left, stock[p])
    ceiling = _prefill_ceiling(per_worker, gpus_p, total, spare)
    bound = np.minimum(largest_rate(decode.take(types), counts, workload, slo), ceiling[left.astype(int)])
    order = np.argsort(-bound, kind="stable")
    found: list[Candidate] = []
    best = 0.0
    for start in range(0, len(order), 8):
        rows = order[start : start + 8]
        if bound[rows[0]] <= best * (1 + RELATIVE_TOLERANCE):
            break
        i, j = _promising(per_worker, gpus_p, left[rows], best, spare)
        if not i.size:
            continue
        rows = rows[j]
        workers = np.floor(left[rows] / gpus_p[i]) - spare
        part, other = prefill.take(i), decode.take(types[rows])
        cap = np.minimum(bound[rows], workers * per_worker[i]) * (1 - 1e-9)

        def metrics_at(
            rate: Array,
            part: PrefillChoices = part,
            other: DecodeChoices = other,
            workers: Array = workers,
            rows: Array = rows,
        ) -> tuple[Metrics, Array]:
            asked = workload.at_rate(rate)
            pool = other.candidates.with_workers(counts[rows])
            running = solve_running(pool, asked, rate, colocated=False)
            batch = batch_to_configure(pool, running, other.limit, slo)
            sending = part.candidates.with_workers(workers)
            return (
                evaluate_disaggregated(sending, replace(pool, max_batch=batch), asked, slo, network, money),
                batch,
            )

        def good(rate: Array) -> Array:
            return _met(metrics_at(np.maximum(rate, 1e-9))[0], slo, rate)

        rate = highest_rate(good, cap)
        keep = np.flatnonzero(rate > best * (1 - 0.1))
        metrics, batch = metrics_at(np.maximum(rate, 1e-9))
        found += [
            Candidate(
                plan=Disaggregated(
                    **vars(serving),
                    prefill=part.candidates.plan(k, int(workers[k]), int(part.candidates.pool.max_batch[k])),
                    decode=other.candidates.plan(k, int(counts[rows[k]]), int(batch[k])),
                ),
                metrics=metrics.at(k),
            )
            for k in keep
            if rate[k] > 0
        ]
        best = max([best, *rate])
    return found


def _prefill_ceiling(per_worker: Array, gpus: Array, total: int, spare: int) -> Array:
    """By number of accelerators left: the most requests/s that any prefill type makes of them."""
    left = np.arange(total + 1, dtype=float)
    ceiling = np.zeros(total + 1)
    for size in np.unique(gpus):
        ceiling = np.maximum(ceiling, (np.floor(left / size) - spare) * per_worker[gpus == size].max())
    return ceiling


def _promising(per_worker: Array, gpus: Array, left: Array, best: float, spare: int) -> tuple[Array, Array]:
    """Prefill types that could beat `best` with what is left, at most BLOCK of each row, best first."""
    types, rows = [], []
    for row, remaining in enumerate(left):
        capacity = (np.floor(remaining / gpus) - spare) * per_worker
        able = np.flatnonzero(capacity > max(best, 1e-12))
        able = able[np.argsort(-capacity[able], kind="stable")][:BLOCK]
        types.append(able)
        rows.append(np.full(len(able), row))
    return np.concatenate(types), np.concatenate(rows)
