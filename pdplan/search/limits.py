"""How much a plan may take in all: accelerators, dollars per hour, what there is of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World
from pdplan.errors import InputError
from pdplan.laws.roofline import Array
from pdplan.question import Candidate, Question
from pdplan.search.objective import Objective, Workers, build_objective
from pdplan.search.workers.whole import most_whole

SLACK = 1e-9
"""Relative: a budget that is met to the last digit is met."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits on a whole plan, spare workers included; infinite where none is set."""

    dollars: Objective
    """What plans cost in dollars, whatever the question wants least of; infinite beyond an inventory."""
    gpus: float = np.inf
    usd_per_h: float = np.inf

    @property
    def bind(self) -> bool:
        """Whether there is any limit beside the inventory."""
        return bool(np.isfinite(self.gpus) or np.isfinite(self.usd_per_h))

    @property
    def spare_workers(self) -> int:
        return self.dollars.spare_workers

    def most_gpus(self, hardware: str) -> float:
        """Accelerators of one kind that a plan can have at most, others left out."""
        most = min(self.gpus, self.dollars.tariffs[hardware].most)
        if np.isfinite(self.usd_per_h):
            price = self.dollars.tariffs[hardware].lots[0].usd_per_h
            most = min(most, float(np.floor(self.usd_per_h / price * (1 + SLACK))))
        return most

    def most_workers(self, hardware: str, gpus_each: Array) -> Array:
        """Workers of one pool that are allowed if it is alone, spare ones left out; perhaps infinite."""
        high = np.floor(self.most_gpus(hardware) / gpus_each) - self.spare_workers
        if self.dollars.is_plain or not np.all(np.isfinite(high)):
            return np.asarray(high)
        gpus_each, high = np.broadcast_arrays(gpus_each, high)
        return most_whole(lambda k, n: self.allow_pool(Workers(hardware, gpus_each[k], n)), high)

    def allow_pool(self, pool: Workers) -> Array:
        """Where so many workers of one pool, and the spare ones, are within every limit."""
        gpus = (pool.number + self.spare_workers) * pool.gpus_each
        return self._allow(gpus, self.dollars.pool_cost(*pool))

    def allow_pair(self, prefill: Workers, decode: Workers) -> Array:
        """Where two pools together, and the spare workers of both, are within every limit."""
        spare = self.spare_workers
        gpus = (prefill.number + spare) * prefill.gpus_each + (decode.number + spare) * decode.gpus_each
        return self._allow(gpus, self.dollars.pair_cost(prefill, decode))

    def allow(self, candidate: Candidate) -> bool:
        """Whether a candidate of the search is within every limit, with its spare workers."""
        pools = candidate.plan.pools.values()
        gpus = sum((p.workers + self.spare_workers) * p.gpus_per_worker for p in pools)
        return bool(self._allow(np.asarray(gpus), np.asarray(self.dollars.cost(candidate))))

    def _allow(self, gpus: Array, usd_per_h: Array) -> Array:
        """Unknown prices break no limit: who limits money has to give them."""
        dear = (usd_per_h > self.usd_per_h * (1 + SLACK)) | (usd_per_h == np.inf)
        return np.asarray((gpus <= self.gpus) & ~dear)


def limits_of(question: Question, world: World, names: Iterable[str], objective: Objective) -> Limits:
    """The question's limits; raises InputError where money is limited and a price unknown."""
    names, money = list(names), question.max_usd_per_h
    unpriced = [] if money is None else [n for n in names if np.isnan(world.price(n))]
    if unpriced:
        raise InputError(
            *(
                f"max_usd_per_h: {name} has no price in the catalog; "
                f"give one with --price {name}=USD_PER_HOUR"
                for name in unpriced
            )
        )
    in_dollars = question.objective == "cost" and not objective.counts_gpus
    if not in_dollars and money is not None:
        objective = build_objective(replace(question, objective="cost"), world, names)
    return Limits(
        dollars=objective,
        gpus=np.inf if question.max_gpus is None else float(question.max_gpus),
        usd_per_h=np.inf if money is None else float(money),
    )
