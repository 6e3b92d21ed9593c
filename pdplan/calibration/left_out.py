"""What runs stand off by when something of them took no part in the fit: the ground of the error bars.

Groups of runs (a model's, an accelerator's, ...) are left out in turn, constants fitted to the rest, and
measured/predicted of the group kept. Nested, every other group is left out beside it as well, so that what is
learnt without a group can be held against it. Leaving out two groups is one fit for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from pdplan.calibration.engine_fit import Sample, fit
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import QUANTITIES, residuals
from pdplan.measured.predict import predict
from pdplan.measured.run import Run

RUN_FOLDS = 6


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """measured/predicted by quantity, one a run, NaN where it does not count; and where a pool is loaded."""

    of: dict[str, Array]
    loaded: Array

    @staticmethod
    def none(rows: int) -> Ratios:
        nothing = {q: np.full(rows, np.nan) for q in QUANTITIES}
        return Ratios(of=nothing, loaded=np.zeros(rows, dtype=bool))

    def put(self, index: Array, found: Ratios, at: slice) -> None:
        """Take over some rows of another table."""
        for q in QUANTITIES:
            self.of[q][index] = found.of[q][at]
        self.loaded[index] = found.loaded[at]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Ratios of runs whose group took no part in the fit; and, by group, of the others without it, too."""

    names: Array
    own: Ratios
    without: Mapping[str, Ratios]


def left_out(data: Sample, catalog: Catalog, document: Mapping[str, Any], names: Array) -> LeftOut:
    """Leave out every group of `names`, and every two of them; `catalog` is what runs are predicted with."""

    def ratios(index: Array, used: Array) -> Ratios:
        _, without = fit(data, document, used)
        runs = [data.runs[i] for i in index]
        found = predict(runs, catalog, without)
        errors = residuals(runs, found)
        of = {q: np.where(errors.counts[q], 1.0 / (1.0 + getattr(errors, q)), np.nan) for q in QUANTITIES}
        return Ratios(of=of, loaded=found.loaded)

    groups = [str(name) for name in sorted(set(names))]
    rows = {name: np.flatnonzero(names == name) for name in groups}
    own = Ratios.none(len(names))
    without = {name: Ratios.none(len(names)) for name in groups}
    for name in groups:
        own.put(rows[name], ratios(rows[name], names != name), slice(None))
    for one, two in combinations(groups, 2):
        found = ratios(np.concatenate([rows[one], rows[two]]), (names != one) & (names != two))
        first = len(rows[one])
        without[two].put(rows[one], found, slice(None, first))
        without[one].put(rows[two], found, slice(first, None))
    return LeftOut(names=names, own=own, without=without)


def run_folds(runs: list[Run]) -> Array:
    """RUN_FOLDS groups of whole sweeps: runs that differ in concurrency and layout alone stay together."""
    sweeps = [
        (r.model, r.hardware, r.engine, r.precision, r.mode, r.spec, r.mean_isl, r.mean_osl) for r in runs
    ]
    number = {sweep: i % RUN_FOLDS for i, sweep in enumerate(sorted(set(sweeps)))}
    return np.array([f"fold {number[sweep]}" for sweep in sweeps])


class WithoutTables(Catalog):
    """A catalog whose accelerators have no kernel tables, of their own or of their generation."""

    def __init__(self, hidden: list[str]) -> None:
        super().__init__()
        self.hidden = hidden

    def accelerator(self, name: str) -> Accelerator:
        found = super().accelerator(name)
        if found.name not in self.hidden:
            return found
        return replace(found, name=f"{found.name}-without-tables", generation="unknown")


def maker_folds(data: Sample, tables: Callable[[str], bool], document: Mapping[str, Any]) -> Array:
    """Runs by what their accelerators share: kernel tables of a generation, else a maker's constants."""
    parents = document["generations"]

    def root(generation: str) -> str:
        parent = parents.get(generation, {}).get("inherits")
        return root(parent) if parent else generation

    return np.array(
        [
            generation if tables(run.hardware) else root(generation)
            for run, generation in zip(data.runs, data.generation, strict=True)
        ]
    )
