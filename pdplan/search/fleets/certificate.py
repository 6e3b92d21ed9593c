"""A bound that no deployment can undercut, mixed pools included, by integer programming.

The search finds the cheapest plan of equal workers in each pool. This asks more: could
any mix of worker types, on any of the accelerators, within the inventory, be cheaper? Each type
is given the rate that it would reach without queues and without fluctuation, which only helps it,
so the optimum of the programme of fleets (search.programme) with these rates is a true lower bound
of the cost: of one deployment in whole numbers of workers for `--certify`, of many in fractions
of workers for large fleets, where the prices of what is scarce come with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.market import Tariff
from pdplan.question import Certificate
from pdplan.search.fleets.programme import Column, Option, Programme, solve
from pdplan.search.space import Space
from pdplan.search.workers.candidates import DecodeChoices, PrefillChoices
from pdplan.serving.pools import mixed_step
from pdplan.workload import Workload

TIME_LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Types:
    """Worker types of one role on one accelerator, as bounds need them."""

    hardware: str
    cost: Array
    gpus: Array
    rate: Array
    """Requests/s at most."""


@dataclass(frozen=True, kw_only=True)
class Wants:
    """One deployment: ways to serve a rate, each with the types that every one of its roles may use."""

    rate: float
    ways: Sequence[Mapping[str, Sequence[Types]]]
    spare_workers: int = 0
    max_gpus: float = np.inf


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What nothing undercuts."""

    amount: float
    """In what the tariffs count; infinite where no mix can serve the rates."""
    solver_gap: float = 0.0
    gpus: float = 0.0
    prices: Mapping[str, float] = field(default_factory=dict)
    """Of one accelerator more, by name: its price and what its scarcity adds. In fractions alone."""


def certify(
    cost: float, workload: Workload, space: Space, max_gpus: float, spare_workers: int
) -> Certificate:
    """The bound on one deployment beside the cost of a plan.

    Whichever `spare_workers` of a kind are down, the others serve the rate.
    """
    wants = wants_of(space, workload, max_gpus, spare_workers)
    found = least_cost([wants], space.objective.tariffs)
    gap = cost / found.amount - 1.0 if np.isfinite(found.amount) and found.amount > 0 else np.inf
    return Certificate(lower_bound=found.amount, gap=float(max(gap, 0.0)), solver_gap=found.solver_gap)


def wants_of(space: Space, workload: Workload, max_gpus: float = np.inf, spare_workers: int = 0) -> Wants:
    """A deployment as bounds see it: all of its types at the rates that they do not exceed."""
    assert workload.rate is not None
    apart: dict[str, Sequence[Types]] = {
        "prefill": [prefill_rates(c) for c in space.prefill.values() if len(c)],
        "decode": [decode_rates(c) for c in space.decode.values() if len(c)],
    }
    alone = [colocated_rates(c, workload) for c in space.colocated.values() if len(c)]
    ways: list[Mapping[str, Sequence[Types]]] = [apart] if all(apart.values()) else []
    ways += [{"colocated": alone}] if alone else []
    return Wants(rate=float(workload.rate), ways=tuple(ways), spare_workers=spare_workers, max_gpus=max_gpus)


def least_cost(
    wants: Sequence[Wants],
    tariffs: Mapping[str, Tariff],
    *,
    max_gpus: float = np.inf,
    max_usd_per_h: float = np.inf,
    whole: bool = True,
    missing: bool = False,
) -> Bound:
    """The optimum in whole numbers of workers, or in fractions of them."""
    options: list[Option] = []
    columns: list[Column] = []
    for deployment, each in enumerate(wants):
        for way in each.ways:
            options.append(Option(deployment=deployment, roles=tuple(way), rate=each.rate))
            for role, many in way.items():
                for types in many:
                    kept = _undominated(types, whole or each.spare_workers > 0)
                    columns += [
                        Column(
                            option=len(options) - 1,
                            role=role,
                            kind=len(columns) + k,
                            low=1,
                            high=max(int(np.ceil(each.rate / types.rate[type_] * (1 - 1e-12))), 1),
                            rate_each=float(types.rate[type_]),
                            gpus_each=float(types.gpus[type_]),
                            hardware=types.hardware,
                        )
                        for k, type_ in enumerate(kept)
                    ]
    programme = Programme(
        options=options,
        columns=columns,
        tariffs=tariffs,
        spare_workers=[each.spare_workers for each in wants],
        own_max_gpus=[each.max_gpus for each in wants],
        max_gpus=max_gpus,
        max_usd_per_h=max_usd_per_h,
        whole=whole,
        missing=missing,
    )
    if not all(each.ways for each in wants):
        return Bound(amount=np.inf)
    solution = solve(programme, TIME_LIMIT_S)
    if solution is None:
        return Bound(amount=np.inf)
    return Bound(amount=solution.bound, solver_gap=solution.gap, gpus=solution.gpus, prices=solution.prices)


def prefill_rates(choices: PrefillChoices) -> Types:
    pool = choices.candidates.pool
    return _types(choices, choices.service.rate_per_server * pool.servers_per_worker)


def decode_rates(choices: DecodeChoices) -> Types:
    return _types(choices, choices.rate_per_worker)


def colocated_rates(choices: DecodeChoices, workload: Workload) -> Types:
    """A colocated worker is bounded by its decoding and by its prefill servers."""
    pool = choices.candidates.pool
    idle = mixed_step(pool, workload, np.full(len(choices), 1e-6)).prefill_work_s
    return _types(choices, np.minimum(choices.rate_per_worker, pool.servers_per_worker / idle))


# ------------------------------------------------------------------------ inside


def _types(choices: PrefillChoices | DecodeChoices, rate: Array) -> Types:
    candidates = choices.candidates
    return Types(
        hardware=candidates.hardware, cost=candidates.unit_cost, gpus=candidates.pool.layout.gpus, rate=rate
    )


def _undominated(types: Types, whole: bool) -> list[int]:
    """Types that the optimum may need: no other takes no more accelerators and serves no less.

    In fractions of workers without spare ones, the one of the highest rate per accelerator.
    """
    order = np.lexsort((-types.rate, types.gpus))
    order = order[types.rate[order] > 0]
    if not whole:
        return [int(order[np.argmax(types.rate[order] / types.gpus[order])])] if len(order) else []
    best = np.concatenate([[0.0], np.maximum.accumulate(types.rate[order])])
    return [int(k) for k, known in zip(order, best[:-1], strict=True) if types.rate[k] > known]
