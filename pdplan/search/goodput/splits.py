"""Splits of one budget between a prefill and a decode pool, and the rates that they serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pdplan.compose import World, build_network
from pdplan.evaluate import Economics, evaluate_disaggregated
from pdplan.laws.roofline import Array
from pdplan.plan import Disaggregated, Metrics, PoolPlan
from pdplan.question import Candidate, Question
from pdplan.search.goodput.rates import SHY, highest_rate
from pdplan.search.modes.pairs import PairProblem, before_decode_s, decode_at
from pdplan.search.objective import Workers, serves, ttft_limit_s
from pdplan.search.shares import least_shares
from pdplan.search.space import Space
from pdplan.search.workers.candidates import (
    DecodeChoices,
    PrefillChoices,
    batch_to_configure,
    largest_rate,
    most_running,
    running_at,
)
from pdplan.search.workers.whole import most_whole
from pdplan.uncertainty import slo_on
from pdplan.workload import MAX_RATE_PER_S, Slo, Workload

BLOCK = 96
"""Deployments whose rate is searched for in one array call."""
FIRST_TYPES = 32
"""Types of each role of which all pairs are bounded at first, best first."""
FLOOR = 0.8
"""What serves less than this share of the best is no alternative to it."""


def splits_between(question: Question, world: World, space: Space, p: str, d: str) -> Iterator[Splits]:
    """Prefill on one accelerator, decode on another, as a problem of its own; nothing where none can."""
    prefill, decode = space.prefill[p], space.decode[d]
    if len(prefill) and len(decode):
        yield Splits(
            problem=PairProblem(
                serving=space.serving,
                workload=question.workload,
                slo=slo_on(question.slo, space.serving, p, d),
                network=build_network(world, p, d),
                economics=Economics(
                    usd_per_gpu_h={"prefill": world.price(p), "decode": world.price(d)},
                    watt_per_gpu={"prefill": world.watts(p), "decode": world.watts(d)},
                ),
                objective=space.objective,
                limits=space.limits,
            ),
            prefill=prefill,
            decode=decode,
        )


class Pairs(NamedTuple):
    """Prefill and decode types by number."""

    senders: Array
    receivers: Array
    ceilings: Array
    """What no split between the two exceeds [requests/s]."""

    @property
    def highest(self) -> float:
        return float(self.ceilings.max(initial=0.0))


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
class Splits:
    """Splits of one budget between a prefill and a decode pool of given accelerators."""

    problem: PairProblem
    prefill: PrefillChoices
    decode: DecodeChoices

    @property
    def workload(self) -> Workload:
        return self.problem.workload

    @property
    def slo(self) -> Slo:
        return self.problem.slo

    @property
    def capacity(self) -> Array:
        """Requests/s of one prefill worker of each type, queues apart."""
        return np.asarray(
            self.prefill.service.rate_per_server * self.prefill.candidates.pool.servers_per_worker
        )

    def best_pairs(self, count: int) -> Pairs:
        """The pairs of types of the highest ceilings, highest first: workers in fractions, no queues.

        λ · (share of a prefill worker / μ + share of a decode worker / r) ≤ 1 for every limit; none where
        one worker of each is too much, or prefill alone takes longer than TTFT may.
        """
        limits = self.problem.limits
        sending, receiving = self.prefill.candidates, self.decode.candidates
        capable = np.maximum(self.decode.rate_per_worker / self.slo.tpot_factor, 1e-300)
        of_p = least_shares(limits, sending.hardware, sending.pool.layout.gpus) / self.capacity
        of_d = least_shares(limits, receiving.hardware, receiving.pool.layout.gpus) / capable
        # With a pool of the other role that takes the least of every limit.
        least_p = self._together(of_p, of_d.min(axis=1)[:, None])
        least_d = self._together(of_p.min(axis=1)[:, None], of_d)
        by_p, by_d = np.argsort(least_p, kind="stable"), np.argsort(least_d, kind="stable")
        some = FIRST_TYPES
        while True:
            p, d = by_p[:some], by_d[:some]
            shares = self._together(of_p[:, p, None], of_d[:, None, d])
            # Spare workers serve nothing: without them the ceiling is only higher.
            ceiling = np.where(self._possible(p, d), (1 + 1e-9) / shares, 0.0).ravel()
            at_p, at_d = np.repeat(p, len(d)), np.tile(d, len(p))
            order = np.lexsort((at_d, at_p, -ceiling))[:count]
            rest = [least[by[some]] for least, by in ((least_p, by_p), (least_d, by_d)) if some < len(by)]
            if not rest or ceiling[order[-1]] * min(rest) >= 1 + 1e-9:
                order = order[ceiling[order] > 0]
                return Pairs(senders=at_p[order], receivers=at_d[order], ceilings=ceiling[order])
            some *= 4

    def _together(self, of_p: Array, of_d: Array) -> Array:
        """The largest share of any limit: of accelerators, of money, of one stock or of two; by limit."""
        if self.prefill.candidates.hardware == self.decode.candidates.hardware:
            return np.asarray((of_p + of_d).max(axis=0))
        both = (of_p[:2] + of_d[:2]).max(axis=0)
        return np.maximum(both, np.maximum(of_p[2], of_d[2]))

    def _possible(self, p: Array, d: Array) -> Array:
        """Where one worker of each of these types is allowed, and prefill quick enough."""
        prefill, decode = self.prefill.take(p), self.decode.take(d)
        quickest = decode.fastest_tpot_s
        first = quickest * decode.first_steps
        limit = ttft_limit_s(self.slo, self.workload.osl, quickest)
        sending, receiving, one = prefill.candidates, decode.candidates, np.ones(1)
        fits = self.problem.limits.allow_pair(
            Workers(sending.hardware, sending.pool.layout.gpus[:, None], one),
            Workers(receiving.hardware, receiving.pool.layout.gpus, one),
        )
        return np.asarray((prefill.service.time_s[:, None] + first <= limit) & fits)

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

        def split(cases: Array, number: Array) -> _Split:
            beside = self.senders_beside(gpus_p[cases], gpus_d[cases], number)
            return _Split(
                senders=senders[cases], receivers=receivers[cases], sending=beside, receiving=number
            )

        def keeps_up(cases: Array, number: Array) -> Array:
            """Whether prefill beside so many decode workers is no bottleneck, by its capacity alone."""
            rate = largest_rate(decode.take(cases), np.maximum(number, 1.0), self.workload, self.slo)
            return (number >= 1) & (rate < split(cases, number).sending * capacity[cases])

        def serves_all(cases: Array, number: Array) -> Array:
            fine = keeps_up(cases, number)
            cases, number = cases[fine], number[fine]
            tried = split(cases, number)
            fine[fine] = self.served(tried, self.most_running(tried))[1] <= 0
            return fine

        every = np.arange(len(senders))
        last = most_whole(serves_all, most_whole(keeps_up, most))
        after = np.minimum(last + 1.0, most)
        numbers = [last, after, self.most_receivers(gpus_p, gpus_d, split(every, after).sending)]
        if near is not None:
            beside = split(every, near[fits]).sending
            numbers += [near[fits], self.most_receivers(gpus_p, gpus_d, beside)]
        tried = _joined([split(every, np.minimum(number, most)) for number in numbers])
        return self.at_highest_rate(tried.take(np.flatnonzero((tried.sending >= 1) & (tried.receiving >= 1))))

    def most_receivers(self, gpus_p: Array, gpus_d: Array, sending: Array) -> Array:
        """The most decode workers beside so many prefill workers within the budget."""
        limits = self.problem.limits
        p, d = self.prefill.candidates.hardware, self.decode.candidates.hardware
        high = np.floor(limits.most_gpus(d) / gpus_d) - self.problem.limits.spare_workers

        def allowed(k: Array, n: Array) -> Array:
            return limits.allow_pair(Workers(p, gpus_p[k], sending[k]), Workers(d, gpus_d[k], n))

        return most_whole(allowed, high)

    def senders_beside(self, gpus_p: Array, gpus_d: Array, receiving: Array) -> Array:
        """The most prefill workers beside so many decode workers."""
        limits = self.problem.limits
        p, d = self.prefill.candidates.hardware, self.decode.candidates.hardware
        high = np.floor(limits.most_gpus(p) / gpus_p) - self.problem.limits.spare_workers

        def allowed(k: Array, n: Array) -> Array:
            return limits.allow_pair(Workers(p, gpus_p[k], n), Workers(d, gpus_d[k], receiving[k]))

        return most_whole(allowed, high)

    def most_running(self, split: _Split) -> Array:
        """Sequences on each decode worker at the highest rate that the decode pool serves."""
        decode, number = self.decode.take(split.receivers), split.receiving
        rate = largest_rate(decode, number, self.workload, self.slo) * (1 - 1e-9)
        return most_running(decode, number, rate, self.workload, self.slo)

    def served(self, split: _Split, running: Array) -> tuple[Array, Array]:
        """Requests/s with which so many run on each decode worker, and by how much TTFT is too long then.

        The latter is the logarithm of what TTFT takes over what it may; infinite where a queue grows.
        """
        decode = self.decode.take(split.receivers)
        beside = decode_at(decode, split.receiving, running, self.workload, self.slo)
        rate = running * split.receiving / (self.workload.osl * beside.tpot_mean_s)
        problem = replace(self.problem, workload=self.workload.at_rate(rate))
        senders = self.prefill.take(split.senders)
        took = before_decode_s(problem, senders, split.sending, beside.pool) + beside.first_step_s
        limit = ttft_limit_s(self.slo, self.workload.osl, beside.tpot_slo_s)
        possible = np.isfinite(took) & (limit > 0)
        share = np.where(possible, took, 1.0) / np.where(possible, limit, 1.0)
        return rate, np.where(possible, np.log(np.maximum(share, 1e-300)), np.inf)

    def metrics_at(self, split: _Split, running: Array, rate: Array) -> tuple[Metrics, Array]:
        """Metrics of deployments at rates at which so many run on each decode worker; decode's batches."""
        asked = self.workload.at_rate(rate)
        receiving = self.decode.take(split.receivers)
        pool = receiving.candidates.with_workers(split.receiving)
        known: Array | None = running
        if self.slo.tpot_factor != 1.0:  # as many run as at a rate so much higher, should steps take longer
            known, slower = None, rate * self.slo.tpot_factor
            running = running_at(receiving, split.receiving, slower, self.workload)
        batch = batch_to_configure(pool, running, receiving.limit, self.slo)
        prefill = self.prefill.take(split.senders).candidates.with_workers(split.sending)
        decoding = replace(pool, max_batch=batch)
        network, money = self.problem.network, self.problem.economics
        metrics = evaluate_disaggregated(prefill, decoding, asked, self.slo, network, money, known)
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
        # By how many run: a rate follows from that directly, and it from a rate by solving.
        most = running_at(decode, split.receiving, high, self.workload)
        running = SHY * highest_rate(lambda n, which: self.served(split.take(which), n)[1], most)
        rate = np.where(running > 0, self.served(split, np.maximum(running, 1e-9))[0], 0.0)
        kept = np.flatnonzero((rate > 0) & (rate >= FLOOR * rate.max(initial=0.0)))
        split, decode = split.take(kept), decode.take(kept)
        metrics, batch = self.metrics_at(split, running[kept], rate[kept])
        sending, receiving = self.prefill.take(split.senders).candidates, decode.candidates
        return [
            Candidate(
                plan=Disaggregated(
                    **vars(self.problem.serving),
                    prefill=sending.plan(k, int(split.sending[k]), int(sending.pool.max_batch[k])),
                    decode=receiving.plan(k, int(split.receiving[k]), int(batch[k])),
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero(serves(metrics, self.slo))
        ]


def _index(choices: PrefillChoices | DecodeChoices, pool: PoolPlan, batch: int | None = None) -> int:
    """Which worker type a pool is of: its layout and, for prefill, its batch."""
    own = choices.candidates.pool
    same = np.ones(len(choices), dtype=bool) if batch is None else np.asarray(own.max_batch) == batch
    for name in ("tp", "pp", "dp", "ep"):
        same = same & (getattr(own.layout, name) == getattr(pool, name))
    return int(np.flatnonzero(same)[0])
