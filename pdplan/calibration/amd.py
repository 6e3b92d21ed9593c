"""AMD's accelerators: constants of products, experts and messages, from published timings of kernels.

AITER, the kernel library that SGLang, vLLM and ATOM call, ships the times of the kernels that its tuners
chose; MoRI publishes those of its messages. `benchmarks/amd` holds the figures and says where each stood.
The kernels were timed alone and back to back: quantising their inputs, sorting tokens and starting them as an
engine does is not in them, so that `input_traffic`, `overhead_s` and `depth_s` stay those of the default.

Blocks are of generations: CDNA4 was timed as MI355X (MI350X for messages), CDNA3 as MI300X. They replace what
`unmeasured` makes of the best product alone; types that nobody timed keep that.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration import gemm
from pdplan.calibration.attention import absorbed
from pdplan.calibration.attention_counts import decode_counts
from pdplan.calibration.expert_exchange import exchange
from pdplan.calibration.fit import Block, FittedRoofline, Recipe, fit_roofline, span
from pdplan.calibration.messages import Messages, links_entry
from pdplan.calibration.tables import Columns as Rows
from pdplan.calibration.tables import Tables, numbers
from pdplan.laws.collectives import Routed
from pdplan.laws.experts import expected_touched_experts
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array, Roofline

FIGURES = Path(__file__).parents[2] / "benchmarks" / "amd"
DATE = {"date": "2026-11-23", "note": "date of reading"}
SOURCES = {
    "aiter": {
        "title": "AITER's tuned kernels (MIT): products and experts on MI300X and MI355X, kernels alone",
        "reference": "PyPI amd-aiter 0.1.7.post2.dev18, ROCm/aiter @0b1924d9, @08eb9dc1 (benchmarks/amd)",
        **DATE,
    },
    "mori": {
        "title": "MoRI's expert exchange on 8 MI350X (MIT)",
        "reference": "ROCm/mori docs/ep8_mi350x_tuning_results.md @1084b514 (benchmarks/amd)",
        **DATE,
    },
}

GENERATIONS: Mapping[str, str] = {"mi300x": "cdna3", "mi355x": "cdna4"}
WEIGHT_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp8-block": 1.0, "fp4": 0.5 + 1 / 32}
"""A stored weight; four bits are MXFP4, with a scale for 32 of them."""
FREE = ("compute_efficiency", "memory_efficiency", "activation_traffic")
LAYOUTS = {"cdna3": "plain", "cdna4": "shuffled"}
"""How engines lay out the weights of a product there; of a type without such figures, any."""
OLD = ("0.1.7", 7168.0)
"""Release and hidden size of the experts for which there are figures of later kernels: DeepSeek's."""
MANY_ROWS = 128.0
"""Tokens of an expert from which on arithmetic, and no half-empty tile, is what takes the time."""
LEAST_HEADS = 16.0
"""Query rows of AITER's smallest MLA kernels (hsa/gfx950/mla/*_qh16_* of the wheel); figures have 128."""
MANY_PAIRS = 1e6
"""Of a query and a cached entry, from which on arithmetic takes the time of MLA with 128 query rows."""
LATER = ("fp8-block", "fp4")
"""The types that there are later kernels for."""

PER_TOKEN = 8.0
"""Experts of a token in the figures of exchanges: DeepSeek's."""


def fit(tables: Tables, blocks: Sequence[Block]) -> list[Block]:
    """All blocks, with those of AMD's generations in place of what `blocks` holds of them."""
    defaults = {(b.family, b.dtype): b for b in blocks if b.scope == "defaults"}
    scaled = {(b.name, b.family, b.dtype): b for b in blocks if b.scope == "generations"}
    own = [
        *_products(tables, defaults),
        *_experts(tables, defaults, scaled),
        _latent_decode(tables, defaults["decode_mla", "fp8"]),
        _links(),
    ]
    replaced = {(b.scope, b.name, b.family, b.dtype) for b in own}
    return [b for b in blocks if (b.scope, b.name, b.family, b.dtype) not in replaced] + own


def _products(tables: Tables, defaults: Mapping[tuple[str, str], Block]) -> Iterator[Block]:
    rows = _read("products.csv")
    for accelerator, dtype, of_type in _by_type(rows):
        laid_out = of_type["weights"] == LAYOUTS[GENERATIONS[accelerator]]
        chosen = _where(of_type, laid_out if laid_out.any() else ~laid_out)
        chosen = _where(chosen, np.minimum(chosen["n"], chosen["k"]) >= gemm.LEAST_SIDE)
        m, n, k = (chosen[name] for name in "mnk")
        counts = gemm.counts_of(m, n, k, WEIGHT_BYTES[dtype])
        alone = dataclasses.replace(counts, input_bytes=None)
        shapes = f"m {span(m)}, n {span(n)}, k {span(k)}"
        default = defaults["gemm", dtype]
        yield _block(tables, accelerator, default, [alone], chosen["us"] * 1e-6, shapes, FREE)


