"""Several deployments on shared accelerators at least cost: which mode, which workers, how many of each.

Two integer programmes bracket the optimum: one in which no rate is less than true bounds the cost from
below, one in which none is more gives plans, and plans are evaluated before they count. Counts that
either chooses inside a range become exact, and both are solved again, until the bracket is closed or
the rounds are over. A fleet of one deployment is a mix.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World
from pdplan.market import Tariff, bill_of
from pdplan.plan import Plan
from pdplan.question import Question
from pdplan.search.fleets.apart import solve_apart
from pdplan.search.fleets.capacity import TOLERANCE, Curve
from pdplan.search.fleets.certificate import Bound
from pdplan.search.fleets.narrowed import bound_of, keep_promising
from pdplan.search.fleets.programme import Column, Option, Programme, Solution, ranges_of, solve
from pdplan.search.fleets.ways import Deployment, Way, deployment_of, find_ways, joined, kind_key

ROUNDS = 8
"""Times that the programmes are solved, each with more exact counts."""
MANY_COLUMNS = 1500
"""Beyond so many, the bound is that of fractions of workers, and plans use the kinds that it uses."""
CLOSED = 1e-6
"""A gap below this is none."""
NEAR = 1e-3
"""A gap that ends the search of that many columns: deployments on a thousand accelerators, say."""
LARGE_NEAR = 3e-3
"""One that ends that of a large fleet, whose bound in fractions of workers is about as far from the truth."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One deployment of a fleet; all worlds share one market."""

    name: str
    question: Question
    world: World


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Limits on all deployments together, and on the time to find them."""

    max_gpus: float = np.inf
    max_usd_per_h: float = np.inf
    time_limit_s: float = 20.0
    """Of the integer programmes; what workers do is worked out before."""


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """The plans found, without their spare workers, and how good they are known to be."""

    plans: tuple[Plan, ...]
    cost: float
    """In what the objective counts; spare workers included."""
    lower_bound: float
    gap: float
    """(cost - bound) / bound."""


def cheapest_fleet(wanted: Sequence[Wanted], budgets: Budgets) -> Bracket | None:
    """The cheapest plans of all deployments within inventory and budgets; None where none were found."""
    found = [deployment_of(each.question, each.world, budgets.max_gpus) for each in wanted]
    everything = [deployment.space for deployment in found]
    large = _narrowed(found, budgets)
    best = _bracketed(found, budgets, large)
    if best is None and large is not None and np.isfinite(large.amount):
        for deployment, space in zip(found, everything, strict=True):
            deployment.space, deployment.known, deployment.levels = space, {}, None
        best = _bracketed(found, budgets, None)
    return best


def _bracketed(found: Sequence[Deployment], budgets: Budgets, large: Bound | None) -> Bracket | None:
    """Plans and bound from both sides; the bound of a `large` fleet holds for what was dropped, too."""
    if large is not None and not np.isfinite(large.amount):
        return None
    for deployment in found:
        find_ways(deployment)
    end = time.process_time() + budgets.time_limit_s
    best: Bracket | None = None
    bound = large.amount if large else 0.0
    if not all(deployment.ways for deployment in found):
        return None
    many, seen = False, (0.0, np.inf)
    useful: frozenset[KindOfWay] = frozenset()
    for _ in range(ROUNDS):
        near = LARGE_NEAR if large is not None else NEAR if many else CLOSED
        if best is not None and (best.gap <= near or time.process_time() > end):
            break
        relaxed = None
        if large is None:
            relaxed = _solved(found, budgets, True, end)
            if relaxed is None:
                break
            bound = max(bound, relaxed.solution.bound)
        safe = _solved(found, budgets, False, end, few=large is not None, useful=useful)
        changed: set[int] = set()
        for chosen in (relaxed, safe):
            if chosen is None or not chosen.whole:
                continue
            useful |= chosen.kinds_of_ways
            plans = [d.plan(chosen.kinds(k)) for k, d in enumerate(found)]
            late = [k for k, (d, plan) in enumerate(zip(found, plans, strict=True)) if not d.holds(plan)]
            cost = _cost(plans, found)
            if not late and cost < (best.cost if best else np.inf) and _within(plans, found, budgets):
                best = Bracket(plans=tuple(plans), cost=cost, lower_bound=0.0, gap=np.inf)
            changed |= {k for k in late if found[k].leave_for_transfers(plans[k])}
            changed |= {k for k, d in enumerate(found) if d.learn(chosen.kinds(k))}
        many = any(solved is not None and len(solved.columns) > MANY_COLUMNS for solved in (relaxed, safe))
        if relaxed is not None and safe is not None and relaxed.whole:
            # A level of TPOT whose two ends differ in what they take is too wide.
            differ = [k for k in range(len(found)) if relaxed.gpus(k) != safe.gpus(k)]
            changed |= {k for k in differ if found[k].split(found[k].ways[relaxed.way(k)].level)}
        if best is not None:
            gap = max(best.cost / bound - 1.0, 0.0) if bound > 0 else 0.0
            best = replace(best, lower_bound=min(bound, best.cost), gap=gap)
        stuck, seen = seen == (bound, best.cost if best else 0.0), (bound, best.cost if best else 0.0)
        if not changed or (stuck and many):
            break
        for k in changed:
            find_ways(found[k])
    return best


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """The fewest accelerators that would have to be added to the inventory, and the plans that need them."""

    missing: Mapping[str, int]
    plans: tuple[Plan, ...]


def least_shortage(wanted: Sequence[Wanted], budgets: Budgets) -> Shortage | None:
    """What is missing at least; None where no number of accelerators would do."""
    found = [deployment_of(each.question, each.world, np.inf, endless=True) for each in wanted]
    _narrowed(found, replace(budgets, max_gpus=np.inf, max_usd_per_h=np.inf), missing=True)
    for deployment in found:
        find_ways(deployment)
    if not all(deployment.ways for deployment in found):
        return None
    end = time.process_time() + budgets.time_limit_s
    free = replace(budgets, max_gpus=np.inf, max_usd_per_h=np.inf)
    for _ in range(ROUNDS):
        solved = _solved(found, free, False, end, missing=True)
        if solved is None:
            return None
        plans = [d.plan(solved.kinds(k)) for k, d in enumerate(found)]
        late = [k for k, (d, plan) in enumerate(zip(found, plans, strict=True)) if not d.holds(plan)]
        if not late:
            missing = bill_of(_bought(plans, found), _tariffs(found)).missing
            return Shortage(missing=missing, plans=tuple(plans))
        longer = [k for k in late if found[k].leave_for_transfers(plans[k])]
        if not longer:
            return None
        for k in longer:
            find_ways(found[k])
    return None


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True, kw_only=True)
class _Solved:
    """A solution with the kinds of workers that its columns stand for."""

    solution: Solution
    columns: Sequence[Column]
    curves: Sequence[Curve]
    deployments: Sequence[int]
    """Of each column."""
    options: Sequence[Option]
    ways: Sequence[KindOfWay]
    """Of each column."""
    whole: bool
    """Whether it stands for plans: its numbers of workers are whole."""

    def kinds(self, deployment: int) -> list[tuple[Curve, int]]:
        """Kinds of workers of a deployment, and how many of each."""
        return joined(
            (self.curves[self.columns[k].kind], n)
            for k, n in self.solution.counts.items()
            if self.deployments[k] == deployment
        )

    @property
    def kinds_of_ways(self) -> frozenset[KindOfWay]:
        """Those that it uses."""
        return frozenset(self.ways[k] for k in self.solution.counts)

    def way(self, deployment: int) -> int:
        """Which of its ways a deployment goes."""
        mine = [k for k, option in enumerate(self.options) if option.deployment == deployment]
        chosen = (self.columns[k].option for k in self.solution.counts if self.deployments[k] == deployment)
        return mine.index(next(chosen))

    def gpus(self, deployment: int) -> dict[str, float]:
        """Accelerators of each kind that a deployment takes."""
        taken: dict[str, float] = {}
        for k, n in self.solution.counts.items():
            if self.deployments[k] == deployment:
                column = self.columns[k]
                taken[column.hardware] = taken.get(column.hardware, 0.0) + n * column.gpus_each
        return taken


def _narrowed(deployments: Sequence[Deployment], budgets: Budgets, missing: bool = False) -> Bound | None:
    """The bound of a large fleet, whose deployments then keep the kinds of workers that may pay."""
    found = bound_of(deployments, _tariffs(deployments), budgets.max_gpus, budgets.max_usd_per_h, missing)
    if found is None or not found.prices:
        return found
    for deployment in deployments:
        keep_promising(deployment, found.prices)
    return found


def _solved(
    deployments: Sequence[Deployment],
    budgets: Budgets,
    relaxed: bool,
    end: float,
    missing: bool = False,
    few: bool = False,
    useful: frozenset[KindOfWay] = frozenset(),
) -> _Solved | None:
    """The optimum of one of the two programmes; `few`: of the kinds that fractions of workers use.

    And of those that are known to be `useful`: fractions may divide a deployment between ways of which none
    can take all of it.
    """
    built = columns_of(deployments, relaxed)
    large = len(built.columns) > MANY_COLUMNS or few
    programme = Programme(
        options=built.options,
        columns=built.columns,
        tariffs=_tariffs(deployments),
        spare_workers=[d.question.spare_workers for d in deployments],
        own_max_gpus=[float(d.question.max_gpus or np.inf) for d in deployments],
        max_gpus=budgets.max_gpus,
        max_usd_per_h=budgets.max_usd_per_h,
        missing=missing,
    )
    solution = None if few else solve_apart(programme)
    if solution is None or (solution.gap > CLOSED and not large):
        kinds = None
        if large and not relaxed:
            kinds = _kinds_of_fractions(deployments, budgets, end, missing) | useful
        for again in (False, True):
            built = built if kinds is None else columns_of(deployments, relaxed, kinds)
            programme = replace(
                programme, options=built.options, columns=built.columns, whole=not (large and relaxed)
            )
            solution = solve(programme, max(end - time.process_time(), 1.0) * (0.4 if relaxed else 0.8))
            if solution is not None or kinds is None or missing or again:
                break
            fits = _solved(deployments, budgets, False, end, missing=True)
            if fits is None or fits.solution.missing:
                break
            kinds |= fits.kinds_of_ways
    if solution is None:
        return None
    return _Solved(
        solution=solution,
        columns=built.columns,
        curves=built.curves,
        options=built.options,
        ways=built.ways,
        deployments=[built.options[column.option].deployment for column in built.columns],
        whole=programme.whole,
    )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Ways as columns."""

    options: list[Option]
    columns: list[Column]
    curves: list[Curve]
    ways: list[KindOfWay]
    """Of each column."""


