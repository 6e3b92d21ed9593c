"""Fits the `links` blocks: all-reduce, all-gather and reduce-scatter, expert dispatch and combine.

Message sizes in the tables count elements (their own formulas multiply by the width),
ranks are of one scale-up domain. All-reduce is what an engine would get: its own
kernel under a CUDA graph or NCCL, whichever is faster. What crosses the network is
fitted to DeepEP's published figures on H800.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import Block, held_out, rounded, span
from pdplan.calibration.tables import ACCELERATORS, GENERATIONS, Columns, Tables
from pdplan.files import read_yaml
from pdplan.laws.collectives import Links, all_gather_time_s, all_reduce_time_s, expert_exchange_time_s
from pdplan.laws.roofline import Array

SOURCES: dict[str, dict[str, str]] = {
    "aic-collectives": {
        "title": "aiconfigurator collective tables (NCCL, custom all-reduce, DeepEP, TensorRT-LLM all-to-all)",
        "reference": "PyPI aiconfigurator-core 0.12.0, systems/data/*/comm, Apache-2.0",
        "date": "2026-11-23",
        "note": "date of reading",
    },
    "deepep": {
        "title": "DeepEP published dispatch and combine figures, H800 with CX7 400 Gb/s",
        "reference": "deepseek-ai/DeepEP docs/legacy.md @dd758caf",
        "date": "2026-11-23",
        "note": "date of reading",
    },
    "cloudmatrix": {
        "title": "CANN expert-parallel dispatch and combine on CloudMatrix384",
        "reference": "arXiv 2506.12708, by secondary notes",
        "date": "2025-06",
    },
}

CATALOG = Path(__file__).parents[2] / "hardware_catalog"
_BYTES = 2.0  # BF16 and half
_DISPATCH, _COMBINE = 1.0, 2.0  # bytes per element on the wire, as in ops.py
_SMALLEST, _LARGEST = 1024.0, 1.1e9
_SMS = 20.0  # DeepEP's default number of SMs for its high-throughput kernels
_PCIE = ("l40s", "rtx-pro-6000", "arc-pro-b60")

BOUNDS: dict[str, tuple[float, float]] = {
    "scale_up_efficiency": (0.02, 1.0),
    "scale_out_efficiency": (0.02, 1.0),
    "direct_efficiency": (0.02, 1.0),
    "local_share": (0.0, 2.0),
    "contention": (0.0, 5.0),
    "scale_up_latency_s": (1e-7, 1e-3),
    "ring_latency_s": (1e-7, 1e-3),
    "ring_bulk_latency_s": (1e-7, 1e-3),
    "hop_latency_s": (1e-8, 1e-4),
    "scale_out_latency_s": (1e-7, 1e-3),
    "expert_latency_s": (1e-7, 1e-3),
    "expert_efficiency": (0.02, 1.0),
    "bulk_expert_latency_s": (1e-7, 1e-3),
    "bulk_expert_efficiency": (0.02, 1.0),
}
START = {
    "scale_up_efficiency": 0.8, "scale_out_efficiency": 0.85, "direct_efficiency": 0.6, "local_share": 0.3,
    "contention": 0.0, "scale_up_latency_s": 4e-6, "ring_latency_s": 8e-6, "ring_bulk_latency_s": 1e-5, "hop_latency_s": 1e-6,
    "scale_out_latency_s": 1.5e-5, "expert_latency_s": 2e-5, "expert_efficiency": 0.5,
    "bulk_expert_latency_s": 3.5e-5, "bulk_expert_efficiency": 0.5,
}  # fmt: skip
_RING = (
    "scale_up_efficiency", "direct_efficiency", "local_share", "scale_up_latency_s", "ring_latency_s",
    "ring_bulk_latency_s", "hop_latency_s",
)  # fmt: skip
_LOW_LATENCY = ("expert_latency_s", "expert_efficiency")
_BULK = ("bulk_expert_latency_s", "bulk_expert_efficiency")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Measured messages of one kind on one accelerator; `predict` gives the law's seconds."""

    kind: str
    accelerator: str
    seconds: Array
    size: Array
    ranks: Array
    engine: NDArray[Any]
    predict: Callable[[Links], Array]


