"""Error bars from residuals: constants/errors.yaml, written by the fit of the engine constants.

For every kind of ground (pdplan.uncertainty) groups of runs are left out in turn, constants fitted to
the rest, and measured/predicted of the group kept. Its quantiles, over all groups, are what ships.

How much such quantiles are worth is cross-validated once more, nested: for every group, constants
and quantiles are fitted without it (each of the other groups left out beside it), and the share of its runs
inside the 80 % interval is counted: `blind`. Where that is not 80 %, since few groups were
there to learn from, the quantiles are stretched about their median in the logarithm, by one number a cell,
until 80 % of the runs are inside: `stretch`, and `coverage` with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdplan.calibration.engine_fit import Sample, fit
from pdplan.catalog.store import Catalog
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_text
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import QUANTITIES, residuals
from pdplan.measured.predict import predict
from pdplan.measured.run import Run
from pdplan.uncertainty import FITTED_RUNS, INTERVAL

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
MODES = ("colocated", "disaggregated")
RUN_FOLDS = 6
STRETCHES = np.arange(0.5, 4.001, 0.01)
HEAD = """\
# How far measurements stood from predictions: quantiles of measured/predicted at `levels`, by what of a
# prediction's ground took part in the fit (pdplan/uncertainty.py). Written by
# `python -m pdplan.calibration.engines --runs RUNS.csv --errors errors.yaml`; how, stands in
# pdplan/calibration/engine_errors.py. `groups` were left out in turn, and predicted with
# `median_error` |predicted/measured - 1|; of their runs the share `blind` lay inside the 80 % interval of
# quantiles and constants fitted without them, and `coverage` once these were stretched by `stretch`.
# One group alone cannot be checked: its own errors are all there is.
"""

FINGERPRINTS_HEAD = """\
# Runs that constants/engines.yaml and errors.yaml were fitted to: `Run.fingerprint` of each. Written beside
# errors.yaml."""

Ratios = dict[str, Array]
"""measured/predicted by quantity, one a run; NaN where a run does not count."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Quantiles of one kind, mode and quantity, and what they are worth."""

    factors: Array
    rows: int
    groups: int
    median_error: float
    """Of |predicted/measured − 1| of the runs left out."""
    blind: float
    coverage: float
    stretch: float

    @property
    def text(self) -> str:
        facts = [f"rows: {self.rows}", f"groups: {self.groups}", f"median_error: {self.median_error:.4f}"]
        if np.isfinite(self.blind):
            facts += [
                f"blind: {self.blind:.3f}",
                f"stretch: {self.stretch:.2f}",
                f"coverage: {self.coverage:.3f}",
            ]
        numbers = ", ".join(f"{f:.4g}" for f in self.factors)
        return f"{{{', '.join(facts)}, factors: [{numbers}]}}"


def write_errors(path: Path, data: Sample, catalog: Catalog, document: Mapping[str, Any]) -> None:
    """Write the quantiles of every kind, mode and quantity: some 60 fits, a few minutes."""
    with_tables = accelerators_with_tables()
    lines = [HEAD.rstrip(), "measured:"]
    for name, values in (
        ("models", {r.model for r in data.runs}),
        ("accelerators", {r.hardware for r in data.runs}),
        ("engines", {r.engine for r in data.runs}),
    ):
        lines.append(f"  {name}: [{', '.join(sorted(values))}]")
    lines.append(f"with_tables: [{', '.join(sorted(with_tables))}]")
    lines += [f"levels: [{', '.join(str(p) for p in LEVELS)}]", "quantiles:"]
    for kind, cells in error_quantiles(data, catalog, document).items():
        lines.append(f"  {kind}:")
        for mode in MODES:
            lines.append(f"    {mode}:")
            lines += [f"      {quantity}: {cells[mode, quantity].text}" for quantity in QUANTITIES]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_fingerprints(path.parent / FITTED_RUNS, data.runs)


def write_fingerprints(path: Path, runs: list[Run]) -> None:
    """Which runs constants and error bars rest on, so that `validate` can tell them from new ones."""
    marks = sorted({run.fingerprint for run in runs})
    rows = [" ".join(marks[i : i + 12]) for i in range(0, len(marks), 12)]
    path.write_text("\n".join([FINGERPRINTS_HEAD, *rows]) + "\n", encoding="utf-8")


def accelerators_with_tables() -> list[str]:
    """Accelerators whose GEMM and decode attention were measured as kernels."""
    kernels = json.loads(read_text(CONSTANTS_DIRECTORY / "kernels.json"))
    return [
        n for n, block in kernels["accelerators"].items() if "gemm" in block and "decode_attention" in block
    ]


