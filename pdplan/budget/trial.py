"""Evaluate a deployment as often as judging and mending it needs, each plan once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pdplan.budget.measures import MEMORY, Measure, find_measure
from pdplan.budget.result import Deployment, Limit
from pdplan.compose import build_pool, evaluate_plan
from pdplan.evaluate import pool_memory
from pdplan.goodput import highest_rate
from pdplan.memory import MemoryBudget
from pdplan.plan import CACHE, WEIGHTS, Metrics, Plan, role_of
from pdplan.uncertainty import ErrorBar, grounds, is_loaded, slo_of, spread

_WITHOUT_WORK = ("usd_per_h", "gpus", "power_kw")
"""Known whatever the deployment can do."""
_FOUND_BY_SEARCH = ("requests_per_s", "goodput_requests_per_s")
"""Of highest rates: a limit on them can be tested at one rate."""
_OF_TPOT = ("tok_per_s_per_user",)
_OF_RATE = ("total_tok_per_s_per_gpu", "output_tok_per_s_per_gpu")
_PER_RATE = ("usd_per_million_output_tokens", "usd_per_million_tokens")
"""Measures that follow from throughput, which is a result in a closed loop alone."""
_EXACT: Mapping[str, float] = {"ttft": 1.0, "tpot": 1.0, "tok_per_s_per_gpu": 1.0}
"""Measured over predicted, if predictions were right."""


class Bench:
    """Finds the measures of a deployment under its own plan, or under an edited one."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._metrics: dict[tuple[Plan, float, float | None], Metrics] = {}
        self._goodput: dict[Plan, float] = {}
        self._capacity: dict[Plan, float] = {}

    def metrics(self, plan: Plan, percentile: float | None = None, rate: float | None = None) -> Metrics:
        """What the plan does, at another percentile or rate than the deployment's if given."""
        own = self.deployment
        at = own.slo.percentile if percentile is None else percentile
        key = (plan, at, rate)
        if key not in self._metrics:
            workload = own.workload if rate is None else own.workload.at_rate(rate)
            # Infinite waits are an answer here.
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                found = evaluate_plan(own.world, plan, workload, replace(own.slo, percentile=at))
            self._metrics[key] = found
        return self._metrics[key]

    def value(self, measure: Measure, plan: Plan) -> float | None:
        """What a limit is held against: the estimate, latencies at the confidence that the SLO asks for.

        None where the plan cannot do the work it is measured at.
        """
        found = self.estimate(measure, plan)
        return None if found is None else self._off_by(self._room(plan), measure, plan, found)

    def bar(self, measure: Measure, plan: Plan) -> ErrorBar | None:
        """Where 8 of 10 measurements of the measure would lie; None where measured runs do not tell."""
        found = self.estimate(measure, plan)
        closed = self.deployment.workload.concurrency is not None
        follows = measure.is_latency or measure.key in _OF_TPOT or measure.key in _FOUND_BY_SEARCH
        if not found or not (follows or (closed and measure.key in (*_OF_RATE, *_PER_RATE))):
            return None
        on = grounds(plan, self.deployment.world.calibration, is_loaded(self.metrics(plan)))
        spreads = {name: spread(name, *on) for name in _EXACT}
        ends = [
            self._off_by({n: getattr(s, end) for n, s in spreads.items()}, measure, plan, found)
            for end in ("low", "high")
        ]
        return ErrorBar(low=min(ends), high=max(ends))

    def _room(self, plan: Plan) -> Mapping[str, float]:
        """Measured over predicted that the confidence of the SLO allows for, by quantity."""
        slo = slo_of(plan, self.deployment.slo)
        return {**_EXACT, "ttft": slo.ttft_factor, "tpot": slo.tpot_factor}

    def _off_by(
        self,
        factors: Mapping[str, float],
        measure: Measure,
        plan: Plan,
        found: float,
        rate: float | None = None,
    ) -> float:
        """The measure if TTFT, TPOT and throughput were so many times their predictions."""
        if measure.base == "request_latency":
            first = find_measure(measure.key.replace(measure.base, "ttft"), self.deployment.slo.percentile)
            ttft = self._latency(first, plan, rate)
            return factors["ttft"] * ttft + factors["tpot"] * (found - ttft)
        if measure.base in ("ttft", "tpot"):
            return factors[measure.base] * found
        if measure.key in _OF_TPOT:
            return found / factors["tpot"]
        if measure.key in (*_FOUND_BY_SEARCH, *_OF_RATE):
            return found * factors["tok_per_s_per_gpu"]
        return found / factors["tok_per_s_per_gpu"] if measure.key in _PER_RATE else found

    def estimate(self, measure: Measure, plan: Plan) -> float | None:
        """The measure under the plan as predicted; None where the plan cannot do what it is measured at."""
        metrics = self.metrics(plan)
        if measure.key in _WITHOUT_WORK:
            return float(getattr(metrics, measure.key))
        if metrics.problem in (WEIGHTS, CACHE):
            return 0.0 if measure.key in _FOUND_BY_SEARCH else None
        if measure.key == "goodput_requests_per_s":
            return self.goodput(plan)
        if measure.key == "requests_per_s":
            closed = self.deployment.workload.concurrency is not None
            return float(metrics.requests_per_s) if closed else self.capacity(plan)
        if measure.key.endswith("utilisation"):
            return self._utilisation(measure, metrics)
        if metrics.problem:
            return None
        if measure.is_latency:
            return self._latency(measure, plan, rate=None)
        if measure.key == "kv_cache":
            return self._kv_cache(plan, metrics)
        return float(getattr(metrics, measure.field))

    def is_judged(self, measure: Measure, plan: Plan) -> bool:
        """Whether the measure means anything under the plan."""
        return measure.key in _FOUND_BY_SEARCH or self.value(measure, plan) is not None

    def keeps(self, limit: Limit, plan: Plan) -> bool:
        """Whether the plan keeps the limit: as `value` says, but without searching for a rate."""
        metrics, key = self.metrics(plan), limit.measure.key
        if limit.bound == "min" and key in _FOUND_BY_SEARCH and metrics.problem not in (WEIGHTS, CACHE):
            if key == "goodput_requests_per_s":
                return limit.value == 0 or self.keeps_latency(plan, limit.value)
            if self.deployment.workload.concurrency is None:
                return limit.value == 0 or self.metrics(plan, rate=limit.value).problem == 0
        found = self.value(limit.measure, plan)
        return found is not None and limit.kept_by(found)

    def keeps_latency(self, plan: Plan, rate: float) -> bool:
        """Whether the plan can carry `rate` and keeps every latency limit at it."""
        room = self._room(plan)
        return self.metrics(plan, rate=rate).problem == 0 and all(
            x.kept_by(self._off_by(room, x.measure, plan, self._latency(x.measure, plan, rate), rate))
            for x in self.deployment.limits
            if x.measure.is_latency and x.bound == "max"
        )

    def goodput(self, plan: Plan) -> float:
        """The highest rate at which every latency limit of the deployment still holds [requests/s]."""
        if plan not in self._goodput:
            start = self._first_rate("goodput_requests_per_s")
            self._goodput[plan] = highest_rate(lambda rate: self.keeps_latency(plan, rate), start=start)
        return self._goodput[plan]

    def _first_rate(self, key: str) -> float:
        """Where to start a search for a rate: at the limit, so that finding and `keeps` agree exactly."""
        asked = [x.value for x in self.deployment.limits if x.measure.key == key and x.bound == "min"]
        return next(iter(asked), 0.0) or self.deployment.workload.rate or 1.0

    def capacity(self, plan: Plan) -> float:
        """The highest rate that the plan can keep up with, whatever the latency [requests/s]."""
        if plan not in self._capacity:
            start = self._first_rate("requests_per_s")
            self._capacity[plan] = highest_rate(
                lambda r: self.metrics(plan, rate=r).problem == 0, start=start
            )
        return self._capacity[plan]

    def memory(self, plan: Plan) -> tuple[str, MemoryBudget]:
        """The pool that is shortest of memory, and its budget."""
        pools = {role: self._memory(plan, role) for role in plan.pools}
        role = max(pools, key=lambda r: needed_bytes(pools[r]) / float(pools[r].usable.item()))
        return role, pools[role]

    def _memory(self, plan: Plan, role: str) -> MemoryBudget:
        own = self.deployment
        pool = build_pool(own.world, plan, plan.pools[role], role_of(role), own.workload)
        return pool_memory(pool, own.workload)

    def _latency(self, measure: Measure, plan: Plan, rate: float | None) -> float:
        found = self.metrics(plan, rate=rate)
        if measure.percentile is None or hasattr(found, measure.field):
            return float(getattr(found, measure.field))
        return float(getattr(self.metrics(plan, measure.percentile, rate), f"{measure.base}_slo_s"))

    @staticmethod
    def _utilisation(measure: Measure, metrics: Metrics) -> float | None:
        pool = measure.key.removesuffix("utilisation").rstrip("_")
        if not pool:
            return float(max(metrics.utilisation.values()))
        own = [busy for name, busy in metrics.utilisation.items() if role_of(name) in (pool, "colocated")]
        return float(max(own)) if own else None

    def _kv_cache(self, plan: Plan, metrics: Metrics) -> float:
        """Of the kind of worker that is fullest."""
        decoding = [name for name in plan.pools if role_of(name) in ("decode", "colocated")]
        return max(
            float(metrics.running[name] / self._memory(plan, name).max_sequences.item()) for name in decoding
        )


