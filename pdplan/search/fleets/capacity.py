"""How many requests so many workers of a kind serve within the limits: what a mix is made of.

For a worker type and a number of workers n, R(n) is the highest rate at which its requests keep
every limit by themselves. Pooling helps, so R(n)/n never falls with n: between two counts a ≤ n ≤ b,
n·R(a)/a ≤ R(n) ≤ n·R(b)/b. Mixes are chosen by these two lines, and evaluated before they count.

Prefill meets decode in TTFT, by the first decode step, and in the request latency. Decode is
therefore planned for a ceiling on TPOT, one level of several; prefill takes it as given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.roots import increasing_root
from pdplan.search.goodput.rates import highest_rate
from pdplan.search.modes.colocated import served_at
from pdplan.search.workers.candidates import (
    DecodeChoices,
    PrefillChoices,
    batch_to_configure,
    largest_rate,
)
from pdplan.serving.latency import prefill_latency
from pdplan.serving.pools import pool_tpot_s, solve_running
from pdplan.serving.queueing import mean_for_peak
from pdplan.workload import Slo, Workload

SINGLE_COUNTS = 8
"""Numbers of workers up to here are options of their own."""
GROWTH = 1.5
"""Beyond, a range of counts ends at this many times its start."""
COARSE_COUNTS = (1, 2, 4, 16)
"""Where types are compared before those that are left are followed over all counts."""
MANY = 64
"""A rate for more workers than this is planned more coarsely at first: rates per worker hardly change."""
MANY_GROWTH = 4.0
MANY_GPUS, MANY_COARSE = 1000, (4, 64)
"""A rate for more accelerators than this: types are compared at many workers, not at a few."""
AT_ONCE = 6
"""Types of each size that are evaluated together, best first."""
TOLERANCE = 3e-4
"""Rates are found to this share of themselves, from below."""
TRICKLE_PER_S = 1e-4
"""Workers that serve less than a request in three hours within the limits serve nobody."""

Choices = PrefillChoices | DecodeChoices


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the workers of one role have to keep."""

    workload: Workload
    slo: Slo
    ttft_s: float
    """For prefill: what TTFT may take, infinite without a limit."""
    after_prefill_s: float
    """For prefill: the first decode step and the KV transfer."""
    tpot_s: float
    """For decode: the ceiling on TPOT at the SLO's percentile, infinite without one."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A worker type of one role on one accelerator, with its rate by number of workers."""

    role: str
    hardware: str
    type: Choices
    """Of length one."""
    gpus_each: int
    counts: tuple[int, ...]
    rates: Array
    """Requests/s of so many workers, by `counts`."""
    limits: Limits
    number: int = -1
    """Of the type, among those that the curve was chosen from."""

    def with_counts(self, counts: Iterable[int]) -> Curve:
        """The curve with its rate at these counts, too."""
        new = sorted({n for n in counts if 1 <= n <= self.counts[-1]} - set(self.counts))
        if not new:
            return self
        merged = {**dict(zip(self.counts, self.rates, strict=True)), **{n: self.rate_at(n) for n in new}}
        every = tuple(sorted(merged))
        return replace(self, counts=every, rates=np.array([merged[n] for n in every]))

    def at_counts(self, counts: Iterable[int]) -> Curve:
        """The curve with its rates at these counts alone, in one call."""
        every = tuple(counts)
        workers, same = np.array(every, dtype=float), np.zeros(len(every), dtype=int)
        return replace(
            self, counts=every, rates=_rates(self.role, self.type.take(same), workers, self.limits)
        )

    def rate_at(self, workers: int) -> float:
        """Requests/s of any number of workers."""
        return float(_rates(self.role, self.type, np.array([float(workers)]), self.limits)[0])

    def max_batch_at(self, workers: int, rate: float) -> int:
        """What the engine is to be set to for so many workers that serve `rate` together."""
        if isinstance(self.type, PrefillChoices):
            return int(self.type.candidates.pool.max_batch[0])
        pool = self.type.candidates.with_workers(np.array([float(workers)]))
        running = solve_running(pool, self.limits.workload, rate, colocated=self.role == "colocated")
        return int(batch_to_configure(pool, running, self.type.limit, self.limits.slo)[0])


