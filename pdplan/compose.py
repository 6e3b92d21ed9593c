"""From catalog entries to numbers: the settings that formulas work on.

Formulas know no catalog class; this is where its numbers are handed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pdplan.architecture.checkpoints import checkpoint_for
from pdplan.architecture.model import Model
from pdplan.architecture.stack import fold, fold_draft
from pdplan.calibrated import Calibration
from pdplan.catalog.accelerator import Accelerator
from pdplan.efficiency import (
    Case,
    Constants,
    LinkSpeeds,
    engine_constants,
    ideal_constants,
    network_constants,
    resolve_constants,
)
from pdplan.errors import InputError
from pdplan.evaluate import (
    Economics,
    evaluate_colocated,
    evaluate_disaggregated,
    meets,
    pool_memory,
    serve_colocated,
    serve_disaggregated,
)
from pdplan.formats import Formats
from pdplan.laws.collectives import Links
from pdplan.laws.kv_transfer import Network
from pdplan.layout import Layout
from pdplan.market import Bill, Lot, Market, Tariff, bill_of
from pdplan.mixture import Route, every_route_meets, mixed_metrics
from pdplan.plan import Colocated, Disaggregated, Metrics, Mixed, Plan, PoolPlan, Serving, role_of
from pdplan.pools import Pool, pool_tpot_s, prefill_service
from pdplan.roots import increasing_root
from pdplan.step import Setting
from pdplan.workload import Slo, Speculation, Workload

KV_PRECISIONS = ("auto", "bf16", "fp8")
ARITHMETIC = ("bf16", "fp8", "int8", "fp4")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The network between pools as the user states it; None takes the accelerators' own links."""

    bandwidth_bytes_per_s: float | None = None
    latency_s: float | None = None
    round_trip_s: float = 10e-6
    jitter_s: float = 0.0
    loss: float = 0.0
    transport: str = "rdma"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What a sensitivity analysis turns beside inputs and catalog: factors on fitted constants."""

    engine: tuple[tuple[str, float], ...] = ()
    """(field of Engine, factor)."""
    network: float = 1.0
    """Factor on the bandwidth between pools."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that is given: entries by name, prices, network, whether constants are ideal."""

    models: Mapping[str, Model]
    accelerators: Mapping[str, Accelerator]
    prices: Mapping[str, float]
    network: NetworkSpec = NetworkSpec()
    ideal: bool = False
    varied: Variation = Variation()
    market: Market = field(default_factory=Market)
    calibration: Calibration | None = None
    """The user's own runs, where they were given: constants fitted to them stand in for the shipped ones."""
    constants: Mapping[str, Any] | None = None
    """Stands in for constants/engines.yaml in a fit; None takes the calibration's, or the shipped file."""
    settings: dict[tuple[object, ...], Setting] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Those that were built of it: plans of one world share them, and what was prepared of them."""

    @property
    def engines(self) -> Mapping[str, Any] | None:
        """The document of engine constants; None is the shipped one."""
        if self.constants is None and self.calibration is not None:
            return self.calibration.document
        return self.constants

    def model(self, name: str) -> Model:
        return self.models[name]

    def accelerator(self, name: str) -> Accelerator:
        return self.accelerators[name]

    def lots(self, hardware: str) -> tuple[Lot, ...]:
        """What there is of an accelerator at which price, cheapest first; the price may be NaN."""
        if hardware in self.market.inventory:
            return self.market.inventory[hardware]
        if hardware in self.prices:
            return (Lot(usd_per_h=self.prices[hardware]),)
        price = self.accelerators[hardware].default_price(self.market.price_kind, self.market.provider)
        if price is None:
            return (Lot(usd_per_h=float("nan")),)
        return (Lot(usd_per_h=price.usd_per_h, kind=price.kind, provider=price.provider, date=price.date),)

    def price(self, hardware: str) -> float:
        """Dollars per accelerator and hour, of the cheapest lot; NaN where none is known."""
        return self.lots(hardware)[0].usd_per_h

    def tariff(self, hardware: str) -> Tariff:
        """What a number of accelerators costs, up to as many as there are."""
        return Tariff(lots=self.lots(hardware), unit=self.market.unit(self.accelerators[hardware]))

    def watts(self, hardware: str) -> float:
        power = self.accelerators[hardware].power_w
        return power.value if power else float("nan")


def kv_precision_for(
    kv_precision: str, precision: str, engine: str, engines: Mapping[str, Any] | None = None
) -> str:
    """What `auto` means: 16 bit, or FP8 where the engine lets the cache follow quantised weights."""
    if kv_precision != "auto":
        return kv_precision
    follows = engine_constants(engine, document=engines).kv_follows_weights and precision in ("fp8", "fp4")
    return "fp8" if follows else "bf16"


def build_setting(world: World, serving: Serving, hardware: str, chunk_tokens: int | None = None) -> Setting:
    """A model in its formats on an accelerator under an engine, whose default `chunk_tokens` replaces."""
    formats = serving.precision, serving.kv_precision
    key = (serving.model, *formats, serving.engine, serving.overlap, hardware, chunk_tokens)
    if key not in world.settings:
        world.settings[key] = _build_setting(world, serving, hardware, chunk_tokens)
    return world.settings[key]


def _build_setting(world: World, serving: Serving, hardware: str, chunk_tokens: int | None) -> Setting:
    model, accelerator = world.model(serving.model), world.accelerator(hardware)
    constants = _varied(_constants(world, accelerator, serving), world.varied)
    usable = accelerator.memory.usable_bytes.value
    if usable < constants.engine.small_memory_bytes:
        engine = replace(
            constants.engine,
            sampler_sequences=constants.engine.small_sampler_sequences,
            max_step_tokens=constants.engine.small_step_tokens,
        )
        constants = replace(constants, engine=engine)
    if chunk_tokens is not None:
        engine = replace(constants.engine, max_step_tokens=float(chunk_tokens))
        constants = replace(constants, engine=engine)
    peaks = {t: float(p) for t in ARITHMETIC if (p := accelerator.peak(t)) is not None}  # type: ignore[arg-type]
    formats = Formats(
        precision=serving.precision,
        checkpoint=checkpoint_for(model, serving.precision),
        kv=serving.kv_precision,
        peaks=peaks,
    )
    return Setting(
        stack=fold(model),
        draft=fold_draft(model),
        formats=formats,
        bandwidth_bytes_per_s=accelerator.memory.bandwidth_bytes_per_s.value,
        usable_bytes=usable,
        constants=constants,
        two_batch=serving.overlap == "two-batch",
    )


def _varied(constants: Constants, varied: Variation) -> Constants:
    """Constants with the factors of a sensitivity analysis on their engine."""
    if not varied.engine:
        return constants
    engine = constants.engine
    factors = {name: getattr(engine, name) * factor for name, factor in varied.engine}
    return replace(constants, engine=replace(engine, **factors))


def _constants(world: World, accelerator: Accelerator, serving: Serving) -> Constants:
    up, out = accelerator.scale_up, accelerator.scale_out
    speeds = LinkSpeeds(
        # Without a link in the catalog no worker may span accelerators (see search.layouts).
        scale_up_bytes_per_s=up.bandwidth_bytes_per_s.value if up else 1.0,
        scale_out_bytes_per_s=out.bandwidth_bytes_per_s.value if out else 1.0,
        domain_size=accelerator.scale_up_domain_size,
        switch_reduces=up is not None and up.reduces_in_switch,
    )
    if world.ideal:
        return ideal_constants(
            Links(
                scale_up_bytes_per_s=speeds.scale_up_bytes_per_s,
                scale_out_bytes_per_s=speeds.scale_out_bytes_per_s,
                domain_size=speeds.domain_size,
                switch_reduces=speeds.switch_reduces,
            )
        )
    return resolve_constants(engine_case(serving, accelerator), speeds, world.engines)


def engine_case(serving: Serving, accelerator: Accelerator) -> Case:
    """What the engine's constants are asked for."""
    return Case(
        engine=serving.engine,
        generation=accelerator.generation,
        accelerator=accelerator.name,
        model=serving.model,
    )


