"""How long engines had known a model when a run was made.

Kernels of a new model are launched one by one, are fused over the months, and a step's starts shrink.
Fitted to runs of ten models between one and twenty months after their release.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.documents.files import read_yaml
from pdplan.laws.roofline import Array
from pdplan.measured.run import Run

REFERENCE_MONTHS = 12.0
"""The age that constants hold for; a plan is for an engine that has known its model this long."""
YOUNGEST_MONTHS = 1.0
OLDEST_MONTHS = 20.0
"""No run of a younger or an older model was there to fit to."""


def tuning_factor(exponent: float, runs: Sequence[Run]) -> Array:
    """Share of kernel starts left at each run, over that at REFERENCE_MONTHS.

    f = (age/12)^(−ρ), a learning curve, with age in months from a model's release to the run, from 1 to 20;
    1 where either date is unknown.
    """
    ages = np.array([_age_months(run) for run in runs])
    return np.asarray((np.clip(ages, YOUNGEST_MONTHS, OLDEST_MONTHS) / REFERENCE_MONTHS) ** -exponent)


def _age_months(run: Run) -> float:
    released = _releases().get(run.model)
    when = _months(run.date)
    if released is None or math.isnan(when):
        return REFERENCE_MONTHS
    return when - released


@functools.cache
def _releases() -> dict[str, float]:
    data = read_yaml(CONSTANTS_DIRECTORY / "model_releases.yaml").data
    return {name: _months(str(date)) for name, date in data["released"].items()}


def _months(date: str) -> float:
    """Months since year 0 of an ISO date, 2025-01 or 2025-01-20; NaN for anything else."""
    parts = date.split("-")
    if len(parts) < 2 or not all(part.isdigit() for part in parts[:3]):
        return math.nan
    day = float(parts[2]) if len(parts) > 2 else 15.0
    return 12.0 * float(parts[0]) + float(parts[1]) - 1.0 + (day - 1.0) / 30.4
