"""Mixtures of experts: constants by accelerator and arithmetic type.

A row of the tables is one rank's share of one MoE layer: both grouped products,
the activation between them, and the passes that sort, quantise and add up tokens.
The law is applied as the planner applies it: to the two products one after the
other, with the passes as `input_traffic` over every token copy that the rank sees.

Which rows: "balanced" routing at every ep, and power-law routing at ep = 1, where
every rank has all tokens and only the touched experts differ. Power-law routing
at ep > 1 is left to `fit_skew`. Left out are
  * DeepSeek's shape (hidden 7168, 256 experts) under "balanced": the collector
    gives each token an expert of every group, the router allows four groups, so
    the tables show about half the experts (implied weight traffic is 0.6);
  * slices of fewer than 128 columns per rank, which no engine runs;
  * ranks that see the tokens of more than 8 ranks: over more, engines send a rank its own tokens
    only, and sorting all of them takes longer there than the products;
  * an engine's kernels that were timed with another back end than it runs (`OTHER_BACK_END`);
  * of an engine's kernels for one configuration, all but the fastest (TensorRT-LLM
    is measured with two back ends, and picks);
  * kernels more than twice as slow as the fastest engine's for the same
    configuration: Triton without a tuned file. The share is in `left_out`.

Types are named as in `gemm`; `bf16-w4` is 4-bit weights widened to 16 bit (gpt-oss on
Hopper, GPTQ, AWQ), `fp8-w4` MXFP4 weights with MXFP8 activations (gpt-oss on Blackwell).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import Block, Recipe, fit_roofline, rounded, span
from pdplan.calibration.samples import Sample, for_other_types, pooled_blocks
from pdplan.calibration.tables import ACCELERATORS, CACHE_BYTES, GENERATIONS, Columns, Tables, version_key
from pdplan.laws.experts import expected_touched_experts
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array, Roofline

SOURCES = {
    "aic-moe": {
        "title": "aiconfigurator-core kernel tables (Apache-2.0), moe: MoE layers of serving engines",
        "reference": "https://pypi.org/project/aiconfigurator-core/0.12.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
    "infersim-moe": {
        "title": "InferSim and DeepGEMM: FP8 grouped products on H20 and H800, kernels alone",
        "reference": "alibaba/InferSim (Apache-2.0); deepseek-ai/DeepGEMM README @c57699ac (MIT)",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Our name for tables' types, and the bytes of a stored weight of each."""

    dtype: str
    tables: Mapping[str, float]

    @property
    def peak(self) -> str:
        return self.dtype.partition("-")[0]


KINDS = (
    Kind(dtype="bf16", tables={"bfloat16": 2.0}),
    Kind(dtype="bf16-w4", tables={"w4a16_mxfp4": 0.5 + 1 / 32, "int4_wo": 0.5 + 2 / 128}),
    Kind(dtype="fp4", tables={"nvfp4": 0.5 + 1 / 16}),
    Kind(dtype="fp8", tables={"fp8": 1.0}),
    Kind(dtype="fp8-block", tables={"fp8_block": 1.0}),
    Kind(dtype="fp8-w4", tables={"w4a8_mxfp4_mxfp8": 0.5 + 1 / 32}),
)

START = Roofline(
    compute_efficiency=0.5,
    memory_efficiency=0.8,
    overhead_s=1.2e-5,
    exponent=2.0,
    activation_traffic=2.0,
    input_traffic=1.5,
)
FREE = ("compute_efficiency", "memory_efficiency", "overhead_s", "activation_traffic", "input_traffic")

LEAST_SLICE = 128
MOST_RANKS = 8
UNTUNED = 2.0
LEAST_ROWS = 300
"""Fewer measurements than this make no entry."""

