"""Attention latencies of alibaba/InferSim (H20, H800) as measurements.

File names tell the shape: mha__decode__h20__32-4-128 is heads-kv_heads-head_dim,
mla__decode__h800__128-512-64 heads-latent-rotary, dsa__…__attn-128-576-2048
heads-width-top_k, logits-64-128 heads-dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pdplan.calibration.attention_counts import Core, decode_counts, prefill_counts
from pdplan.calibration.pooling import Measured
from pdplan.calibration.tables import Tables
from pdplan.laws.roofline import Array

FOLDER = "kernels/infersim"
MAX_HEAD_GROUP = 16


def attention_measurements(tables: Tables) -> Iterator[Measured]:
    """Every attention core in the folder, by file."""
    for path in sorted((tables.shared / FOLDER).glob("*__*__*__*.csv")):
        kind, phase, accelerator, shape = path.stem.split("__")
        if kind in ("mha", "mla", "dsa"):
            yield from _read(tables, path.name, kind, phase, accelerator, shape)


def _read(
    tables: Tables, name: str, kind: str, phase: str, accelerator: str, shape: str
) -> Iterator[Measured]:
    rows = tables.read_csv(f"{FOLDER}/{name}")
    if "latency_us" not in rows:  # one file came without its header
        return
    numbers = [float(x) for x in shape.split("-") if x.isdigit()]
    seconds = rows["latency_us"] * 1e-6
    one = np.ones_like(seconds)
    if kind == "mha" and numbers[0] / numbers[1] > MAX_HEAD_GROUP:
        return
    if kind == "dsa" and shape.startswith("logits"):
        return  # scores without the top-k that follows them: no whole indexer
    family, counts, kv = _counts(rows, kind, phase, numbers, one)
    for dtype, mask in (("bf16", kv == 2.0), ("fp8", kv == 1.0)):
        if mask.any():
            shapes = {"heads": numbers[0] * one, "batch": rows.get("batch_size", one)}
            shapes["context"] = next(rows[k] for k in ("kv_len", "seq_len", "s_kv") if k in rows)
            yield Measured(
                family=family,
                dtype=dtype,
                accelerator=accelerator,
                sheet=Tables.sheet(accelerator),
                counts=counts,
                seconds=seconds,
                engine=np.full(len(seconds), "infersim"),
                shapes=shapes,
                source="infersim-attention",
            ).where(mask)


def _counts(
    rows: dict[str, Array], kind: str, phase: str, numbers: list[float], one: Array
) -> tuple[str, dict[str, Array], Array]:
    """Family, counts and cache bytes per element of one file's rows."""
    kv = (
        np.where(np.char.startswith(rows["kv_dtype"].astype(str), "fp8"), 1.0, 2.0)
        if "kv_dtype" in rows
        else 2 * one
    )
    heads = numbers[0] * one
    if kind == "mha":
        elements, qk, v, group = (
            2 * numbers[1] * numbers[2] * one,
            numbers[2] * one,
            numbers[2] * one,
            heads / numbers[1],
        )
    else:  # MLA: absorbed but for dense prefill
        expanded = kind == "mla" and phase == "prefill"
        elements, group = 576.0 * one, heads
        qk, v = (192.0 * one, 128.0 * one) if expanded else (576.0 * one, 512.0 * one)
    core = Core(heads=heads, kv_elements=elements, qk_dim=qk, v_dim=v, kv_bytes=kv)
    name = {"mha": "attention", "mla": "mla", "dsa": "sparse"}[kind]
    if phase == "decode":
        entries = np.minimum(rows["kv_len"], numbers[2]) if kind == "dsa" else rows["kv_len"]
        return (
            f"decode_{name}",
            decode_counts(rows["batch_size"], entries, core, group),
            kv,
        )
    new = rows["s_q"] if "s_q" in rows else rows["seq_len"]
    past = rows["s_kv"] - new if "s_kv" in rows else 0.0 * one
    core = replace(core, reach=numbers[2] if kind == "dsa" else np.inf)
    return f"prefill_{name}", prefill_counts(one, new, past, core), kv