def needed_bytes(memory: MemoryBudget) -> float:
    """Bytes of one accelerator with the cache of one request per rank."""
    return float((memory.weights + memory.reserve + memory.sequence).item())


def limits_of(bench: Bench, plan: Plan) -> tuple[Limit, ...]:
    """The deployment's limits, led by memory or the rate where `plan` cannot work at all for lack of it."""
    deployment = bench.deployment
    problem = bench.metrics(plan).problem
    if problem in (WEIGHTS, CACHE):
        role, memory = bench.memory(plan)
        usable = float(memory.usable.item())
        fits = Limit(measure=MEMORY, bound="max", value=usable, spot=deployment.spot_of(f"{role}.tp"))
        return (fits, *deployment.limits)
    rate = deployment.workload.rate
    if problem and rate is not None:  # a closed loop always keeps up with itself
        served = find_measure("requests_per_s", deployment.slo.percentile)
        own = [x for x in deployment.limits if x.measure == served and x.bound == "min" and x.value >= rate]
        if not own:
            spot = deployment.spot_of("workload.rate")
            return (Limit(measure=served, bound="min", value=rate, spot=spot), *deployment.limits)
    return deployment.limits


def breached_limits(bench: Bench, plan: Plan) -> tuple[Limit, ...]:
    """The limits that the plan breaches: what judging finds, without the numbers that take a search."""
    found = []
    for limit in limits_of(bench, plan):
        if limit.measure is MEMORY or (bench.is_judged(limit.measure, plan) and not bench.keeps(limit, plan)):
            found.append(limit)
    return tuple(found)
