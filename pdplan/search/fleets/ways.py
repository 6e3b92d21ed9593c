"""The ways to serve one deployment, as curves of kinds of workers: what an integer programme chooses from.

Colocated is one way; disaggregated is one for each of a few ceilings on TPOT. Every way stands twice:
relaxed, so that no plan is better than it says, and safe, so that its plans keep the limits but for
what KV transfers take, which is left free once a plan was found to need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from pdplan.compose import World, default_bandwidth, mixed_routes, plan_meets
from pdplan.laws.roofline import Array
from pdplan.plan import Mixed, Part, Plan, PoolPlan, Serving, plan_of
from pdplan.question import Question
from pdplan.search.fleets.capacity import (
    Curve,
    Limits,
    batches_within,
    curves,
    least_mean_tpot_s,
    quickest,
    takes_many,
)
from pdplan.search.shortage import limited_hardware, unlimited
from pdplan.search.space import Space, build_space
from pdplan.search.workers.candidates import DecodeChoices, PrefillChoices, largest_rate
from pdplan.serving.pools import decode_tpot_s
from pdplan.serving.queueing import mean_for_peak
from pdplan.split import proportional
from pdplan.uncertainty import tightened
from pdplan.workload import Slo, Workload

SLOW = 0.6
"""Where TTFT or latency ties prefill to decode, decode is planned for two levels of TPOT at first: from this
share of the way between the quickest and the slowest, and below."""
NARROW = 1.02
"""A level whose ends differ by less is not split further."""

KindKey = tuple[str, str, str, float]
"""Role, accelerator, layout with batch, ceiling: the same kind of worker in every round."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """Decode workers whose TPOT at the percentile is above `low` and up to `high` [s]."""

    low: float
    high: float
    batches: Mapping[str, Array]
    """By accelerator, those of each type that keep `high`."""
    low_batches: Mapping[str, Array]
    """Those that keep `low`."""
    first_step_s: float
    """The least that a first decode step takes there."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A mode at a ceiling on TPOT: kinds of workers by role."""

    roles: tuple[str, ...]
    level: Level | None = None
    """Of disaggregated ones."""
    relaxed: Mapping[str, list[Curve]]
    safe: Mapping[str, list[Curve]]


@dataclass(kw_only=True)
class Deployment:
    """One deployment while programmes are solved: what they find makes its ways more exact."""

    question: Question
    world: World
    space: Space
    most_gpus: Mapping[str, float]
    """Accelerators that one kind of worker may take, by name."""
    transfer_s: float = 0.0
    """Of TTFT, left free for KV transfers."""
    exact: dict[KindKey, set[int]] = field(default_factory=dict)
    """Counts at which rates have to be exact."""
    ways: list[Way] = field(default_factory=list)
    levels: list[Level] | None = None
    planned: dict[tuple[tuple[KindKey, Limits, int], ...], Plan] = field(default_factory=dict)
    judged: dict[Plan, bool] = field(default_factory=dict)
    """Plans by kinds of workers, and whether they keep the limits: rounds come upon the same again."""
    known: dict[tuple[str, Limits], list[Curve]] = field(default_factory=dict)
    """Curves by role and limits, as exact as they have become."""

    @property
    def workload(self) -> Workload:
        return self.question.sizing_workload

    @property
    def slo(self) -> Slo:
        """The limits; with a confidence, with room for the errors of whichever accelerators are mixed."""
        asked = self.question
        names = {*asked.prefill_hardware, *asked.decode_hardware, *asked.colocated_hardware}
        return tightened(asked.slo, self.space.serving, sorted(names))

    def plan(self, chosen: list[tuple[Curve, int]]) -> Plan:
        """The plan of these kinds of workers, their requests split in proportion to what each can serve."""
        key = tuple((kind_key(curve), curve.limits, count) for curve, count in chosen)
        if key not in self.planned:
            self.planned[key] = self._planned(chosen)
        return self.planned[key]

    def _planned(self, chosen: list[tuple[Curve, int]]) -> Plan:
        roles: dict[str, tuple[Part, ...]] = {}
        for role in dict.fromkeys(curve.role for curve, _ in chosen):
            mine = [(curve, n, curve.rate_at(n)) for curve, n in chosen if curve.role == role]
            shares = proportional([rate for _, _, rate in mine])
            parts = [
                Part(pool=self._pool(curve, n, share), share=share)
                for (curve, n, _), share in zip(mine, shares, strict=True)
            ]
            roles[role] = tuple(sorted(parts, key=lambda part: (-part.share, repr(part.pool))))
        return plan_of(self.space.serving, **roles)

    def holds(self, plan: Plan) -> bool:
        """Whether every request keeps its limits, whichever workers it meets."""
        if plan not in self.judged:
            self.judged[plan] = plan_meets(self.world, plan, self.workload, self.slo)
        return self.judged[plan]

    def learn(self, chosen: list[tuple[Curve, int]]) -> bool:
        """Ask for exact rates at the counts that were chosen; whether any is new."""
        new = False
        for curve, n in chosen:
            if n not in curve.counts:
                self.exact.setdefault(kind_key(curve), set()).add(n)
                new = True
        return new

    def split(self, level: Level | None) -> bool:
        """Plan for the halves of a level in its place; whether it was wide enough for that."""
        if level is None or self.levels is None or not np.isfinite(level.high):
            return False
        if level.high <= level.low * NARROW or level not in self.levels:
            return False
        at = self.levels.index(level)
        edges = np.array([level.low, (level.low + level.high) / 2.0, level.high])
        self.levels[at : at + 1] = _levels_between(self, edges)
        return True

    def leave_for_transfers(self, plan: Plan) -> bool:
        """Leave of TTFT what the plan's transfers take; whether that is more than was left already."""
        needed = longest_transfer_s(self.world, plan, self.workload, self.slo)
        if needed <= self.transfer_s:
            return False
        self.transfer_s = needed
        return True

    def _pool(self, curve: Curve, workers: int, share: float) -> PoolPlan:
        rate = float(self.workload.rate or 0.0) * share
        return curve.type.candidates.plan(0, workers, curve.max_batch_at(workers, rate))