OTHER_BACK_END = {("b300", "trtllm", "fp4"), ("gb300", "trtllm", "fp4")}
"""On SM 103 the tables of TensorRT-LLM hold CUTLASS kernels alone (no moe_torch_flow_min_latency), with twice
the overhead of those of its own that it runs there as on SM 100: TRTLLMGenFusedMoE of NVIDIA/TensorRT-LLM,
tensorrt_llm/_torch/modules/fused_moe, which says "SM in {100, 103}"."""

_POWER_LAW = "power_law_"
_SHAPE = ("hidden_size", "inter_size", "topk", "num_experts")


def fit(tables: Tables) -> list[Block]:
    """Blocks of the family `experts`."""
    samples: dict[str, dict[str, Sample]] = {}
    left_out: dict[tuple[str, str], float] = {}
    for accelerator in ACCELERATORS:
        read = tables.read(accelerator, "moe", versions="all")
        for kind in KINDS:
            rows, share = _usable(_of_own_back_ends(read, accelerator, kind), kind)
            if (
                share is not None
                and kind.peak in tables.sheet(accelerator).peaks
                and rows["latency_s"].size >= LEAST_ROWS
            ):
                samples.setdefault(kind.dtype, {})[accelerator] = _sample(tables, accelerator, kind, rows)
                left_out[accelerator, kind.dtype] = share
    blocks: list[Block] = []
    for kind in KINDS:
        for block in pooled_blocks(
            "experts", kind.dtype, samples[kind.dtype], GENERATIONS, Recipe(start=START, free=FREE), "aic-moe"
        ):
            share = left_out.get((block.name, kind.dtype))
            entry = dict(block.entry) if share is None else {**block.entry, "left_out": rounded(share, 2)}
            blocks.append(dataclasses.replace(block, entry=entry))
    return [*blocks, for_other_types(blocks), *_shared_blocks(tables, blocks)]


def layer_counts(rows: Columns, weight_bytes: NDArray[Any]) -> tuple[Counts, Counts]:
    """The two grouped products of one rank, as `ops.experts` counts them."""
    tokens, hidden, inter, per_token, experts, tp, ep = (
        rows[c] for c in ("num_tokens", *_SHAPE, "moe_tp_size", "moe_ep_size")
    )
    plain = np.char.find(rows["kernel_source"], "nongated") >= 0
    wide = np.where(plain, 1, 2) * inter / tp
    narrow = inter / tp
    copies = tokens * per_token
    here = copies / ep
    spread = np.zeros_like(tokens)
    names = rows["distribution"].tolist()
    for name, t, e, k in set(zip(names, tokens.tolist(), experts.tolist(), per_token.tolist(), strict=True)):
        alike = (rows["distribution"] == name) & (tokens == t) & (experts == e) & (per_token == k)
        spread[alike] = touched_by_power_law(name, t, int(e), int(k))
    touched = np.where(rows["distribution"] == "balanced", np.minimum(experts, copies), spread) / ep
    common = {"rows": here, "groups": touched}
    return (
        Counts(
            flop=2.0 * here * hidden * wide,
            stored_bytes=touched * hidden * wide * weight_bytes,
            activation_bytes=2.0 * here * (hidden + wide),
            input_bytes=2.0 * copies * hidden,
            **common,
        ),
        Counts(
            flop=2.0 * here * hidden * narrow,
            stored_bytes=touched * hidden * narrow * weight_bytes,
            activation_bytes=2.0 * here * (hidden + narrow),
            input_bytes=np.zeros_like(here),
            **common,
        ),
    )


