"""The search turned round: the most requests/s that a number of accelerators, or dollars, serve.

Every deployment that spends the budget is bounded from above by what its pools could serve: a
decode pool by its TPOT limit and memory, a prefill pool by its TTFT limit were transfers
free and the first decode step that of an idle worker. Deployments are tried best bound first
until no bound is above the best rate found, so none that could be better is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pdplan.compose import World, build_network, default_bandwidth
from pdplan.evaluate import (
    Economics,
    evaluate_colocated,
    evaluate_disaggregated,
    prefill_wait_s,
    queued_latency,
)
from pdplan.laws.kv_transfer import Network
from pdplan.laws.roofline import Array
from pdplan.plan import Colocated, Disaggregated, Metrics
from pdplan.pools import solve_running
from pdplan.question import Candidate, Question
from pdplan.search.candidates import DecodeChoices, PrefillChoices, batch_to_configure, largest_rate
from pdplan.search.limits import SLACK, largest_allowed
from pdplan.search.objective import Workers, serves, ttft_limit_s
from pdplan.search.space import Space
from pdplan.uncertainty import slo_on
from pdplan.workload import Slo, Workload

BLOCK = 96
"""Deployments whose rate is searched for in one array call."""
SPLITS = 8
"""Splits of the budget that are tried together."""
TABLE = 256
"""Numbers of prefill workers whose rate is bounded with their queue; of more, by their capacity."""
RELATIVE_TOLERANCE = 1e-6

MetricsAt = Callable[[Array], tuple[Metrics, Array]]
"""Metrics at a rate, and the max_batch to set."""


def most_goodput(
    question: Question, world: World, space: Space, known: Sequence[Candidate] = ()
) -> list[Candidate]:
    """Candidates of both modes within the budget, the highest rate of each mode among them.

    What is `known` of other formats need not be reached: who cannot beat its mode's best is left out.
    """
    found: list[Candidate] = []

    def best(mode: str) -> float:
        rates = [c.metrics.requests_per_s for c in (*known, *found) if c.plan.mode == mode]
        return float(max(rates, default=0.0))

    for choices in space.colocated.values():
        found += _colocated(question, world, space, choices, best("colocated"))
    for p, d in ((p, d) for p in space.prefill for d in space.decode):
        if default_bandwidth(world, p, d) or world.network.bandwidth_bytes_per_s:
            pair = _pair(question, world, space, p, d)
            found += pair.search(best("disaggregated")) if pair else []
    return found


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


# ------------------------------------------------------------------------ one pool


def _colocated(
    question: Question, world: World, space: Space, choices: DecodeChoices, best: float
) -> list[Candidate]:
    workload, hardware = question.workload, choices.candidates.hardware
    slo = slo_on(question.slo, space.serving, hardware)
    money = Economics(
        usd_per_gpu_h={"colocated": world.price(hardware)}, watt_per_gpu={"colocated": world.watts(hardware)}
    )
    # Spare workers take accelerators and serve nothing.
    workers = space.limits.most_workers(hardware, choices.candidates.pool.layout.gpus)
    usable = np.flatnonzero(workers >= 1)
    choices, workers = choices.take(usable), workers[usable]
    if not len(choices):
        return []
    bound = largest_rate(choices, workers, workload, slo)
    order = np.argsort(-bound, kind="stable")
    found: list[Candidate] = []
    for start in range(0, len(order), BLOCK):
        index = order[start : start + BLOCK]
        if bound[index[0]] <= best * (1 + RELATIVE_TOLERANCE):
            break
        part, count = choices.take(index), workers[index]

        def metrics_at(
            rate: Array, part: DecodeChoices = part, count: Array = count
        ) -> tuple[Metrics, Array]:
            pool = part.candidates.with_workers(count)
            asked = workload.at_rate(np.maximum(rate, 1e-9))
            running = solve_running(pool, asked, asked.rate * slo.tpot_factor, colocated=True)
            batch = batch_to_configure(pool, running, part.limit, slo)
            return evaluate_colocated(replace(pool, max_batch=batch), asked, slo, money), batch

        def good(rate: Array, at: MetricsAt = metrics_at) -> Array:
            return _met(at(rate)[0], slo, rate)

        rate = highest_rate(good, bound[index])
        metrics, batch = metrics_at(rate)
        found += [
            Candidate(
                plan=Colocated(
                    **vars(space.serving), colocated=part.candidates.plan(k, int(count[k]), int(batch[k]))
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero(rate > 0)
        ]
        best = max([best, *rate])
    return found


def _met(metrics: Metrics, slo: Slo, rate: Array) -> Array:
    return np.broadcast_to(serves(metrics, slo), np.shape(rate))


# ------------------------------------------------------------------------ two pools


def _pair(question: Question, world: World, space: Space, p: str, d: str) -> _Pair | None:
    """Prefill on one accelerator, decode on another, as a problem of its own; None where nothing can do."""
    prefill, decode = space.prefill[p], space.decode[d]
    if not len(prefill) or not len(decode):
        return None
    return _Pair(
        question=replace(question, slo=slo_on(question.slo, space.serving, p, d)),
        space=space,
        prefill=prefill,
        decode=decode,
        network=build_network(world, p, d),
        economics=Economics(
            usd_per_gpu_h={"prefill": world.price(p), "decode": world.price(d)},
            watt_per_gpu={"prefill": world.watts(p), "decode": world.watts(d)},
        ),
        fastest_tpot_s=float(decode.fastest_tpot_s.min()),
    )


@dataclass(frozen=True, kw_only=True)
class _Splits:
    """Decode pools (type and number of workers), and a bound of the rate beside the best prefill pool."""

    types: Array
    counts: Array
    bound: Array

    def take(self, index: Array) -> _Splits:
        return _Splits(types=self.types[index], counts=self.counts[index], bound=self.bound[index])


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Splits of one budget between a prefill and a decode pool of given accelerators."""

    question: Question
    space: Space
    prefill: PrefillChoices
    decode: DecodeChoices
    network: Network
    economics: Economics
    fastest_tpot_s: float
    """No first decode step is shorter."""

    @property
    def workload(self) -> Workload:
        return self.question.workload

    @property
    def capacity(self) -> Array:
        """Requests/s of one prefill worker of each type, queues apart."""
        return np.asarray(
            self.prefill.service.rate_per_server * self.prefill.candidates.pool.servers_per_worker
        )

    def search(self, best: float) -> list[Candidate]:
        """Candidates of the splits that can beat `best`, the best of all certainly among them."""
        found: list[Candidate] = []
        # The most balanced number of workers of each type first: a good rate early leaves few splits.
        for balanced in (True, False):
            splits = self.splits(best, balanced)
            order = np.argsort(-splits.bound, kind="stable")
            splits = splits.take(order)
            for start in range(0, len(order), SPLITS):
                if splits.bound[start] <= best * (1 + RELATIVE_TOLERANCE):
                    break
                some = splits.take(np.arange(start, min(start + SPLITS, len(order))))
                for candidates, top in self.deployments(some, best):
                    found += candidates
                    best = max(best, top)
        return found

    def splits(self, best: float, balanced: bool) -> _Splits:
        """Every number of workers of every decode type that leaves room for prefill and may beat `best`.

        `balanced`: of each type only the number with the highest bound.
        """
        gpus = self.decode.candidates.pool.layout.gpus
        most = self.space.limits.most_workers(self.decode.candidates.hardware, gpus)
        sizes = np.unique(self.prefill.candidates.pool.layout.gpus)
        alone = self.space.limits.most_workers(self.prefill.candidates.hardware, sizes)
        table = {size: self.rates_of_size(size, n) for size, n in zip(sizes, alone, strict=True)}
        kept: list[_Splits] = []
        for kind in np.flatnonzero(most >= 1):
            counts = np.arange(1.0, most[kind] + 1.0)
            ceiling = np.zeros(len(counts))
            for size, rates in table.items():
                workers = np.clip(self.beside(gpus[kind], counts, size), 0, len(rates) - 1)
                ceiling = np.maximum(ceiling, rates[workers.astype(int)])
            # Without fluctuation a decode pool serves more than with it: this bound costs nothing.
            quick = np.minimum(counts * self.decode.rate_per_worker[kind], ceiling)
            index = np.flatnonzero(quick > best * (1 + RELATIVE_TOLERANCE))
            if balanced:
                index = index[np.argmax(quick[index], keepdims=True)] if len(index) else index
            if not len(index):
                continue
            types = np.full(len(index), kind)
            own = largest_rate(self.decode.take(types), counts[index], self.workload, self.question.slo)
            bound = np.minimum(own, ceiling[index])
            good = np.flatnonzero(bound > best * (1 + RELATIVE_TOLERANCE))
            kept.append(_Splits(types=types[good], counts=counts[index][good], bound=bound[good]))
        none = np.zeros(0)
        if not kept:
            return _Splits(types=none.astype(int), counts=none, bound=none)
        columns = ("types", "counts", "bound")
        return _Splits(**{c: np.concatenate([getattr(s, c) for s in kept]) for c in columns})

    def beside(self, decode_gpus: Array, decode_workers: Array, prefill_gpus: Array) -> Array:
        """Prefill workers of a size that the budget holds beside a decode pool; all broadcast."""
        limits, spare = self.space.limits, self.question.spare_workers
        p, d = self.prefill.candidates.hardware, self.decode.candidates.hardware
        if limits.dollars.is_plain:
            used = (decode_workers + spare) * decode_gpus
            left = limits.gpus - used
            if np.isfinite(limits.usd_per_h):
                price = limits.dollars.unit_price
                usd = limits.usd_per_h * (1 + SLACK) - used * price[d]
                left = np.minimum(left, usd / price[p])
            return np.asarray(np.floor(left / prefill_gpus * (1 + SLACK)) - spare)
        shape = np.broadcast_shapes(np.shape(decode_workers), np.shape(decode_gpus), np.shape(prefill_gpus))
        size = np.broadcast_to(np.asarray(prefill_gpus, dtype=float), shape)
        receivers = Workers(d, np.broadcast_to(decode_gpus, shape), np.broadcast_to(decode_workers, shape))
        high = np.floor(limits.most_gpus(p) / size) - spare
        return largest_allowed(lambda n: limits.allow_pair(Workers(p, size, n), receivers), high)

    def rates_of_size(self, size: float, most: float) -> Array:
        """By number of workers of one size, from 0: what no prefill type of that size can exceed."""
        types = np.flatnonzero(self.prefill.candidates.pool.layout.gpus == size)
        types = types[np.argsort(-self.capacity[types], kind="stable")]
        counts = np.arange(0.0, max(most, 0.0) + 1.0)
        rates = counts * self.capacity[types].max()
        small = np.arange(1, int(min(most, TABLE)) + 1)
        reached = np.zeros(len(small))
        for start in range(0, len(types), BLOCK):
            part = types[start : start + BLOCK]
            if not len(small) or np.all(small * self.capacity[part[0]] <= reached):
                break
            index, workers = np.repeat(part, len(small)), np.tile(small, len(part)).astype(float)
            high = workers * self.capacity[index] * (1 - 1e-9)
            able = np.flatnonzero(high > np.tile(reached, len(part)))
            rate = np.zeros(len(index))
            in_time = partial(self.in_time, index[able], workers[able])
            rate[able] = highest_rate(in_time, high[able]) * (1 + 2 * RELATIVE_TOLERANCE)
            reached = np.maximum(reached, rate.reshape(len(part), len(small)).max(axis=0))
        rates[small] = reached
        return np.maximum.accumulate(rates)

    def in_time(self, types: Array, workers: Array, rate: Array) -> Array:
        """Where prefill keeps TTFT at `rate` were transfers free and decode idle: a necessary condition."""
        slo, part = self.question.slo, self.prefill.take(types)
        limit = float(ttft_limit_s(slo, self.workload.osl, np.asarray(self.fastest_tpot_s)))
        if np.isinf(limit):
            return np.ones(len(types), dtype=bool)
        asked, service = np.maximum(rate, 1e-9), part.service
        servers = part.candidates.with_workers(workers).servers
        wait = prefill_wait_s(servers, service, asked, self.workload)
        offered = service.offered(asked)
        fixed = np.asarray(self.fastest_tpot_s + service.handling_s)
        latency = queued_latency(servers, offered, wait, service.time_s, fixed, self.workload)
        return np.asarray(latency.quantile_s(slo.percentile) <= limit)

    def deployments(self, splits: _Splits, best: float) -> Iterable[tuple[list[Candidate], float]]:
        """Prefill pools for some splits, by blocks of the most capacity first: candidates, highest rate."""
        gpus = self.decode.candidates.pool.layout.gpus[splits.types]
        sizes, size_of = np.unique(self.prefill.candidates.pool.layout.gpus, return_inverse=True)
        workers = self.beside(gpus[:, None], splits.counts[:, None], sizes)[:, size_of]
        bound = np.minimum(splits.bound[:, None], np.maximum(workers, 0.0) * self.capacity * (1 - 1e-9))
        rows, types = np.nonzero(bound > max(best * (1 + RELATIVE_TOLERANCE), 1e-12))
        # A rate barely above the best must be possible at all.
        able = self.in_time(types, workers[rows, types], np.full(len(types), best * (1 + RELATIVE_TOLERANCE)))
        rows, types = rows[able], types[able]
        order = np.argsort(-bound[rows, types], kind="stable")
        rows, types = rows[order], types[order]
        while len(rows):
            now = slice(0, BLOCK)
            candidates, top = self.served(
                splits.take(rows[now]),
                types[now],
                workers[rows[now], types[now]],
                bound[rows[now], types[now]],
                best * (1 + RELATIVE_TOLERANCE),
            )
            yield candidates, top
            best = max(best, top)
            rows, types = rows[BLOCK:], types[BLOCK:]
            higher = bound[rows, types] > best * (1 + RELATIVE_TOLERANCE)
            rows, types = rows[higher], types[higher]
            if len(rows):
                at = np.full(len(types), best * (1 + RELATIVE_TOLERANCE))
                able = self.in_time(types, workers[rows, types], at)
                rows, types = rows[able], types[able]

    def served(
        self, splits: _Splits, types: Array, workers: Array, bound: Array, least: float
    ) -> tuple[list[Candidate], float]:
        """The highest rate of each deployment that serves at least `least`; the best as candidates."""
        slo = self.question.slo

        def metrics_at(rate: Array, index: Array) -> tuple[Metrics, Array]:
            asked = self.workload.at_rate(np.maximum(rate, 1e-9))
            receiving = self.decode.take(splits.types[index])
            pool = receiving.candidates.with_workers(splits.counts[index])
            running = solve_running(pool, asked, asked.rate * slo.tpot_factor, colocated=False)
            batch = batch_to_configure(pool, running, receiving.limit, slo)
            decoding = replace(pool, max_batch=batch)
            prefill = self.prefill.take(types[index]).candidates.with_workers(workers[index])
            metrics = evaluate_disaggregated(prefill, decoding, asked, slo, self.network, self.economics)
            return metrics, batch

        def good(rate: Array, index: Array) -> Array:
            return _met(metrics_at(rate, index)[0], slo, rate)

        every = np.arange(len(types))
        if least > 0:  # one look at `least` spares most of them the search
            every = np.flatnonzero(good(np.full(len(types), least), every))
            if not len(every):
                return [], 0.0
        splits, types, workers, bound = splits.take(every), types[every], workers[every], bound[every]
        every = np.arange(len(types))
        rate = highest_rate(lambda r: good(r, every), bound)
        metrics, batch = metrics_at(rate, every)
        sending, receiving = self.prefill.take(types).candidates, self.decode.take(splits.types)
        top = float(rate.max(initial=0.0))
        return [
            Candidate(
                plan=Disaggregated(
                    **vars(self.space.serving),
                    prefill=sending.plan(k, int(workers[k]), int(sending.pool.max_batch[k])),
                    decode=receiving.candidates.plan(k, int(splits.counts[k]), int(batch[k])),
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero((rate > 0) & (rate > top * 0.9))
        ], top
