"""How much of a budget plans take: the objective of searches that only ask whether a rate can be served.

The share of a plan is the largest share of any limit: accelerators, dollars, the inventory of each
kind. It never falls as workers are added, so the search for the cheapest plan at a rate finds the plan
of the least share, and there is a plan within the budget where that share is at most 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.market import packed_pair, packed_units
from pdplan.question import Candidate
from pdplan.search.limits import SLACK, Limits
from pdplan.search.objective import Objective, Workers

WHOLE = 1.0 + 1e-6
"""A search leaves out what costs as much as its ceiling: a plan that takes all of a budget is below this."""


@dataclass(frozen=True, kw_only=True)
class Share(Objective):
    """Counts the largest share of `limits` that pools take, spare workers included."""

    limits: Limits

    @property
    def is_plain(self) -> bool:
        return False

    @property
    def adds_up(self) -> bool:
        tariffs = self.limits.dollars.tariffs.values()
        limited = [self.limits.gpus, self.limits.usd_per_h, *(tariff.most for tariff in tariffs)]
        return self.limits.dollars.is_plain and int(np.isfinite(limited).sum()) == 1

    def cost(self, candidate: Candidate) -> float:
        pools = list(candidate.plan.pools.values())
        bought = {
            hw: [(p.gpus_per_worker, p.workers + self.spare_workers) for p in pools if p.hardware == hw]
            for hw in dict.fromkeys(p.hardware for p in pools)
        }
        gpus = sum(size * count for many in bought.values() for size, count in many)
        usd = np.asarray(self.limits.dollars.cost(candidate))
        units = {hw: packed_units(self.limits.dollars.tariffs[hw].unit, many) for hw, many in bought.items()}
        return float(self._largest(np.asarray(gpus), usd, [(hw, np.asarray(n)) for hw, n in units.items()]))

    def pool_cost(self, hardware: str, gpus_each: Array, workers: Array) -> Array:
        count = workers + self.spare_workers
        units = packed_pair(self.limits.dollars.tariffs[hardware].unit, gpus_each, count, 1, 0)
        usd = self.limits.dollars.pool_cost(hardware, gpus_each, workers)
        return self._largest(count * gpus_each, usd, [(hardware, units)])

    def pair_cost(self, prefill: Workers, decode: Workers) -> Array:
        spare, tariffs = self.spare_workers, self.limits.dollars.tariffs
        sent, received = prefill.number + spare, decode.number + spare
        usd = self.limits.dollars.pair_cost(prefill, decode)
        if prefill.hardware == decode.hardware:
            unit = tariffs[prefill.hardware].unit
            both = packed_pair(unit, prefill.gpus_each, sent, decode.gpus_each, received)
            units = [(prefill.hardware, both)]
        else:
            units = [
                (hw, packed_pair(tariffs[hw].unit, size, count, 1, 0))
                for hw, size, count in (
                    (prefill.hardware, prefill.gpus_each, sent),
                    (decode.hardware, decode.gpus_each, received),
                )
            ]
        return self._largest(sent * prefill.gpus_each + received * decode.gpus_each, usd, units)

    def _largest(self, gpus: Array, usd: Array, units: Iterable[tuple[str, Array]]) -> Array:
        share = np.asarray(gpus / self.limits.gpus)
        if np.isfinite(self.limits.usd_per_h):
            share = np.maximum(share, usd / (self.limits.usd_per_h * (1 + SLACK)))
        for hardware, count in units:
            tariff = self.limits.dollars.tariffs[hardware]
            if np.isfinite(tariff.most):
                share = np.maximum(share, count * tariff.unit / max(tariff.most, 1e-300))
        return np.where(share <= 1.0, share, np.inf)


def share_of(limits: Limits, objective: Objective) -> Share:
    """The share of these limits as an objective; its search stops at the least share, or above the whole."""
    return Share(**(vars(objective) | {"thorough": False, "ceiling": WHOLE, "firm": True}), limits=limits)


def least_shares(limits: Limits, hardware: str, gpus_each: Array) -> Array:
    """Of one worker of each type on its own: share of the accelerators, of the money, of the inventory.

    Of the cheapest lot, nothing rounded up to nodes: n workers take at least n times as much.
    """
    tariff = limits.dollars.tariffs[hardware]
    dearness = tariff.lots[0].usd_per_h / limits.usd_per_h if np.isfinite(limits.usd_per_h) else 0.0
    return np.stack([gpus_each / limits.gpus, gpus_each * dearness, gpus_each / tariff.most])
