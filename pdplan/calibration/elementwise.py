"""Passes over activations (norms, residuals, activation functions): how fast kernels stream.

The tables have one such pass, the scaling of a matrix to FP8: two bytes in, one out.
SGLang's is plain PyTorch, several passes in one row, and is left out; so are arrays that
stay in a last-level cache (between 1 and 256 MB), which the benchmark loop finds there. The planner's op
stands for the fused kernels of a layer, so it pays KERNELS_PER_LAYER launches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from pdplan.calibration.fit import Block, Recipe, rounded, span
from pdplan.calibration.samples import Sample, pooled_blocks
from pdplan.calibration.tables import ACCELERATORS, GENERATIONS, Tables
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Roofline
from pdplan.ops.products import KERNELS

SOURCES = {
    "aic-quantize": {
        "title": "aiconfigurator-core kernel tables (Apache-2.0), scale_matrix: FP8 scaling passes",
        "reference": "https://pypi.org/project/aiconfigurator-core/0.12.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}

KERNELS_PER_LAYER = int(KERNELS)
"""Two residual norms, rotary embedding with the write to the cache, and the activation function."""

START = Roofline(memory_efficiency=0.8, overhead_s=2e-6, exponent=2.0, activation_traffic=1.0)
RECIPE = Recipe(start=START, free=("memory_efficiency", "overhead_s"))


def fit(tables: Tables) -> list[Block]:
    """Blocks of the family `elementwise`."""
    samples = {name: sample for name in ACCELERATORS if (sample := _sample(tables, name)) is not None}
    blocks = pooled_blocks("elementwise", "", samples, GENERATIONS, RECIPE, "aic-quantize")
    return [dataclasses.replace(block, entry=_of_a_layer(block.entry)) for block in blocks]


def _of_a_layer(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the starts of a layer's kernels; so for engines that stand apart."""
    found = {**entry, "overhead_s": rounded(KERNELS_PER_LAYER * entry["overhead_s"])}
    if "engines" in entry:
        found["engines"] = {name: _of_a_layer(own) for name, own in entry["engines"].items()}
    return found


def _sample(tables: Tables, accelerator: str) -> Sample | None:
    read = tables.read(accelerator, "scale_matrix")
    if not read:
        return None
    moved = 3.0 * read["m"] * read["k"]
    chosen = (read["engine"] != "sglang") & ((moved < 1e6) | (moved > 256e6))
    m, k, seconds = (read[c][chosen] for c in ("m", "k", "latency_s"))
    sheet = tables.sheet(accelerator)
    return Sample(
        counts=(Counts(flop=np.zeros_like(m), stored_bytes=np.zeros_like(m), activation_bytes=3.0 * m * k),),
        measured_s=seconds,
        peak=np.full(m.size, sheet.peak("bf16")),
        bandwidth=np.full(m.size, sheet.bandwidth),
        engine=read["engine"][chosen],
        shapes=f"rows {span(m)}, columns {span(k)}",
    )
