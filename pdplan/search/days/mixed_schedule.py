"""How many workers of each kind a mixed pool needs at each rate of a series.

The kinds are those of the plan for the highest rate. For every rate the cheapest numbers of them,
none above the plan's, whose rates within the limits add up to it. Prefill is counted beside what decode
does then: decode for several ceilings on TPOT, prefill for the time that each leaves it. Every
answer is evaluated; where none keeps the limits, all of the plan's workers run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from pdplan.compose import World, build_pool, evaluate_plan, mixed_routes, plan_meets
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics, Mixed, Part, Plan, PoolPlan, Serving, plan_of, role_of, with_pool
from pdplan.question import Question
from pdplan.search.days.series import Schedule
from pdplan.search.fleets.capacity import Choices, Curve, Limits
from pdplan.search.fleets.ways import longest_transfer_s, ttft_before_s
from pdplan.search.objective import Objective, tpot_limit_s
from pdplan.search.robust import with_spare_workers
from pdplan.search.workers.candidates import Candidates, PrefillChoices, decode_choices
from pdplan.serving.pools import prefill_service
from pdplan.split import proportional
from pdplan.uncertainty import tightened
from pdplan.workload import Slo, Workload

CEILINGS = (1.0, 0.7, 0.45)
"""Of the TPOT that the plan has at the highest rate: what decode workers are also counted for."""
MOST_COMBINATIONS = 2_000_000
"""Beyond so many numbers of workers, those of the kinds of which there are most are tried in steps."""


def schedule_mix(
    plan: Mixed, question: Question, world: World, objective: Objective, rates: Array
) -> Schedule:
    """Least workers of the plan's kinds for each of `rates`; the plan itself carries the highest."""
    names = {pool.hardware for pool in plan.pools.values()}
    serving = with_spare_workers(plan, -question.spare_workers)
    assert isinstance(serving, Mixed)
    series = _Series(
        plan=serving,
        world=world,
        workload=question.sizing_workload,
        slo=tightened(question.slo, plan, sorted(names)),
        objective=objective,
        spare=question.spare_workers,
    )
    sized = [series.kinds_at(float(rate) / (1.0 - question.headroom)) for rate in rates]
    whole: Plan = plan
    for name, pool in plan.pools.items():  # an engine is set once, for every rate
        batch = max(
            [pool.max_batch or 1, *(found[name].plan.max_batch or 1 for found in sized if name in found)]
        )
        whole = with_pool(whole, name, replace(pool, max_batch=batch))
    plans = [_assembled(plan, found, whole, question.spare_workers) for found in sized]
    return Schedule(
        plan=whole,
        workers={
            name: np.array(
                [
                    found[name].plan.workers + question.spare_workers if name in found else 0
                    for found in sized
                ],
                dtype=float,
            )
            for name in plan.pools
        },
        metrics=tuple(
            _named(
                evaluate_plan(world, each, question.workload.at_rate(float(rate)), question.slo),
                dict(zip(each.pools, found, strict=True)),
            )
            for each, found, rate in zip(plans, sized, rates, strict=True)
        ),
        plans=tuple(plans),
    )


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """So many workers of a kind, without spare ones, and their share of the pool's requests."""

    plan: PoolPlan
    share: float


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """Numbers of workers in the order of their kinds, and what they cost."""

    counts: tuple[int, ...]
    cost: float


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """Curves by kind: of a colocated pool, or of decode by ceiling on TPOT and of prefill at the quickest."""

    alone: Mapping[str, Curve] = field(default_factory=dict)
    decode: Sequence[Mapping[str, Curve]] = ()
    prefill: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Series:
    """The plan that carries the highest rate, and what its workers have to keep."""

    plan: Mixed
    """Without spare workers."""
    world: World
    workload: Workload
    """At the highest rate, headroom counted."""
    slo: Slo
    objective: Objective
    spare: int

    def kinds_at(self, rate: float) -> dict[str, _Kind]:
        """The kinds that run at a rate; all of the plan's where fewer do not keep the limits."""
        found = self._colocated(rate) if self.plan.colocated else self._disaggregated(rate)
        return found or self._all()

    def _colocated(self, rate: float) -> dict[str, _Kind] | None:
        chosen = self._least(rate, self._ways.alone)
        return self._kept(rate, self._kinds(rate, self._ways.alone, chosen)) if chosen else None

    def _disaggregated(self, rate: float) -> dict[str, _Kind] | None:
        """Over the decode workers that several ceilings on TPOT ask for, the cheapest with their prefill."""
        best: dict[str, _Kind] | None = None
        cheapest = np.inf
        seen: set[tuple[int, ...]] = set()
        for curves in self._ways.decode:
            chosen = self._least(rate, curves)
            if chosen is None or chosen.counts in seen:
                continue
            seen.add(chosen.counts)
            decode = self._kinds(rate, curves, chosen)
            fewest = self._least(rate, self._ways.prefill)
            if fewest is None or chosen.cost + fewest.cost >= cheapest:
                continue
            sending = self._least(rate, exact := self._prefill_beside(rate, decode))
            if sending is None or chosen.cost + sending.cost >= cheapest:
                continue
            found = self._kept(rate, self._kinds(rate, exact, sending) | decode)
            if found is not None:
                best, cheapest = found, chosen.cost + sending.cost
        return best

    @cached_property
    def _ways(self) -> _Ways:
        """What each kind serves, by number of workers."""
        whole = float(np.inf if self.slo.ttft_s is None else self.slo.ttft_s)
        if self.plan.colocated:
            return _Ways(alone=self._curves("colocated", self._limit(whole, 0.0, np.inf)))
        tied = self.slo.ttft_s is not None or self.slo.request_latency_s is not None
        ceilings = [np.inf]
        if tied:  # quicker first steps leave prefill more time
            routes = mixed_routes(self.world, self.plan, self.workload, self.slo)
            slowest = max(float(np.max(route.served.tpots["slo"])) for route in routes)
            ceilings += [slowest * (1 + 1e-9) * share for share in CEILINGS]
        return _Ways(
            decode=[self._curves("decode", self._limit(np.inf, 0.0, c)) for c in ceilings],
            prefill=self._curves("prefill", self._limit(ttft_before_s(self.slo, 0.0), 0.0, np.inf)),
        )

    def _prefill_beside(self, rate: float, decode: Mapping[str, _Kind]) -> dict[str, Curve]:
        """What prefill serves where it leaves the time of these decode workers' first step."""
        sending = {name: kind for name, kind in self._all().items() if role_of(name) == "prefill"}
        whole = _assembled(self.plan, {**sending, **decode})
        parts: dict[str, Any] = {
            role: tuple(Part(pool=kind.plan, share=kind.share) for kind in kinds)
            for role, kinds in (("prefill", sending.values()), ("decode", decode.values()))
        }
        mixed = Mixed(**{f.name: getattr(self.plan, f.name) for f in fields(Serving)}, **parts)
        workload = self.workload.at_rate(rate)
        routes = mixed_routes(self.world, mixed, workload, self.slo)
        first = max(float(np.max(route.served.parts["first decode step"])) for route in routes)
        late = max(float(np.max(route.served.tpots["slo"])) for route in routes)
        answer = late * max(workload.osl - 1.0, 0.0)
        after = first + longest_transfer_s(self.world, whole, workload, self.slo)
        return self._curves("prefill", self._limit(ttft_before_s(self.slo, answer), after, np.inf))

    def _curves(self, role: str, limits: Limits) -> dict[str, Curve]:
        """The rates of a role's kinds at all numbers of workers up to the plan's."""
        return {
            name: Curve(
                role=role,
                hardware=pool.hardware,
                type=self._types[name],
                gpus_each=pool.gpus_per_worker,
                counts=(),
                rates=np.zeros(0),
                limits=limits,
            ).at_counts(range(1, pool.workers + 1))
            for name, pool in self.plan.pools.items()
            if role_of(name) == role
        }

    def _kinds(self, rate: float, curves: Mapping[str, Curve], chosen: _Chosen) -> dict[str, _Kind]:
        """So many workers of each kind, requests split by what they serve, batches that suit them."""
        used = {name: n for name, n in zip(curves, chosen.counts, strict=True) if n}
        shares = proportional([float(curves[name].rates[n - 1]) for name, n in used.items()])
        found = {}
        for (name, n), share in zip(used.items(), shares, strict=True):
            pool = self.plan.pools[name]
            batch = max(pool.max_batch or 1, curves[name].max_batch_at(n, rate * share))
            found[name] = _Kind(plan=replace(pool, workers=n, max_batch=batch), share=share)
        return found

    def _kept(self, rate: float, kinds: dict[str, _Kind]) -> dict[str, _Kind] | None:
        """The kinds if they keep every limit."""
        plan = _assembled(self.plan, kinds)
        return kinds if plan_meets(self.world, plan, self.workload.at_rate(rate), self.slo) else None

    def _all(self) -> dict[str, _Kind]:
        return {name: _Kind(plan=part.pool, share=part.share) for name, part in self.plan.named_parts.items()}

    def _least(self, rate: float, curves: Mapping[str, Curve]) -> _Chosen | None:
        """The cheapest numbers of workers that serve the rate together; None where all do not."""
        *others, last = [np.concatenate([[0.0], curve.rates]) for curve in curves.values()]
        each = [self.objective.unit_price[c.hardware] * c.gpus_each for c in curves.values()]
        grids = np.meshgrid(*_counts([len(rates) - 1 for rates in others]), indexing="ij")
        counts = [grid.ravel() for grid in grids]
        served = sum((rates[n] for rates, n in zip(others, counts, strict=True)), start=np.zeros(1))
        cost = sum(
            (c * (n + self.spare * (n > 0)) for c, n in zip(each, counts, strict=False)), start=np.zeros(1)
        )
        # As many of the last kind as are missing; R(n) rises with n.
        more = np.searchsorted(np.maximum.accumulate(last), rate - served - 1e-9 * rate, side="left")
        enough = more < len(last)
        if not enough.any():
            return None
        total = np.where(enough, cost + each[-1] * (more + self.spare * (more > 0)), np.inf)
        best = int(np.argmin(np.round(total, 9)))
        chosen = (*(int(n[best]) for n in counts), int(more[best]))
        return _Chosen(counts=chosen, cost=float(total[best]))

    @cached_property
    def _types(self) -> dict[str, Choices]:
        return {name: self._type(name, pool) for name, pool in self.plan.pools.items()}

    def _type(self, name: str, pool: PoolPlan) -> Choices:
        """A worker type alone; one that decodes with the batch that memory and TPOT allow."""
        role = role_of(name)
        asked = replace(pool, workers=1, max_batch=pool.max_batch if role == "prefill" else None)
        built = build_pool(self.world, self.plan, asked, role, self.workload)
        price = self.objective.unit_price[pool.hardware]
        alone = Candidates(
            hardware=pool.hardware,
            pool=built,
            unit_cost=built.layout.gpus * price,
            enumerated=1,
            chunk_tokens=pool.chunk_tokens,
        )
        if role == "prefill":
            service = prefill_service(built, self.workload)
            flat = replace(
                service, time_s=np.atleast_1d(service.time_s), prompts=np.atleast_1d(service.prompts)
            )
            return PrefillChoices(candidates=alone, service=flat)
        limit = tpot_limit_s(self.slo, self.workload.osl)
        return decode_choices(alone, self.workload, limit, role == "colocated")

    def _limit(self, ttft_s: float, after_prefill_s: float, tpot_s: float) -> Limits:
        return Limits(
            workload=self.workload,
            slo=self.slo,
            ttft_s=ttft_s,
            after_prefill_s=after_prefill_s if np.isfinite(ttft_s) else 0.0,
            tpot_s=tpot_s,
        )