def kind_key(curve: Curve) -> KindKey:
    layout = curve.type.candidates.plan(0, 1, int(curve.type.candidates.pool.max_batch[0]))
    return curve.role, curve.hardware, repr(layout), curve.limits.tpot_s


def joined(chosen: Iterable[tuple[Curve, int]]) -> list[tuple[Curve, int]]:
    """Kinds that differ in their batch alone as one kind, the one that serves most for each worker.

    A larger pool serves more for each of its workers, so all of that kind serve no less than both did.
    """
    groups: dict[tuple[str, str, str], list[tuple[Curve, int]]] = {}
    for curve, count in chosen:
        layout = repr(curve.type.candidates.plan(0, 1, 1))
        groups.setdefault((curve.role, curve.hardware, layout), []).append((curve, count))
    found = []
    for many in groups.values():
        total = sum(count for _, count in many)
        best = max(many, key=lambda kind: kind[0].rate_at(total)) if len(many) > 1 else many[0]
        found.append((best[0], total))
    return found


def deployment_of(question: Question, world: World, max_gpus: float, endless: bool = False) -> Deployment:
    """A deployment, its ways yet to be found; `endless`: as if there were any number of accelerators."""
    space = build_space(question, world)
    if endless:  # workers larger than the inventory, too; what there is of it stays in the objective
        every = build_space(question, unlimited(world, limited_hardware(question, world)))
        space = replace(every, objective=space.objective, limits=space.limits)
    limits = [float(g) for g in (question.max_gpus, max_gpus) if g is not None]
    most = {
        hw: min([*limits, np.inf if endless else tariff.most])
        for hw, tariff in space.objective.tariffs.items()
    }
    return Deployment(question=question, world=world, space=space, most_gpus=most)


def find_ways(deployment: Deployment) -> None:
    """Curves of every way, anew: after time was left for transfers, or counts became exact."""
    space, slo = deployment.space, deployment.slo
    ways: list[Way] = []
    if space.colocated:
        limits = _limits(deployment, np.inf if slo.ttft_s is None else slo.ttft_s, 0.0, np.inf)
        alone = _curves(deployment, "colocated", space.colocated, limits)
        if alone:
            ways.append(Way(roles=("colocated",), relaxed={"colocated": alone}, safe={"colocated": alone}))
    sending = {
        hw: quickest(c) for hw, c in space.prefill.items() if len(c) and _networked(deployment.world, hw)
    }
    receiving = _receiving(deployment)
    if sending and receiving:
        if deployment.levels is None:
            deployment.levels = _levels_between(deployment, _edges(deployment, receiving))
        for level in deployment.levels:
            ways += _disaggregated(deployment, sending, receiving, level)
    deployment.ways = ways


