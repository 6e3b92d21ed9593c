"""A prefill and a decode pool sized for each other: how many workers of given types a rate asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pdplan.evaluate import (
    Economics,
)
from pdplan.latency import prefill_latency
from pdplan.laws.kv_transfer import Network
from pdplan.laws.roofline import Array
from pdplan.plan import Serving
from pdplan.pools import Pool, decode_tpot_s, first_step_s, solve_running
from pdplan.search.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
    least_number,
    workers_for_rate,
)
from pdplan.search.extra import MOST_EXTRA, cheapest_extra
from pdplan.search.limits import Limits
from pdplan.search.objective import Objective, Workers, ttft_limit_s
from pdplan.search.worker_types import WorkerTypes
from pdplan.transfer import kv_transfer
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
        part, sending, rate = problem.take(cases), prefill.take(cases), problem.take(cases).rate
        service, pool = sending.service, sending.candidates.with_workers(workers)
        fixed = first_step_s[cases] + service.handling_s
        if decode is not None:
            receiving = replace(
                decode,
                layout=decode.layout[cases],
                workers=decode.workers[cases],
                max_batch=decode.max_batch[cases],
            )
            transfer = kv_transfer(pool, receiving, part.workload, part.network, rate, service.time_s)
            fixed = fixed + transfer.exposed_s
        jitter = 0.0 if decode is None else part.network.jitter_s
        latency = prefill_latency(pool.servers, service, rate, part.workload, fixed, jitter)
        return np.asarray(latency.quantile_s(part.slo.percentile) <= limit_s[cases])

    # Mostly the least that capacity asks for do, or no number does.
    at_low, possible = good(np.tile(every, 2), np.concatenate([low, high])).reshape(2, -1)
    open_ = np.flatnonzero(possible & ~at_low)
    answer = np.where(possible, low, np.inf)
    if len(open_):
        more = least_number(lambda cases, n: good(open_[cases], n), low[open_] + 1.0, high[open_])
        answer[open_] = more
    return answer


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

    def cost(cases: Array, senders: Array, extra: Array) -> Array:
        receiving = decode.choices.candidates.take(cases)
        receivers = workers_of(receiving, decode.workers[cases] + extra)
        return problem.objective.pair_cost(workers_of(prefill.candidates.take(cases), senders), receivers)

    could = np.flatnonzero(least < workers)
    if not len(could):
        return np.zeros(len(workers))
    least = np.array(least)
    least[could] = np.maximum(least[could], _beside_idle_workers(problem, prefill, decode, could))
    return cheapest_extra(needed, cost, workers, least, best * (1 + 1e-9), within)


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