def fit(tables: Tables) -> list[Block]:
    """`links` blocks: by accelerator, by generation, and the default of all behind a switch."""
    samples = list(measurements(tables))
    found = []
    for name in ACCELERATORS:
        found += _block("accelerators", name, [s for s in samples if s.accelerator == name], "aic-collectives")
    for generation, members in GENERATIONS.items():
        found += _block("generations", generation, [s for s in samples if s.accelerator in members], "aic-collectives")
    published = list(deepep_samples(tables))
    found += _block("accelerators", "h800", published, "deepep")
    found += _block("accelerators", "ascend-910c", list(cann_samples(tables)), "cloudmatrix")
    switched = [s for s in samples if s.accelerator not in _PCIE]
    network = _entry(published, "deepep")
    common = _entry(switched, "aic-collectives")
    across = {k: network[k] for k in ("scale_out_efficiency", "scale_out_latency_s") if k in network}
    if common:
        found.append(Block(scope="defaults", name="", family="links", dtype="", entry={**across, **common}))
    return found


def measurements(tables: Tables) -> Iterator[Sample]:
    """What the tables hold of collectives inside one scale-up domain."""
    for accelerator in ACCELERATORS:
        yield from _all_reduce(tables, accelerator)
        yield from _gathers(tables, accelerator)
        yield from _deepep(tables, accelerator)
        yield from _nvlink_all_to_all(tables, accelerator)


@functools.cache
def ideal_links(accelerator: str) -> Links:
    """The data-sheet links of an accelerator."""
    data = read_yaml(CATALOG / f"{accelerator}.yaml").data
    up = data["scale_up"]
    out = data.get("scale_out")
    return Links(
        scale_up_bytes_per_s=float(up["bandwidth_bytes_per_s"]["value"]),
        scale_out_bytes_per_s=float(out["bandwidth_bytes_per_s"]["value"]) if out else float("nan"),
        domain_size=int(up["domain_size"]["value"]),
    )


def _all_reduce(tables: Tables, accelerator: str) -> Iterator[Sample]:
    custom, nccl = tables.read(accelerator, "custom_allreduce"), _nccl(tables, accelerator, "all_reduce")
    if not custom:
        return
    library = {(r, s): t for r, s, t in zip(*(nccl[k].tolist() for k in ("num_gpus", "message_size", "latency_s")), strict=True)} if nccl else {}
    eager = np.char.endswith(custom["kernel_source"].astype(str), "eager")
    rows = {k: v[~eager] for k, v in custom.items()}
    size, ranks = rows["message_size"] * _BYTES, rows["num_gpus"]
    other = np.array([library.get(k, np.inf) for k in zip(ranks.tolist(), rows["message_size"].tolist(), strict=True)])
    yield _sample("all_reduce", accelerator, np.minimum(rows["latency_s"], other), size, ranks, rows["engine"], all_reduce_time_s)


def _gathers(tables: Tables, accelerator: str) -> Iterator[Sample]:
    for op in ("all_gather", "reduce_scatter"):
        rows = _nccl(tables, accelerator, op)
        if rows:
            size, ranks = rows["message_size"] * _BYTES, rows["num_gpus"]
            yield _sample("all_gather", accelerator, rows["latency_s"], size, ranks, np.full(len(size), op), all_gather_time_s)


def _nccl(tables: Tables, accelerator: str, op: str) -> Columns:
    rows = tables.read(accelerator, "nccl")
    if not rows:
        return {}
    mask = (rows["op_name"] == op) & (rows["nccl_dtype"] == "half")
    return {k: v[mask] for k, v in rows.items()}


def _sample(
    kind: str, accelerator: str, seconds: Array, size: Array, ranks: Array, engine: NDArray[Any],
    law: Callable[[Array, Array, Links], Array],
) -> Sample:  # fmt: skip
    keep = (size >= _SMALLEST) & (size <= _LARGEST)
    seconds, size, ranks, engine = seconds[keep], size[keep], ranks[keep], engine[keep]
    return Sample(
        kind=kind, accelerator=accelerator, seconds=seconds, size=size, ranks=ranks, engine=engine,
        predict=lambda links: law(size, ranks, links),
    )  # fmt: skip


def _exchange(
    kind: str, accelerator: str, seconds: Array, tokens: Array, per_token: Array, width: Array, ranks: Array,
    deduplicate: bool, group_limit: int | None = None,
) -> Sample:  # fmt: skip
    """`width`: bytes per token copy. per_token is an integer in the law, so one call for each."""

    def predict(links: Links) -> Array:
        total: Array = np.zeros_like(seconds)
        for k in np.unique(per_token).tolist():
            at = per_token == k
            total[at] = expert_exchange_time_s(tokens[at] * width[at], int(k), 1.0, ranks[at], links, deduplicate, group_limit)
        return total

    return Sample(
        kind=kind, accelerator=accelerator, seconds=seconds, size=tokens * width, ranks=ranks,
        engine=np.full(len(seconds), kind), predict=predict,
    )  # fmt: skip


