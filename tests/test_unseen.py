"""Runs of accelerators without measurements: neighbours stand in the order of their data sheets."""

from __future__ import annotations

import numpy as np
import pytest

from pdplan.catalog.store import Catalog
from pdplan.measured.predict import predict
from pdplan.measured.runs import parse_runs

HEAD = (
    "id,source,date,model,hardware,engine,precision,mode,isl,osl,length_spread,concurrency,workers,tp,dp,ep,"
    "prefill_workers,prefill_tp,prefill_dp,prefill_ep"
)
TOLERANCE = 1.05
"""Kernels of two chips are fitted apart, and their laws miss 5 to 14 % in the median."""

# Where the slower one's data sheet has no figure above the faster one's (bandwidth, FLOP/s, links).
FASTER = [
    ("h200", "h100"),
    ("h100", "a100-sxm-80gb"),
    ("b300", "b200"),
    ("gb300", "gb200"),
    ("h20-3e", "h20"),
    ("mi325x", "mi300x"),
    ("mi300x", "mi250x"),
    ("mi355x", "mi325x"),
    ("rtx-pro-6000", "l40s"),
    ("rubin", "b300"),
]
MODELS = [
    ("deepseek-r1", "fp8", 8), ("deepseek-r1", "fp4", 8), ("gpt-oss-120b", "fp4", 2), ("glm-5", "fp8", 8),
    ("kimi-k2.5", "int4", 8), ("llama-3.3-70b", "fp8", 4), ("llama-3.3-70b", "fp4", 4),
    ("qwen3-235b-a22b", "fp8", 8),
]  # fmt: skip
BYTES = {"fp8": 1.0, "fp4": 0.5625, "int4": 0.5625}


def fits(model: str, precision: str, tp: int, hardware: str) -> bool:
    """Whether weights leave a third of the memory: else fewer requests decode, and each of them faster."""
    entry = Catalog().model(model).published
    assert entry is not None
    capacity = Catalog().accelerator(hardware).memory.capacity_bytes.value
    return entry.parameters_total * BYTES[precision] < 0.67 * tp * capacity


def tpot(rows: list[str]) -> np.ndarray:
    found = predict(parse_runs("\n".join([HEAD, *rows]), "runs.csv", Catalog()), Catalog())
    assert set(found.reasons) == {""}
    return np.asarray(found.tpot_mean_s)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "atom"])
def test_a_better_accelerator_is_no_slower(engine: str) -> None:
    """Rows of no publisher, so that no rule of how theirs were started sets two apart."""
    vendor = {a.name: a.vendor for a in Catalog().accelerators()}
    wanted = {"trtllm": "NVIDIA", "atom": "AMD"}.get(engine)
    pairs = [p for p in FASTER if wanted in (None, vendor[p[0]])]
    cases = [
        (better, worse, model, precision, tp, n)
        for better, worse in pairs
        for model, precision, tp in MODELS
        if fits(model, precision, tp, worse)
        for n in (4, 64)
    ]
    rows = [
        f"x,mine,,{model},{name},{engine},{precision},colocated,1024,1024,0,{n},1,{tp},1,1,0,0,0,0"
        for *names, model, precision, tp, n in cases
        for name in names
    ]
    times = tpot(rows).reshape(-1, 2)
    ratio = times[:, 0] / times[:, 1]
    assert [(case, r) for case, r in zip(cases, ratio, strict=True) if r > TOLERANCE] == []
