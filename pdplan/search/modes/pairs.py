"""A prefill and a decode pool sized for each other: how many workers of given types a rate asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pdplan.evaluate import (
    Economics,
)
from pdplan.laws.kv_transfer import Network
from pdplan.laws.roofline import Array
from pdplan.plan import Serving
from pdplan.search.limits import Limits
from pdplan.search.modes.extra import MOST_EXTRA, cheapest_extra
from pdplan.search.objective import Objective, Workers, ttft_limit_s
from pdplan.search.workers.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
    workers_for_rate,
)
from pdplan.search.workers.whole import least_whole
from pdplan.search.workers.worker_types import WorkerTypes
from pdplan.serving.latency import prefill_latency
from pdplan.serving.pools import Pool, decode_tpot_s, first_step_s, solve_running
from pdplan.serving.transfer import kv_transfer
from pdplan.workload import Slo, Workload


@dataclass(frozen=True, kw_only=True)
class SizedDecode:
    """Decode worker types with the least number of workers for the rate."""

    choices: DecodeChoices
    workers: Array
    cost: Array
    running: Array
    """Sequences on each worker."""
    tpot_mean_s: Array
    tpot_slo_s: Array
    first_step_s: Array

    def take(self, index: Any) -> SizedDecode:
        return SizedDecode(
            choices=self.choices.take(index),
            workers=self.workers[index],
            cost=self.cost[index],
            running=self.running[index],
            tpot_mean_s=self.tpot_mean_s[index],
            tpot_slo_s=self.tpot_slo_s[index],
            first_step_s=self.first_step_s[index],
        )

    @property
    def pool(self) -> Pool:
        return self.choices.candidates.with_workers(self.workers)

    @property
    def hardware(self) -> str:
        return self.choices.candidates.hardware


def size_decode(
    choices: DecodeChoices, rate: float | Array, workload: Workload, slo: Slo, spare: int = 0
) -> SizedDecode:
    """Least decode workers for the rate, with the TPOT that results."""
    workers = workers_for_rate(choices, rate, workload, slo)
    return decode_of(choices, workers, rate, workload, slo, spare)


def decode_of(
    choices: DecodeChoices,
    workers: Array,
    rate: float | Array,
    workload: Workload,
    slo: Slo,
    spare: int = 0,
) -> SizedDecode:
    """So many decode workers of each type; `spare` ones are paid for and not counted on."""
    pool = choices.candidates.with_workers(workers)
    # So many workers are enough: no more run than the limit.
    within = replace(pool, max_batch=choices.limit)
    ends = (choices.fastest_tpot_s, choices.limit_tpot_s(workload))
    running = solve_running(within, workload, rate, colocated=False, tpots_s=ends)
    return decode_at(choices, workers, running, workload, slo, spare)


def decode_at(
    choices: DecodeChoices, workers: Array, running: Array, workload: Workload, slo: Slo, spare: int = 0
) -> SizedDecode:
    """Decode workers of each type that each have so many sequences running."""
    pool = choices.candidates.with_workers(workers)
    peak = running + slo.z * np.sqrt(running * workers) / workers
    shape = np.shape(workers)
    loads = np.stack(np.broadcast_arrays(running, np.minimum(peak, choices.limit)))
    tpot_mean, tpot_slo = np.broadcast_to(decode_tpot_s(pool, workload, loads), loads.shape)
    return SizedDecode(
        choices=choices,
        workers=workers,
        cost=(workers + spare) * choices.candidates.unit_cost,
        running=np.broadcast_to(running, shape),
        tpot_mean_s=tpot_mean,
        tpot_slo_s=tpot_slo,
        first_step_s=np.broadcast_to(first_step_s(pool, workload, running, tpot_mean), shape),
    )


def sized_types(
    types: WorkerTypes, choices: DecodeChoices, workload: Workload, slo: Slo, spare: int
) -> SizedDecode:
    """`size_decode`, remembered: prices, and limits of TTFT and latency, change no decode pool."""
    assert workload.rate is not None
    found = types.remembered(
        (float(workload.rate), workload.osl, slo.z, slo.tpot_factor),
        choices.rate_per_worker,
        lambda: size_decode(choices, workload.rate, workload, slo),
    )
    return replace(found, choices=choices, cost=(found.workers + spare) * choices.candidates.unit_cost)


@dataclass(frozen=True, kw_only=True)
class PairProblem:
    """All that stays the same while pairs of one accelerator pair are tried."""

    serving: Serving
    workload: Workload
    slo: Slo
    network: Network
    economics: Economics
    objective: Objective
    limits: Limits

    @property
    def rate(self) -> float:
        assert self.workload.rate is not None
        return self.workload.rate

    def take(self, index: Array) -> PairProblem:
        """The same where each case has a rate of its own."""
        if np.ndim(self.rate) == 0:
            return self
        return replace(self, workload=self.workload.at_rate(np.asarray(self.rate)[index]))


def least_prefill(prefill: PrefillChoices, rate: float | Array) -> Array:
    """Prefill workers with strictly more capacity than load: fewer never do."""
    per_worker = prefill.service.rate_per_server * prefill.candidates.pool.servers_per_worker
    return np.asarray(np.floor(rate / per_worker) + 1.0)


def least_prefill_workers(
    problem: PairProblem, prefill: PrefillChoices, decode: Pool | None, first_step_s: Array, limit_s: Array
) -> Array:
    """Least prefill workers with which TTFT meets its limit, infinite where none do.

    Without a decode pool: a lower bound, transfer taken as free.
    """
    low = least_prefill(prefill, problem.rate)
    high = low * 2 + 64  # queues of this many servers are as good as empty
    every = np.arange(len(low))
    first_step_s, limit_s = (np.broadcast_to(each, low.shape) for each in (first_step_s, limit_s))

    def good(cases: Array, workers: Array) -> Array:
        receiving = None if decode is None else _taken(decode, cases)
        before = before_decode_s(problem.take(cases), prefill.take(cases), workers, receiving)
        return before + first_step_s[cases] <= limit_s[cases]

    # Mostly the least that capacity asks for do, or no number does.
    at_low, possible = good(np.tile(every, 2), np.concatenate([low, high])).reshape(2, -1)
    open_ = np.flatnonzero(possible & ~at_low)
    answer = np.where(possible, low, np.inf)
    if len(open_):
        more = least_whole(lambda cases, n: good(open_[cases], n), low[open_] + 1.0, high[open_])
        answer[open_] = more
    return answer


def _taken(pool: Pool, index: Array) -> Pool:
    return replace(
        pool, layout=pool.layout[index], workers=pool.workers[index], max_batch=pool.max_batch[index]
    )


def before_decode_s(
    problem: PairProblem, prefill: PrefillChoices, workers: Array, decode: Pool | None
) -> Array:
    """TTFT at its percentile but for the first decode step; without a decode pool transfer is free [s]."""
    service, pool = prefill.service, prefill.candidates.with_workers(workers)
    fixed, jitter = service.handling_s, 0.0
    if decode is not None:
        transfer = kv_transfer(pool, decode, problem.workload, problem.network, problem.rate, service.time_s)
        fixed, jitter = fixed + transfer.exposed_s, problem.network.jitter_s
    latency = prefill_latency(pool.servers, service, problem.rate, problem.workload, fixed, jitter)
    return latency.quantile_s(problem.slo.percentile)


def _too_late(
    problem: PairProblem, prefill: PrefillChoices, decode: SizedDecode, extra: Array, enough: Array
) -> Array:
    """Where so many prefill workers surely miss the TTFT limit beside so many more decode workers.

    They leave the first decode step a time, and with it TPOT some t. TPOT(N) = t at most asks for
    N = λ·OSL·t/workers sequences (Little) to take no longer than t: one step says it, no root is solved for.
    """
    choices, workers = decode.choices, decode.workers + extra
    pool = choices.candidates.with_workers(workers)
    limit = ttft_limit_s(problem.slo, problem.workload.osl, choices.fastest_tpot_s)
    left_s = limit - before_decode_s(problem, prefill, np.maximum(enough, 1.0), pool)
    tpot_s = np.maximum(left_s / choices.first_steps, 0.0)
    running = np.minimum(problem.rate * problem.workload.osl * tpot_s / workers, choices.limit)
    slower = decode_tpot_s(pool, problem.workload, np.maximum(running, 1e-6)) > tpot_s * (1 + 1e-9)
    return slower & (running < choices.limit)


def extra_decode_workers(
    problem: PairProblem,
    prefill: PrefillChoices,
    workers: Array,
    decode: SizedDecode,
    least: Array,
    best: float = np.inf,
    within: float = np.inf,
) -> Array:
    """Decode workers beyond the least with which each pair costs least; plans above `best` don't count.

    They shorten the first decode step, which may save more prefill workers than they cost. `least`
    bounds the prefill workers of each pair from below, `workers` do without any extra; nor do pairs count
    that cost more than `within` times the cheapest of them.
    """

    def needed(cases: Array, extra: Array) -> Array:
        part = problem.take(cases)
        more = with_extra(part, decode.take(cases), extra)
        limit = ttft_limit_s(problem.slo, problem.workload.osl, more.tpot_slo_s)
        return least_prefill_workers(part, prefill.take(cases), more.pool, more.first_step_s, limit)

    def short(cases: Array, extra: Array, enough: Array) -> Array:
        return _too_late(problem.take(cases), prefill.take(cases), decode.take(cases), extra, enough)

    sending, receiving = prefill.candidates, decode.choices.candidates
    gpus_p, gpus_d = sending.pool.layout.gpus, receiving.pool.layout.gpus

    def cost(cases: Array, senders: Array, extra: Array) -> Array:
        receivers = Workers(receiving.hardware, gpus_d[cases], decode.workers[cases] + extra)
        return problem.objective.pair_cost(Workers(sending.hardware, gpus_p[cases], senders), receivers)

    could = np.flatnonzero(least < workers)
    if not len(could):
        return np.zeros(len(workers))
    least = np.array(least)
    least[could] = np.maximum(least[could], _beside_idle_workers(problem, prefill, decode, could))
    return cheapest_extra(needed, cost, workers, least, best * (1 + 1e-9), within, short)


def _beside_idle_workers(
    problem: PairProblem, prefill: PrefillChoices, decode: SizedDecode, cases: Array
) -> Array:
    """Prefill workers that no number of decode workers undercuts: each would run one request."""
    choices = decode.choices.take(cases)
    idle = choices.candidates.with_workers(np.full(len(cases), float(MOST_EXTRA)))
    fastest = choices.fastest_tpot_s
    limit = ttft_limit_s(problem.slo, problem.workload.osl, fastest)
    part = problem.take(cases)
    return least_prefill_workers(part, prefill.take(cases), idle, fastest * choices.first_steps, limit)


def workers_of(candidates: Candidates, number: Array) -> Workers:
    return Workers(candidates.hardware, candidates.pool.layout.gpus, number)


def with_extra(problem: PairProblem, decode: SizedDecode, extra: Array) -> SizedDecode:
    workers, spare = decode.workers + extra, problem.objective.spare_workers
    return decode_of(decode.choices, workers, problem.rate, problem.workload, problem.slo, spare)
