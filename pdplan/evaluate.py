"""Pools and a workload become metrics: the one function that every command goes through.

recommend, compare, check, explain and evaluate all end here, so they cannot
disagree. Arrays throughout: the search calls it with many deployments at once.

TTFT = request handling + wait for prefill + prefill + exposed KV transfer + hand-over + first decode step
(colocated: pdplan/serving/first_token.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.kv_transfer import Network
from pdplan.laws.roofline import Array
from pdplan.memory import MemoryBudget, memory_budget
from pdplan.plan import CACHE, DECODE_RATE, PREFILL_RATE, TRANSFER_RATE, WEIGHTS, Metrics, first_problem
from pdplan.serving.closed_loop import closed_colocated, closed_disaggregated, opening_burst_s
from pdplan.serving.first_token import FirstToken, first_token
from pdplan.serving.latency import Latency, prefill_latency
from pdplan.serving.open_loop import open_queue, open_ttft
from pdplan.serving.pools import (
    Pool,
    first_step_s,
    handover_tokens,
    mixed_step,
    pool_tpot_s,
    prefill_service,
    solve_running,
)
from pdplan.serving.queueing import peak_count
from pdplan.serving.transfer import kv_transfer
from pdplan.workload import Slo, Workload

PERCENTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Economics:
    """Dollars and watts of one accelerator of each pool, by pool name."""

    usd_per_gpu_h: dict[str, float]
    """NaN where no price is known."""
    watt_per_gpu: dict[str, float]


def pool_memory(pool: Pool, workload: Workload) -> MemoryBudget:
    """Memory of one worker of the pool, requests at their full length."""
    drafts = bool(pool.speculation.drafted)
    return memory_budget(pool.setting, pool.layout, workload.isl + workload.osl, drafts)


@dataclass(frozen=True, kw_only=True)
class Served:
    """What pools do with their share of the requests, before it is told as metrics."""

    rate: Array
    """Requests/s of the whole role, not of the pool's share alone."""
    ttft: Latency
    tpots: dict[str, Array]
    """Mean, and by name of the percentile."""
    decoding: Pool
    """The pool that decodes, with `decoding_running` requests on each worker."""
    decoding_running: Array
    colocated: bool
    pools: dict[str, Pool]
    utilisation: dict[str, Any]
    running: dict[str, Any]
    parts: dict[str, Any]
    kv_transfer_s: Array
    problem: Array


def evaluate_disaggregated(
    prefill: Pool,
    decode: Pool,
    workload: Workload,
    slo: Slo,
    network: Network,
    economics: Economics,
    running: Array | None = None,
) -> Metrics:
    """Metrics of prefill and decode pools joined by a network; arrays over deployments.

    `running`: sequences on each decode worker at the workload's rate, where that was solved already.
    """
    served = serve_disaggregated(prefill, decode, workload, slo, network, running)
    return metrics_of(served, workload, slo, economics)


