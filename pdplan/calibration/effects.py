"""What a calibration may change: effects, each one number per engine, accelerator, model or benchmark.

    engines       constants of constants/engines.yaml that were fitted to serving runs, one value an engine
    benchmarks    likewise, of how a benchmark drives and times its server
    accelerators  factors that the file has for generations only (kernel_time_factor), one an accelerator
    models        the same factors, one a model

The list is read from the file: a constant that a later fit adds is calibrated without a line here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pdplan.calibrated import overlaid
from pdplan.catalog.store import Catalog
from pdplan.efficiency import benchmark_settings, engine_entries
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import residuals
from pdplan.measured.predict import predict
from pdplan.measured.run import Run

FITTED = "serving-runs"
"""Under this source stand the constants that runs tell."""
FACTOR = "_factor"
"""How names of numbers end that are 1 where nothing is known; seconds have no such middle."""
STEP = 0.05
"""Of a numerical derivative, in the logarithm of a constant."""
OBSERVED = ("tpot", "ttft")
"""Quantities that a fit compares; throughput follows from them in a closed loop."""
Blocks = dict[str, dict[str, dict[str, float]]]
"""Values by scope, owner and name, as `pdplan.calibrated.overlaid` takes them."""


@dataclass(frozen=True, order=True)
class Effect:
    """A constant that may differ from owner to owner of a scope."""

    scope: str
    name: str

    def owner(self, run: Run) -> str:
        """Whose value a run is predicted with."""
        return {
            "engines": run.engine,
            "benchmarks": f"{run.source} {run.engine}",
            "accelerators": run.hardware,
            "models": run.model,
        }[self.scope]


def effects_of(document: Mapping[str, Any], runs: Sequence[Run]) -> tuple[Effect, ...]:
    """Every effect that the document and the runs have."""
    found: set[Effect] = set()
    for engine in {run.engine for run in runs}:
        for name, entry in engine_entries(engine, document).items():
            if _is_fitted(entry):
                found.add(Effect("engines", name))
    # What only some published benchmarks have (cold starts, convoys) is none of the user's.
    common = document["benchmarks"]["any"]
    found |= {Effect("benchmarks", name) for name, entry in common.items() if _is_fitted(entry)}
    constants = {name for block in document["engines"].values() for name in block} | set(document["common"])
    for block in document["generations"].values():
        for name in {n for n in block.keys() - constants if n.endswith(FACTOR)}:
            found |= {Effect("accelerators", name), Effect("models", name)}
    return tuple(sorted(found))


def has_effect(effect: Effect, run: Run, document: Mapping[str, Any]) -> bool:
    """Whether a run is predicted with this constant: engines have different ones."""
    if effect.scope != "engines":
        return True
    return _is_fitted(engine_entries(run.engine, document).get(effect.name, {}))


def _is_fitted(entry: Mapping[str, Any]) -> bool:
    """A number that a fit found (with rows), not one that was chosen; zero has no logarithm."""
    return entry.get("source") == FITTED and "rows" in entry and float(entry["value"]) > 0


def shipped_value(effect: Effect, run: Run, generation: str, document: Mapping[str, Any]) -> float:
    """The value that a run is predicted with before any calibration; 1 for factors."""
    if effect.scope == "engines":
        return float(engine_entries(run.engine, document)[effect.name]["value"])
    if effect.scope == "benchmarks":
        return benchmark_settings(run.source, run.engine, generation, document)[effect.name]
    return 1.0


def log_residuals(runs: list[Run], catalog: Catalog, document: Mapping[str, Any]) -> Array:
    """log(measured/predicted) of all runs, quantity after quantity; NaN where one does not count."""
    found = residuals(runs, predict(runs, catalog, document))
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.concatenate([-np.log1p(getattr(found, quantity)) for quantity in OBSERVED])
    return np.where(np.isfinite(logs), logs, np.nan)


def sensitivities(
    runs: list[Run],
    catalog: Catalog,
    document: Mapping[str, Any],
    effects: Sequence[Effect],
    values: Mapping[Effect, Mapping[str, float]],
) -> tuple[Array, dict[Effect, Array]]:
    """Residuals at the values, and by effect d log(predicted) / d log(constant): one prediction an effect.

    All owners of an effect are changed at once, since each run has one owner.
    """
    here = log_residuals(runs, catalog, overlaid(document, blocks_of(values)))
    slopes = {}
    for effect in effects:
        moved = {**values, effect: {o: v * float(np.exp(STEP)) for o, v in values[effect].items()}}
        there = log_residuals(runs, catalog, overlaid(document, blocks_of(moved)))
        slopes[effect] = np.nan_to_num((here - there) / STEP)
    return here, slopes


def blocks_of(values: Mapping[Effect, Mapping[str, float]]) -> Blocks:
    found: Blocks = {}
    for effect, by_owner in values.items():
        for owner, value in by_owner.items():
            found.setdefault(effect.scope, {}).setdefault(owner, {})[effect.name] = value
    return found
