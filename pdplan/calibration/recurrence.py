"""Fits linear attention: gated DeltaNet (Qwen3.5) and Kimi delta attention, prefill and decode.

The counts are those of `GatedLinear.state()`; the convolution before the recurrence is
part of the time. Mamba-2's tables hold its convolution only, so that it takes these
constants over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pdplan.architecture.mixers.gated_linear import GatedLinear
from pdplan.calibration.fit import Block, Recipe
from pdplan.calibration.pooling import Measured, blocks, not_from_cache, without_fallbacks
from pdplan.calibration.tables import ACCELERATORS, Columns, Tables
from pdplan.laws.roofline import Array, Roofline

SOURCES: dict[str, dict[str, str]] = {
    "aic-recurrence": {
        "title": "aiconfigurator linear-attention kernel tables (vLLM, SGLang, TensorRT-LLM)",
        "reference": "PyPI aiconfigurator-core 0.12.0, systems/data/*/{linear_attention,kda}, Apache-2.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}

_DECODE = Recipe(
    start=Roofline(memory_efficiency=0.7, overhead_s=5e-6, activation_traffic=1.0),
    free=("memory_efficiency", "overhead_s", "activation_traffic"),
)
_PREFILL = Recipe(
    start=Roofline(
        compute_efficiency=0.2,
        memory_efficiency=0.7,
        overhead_s=4e-5,
        exponent=2.0,
        activation_traffic=2.0,
        depth_s=2e-8,
    ),
    free=("compute_efficiency", "overhead_s", "activation_traffic", "depth_s"),
)
RECIPES: Mapping[str, Recipe] = {"decode_recurrence": _DECODE, "prefill_recurrence": _PREFILL}
_SHAPE = ("batch_size", "seq_len", "num_k_heads", "num_v_heads", "head_k_dim", "head_v_dim")
SHORTEST = 64


def fit(tables: Tables) -> list[Block]:
    """Entries of the recurrent families, by accelerator and by generation."""
    return blocks(measurements(tables), RECIPES)


def measurements(tables: Tables) -> Iterator[Measured]:
    """Decode and prefill of every table, convolution and recurrence added up."""
    for accelerator in ACCELERATORS:
        for op in ("gdn", "kda"):
            rows = tables.read(accelerator, op)
            if not rows:
                continue
            for phase, family in (("generation", "decode_recurrence"), ("context", "prefill_recurrence")):
                yield from _phase(accelerator, rows, phase, family, op == "kda")


def _phase(
    accelerator: str, rows: Columns, phase: str, family: str, channel_decay: bool
) -> Iterator[Measured]:
    engine, seconds, columns = _summed({k: v[rows["phase"] == phase] for k, v in rows.items()})
    batch, new = columns["batch_size"], columns["seq_len"] if phase == "context" else np.ones_like(seconds)
    measured = Measured(
        family=family,
        dtype="bf16",
        accelerator=accelerator,
        sheet=Tables.sheet(accelerator),
        counts=recurrence_counts(columns, batch, new, phase == "context", channel_decay),
        seconds=seconds,
        engine=engine,
        shapes={"batch": batch, "tokens": new, "value_heads": columns["num_v_heads"]},
        source="aic-recurrence",
    ).where((new >= SHORTEST) | (phase == "generation"))
    if len(measured.seconds):
        yield without_fallbacks(not_from_cache(measured))


def _summed(rows: Columns) -> tuple[Array, Array, dict[str, Array]]:
    """Per engine and shape: the fastest convolution plus the fastest recurrence, or one fused kernel."""
    found: dict[tuple[object, ...], dict[str, float]] = {}
    for *key, kernel, seconds in zip(
        rows["engine"].tolist(),
        *(rows[k].tolist() for k in _SHAPE),
        rows["kernel_source"].tolist(),
        rows["latency_s"].tolist(),
        strict=True,
    ):
        kind = "conv" if "conv1d" in kernel else "fused" if kernel in _FUSED else "core"
        parts = found.setdefault(tuple(key), {})
        parts[kind] = min(seconds, parts.get(kind, np.inf))
    times = {
        key: min(p.get("conv", np.inf) + p.get("core", np.inf), p.get("fused", np.inf))
        for key, p in found.items()
    }
    kept = [key for key, t in times.items() if np.isfinite(t)]
    columns = {name: np.array([k[i + 1] for k in kept], dtype=float) for i, name in enumerate(_SHAPE)}
    return np.array([k[0] for k in kept], dtype=str), np.array([times[k] for k in kept]), columns


_FUSED = ("kda_fused_decode", "fused_kda_decode")
"""Kernels that hold the convolution too."""


def recurrence_counts(
    columns: Mapping[str, Array], batch: Array, new: Array, prefill: bool, channel_decay: bool
) -> dict[str, Array]:
    """Counts as `ops._recurrence_op` makes them, and the activations it should count [bytes]:
    the convolution reads and writes q, k, v; the recurrence reads them and writes its output."""
    flop, elements, widths = (np.zeros_like(batch) for _ in range(3))
    shape = np.stack([columns[k] for k in _SHAPE[2:]], axis=1)
    for k_heads, v_heads, dk, dv in np.unique(shape, axis=0).tolist():
        mixer = GatedLinear(
            key_heads=int(k_heads),
            value_heads=int(v_heads),
            key_head_dim=int(dk),
            value_head_dim=int(dv),
            channel_decay=channel_decay,
        )
        state = mixer.state()
        here = np.all(shape == (k_heads, v_heads, dk, dv), axis=1)
        flop[here] = state.prefill_flop_per_token if prefill else state.flop_per_token
        elements[here] = state.elements * state.bytes_per_element
        widths[here] = 3 * (2 * mixer.key_width + mixer.value_width) + mixer.value_width
    return {
        "flop": batch * new * flop,
        "stored_bytes": 2.0 * batch * elements,
        "activation_bytes": batch * new * widths * 2.0,
        "depth": new,
    }