def touched_by_power_law(distribution: str, tokens: float, experts: int, per_token: int) -> float:
    """Experts that the collector's tokens meet: popularities x of density x^-alpha, rounded to whole tokens.

    x lies in [1, 0.8·T], or in [0.01, 2] where there are fewer copies than experts; the collector draws it
    at random, here its quantiles stand for the draw. Copies that rounding leaves go to the most popular,
    one each.
    Other names than power laws: each token chooses by itself.
    Source: aiconfigurator, collector/helper.py (sample_power_law, power_law_logits_v3).

    >>> touched_by_power_law("power_law_1.01", 128, 256, 8)
    200.0
    """
    if not distribution.startswith(_POWER_LAW):
        return float(expected_touched_experts(tokens, experts, per_token))
    rest = 1.0 - float(distribution.removeprefix(_POWER_LAW))
    copies = tokens * per_token
    low, high = (1.0, 0.8 * tokens) if copies > experts else (0.01, 2.0)
    quantiles = (np.arange(experts) + 0.5) / experts
    popular = ((high**rest - low**rest) * quantiles + low**rest) ** (1.0 / rest)
    whole = np.round(popular / popular.sum() * copies)
    return max(float(np.count_nonzero(whole)), min(copies - whole.sum(), float(experts)))


def _of_own_back_ends(read: Columns, accelerator: str, kind: Kind) -> Columns:
    other = [engine for name, engine, dtype in OTHER_BACK_END if (name, dtype) == (accelerator, kind.dtype)]
    return _keep(read, ~np.isin(read["engine"], other)) if read and other else read


def _usable(read: Columns, kind: Kind) -> tuple[Columns, float | None]:
    """The rows of a type that the module's docstring lets in, and the share of untuned ones left out."""
    if not read:
        return {"latency_s": np.zeros(0)}, None
    chosen = np.isin(read["moe_dtype"], list(kind.tables))
    chosen &= read["inter_size"] / read["moe_tp_size"] >= LEAST_SLICE
    balanced, spread = read["distribution"] == "balanced", read["moe_ep_size"] > 1
    deepseek = (read["hidden_size"] == 7168) & (read["num_experts"] == 256)
    chosen &= np.where(balanced, ~deepseek, ~spread) & (read["moe_ep_size"] <= MOST_RANKS)
    rows = {c: v[chosen] for c, v in read.items()}
    if not chosen.any():
        return rows, None
    rows["weight_bytes"] = np.array([kind.tables[name] for name in rows["moe_dtype"].tolist()])
    rows = _keep(rows, _newest(rows))
    configuration = _labels(
        rows, (*_SHAPE, "num_tokens", "moe_tp_size", "moe_ep_size", "distribution", "moe_dtype")
    )
    own = np.char.add(configuration, rows["engine"])
    best = rows["latency_s"] <= _least(own, rows["latency_s"])
    rows, configuration = _keep(rows, best), configuration[best]
    tuned = rows["latency_s"] <= UNTUNED * _least(configuration, rows["latency_s"])
    return _keep(rows, tuned), float(1.0 - tuned.mean())


def _newest(rows: Columns) -> NDArray[np.bool_]:
    """Of each engine and model shape the rows of the newest version that has it, if that is of the
    engine's newest minor release: kernels of vLLM 0.19 say little about those of 0.24."""
    names = rows["version"].tolist()
    versions = sorted(set(names), key=version_key)
    rank = np.array([versions.index(v) for v in names], dtype=float)
    minors = sorted({_minor(v) for v in versions})
    minor = np.array([minors.index(_minor(v)) for v in names], dtype=float)
    newest_minor = -minor <= _least(rows["engine"], -minor)
    return np.asarray(
        newest_minor & (-rank <= _least(_labels(rows, (*_SHAPE, "engine", "moe_dtype")), -rank))
    )


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _labels(rows: Columns, columns: tuple[str, ...]) -> NDArray[np.str_]:
    label: NDArray[np.str_] = np.full(rows["latency_s"].size, "", dtype="U1")
    for name in columns:
        values = rows[name]
        label = np.char.add(
            np.char.add(label, "|"), values.astype(int).astype(str) if values.dtype.kind == "f" else values
        )
    return label


def _least(label: NDArray[np.str_], values: Array) -> Array:
    """For each row the least of `values` among the rows with its label."""
    names, which = np.unique(label, return_inverse=True)
    least = np.full(len(names), np.inf)
    np.minimum.at(least, which, values)
    return np.asarray(least[which])


