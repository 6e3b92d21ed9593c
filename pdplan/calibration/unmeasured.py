"""Generations without kernel tables, of which somebody measured the best matrix product.

Their compute efficiency is the default's, times how their best product compares with
the best products of the accelerators that the default was fitted to. The other
constants are the default's. Their errors are those that the defaults have on a
generation which took no part in the fit: nobody can check them here.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from pdplan.calibration.fit import Block, rounded
from pdplan.calibration.tables import Tables

SOURCES = {
    "matmul": {
        "title": "ml-engineering, best measured matmul FLOP/s (CC-BY-SA-4.0), scaling fitted defaults",
        "reference": "https://github.com/stas00/ml-engineering compute/accelerator/README.md @744d01e1",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}

MEASURED_PARTS = {
    "NVIDIA A100 SXM": "a100-sxm-80gb",
    "NVIDIA H100 SXM": "h100",
    "NVIDIA H200 SXM": "h200",
    "NVIDIA B200 SXM": "b200",
    "NVIDIA B300 SXM": "b300",
    "NVIDIA GB200 SXM": "gb200",
}
"""Names in matmul_measured.csv of accelerators that the defaults are fitted to."""

UNMEASURED_PARTS = {
    "AMD MI300X": "mi300x",
    "AMD MI325X": "mi325x",
    "AMD MI355X": "mi355x",
    "Intel Gaudi 2": "gaudi2",
    "Intel Gaudi 3": "gaudi3",
}
_FAMILIES = ("gemm", "experts")


def fit(tables: Tables, blocks: Sequence[Block]) -> list[Block]:
    """Blocks of the unmeasured generations, made from the default ones among `blocks`."""
    shares = _best_shares(tables)
    usual = statistics.median(
        share
        for (name, dtype), share in shares.items()
        if name in MEASURED_PARTS.values() and dtype == "bf16"
    )
    found: list[Block] = []
    by_generation: dict[str, list[str]] = {}
    for name in UNMEASURED_PARTS.values():
        by_generation.setdefault(tables.sheet(name).generation, []).append(name)
    for generation, names in sorted(by_generation.items()):
        peaks = {dtype for name in names for dtype in tables.sheet(name).peaks}
        for block in blocks:
            dtype = block.dtype.partition("-")[0]
            if block.scope != "defaults" or block.family not in _FAMILIES or dtype not in peaks:
                continue
            best = statistics.mean(shares.get((name, dtype), shares[name, "bf16"]) for name in names)
            default = block.entry["compute_efficiency"]
            entry = {
                **{
                    k: v
                    for k, v in block.entry.items()
                    if k not in ("rows", "held_out_median_error", "shapes")
                },
                "compute_efficiency": rounded(min(default * best / usual, 1.0)),
                "rows": sum((name, dtype) in shares for name in names),
                "shapes": "the best product of each accelerator",
                "measured_on": names,
                "source": "matmul",
            }
            found.append(
                Block(
                    scope="generations", name=generation, family=block.family, dtype=block.dtype, entry=entry
                )
            )
    return found


def _best_shares(tables: Tables) -> dict[tuple[str, str], float]:
    """(accelerator, type) -> best measured rate over the catalog's peak."""
    return dict(_shares(tables))


def _shares(tables: Tables) -> Iterator[tuple[tuple[str, str], float]]:
    read = tables.read_csv("facts/matmul_measured.csv")
    names = {**MEASURED_PARTS, **UNMEASURED_PARTS}
    for dtype, part, tflops in zip(
        read["precision"].tolist(), read["accelerator"].tolist(), read["mamf_tflops"].tolist(), strict=True
    ):
        if part in names:
            yield (names[part], dtype), tflops * 1e12 / tables.sheet(names[part]).peak(dtype)