# ------------------------------------------------------------------------ inside


def _disaggregated(
    deployment: Deployment,
    sending: Mapping[str, PrefillChoices],
    receiving: Mapping[str, DecodeChoices],
    level: Level,
) -> list[Way]:
    """TPOT at the percentile up to the level's `high`, and above `low`: below, a lower level has the plan."""
    low, high = level.low, level.high
    steps = max(deployment.workload.osl - 1.0, 0.0)
    decode = _curves(deployment, "decode", receiving, _limits(deployment, np.inf, 0.0, high), level.batches)
    slow = _slower(deployment, receiving, level, decode)
    first = level.first_step_s
    longest = _longest_first_step_s(deployment, receiving, level, decode) + deployment.transfer_s
    early = _limits(deployment, ttft_before_s(deployment.slo, low * steps), first, np.inf)
    late = _limits(deployment, ttft_before_s(deployment.slo, high * steps), longest, np.inf)
    relaxed = _curves(deployment, "prefill", sending, early)
    safe = relaxed if early == late else _curves(deployment, "prefill", sending, late)
    if not slow or not relaxed:
        return []
    return [
        Way(
            roles=("prefill", "decode"),
            level=level,
            relaxed={"prefill": relaxed, "decode": slow},
            safe={"prefill": safe, "decode": decode},
        )
    ]


def _slower(
    deployment: Deployment, receiving: Mapping[str, DecodeChoices], level: Level, decode: Sequence[Curve]
) -> list[Curve]:
    """Curves without the counts that serve the whole rate below the level, too.

    A plan that holds such workers has no need of others to decode: sending them all requests, it is one of
    a lower level, and leaves prefill more time.
    """
    demand, found = float(deployment.workload.rate or 0.0), []
    for hardware, mine in _by_hardware(decode).items():
        index = np.repeat([c.number for c in mine], [len(c.counts) for c in mine])
        workers = np.concatenate([np.array(c.counts, dtype=float) for c in mine])
        quick = replace(receiving[hardware], limit=level.low_batches[hardware]).take(index)
        rates = largest_rate(quick, workers, deployment.workload, deployment.slo)
        enough = (quick.fastest_tpot_s < level.low) & (rates >= demand)
        ends = np.cumsum([len(c.counts) for c in mine])
        for curve, those in zip(mine, np.split(enough, ends[:-1]), strict=True):
            kept = int(those.argmax()) if those.any() else len(those)
            # Of counts between two that are known, those below the first that is enough stay.
            if kept < len(those) and (kept == 0 or curve.counts[kept] > curve.counts[kept - 1] + 1):
                kept += curve.counts[kept] > 1
            if kept:
                found.append(replace(curve, counts=curve.counts[:kept], rates=curve.rates[:kept]))
    return found


def _longest_first_step_s(
    deployment: Deployment, receiving: Mapping[str, DecodeChoices], level: Level, decode: Sequence[Curve]
) -> float:
    """What a first decode step takes on workers that serve as much as the level allows, if they serve all."""
    longest = 0.0
    for hardware, mine in _by_hardware(decode).items():
        index, workers = np.array([c.number for c in mine]), np.array([float(c.counts[-1]) for c in mine])
        choices = receiving[hardware].take(index)
        mean = mean_for_peak(workers * level.batches[hardware][index], deployment.slo.z) / workers
        tpot = decode_tpot_s(choices.candidates.pool, deployment.workload, mean)
        longest = max(longest, float(np.max(tpot)) * choices.first_steps)
    return longest


