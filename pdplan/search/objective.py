"""What a search minimises, and what it found: shared by both modes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pdplan.compose import World
from pdplan.errors import InputError
from pdplan.evaluate import LIMITS, judged, meets
from pdplan.laws.roofline import Array
from pdplan.market import Tariff, packed_pair, packed_units
from pdplan.plan import Metrics, Plan
from pdplan.question import Candidate, Choices, Question
from pdplan.uncertainty import slo_of
from pdplan.workload import Slo

HAIR = 1e-7
"""By so much, at most, the price weighs in objectives that are not the price: it decides their ties."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Unit price of an accelerator by name; accelerators themselves where a price is missing."""

    unit_price: dict[str, float]
    counts_gpus: bool
    """Ranked by accelerators for want of a price."""
    node_size: dict[str, int]
    tariffs: dict[str, Tariff]
    """What a number of them counts, up to as many as there are."""
    spare_workers: int = 0
    """Paid for in each pool beside the workers that a candidate of the search counts."""
    thorough: bool = True
    """Also look for plans of equal cost with more margin, and the next best; else the least cost alone."""
    ceiling: float = np.inf
    """What costs more is of no interest: the cost of a plan that is known."""
    firm: bool = False
    """Nor is it as the next best."""
    beyond: float = 0.0
    """Where goodput is asked for: who serves no more than this is of no interest [requests/s]."""

    @property
    def is_plain(self) -> bool:
        """Whether cost is unit price times accelerators, of which there are any number."""
        return all(tariff.is_plain for tariff in self.tariffs.values())

    @property
    def adds_up(self) -> bool:
        """Whether two pools cost as much together as apart; else they may share nodes, or limits."""
        return self.is_plain

    def worth_keeping(self, good: Array, cost: Array) -> Array:
        """Of the indices of plans that work: all of them, or only the first of the cheapest."""
        if self.thorough or not len(good):
            return good
        return good[[int(np.argmin(cost[good]))]]

    def cost(self, candidate: Candidate) -> float:
        """Of a candidate as searched: its workers and the spare ones; infinite beyond the inventory."""
        pools = list(candidate.plan.pools.values())
        if self.is_plain:
            return sum(
                (p.workers + self.spare_workers) * p.gpus_per_worker * self.unit_price[p.hardware]
                for p in pools
            )
        total = 0.0
        for hardware in dict.fromkeys(p.hardware for p in pools):
            tariff = self.tariffs[hardware]
            workers = [
                (p.gpus_per_worker, p.workers + self.spare_workers) for p in pools if p.hardware == hardware
            ]
            total += float(tariff.cost_per_h(packed_units(tariff.unit, workers) * tariff.unit))
        return total

    def pool_cost(self, hardware: str, gpus_each: Array, workers: Array) -> Array:
        """Of so many workers, and the spare ones, of one pool."""
        count = workers + self.spare_workers
        if self.is_plain:
            return np.asarray(count * (gpus_each * self.unit_price[hardware]))
        tariff = self.tariffs[hardware]
        units = packed_pair(tariff.unit, gpus_each, count, 1, 0)
        return tariff.cost_per_h(units * tariff.unit)

    def pair_cost(self, prefill: Workers, decode: Workers) -> Array:
        """Of two pools, which share nodes and inventory where they are of the same accelerators."""
        if self.is_plain or prefill.hardware != decode.hardware:
            return self.pool_cost(*prefill) + self.pool_cost(*decode)
        tariff, spare = self.tariffs[prefill.hardware], self.spare_workers
        units = packed_pair(
            tariff.unit, prefill.gpus_each, prefill.number + spare, decode.gpus_each, decode.number + spare
        )
        return tariff.cost_per_h(units * tariff.unit)


class Workers(NamedTuple):
    """Workers of one pool, as arrays."""

    hardware: str
    gpus_each: Array
    number: Array


def build_objective(question: Question, world: World, names: Iterable[str]) -> Objective:
    """What the question asks to be least; raises InputError where the catalog lacks a power."""
    names = list(names)
    prices = {hw: world.price(hw) for hw in names}
    counts_gpus = False
    if question.objective == "cost":
        counts_gpus = any(np.isnan(p) for p in prices.values())
        unit_price = dict.fromkeys(names, 1.0) if counts_gpus else prices
    else:
        amounts = _watts(world, names) if question.objective == "energy" else dict.fromkeys(names, 1.0)
        dearest = max([p for p in prices.values() if p > 0], default=1.0)
        # Where a price is unknown it counts as the dearest.
        hairs = {hw: HAIR * (1.0 if np.isnan(p) else p / dearest) for hw, p in prices.items()}
        unit_price = {hw: amounts[hw] * (1.0 + hairs[hw]) for hw in names}
    return Objective(
        unit_price=unit_price,
        counts_gpus=counts_gpus,
        # A rack-scale domain (NVL72) is as good as a node.
        node_size={
            hw: max(world.accelerator(hw).accelerators_per_node, world.accelerator(hw).scale_up_domain_size)
            for hw in names
        },
        tariffs={hw: _tariff(question, world, hw, unit_price[hw], counts_gpus) for hw in names},
        spare_workers=question.spare_workers,
    )


def _tariff(question: Question, world: World, hardware: str, amount: float, counts_gpus: bool) -> Tariff:
    """The price list, or as many accelerators that count `amount` each where the price is not what counts."""
    tariff = world.tariff(hardware)
    return tariff if question.objective == "cost" and not counts_gpus else tariff.weighed(amount)