def _deepep(tables: Tables, accelerator: str) -> Iterator[Sample]:
    """SGLang's bench of DeepEP on one node: the kernels alone."""
    data = read_yaml(CATALOG / f"{accelerator}.yaml").data
    ranks = float(data["accelerators_per_node"])
    for op, kind, columns in (
        ("wideep_deepep_ll", "low_latency", (("dispatch_avg_t_us", _DISPATCH), ("combine_avg_t_us", _COMBINE))),
        ("wideep_deepep_normal", "bulk", (("dispatch_transmit_us", _DISPATCH), ("combine_transmit_us", _COMBINE))),
    ):
        rows = tables.read(accelerator, op)
        if not rows:
            continue
        keep = (rows["num_topk"] >= 4) & (rows["num_experts"] >= 64)
        if kind == "bulk":
            keep &= (rows["dispatch_sms"] == _SMS) & (rows["combine_sms"] == _SMS)
        for column, element in columns:
            good = keep & np.isfinite(rows[column]) & (rows[column] > 0)
            tokens, k, hidden = (rows[name][good] for name in ("num_token", "num_topk", "hidden_size"))
            yield _exchange(
                kind, accelerator, rows[column][good] * 1e-6, tokens, k, hidden * element, np.full(len(k), ranks),
                kind == "bulk",
            )  # fmt: skip


def _nvlink_all_to_all(tables: Tables, accelerator: str) -> Iterator[Sample]:
    """TensorRT-LLM's all-to-all inside an NVL72 domain, 2 to 64 ranks."""
    rows = tables.read(accelerator, "trtllm_alltoall")
    if not rows:
        return
    for op, element in (("alltoall_dispatch", {"fp8": 1.0, "bfloat16": 2.0}), ("alltoall_combine", {"bfloat16": 2.0})):
        for dtype, width in element.items():
            at = (rows["op_name"] == op) & (rows["moe_dtype"] == dtype)
            yield _exchange(
                "low_latency", accelerator, rows["latency_s"][at], rows["num_tokens"][at], rows["topk"][at],
                rows["hidden_size"][at] * width, rows["moe_ep_size"][at], False,
            )  # fmt: skip


DEEPEP_DOMAIN = 8.0  # accelerators per H800 node
DEEPSEEK_NODES = 4  # DeepSeek-V3 routes a token to at most four nodes


def deepep_samples(tables: Tables) -> Iterator[Sample]:
    """DeepEP's own figures on H800: low latency by time, high throughput by bandwidth.

    Their bandwidth counts a token once per rank it reaches (NVLink-bound) or once per
    node it reaches, its own included (RDMA-bound); the time follows from it.
    """
    rows = tables.read_csv("facts/expert_all_to_all.csv")
    text = {k: np.asarray(rows[k], dtype=str) for k in ("lib", "kernel", "op", "bottleneck")}
    latency, bandwidth = _floats(rows["latency_us"]) * 1e-6, _floats(rows["bandwidth_GBps"]) * 1e9
    element = np.where(text["op"] == "dispatch", _DISPATCH, _COMBINE)
    tokens, width, ranks, k = (_floats(rows[c]) for c in ("tokens_per_rank", "hidden", "ep", "topk"))
    width = width * element
    v1 = text["lib"] == "DeepEP V1"
    low = v1 & np.isfinite(latency)
    yield _exchange("low_latency", "h800", latency[low], tokens[low], k[low], width[low], ranks[low], False)
    nodes = np.minimum(np.ceil(ranks / DEEPEP_DOMAIN), DEEPSEEK_NODES)
    places = np.where(text["bottleneck"] == "NVLink", ranks, nodes)
    seconds = tokens * width * places * (1.0 - (1.0 - 1.0 / places) ** k) / bandwidth
    bulk = v1 & ~np.isfinite(latency)
    yield _exchange("bulk", "h800", seconds[bulk], tokens[bulk], k[bulk], width[bulk], ranks[bulk], True, DEEPSEEK_NODES)


def cann_samples(tables: Tables) -> Iterator[Sample]:
    """Fused dispatch and combine on Ascend 910C, by the CloudMatrix384 paper."""
    rows = tables.read_csv("facts/expert_all_to_all.csv")
    at = np.char.startswith(np.asarray(rows["lib"], dtype=str), "CANN")
    latency, tokens, hidden, ranks, k = (
        _floats(rows[c])[at] for c in ("latency_us", "tokens_per_rank", "hidden", "ep", "topk")
    )
    element = np.where(np.asarray(rows["op"], dtype=str)[at] == "dispatch", _DISPATCH, _COMBINE)
    yield _exchange("low_latency", "ascend-910c", latency * 1e-6, tokens, k, hidden * element, ranks, False)


