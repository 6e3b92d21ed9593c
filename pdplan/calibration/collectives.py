"""Fits the `links` blocks: all-reduce, all-gather and reduce-scatter, expert dispatch and combine.

Message sizes in the tables count elements (their own formulas multiply by the width),
ranks are of one scale-up domain. All-reduce is what an engine would get: its own
kernel under a CUDA graph or NCCL, whichever is faster. What crosses the network is
fitted to DeepEP's published figures on H800.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.expert_exchange import cann_samples, deepep_samples, deepep_tables, nvlink_all_to_all
from pdplan.calibration.fit import Block
from pdplan.calibration.messages import BULK, LOW_LATENCY, PCIE, Messages, ideal_links, links_entry
from pdplan.calibration.tables import ACCELERATORS, GENERATIONS, Columns, Tables
from pdplan.laws.collectives import Links, all_gather_time_s, all_reduce_time_s
from pdplan.laws.roofline import Array

SOURCES: dict[str, dict[str, str]] = {
    "aic-collectives": {
        "title": "aiconfigurator collective tables (NCCL, custom all-reduce, DeepEP, all-to-all)",
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

_BYTES = 2.0  # BF16 and half
_SMALLEST, _LARGEST = 1024.0, 1.1e9


def fit(tables: Tables) -> list[Block]:
    """`links` blocks: by accelerator, by generation, and the default of all behind a switch."""
    samples = list(measurements(tables))
    found = []
    for name in ACCELERATORS:
        found += _block(
            "accelerators", name, [s for s in samples if s.accelerator == name], "aic-collectives"
        )
    for generation, members in GENERATIONS.items():
        found += _block(
            "generations", generation, [s for s in samples if s.accelerator in members], "aic-collectives"
        )
    published = list(deepep_samples(tables))
    found += _block("accelerators", "h800", published, "deepep")
    found += _block("accelerators", "ascend-910c", list(cann_samples(tables)), "cloudmatrix")
    switched = [s for s in samples if s.accelerator not in PCIE]
    common = links_entry(switched, "aic-collectives")
    if common:
        # DeepEP's H800 kernels start late even inside a node; what the network adds to
        # newer kernels is what remains of their time once these have started.
        across = _network(published, {k: common[k] for k in (*LOW_LATENCY, *BULK) if k in common})
        found.append(Block(scope="defaults", name="", family="links", dtype="", entry={**across, **common}))
    return found


def _network(published: Sequence[Messages], known: Mapping[str, float]) -> dict[str, Any]:
    """Constants of the network link, from the messages that cross it."""
    crossing = [m.where(m.ranks > ideal_links(m.accelerator).domain_size) for m in published]
    return {k: v for k, v in links_entry(crossing, "deepep", known).items() if k.startswith("scale_out")}


def measurements(tables: Tables) -> Iterator[Messages]:
    """What the tables hold of collectives inside one scale-up domain."""
    for accelerator in ACCELERATORS:
        yield from _all_reduce(tables, accelerator)
        yield from _gathers(tables, accelerator)
        yield from deepep_tables(tables, accelerator)
        yield from nvlink_all_to_all(tables, accelerator)


def _block(scope: Any, name: str, samples: Sequence[Messages], source: str) -> list[Block]:
    entry = links_entry(samples, source)
    return [Block(scope=scope, name=name, family="links", dtype="", entry=entry)] if entry else []


def _all_reduce(tables: Tables, accelerator: str) -> Iterator[Messages]:
    custom, nccl = tables.read(accelerator, "custom_allreduce"), _nccl(tables, accelerator, "all_reduce")
    if not custom:
        return
    library: dict[tuple[float, float], float] = {}
    if nccl:
        columns = (nccl[k].tolist() for k in ("num_gpus", "message_size", "latency_s"))
        library = {(r, s): t for r, s, t in zip(*columns, strict=True)}
    eager = np.char.endswith(custom["kernel_source"].astype(str), "eager")
    rows = {k: v[~eager] for k, v in custom.items()}
    size, ranks = rows["message_size"] * _BYTES, rows["num_gpus"]
    other = np.array(
        [library.get(k, np.inf) for k in zip(ranks.tolist(), rows["message_size"].tolist(), strict=True)]
    )
    yield _messages(
        "all_reduce",
        accelerator,
        np.minimum(rows["latency_s"], other),
        size,
        ranks,
        rows["engine"],
        all_reduce_time_s,
    )


def _gathers(tables: Tables, accelerator: str) -> Iterator[Messages]:
    for op in ("all_gather", "reduce_scatter"):
        rows = _nccl(tables, accelerator, op)
        if rows:
            size, ranks = rows["message_size"] * _BYTES, rows["num_gpus"]
            yield _messages(
                "all_gather",
                accelerator,
                rows["latency_s"],
                size,
                ranks,
                np.full(len(size), op),
                all_gather_time_s,
            )


def _nccl(tables: Tables, accelerator: str, op: str) -> Columns:
    rows = tables.read(accelerator, "nccl")
    if not rows:
        return {}
    mask = (rows["op_name"] == op) & (rows["nccl_dtype"] == "half")
    return {k: v[mask] for k, v in rows.items()}


def _messages(
    kind: str,
    accelerator: str,
    seconds: Array,
    size: Array,
    ranks: Array,
    engine: NDArray[Any],
    law: Callable[[Array, Array, Links], Array],
) -> Messages:
    keep = (size >= _SMALLEST) & (size <= _LARGEST)
    seconds, size, ranks, engine = seconds[keep], size[keep], ranks[keep], engine[keep]
    return Messages(
        kind=kind,
        accelerator=accelerator,
        seconds=seconds,
        size=size,
        ranks=ranks,
        engine=engine,
        predict=lambda links: law(size, ranks, links),
    )