def counts_up_to(most: int) -> tuple[int, ...]:
    """The numbers of workers at which rates are known: all small ones, then geometric.

    >>> counts_up_to(5), counts_up_to(40)
    ((1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6, 7, 8, 12, 18, 27, 40))
    >>> counts_up_to(1000)
    (1, 4, 16, 64, 256, 1000)
    """
    few = most <= MANY
    found = list(range(1, min(most, SINGLE_COUNTS if few else 1) + 1))
    while found and found[-1] < most:
        found.append(min(int(found[-1] * (GROWTH if few else MANY_GROWTH)), most))
    return tuple(found)


def curves(
    role: str,
    types: Mapping[str, Choices],
    limits: Limits,
    most_gpus: Mapping[str, float],
    batches: Mapping[str, Array] | None = None,
) -> list[Curve]:
    """The curves of every type that no other on the same accelerator beats at every count.

    `batches`: by accelerator, those with which decode workers keep the ceiling on TPOT, if known.
    """
    found: list[Curve] = []
    free = replace(limits, tpot_s=np.inf)  # batches that keep the ceiling on TPOT are worked out once
    for hardware, choices in types.items():
        if isinstance(choices, DecodeChoices):
            quick = np.flatnonzero(choices.fastest_tpot_s < limits.tpot_s)
            largest = choices.limit if batches is None else batches[hardware]
            choices, largest, numbers = choices.take(quick), largest[quick], quick
            own = replace(choices, limit=largest) if batches is not None else _within_tpot(choices, limits)
            within = _Kinds(role=role, hardware=hardware, choices=own, limits=free)
        else:
            numbers = np.arange(len(choices))
            within = _Kinds(role=role, hardware=hardware, choices=choices, limits=free)
        kept, rates = _undominated(within, most_gpus[hardware])
        for k, counts, mine in _followed(within.take(kept), rates, most_gpus[hardware]):
            one = choices.take(kept[[k]])
            found.append(
                Curve(
                    role=role,
                    hardware=hardware,
                    type=one,
                    gpus_each=int(one.candidates.pool.layout.gpus[0]),
                    counts=counts,
                    rates=mine,
                    limits=limits,
                    number=int(numbers[kept[k]]),
                )
            )
    return found


def quickest(choices: PrefillChoices) -> PrefillChoices:
    """Prefill types of which no other takes as few accelerators and is as good in all that its queue knows.

    Waiting grows with the interval between batches and with its share of a prompt, and falls with the servers
    that share the queue: who is behind in nothing serves as much, at any number of workers and any limit.
    """
    pool, service = choices.candidates.pool, choices.service
    measures = (
        pool.layout.gpus,
        -pool.servers_per_worker,
        service.interval_s,
        service.interval_s / service.prompts,
        service.time_s,
        service.handling_s,
    )
    shape = np.shape(service.time_s)
    each = np.stack([np.broadcast_to(m, shape) for m in measures])
    left, kept = np.lexsort(each[::-1]), []
    while len(left):  # in this order nobody is beaten by one who comes later
        kept.append(int(left[0]))
        left = left[np.any(each[:, left] < each[:, left[:1]], axis=0)]
    return choices.take(np.sort(np.array(kept, dtype=int)))


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True, kw_only=True)
class _Kinds:
    """Worker types of one role on one accelerator, with the limits that are left to keep."""

    role: str
    hardware: str
    choices: Choices
    limits: Limits

    @property
    def gpus(self) -> Array:
        return np.asarray(self.choices.candidates.pool.layout.gpus, dtype=float)

    def take(self, index: Array) -> _Kinds:
        return replace(self, choices=self.choices.take(index))

    def rates(self, index: Array, workers: Array) -> Array:
        """Requests/s of so many workers of each of these."""
        return _rates(self.role, self.choices.take(index), workers, self.limits)


