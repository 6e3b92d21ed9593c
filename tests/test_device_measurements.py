"""The laws against kernels and steps measured on an H100 and an H200, which no constant was fitted to.

Truth: benchmarks/device/*.csv, measured by benchmarks/device/measure.py.
"""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

DEVICE = Path(__file__).parents[1] / "benchmarks" / "device"


@pytest.fixture(scope="module")
def laws() -> ModuleType:
    spec = importlib.util.spec_from_file_location("device_laws", DEVICE / "laws.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("hardware", ["h100", "h200"])
@pytest.mark.parametrize(
    ("op", "dtype", "median"),
    [
        ("gemm", "bf16", 0.10),
        ("decode-step", "bf16", 0.12),
        ("prefill-step", "bf16", 0.15),
        ("gemm", "fp8", 0.20),
        ("decode-fa2", "bf16", 0.20),
        ("decode-step", "fp8", 0.15),
        ("prefill-step", "fp8", 0.15),
    ],
)
def test_laws_meet_measured_kernels_and_steps(
    laws: ModuleType, hardware: str, op: str, dtype: str, median: float
) -> None:
    rows = [r for r in laws.compare(DEVICE / f"{hardware}.csv") if (r.op, r.dtype) == (op, dtype)]
    assert len(rows) >= 14
    errors = np.abs([r.predicted_s / r.measured_s - 1 for r in rows])
    assert np.median(errors) <= median


def test_measured_steps_respect_the_seed_formulas(laws: ModuleType) -> None:
    """No measured decode step beats its weights over the data sheet's bandwidth."""
    weights = {"llama-3.1-8b tp1": 7.5e9, "llama-3.1-70b tp4": 40 * 213.9e6}  # parameters of the rows
    for hardware, bandwidth in (("h100", 3.35e12), ("h200", 4.8e12)):
        for row in csv.DictReader((DEVICE / f"{hardware}.csv").read_text().splitlines()):
            if row["op"] == "decode-step":
                size = 1 if row["dtype"] == "fp8" else 2
                assert float(row["time_s"]) > 0.9 * weights[row["model"]] * size / bandwidth