def error_quantiles(
    data: Sample, catalog: Catalog, document: Mapping[str, Any]
) -> dict[str, dict[tuple[str, str], Cell]]:
    """By kind of ground, mode and quantity."""
    tables = np.array([r.hardware in accelerators_with_tables() for r in data.runs])
    everything = np.ones(len(data.runs), dtype=bool)
    kinds: dict[str, tuple[Callable[[Run], str], tuple[tuple[str, Array], ...]]] = {
        "model": (lambda r: r.model, (("model", everything),)),
        "accelerator": (lambda r: r.hardware, (("accelerator", tables), ("no-tables", ~tables))),
        "engine": (lambda r: r.engine, (("engine", everything),)),
    }
    found = {"run": _cells(_left_out(data, catalog, document, run_folds(data.runs)), data.runs, everything)}
    for group, parts in kinds.values():
        names = np.array([group(r) for r in data.runs])
        left_out = _left_out(data, catalog, document, names)
        found |= {kind: _cells(left_out, data.runs, where) for kind, where in parts}
    return found


def run_folds(runs: list[Run]) -> Array:
    """RUN_FOLDS groups of whole sweeps: runs that differ in concurrency and layout alone stay together."""
    sweeps = [
        (r.model, r.hardware, r.engine, r.precision, r.mode, r.spec, r.mean_isl, r.mean_osl) for r in runs
    ]
    number = {sweep: i % RUN_FOLDS for i, sweep in enumerate(sorted(set(sweeps)))}
    return np.array([f"fold {number[sweep]}" for sweep in sweeps])


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Ratios of runs whose group took no part in the fit; and, by group, of the others without it, too."""

    names: Array
    ratios: Ratios
    without: dict[str, Ratios]


def _left_out(data: Sample, catalog: Catalog, document: Mapping[str, Any], names: Array) -> LeftOut:
    def fold(used: Array) -> Ratios:
        found = {q: np.full(len(data.runs), np.nan) for q in QUANTITIES}
        for name in sorted(set(names[used])):
            index = np.flatnonzero(used & (names == name))
            _, without = fit(data, document, used & (names != name))
            runs = [data.runs[i] for i in index]
            errors = residuals(runs, predict(runs, catalog, without))
            for q in QUANTITIES:
                ratio = 1.0 / (1.0 + getattr(errors, q))
                found[q][index] = np.where(errors.counts[q], ratio, np.nan)
        return found

    everything = np.ones(len(names), dtype=bool)
    return LeftOut(
        names=names,
        ratios=fold(everything),
        without={str(name): fold(names != name) for name in sorted(set(names))},
    )


def _cells(found: LeftOut, runs: list[Run], where: Array) -> dict[tuple[str, str], Cell]:
    modes = np.array([r.mode for r in runs])
    return {
        (mode, quantity): _cell(found, quantity, where & (modes == mode))
        for mode in MODES
        for quantity in QUANTITIES
    }


def _cell(found: LeftOut, quantity: str, where: Array) -> Cell:
    """One cell: its own quantiles, stretched until runs of groups left out twice are covered."""
    own = found.ratios[quantity]
    used = where & np.isfinite(own)
    pairs: list[tuple[Array, Array]] = []
    groups = sorted(set(found.names[used]))
    for name in groups:
        others = found.without[name][quantity]
        learnt = others[where & (found.names != name) & np.isfinite(others)]
        if learnt.size:
            pairs.append((np.log(own[used & (found.names == name)]), _log_quantiles(learnt)))
    shares = np.array([covered(pairs, s) for s in STRETCHES]) if pairs else np.full(len(STRETCHES), np.nan)
    best = int(np.argmin(np.abs(shares - INTERVAL))) if pairs else 0
    stretch = float(STRETCHES[best]) if pairs else 1.0
    return Cell(
        factors=np.exp(_stretched(_log_quantiles(own[used]), stretch)),
        rows=int(used.sum()),
        groups=len(groups),
        median_error=float(np.median(np.abs(1.0 / own[used] - 1.0))),
        blind=covered(pairs, 1.0),
        coverage=float(shares[best]),
        stretch=stretch,
    )


def covered(pairs: list[tuple[Array, Array]], stretch: float) -> float:
    """Share of the runs inside their interval; pairs of (log ratios, log quantiles at LEVELS)."""
    if not pairs:
        return float("nan")
    tail = (1.0 - INTERVAL) / 2.0
    ends = [LEVELS.index(round(p, 9)) for p in (tail, 1.0 - tail)]
    inside = []
    for ratios, quantiles in pairs:
        low, high = _stretched(quantiles, stretch)[ends]
        inside.append((ratios >= low) & (ratios <= high))
    return float(np.mean(np.concatenate(inside)))


def _log_quantiles(ratios: Array) -> Array:
    return np.log(np.quantile(ratios, LEVELS))


def _stretched(quantiles: Array, stretch: float) -> Array:
    middle = quantiles[LEVELS.index(0.5)]
    return np.asarray(middle + stretch * (quantiles - middle))
