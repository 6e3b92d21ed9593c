"""A bound that no deployment of the space can undercut, mixed pools included, by integer programming.

The search finds the cheapest plan of equal workers in each pool. This asks more: could
any mix of worker types, on any of the accelerators, within the inventory, be cheaper? Each type
is given the rate that it would reach without queues and without fluctuation, which
only helps it, so the optimum of

    min Σ c_i n_i + Σ c_j m_j   over whole numbers n, m ≥ 0
    s.t. Σ μ_i n_i ≥ λ  (prefill),  Σ r_j m_j ≥ λ  (decode),  Σ GPUs ≤ limit

is a true lower bound of the cost of disaggregated plans; one row alone serves for colocated
ones. Solved by scipy.optimize.milp (HiGHS); scipy is imported here and nowhere else
in the search, since the import takes longer than the search itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.pools import mixed_step
from pdplan.question import Certificate
from pdplan.search.candidates import DecodeChoices, PrefillChoices
from pdplan.workload import Workload


def certify(
    cost: float,
    workload: Workload,
    prefill: Mapping[str, PrefillChoices],
    decode: Mapping[str, DecodeChoices],
    colocated: Mapping[str, DecodeChoices],
    max_gpus: int | None = None,
    spare_workers: int = 0,
) -> Certificate:
    """The better of the two modes' bounds beside the cost of a plan.

    Whichever `spare_workers` of a pool are down, the others serve the rate, and
    those cost no less than as many of the cheapest type.
    """
    assert workload.rate is not None
    rate = float(workload.rate)
    bounds: list[tuple[float, float]] = []
    if prefill and decode:
        senders = [prefill_rates(c) for c in prefill.values() if len(c)]
        receivers = [decode_rates(c) for c in decode.values() if len(c)]
        if senders and receivers:
            bounds.append(_least_cost([senders, receivers], rate, max_gpus, spare_workers))
    alone = [colocated_rates(c, workload) for c in colocated.values() if len(c)]
    if alone:
        bounds.append(_least_cost([alone], rate, max_gpus, spare_workers))
    lowest, solver_gap = min(bounds, default=(np.inf, 0.0))
    gap = cost / lowest - 1.0 if np.isfinite(lowest) and lowest > 0 else np.inf
    return Certificate(lower_bound=float(lowest), gap=float(max(gap, 0.0)), solver_gap=solver_gap)


Types = tuple[Array, Array, Array]
"""Of worker types: unit cost, accelerators, requests/s at most."""


def prefill_rates(choices: PrefillChoices) -> Types:
    pool = choices.candidates.pool
    rates = choices.service.rate_per_server * pool.servers_per_worker
    return choices.candidates.unit_cost, pool.layout.gpus, rates


def decode_rates(choices: DecodeChoices) -> Types:
    return choices.candidates.unit_cost, choices.candidates.pool.layout.gpus, choices.rate_per_worker


def colocated_rates(choices: DecodeChoices, workload: Workload) -> Types:
    """A colocated worker is bounded by its decoding and by its prefill servers."""
    pool = choices.candidates.pool
    idle = mixed_step(pool, workload, np.full(len(choices), 1e-6)).prefill_work_s
    prefilling = pool.servers_per_worker / idle
    return choices.candidates.unit_cost, pool.layout.gpus, np.minimum(choices.rate_per_worker, prefilling)


def _undominated(types: Types) -> Types:
    """Drop types for which another costs no more and serves no less: the optimum never needs them."""
    cost, gpus, rate = types
    order = np.lexsort((-rate, gpus, cost))
    kept: list[int] = []
    for k in order:
        if not any(cost[o] <= cost[k] and gpus[o] <= gpus[k] and rate[o] >= rate[k] for o in kept):
            kept.append(int(k))
    return cost[kept], gpus[kept], rate[kept]


def _least_cost(
    roles: list[list[Types]], rate: float, max_gpus: int | None, spare: int = 0
) -> tuple[float, float]:
    """Optimum of the integer programme with the least cost of spare workers, and the solver's gap."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    merged = [_undominated(tuple(np.concatenate(c) for c in zip(*role, strict=True))) for role in roles]  # type: ignore[arg-type]
    cost = np.concatenate([m[0] for m in merged])
    gpus = np.concatenate([m[1] for m in merged])
    rows, start = np.zeros((len(merged), len(cost))), 0
    for number, (_, _, rates) in enumerate(merged):
        rows[number, start : start + len(rates)] = rates / rate  # scaled: every row asks for 1
        start += len(rates)
    constraints = [LinearConstraint(rows, lb=1.0)]
    if max_gpus is not None:
        constraints.append(LinearConstraint(gpus[None, :], ub=float(max_gpus)))
    answer = milp(
        cost,
        constraints=constraints,
        integrality=np.ones(len(cost)),
        bounds=Bounds(0, np.inf),
        options={"time_limit": 10.0},
    )
    if answer.mip_dual_bound is None:
        return float("inf"), 0.0
    spares = spare * sum(float(m[0].min()) for m in merged)
    return float(answer.mip_dual_bound) + spares, float(answer.mip_gap or 0.0)
