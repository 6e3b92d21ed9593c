"""The case at hand: the planner's own pools and metrics, and the numbers that the question states."""

from __future__ import annotations

from dataclasses import dataclass

from pdplan.compose import World, build_network, build_pool, evaluate_plan
from pdplan.errors import InputError
from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.sources import OBJECTIVE, PLAN, QUESTION, Sources
from pdplan.laws.kv_transfer import Network
from pdplan.plan import Disaggregated, Metrics, Plan
from pdplan.pools import Pool
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

    @property
    def decoding(self) -> str:
        """The pool that decodes."""
        return "decode" if isinstance(self.plan, Disaggregated) else "colocated"

    @property
    def prefilling(self) -> str:
        return "prefill" if isinstance(self.plan, Disaggregated) else "colocated"

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
    pools = {name: build_pool(world, plan, pool, name, workload) for name, pool in plan.pools.items()}
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
        sources={
            name: Sources(
                world=world,
                serving=plan,
                hardware=pool.hardware,
                setting=pools[name].setting,
                chunk_given=pool.chunk_tokens is not None,
            )
            for name, pool in plan.pools.items()
        },
        network=network,
    )


def write_question(b: Builder, case: Case) -> None:
    """Section 0: what is explained."""
    plan, workload, slo = case.plan, case.workload, case.slo
    formats = case.pools[case.decoding].setting.formats
    b.section(
        "question",
        "What is explained",
        f"{plan.model} in {plan.precision} ({formats.checkpoint.source}), KV cache in {formats.kv}, on "
        f"{plan.engine}, {plan.mode}" + ("; every constant ideal" if case.world.ideal else ""),
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
        for key in ("workers", "tp", "pp", "dp", "ep"):
            b.given(f"{name}_{key}", getattr(pool, key), "", source)
        held = "as planned" if pool.max_batch else "what memory holds"
        b.given(f"{name}_max_batch", case.pools[name].max_batch, "requests", f"{source}, {held}")
    if plan.speculation.drafted:
        b.given("drafted", plan.speculation.drafted, "tokens", PLAN)
        b.given("acceptance", plan.speculation.acceptance, "", PLAN)
