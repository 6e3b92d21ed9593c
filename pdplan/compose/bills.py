"""What a plan buys, from whom and at which price."""

from __future__ import annotations

from dataclasses import replace

from pdplan.compose.world import World
from pdplan.market import Bill, bill_of
from pdplan.plan import Metrics, Plan


def plan_bill(world: World, plan: Plan) -> Bill:
    """What a plan buys: lots, whole nodes where the market sells no less, what is missing."""
    workers: dict[str, list[tuple[int, int]]] = {}
    for pool in plan.pools.values():
        workers.setdefault(pool.hardware, []).append((pool.gpus_per_worker, pool.workers))
    return bill_of(workers, {hardware: world.tariff(hardware) for hardware in workers})


def mean_prices_usd_per_h(world: World, plan: Plan) -> dict[str, float]:
    """Dollars per accelerator of the plan and hour, by name: its bill over those that it uses."""
    used: dict[str, int] = {}
    for pool in plan.pools.values():
        used[pool.hardware] = used.get(pool.hardware, 0) + pool.gpus
    bill = plan_bill(world, plan)
    found: dict[str, float] = {}
    for hardware, count in used.items():
        lines = [line for line in bill.lines if line.hardware == hardware]
        one = len(lines) == 1 and lines[0].gpus == count
        found[hardware] = lines[0].lot.usd_per_h if one else sum(x.usd_per_h for x in lines) / count
    return found


def billed(metrics: Metrics, world: World, plan: Plan) -> Metrics:
    """Metrics with the cost of the plan's bill, where that is more than price times accelerators."""
    if all(world.tariff(pool.hardware).is_plain for pool in plan.pools.values()):
        return metrics
    return repriced(metrics, plan_bill(world, plan).usd_per_h)


def repriced(metrics: Metrics, usd_per_h: float) -> Metrics:
    """Metrics at another cost."""
    share = usd_per_h / metrics.usd_per_h
    return replace(
        metrics,
        usd_per_h=usd_per_h,
        usd_per_million_output_tokens=metrics.usd_per_million_output_tokens * share,
        usd_per_million_tokens=metrics.usd_per_million_tokens * share,
    )