def build_network(world: World, prefill_hardware: str, decode_hardware: str) -> Network:
    """The network between two pools: the user's, or the slower of the two accelerators' own links.

    Rack-scale parts (a scale-up domain wider than a node) of one kind send over the domain.
    """
    spec = world.network
    constants = (
        {"efficiency": 1.0, "latency_s": 0.0, "layer_latency_s": 0.0} if world.ideal else network_constants()
    )
    bandwidth = spec.bandwidth_bytes_per_s or default_bandwidth(world, prefill_hardware, decode_hardware)
    if bandwidth is None:
        missing = [h for h in (prefill_hardware, decode_hardware) if world.accelerator(h).scale_out is None]
        raise InputError(
            f"no network is known between {prefill_hardware} and {decode_hardware}: the catalog has no "
            f"scale-out link for {' and '.join(dict.fromkeys(missing))}; give one, e.g. --network 400Gbps"
        )
    return Network(
        bandwidth_bytes_per_s=bandwidth * world.varied.network,
        efficiency=constants["efficiency"],
        latency_s=constants["latency_s"] if spec.latency_s is None else spec.latency_s,
        layer_latency_s=constants["layer_latency_s"],
        round_trip_s=spec.round_trip_s,
        jitter_s=spec.jitter_s,
        loss=spec.loss,
        transport=spec.transport,  # type: ignore[arg-type]
        packet_bytes=4096.0 if spec.transport == "rdma" else 1460.0,
    )