def _floats(values: NDArray[Any]) -> Array:
    return np.array([float(v) if str(v) not in ("", "nan") else np.nan for v in values.tolist()])


def _free(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The constants that these measurements tell something about."""
    kinds = {s.kind for s in samples}
    crosses = any(np.any(s.ranks > ideal_links(s.accelerator).domain_size) for s in samples)
    free: tuple[str, ...] = ()
    if "all_reduce" in kinds:
        free += _RING + (("contention",) if all(s.accelerator in _PCIE for s in samples) else ())
    free += _LOW_LATENCY if "low_latency" in kinds else ()
    if "bulk" in kinds:
        few_tokens = any(np.any(s.size < 1e6) for s in samples if s.kind == "bulk")
        free += _BULK if few_tokens else ("bulk_expert_efficiency",)
    return free + (("scale_out_efficiency", "scale_out_latency_s") if crosses else ())


def _block(scope: Any, name: str, samples: Sequence[Sample], source: str) -> list[Block]:
    entry = _entry(samples, source)
    return [Block(scope=scope, name=name, family="links", dtype="", entry=entry)] if entry else []


def _entry(samples: Sequence[Sample], source: str) -> dict[str, Any]:
    """Fit all kinds of message together, each kind of each accelerator weighing the same."""
    samples = [s for s in samples if len(s.seconds)]
    if not samples:
        return {}
    free = _free(samples)
    measured = np.concatenate([s.seconds for s in samples])
    weight = np.concatenate([np.full(len(s.seconds), len(s.seconds) ** -0.5) for s in samples])
    weight = weight / np.sqrt(np.mean(weight**2))
    held = held_out(np.concatenate([s.size * 31.0 + s.ranks for s in samples]))

    def model(constants: dict[str, float]) -> Array:
        return np.concatenate(
            [s.predict(dataclasses.replace(ideal_links(s.accelerator), **constants)) for s in samples]
        )

    def errors(constants: dict[str, float]) -> Array:
        return np.abs(model(constants) / measured - 1.0)

    enough = np.sum(~held) > 2 * len(free)
    without = _minimise(model, measured, free, weight * ~held if enough else weight)
    constants = {k: rounded(v) for k, v in _minimise(model, measured, free, weight).items()}
    error, blind = errors(constants), errors(without)[held]
    fixed = {k: v for k, v in constants.items() if k in free}
    by_kind = {
        f"{kind}_median_error": rounded(float(np.median(error[_of(samples, kind)])))
        for kind in sorted({s.kind for s in samples})
    }
    return {
        **fixed,
        "rows": len(measured),
        "median_error": rounded(float(np.median(error))),
        "p90_error": rounded(float(np.percentile(error, 90))),
        **({"held_out_median_error": rounded(float(np.median(blind)))} if enough and blind.size else {}),
        **by_kind,
        "shapes": f"ranks {span(np.concatenate([s.ranks for s in samples]))}, "
        f"bytes {span(np.concatenate([s.size for s in samples]))}",
        "source": source,
    }


def _of(samples: Sequence[Sample], kind: str) -> NDArray[np.bool_]:
    return np.concatenate([np.full(len(s.seconds), s.kind == kind) for s in samples])


def _minimise(
    model: Callable[[dict[str, float]], Array], measured: Array, free: Sequence[str], weight: Array
) -> dict[str, float]:
    """Soft-L1 of log(predicted / measured), as `fit.fit_roofline`."""
    from scipy.optimize import least_squares

    used = weight > 0
    log = np.array([BOUNDS[k][0] > 0 for k in free])
    low, high = (np.array([BOUNDS[k][i] for k in free]) for i in (0, 1))

    def values(x: NDArray[np.float64]) -> dict[str, float]:
        plain = np.where(log, np.exp(np.where(log, x, 0.0)), x)
        return dict(zip(free, plain.tolist(), strict=True))

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.log(model({**_fixed(free), **values(x)}) / measured) * weight)[used])

    def scaled(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(log, np.log(np.maximum(v, 1e-300)), v)

    lower, upper = scaled(low), scaled(high)
    margin = 1e-6 * (upper - lower)
    start = np.clip(scaled(np.array([START[k] for k in free])), lower + margin, upper - margin)
    found = least_squares(residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.1, x_scale="jac", max_nfev=300)
    return {**_fixed(free), **values(found.x)}


def _fixed(free: Sequence[str]) -> dict[str, float]:
    """A constant that the measurements do not tell keeps its start value."""
    return {k: v for k, v in START.items() if k not in free and k != "contention"}