def _counts(most: Sequence[int]) -> list[Array]:
    """Numbers of workers of each kind: all of them, or in steps where their combinations are too many."""
    step = [1] * len(most)
    while np.prod([m // s + 1 for m, s in zip(most, step, strict=True)]) > MOST_COMBINATIONS:
        widest = max(range(len(most)), key=lambda k: most[k] // step[k])
        step[widest] *= 2
    return [np.arange(0, m + 1, s) for m, s in zip(most, step, strict=True)]


def _assembled(plan: Mixed, kinds: Mapping[str, _Kind], batches: Plan | None = None, spare: int = 0) -> Plan:
    """The plan of these kinds of workers and spare ones, its batches as `batches` has them."""
    roles: dict[str, list[Part]] = {}
    for name, kind in kinds.items():
        batch = batches.pools[name].max_batch if batches else kind.plan.max_batch
        pool = replace(kind.plan, workers=kind.plan.workers + spare, max_batch=batch)
        roles.setdefault(role_of(name), []).append(Part(pool=pool, share=kind.share))
    return plan_of(plan, **{role: tuple(parts) for role, parts in roles.items()})


def _named(metrics: Metrics, names: Mapping[str, str]) -> Metrics:
    """Values by pool under the names of the whole plan's kinds: at a low rate the second may run alone."""

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        return {names.get(name, name): value for name, value in values.items()}

    return replace(
        metrics,
        utilisation=renamed(metrics.utilisation),
        running=renamed(metrics.running),
        max_batch=renamed(metrics.max_batch),
    )
