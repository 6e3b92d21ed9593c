"""Error bars: how far measurements stood from predictions, by how well the ground was known.

Tiers, best known first; a prediction takes the first that holds:
    measured    model and accelerator both took part in the fit
    unseen      a model or an accelerator (with kernel tables) that did not: errors with each left out
    no-tables   an accelerator without kernel tables: errors of those, each left out
The 80 % interval runs from the 10th to the 90th percentile of measured/predicted of the tier.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_yaml
from pdplan.plan import Metrics, Plan

TIERS = ("measured", "unseen", "no-tables")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Factors on a prediction between which 80 % of the measurements lay."""

    low: float
    high: float
    rows: int = 0

    def stretched(self, factor: float) -> Spread:
        return Spread(low=self.low**factor, high=self.high**factor, rows=self.rows)


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
    return (
        found
        if engine in known["engines"]
        else found.stretched(float(document["unmeasured_engine"]["stretch"]))
    )


@dataclass(frozen=True, kw_only=True)
class ErrorBar:
    """Where 8 of 10 measurements would lie."""

    low: float
    high: float


def error_bars(plan: Plan, metrics: Metrics) -> dict[str, ErrorBar]:
    """80 % intervals of mean TTFT and TPOT [s], by field of Metrics.

    Validity: the runs were closed loops, so for an open loop near its capacity, where a small
    error of the service becomes a large one of the queue, they are too narrow.

    Factors are those of measured runs of the plan's mode; of several accelerators the
    widest counts.
    """
    found: dict[str, ErrorBar] = {}
    for quantity, name in (("ttft", "ttft_mean_s"), ("tpot", "tpot_mean_s")):
        spreads = [
            spread_of(quantity, plan.model, pool.hardware, plan.engine, plan.mode)
            for pool in plan.pools.values()
        ]
        value = float(getattr(metrics, name))
        found[name] = ErrorBar(
            low=value * min(s.low for s in spreads), high=value * max(s.high for s in spreads)
        )
    return found


@functools.cache
def _file() -> Mapping[str, Any]:
    return dict(read_yaml(CONSTANTS_DIRECTORY / "errors.yaml").data)
