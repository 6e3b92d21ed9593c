"""Fits the attention cores: GQA/MHA, MLA and sparse attention, prefill and decode.

Counts are those of `pdplan.ops`: the very formulas of `pdplan.laws.attention`. The
dtype of an entry is "fp8" where the cache is FP8 and the accelerator has FP8 units
(then against its FP8 peak), else "bf16".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.attention_counts import Core, decode_counts, indexer_counts, prefill_counts
from pdplan.calibration.fit import Block, Recipe
from pdplan.calibration.infersim import attention_measurements
from pdplan.calibration.pooling import Measured, blocks, not_from_cache, without_fallbacks
from pdplan.calibration.tables import ACCELERATORS, Columns, Tables
from pdplan.laws.roofline import Array, Roofline

SOURCES: dict[str, dict[str, str]] = {
    "aic-attention": {
        "title": "aiconfigurator attention kernel tables (vLLM, SGLang, TensorRT-LLM)",
        "reference": "PyPI aiconfigurator-core 0.12.0, systems/data, attention tables; Apache-2.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
    "infersim-attention": {
        "title": "InferSim attention kernel latencies on H20 and H800",
        "reference": "alibaba/InferSim, kernels/{mha,mla,dsa,gdn}, Apache-2.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}

SHORTEST = 64
"""Contexts and prompts below this are launch time only; no serving step is made of them."""
WIDEST_GROUP = 16
"""Query heads per KV head; beyond it TensorRT-LLM's tables show a fall-back kernel."""
_HEAD_DIMS = (64, 128, 192, 256)

_DECODE = Recipe(
    start=Roofline(
        compute_efficiency=0.6,
        memory_efficiency=0.75,
        overhead_s=10e-6,
        activation_traffic=2.0,
        row_tile=64.0,
    ),
    free=("compute_efficiency", "memory_efficiency", "overhead_s", "activation_traffic", "row_tile"),
)
_LATENT_DECODE = replace(_DECODE, start=replace(_DECODE.start, exponent=2.0))
"""Absorbed MLA has hundreds of operations a byte: it sits on the ridge, and the ridge is round."""
_PREFILL = Recipe(
    start=Roofline(
        compute_efficiency=0.7,
        memory_efficiency=0.8,
        overhead_s=12e-6,
        exponent=1.0,
        activation_traffic=3.0,
        row_tile=2e4,
        score_flop=300.0,
    ),
    free=("compute_efficiency", "overhead_s", "activation_traffic", "row_tile", "score_flop"),
)
_SPARSE_PREFILL = Recipe(
    start=Roofline(
        compute_efficiency=0.5, memory_efficiency=0.8, overhead_s=12e-6, exponent=1.0, row_tile=2e4
    ),
    free=("compute_efficiency", "overhead_s", "row_tile"),
)
_INDEXER = Recipe(
    start=Roofline(
        compute_efficiency=0.5, memory_efficiency=0.8, overhead_s=10e-6, exponent=1.0, activation_traffic=3.0
    ),
    free=("compute_efficiency", "overhead_s", "activation_traffic"),
)
RECIPES: Mapping[str, Recipe] = {
    "decode_attention": _DECODE,
    "decode_mla": _LATENT_DECODE,
    "decode_sparse": _DECODE,
    "prefill_attention": _PREFILL,
    "prefill_mla": _PREFILL,
    "prefill_sparse": _SPARSE_PREFILL,
    "indexer": _INDEXER,
}


def fit(tables: Tables) -> list[Block]:
    """Entries of every attention family, by accelerator and by generation."""
    return blocks(measurements(tables), RECIPES)


def measurements(tables: Tables) -> Iterator[Measured]:
    """Every attention core that the tables have."""
    for accelerator in ACCELERATORS:
        for op, read in _READERS:
            rows = tables.read(accelerator, op)
            if rows:
                yield from _by_dtype(accelerator, rows, read)
        yield from _indexer(tables, accelerator)
    yield from attention_measurements(tables)


