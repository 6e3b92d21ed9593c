"""The case at hand: the planner's own pools and metrics, and the numbers that the question states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pdplan.compose import World, build_network, build_pool, evaluate_plan
from pdplan.errors import InputError
from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.sources import OBJECTIVE, PLAN, QUESTION, Sources
from pdplan.laws.kv_transfer import Network
from pdplan.plan import Disaggregated, Metrics, Mixed, Plan, PoolPlan, Serving, role_of
from pdplan.serving.pools import Pool
from pdplan.uncertainty import slo_of
from pdplan.workload import Slo, Workload


@dataclass(frozen=True, kw_only=True)
class Case:
    """A plan under a workload, evaluated."""

    world: World
    plan: Plan
    workload: Workload
    slo: Slo
    metrics: Metrics
    pools: dict[str, Pool]
    sources: dict[str, Sources]
    network: Network | None
    labels: Mapping[str, str] = field(default_factory=dict)
    """In a mix, by pool: which kind of worker this is."""
    arriving: Mapping[str, Quantity] = field(default_factory=dict)
    """In a mix, by pool: the requests that its router sends it."""

    @property
    def decoding(self) -> str:
        """The pool that decodes; of a mix its first kind of worker."""
        roles = ("decode", "colocated")
        return next(name for name in self.plan.pools if role_of(name) in roles)

    @property
    def prefilling(self) -> str:
        """The pool that prefills, likewise."""
        return next(iter(self.plan.pools))

    def titled(self, title: str, *pools: str) -> str:
        """A section's title, with the kinds of workers that it is about."""
        about = " → ".join(self.labels[name] for name in pools if name in self.labels)
        return f"{title}: {about}" if about else title

    def arrivals(self, name: str) -> Quantity:
        """Requests per second that come to a pool."""
        return self.arriving.get(name, self.rate)

    @property
    def isl(self) -> Quantity:
        return Quantity(float(self.workload.isl), "tokens", QUESTION)

    @property
    def osl(self) -> Quantity:
        return Quantity(float(self.workload.osl), "tokens", QUESTION)

    @property
    def rate(self) -> Quantity:
        """Requests per second: asked for, or what the closed loop yields."""
        if self.workload.concurrency is None:
            return Quantity(self.metrics.requests_per_s, "requests/s", QUESTION)
        return Quantity(self.metrics.requests_per_s, "requests/s", "the closed loop, solved")

    @property
    def jitter(self) -> Quantity | None:
        """The network's jitter, None where it has none."""
        if self.network is None or not self.network.jitter_s:
            return None
        return Quantity(self.network.jitter_s, "s", QUESTION)

    def workers(self, name: str) -> Quantity:
        return Quantity(float(self.plan.pools[name].workers), "workers", PLAN)

    def servers_per_worker(self, name: str) -> Quantity:
        plan = self.plan.pools[name]
        return Quantity(float(plan.dp), "servers", f"{PLAN}: dp of {name}")

    def micro_batches_per_worker(self, name: str) -> Quantity:
        plan = self.plan.pools[name]
        return Quantity(float(plan.dp * plan.pp), "micro-batches", f"{PLAN}: dp·pp of {name}")


def case_of(world: World, plan: Plan, workload: Workload, slo: Slo) -> Case:
    """Build and evaluate a plan as every command does."""
    if workload.rate is None and workload.concurrency is None:
        raise InputError("the load is missing; a derivation needs a rate (requests/s) or a concurrency")
    pools = {
        name: build_pool(world, plan, pool, role_of(name), workload) for name, pool in plan.pools.items()
    }
    network = None
    if isinstance(plan, Disaggregated):
        network = build_network(world, plan.prefill.hardware, plan.decode.hardware)
    return Case(
        world=world,
        plan=plan,
        workload=workload,
        slo=slo_of(plan, slo),
        metrics=evaluate_plan(world, plan, workload, slo),
        pools=pools,
        sources={name: sources_of(world, plan, pool, pools[name]) for name, pool in plan.pools.items()},
        network=network,
    )


def sources_of(world: World, serving: Serving, plan: PoolPlan, pool: Pool) -> Sources:
    """Where the numbers of one pool come from."""
    return Sources(
        world=world,
        serving=serving,
        hardware=plan.hardware,
        setting=pool.setting,
        chunk_given=plan.chunk_tokens is not None,
    )


def write_question(b: Builder, case: Case) -> None:
    """Section 0: what is explained."""
    plan, workload, slo = case.plan, case.workload, case.slo
    formats = case.pools[case.decoding].setting.formats
    b.section(
        "question",
        "What is explained",
        f"{plan.model} in {plan.precision} ({formats.checkpoint.source}), KV cache in {formats.kv}, on "
        f"{plan.engine}, {plan.mode}"
        + ("" if plan.overlap == "none" else f", {plan.overlap} overlap")
        + ("; every constant ideal" if case.world.ideal else ""),
    )
    b.given("ISL", workload.isl, "tokens", QUESTION)
    b.given("OSL", workload.osl, "tokens", QUESTION)
    if workload.rate is not None:
        b.given("rate", workload.rate, "requests/s", QUESTION)
    if workload.concurrency is not None:
        b.given("concurrency", workload.concurrency, "requests", QUESTION)
    for name in ("isl_cv", "osl_cv", "arrival_cv", "prefix_reuse"):
        if getattr(workload, name) != (1.0 if name == "arrival_cv" else 0.0):
            b.given(name, getattr(workload, name), "", QUESTION)
    for title, limit in (
        ("TTFT", slo.ttft_s),
        ("TPOT", slo.tpot_s),
        ("request_latency", slo.request_latency_s),
    ):
        if limit is not None:
            b.given(f"{title}_limit", limit, "s", OBJECTIVE)
    b.given("percentile", slo.percentile, "", OBJECTIVE)
    if slo.confidence is not None:
        b.given("confidence", slo.confidence, "", OBJECTIVE)
    for name, pool in plan.pools.items():
        source = f"{PLAN}: {name} pool on {pool.hardware}"
        symbol = name.replace(" ", "_")
        for key in ("workers", "tp", "pp", "dp", "ep"):
            b.given(f"{symbol}_{key}", getattr(pool, key), "", source)
        if isinstance(plan, Mixed):
            b.given(f"{symbol}_share", plan.named_parts[name].share, "", f"{source}, its share of requests")
        held = "as planned" if pool.max_batch else "what memory holds"
        b.given(f"{symbol}_max_batch", case.pools[name].max_batch, "requests", f"{source}, {held}")
    if plan.redundant_experts:
        b.given("redundant_experts", plan.redundant_experts, "experts", PLAN)
    if plan.speculation.drafted:
        b.given("drafted", plan.speculation.drafted, "tokens", PLAN)
        accepted = case.sources[case.decoding].acceptance()
        b.given("acceptance", accepted.value, "", accepted.source)