def _experts(
    tables: Tables,
    defaults: Mapping[tuple[str, str], Block],
    scaled: Mapping[tuple[str, str, str], Block],
) -> Iterator[Block]:
    """Where no expert got as many tokens as a prompt gives it, compute efficiency is what `unmeasured` makes
    of the best product."""
    rows = _read("experts.csv")
    for accelerator, dtype, of_type in _by_type(rows):
        release, hidden_size = OLD
        later = (of_type["release"] != release) | (of_type["hidden"] != hidden_size)
        chosen = _where(of_type, later) if dtype in LATER else of_type
        parts = layer_counts(chosen, WEIGHT_BYTES[dtype])
        ranges = ("tokens", "hidden", "inter", "experts")
        shapes = ", ".join(f"{name} {span(chosen[name])}" for name in ranges)
        start: Block = defaults["experts", dtype]
        free: tuple[str, ...] = FREE
        each = chosen["tokens"] * chosen["per_token"] / chosen["experts"]
        if each.max() < MANY_ROWS:
            start, free = scaled[GENERATIONS[accelerator], "experts", dtype], FREE[1:]
        yield _block(tables, accelerator, start, parts, chosen["us"] * 1e-6, shapes, free)


def _latent_decode(tables: Tables, default: Block) -> Block:
    """MLA of decodes with an FP8 cache on CDNA4; several queries of a sequence read its cache once."""
    rows = _read("attention.csv")
    rows = _where(rows, rows["queries"] * rows["batch"] * rows["context"] >= MANY_PAIRS)
    heads = rows["heads"] * rows["queries"]
    counts = Counts(**decode_counts(rows["batch"], rows["context"], absorbed(heads, 1.0), heads))
    shapes = f"batch {span(rows['batch'])}, heads {span(heads)}, context {span(rows['context'])}"
    start = dataclasses.replace(default, entry={**default.entry, "row_tile": LEAST_HEADS})
    return _block(tables, "mi355x", start, [counts], rows["us"] * 1e-6, shapes, FREE[:1])


def layer_counts(rows: Rows, weight_bytes: float) -> list[Counts]:
    """The two grouped products of a rank; an odd number of experts counts the shared one, which all tokens
    choose."""
    tokens, hidden, inter, experts, per_token = (
        np.asarray(rows[c], dtype=float) for c in ("tokens", "hidden", "inter", "experts", "per_token")
    )
    shared = experts % 2.0
    chosen = zip(tokens, experts - shared, per_token - shared, strict=True)
    touched = shared + np.array([float(expected_touched_experts(t, int(e), int(k))) for t, e, k in chosen])
    copies = tokens * per_token
    return [
        Counts(
            flop=2.0 * copies * hidden * width,
            stored_bytes=touched * hidden * width * weight_bytes,
            activation_bytes=2.0 * copies * (hidden + width),
            rows=copies,
            groups=touched,
        )
        for width in (2.0 * inter, inter)
    ]


def _block(
    tables: Tables,
    accelerator: str,
    default: Block,
    counts: Sequence[Counts],
    measured_s: Array,
    shapes: str,
    free: tuple[str, ...],
) -> Block:
    """The block of an accelerator's generation; what is not free is the default's of the family and type."""
    given = {
        f.name: float(default.entry[f.name]) for f in dataclasses.fields(Roofline) if f.name in default.entry
    }
    rates = tables.sheet(accelerator).rates(default.dtype.partition("-")[0])
    recipe = Recipe(start=Roofline(**given), free=free)
    fitted: FittedRoofline = fit_roofline(counts, measured_s, rates, recipe)
    kept = [
        name for name in ("overhead_s", "depth_s", "activation_traffic", "input_traffic") if name in given
    ]
    entry = fitted.entry("aiter", shapes, [*FREE[:2], *kept])
    entry["note"] = "of the kernel alone; what starts it and makes its inputs is the default's"
    return Block(
        scope="generations",
        name=GENERATIONS[accelerator],
        family=default.family,
        dtype=default.dtype,
        entry={**entry, "measured_on": [accelerator]},
    )


def _links() -> Block:
    """Messages inside a node, of CDNA4 and, for want of others, of what it inherits from."""
    entry = links_entry(list(_messages()), "mori")
    return Block(scope="generations", name="cdna3", family="links", dtype="", entry=entry)


def _messages() -> Iterator[Messages]:
    rows = _read("messages.csv")
    for kind in ("dispatch", "combine"):
        sent = _where(rows, rows["kind"] == kind)
        routed = Routed(
            tokens=sent["tokens"],
            per_token=np.full(len(sent["us"]), PER_TOKEN),
            bytes_per_token=sent["bytes"],
            ranks=sent["ranks"],
        )
        # The same kernels, made for one node, take prompts and decodes.
        for kernels in ("low_latency", "bulk"):
            yield exchange(kernels, "mi355x", sent["us"] * 1e-6, routed)


def _by_type(rows: Rows) -> Iterator[tuple[str, str, Rows]]:
    for accelerator in GENERATIONS:
        for dtype in sorted(WEIGHT_BYTES):
            chosen = _where(rows, (rows["accelerator"] == accelerator) & (rows["dtype"] == dtype))
            if len(chosen["us"]):
                yield accelerator, dtype, chosen


def _where(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    return {name: values[chosen] for name, values in rows.items()}


def _read(name: str) -> Rows:
    """A table of figures; columns that are all numbers as such."""
    with (FIGURES / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: numbers([row[key] for row in rows]) for key in rows[0]}