def serve_disaggregated(
    prefill: Pool,
    decode: Pool,
    workload: Workload,
    slo: Slo,
    network: Network,
    running: Array | None = None,
) -> Served:
    """What a prefill and a decode pool do with the requests that meet in both; arrays over deployments."""
    service = prefill_service(prefill, workload)
    decode_memory, prefill_memory = pool_memory(decode, workload), pool_memory(prefill, workload)
    if workload.concurrency is not None:
        rate, running, waited = closed_disaggregated(prefill, decode, workload, network, service)
        z = np.zeros(())
    else:
        rate = np.asarray(workload.rate, dtype=float)
        if running is None:
            running = solve_running(decode, workload, rate * decode.share, colocated=False)
        waited, z = None, np.asarray(slo.z)
    # At the mean batch, at those of percentiles and at the largest, in one call.
    tpots, full_s = _tpots(decode, workload, running, slo, colocated=False)
    tpot = tpots["mean"]
    transfer = kv_transfer(prefill, decode, workload, network, rate, service.time_s)
    handling = service.handling_s
    entering, leaving = rate * prefill.share, rate * decode.share
    offered = service.offered(entering)
    first = first_step_s(decode, workload, running, tpot)
    sending = transfer.exposed_s + workload.handover_s
    fixed = sending + first + handling
    later = 0.0 if waited is None else waited
    burst = np.maximum(
        opening_burst_s(prefill.servers, service.offered(1.0), workload, later_s=later),
        opening_burst_s(prefill.workers, workload.handover_s, workload, later_s=later),
    )
    ttft = prefill_latency(prefill.servers, service, entering, workload, fixed, network.jitter_s)
    if waited is not None:
        sent = entering * workload.handover_s / prefill.workers
        busy = np.minimum(np.maximum(offered / prefill.servers, sent), 1.0)
        even = bool(np.any(workload.burst_share))
        ttft = replace(ttft, waits=busy, wait_s=waited, burst_s=np.asarray(burst, dtype=float), even=even)
    wait = ttft.wait_s
    capacity = decode.workers * decode.max_batch / (workload.osl * full_s)
    saturated = _slots_run_short(decode, workload, running, leaving, capacity, z)
    problem = first_problem(
        ((prefill_memory.cache <= 0) | (decode_memory.cache <= 0), WEIGHTS),
        ((prefill_memory.max_sequences < 1) | (decode_memory.max_sequences < 1), CACHE),
        (~np.isfinite(wait), PREFILL_RATE),
        (saturated, DECODE_RATE),
        (~np.isfinite(transfer.wait_s), TRANSFER_RATE),
    )
    return Served(
        rate=rate,
        ttft=ttft,
        tpots=tpots,
        decoding=decode,
        decoding_running=running,
        colocated=False,
        pools={"prefill": prefill, "decode": decode},
        utilisation={
            "prefill": offered / prefill.servers,
            "decode": leaving / capacity,
            "network": transfer.utilisation,
        },
        running={"prefill": entering * service.time_s / prefill.workers, "decode": running},
        parts={
            "request handling": np.broadcast_to(handling, np.shape(wait)),
            "wait for prefill": wait,
            "prefill": service.time_s,
            "KV transfer": sending,
            **({"hand-over": first - tpot} if handover_tokens(decode) else {}),
            "first decode step": tpot,
            **_benchmark_parts(workload, burst),
        },
        kv_transfer_s=transfer.alone_s + transfer.wait_s,
        problem=problem,
    )


def evaluate_colocated(
    pool: Pool, workload: Workload, slo: Slo, economics: Economics, running: Array | None = None
) -> Metrics:
    """Metrics of one pool that serves both phases; arrays over deployments; `running` as above."""
    return metrics_of(serve_colocated(pool, workload, slo, running), workload, slo, economics)


def serve_colocated(pool: Pool, workload: Workload, slo: Slo, running: Array | None = None) -> Served:
    """What one pool that serves both phases does with its share of the requests; arrays over deployments."""
    memory = pool_memory(pool, workload)
    if workload.concurrency is not None:
        rate, running, waited = closed_colocated(pool, workload)
        z = np.zeros(())
    else:
        rate = np.asarray(workload.rate, dtype=float)
        if running is None:
            running = solve_running(pool, workload, rate * pool.share, colocated=True)
        waited, z = None, np.asarray(slo.z)
    step = mixed_step(pool, workload, running)
    entering = rate * pool.share
    offered = entering * step.prefill_work_s
    first = first_token(pool, workload, step, running)
    burst = _colocated_burst_s(pool, workload, first)
    if waited is None:
        queue = open_queue(pool, workload, step, entering)
        wait, ttft = queue.wait_s, open_ttft(queue, first, workload)
    else:
        wait = waited
        ttft = Latency(
            waits=np.minimum(offered / pool.servers, 1.0),
            wait_s=waited,
            service_s=first.service_s,
            service_cv=workload.isl_cv,
            fixed_s=first.other_s,
            burst_s=np.asarray(burst, dtype=float),
        )
    tpots, full_s = _tpots(pool, workload, running, slo, colocated=True, mean=step.tpot_s)
    capacity = pool.workers * pool.max_batch / (workload.osl * full_s)
    busy = entering / capacity
    if waited is not None:  # a closed loop takes what there is: at full batches a prompt costs a little more
        busy = np.minimum(busy, 1.0)
    saturated = _slots_run_short(pool, workload, running, entering, capacity, z)
    problem = first_problem(
        (memory.cache <= 0, WEIGHTS),
        (memory.max_sequences < 1, CACHE),
        (saturated, DECODE_RATE),
        (~np.isfinite(wait), PREFILL_RATE),
    )
    return Served(
        rate=rate,
        ttft=ttft,
        tpots=tpots,
        decoding=pool,
        decoding_running=running,
        colocated=True,
        pools={"colocated": pool},
        utilisation={"colocated": np.maximum(busy, offered / pool.servers)},
        running={"colocated": running},
        parts={
            "request handling": np.broadcast_to(first.handling_s, np.shape(wait)),
            "wait for running step": first.running_step_s,
            "wait for prefill": wait,
            "prefill": first.service_s,
            **({"held back": first.held_s} if np.any(first.held_s) else {}),
            **_benchmark_parts(workload, burst),
        },
        kv_transfer_s=np.zeros(()),
        problem=problem,
    )