def _by_dtype(accelerator: str, rows: Columns, read: _Reader) -> Iterator[Measured]:
    """One `Measured` per cache type; an FP8 cache without FP8 units is left to the BF16 entry."""
    sheet = Tables.sheet(accelerator)
    is_fp8 = np.char.startswith(rows["kv_cache_dtype"].astype(str), "fp8")
    sixteen_bit = is_fp8 if "attn_dtype" not in rows else is_fp8 | (rows["attn_dtype"] == "fp8")
    for dtype, mask in (("bf16", ~sixteen_bit), ("fp8", is_fp8)):
        if dtype not in sheet.peaks:
            continue
        part = _main_kernels({k: v[mask] for k, v in rows.items()})
        family, counts, shapes, valid = read(part, 1.0 if dtype == "fp8" else 2.0)
        measured = Measured(
            family=family,
            dtype=dtype,
            accelerator=accelerator,
            sheet=sheet,
            counts=counts,
            seconds=part["latency_s"],
            engine=part["engine"],
            shapes=shapes,
            source="aic-attention",
        ).where(valid)
        if len(measured.seconds):
            yield without_fallbacks(not_from_cache(measured))


def _main_kernels(rows: Columns) -> Columns:
    """Each engine's commonest kernel: the others are fall-backs for odd shapes."""
    label = np.char.add(np.char.add(rows["engine"].astype(str), "/"), rows["kernel_source"].astype(str))
    keep = np.zeros(len(label), dtype=bool)
    for engine in np.unique(rows["engine"]):
        names, counts = np.unique(label[rows["engine"] == engine], return_counts=True)
        keep |= label == names[np.argmax(counts)]
    return {k: v[keep] for k, v in rows.items()}


_Read = tuple[str, dict[str, Array], dict[str, Array], NDArray[np.bool_]]
_Reader = Callable[[Columns, float], _Read]


def _grouped_decode(rows: Columns, kv_bytes: float) -> _Read:
    batch, heads, kv, dim = (rows[k] for k in ("batch_size", "num_heads", "num_key_value_heads", "head_dim"))
    context, window = rows["step"] + 1.0, rows["window_size"]
    entries = np.where(window > 0, np.minimum(context, window), context)
    core = Core(heads=heads, kv_elements=2 * kv * dim, qk_dim=dim, v_dim=dim, kv_bytes=kv_bytes)
    counts = decode_counts(batch, entries, core, heads / kv)
    shapes = {"batch": batch, "heads": heads, "kv_heads": kv, "head_dim": dim, "context": context}
    valid = (context >= SHORTEST) & (heads / kv <= WIDEST_GROUP) & np.isin(dim, _HEAD_DIMS)
    return "decode_attention", counts, shapes, valid


def _grouped_prefill(rows: Columns, kv_bytes: float) -> _Read:
    batch, heads, kv, dim = (rows[k] for k in ("batch_size", "num_heads", "num_key_value_heads", "head_dim"))
    new, past, window = rows["isl"], rows["step"], rows["window_size"]
    reach = np.where(window > 0, window, np.inf)
    core = Core(heads=heads, kv_elements=2 * kv * dim, qk_dim=dim, v_dim=dim, kv_bytes=kv_bytes, reach=reach)
    counts = prefill_counts(batch, new, past, core)
    shapes = {"batch": batch, "heads": heads, "kv_heads": kv, "head_dim": dim, "tokens": new}
    valid = (new >= SHORTEST) & (heads / kv <= WIDEST_GROUP) & np.isin(dim, _HEAD_DIMS)
    return "prefill_attention", counts, shapes, valid


LATENT, ROPE, NOPE, VALUE = 512.0, 64.0, 128.0, 128.0
"""DeepSeek's MLA: kv_lora_rank, rotary, content and value dimensions, which every table has."""


def absorbed(heads: Array, kv_bytes: float) -> Core:
    """MLA with the projections absorbed: every head reads the latent."""
    one = np.ones_like(heads)
    wide = (LATENT + ROPE) * one
    return Core(heads=heads, kv_elements=wide, qk_dim=wide, v_dim=LATENT * one, kv_bytes=kv_bytes)


