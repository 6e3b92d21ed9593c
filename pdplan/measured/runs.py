"""The table of measured runs: one row a run, columns as in docs/measured-runs.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from pdplan.catalog.store import Catalog
from pdplan.errors import InputError, nearest
from pdplan.documents.files import read_text
from pdplan.measured.run import Run, sizes_of
from pdplan.measured.servers import ROLES, as_served, engine_settings, node_bytes_per_s, served_weights
from pdplan.measured.spelled import (
    CatalogNames,
    date_named,
    engine_named,
    mode_named,
    precision_named,
    source_named,
    speculation_named,
)
from pdplan.measured.table import RowError, table_rows
from pdplan.plan import PoolPlan
from pdplan.workload import MOST_REUSE

REQUIRED = (
    "id",
    "model",
    "hardware",
    "engine",
    "precision",
    "mode",
    "isl",
    "osl",
    "workers",
    "tp",
)
MODES = ("colocated", "disaggregated")
GPUS_PER_NODE = 8
MOST = 100_000
"""Of workers, and of each parallel size."""
_COUNTS = {
    "workers": 1,
    "tp": 1,
    "pp": 1,
    "dp": 1,
    "ep": 1,
    "prefill_workers": 0,
    "prefill_tp": 0,
    "prefill_pp": 0,
    "prefill_dp": 0,
    "prefill_ep": 0,
}


def read_runs(path: Path, catalog: Catalog | None = None) -> list[Run]:
    """Read a CSV of runs; all malformed rows are reported at once, by line."""
    return parse_runs(read_text(path), str(path), catalog)


def parse_runs(text: str, path: str, catalog: Catalog | None = None) -> list[Run]:
    """The runs of a CSV's text; `path` leads every message. Models and accelerators get the names that `catalog`
    has for them, by which rules know them."""
    runs, findings = [], []
    names = CatalogNames(catalog) if catalog else None
    for line, row in table_rows(text, path, REQUIRED):
        try:
            if isinstance(row, RowError):
                raise row
            run = names.of(_run(row)) if names else _run(row)
            runs.append(replace(as_served(run), listed=sizes_of(run.decode, run.prefill)))
        except ValueError as problem:
            findings.append(f"{path}:{line}: {problem}")
    if findings:
        raise InputError(findings[0], *findings[1:])
    if not runs:
        raise InputError(f"{path}: no rows below the header")
    return runs


def _run(row: dict[str, str]) -> Run:
    counts = {name: _count(row, name, default) for name, default in _COUNTS.items()}
    mode = mode_named(_text(row, "mode"))
    if mode not in MODES:
        close = nearest(mode, MODES) or MODES
        raise ValueError(f"mode is '{mode}'; expected {' or '.join(close)}")
    hardware = _text(row, "hardware")
    prefill = None
    if counts["prefill_workers"]:
        prefill = PoolPlan(
            hardware=row.get("prefill_hardware") or hardware,
            workers=counts["prefill_workers"],
            **{axis: max(counts[f"prefill_{axis}"], 1) for axis in ("tp", "pp", "dp", "ep")},
        )
    sizes = {axis: counts[axis] for axis in ("workers", "tp", "pp", "dp", "ep")}
    decode = PoolPlan(hardware=hardware, **repaired(sizes, colocated=prefill is None))
    own = decode.gpus + (prefill.gpus if prefill else 0)
    # A repaired row's throughput is published per GPU that ran, not per GPU of the multiplied count.
    gpus = own if decode.gpus != _product(sizes) else _integer(row, "gpus", own)
    concurrency, rate = (_number(row, name, math.nan) for name in ("concurrency", "rate"))
    if math.isnan(concurrency) == math.isnan(rate):
        raise ValueError(
            "give either concurrency or rate" + (", not both" if concurrency == concurrency else "")
        )
    if concurrency == 0 or rate == 0:
        raise ValueError(f"{'rate' if rate == 0 else 'concurrency'} is 0; expected more")
    return Run(
        id=_text(row, "id"),
        source=source_named(row.get("source") or ""),
        date=date_named(row.get("date") or ""),
        model=_text(row, "model"),
        hardware=hardware,
        engine=engine_named(_text(row, "engine")),
        engine_version=row.get("engine_version") or "",
        precision=precision_named(_text(row, "precision")),
        mode=mode,
        spec=speculation_named(row.get("spec") or ""),
        isl=_number(row, "isl"),
        osl=_number(row, "osl"),
        length_spread=_number(row, "length_spread", 0.0),
        concurrency=concurrency,
        rate=rate,
        arrival_cv=_number(row, "arrival_cv", 1.0),
        prefix_reuse=_share(row, "prefix_reuse"),
        kv_precision=row.get("kv_precision") or "auto",
        drafted=_integer(row, "drafted", 0),
        decode=decode,
        prefill=prefill,
        ttft_mean_s=_number(row, "ttft_mean_s", math.nan),
        ttft_median_s=_number(row, "ttft_median_s", math.nan),
        tpot_mean_s=_first(row, "tpot_mean_s", "tpot_median_s"),
        gpus=gpus,
        total_tok_per_s_per_gpu=_number(row, "total_tok_per_s_per_gpu", math.nan),
    )


def _product(sizes: dict[str, int]) -> int:
    return sizes["workers"] * sizes["tp"] * sizes["pp"] * sizes["dp"]


def repaired(sizes: dict[str, int], colocated: bool = True) -> dict[str, int]:
    """Parallel sizes of a worker as it ran, where a dump of runs garbled them; whatever the engine.

    Colocated rows that say tp 64, ep 8 (or tp 16, ep 4, or dp 64, ep 8) ran on one node: the dump
    multiplied tp or dp by ep. All 362 of them in train.csv publish tokens/s/GPU, 8 (or 4) times what
    64 (or 16) GPUs would give by the closed loop, and equal the tp 8, ep 8 rows beside them. No node
    has more than 8 GPUs there, so tp·dp = ep² beyond 8 is such a row.
    Attention-dp over more than a node with ep 1: the dump left ep out; rows beside them have ep = dp,
    and nobody splits one expert's matrices over 32 accelerators.

    >>> repaired({"workers": 1, "tp": 64, "pp": 1, "dp": 1, "ep": 8})
    {'workers': 1, 'tp': 8, 'pp': 1, 'dp': 1, 'ep': 8}
    """
    tp, dp, ep = sizes["tp"], sizes["dp"], sizes["ep"]
    if dp > GPUS_PER_NODE and ep == 1:
        return sizes | {"ep": tp * dp}
    if not colocated or tp * dp <= GPUS_PER_NODE or tp * dp != ep * ep:
        return sizes
    return sizes | ({"dp": dp // ep} if dp % ep == 0 and dp > 1 else {"tp": tp // ep})


def _text(row: dict[str, str], name: str) -> str:
    value = (row.get(name) or "").strip()
    if not value:
        raise ValueError(f"{name} is empty")
    return value


def _share(row: dict[str, str], name: str) -> float:
    value = _number(row, name, 0.0)
    if value > MOST_REUSE:
        raise ValueError(f"{name} is {value:g}; expected 0 to {MOST_REUSE:g}, as a share of the prompt")
    return value


def _number(row: dict[str, str], name: str, default: float | None = None) -> float:
    text = (row.get(name) or "").strip()
    if not text:
        if default is None:
            raise ValueError(f"{name} is empty; expected a number")
        return default
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}'; expected a number") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is {text}; expected a number of at least 0")
    return value


def _integer(row: dict[str, str], name: str, default: int) -> int:
    value = _number(row, name, float(default))
    if value != int(value):
        raise ValueError(f"{name} is {value:g}; expected a whole number")
    return int(value)


def _count(row: dict[str, str], name: str, default: int) -> int:
    """A number of workers or ranks; 0 only where nothing stands for none."""
    value = _integer(row, name, default)
    if value > MOST:
        raise ValueError(f"{name} is {value:,}; expected at most {MOST:,}")
    if value == 0 and name in ("workers", "tp"):
        raise ValueError(f"{name} is 0; expected at least 1")
    return value if default == 0 else max(value, 1)


def _first(row: dict[str, str], *names: str) -> float:
    """The first column that has a value: mean where published, else the median."""
    for name in names:
        value = _number(row, name, math.nan)
        if not math.isnan(value):
            return value
    return math.nan


def group_runs(runs: list[Run], *, by_length: bool = True) -> Iterator[list[int]]:
    """Indices of runs that one array call can predict: all but layout and concurrency equal, and lengths
    where `by_length` or where drafts are accepted by the length of the answer."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, run in enumerate(runs):
        key = (
            run.model,
            run.mode,
            run.hardware,
            run.prefill.hardware if run.prefill else None,
            run.source,
            run.engine,
            run.precision,
            run.spec,
            run.drafted,
            run.build,
            run.kv_precision,
            run.prefix_reuse,
            run.arrival_cv,
            run.open_loop,
            (run.mean_isl, run.mean_osl) if by_length or run.speculates else None,
            run.length_spread > 0,
            *(tuple(engine_settings(run, role).items()) for role in ROLES),
            tuple(served_weights(run).items()),
            node_bytes_per_s(run),
        )
        groups.setdefault(key, []).append(index)
    yield from groups.values()
