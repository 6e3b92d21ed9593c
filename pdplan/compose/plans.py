"""Metrics of a plan, for every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pdplan.compose.bills import billed
from pdplan.compose.settings import build_network, build_pool
from pdplan.compose.world import World
from pdplan.errors import InputError
from pdplan.evaluate import (
    Economics,
    evaluate_colocated,
    evaluate_disaggregated,
    meets,
    serve_colocated,
    serve_disaggregated,
)
from pdplan.plan import Colocated, Disaggregated, Metrics, Mixed, Plan, PoolPlan, Serving, role_of
from pdplan.roots import increasing_root
from pdplan.serving.mixture import Route, every_route_meets, mixed_metrics
from pdplan.serving.pools import pool_tpot_s, prefill_service
from pdplan.workload import Slo, Workload


def evaluate_plan(world: World, plan: Plan, workload: Workload, slo: Slo) -> Metrics:
    """Metrics of one plan: the composition point for a single deployment."""
    return billed(evaluate_pools(world, plan, workload, slo).at(0), world, plan)


def evaluate_pools(world: World, plan: Plan, workload: Workload, slo: Slo) -> Metrics:
    """Metrics of one plan, every accelerator at its cheapest price, as arrays.

    The workload's rate and lengths may be arrays of one shape: but for mixes, its metrics for each.
    """
    money = economics(world, plan.pools)
    if isinstance(plan, Colocated):
        pool = build_pool(world, plan, plan.colocated, "colocated", workload)
        return evaluate_colocated(pool, workload, slo, money)
    if isinstance(plan, Mixed):
        return mixed_metrics(mixed_routes(world, plan, workload, slo), workload, slo, money)
    assert isinstance(plan, Disaggregated)
    prefill = build_pool(world, plan, plan.prefill, "prefill", workload)
    decode = build_pool(world, plan, plan.decode, "decode", workload)
    network = build_network(world, plan.prefill.hardware, plan.decode.hardware)
    return evaluate_disaggregated(prefill, decode, workload, slo, network, money)


def plan_meets(world: World, plan: Plan, workload: Workload, slo: Slo) -> bool:
    """Whether a plan keeps every limit; of mixed pools, whether each kind of worker does by itself."""
    if isinstance(plan, Mixed):
        return every_route_meets(mixed_routes(world, plan, workload, slo), workload, slo)
    return bool(meets(evaluate_plan(world, plan, workload, slo), slo))


def mixed_routes(world: World, plan: Mixed, workload: Workload, slo: Slo) -> list[Route]:
    """Every way of a request through a plan of mixed pools."""
    if workload.concurrency is not None:
        raise InputError(
            "a plan of mixed pools is evaluated at a rate, not at a concurrency: how a closed loop splits "
            "its requests is not known; give --rate"
        )
    parts = plan.named_parts
    pools = {
        name: replace(
            build_pool(world, plan, part.pool, role_of(name), workload), share=np.asarray([part.share])
        )
        for name, part in parts.items()
    }
    if plan.colocated:
        return [
            Route(
                weight=part.share,
                names={"colocated": name},
                served=serve_colocated(pools[name], workload, slo),
            )
            for name, part in parts.items()
        ]
    return [
        Route(
            weight=parts[p].share * parts[d].share,
            names={"prefill": p, "decode": d},
            served=serve_disaggregated(
                pools[p],
                pools[d],
                workload,
                slo,
                build_network(world, parts[p].pool.hardware, parts[d].pool.hardware),
            ),
        )
        for p in parts
        if role_of(p) == "prefill"
        for d in parts
        if role_of(d) == "decode"
    ]


def full_rate_requests_per_s(
    world: World, serving: Serving, plan: PoolPlan, role: str, workload: Workload, slo: Slo
) -> float:
    """Requests/s that a pool serves with full batches, within the TPOT limit where it decodes; no queue."""
    pool = build_pool(world, serving, plan, role, workload)
    if role == "prefill":
        return float((prefill_service(pool, workload).rate_per_server * pool.servers)[0])
    colocated, batch = role == "colocated", np.asarray(pool.max_batch, dtype=float)
    if slo.tpot_s is not None:
        batch = increasing_root(
            lambda running: pool_tpot_s(pool, workload, running, colocated) - slo.tpot_s,
            np.full(1, 1e-6),
            batch,
        )
    tpot = pool_tpot_s(pool, workload, batch, colocated)
    return float((pool.workers * batch / (workload.osl * tpot))[0])


def economics(world: World, pools: Mapping[str, PoolPlan]) -> Economics:
    return Economics(
        usd_per_gpu_h={name: world.price(p.hardware) for name, p in pools.items()},
        watt_per_gpu={name: world.watts(p.hardware) for name, p in pools.items()},
    )
