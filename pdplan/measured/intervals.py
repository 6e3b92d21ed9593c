"""Error bars: how far measurements stood from predictions, by how well the ground was known.

Tiers, best known first; a prediction takes the first that holds:
    measured    model and accelerator both took part in the fit
    unseen      a model or an accelerator (with kernel tables) that did not: errors with each left out
    no-tables   an accelerator without kernel tables: errors of those, each left out
The 80 % interval runs from the 10th to the 90th percentile of measured/predicted of the tier.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_yaml
from pdplan.laws.roofline import Array
from pdplan.measured.predict import Predictions
from pdplan.measured.runs import Run

TIERS = ("measured", "unseen", "no-tables")
WIDER = 1.25
"""An engine that took no part in the fit stretches the interval by this much."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Factors on a prediction between which 80 % of the measurements lay."""

    low: float
    high: float
    rows: int = 0

    def stretched(self, factor: float) -> Spread:
        return Spread(low=self.low**factor, high=self.high**factor, rows=self.rows)


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: Array
    high: Array


def spread_of(quantity: str, model: str, hardware: str, engine: str, mode: str) -> Spread:
    """The spread of one prediction; `quantity` is tpot, ttft or tok_per_s_per_gpu."""
    document = _file()
    known = document["measured"]
    tables = hardware not in document["without_tables"] and hardware in document["with_tables"]
    tier = "measured" if model in known["models"] and hardware in known["accelerators"] else "unseen"
    if not tables:
        tier = "no-tables"
    entry = document["spread"][tier].get(mode) or document["spread"][tier]["colocated"]
    found = Spread(**entry[quantity])
    return found if engine in known["engines"] else found.stretched(WIDER)


def interval(quantity: str, runs: Sequence[Run], predicted: Array) -> Interval:
    """80 % interval around the predictions of runs."""
    found: dict[tuple[str, str, str, str], Spread] = {}
    low, high = np.empty(len(runs)), np.empty(len(runs))
    for i, run in enumerate(runs):
        key = (run.model, run.hardware, run.engine, run.mode)
        if key not in found:
            found[key] = spread_of(quantity, *key)
        low[i], high[i] = found[key].low, found[key].high
    return Interval(low=predicted * low, high=predicted * high)


def covered(runs: Sequence[Run], predictions: Predictions) -> dict[str, float]:
    """Share of the measurements that count inside their 80 % interval, by quantity."""
    from pdplan.measured.accuracy import QUANTITIES, residuals

    found = residuals(runs, predictions)
    ones = np.ones(len(runs))
    shares = {}
    for quantity in QUANTITIES:
        bars = interval(quantity, runs, ones)
        ratio = 1.0 / (1.0 + getattr(found, quantity))
        counts = found.counts[quantity] & np.isfinite(ratio)
        inside = (ratio >= bars.low) & (ratio <= bars.high)
        shares[quantity] = float(np.mean(inside[counts])) if counts.any() else float("nan")
    return shares


@functools.cache
def _file() -> Mapping[str, Any]:
    return dict(read_yaml(CONSTANTS_DIRECTORY / "errors.yaml").data)
