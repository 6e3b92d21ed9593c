"""Put the laws beside the kernels and steps that `measure.py` timed on a GPU.

    python benchmarks/device/laws.py benchmarks/device/h100.csv benchmarks/device/h200.csv

Prints, by accelerator, op and type, the median and 90th percentile of |predicted / measured - 1|
and the median signed error. Of these rows the FP8 products alone took part in a fit
(`pdplan/calibration/gemm.py`).
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_setting
from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.layout import Layout, Load, decode_load, prefill_load
from pdplan.plan import Serving
from pdplan.step import Setting, StepTime, step_time

DEVICES = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA H200": "h200"}
SHARDS = {  # heads a rank holds -> the model and tensor-parallel size that the row stands for
    ("32", "8"): "llama-3.1-8b tp1",
    ("16", "2"): "llama-3.1-70b tp4",
    ("8", "1"): "llama-3.1-70b tp8",
}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One measured row with its prediction [s]."""

    hardware: str
    op: str
    dtype: str
    measured_s: float
    predicted_s: float


@cache
def setting_for(model: str, hardware: str, precision: str) -> Setting:
    """The shipped constants for a model on an accelerator, KV cache in 16 bit."""
    catalog = Catalog()
    world = World(
        models={model: catalog.model(model)},
        accelerators={hardware: catalog.accelerator(hardware)},
        prices={},
    )
    serving = Serving(model=model, precision=precision, kv_precision="bf16", engine="vllm")
    return build_setting(world, serving, hardware)


def load_of(row: dict[str, str]) -> Load:
    """What a step or attention row had to do."""
    context = float(row["context"])
    if row["op"].startswith("decode"):
        return decode_load(float(row["batch"]), context, context)
    return prefill_load(1.0, float(row["tokens"]))


def step_of(row: dict[str, str], shard: str, hardware: str) -> StepTime:
    """The predicted step of a rank, all layers."""
    model, size = shard.split(" tp")
    setting = setting_for(model, hardware, row["dtype"])
    return step_time(setting, Layout(tp=float(size)), load_of(row))


def gemm_s(row: dict[str, str], hardware: str) -> float:
    """One product by its law, launched alone; the activations of FP8 rows were already FP8."""
    setting = setting_for("llama-3.1-70b", hardware, row["dtype"])
    m, n, k = float(row["m"]), float(row["n"]), float(row["k"])
    size = 1.0 if row["dtype"] == "fp8" else 2.0
    law = setting.constants.roofline("gemm", row["dtype"])
    peak = setting.formats.peaks[row["dtype"]]
    counts = Counts(
        flop=2 * m * n * k, stored_bytes=n * k * size, activation_bytes=m * (n + k) * 2.0, rows=m, depth=k
    )
    rates = Rates(peak_flop_per_s=peak, bandwidth_bytes_per_s=setting.bandwidth_bytes_per_s)
    times = kernel_time(counts, rates, law)
    return float(times.total_s)


def attention_s(row: dict[str, str], hardware: str) -> float:
    """The attention core of one layer, launched alone."""
    step = step_of(row, SHARDS[row["heads"], row["kv_heads"]], hardware)
    (term,) = (t for t in step.terms if t.name.startswith("attention core"))
    return float(np.squeeze(term.total_s)) / term.source.layers  # type: ignore[union-attr]


def kernels_of_step_s(row: dict[str, str], hardware: str) -> float:
    """All kernels of the layers that ran, without collectives and without the engine's host work."""
    step = step_of(row, row["model"], hardware)
    layers = setting_for(row["model"].split(" tp")[0], hardware, row["dtype"]).stack.layers
    total = 0.0
    for term in step.terms:
        if term.source is None or np.any(term.network_s):
            continue
        share = float(row["layers"]) / layers if term.source.layers > 1 else 1.0
        total += share * float(np.squeeze(term.total_s))
    return total


def compare(path: Path) -> Iterable[Compared]:
    """Every row of a file that has a law."""
    for row in csv.DictReader(path.read_text().splitlines()):
        hardware, op = DEVICES[row["device"]], row["op"]
        if op == "gemm":
            predicted = gemm_s(row, hardware)
        elif op.endswith("-step"):
            predicted = kernels_of_step_s(row, hardware)
        elif op in (
            "decode-fa2",
            "prefill-cudnn",
        ):  # FlashAttention 2 is not what Hopper's engines prefill with
            predicted = attention_s(row, hardware)
        else:
            continue
        yield Compared(
            hardware=hardware,
            op=op,
            dtype=row["dtype"],
            measured_s=float(row["time_s"]),
            predicted_s=predicted,
        )


def main() -> None:
    """Print the errors by accelerator, op and type."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    groups: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for path in parser.parse_args().files:
        for row in compare(path):
            groups[row.hardware, row.op, row.dtype].append(row.predicted_s / row.measured_s - 1.0)
    print(f"{'accelerator':12} {'op':14} {'type':5} {'rows':>4} {'median':>7} {'p90':>7} {'signed':>7}")
    for (hardware, op, dtype), found in sorted(groups.items()):
        size = np.abs(found)
        print(
            f"{hardware:12} {op:14} {dtype:5} {len(found):4} {np.median(size):7.1%} "
            f"{np.quantile(size, 0.9):7.1%} {np.median(found):+7.1%}"
        )


if __name__ == "__main__":
    main()