def default_bandwidth(world: World, prefill_hardware: str, decode_hardware: str) -> float | None:
    """Bytes/s of one accelerator's link towards the other pool, None where the catalog has none."""
    a, b = world.accelerator(prefill_hardware), world.accelerator(decode_hardware)
    if a is b and a.scale_up and a.scale_up_domain_size > a.accelerators_per_node:
        return a.scale_up.bandwidth_bytes_per_s.value
    if a.scale_out is None or b.scale_out is None:
        return None
    return min(a.scale_out.bandwidth_bytes_per_s.value, b.scale_out.bandwidth_bytes_per_s.value)


def build_pool(world: World, serving: Serving, plan: PoolPlan, role: str, workload: Workload) -> Pool:
    """One pool of a plan as an array of one; a missing max_batch becomes what memory holds."""
    pool = Pool(
        setting=build_setting(world, serving, plan.hardware, plan.chunk_tokens),
        layout=with_copies(Layout(tp=[plan.tp], pp=[plan.pp], dp=[plan.dp], ep=[plan.ep]), serving),
        workers=np.asarray([float(plan.workers)]),
        max_batch=np.asarray([float(plan.max_batch or 1)]),
        speculation=Speculation() if role == "prefill" else serving.speculation,
    )
    if role == "prefill":
        if plan.max_batch is None:
            pool = replace(pool, max_batch=default_prompts(pool, workload))
        return pool
    held = np.maximum(pool_memory(pool, workload).max_sequences, 1.0)
    if plan.max_batch is None:
        return replace(pool, max_batch=held)
    return replace(pool, max_batch=np.minimum(held, float(plan.max_batch)))


def with_copies(layout: Layout, serving: Serving) -> Layout:
    """Layouts with the plan's redundant experts, where there are ranks to even out."""
    return replace(layout, redundant=np.where(layout.ep > 1, serving.redundant_experts, 0))