def _colocated_burst_s(pool: Pool, workload: Workload, first: FirstToken) -> Array:
    """What the opening burst adds; where all requests of a server are one convoy, it is like any other.

    Its prompts reach the scheduler one by one, and each takes what it would alone.
    """
    if workload.concurrency is None or not np.any(workload.burst_share):
        return np.zeros(())
    if first.convoys and not pool.setting.constants.engine.mixes_prefill:
        return opening_burst_s(pool.servers, 0.0, workload)
    alone = prefill_service(replace(pool, max_batch=pool.micro_batches_per_worker), workload)
    return opening_burst_s(pool.servers, alone.offered(1.0), workload)


def _benchmark_parts(workload: Workload, burst_s: Array) -> dict[str, Array]:
    """Parts of TTFT that only a benchmark's way of asking has."""
    return {"opening burst": burst_s} if np.any(workload.burst_share) else {}


def _tpots(
    pool: Pool, workload: Workload, running: Array, slo: Slo, *, colocated: bool, mean: Array | None = None
) -> tuple[dict[str, Array], Array]:
    """TPOT at the mean batch and at those that percentiles of the time stay below; that of a full batch.

    `mean`: at the mean batch, where it is known. The router sends a request to the least loaded worker, so
    the pool's count N + z·sqrt(N) is spread evenly over the workers.
    """
    normal = NormalDist()
    quantiles = {"slo": float(slo.percentile)} | {f"p{round(p * 100)}": p for p in PERCENTILES}
    closed = workload.concurrency is not None  # a closed loop holds its batch
    beyond = () if closed else tuple(p for p in dict.fromkeys(quantiles.values()) if p != 0.5)
    loads = [pool.max_batch, *(peak_running(pool, running, normal.inv_cdf(p)) for p in beyond)]
    if mean is None:
        loads.append(running)
    full, *others = pool_tpot_s(pool, workload, np.stack(np.broadcast_arrays(*loads)), colocated)
    if mean is None:
        mean = others.pop()
    computed = dict(zip(beyond, others, strict=True))
    return {"mean": mean} | {name: computed.get(p, mean) for name, p in quantiles.items()}, full


def peak_running(pool: Pool, running: ArrayLike, z: ArrayLike) -> Array:
    """Running sequences per worker that are exceeded only beyond the percentile z, at most max_batch."""
    peak = peak_count(np.asarray(running) * pool.workers, z) / pool.workers
    return np.minimum(peak, pool.max_batch)


def _slots_run_short(
    pool: Pool, workload: Workload, running: Array, rate: Array, capacity: Array, z: Array
) -> Array:
    """Where more requests come than max_batch serves, on average or at the percentile of the batch."""
    if workload.concurrency is not None:
        return np.zeros(np.shape(running), dtype=bool)
    peak = peak_count(running * pool.workers, z) / pool.workers
    return (rate > capacity * (1 + 1e-9)) | (peak > pool.max_batch * (1 + 1e-9))


