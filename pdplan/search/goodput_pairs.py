"""The most requests/s that a prefill and a decode pool serve together within a budget.

Whether a budget serves some rate is what the search at a rate answers, exactly and as quickly for a
hundred thousand accelerators as for eight. So the highest rate is found from both sides: kinds of
workers that look good in fractions of workers are given the whole budget, split as serves most, and the
search is asked whether anything serves a millionth more. What it finds is given the whole budget
in turn, until it finds nothing: then no pair of pools serves more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pdplan.compose import World, build_network, default_bandwidth
from pdplan.evaluate import Economics, evaluate_disaggregated
from pdplan.laws.kv_transfer import Network
from pdplan.laws.roofline import Array
from pdplan.plan import Disaggregated, Metrics, Plan, PoolPlan
from pdplan.pools import solve_running
from pdplan.question import Candidate, Question
from pdplan.search.candidates import DecodeChoices, PrefillChoices, batch_to_configure, largest_rate
from pdplan.search.disaggregated import search_disaggregated
from pdplan.search.limits import largest_allowed
from pdplan.search.objective import Workers, distinct, serves, ttft_limit_s
from pdplan.search.rates import RELATIVE_TOLERANCE, excess, highest_rate
from pdplan.search.shares import least_shares, share_of
from pdplan.search.space import Space
from pdplan.uncertainty import slo_on
from pdplan.workload import MAX_RATE_PER_S, Slo, Workload

SEEDS = 6
"""Pairs of worker types of a pair of accelerators that are given the whole budget at first."""
BLOCK = 96
"""Deployments whose rate is searched for in one array call."""
FLOOR = 0.8
"""What serves less than this share of the best is no alternative to it."""
LESS, SIZES = 0.85, 6
"""Alternatives are sought among pools of other sizes that serve such a share of the best: so many."""
STEP = 1.0 + 2 * RELATIVE_TOLERANCE
"""A rate is beaten by one this many times as high."""
PATIENCE = 3
"""Times that a little more is asked for before the search halves what is left between the bounds, too."""
TRICKLE_PER_S = 1e-4
"""Less than a request in three hours is none."""


def most_goodput_of_pairs(question: Question, world: World, space: Space, best: float) -> list[Candidate]:
    """Pairs of pools within the budget that serve more than `best`, that of the highest rate among them.

    Nothing where no pair serves more by RELATIVE_TOLERANCE.
    """
    search = _Pairs(question=question, world=world, space=space)
    return search.beyond(best)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Splits of one budget between prefill and decode, over all pairs of accelerators."""

    question: Question
    world: World
    space: Space

    def beyond(self, best: float) -> list[Candidate]:
        """Candidates that serve more than `best`, the highest rate of all among them."""
        pairs = self.by_accelerators()
        found: list[Candidate] = []
        known = best
        for pair, ceiling in pairs:
            # Where a rate is known already, the first question is whether anything serves more.
            if known == 0.0 and ceiling.max(initial=0.0) > best * STEP:
                seeds = np.argsort(-ceiling, axis=None, kind="stable")[:SEEDS]
                p, d = np.unravel_index(seeds[ceiling.ravel()[seeds] > best * STEP], ceiling.shape)
                found += pair.with_whole_budget(p, d)
                best = _highest(found, best)
        high = min(max((float(c.max(initial=0.0)) for _, c in pairs), default=0.0), MAX_RATE_PER_S)
        questions = 0
        while (asked := max(best * STEP, TRICKLE_PER_S)) <= high:
            # The types that serve a little more may have much more to give, and many small steps take
            # long: after some of them, every other question halves what is left between the bounds.
            questions += 1
            if questions > PATIENCE and questions % 2:
                asked = float(np.sqrt(asked * high))
            more = self.serving(asked)
            if more:
                found += [*more, *self.grown([c.plan for c in more], pairs)]
                best = _highest(found, best)
            elif asked <= max(best * STEP, TRICKLE_PER_S):
                break  # nothing serves a little more: the best is the best
            else:
                high = asked
        if self.space.objective.thorough and best > known:
            found += self.grown([c.plan for c in self.of_many_sizes(best * LESS)], pairs)
        return [c for c in found if c.metrics.requests_per_s > known]

    def grown(self, plans: Iterable[Plan], pairs: Iterable[tuple[_Pair, Array]]) -> list[Candidate]:
        """The worker types of plans with the whole budget."""
        found: list[Candidate] = []
        for pair, _ in pairs:
            mine = [plan for plan in plans if isinstance(plan, Disaggregated) and pair.has(plan)]
            found += pair.grown(mine) if mine else []
        return found

    def of_many_sizes(self, rate: float) -> tuple[Candidate, ...]:
        """Pairs of pools of different sizes that serve a rate with little of the budget."""
        objective = share_of(self.space.limits, self.space.objective)
        tried = sorted(self.serving(rate, thorough=True), key=lambda c: (objective.cost(c), repr(c.plan)))
        return distinct(tried, SIZES)

    def serving(self, rate: float, thorough: bool = False) -> list[Candidate]:
        """The pair of pools that serves a rate with the least share of the budget, and others on the way."""
        share = replace(share_of(self.space.limits, self.space.objective), thorough=thorough)
        asked = self.question.workload.at_rate(np.asarray(rate))
        return search_disaggregated(
            self.world, asked, self.question.slo, replace(self.space, objective=share)
        )

    def by_accelerators(self) -> list[tuple[_Pair, Array]]:
        """Pairs of accelerators that a network joins, the most promising first, each with its ceilings."""
        found = [
            pair
            for p, d in ((p, d) for p in self.space.prefill for d in self.space.decode)
            if default_bandwidth(self.world, p, d) or self.world.network.bandwidth_bytes_per_s
            for pair in _pair(self.question, self.world, self.space, p, d)
        ]
        bounded = [(pair, pair.ceilings()) for pair in found]
        return sorted(bounded, key=lambda b: -float(b[1].max(initial=0.0)))