def _by_hardware(many: Sequence[Curve]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in many:
        found.setdefault(curve.hardware, []).append(curve)
    return found


def _curves(
    deployment: Deployment,
    role: str,
    types: Mapping[str, PrefillChoices] | Mapping[str, DecodeChoices],
    limits: Limits,
    batches: Mapping[str, Array] | None = None,
) -> list[Curve]:
    key = (role, limits)
    if key not in deployment.known:
        deployment.known[key] = curves(role, types, limits, deployment.most_gpus, batches)
    exact = [c.with_counts(deployment.exact.get(kind_key(c), ())) for c in deployment.known[key]]
    deployment.known[key] = exact
    return exact


def _limits(deployment: Deployment, ttft_s: float, after_prefill_s: float, tpot_s: float) -> Limits:
    return Limits(
        workload=deployment.workload,
        slo=deployment.slo,
        ttft_s=ttft_s,
        after_prefill_s=after_prefill_s if np.isfinite(ttft_s) else 0.0,
        tpot_s=tpot_s,
    )


def ttft_before_s(slo: Slo, answer_s: float) -> float:
    """What TTFT may take before an answer of so many seconds; infinite without a limit."""
    limit = np.inf if slo.ttft_s is None else slo.ttft_s
    if slo.request_latency_s is not None:
        limit = min(limit, slo.request_latency_s - answer_s)
    return float(limit)


def _receiving(deployment: Deployment) -> dict[str, DecodeChoices]:
    """Decode workers that a KV cache can be sent to."""
    decode = deployment.space.decode
    return {hw: c for hw, c in decode.items() if len(c) and _networked(deployment.world, hw)}


def _edges(deployment: Deployment, receiving: Mapping[str, DecodeChoices]) -> Array:
    """Where levels of TPOT begin and end; a single one where nothing ties prefill to decode."""
    slo, workload = deployment.slo, deployment.workload
    quickest = min(float(c.fastest_tpot_s.min()) for c in receiving.values())
    if slo.ttft_s is None and slo.request_latency_s is None:
        return np.array([quickest, np.inf])
    slowest = max(
        float(np.max(decode_tpot_s(c.candidates.pool, workload, c.limit))) for c in receiving.values()
    )
    slowest *= 1 + 1e-9
    # Where many workers share the queue, TTFT hardly limits their number.
    rates = [c.rate_per_worker / c.candidates.pool.layout.gpus for c in receiving.values()]
    if takes_many(np.concatenate(rates), _limits(deployment, np.inf, 0.0, np.inf)):
        return np.array([quickest, slowest])
    return np.array([quickest, quickest + SLOW * (slowest - quickest), slowest])


def _levels_between(deployment: Deployment, edges: Array) -> list[Level]:
    receiving, limits = _receiving(deployment), _limits(deployment, np.inf, 0.0, np.inf)
    batches = {hw: _batches(c, limits.workload, edges) for hw, c in receiving.items()}
    first = {
        hw: least_mean_tpot_s(c, limits, batches[hw][:-1], edges[:-1]) * c.first_steps
        for hw, c in receiving.items()
    }
    return [
        Level(
            low=float(edges[k]),
            high=float(edges[k + 1]),
            batches={hw: many[k + 1] for hw, many in batches.items()},
            low_batches={hw: many[k] for hw, many in batches.items()},
            first_step_s=min(float(each[k]) for each in first.values()),
        )
        for k in range(len(edges) - 1)
        if any(np.isfinite(each[k]) for each in first.values())
    ]


def _batches(choices: DecodeChoices, workload: Workload, edges: Array) -> Array:
    """The batches that keep each TPOT; all of memory where it is infinite."""
    finite = edges[np.isfinite(edges)]
    whole = np.broadcast_to(choices.limit, (len(edges) - len(finite), len(choices)))
    return np.concatenate([batches_within(choices, workload, finite), whole])


def _networked(world: World, hardware: str) -> bool:
    """Whether a KV cache can be sent from it at all."""
    return bool(default_bandwidth(world, hardware, hardware) or world.network.bandwidth_bytes_per_s)


def longest_transfer_s(world: World, plan: Plan, workload: Workload, slo: Slo) -> float:
    """The longest KV transfer of a plan, its wait included, that a request waits for."""
    if isinstance(plan, Mixed):
        served = [route.served for route in mixed_routes(world, plan, workload, slo)]
    else:
        alone: dict[str, Any] = {r: (Part(pool=pool, share=1.0),) for r, pool in plan.pools.items()}
        whole = Mixed(**{f.name: getattr(plan, f.name) for f in fields(Serving)}, **alone)
        served = [route.served for route in mixed_routes(world, whole, workload, slo)]
    waits = [float(np.max(s.parts["KV transfer"])) for s in served if "KV transfer" in s.parts]
    return max(waits, default=0.0)
