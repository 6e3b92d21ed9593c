"""80 % intervals of predicted runs, and how many measurements they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.measured.predict import Predictions
from pdplan.measured.runs import Run
from pdplan.uncertainty import Spread, spread_of

@dataclass(frozen=True, kw_only=True)
class Interval:
    low: Array
    high: Array


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
