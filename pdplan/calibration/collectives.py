"""Fits the `links` blocks: all-reduce, all-gather and reduce-scatter, expert dispatch and combine.

Message sizes in the tables count elements (their own formulas multiply by the width),
ranks are of one scale-up domain. The common all-reduce is what any engine would get: its own
kernel under a CUDA graph or NCCL, whichever is faster. Beside it stands what each engine
gets, today and before it changed its kernels. What crosses the network is
fitted to DeepEP's published figures on H800.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.expert_exchange import cann_samples, deepep_samples, deepep_tables, nvlink_all_to_all
from pdplan.calibration.fit import Block
from pdplan.calibration.messages import (
    BULK,
    LOW_LATENCY,
    PCIE,
    Messages,
    ideal_links,
    links_entry,
    node_size,
    own_kernels,
)
from pdplan.calibration.tables import ACCELERATORS, GENERATIONS, Columns, Tables, version_key
from pdplan.laws.collectives import Links, all_gather_time_s, all_reduce, all_reduce_time_s
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


@dataclass(frozen=True, kw_only=True)
class Own:
    """All-reduces of an engine in its newest version, or its newest before another."""

    engine: str
    before: str = ""
    in_switch: bool = False
    """Whether they add in the switch by kernels of their own (vLLM's, in symmetric memory)."""


OWN: Mapping[str, Own] = {
    "sglang": Own(engine="sglang"),
    "sglang-0.5.12": Own(engine="sglang", before="0.5.13"),
    "trtllm": Own(engine="trtllm"),
    "vllm": Own(engine="vllm", in_switch=True),
    "vllm-0.17": Own(engine="vllm", before="0.18"),
}
"""By name in kernels.json: an engine as it is, or the last of its versions that had other kernels."""


def fit(tables: Tables) -> list[Block]:
    """`links` blocks: by accelerator, by generation, and the default of all behind a switch."""
    samples = list(measurements(tables))
    found = []
    for name in ACCELERATORS:
        own = [s for s in samples if s.accelerator == name]
        found += _block("accelerators", name, own, "aic-collectives", list(_by_engine(tables, (name,))))
    for generation, members in GENERATIONS.items():
        own = [s for s in samples if s.accelerator in members]
        found += _block("generations", generation, own, "aic-collectives", list(_by_engine(tables, members)))
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


def _block(
    scope: Any,
    name: str,
    samples: Sequence[Messages],
    source: str,
    own: Sequence[tuple[str, list[Messages]]] = (),
) -> list[Block]:
    entry = links_entry(samples, source)
    if not entry:
        return []
    fitted = {who: own_kernels(rows, entry, OWN[who].in_switch) for who, rows in own}
    if engines := {who: constants for who, constants in fitted.items() if constants}:
        entry = {**entry, "engines": engines}
    return [Block(scope=scope, name=name, family="links", dtype="", entry=entry)]


def _by_engine(tables: Tables, accelerators: Sequence[str]) -> Iterator[tuple[str, list[Messages]]]:
    """All-reduces by whose they are, as the engine runs them: its own or the library's, by its choice."""
    for name, own in OWN.items():
        found = []
        for accelerator in accelerators:
            table = tables.read(accelerator, "custom_allreduce", own.engine, versions="all")
            rows = _graphs(table, accelerator)
            if rows:
                found += _of_version(accelerator, rows, own)
        if found:
            yield name, found


def _of_version(accelerator: str, rows: Columns, own: Own) -> list[Messages]:
    """The newest version's rows that an entry asks for, or none."""
    limit = version_key(own.before) if own.before else None
    versions = [v for v in set(rows["version"].tolist()) if limit is None or version_key(v) < limit]
    if not versions:
        return []
    rows = {k: v[rows["version"] == max(versions, key=version_key)] for k, v in rows.items()}
    size = rows["message_size"] * _BYTES
    every = (rows["latency_s"], size, rows["num_gpus"], rows["engine"])
    return [_messages("all_reduce", accelerator, *every, all_reduce_time_s)]


def _graphs(rows: Columns, accelerator: str) -> Columns:
    """All-reduces as a step runs them: under a graph, and where the engine has a kernel for these ranks.

    Not those that were started one by one, nor another engine's in place of its own, nor those across the
    nodes of a rack, where vLLM and SGLang have the library alone.
    """
    if not rows:
        return {}
    source, engine = rows["kernel_source"].astype(str), rows["engine"].astype(str)
    borrowed = (engine != "trtllm") & (source == "TRTLLM")
    library = (engine != "trtllm") & (rows["num_gpus"] > node_size(accelerator))
    keep = ~np.char.endswith(source, "eager") & ~borrowed & ~library
    return {k: v[keep] for k, v in rows.items()}


def _all_reduce(tables: Tables, accelerator: str) -> Iterator[Messages]:
    """Engines' own and the library's; vLLM's in the switch are its alone, and told by `OWN`."""
    rows = _graphs(tables.read(accelerator, "custom_allreduce"), accelerator)
    nccl = _nccl(tables, accelerator, "all_reduce")
    library: dict[tuple[float, float], float] = {}
    if nccl:
        columns = (nccl[k].tolist() for k in ("num_gpus", "message_size", "latency_s"))
        library = {(r, s): t for r, s, t in zip(*columns, strict=True)}
    if rows and ideal_links(accelerator).switch_reduces:
        rows = {k: v[rows["engine"] != "vllm"] for k, v in rows.items()}
    if not rows:
        return
    size, ranks = rows["message_size"] * _BYTES, rows["num_gpus"]
    other = np.array(
        [library.get(k, np.inf) for k in zip(ranks.tolist(), rows["message_size"].tolist(), strict=True)]
    )
    fastest = np.minimum(rows["latency_s"], other)
    yield _messages("all_reduce", accelerator, fastest, size, ranks, rows["engine"], all_reduce_time_s)
    if nccl:
        every = (nccl["latency_s"], nccl["message_size"] * _BYTES, nccl["num_gpus"], nccl["engine"])
        yield _messages("library", accelerator, *every, _library_all_reduce_time_s)


def _library_all_reduce_time_s(size: Array, ranks: Array, links: Links) -> Array:
    return all_reduce(ranks, links)._replace(shots=None).at(size)


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
