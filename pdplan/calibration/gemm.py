"""Dense matrix products: constants by accelerator and arithmetic type.

Arithmetic types as the planner names them: `bf16`; `fp8` (a scale per tensor, channel
or token: ModelOpt, compressed-tensors), `fp8-block` (a scale per 128x128 weights and per
1x128 activations: DeepSeek, Qwen3-FP8), `fp4` (NVFP4 weights and activations), `int8`
(W8A8, SmoothQuant), `bf16-w8` and `bf16-w4` (weights widened to 16 bit on the fly). What
stands before the first "-" is the type whose peak counts.

The tables measure a linear layer as an engine calls it: the quantisation of its
input is in the time, and in the law as `input_traffic`. The pass reads m·k values and so
does the product, so that the tables alone cannot tell the two apart; where FP8 products
were measured alone (`benchmarks/device`), those say what the product itself takes.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pdplan.calibration.fit import NEAR, NEVER, Block, Recipe, fit_roofline, span
from pdplan.calibration.samples import Sample, for_other_types, pool, pooled_blocks
from pdplan.calibration.tables import ACCELERATORS, CACHE_BYTES, GENERATIONS, Tables
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Roofline

SOURCES = {
    "aic-gemm": {
        "title": "aiconfigurator-core kernel tables (Apache-2.0), gemm: linear layers of serving engines",
        "reference": "https://pypi.org/project/aiconfigurator-core/0.12.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
    "infersim-gemm": {
        "title": "InferSim and DeepGEMM: FP8 products on H20 and H800, kernels alone",
        "reference": "alibaba/InferSim (Apache-2.0); deepseek-ai/DeepGEMM README @c57699ac (MIT)",
        "date": "2026-11-23",
        "note": "date of reading",
    },
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a table's type maps to ours."""

    dtype: str
    weight_bytes: float
    quantised_input: bool

    @property
    def peak(self) -> str:
        return self.dtype.partition("-")[0]


KINDS: Mapping[str, Kind] = {
    "bfloat16": Kind(dtype="bf16", weight_bytes=2.0, quantised_input=False),
    "fp8": Kind(dtype="fp8", weight_bytes=1.0, quantised_input=True),
    "fp8_block": Kind(dtype="fp8-block", weight_bytes=1.0, quantised_input=True),
    "nvfp4": Kind(dtype="fp4", weight_bytes=0.5 + 1 / 16, quantised_input=True),
    "sq": Kind(dtype="int8", weight_bytes=1.0, quantised_input=True),
    "int8_wo": Kind(dtype="bf16-w8", weight_bytes=1.0, quantised_input=False),
    "int4_wo": Kind(dtype="bf16-w4", weight_bytes=0.5, quantised_input=False),
}

LAUNCHED_APART = "fp4"
"""Type whose tables tell engines apart mainly by how they launch the quantisation of the input (4 to 7 µs at
the smallest product, 2 of BF16): a step fuses or overlaps that, so that serving runs do not show it, and
no engine gets constants of its own. (With a threshold TensorRT-LLM had its own on B300 and GB300 alone, whose
kernels are those of B200, and Llama-3.1-70B was 16 % slower there than on B200.)"""

ALONE = "fp8"
"""Type whose products were measured without the quantisation of their input."""
_DEVICE = Path(__file__).parents[2] / "benchmarks" / "device"
ON_DEVICE: Mapping[str, Path] = {"h100": _DEVICE / "h100.csv", "h200": _DEVICE / "h200.csv"}
KNOWN_ALONE = ("compute_efficiency", "activation_traffic")
"""What those measurements tell; how fast weights stream, and what a tile takes to walk along k,
are the engines' own kernels'."""

LEAST_SIDE = 256
"""Products with a side below this (routers, gates) are launch time and nothing else; they are left out."""

HOST_BOUND = "vllm"
"""vLLM's block-scaled tables take 55-290 µs for the smallest product: the Python launch of a call
that engines replay from a CUDA graph. A fit to them would charge it once per layer; left out."""

START = Roofline(
    compute_efficiency=0.7,
    memory_efficiency=0.8,
    overhead_s=4e-6,
    exponent=2.0,
    activation_traffic=1.0,
    depth_s=1e-9,
)
FREE = ("compute_efficiency", "memory_efficiency", "overhead_s", "activation_traffic", "depth_s")
START_QUANTISED = Roofline(
    compute_efficiency=0.6,
    memory_efficiency=0.8,
    overhead_s=5e-6,
    exponent=2.0,
    activation_traffic=1.0,
    depth_s=1e-9,
    input_traffic=1.5,
)
FREE_QUANTISED = (*FREE, "input_traffic")


def fit(tables: Tables) -> list[Block]:
    """Blocks of the family `gemm`."""
    samples: dict[str, dict[str, Sample]] = {}
    for accelerator in ACCELERATORS:
        for dtype, sample in _samples(tables, accelerator).items():
            samples.setdefault(dtype, {})[accelerator] = sample
    blocks: list[Block] = []
    for kind in KINDS.values():
        if kind.dtype in samples:
            start, free = (START_QUANTISED, FREE_QUANTISED) if kind.quantised_input else (START, FREE)
            told = NEVER if kind.dtype == LAUNCHED_APART else NEAR
            known = _measured_alone(tables) if kind.dtype == ALONE else {}
            recipe = Recipe(start=start, free=free, told=told, known=known)
            found = pooled_blocks("gemm", kind.dtype, samples[kind.dtype], GENERATIONS, recipe, "aic-gemm")
            blocks += [_said_alone(block) if block.name in known else block for block in found]
    return [*blocks, for_other_types(blocks), *_shared_blocks(tables, blocks)]