def _undominated(kinds: _Kinds, most_gpus: float) -> tuple[Array, Array]:
    """Types that no type of as few accelerators beats, nor several smaller workers; their coarse rates.

    The best of each size by an upper bound is evaluated first; what cannot beat it never is.
    """
    gpus = kinds.gpus
    # The last column stands for any large number of workers.
    each = _upper_rates(kinds)
    coarse = MANY_COARSE if takes_many(each / gpus, kinds.limits) else COARSE_COUNTS
    width = len(coarse)
    bound = each[:, None] * np.asarray([*coarse, 1.0])
    rates = np.full(bound.shape, np.nan)
    open_ = (each > 0) & (gpus <= most_gpus)
    while open_.any():
        index = np.flatnonzero(open_)
        order = index[np.lexsort((-bound[index, -1], gpus[index]))]
        _, start, group = np.unique(gpus[order], return_index=True, return_inverse=True)
        first = order[np.arange(len(order)) - start[group] < AT_ONCE]
        workers = np.tile(np.asarray(coarse, dtype=float), len(first))
        found = kinds.rates(np.repeat(first, width), workers)
        rates[first], open_[first] = np.column_stack([found.reshape(-1, width), each[first]]), False
        for k in first:
            times = np.floor(gpus / gpus[k])
            beaten = np.all(rates[k] * times[:, None] >= bound * (1 - 1e-12), axis=1) & (times >= 1)
            open_ &= ~beaten
    known = np.flatnonzero(np.nan_to_num(rates[:, :width]).max(axis=1) > 0)
    kept: list[int] = []
    for k in known[np.lexsort((-rates[known, -1], gpus[known]))]:
        if not any(np.all(rates[o] * (gpus[k] // gpus[o]) >= rates[k] * (1 - 1e-12)) for o in kept):
            kept.append(int(k))
    index = np.asarray(kept, dtype=int)
    return index, rates[index, :width]


def takes_many(rate_per_gpu: Array, limits: Limits) -> bool:
    """Whether the rate takes many accelerators, whatever kind of worker serves it."""
    best = float(rate_per_gpu.max(initial=0.0))
    return float(limits.workload.rate or 0.0) > MANY_GPUS * best > 0


def _followed(kinds: _Kinds, coarse: Array, most_gpus: float) -> list[tuple[int, tuple[int, ...], Array]]:
    """Types by number, the counts of each up to one that serves the whole rate or takes all accelerators,
    and its rates at these."""
    demand = float(kinds.limits.workload.rate or 0.0)
    known = MANY_COARSE if coarse.shape[1] == len(MANY_COARSE) else COARSE_COUNTS
    gpus = kinds.gpus
    each: list[tuple[int, ...]] = []
    for k in range(len(gpus)):
        # R(n) >= n·R(c)/c beyond any c: so many are enough.
        enough = min(
            max(c, int(np.ceil(demand * c / rate)))
            for c, rate in zip(known, coarse[k], strict=True)
            if rate > 0
        )
        each.append(counts_up_to(int(min(np.floor(most_gpus / gpus[k]), enough))))
    if not each:
        return []
    index = np.repeat(np.arange(len(each)), [len(counts) for counts in each])
    workers = np.concatenate([np.asarray(counts, dtype=float) for counts in each])
    rates = kinds.rates(index, workers)
    found = []
    for k, counts in enumerate(each):
        mine = rates[index == k]
        serving = np.flatnonzero(mine >= demand)
        upto = int(serving[0]) + 1 if len(serving) else len(counts)
        if mine[:upto].max(initial=0.0) > 0:
            found.append((k, counts[:upto], mine[:upto]))
    return found


def _upper_rates(kinds: _Kinds) -> Array:
    """Requests/s of one worker that no number of workers exceeds each: no queue, no fluctuation."""
    choices = kinds.choices
    if isinstance(choices, PrefillChoices):
        return np.asarray(choices.service.rate_per_server * choices.candidates.pool.servers_per_worker)
    pool, workload = choices.candidates.pool, kinds.limits.workload
    tpot = pool_tpot_s(pool, workload, choices.limit, choices.colocated)
    return np.asarray(choices.limit / (workload.osl * tpot))


def _rates(role: str, choices: Choices, workers: Array, limits: Limits) -> Array:
    if isinstance(choices, PrefillChoices):
        return _prefill_rates(choices, workers, limits)
    choices = _within_tpot(choices, limits)
    if role == "colocated":
        return _colocated_rates(choices, workers, limits)
    found = largest_rate(choices, workers, limits.workload, limits.slo)
    return np.where(choices.fastest_tpot_s < limits.tpot_s, found, 0.0)


def _prefill_rates(choices: PrefillChoices, workers: Array, limits: Limits) -> Array:
    """Where the percentile of TTFT reaches its limit, or the queue its capacity."""
    service = choices.service
    servers = workers * choices.candidates.pool.servers_per_worker
    capacity = np.asarray(service.rate_per_server * servers) * (1 - 1e-9)
    if not np.isfinite(limits.ttft_s):
        return capacity

    def late(rate: Array, which: Array) -> Array:
        own = choices.take(which).service
        fixed = np.asarray(limits.after_prefill_s + own.handling_s)
        latency = prefill_latency(servers[which], own, rate, limits.workload, fixed)
        return _excess(latency.quantile_s(limits.slo.percentile) / max(limits.ttft_s, 1e-300))

    return _without_trickles(highest_rate(late, capacity, tolerance=TOLERANCE))


def _within_tpot(choices: DecodeChoices, limits: Limits) -> DecodeChoices:
    """The batches that keep the ceiling on TPOT, too."""
    if not np.isfinite(limits.tpot_s):
        return choices
    return replace(choices, limit=batches_within(choices, limits.workload, np.array([limits.tpot_s]))[0])


def batches_within(choices: DecodeChoices, workload: Workload, tpots_s: Array) -> Array:
    """The largest batches that keep each of some ceilings on TPOT, ceilings by types."""
    pool, ceilings = choices.candidates.pool, np.asarray(tpots_s)[:, None]

    def surplus(running: Array) -> Array:
        tpot = np.broadcast_to(pool_tpot_s(pool, workload, running, choices.colocated), running.shape)
        return choices.limit * (tpot / ceilings - 1.0)

    shape = (len(tpots_s), len(choices))
    return increasing_root(surplus, np.full(shape, 1e-6), np.broadcast_to(choices.limit, shape).astype(float))


def _colocated_rates(choices: DecodeChoices, workers: Array, limits: Limits) -> Array:
    """Where the TPOT of the batch's percentile reaches its limit, or TTFT or the latency does."""
    workload, slo = limits.workload, limits.slo
    most = mean_for_peak(workers * choices.limit, slo.z) / workers * (1 - 1e-9)

    def late(running: Array, which: Array) -> Array:
        return served_at(choices.take(which), workers[which], running, workload, slo).beyond

    running = highest_rate(late, most, tolerance=TOLERANCE)
    found = workers * served_at(choices, workers, np.maximum(running, 1e-9), workload, slo).each
    return _without_trickles(np.where(running > 0, found, 0.0))


def _excess(used: Array) -> Array:
    """Logarithm of the share of a limit that is used."""
    return np.asarray(np.log(np.maximum(used, 1e-300)))


def _without_trickles(rates: Array) -> Array:
    """What holds at a trickle only is as good as nothing."""
    return np.where(rates > TRICKLE_PER_S, rates, 0.0)


def least_mean_tpot_s(choices: DecodeChoices, limits: Limits, batches: Array, tpots_s: Array) -> Array:
    """The least mean TPOT of workers whose TPOT at the percentile is as given or above; one for each.

    `batches` are those that keep these TPOT, by rows. One worker's batch fluctuates most, so its mean is
    furthest below its percentile. Infinite where no type is ever as slow.
    """
    mean = mean_for_peak(batches, limits.slo.z)
    tpot = pool_tpot_s(choices.candidates.pool, limits.workload, mean, choices.colocated)
    slowest = choices.limit_tpot_s(limits.workload)
    reached = slowest * (1 + 1e-6) >= np.asarray(tpots_s)[:, None]
    return np.asarray(np.where(reached, tpot, np.inf).min(axis=1, initial=np.inf))
