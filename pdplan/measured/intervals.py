"""80 % intervals of predicted runs, and how many measurements they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pdplan.calibrated import Calibration
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import QUANTITIES, Residuals
from pdplan.measured.run import Run
from pdplan.uncertainty import Ground, Spread, fitted_runs, spread


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: Array
    high: Array


def interval(
    quantity: str,
    runs: Sequence[Run],
    predicted: Array,
    loaded: Array,
    calibration: Calibration | None = None,
) -> Interval:
    """80 % interval around the predictions of runs; `loaded` where a pool is predicted to be."""
    found: dict[tuple[str | bool | None, ...], Spread] = {}
    low, high = np.empty(len(runs)), np.empty(len(runs))
    for i, run in enumerate(runs):
        sender = run.prefill.hardware if run.prefill else None
        on = (run.speculates, bool(loaded[i]))
        key = (run.model, run.hardware, sender, run.engine, run.mode, *on)
        if key not in found:
            found[key] = spread(quantity, *grounds_of(run, on[1], calibration))
        low[i], high[i] = found[key].low, found[key].high
    return Interval(low=predicted * low, high=predicted * high)


def grounds_of(run: Run, loaded: bool, calibration: Calibration | None = None) -> tuple[Ground, Ground]:
    """What the prediction of a run stands on: where it prefills, where it decodes."""
    sender = run.prefill.hardware if run.prefill else run.hardware
    first, last = (
        Ground(
            model=run.model,
            hardware=name,
            engine=run.engine,
            mode=run.mode,
            speculates=run.speculates,
            loaded=loaded,
            calibration=calibration,
        )
        for name in (sender, run.hardware)
    )
    return first, last


@dataclass(frozen=True, kw_only=True)
class Inside:
    """Of the measurements that count: which lie inside their 80 % interval."""

    counts: dict[str, Array]
    inside: dict[str, Array]
    reach: dict[str, Array]
    """The factor that an interval reaches to each side by: √(high/low)."""

    def share(self, quantity: str, where: Array | None = None) -> float:
        """Of those in `where`; NaN where there is none."""
        used = self.counts[quantity] if where is None else self.counts[quantity] & where
        return float(np.mean(self.inside[quantity][used])) if used.any() else float("nan")

    def usual_reach(self, quantity: str, where: Array | None = None) -> float:
        """Median factor of those in `where`; NaN where there is none."""
        used = self.counts[quantity] if where is None else self.counts[quantity] & where
        return float(np.median(self.reach[quantity][used])) if used.any() else float("nan")

    def shares(self, where: Array | None = None) -> dict[str, float]:
        return {quantity: self.share(quantity, where) for quantity in self.counts}


def inside_intervals(
    runs: Sequence[Run], found: Residuals, loaded: Array, calibration: Calibration | None = None
) -> Inside:
    """Which measurements lie inside the 80 % interval of their prediction."""
    ones = np.ones(len(runs))
    counts, inside, reach = {}, {}, {}
    for quantity in QUANTITIES:
        bars = interval(quantity, runs, ones, loaded, calibration)
        ratio = 1.0 / (1.0 + getattr(found, quantity))
        counts[quantity] = found.counts[quantity] & np.isfinite(ratio)
        inside[quantity] = (ratio >= bars.low) & (ratio <= bars.high)
        reach[quantity] = np.sqrt(bars.high / bars.low)
    return Inside(counts=counts, inside=inside, reach=reach)


def is_fitted(runs: Sequence[Run]) -> Array:
    """Which runs constants and error bars were fitted to."""
    known = fitted_runs()
    return np.array([run.fingerprint in known for run in runs], dtype=bool)