def _keep(rows: Columns, chosen: NDArray[np.bool_]) -> Columns:
    return {c: v[chosen] for c, v in rows.items()}


def _sample(tables: Tables, accelerator: str, kind: Kind, rows: Columns) -> Sample:
    sheet = tables.sheet(accelerator)
    size = rows["latency_s"].size
    ranges = (
        ("tokens", "num_tokens"),
        ("hidden", "hidden_size"),
        ("experts", "num_experts"),
        ("top-k", "topk"),
    )
    shapes = ", ".join(f"{name} {span(rows[column])}" for name, column in ranges)
    sample = Sample(
        counts=layer_counts(rows, rows["weight_bytes"]),
        measured_s=rows["latency_s"],
        peak=np.full(size, sheet.peak(kind.peak)),
        bandwidth=np.full(size, sheet.bandwidth),
        engine=rows["engine"],
        shapes=f"{shapes}, tp {span(rows['moe_tp_size'])}, ep {span(rows['moe_ep_size'])}",
    )
    return sample.from_memory(CACHE_BYTES.get(accelerator, 0.0))


def _shared_blocks(tables: Tables, blocks: list[Block]) -> list[Block]:
    """H20 and H800: efficiencies from published grouped products, the passes around them from hopper."""
    hopper = next(
        b.entry for b in blocks if (b.scope, b.name, b.dtype) == ("generations", "hopper", "fp8-block")
    )
    around = ("overhead_s", "activation_traffic", "input_traffic")
    found = []
    for accelerator in ("h20", "h800"):
        parts = list(_grouped_products(tables, accelerator))
        experts, rows, k, n, measured = (np.concatenate(c) for c in zip(*parts, strict=True))
        counts = Counts(
            flop=2.0 * rows * k * n,
            stored_bytes=np.minimum(experts, rows) * k * n,
            activation_bytes=rows * (k + 2.0 * n),  # FP8 in, BF16 out
            rows=rows,
            groups=np.minimum(experts, rows),
        )
        sheet = tables.sheet(accelerator)
        start = dataclasses.replace(
            START, overhead_s=5e-6, activation_traffic=1.0, input_traffic=0.0, row_tile=64.0
        )
        free = ("compute_efficiency", "memory_efficiency", "overhead_s", "row_tile")
        fitted = fit_roofline(counts, measured, sheet.rates("fp8"), Recipe(start=start, free=free))
        entry = fitted.entry("infersim-moe", f"experts {span(experts)}, rows {span(rows)}, k {span(k)}", FREE)
        entry.update({name: hopper[name] for name in around})
        entry["note"] = (
            "overhead and traffic are hopper's: these kernels were measured without what surrounds them"
        )
        found.append(
            Block(scope="accelerators", name=accelerator, family="experts", dtype="fp8-block", entry=entry)
        )
    return found


def _grouped_products(tables: Tables, accelerator: str) -> list[tuple[Array, Array, Array, Array, Array]]:
    """(experts, rows, k, n, seconds) of grouped products; with a row per expert and less, the tables
    do not say how many experts were touched."""
    parts = []
    for phase, load in (("decode", "batch_size_per_gpu"), ("prefill", "seq_len_per_gpu")):
        t = tables.read_csv(f"kernels/infersim/grouped_gemm__{phase}__{accelerator}__data.csv")
        t = {c: v[t["tokens_per_expert"] > 1] for c, v in t.items()}
        rows, local = t[load] * t["topk"], t["num_local_experts"]
        hidden, inter = t["hidden_size"], t["intermediate_size"]
        parts.append((local, rows, hidden, 2.0 * inter, t["up_proj_us"] * 1e-6))
        parts.append((local, rows, inter, hidden, t["down_proj_us"] * 1e-6))
    return parts
