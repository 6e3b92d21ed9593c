"""From catalog entries to numbers: the settings, networks and pools that formulas work on.

Formulas know no catalog class; this is where its numbers are handed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pdplan.architecture.checkpoints import checkpoint_for
from pdplan.architecture.stack import fold, fold_draft
from pdplan.catalog.accelerator import Accelerator
from pdplan.compose.world import Variation, World
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
from pdplan.evaluate import pool_memory
from pdplan.formats import Formats
from pdplan.laws.collectives import Links
from pdplan.laws.kv_transfer import Network
from pdplan.layout import Layout
from pdplan.plan import PoolPlan, Serving
from pdplan.serving.pools import Pool
from pdplan.step import Setting
from pdplan.workload import Speculation, Workload

KV_PRECISIONS = ("auto", "bf16", "fp8")
ARITHMETIC = ("bf16", "fp8", "int8", "fp4")


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