def _highest(found: list[Candidate], best: float) -> float:
    return max([best, *(float(c.metrics.requests_per_s) for c in found)])


def _pair(question: Question, world: World, space: Space, p: str, d: str) -> Iterator[_Pair]:
    """Prefill on one accelerator, decode on another, as a problem of its own; nothing where none can."""
    prefill, decode = space.prefill[p], space.decode[d]
    if len(prefill) and len(decode):
        yield _Pair(
            question=replace(question, slo=slo_on(question.slo, space.serving, p, d)),
            space=space,
            prefill=prefill,
            decode=decode,
            network=build_network(world, p, d),
            economics=Economics(
                usd_per_gpu_h={"prefill": world.price(p), "decode": world.price(d)},
                watt_per_gpu={"prefill": world.watts(p), "decode": world.watts(d)},
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Deployments: a prefill and a decode type by number, and how many workers of each."""

    senders: Array
    receivers: Array
    sending: Array
    """Prefill workers."""
    receiving: Array
    """Decode workers."""

    def take(self, index: Any) -> _Split:
        return _Split(**{name: values[index] for name, values in vars(self).items()})


def _joined(splits: list[_Split]) -> _Split:
    """All of them, each deployment once."""
    columns = np.stack([np.concatenate([vars(s)[name] for s in splits]) for name in vars(splits[0])])
    senders, receivers, sending, receiving = np.unique(columns, axis=1)
    return _Split(
        senders=senders.astype(int), receivers=receivers.astype(int), sending=sending, receiving=receiving
    )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Splits of one budget between a prefill and a decode pool of given accelerators."""

    question: Question
    space: Space
    prefill: PrefillChoices
    decode: DecodeChoices
    network: Network
    economics: Economics

    @property
    def workload(self) -> Workload:
        return self.question.workload

    @property
    def slo(self) -> Slo:
        return self.question.slo

    @property
    def capacity(self) -> Array:
        """Requests/s of one prefill worker of each type, queues apart."""
        return np.asarray(
            self.prefill.service.rate_per_server * self.prefill.candidates.pool.servers_per_worker
        )

    def ceilings(self) -> Array:
        """What no split between two types exceeds, prefill by decode: workers in fractions, no queues.

        λ · (share of a prefill worker / μ + share of a decode worker / r) ≤ 1 for every limit;
        0 where one worker of each is too much, or prefill alone takes longer than TTFT may.
        """
        limits = self.space.limits
        sending, receiving = self.prefill.candidates, self.decode.candidates
        capable = np.maximum(self.decode.rate_per_worker / self.slo.tpot_factor, 1e-300)
        each_p = least_shares(limits, sending.hardware, sending.pool.layout.gpus)
        each_d = least_shares(limits, receiving.hardware, receiving.pool.layout.gpus)
        of_p, of_d = (each_p / self.capacity)[:, :, None], (each_d / capable)[:, None, :]
        one_stock = sending.hardware == receiving.hardware
        both = of_p + of_d if one_stock else np.concatenate([of_p[:2] + of_d[:2], np.maximum(of_p, of_d)[2:]])
        quickest = self.decode.fastest_tpot_s
        first = quickest * self.decode.first_steps
        in_time = self.prefill.service.time_s[:, None] + first <= ttft_limit_s(
            self.slo, self.workload.osl, quickest
        )
        one = np.ones(1)
        fits = limits.allow_pair(
            Workers(sending.hardware, sending.pool.layout.gpus[:, None], one),
            Workers(receiving.hardware, receiving.pool.layout.gpus, one),
        )
        # Spare workers serve nothing: without them the ceiling is only higher.
        return np.where(in_time & fits, (1 + 1e-9) / both.max(axis=0), 0.0)

    def has(self, plan: Disaggregated) -> bool:
        names = (plan.prefill.hardware, plan.decode.hardware)
        return names == (self.prefill.candidates.hardware, self.decode.candidates.hardware)

    def grown(self, plans: Sequence[Disaggregated]) -> list[Candidate]:
        """The types of plans of these accelerators with the whole budget."""
        senders = [_index(self.prefill, plan.prefill, plan.prefill.max_batch) for plan in plans]
        receivers = [_index(self.decode, plan.decode) for plan in plans]
        near = np.array([float(plan.decode.workers) for plan in plans])
        return self.with_whole_budget(np.array(senders), np.array(receivers), near)

    def with_whole_budget(
        self, senders: Array, receivers: Array, near: Array | None = None
    ) -> list[Candidate]:
        """Pairs of types with the budget split as serves most, and their rates.

        More decode workers leave fewer for prefill: the last split whose prefill keeps up with
        its decode pool, or the one after, with as many decode workers as it still has room for.
        Where a latency limit rather than a capacity binds, the best split may be another: `near`,
        numbers of decode workers, are tried, too.
        """
        gpus_p = self.prefill.candidates.pool.layout.gpus[senders]
        gpus_d = self.decode.candidates.pool.layout.gpus[receivers]
        most = self.most_receivers(gpus_p, gpus_d, np.ones(len(senders)))
        fits = np.flatnonzero(most >= 1)
        if not len(fits):
            return []
        senders, receivers, most, gpus_p, gpus_d = (
            x[fits] for x in (senders, receivers, most, gpus_p, gpus_d)
        )
        decode, capacity = self.decode.take(receivers), self.capacity[senders]

        def split(number: Array) -> _Split:
            beside = self.senders_beside(gpus_p, gpus_d, number)
            return _Split(senders=senders, receivers=receivers, sending=beside, receiving=number)

        def decoding(number: Array) -> Array:
            return largest_rate(decode, np.maximum(number, 1.0), self.workload, self.slo) * (1 - 1e-9)

        def keeps_up(number: Array) -> Array:
            """Whether prefill beside so many decode workers is no bottleneck, by its capacity alone."""
            return (number >= 1) & (decoding(number) < split(number).sending * capacity * (1 - 1e-9))

        def serves_all(number: Array) -> Array:
            fine = keeps_up(number)
            index = np.flatnonzero(fine)
            fine[index] = self.good(split(number).take(index), decoding(number)[index])
            return fine

        last = largest_allowed(serves_all, largest_allowed(keeps_up, most), near=True)
        after = np.minimum(last + 1.0, most)
        numbers = [last, after, self.most_receivers(gpus_p, gpus_d, split(after).sending)]
        if near is not None:
            numbers += [near[fits], self.most_receivers(gpus_p, gpus_d, split(near[fits]).sending)]
        tried = _joined([split(np.minimum(number, most)) for number in numbers])
        return self.at_highest_rate(tried.take(np.flatnonzero((tried.sending >= 1) & (tried.receiving >= 1))))

    def most_receivers(self, gpus_p: Array, gpus_d: Array, sending: Array) -> Array:
        """The most decode workers beside so many prefill workers within the budget."""
        limits = self.space.limits
        p, d = self.prefill.candidates.hardware, self.decode.candidates.hardware
        high = np.floor(limits.most_gpus(d) / gpus_d) - self.question.spare_workers
        senders = Workers(p, gpus_p, sending)
        return largest_allowed(lambda n: limits.allow_pair(senders, Workers(d, gpus_d, n)), high)

    def senders_beside(self, gpus_p: Array, gpus_d: Array, receiving: Array) -> Array:
        """The most prefill workers beside so many decode workers."""
        limits = self.space.limits
        p, d = self.prefill.candidates.hardware, self.decode.candidates.hardware
        high = np.floor(limits.most_gpus(p) / gpus_p) - self.question.spare_workers
        receivers = Workers(d, gpus_d, receiving)
        return largest_allowed(lambda n: limits.allow_pair(Workers(p, gpus_p, n), receivers), high)

    def good(self, split: _Split, rate: Array) -> Array:
        """Where deployments keep every limit at a rate."""
        fine = np.zeros(len(split.senders), dtype=bool)
        some = np.flatnonzero(split.sending >= 1)
        if len(some):
            metrics, _ = self.metrics_at(split.take(some), rate[some])
            fine[some] = serves(metrics, self.slo)
        return fine

    def metrics_at(self, split: _Split, rate: Array) -> tuple[Metrics, Array]:
        """Metrics of deployments at a rate, and the batches to set for decode."""
        asked = self.workload.at_rate(np.maximum(rate, 1e-9))
        receiving = self.decode.take(split.receivers)
        pool = receiving.candidates.with_workers(split.receiving)
        running = solve_running(pool, asked, asked.rate * self.slo.tpot_factor, colocated=False)
        batch = batch_to_configure(pool, running, receiving.limit, self.slo)
        prefill = self.prefill.take(split.senders).candidates.with_workers(split.sending)
        decoding = replace(pool, max_batch=batch)
        known = running if self.slo.tpot_factor == 1.0 else None
        metrics = evaluate_disaggregated(
            prefill, decoding, asked, self.slo, self.network, self.economics, known
        )
        return metrics, batch

    def at_highest_rate(self, split: _Split) -> list[Candidate]:
        """Deployments at the highest rate that each serves; those that serve none left out."""
        found: list[Candidate] = []
        for start in range(0, len(split.senders), BLOCK):
            found += self._block_at_highest_rate(split.take(slice(start, start + BLOCK)))
        return found

    def _block_at_highest_rate(self, split: _Split) -> list[Candidate]:
        decode = self.decode.take(split.receivers)
        high = np.minimum(
            largest_rate(decode, split.receiving, self.workload, self.slo),
            split.sending * self.capacity[split.senders],
        )
        high = np.minimum(high * (1 - 1e-9), MAX_RATE_PER_S)

        def beyond(rate: Array, which: Array) -> Array:
            return excess(self.metrics_at(split.take(which), rate)[0], self.slo)

        rate = highest_rate(beyond, high, FLOOR)
        metrics, batch = self.metrics_at(split, rate)
        sending, receiving = self.prefill.take(split.senders).candidates, decode.candidates
        return [
            Candidate(
                plan=Disaggregated(
                    **vars(self.space.serving),
                    prefill=sending.plan(k, int(split.sending[k]), int(sending.pool.max_batch[k])),
                    decode=receiving.plan(k, int(split.receiving[k]), int(batch[k])),
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero(rate > 0)
        ]


def _index(choices: PrefillChoices | DecodeChoices, pool: PoolPlan, batch: int | None = None) -> int:
    """Which worker type a pool is of: its layout and, for prefill, its batch."""
    own = choices.candidates.pool
    same = np.ones(len(choices), dtype=bool) if batch is None else np.asarray(own.max_batch) == batch
    for name in ("tp", "pp", "dp", "ep"):
        same = same & (getattr(own.layout, name) == getattr(pool, name))
    return int(np.flatnonzero(same)[0])
