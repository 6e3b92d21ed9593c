"""Workers of each pool over a series of rates, such as the hours of a day."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.plan import Colocated, Equal, Metrics, Mixed, Plan, PoolPlan


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Workers of each pool by rate, spare ones included, and what they do."""

    plan: Plan
    """The worker types, with the workers of the highest rate and a max_batch that suits every rate."""
    workers: dict[str, Array]
    metrics: tuple[Metrics, ...]
    """By rate, all workers up."""
    plans: tuple[Plan, ...] = ()
    """By rate, of mixed pools: which kinds run, and how they share the requests."""

    def plan_at(self, index: int) -> Plan:
        if self.plans:
            return self.plans[index]
        assert not isinstance(self.plan, Mixed)
        return with_workers(self.plan, {name: int(n[index]) for name, n in self.workers.items()})

    def shares_at(self, index: int) -> dict[str, float]:
        """Of mixed pools, by kind of worker: its share of the requests; nothing where no pool is mixed."""
        if not isinstance(self.plan, Mixed):
            return {}
        plan = self.plans[index]
        running = [name for name in self.plan.pools if self.workers[name][index]]
        parts = plan.named_parts.values() if isinstance(plan, Mixed) else ()
        return dict(zip(running, (part.share for part in parts), strict=False)) or dict.fromkeys(running, 1.0)

    def gpus(self, hardware: str) -> Array:
        """Accelerators of one kind, by rate."""
        count = np.zeros(len(self.metrics))
        for name, pool in self.plan.pools.items():
            if pool.hardware == hardware:
                count = count + self.workers[name] * pool.gpus_per_worker
        return count


def with_workers(plan: Equal, workers: dict[str, int], batch: dict[str, int] | None = None) -> Equal:
    """The plan with so many workers of each pool, and where given other batches."""
    pools: dict[str, PoolPlan] = {
        name: replace(pool, workers=workers[name], max_batch=(batch or {}).get(name, pool.max_batch))
        for name, pool in plan.pools.items()
    }
    if isinstance(plan, Colocated):
        return replace(plan, colocated=pools["colocated"])
    return replace(plan, prefill=pools["prefill"], decode=pools["decode"])