def _watts(world: World, names: Iterable[str]) -> dict[str, float]:
    watts = {hw: world.watts(hw) for hw in names}
    missing = [hw for hw, power in watts.items() if np.isnan(power)]
    if missing:
        raise InputError(
            f"objective energy: the catalog has no power_w for {' and '.join(missing)}; leave it out, "
            "or plan for the least cost or gpus"
        )
    return watts


def tpot_limit_s(slo: Slo, osl: float) -> float | None:
    """The tighter of the TPOT limit and what the request latency leaves per token, errors allowed for."""
    limits = [slo.tpot_s] if slo.tpot_s is not None else []
    if slo.request_latency_s is not None and osl > 1:
        limits.append(slo.request_latency_s / (osl - 1))
    return min(limits) / slo.tpot_factor if limits else None


def ttft_limit_s(slo: Slo, osl: float, tpot_slo_s: Array) -> Array:
    """What TTFT may take: its own limit, and what the request latency leaves after the answer."""
    limit = np.full(np.shape(tpot_slo_s), np.inf if slo.ttft_s is None else slo.ttft_s)
    if slo.request_latency_s is not None:
        answer = slo.tpot_factor * tpot_slo_s * max(osl - 1, 0)
        limit = np.minimum(limit, slo.request_latency_s - answer)
    return limit / slo.ttft_factor


def serves(metrics: Metrics, slo: Slo) -> Array:
    """Where a deployment under a rate keeps every limit, and the rate, too, should steps take longer.

    If each step takes f times as long as predicted (the room that the SLO leaves for TPOT), so do
    requests in their slots: f · utilisation of the decoding pool ≤ 1.
    """
    good = meets(metrics, slo)
    if slo.tpot_factor == 1.0:
        return good
    decoding = metrics.utilisation.get("decode", metrics.utilisation.get("colocated"))
    return good & (slo.tpot_factor * np.asarray(decoding) <= 1 + 1e-9)


def limit_shares(metrics: Metrics, slo: Slo) -> list[float]:
    """The share of each limit that a plan uses: 1 is on the edge."""
    values = judged(metrics, slo)
    return [float(values[name] / limit) for name in LIMITS if (limit := getattr(slo, name))]


def excess(metrics: Metrics, slo: Slo) -> Array:
    """Logarithm of the largest share of a limit that is used; infinite where the rate itself is too much."""
    values, good = judged(metrics, slo), serves(metrics, slo)
    used: Array = np.zeros(np.shape(good))
    for name in LIMITS:
        if limit := getattr(slo, name):
            used = np.maximum(used, np.asarray(values[name]) / limit)
    beyond = np.log(np.maximum(used, 1e-300))
    return np.where(good, np.minimum(beyond, 0.0), np.where(beyond > 0, beyond, np.inf))


PLAINNESS = 0.05
"""Margin, as a share of a limit, that one unusual thing has to bring: less is noise beside the laws'."""


def intricacy(candidate: Candidate, objective: Objective) -> int:
    """How much out of the ordinary a plan asks for.

    Pipeline stages, experts over a part of the ranks, workers that span nodes (one
    failed node takes the whole worker down), a chunk size that is not the engine's, drafting.
    """
    pools = candidate.plan.pools.values()
    drafting = int(candidate.plan.speculation.drafted > 0)
    return drafting + sum(
        (p.chunk_tokens is not None)
        + (p.pp > 1)
        + (p.ep not in (1, p.tp * p.dp))
        + (p.gpus_per_worker > objective.node_size[p.hardware])
        for p in pools
    )


def departures(plan: Plan, choices: Choices) -> int:
    """How far a plan's formats stand from the first of those to choose among: they change the answers."""
    places = [
        open_.index(chosen)
        for open_, chosen in (
            (choices.precisions, plan.precision),
            (choices.kv_precisions, plan.kv_precision),
        )
        if chosen in open_
    ]
    return sum(places)


def rank(
    candidates: Iterable[Candidate], objective: Objective, slo: Slo, choices: Choices
) -> list[Candidate]:
    """Cheapest first; equal cost: the formats named first, then the most margin, unless a plainer plan
    has nearly as much.

    Then the smallest shares of all limits together. The last key is the plan in words, so
    the order never depends on that of the input.
    """

    def key(c: Candidate) -> tuple[float, int, float, float, str]:
        shares = limit_shares(c.metrics, slo_of(c.plan, slo))
        worst = max(shares, default=0.0) + PLAINNESS * intricacy(c, objective)
        return (
            round(objective.cost(c), 9),
            departures(c.plan, choices),
            round(worst, 9),
            round(sum(shares), 9),
            repr(c.plan),
        )

    return sorted(candidates, key=key)


def rank_goodput(
    candidates: Iterable[Candidate], objective: Objective, slo: Slo, choices: Choices
) -> list[Candidate]:
    """Most requests per second first; of equals the cheapest, then as `rank` does."""
    cheapest_first = rank(candidates, objective, slo, choices)
    return sorted(cheapest_first, key=lambda c: -round(float(c.metrics.requests_per_s), 9))


def distinct(ranked: Iterable[Candidate], limit: int) -> tuple[Candidate, ...]:
    """The first of every kind of plan: mode, formats, accelerators and worker sizes."""
    seen: set[tuple[object, ...]] = set()
    kept: list[Candidate] = []
    for candidate in ranked:
        plan = candidate.plan
        formats = (plan.precision, plan.kv_precision, plan.speculation.drafted > 0)
        pools = ((p.hardware, p.gpus_per_worker, p.dp > 1) for p in plan.pools.values())
        kind = (plan.mode, *formats, *pools)
        if kind not in seen and len(kept) < limit:
            seen.add(kind)
            kept.append(candidate)
    return tuple(kept)
