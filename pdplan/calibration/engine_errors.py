"""Error bars from residuals: constants/errors.yaml, written by the fit of the engine constants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_text
from pdplan.measured.accuracy import QUANTITIES, residuals
from pdplan.measured.predict import Predictions
from pdplan.measured.runs import Run
from pdplan.uncertainty import TIERS

TAILS = (0.1, 0.9)
HEAD = """\
# Between which factors of the prediction 80 % of the measurements lay, by tier (see
# pdplan/uncertainty.py). Written by `python -m pdplan.calibration.engines --errors`: tier
# `measured` from the fit itself, the others from each model and each accelerator left out in turn.
"""
UNMEASURED_ENGINE = (
    'unmeasured_engine: {stretch: 1.25, source: "assumed, not measured: an engine that took no part in the '
    'fit widens the interval by this power"}'
)


def write_errors(
    path: Path, runs: list[Run], catalog: Catalog, inside: Predictions, folds: Sequence[Predictions]
) -> None:
    """Write the spreads of all tiers, modes and quantities."""
    kernels = json.loads(read_text(CONSTANTS_DIRECTORY / "kernels.json"))
    with_tables = [
        n for n, block in kernels["accelerators"].items() if "gemm" in block and "decode_attention" in block
    ]
    tables = np.array([r.hardware in with_tables for r in runs])
    lines = [HEAD.rstrip(), "measured:"]
    for name, values in (
        ("models", {r.model for r in runs}),
        ("accelerators", {r.hardware for r in runs}),
        ("engines", {r.engine for r in runs}),
    ):
        lines.append(f"  {name}: [{', '.join(sorted(values))}]")
    lines.append(f"with_tables: [{', '.join(sorted(with_tables))}]")
    without = sorted({r.hardware for r in runs} - set(with_tables))
    lines += [f"without_tables: [{', '.join(without)}]", UNMEASURED_ENGINE, "spread:"]
    for tier in TIERS:
        sources = [inside] if tier == "measured" else folds
        where = tables if tier != "no-tables" else ~tables
        lines.append(f"  {tier}:")
        for mode in ("colocated", "disaggregated"):
            lines.append(f"    {mode}:")
            chosen = where & np.array([r.mode == mode for r in runs])
            for quantity in QUANTITIES:
                lines.append(f"      {quantity}: {_spread(quantity, runs, sources, chosen)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _spread(quantity: str, runs: list[Run], sources: Sequence[Predictions], chosen: np.ndarray) -> str:
    ratios = []
    for predictions in sources:
        found = residuals(runs, predictions)
        errors = getattr(found, quantity)[chosen & found.counts[quantity]]
        ratios.append(1.0 / (1.0 + errors[np.isfinite(errors)]))
    all_ratios = np.concatenate(ratios)
    low, high = np.quantile(all_ratios, TAILS)
    return f"{{low: {low:.3f}, high: {high:.3f}, rows: {all_ratios.size}}}"