def default_prompts(pool: Pool, workload: Workload) -> np.ndarray:
    """Prompts a prefill worker takes at once: as many per server as one step's tokens hold, at least one."""
    step = pool.setting.constants.engine.max_step_tokens
    return np.asarray(max(step // workload.new_tokens, 1.0) * pool.micro_batches_per_worker)


def economics(world: World, pools: Mapping[str, PoolPlan]) -> Economics:
    return Economics(
        usd_per_gpu_h={name: world.price(p.hardware) for name, p in pools.items()},
        watt_per_gpu={name: world.watts(p.hardware) for name, p in pools.items()},
    )


def mixed_routes(world: World, plan: Mixed, workload: Workload, slo: Slo) -> list[Route]:
    """Every way of a request through a plan of mixed pools."""
    if workload.concurrency is not None:
        raise InputError(
            "a plan of mixed pools is evaluated at a rate, not at a concurrency: how a closed loop splits "
            "its requests is not known; give --rate"
        )
    parts = plan.named_parts
    pools = {
        name: replace(
            build_pool(world, plan, part.pool, role_of(name), workload), share=np.asarray([part.share])
        )
        for name, part in parts.items()
    }
    if plan.colocated:
        return [
            Route(
                weight=part.share,
                names={"colocated": name},
                served=serve_colocated(pools[name], workload, slo),
            )
            for name, part in parts.items()
        ]
    return [
        Route(
            weight=parts[p].share * parts[d].share,
            names={"prefill": p, "decode": d},
            served=serve_disaggregated(
                pools[p],
                pools[d],
                workload,
                slo,
                build_network(world, parts[p].pool.hardware, parts[d].pool.hardware),
            ),
        )
        for p in parts
        if role_of(p) == "prefill"
        for d in parts
        if role_of(d) == "decode"
    ]


def full_rate_requests_per_s(
    world: World, serving: Serving, plan: PoolPlan, role: str, workload: Workload, slo: Slo
) -> float:
    """Requests/s that a pool serves with full batches, within the TPOT limit where it decodes; no queue."""
    pool = build_pool(world, serving, plan, role, workload)
    if role == "prefill":
        return float((prefill_service(pool, workload).rate_per_server * pool.servers)[0])
    colocated, batch = role == "colocated", np.asarray(pool.max_batch, dtype=float)
    if slo.tpot_s is not None:
        batch = increasing_root(
            lambda running: pool_tpot_s(pool, workload, running, colocated) - slo.tpot_s,
            np.full(1, 1e-6),
            batch,
        )
    tpot = pool_tpot_s(pool, workload, batch, colocated)
    return float((pool.workers * batch / (workload.osl * tpot))[0])


def plan_meets(world: World, plan: Plan, workload: Workload, slo: Slo) -> bool:
    """Whether a plan keeps every limit; of mixed pools, whether each kind of worker does by itself."""
    if isinstance(plan, Mixed):
        return every_route_meets(mixed_routes(world, plan, workload, slo), workload, slo)
    return bool(meets(evaluate_plan(world, plan, workload, slo), slo))


def plan_bill(world: World, plan: Plan) -> Bill:
    """What a plan buys: lots, whole nodes where the market sells no less, what is missing."""
    workers: dict[str, list[tuple[int, int]]] = {}
    for pool in plan.pools.values():
        workers.setdefault(pool.hardware, []).append((pool.gpus_per_worker, pool.workers))
    return bill_of(workers, {hardware: world.tariff(hardware) for hardware in workers})


def mean_prices_usd_per_h(world: World, plan: Plan) -> dict[str, float]:
    """Dollars per accelerator of the plan and hour, by name: its bill over those that it uses."""
    used: dict[str, int] = {}
    for pool in plan.pools.values():
        used[pool.hardware] = used.get(pool.hardware, 0) + pool.gpus
    bill = plan_bill(world, plan)
    found: dict[str, float] = {}
    for hardware, count in used.items():
        lines = [line for line in bill.lines if line.hardware == hardware]
        one = len(lines) == 1 and lines[0].gpus == count
        found[hardware] = lines[0].lot.usd_per_h if one else sum(x.usd_per_h for x in lines) / count
    return found


def billed(metrics: Metrics, world: World, plan: Plan) -> Metrics:
    """Metrics with the cost of the plan's bill, where that is more than price times accelerators."""
    if all(world.tariff(pool.hardware).is_plain for pool in plan.pools.values()):
        return metrics
    return repriced(metrics, plan_bill(world, plan).usd_per_h)


def repriced(metrics: Metrics, usd_per_h: float) -> Metrics:
    """Metrics at another cost."""
    share = usd_per_h / metrics.usd_per_h
    return replace(
        metrics,
        usd_per_h=usd_per_h,
        usd_per_million_output_tokens=metrics.usd_per_million_output_tokens * share,
        usd_per_million_tokens=metrics.usd_per_million_tokens * share,
    )


def evaluate_plan(world: World, plan: Plan, workload: Workload, slo: Slo) -> Metrics:
    """Metrics of one plan: the composition point for a single deployment."""
    return billed(evaluate_pools(world, plan, workload, slo).at(0), world, plan)


def evaluate_pools(world: World, plan: Plan, workload: Workload, slo: Slo) -> Metrics:
    """Metrics of one plan, every accelerator at its cheapest price, as arrays.

    The workload's rate and lengths may be arrays of one shape: but for mixes, its metrics for each.
    """
    money = economics(world, plan.pools)
    if isinstance(plan, Colocated):
        pool = build_pool(world, plan, plan.colocated, "colocated", workload)
        return evaluate_colocated(pool, workload, slo, money)
    if isinstance(plan, Mixed):
        return mixed_metrics(mixed_routes(world, plan, workload, slo), workload, slo, money)
    assert isinstance(plan, Disaggregated)
    prefill = build_pool(world, plan, plan.prefill, "prefill", workload)
    decode = build_pool(world, plan, plan.decode, "decode", workload)
    network = build_network(world, plan.prefill.hardware, plan.decode.hardware)
    return evaluate_disaggregated(prefill, decode, workload, slo, network, money)