def counts_of(m: np.ndarray, n: np.ndarray, k: np.ndarray, weight_bytes: float) -> Counts:
    """What `ops._gemm` counts for y[m, n] = x[m, k]·W[k, n]."""
    return Counts(
        flop=2.0 * m * n * k,
        stored_bytes=n * k * weight_bytes,
        activation_bytes=2.0 * m * (n + k),
        rows=m,
        depth=k,
        input_bytes=2.0 * m * k,
    )


def _samples(tables: Tables, accelerator: str) -> dict[str, Sample]:
    sheet = tables.sheet(accelerator)
    read = tables.read(accelerator, "gemm")
    found: dict[str, Sample] = {}
    for name, kind in KINDS.items():
        if not read or kind.peak not in sheet.peaks:
            continue
        chosen = (read["gemm_dtype"] == name) & (np.minimum(read["n"], read["k"]) >= LEAST_SIDE)
        if name == "fp8_block":
            chosen &= read["engine"] != HOST_BOUND
        if chosen.any():
            m, n, k = (read[c][chosen] for c in "mnk")
            rows = len(m)
            sample = Sample(
                counts=(counts_of(m, n, k, kind.weight_bytes),),
                measured_s=read["latency_s"][chosen],
                peak=np.full(rows, sheet.peak(kind.peak)),
                bandwidth=np.full(rows, sheet.bandwidth),
                engine=read["engine"][chosen],
                shapes=f"m {span(m)}, n {span(n)}, k {span(k)}",
            )
            found[kind.dtype] = sample.from_memory(CACHE_BYTES.get(accelerator, 0.0))
    return found


def _measured_alone(tables: Tables) -> dict[str, dict[str, float]]:
    """What FP8 products reach whose input was FP8 before, by accelerator and pooled by generation."""
    found: dict[str, dict[str, float]] = {}
    parts = {name: _alone(tables, name) for name in ON_DEVICE}
    for generation, names in GENERATIONS.items():
        measured = [parts[name] for name in names if name in parts]
        if measured:
            parts[generation] = pool(measured)
    for name, sample in parts.items():
        law = sample.fit(Recipe(start=START, free=FREE)).law
        found[name] = {field: getattr(law, field) for field in KNOWN_ALONE}
    return found


def _said_alone(block: Block) -> Block:
    note = f"{' and '.join(KNOWN_ALONE)} from products measured alone (benchmarks/device)"
    return dataclasses.replace(block, entry={**block.entry, "note": note})


def _alone(tables: Tables, accelerator: str) -> Sample:
    sheet = tables.sheet(accelerator)
    with ON_DEVICE[accelerator].open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["op"], r["dtype"]) == ("gemm", ALONE)]
    m, n, k, measured = (np.array([float(r[c]) for r in rows]) for c in ("m", "n", "k", "time_s"))
    return Sample(
        counts=(dataclasses.replace(counts_of(m, n, k, 1.0), input_bytes=None),),
        measured_s=measured,
        peak=np.full(len(rows), sheet.peak(ALONE)),
        bandwidth=np.full(len(rows), sheet.bandwidth),
        engine=np.full(len(rows), "none"),
        shapes=f"m {span(m)}, n {span(n)}, k {span(k)}",
    )


def _shared_blocks(tables: Tables, blocks: list[Block]) -> list[Block]:
    """H20 and H800 from published kernel rates; their kernels are measured without quantisation."""
    hopper = next(
        b.entry for b in blocks if (b.scope, b.name, b.dtype) == ("generations", "hopper", "fp8-block")
    )
    found = []
    for accelerator in ("h20", "h800"):
        parts = [tables.read_csv(f"kernels/infersim/gemm__{accelerator}__data.csv")]
        shapes = [(parts[0]["m"], parts[0]["n"], parts[0]["k"], parts[0]["latency_us"] * 1e-6)]
        if accelerator == "h800":
            deep = tables.read_csv("kernels/deepgemm_h800.csv")
            dense = deep["kind"] == "dense"
            shapes.append(
                (deep["m"][dense], deep["n"][dense], deep["k"][dense], deep["time_us"][dense] * 1e-6)
            )
        m, n, k, measured = (np.concatenate(c) for c in zip(*shapes, strict=True))
        sheet = tables.sheet(accelerator)
        start = Roofline(**{f: hopper[f] for f in FREE}, exponent=2.0)
        fitted = fit_roofline(
            counts_of(m, n, k, 1.0), measured, sheet.rates("fp8"), Recipe(start=start, free=FREE)
        )
        entry = fitted.entry("infersim-gemm", f"m {span(m)}, n {span(n)}, k {span(k)}", FREE)
        entry = {
            "input_traffic": hopper["input_traffic"],
            **entry,
            "note": "input_traffic (quantisation) is hopper's: these kernels were measured without it",
        }
        found.append(
            Block(scope="accelerators", name=accelerator, family="gemm", dtype="fp8-block", entry=entry)
        )
    return found