def metrics_of(served: Served, workload: Workload, slo: Slo, economics: Economics) -> Metrics:
    """What pools do, as metrics: latency at its percentiles, tokens, dollars, watts."""
    rate, ttft, tpots, pools = served.rate, served.ttft, served.tpots, served.pools
    gpus = sum((p.gpus for p in pools.values()), start=np.zeros(()))
    usd_per_h = sum((p.gpus * economics.usd_per_gpu_h[name] for name, p in pools.items()), start=np.zeros(()))
    watts = sum((p.gpus * economics.watt_per_gpu[name] for name, p in pools.items()), start=np.zeros(()))
    usd_per_s = usd_per_h / 3600.0
    steps = np.maximum(workload.osl - 1.0, 0.0)
    ttft_slo = ttft.quantile_s(slo.percentile)
    return Metrics(
        requests_per_s=rate,
        gpus=gpus,
        usd_per_h=usd_per_h,
        usd_per_million_output_tokens=usd_per_s / (rate * workload.osl) * 1e6,
        usd_per_million_tokens=usd_per_s / (rate * (workload.isl + workload.osl)) * 1e6,
        total_tok_per_s_per_gpu=rate * (workload.isl + workload.osl) / gpus,
        output_tok_per_s_per_gpu=rate * workload.osl / gpus,
        tok_per_s_per_user=1.0 / tpots["mean"],
        ttft_mean_s=ttft.mean_s,
        ttft_p50_s=ttft.quantile_s(0.5),
        ttft_p90_s=ttft.quantile_s(0.9),
        ttft_p99_s=ttft.quantile_s(0.99),
        ttft_slo_s=ttft_slo,
        tpot_mean_s=tpots["mean"],
        tpot_p50_s=tpots["p50"],
        tpot_p90_s=tpots["p90"],
        tpot_p99_s=tpots["p99"],
        tpot_slo_s=tpots["slo"],
        request_latency_mean_s=ttft.mean_s + tpots["mean"] * steps,
        request_latency_slo_s=ttft_slo + tpots["slo"] * steps,
        kv_transfer_mean_s=served.kv_transfer_s,
        power_kw=watts / 1e3,
        utilisation=served.utilisation,
        running=served.running,
        max_batch={name: p.max_batch for name, p in pools.items()},
        parts=served.parts,
        problem=served.problem,
    )


def meets(metrics: Metrics, slo: Slo) -> Array:
    """Where a deployment can do the work and keeps every limit of the SLO."""
    good = np.asarray(metrics.problem) == 0
    values = judged(metrics, slo)
    for name in LIMITS:
        limit = getattr(slo, name)
        if limit is not None:
            good = good & (np.asarray(values[name]) <= limit)
    return np.asarray(good)


LIMITS = ("ttft_s", "tpot_s", "request_latency_s")
"""Fields of Slo that latencies are held against."""


def judged(metrics: Metrics, slo: Slo) -> dict[str, Any]:
    """The latencies that the limits are held against, by the limit's name [s].

    Those at the SLO's percentile, times the room that the SLO leaves for errors of the prediction:
    request latency = f_ttft·TTFT + f_tpot·TPOT·(OSL − 1).
    """
    ttft, whole = metrics.ttft_slo_s, metrics.request_latency_slo_s
    if slo.ttft_factor != 1.0 or slo.tpot_factor != 1.0:
        with np.errstate(invalid="ignore"):  # endless less endless, where a queue never ends
            rest = np.where(np.isfinite(ttft), whole - ttft, np.inf)
        whole = slo.ttft_factor * ttft + slo.tpot_factor * rest
    return {
        "ttft_s": slo.ttft_factor * ttft,
        "tpot_s": slo.tpot_factor * metrics.tpot_slo_s,
        "request_latency_s": whole,
    }
