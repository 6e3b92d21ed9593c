"""Worker types of one role on one accelerator, as arrays: what fits, how fast, how many are needed.

Every function here is exact: it inverts `evaluate`, it does not approximate it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np

from pdplan.compose import World, build_setting, with_copies
from pdplan.evaluate import peak_running, pool_memory
from pdplan.laws.roofline import Array
from pdplan.layout import Layout
from pdplan.plan import PoolPlan, Serving
from pdplan.roots import increasing_root
from pdplan.search.workers.layouts import layouts
from pdplan.search.workers.whole import least_whole
from pdplan.serving.pools import (
    Pool,
    PrefillService,
    handover_tokens,
    pool_tpot_s,
    prefill_service,
    solve_running,
)
from pdplan.serving.queueing import mean_for_peak, peak_count
from pdplan.step import Setting
from pdplan.workload import MAX_RATE_PER_S, Slo, Speculation, Workload

PROMPTS_PER_SERVER = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Worker types of one role on one accelerator. Arrays of one length."""

    hardware: str
    pool: Pool
    """workers is 1; max_batch is the most that a worker takes."""
    unit_cost: Array
    """Of one worker: $/h, or accelerators where prices are unknown (and until they are `priced`)."""
    enumerated: int
    """Layouts looked at, those that do not fit included."""
    chunk_tokens: int | None = None
    """As in the plan."""

    def __len__(self) -> int:
        return int(np.size(self.pool.max_batch))

    def take(self, index: Any) -> Candidates:
        pool = replace(
            self.pool,
            layout=self.pool.layout[index],
            workers=self.pool.workers[index],
            max_batch=self.pool.max_batch[index],
        )
        return replace(self, pool=pool, unit_cost=self.unit_cost[index])

    def priced(self, unit_price: float) -> Candidates:
        """At so much for one accelerator."""
        return replace(self, unit_cost=self.pool.layout.gpus * unit_price)

    def with_workers(self, workers: Array) -> Pool:
        return replace(self.pool, workers=np.asarray(workers, dtype=float))

    def plan(self, index: SupportsIndex, workers: int, max_batch: int) -> PoolPlan:
        layout = self.pool.layout
        return PoolPlan(
            hardware=self.hardware,
            workers=workers,
            tp=int(layout.tp[index]),
            pp=int(layout.pp[index]),
            dp=int(layout.dp[index]),
            ep=int(layout.ep[index]),
            max_batch=max_batch,
            chunk_tokens=self.chunk_tokens,
        )


def possible_layouts(world: World, setting: Setting, hardware: str, max_gpus: int | None) -> Layout:
    """Layouts that the model's shape and the accelerator's links allow, whether or not they fit in memory."""
    accelerator = world.accelerator(hardware)
    limits = [g for g in (max_gpus, 1 if accelerator.scale_up is None else None) if g is not None]
    if accelerator.scale_out is None:  # no network is known: no worker beyond a scale-up domain
        limits.append(max(accelerator.scale_up_domain_size, 1))
    return layouts(
        setting.stack,
        accelerator.scale_up_domain_size,
        accelerator.accelerators_per_node,
        min(limits) if limits else None,
        bool(setting.constants.engine.partial_ep),
    )


@dataclass(frozen=True, kw_only=True)
class WorkerLimits:
    """What restricts worker types beside memory."""

    max_gpus: int | None = None
    """Accelerators of one worker."""
    chunk_tokens: int | None = None


def fitting_candidates(
    world: World, serving: Serving, hardware: str, workload: Workload, limits: WorkerLimits
) -> Candidates:
    """All layouts of the model on one accelerator that hold their weights and at least one request."""
    setting = build_setting(world, serving, hardware, limits.chunk_tokens)
    max_gpus, chunk_tokens = limits.max_gpus, limits.chunk_tokens
    found = with_copies(possible_layouts(world, setting, hardware, max_gpus), serving)
    count = int(np.size(found.tp))
    pool = Pool(
        setting=setting,
        layout=found,
        workers=np.ones(count),
        max_batch=np.ones(count),
        speculation=serving.speculation,
    )
    if not count:
        return Candidates(
            hardware=hardware, pool=pool, unit_cost=np.ones(0), enumerated=0, chunk_tokens=chunk_tokens
        )
    held = pool_memory(pool, workload).max_sequences
    pool = replace(pool, max_batch=held)
    everything = Candidates(
        hardware=hardware,
        pool=pool,
        unit_cost=found.gpus,
        enumerated=count,
        chunk_tokens=chunk_tokens,
    )
    # Every attention rank and stage needs a sequence of its own to be worth having.
    return everything.take(np.flatnonzero(held >= np.maximum(pool.micro_batches_per_worker, 1.0)))