def _latent_decode(rows: Columns, kv_bytes: float) -> _Read:
    batch, heads, context = rows["batch_size"], rows["num_heads"], rows["step"] + 1.0
    counts = decode_counts(batch, context, absorbed(heads, kv_bytes), heads)
    return "decode_mla", counts, {"batch": batch, "heads": heads, "context": context}, context >= SHORTEST


def _latent_prefill(rows: Columns, kv_bytes: float) -> _Read:
    batch, heads, new, past = rows["batch_size"], rows["num_heads"], rows["isl"], rows["step"]
    one = np.ones_like(batch)
    core = Core(
        heads=heads,
        kv_elements=(LATENT + ROPE) * one,
        qk_dim=(NOPE + ROPE) * one,
        v_dim=VALUE * one,
        kv_bytes=kv_bytes,
    )
    counts = prefill_counts(batch, new, past, core)
    return "prefill_mla", counts, {"batch": batch, "heads": heads, "tokens": new}, new >= SHORTEST


SPARSE_TOP_K = 2048.0


def _sparse_prefill(rows: Columns, kv_bytes: float) -> _Read:
    """The sparse core alone (GLM-5), where every query reads top-k entries."""
    batch, heads, new, past = rows["batch_size"], rows["num_heads"], rows["isl"], rows["step"]
    core = replace(absorbed(heads, kv_bytes), reach=SPARSE_TOP_K)
    counts = prefill_counts(batch, new, past, core)
    shapes = {"batch": batch, "heads": heads, "tokens": new, "past": past}
    return "prefill_sparse", counts, shapes, (new >= SHORTEST) & (past >= SPARSE_TOP_K)


def _sparse_decode(rows: Columns, kv_bytes: float) -> _Read:
    batch, heads, context = rows["batch_size"], rows["num_heads"], rows["step"] + 1.0
    counts = decode_counts(batch, np.minimum(context, SPARSE_TOP_K), absorbed(heads, kv_bytes), heads)
    shapes = {"batch": batch, "heads": heads, "context": context}
    return "decode_sparse", counts, shapes, (rows["isl"] == 1) & (context >= SPARSE_TOP_K)


_READERS: tuple[tuple[str, _Reader], ...] = (
    ("generation_attention", _grouped_decode),
    ("context_attention", _grouped_prefill),
    ("generation_mla", _latent_decode),
    ("context_mla", _latent_prefill),
    ("glm5_dsa_attn_module", _sparse_prefill),
    ("glm5_dsa_attn_module", _sparse_decode),
)
INDEX_DIM, INDEX_HEADS = 128.0, 32.0  # GLM-5's indexer


def _indexer(tables: Tables, accelerator: str) -> Iterator[Measured]:
    """Scores and top-k together: the same (batch, new, past) in both tables."""
    logits, chosen = (tables.read(accelerator, f"glm5_{x}_module") for x in ("mqa_logits", "topk"))
    if not logits or not chosen:
        return
    times: dict[tuple[float, float, float], list[float]] = {}
    for b, n, p, t in zip(
        *(chosen[k].tolist() for k in ("batch_size", "isl", "step", "latency_s")), strict=True
    ):
        times.setdefault((b, n, p), []).append(t)
    batch, new, past = (logits[k] for k in ("batch_size", "isl", "step"))
    top = np.array(
        [
            np.mean(times.get(k, [np.nan]))
            for k in zip(batch.tolist(), new.tolist(), past.tolist(), strict=True)
        ]
    )
    valid = np.isfinite(top) & (past + new > SPARSE_TOP_K)
    yield Measured(
        family="indexer",
        dtype="fp8",
        accelerator=accelerator,
        sheet=Tables.sheet(accelerator),
        counts=indexer_counts(batch, new, past, INDEX_HEADS, INDEX_DIM),
        seconds=logits["latency_s"] + top,
        engine=logits["engine"],
        shapes={"batch": batch, "tokens": new, "past": past},
        source="aic-attention",
    ).where(valid)