KindOfWay = tuple[int, tuple[str, ...], float, str, str]
"""Deployment, mode, TPOT at most, role, and the kind of worker in words: the same in every round."""


def columns_of(
    deployments: Sequence[Deployment], relaxed: bool, only: frozenset[KindOfWay] | None = None
) -> Columns:
    """Every kind of worker of every way, a column for each count or range of counts; `only` some kinds."""
    built = Columns(options=[], columns=[], curves=[], ways=[])
    for number, deployment in enumerate(deployments):
        rate = float(deployment.workload.rate or 0.0)
        for way in deployment.ways:
            built.options.append(Option(deployment=number, roles=way.roles, rate=rate))
            for role, many in (way.relaxed if relaxed else way.safe).items():
                for curve in many:
                    kind = _kind_of_way(number, way, curve)
                    if only is not None and kind not in only:
                        continue
                    built.curves.append(curve)
                    # Rates are found from below, to a tolerance.
                    rates = curve.rates * (1 + TOLERANCE) if relaxed else curve.rates
                    ranges = ranges_of(curve.counts, rates, relaxed)
                    built.columns.extend(
                        Column(
                            option=len(built.options) - 1,
                            role=role,
                            kind=len(built.curves) - 1,
                            low=low,
                            high=high,
                            rate_each=each,
                            gpus_each=float(curve.gpus_each),
                            hardware=curve.hardware,
                        )
                        for low, high, each in ranges
                    )
                    built.ways.extend([kind] * len(ranges))
    return built