@dataclass(frozen=True, kw_only=True)
class PrefillChoices:
    """Prefill worker types times prompts per batch."""

    candidates: Candidates
    service: PrefillService

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, index: Any) -> PrefillChoices:
        service = self.service
        picked = replace(
            service,
            time_s=service.time_s[index],
            interval_s=service.interval_s[index],
            prompts=service.prompts[index],
            steps=np.broadcast_to(service.steps, service.time_s.shape)[index],
            handling_s=np.broadcast_to(service.handling_s, service.time_s.shape)[index],
        )
        return replace(self, candidates=self.candidates.take(index), service=picked)

    def priced(self, unit_price: float) -> PrefillChoices:
        return replace(self, candidates=self.candidates.priced(unit_price))


def batch_sizes(new_tokens: float, step_tokens: float) -> list[int]:
    """Prompts per batch of which no smaller number fills its steps as well.

    A batch is cut into equal chunks of at most a step's tokens: what fills them no better takes as long for
    each prompt, and every prompt waits for more others.

    >>> batch_sizes(2048, 8192), batch_sizes(5000, 8192), batch_sizes(8192, 8192)
    ([1, 2, 4], [1, 4, 8], [1])
    """
    found: list[int] = []
    fullest = 0.0
    for prompts in PROMPTS_PER_SERVER:
        tokens = prompts * new_tokens
        chunk = tokens / np.ceil(tokens / step_tokens - 1e-9)
        if chunk > fullest * (1 + 1e-9):
            found.append(prompts)
            fullest = chunk
    return found


def prefill_choices(fitting: Candidates, workload: Workload) -> PrefillChoices:
    """Every fitting worker type with every number of prompts per batch that may pay."""
    step_tokens = fitting.pool.setting.constants.engine.max_step_tokens
    count = len(fitting)
    indices, batches = [], []
    for prompts in batch_sizes(workload.new_tokens, step_tokens):
        indices.append(np.arange(count))
        batches.append(np.full(count, float(prompts)))
    index, prompts_each = np.concatenate(indices), np.concatenate(batches)
    chosen = fitting.take(index)
    held = chosen.pool.max_batch
    batch = prompts_each * chosen.pool.micro_batches_per_worker
    pool = replace(chosen.pool, max_batch=batch, speculation=Speculation())
    chosen = replace(chosen, pool=pool).take(np.flatnonzero(batch <= held))
    service = prefill_service(chosen.pool, workload)
    shape = np.shape(chosen.pool.max_batch)
    service = replace(
        service,
        time_s=np.broadcast_to(service.time_s, shape),
        interval_s=np.broadcast_to(service.interval_s, shape),
        prompts=np.broadcast_to(service.prompts, shape),
    )
    return PrefillChoices(candidates=chosen, service=service)


@dataclass(frozen=True, kw_only=True)
class DecodeChoices:
    """Decode (or colocated) worker types with the batch that the objective allows."""

    candidates: Candidates
    limit: Array
    """Running sequences per worker at which TPOT meets its limit, or memory is full."""
    by_memory: Array
    """Where memory, not TPOT, sets that limit."""
    rate_per_worker: Array
    """Requests/s of a worker at that limit: an upper bound for any number of workers."""
    fastest_tpot_s: Array
    """TPOT of a single running sequence per server: no batch is faster."""
    colocated: bool

    def __len__(self) -> int:
        return len(self.candidates)

    @property
    def first_steps(self) -> float:
        """The first decode step of a disaggregated request, hand-over included, over TPOT."""
        return 1.0 + handover_tokens(self.candidates.pool)

    def limit_tpot_s(self, workload: Workload) -> Array:
        """TPOT at the limit."""
        return self.limit / (workload.osl * self.rate_per_worker)

    def take(self, index: Any) -> DecodeChoices:
        return replace(
            self,
            candidates=self.candidates.take(index),
            limit=self.limit[index],
            by_memory=self.by_memory[index],
            rate_per_worker=self.rate_per_worker[index],
            fastest_tpot_s=self.fastest_tpot_s[index],
        )

    def priced(self, unit_price: float) -> DecodeChoices:
        return replace(self, candidates=self.candidates.priced(unit_price))


def decode_choices(
    fitting: Candidates,
    workload: Workload,
    tpot_limit_s: float | None,
    colocated: bool,
    at_least: Array | None = None,
) -> DecodeChoices:
    """The largest batch of every worker type: TPOT(limit) = tpot_limit, or the memory's.

    Types that are too slow at any batch are dropped, as are those that serve less than `at_least`
    each [requests/s]: for these one step is looked at, not the limit solved for.
    """
    if at_least is not None:
        fitting = fitting.take(np.flatnonzero(_serve(fitting, workload, tpot_limit_s, colocated, at_least)))
    pool = fitting.pool
    if not len(fitting):
        nothing = np.zeros(0)
        return DecodeChoices(
            candidates=fitting,
            limit=nothing,
            by_memory=nothing.astype(bool),
            rate_per_worker=nothing,
            fastest_tpot_s=nothing,
            colocated=colocated,
        )
    lowest = np.full(len(fitting), 1e-6)
    most = np.asarray(pool.max_batch, dtype=float)

    def tpot_s(running: Array) -> Array:
        return np.broadcast_to(pool_tpot_s(pool, workload, running, colocated), running.shape)

    fastest, slowest = tpot_s(np.stack([lowest, most]))
    if tpot_limit_s is None:
        limit, tpot = most, slowest
    else:

        def surplus(tpot: Array) -> Array:
            return most * (tpot / tpot_limit_s - 1.0)  # in sequences, as the root is: one tolerance for both

        ends = (surplus(fastest), surplus(slowest))
        limit = increasing_root(lambda running: surplus(tpot_s(running)), lowest, most, ends=ends)
        tpot = np.where(limit >= most, slowest, np.maximum(fastest, tpot_limit_s))
    everything = DecodeChoices(
        candidates=fitting,
        limit=limit,
        by_memory=limit >= most,
        rate_per_worker=limit / (workload.osl * tpot),
        fastest_tpot_s=fastest,
        colocated=colocated,
    )
    if tpot_limit_s is None:
        return everything
    return everything.take(np.flatnonzero(fastest < tpot_limit_s))


def _serve(
    fitting: Candidates, workload: Workload, tpot_limit_s: float | None, colocated: bool, rate: Array
) -> Array:
    """Where a worker serves `rate` within memory and TPOT, were there no fluctuation.

    rate·OSL·TPOT ≤ limit sequences run then; what a worker serves rises with how many run.
    """
    most = np.asarray(fitting.pool.max_batch, dtype=float)
    within = np.inf if tpot_limit_s is None else rate * workload.osl * tpot_limit_s
    running = np.maximum(np.minimum(within, most), 1e-6)
    tpot = np.broadcast_to(pool_tpot_s(fitting.pool, workload, running, colocated), most.shape)
    return np.asarray(running >= rate * workload.osl * tpot * (1 - 1e-9))


def largest_rate(choices: DecodeChoices, workers: Array, workload: Workload, slo: Slo) -> Array:
    """The rate at which the percentile of the batch just reaches its limit.

    peak(N)/workers = limit  ⇒  N = mean_for_peak(workers·limit), and λ = N/(OSL·TPOT(N/workers)).
    Where the SLO allows for errors, TPOT is that of its pessimistic end: if each step takes f times as
    long, requests stay f times as long, and the pool carries a rate lower by f.
    """
    mean = mean_for_peak(workers * choices.limit, slo.z)
    each = mean / workers
    tpot = pool_tpot_s(choices.candidates.pool, workload, each, choices.colocated)
    return np.asarray(mean / (workload.osl * slo.tpot_factor * np.maximum(tpot, 1e-300)))


def running_at(choices: DecodeChoices, workers: Array, rate: Array, workload: Workload) -> Array:
    """Sequences on each of so many workers at a rate that is no more than `largest_rate`."""
    within = replace(choices.candidates.with_workers(workers), max_batch=choices.limit)
    ends = (choices.fastest_tpot_s, choices.limit_tpot_s(workload))
    return solve_running(within, workload, rate, choices.colocated, ends)


def most_running(choices: DecodeChoices, workers: Array, rate: Array, workload: Workload, slo: Slo) -> Array:
    """Sequences on each of so many workers at their `largest_rate`, or at `rate` where that is less."""
    if slo.tpot_factor != 1.0 or np.any(rate >= MAX_RATE_PER_S):
        return running_at(choices, workers, rate, workload)
    return mean_for_peak(workers * choices.limit, slo.z) / workers


def least_workers(choices: DecodeChoices, rate: float | Array, slo: Slo) -> Array:
    """Fewer workers cannot serve `rate` even without fluctuation: a bound that costs nothing."""
    return np.maximum(np.ceil(slo.tpot_factor * rate / choices.rate_per_worker * (1 - 1e-12)), 1.0)


def workers_for_rate(choices: DecodeChoices, rate: float | Array, workload: Workload, slo: Slo) -> Array:
    """The least number of workers whose batch percentile stays within the limit at `rate`.

    Without fluctuation n workers carry n·limit sequences, and the rate makes
    M = f · λ · OSL · TPOT(limit) of them at most: n ≥ M/limit. Fewer run, faster, so that a percentile
    of M below n·limit is enough: n ≤ (M + z·√M)/limit. Few numbers lie between the two.
    """
    low = least_workers(choices, rate, slo)
    mean = slo.tpot_factor * rate * choices.limit / choices.rate_per_worker
    high = np.maximum(low, np.ceil(peak_count(mean, slo.z) / choices.limit * (1 + 1e-9)))
    rates = np.broadcast_to(np.asarray(rate, dtype=float), np.shape(low))
    return least_whole(lambda k, n: largest_rate(choices.take(k), n, workload, slo) >= rates[k], low, high)


def batch_to_configure(pool: Pool, running: Array, limit: Array, slo: Slo) -> Array:
    """The max_batch to set: the limit in whole sequences, never below what the percentile needs."""
    peak = peak_running(replace(pool, max_batch=np.full(np.shape(limit), np.inf)), running, slo.z)
    whole = np.floor(limit + 1e-9)
    return np.maximum(np.where(whole >= peak, whole, np.ceil(peak - 1e-9)), 1.0)