def _kind_of_way(deployment: int, way: Way, curve: Curve) -> KindOfWay:
    _, hardware, layout, _ = kind_key(curve)
    slowest = np.inf if way.level is None else way.level.high
    return deployment, way.roles, slowest, curve.role, f"{hardware} {layout}"


def _kinds_of_fractions(
    deployments: Sequence[Deployment], budgets: Budgets, end: float, missing: bool
) -> frozenset[KindOfWay]:
    """The kinds of workers that the optimum in fractions of workers uses: few, and nearly the best."""
    found = _solved(deployments, budgets, True, end, missing, few=True)
    if found is None:
        return frozenset()
    return frozenset(found.ways[k] for k in found.solution.support)


def _tariffs(deployments: Sequence[Deployment]) -> dict[str, Tariff]:
    """By accelerator; where any price is unknown, all are counted instead."""
    found: dict[str, Tariff] = {}
    for deployment in deployments:
        found.update(deployment.space.objective.tariffs)
    if any(deployment.space.objective.counts_gpus for deployment in deployments):
        return {hw: tariff.weighed(1.0) for hw, tariff in found.items()}
    return found


def _bought(plans: Sequence[Plan], deployments: Sequence[Deployment]) -> dict[str, list[tuple[int, int]]]:
    """Workers by accelerator, spare ones included."""
    workers: dict[str, list[tuple[int, int]]] = {}
    for plan, deployment in zip(plans, deployments, strict=True):
        spare = deployment.question.spare_workers
        for pool in plan.pools.values():
            workers.setdefault(pool.hardware, []).append((pool.gpus_per_worker, pool.workers + spare))
    return workers


def _cost(plans: Sequence[Plan], deployments: Sequence[Deployment]) -> float:
    """What plans cost together, infinite beyond the inventory."""
    tariffs = _tariffs(deployments)
    bill = bill_of(_bought(plans, deployments), tariffs)
    return np.inf if bill.missing else bill.usd_per_h


def _within(plans: Sequence[Plan], deployments: Sequence[Deployment], budgets: Budgets) -> bool:
    each = [_gpus(_bought([plan], [d])) for plan, d in zip(plans, deployments, strict=True)]
    if any(gpus > (d.question.max_gpus or np.inf) for gpus, d in zip(each, deployments, strict=True)):
        return False
    return sum(each) <= budgets.max_gpus and _cost(plans, deployments) <= budgets.max_usd_per_h * (1 + CLOSED)


def _gpus(workers: Mapping[str, Sequence[tuple[int, int]]]) -> int:
    return sum(size * count for many in workers.values() for size, count in many)
