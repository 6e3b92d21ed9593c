"""The programme of fleets, deployment by deployment: what they share has a price, and at prices they part.

At a price for each kind of accelerator every role of every deployment is a small covering problem of its
own, solved exactly in microseconds. A linear programme over the plans found so sets the prices
(Dantzig and Wolfe, Operations Research 8, 1960): what all deployments cost at these prices bounds
the fleet from below, and whole plans chosen among those found are a solution. Where the stock does not
bind both are the same. Where it does, a gap may be left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.search.fleets.programme import PROPER, Programme, Solution

ROUNDS = 25
"""Times that prices are set anew."""
CLOSED = 1e-7
"""A gap below this is none."""
MOST = 300
"""Partial choices of one role that are followed at once."""
MOST_COUNTS = 1000
"""Of the kinds of workers of a role, together: where more are, fractions of workers say as much sooner."""
TIME_LIMIT_S = 2.0
"""For choosing among the plans found."""
DEARTH = 20.0
"""What an accelerator that is not there costs, in times of the dearest that is."""


@dataclass(frozen=True, kw_only=True)
class _Role:
    """What a role may be served with: so many workers of a kind, no other of that accelerator is as good.

    Kinds at one count each, in the order of their rates. More of a kind serve more each, so using a
    kind twice is never better than once, and what another beats at every number of accelerators is
    never needed.
    """

    hardware: Array
    """By number."""
    gpus: Array
    """Spare workers included."""
    share: Array
    """Of the rate that is asked for."""
    columns: Array
    counts: Array


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A way to serve one deployment."""

    deployment: int
    gpus: Array
    """Of each kind."""
    counts: tuple[tuple[int, int], ...]
    """(column, workers)."""


def solve_apart(programme: Programme) -> Solution | None:
    """A solution with a bound on all.

    None where no plans found fit the stock together, where limits of single deployments tie their roles,
    and of large fleets.
    """
    if programme.missing or not programme.whole or np.any(np.isfinite(programme.own_max_gpus)):
        return None
    names = list(programme.tariffs)
    options = _options(programme, names)
    if any(len(role.share) > MOST_COUNTS for many in options.values() for roles in many for role in roles):
        return None
    deployments = sorted({option.deployment for option in programme.options})
    master = _Master(programme, names, deployments)
    first = np.array([programme.tariffs[hw].lots[0].usd_per_h for hw in names])
    relaxed = _Relaxed(amount=0.0, prices=first, worth=np.zeros(len(deployments)))
    bound = -np.inf
    for _ in range(ROUNDS):
        values, known = np.full(len(deployments), np.inf), len(master.plans)
        for at, deployment in enumerate(deployments):
            for roles in options.get(deployment, ()):
                plan, value = _cheapest(deployment, roles, relaxed.prices)
                values[at] = min(values[at], value)
                if plan is not None:
                    master.add(plan)
        if not np.all(np.isfinite(values)):
            return None
        short = values - relaxed.worth
        # At first nothing is known of what deployments are worth: they cost as much at the least prices.
        low = relaxed.amount + (short if bound == -np.inf else np.minimum(short, 0.0)).sum()
        bound = max(bound, float(low))
        if len(master.plans) == known:
            break
        priced = master.in_fractions()
        if priced is None:
            return None
        relaxed = priced
        if relaxed.amount <= bound + CLOSED * abs(bound):
            break
    return master.solution(bound)


# ------------------------------------------------------------------------ one deployment


def _options(programme: Programme, names: Sequence[str]) -> dict[int, list[list[_Role]]]:
    """By deployment, the roles of each of its options, but for those that have a role without a worker."""
    by_role: dict[tuple[int, str], list[int]] = {}
    for k, column in enumerate(programme.columns):
        by_role.setdefault((column.option, column.role), []).append(k)
    found: dict[int, list[list[_Role]]] = {}
    for number, option in enumerate(programme.options):
        spare = programme.spare_workers[option.deployment] if programme.spare_workers else 0
        if all((number, role) in by_role for role in option.roles):
            roles = [
                _role(programme, by_role[number, role], names, option.rate, spare) for role in option.roles
            ]
            found.setdefault(option.deployment, []).append(roles)
    return found


def _role(
    programme: Programme, columns: Sequence[int], names: Sequence[str], rate: float, spare: int
) -> _Role:
    many = [programme.columns[k] for k in columns]
    counts = [np.arange(c.low, c.high + 1) for c in many]
    each = np.repeat(np.arange(len(many)), [len(c) for c in counts])
    number = np.concatenate(counts)
    hardware = np.array([names.index(c.hardware) for c in many])[each]
    gpus = (number + spare) * np.array([c.gpus_each for c in many])[each]
    share = np.minimum(number * np.array([c.rate_each for c in many])[each] / rate / (1.0 - PROPER), 1.0)
    # The most that so many accelerators of a kind serve: fewer that serve as much are better.
    order = np.lexsort((-share, gpus, hardware))
    kept = []
    for start, end in pairwise([*np.flatnonzero(np.diff(hardware[order], prepend=-1)), len(order)]):
        mine = order[start:end]
        before = np.concatenate([[0.0], np.maximum.accumulate(share[mine])[:-1]])
        kept.append(mine[share[mine] > before])
    best = np.concatenate(kept)
    best = best[np.argsort(share[best], kind="stable")]
    return _Role(
        hardware=hardware[best],
        gpus=gpus[best],
        share=share[best],
        columns=np.array(columns)[each[best]],
        counts=number[best],
    )


def _cheapest(deployment: int, roles: Sequence[_Role], prices: Array) -> tuple[_Plan | None, float]:
    """The cheapest plan of an option, and what none of it costs less than."""
    gpus, least, whole = np.zeros(len(prices)), 0.0, True
    counts: list[tuple[int, int]] = []
    for role in roles:
        chosen, bound = cover(prices[role.hardware] * role.gpus, role.share)
        least += bound
        whole = whole and bool(chosen)
        for k in chosen:
            gpus[role.hardware[k]] += role.gpus[k]
            counts.append((int(role.columns[k]), int(role.counts[k])))
    return (_Plan(deployment=deployment, gpus=gpus, counts=tuple(counts)) if whole else None), least


def cover(cost: Array, share: Array) -> tuple[list[int], float]:
    """The cheapest items, of which there are any number, whose shares add up to 1, and what they cost.

    Nothing and infinity where no item has a share. Shares rise. What is still to be covered, s, takes an
    item that covers it alone or at least s·min(cost/share) of those that do not: a choice of items that
    comes to more than the best known is left out, as is one that costs no less than another of as
    great a share. Where more than MOST are left at once, a bound that is lower comes with the choice.

    >>> cover(np.array([1.0, 2.5, 4.0]), np.array([0.3, 0.7, 1.0]))
    ([0, 1], 3.5)
    """
    if not len(share):
        return [], np.inf
    alone = np.append(np.minimum.accumulate(cost[::-1])[::-1], np.inf)
    """From an item on: the least cost of those of no smaller share."""
    each = np.concatenate([[np.inf], np.minimum.accumulate(cost / share)])
    """Up to an item: the least cost per share."""
    all_of_it = 1.0 - 1e-12  # sums of shares may fall short of 1 by their last digits
    best, below = float(alone[np.searchsorted(share, all_of_it)]), np.inf
    chosen = [_first(cost, share, all_of_it)] if np.isfinite(best) else []
    spent, need = np.zeros(1), np.full(1, all_of_it)
    items: list[tuple[int, ...]] = [()]
    seen = _Front()
    while len(spent):
        total, rest = spent[:, None] + cost, need[:, None] - share
        at = np.searchsorted(share, rest)
        some = rest > 0
        whole = np.where(some, total + alone[at], np.inf)
        k = int(np.argmin(whole))
        row, item = divmod(k, len(share))
        if whole.ravel()[k] < best * (1 - 1e-12):
            best = float(whole.ravel()[k])
            chosen = [*items[row], item, _first(cost, share, float(rest[row, item]))]
        several = np.where(some, total + np.where(some, rest, 1.0) * each[at], np.inf)
        open_ = np.flatnonzero(several < best * (1 - CLOSED))
        open_ = open_[seen.new(total.ravel()[open_], rest.ravel()[open_])]
        if len(open_) > MOST:
            open_ = open_[np.argsort(several.ravel()[open_], kind="stable")]
            below = min(below, float(several.ravel()[open_[MOST]]))
            open_ = open_[:MOST]
        spent, need = total.ravel()[open_], rest.ravel()[open_]
        items = [(*items[k // len(share)], int(k % len(share))) for k in open_]
    return chosen, min(best, below)


class _Front:
    """Choices of which no other costs as little and leaves as little to be covered."""

    def __init__(self) -> None:
        self.cost: Array = np.zeros(0)
        self.need: Array = np.zeros(0)

    def new(self, cost: Array, need: Array) -> Array:
        """Which of these belong to it beside what it holds; it holds them from now on."""
        known = len(self.cost)
        every, left = np.concatenate([self.cost, cost]), np.concatenate([self.need, need])
        # Sums in another order differ in their last digits.
        order = np.lexsort((np.arange(len(every)), left.round(12), every.round(9)))
        before = np.concatenate([[np.inf], np.minimum.accumulate(left[order])[:-1]])
        kept = np.sort(order[left[order] < before - 1e-12])
        self.cost, self.need = every[kept], left[kept]
        return kept[kept >= known] - known


def _first(cost: Array, share: Array, need: float) -> int:
    """The cheapest item that covers so much alone."""
    start = int(np.searchsorted(share, need))
    return start + int(np.argmin(cost[start:]))


# ------------------------------------------------------------------------ all of them


@dataclass(frozen=True, kw_only=True)
class _Relaxed:
    amount: float
    prices: Array
    """Of one accelerator of each kind."""
    worth: Array
    """Of each deployment."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A linear programme: cost · v least, rows · v ≤ limits, one_each · v = 1, 0 ≤ v ≤ most."""

    cost: Array
    most: Array
    rows: Array
    """First those of the stock of each kind, then that of all accelerators together."""
    limits: Array
    one_each: Array
    whole: Array
    """1 where a variable has to be whole in a solution."""


class _Master:
    """Which plan for each deployment: the plans found so far, and the stock."""

    def __init__(self, programme: Programme, names: Sequence[str], deployments: Sequence[int]) -> None:
        self.programme, self.names, self.deployments = programme, names, deployments
        self.plans: list[_Plan] = []
        self.known: set[tuple[tuple[int, int], ...]] = set()
        self.lots = [(at, lot) for at, hw in enumerate(names) for lot in programme.tariffs[hw].lots]
        self.units = np.array([float(programme.tariffs[hw].unit) for hw in names])

    def add(self, plan: _Plan) -> None:
        if plan.counts not in self.known:
            self.known.add(plan.counts)
            self.plans.append(plan)

    def in_fractions(self) -> _Relaxed | None:
        """The optimum in fractions of plans, and the prices that it comes with; None above the budgets."""
        from scipy.optimize import linprog

        table = self._table()
        found = linprog(
            table.cost,
            A_ub=table.rows,
            b_ub=table.limits,
            A_eq=table.one_each,
            b_eq=np.ones(len(self.deployments)),
            bounds=np.column_stack([np.zeros(len(table.cost)), table.most]),
            method="highs",
        )
        if found.x is None:
            return None
        worth, kinds = -found.ineqlin.marginals, len(self.names)
        beside = worth[kinds] if np.isfinite(self.programme.max_gpus) else 0.0
        return _Relaxed(
            amount=float(found.fun), prices=worth[:kinds] + beside, worth=np.asarray(found.eqlin.marginals)
        )

    def solution(self, bound: float) -> Solution | None:
        """The best whole plans among those found; None where they do not fit the stock."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        table, count = self._table(), len(self.plans)
        table.most[count + len(self.lots) : count + len(self.lots) + len(self.names)] = 0.0
        found = milp(
            table.cost,
            constraints=[
                LinearConstraint(table.rows, -np.inf, table.limits),
                LinearConstraint(table.one_each, 1.0, 1.0),
            ],
            integrality=table.whole,
            bounds=Bounds(np.zeros(len(table.cost)), table.most),
            options={"time_limit": TIME_LIMIT_S, "mip_rel_gap": CLOSED},
        )
        if found.x is None:
            return None
        counts: dict[int, int] = {}
        for k in np.flatnonzero(found.x[:count] > 0.5):
            for column, workers in self.plans[k].counts:
                counts[column] = counts.get(column, 0) + workers
        bound = min(bound, float(found.fun))
        return Solution(
            counts=counts,
            support=frozenset(counts),
            objective=float(found.fun),
            bound=bound,
            gap=float(found.fun) / bound - 1.0 if bound > 0 else 0.0,
            gpus=float(found.x[count : count + len(self.lots)].sum()),
        )

    def _table(self) -> _Table:
        """min Σ price·taken + dearth·missing over plans, lots, missing accelerators and whole units."""
        count, lots, kinds = len(self.plans), len(self.lots), len(self.names)
        budget = self.programme
        price = np.array([lot.usd_per_h for _, lot in self.lots])
        dearth = DEARTH * max(float(price.max()), 1e-9)
        at_lots, at_missing = count, count + lots
        at_units = at_missing + kinds
        size = at_units + kinds
        cost = np.concatenate([np.zeros(count), price, np.full(kinds, dearth), np.zeros(kinds)])
        most = np.full(size, np.inf)
        most[at_lots:at_missing] = [lot.gpus for _, lot in self.lots]
        needs = np.array([plan.gpus for plan in self.plans]).T
        taken = np.zeros((kinds, lots))
        taken[[at for at, _ in self.lots], np.arange(lots)] = 1.0
        each = np.diag(self.units)
        stock = np.hstack([needs, np.zeros((kinds, lots)), -np.eye(kinds), -each])
        bought = np.hstack([np.zeros((kinds, count)), -taken, np.zeros((kinds, kinds)), each])
        rows, limits = [stock], [np.zeros(kinds)]
        if np.isfinite(budget.max_gpus):
            rows.append(np.concatenate([needs.sum(axis=0), np.zeros(size - count)])[None])
            limits.append(np.array([budget.max_gpus]))
        if np.isfinite(budget.max_usd_per_h):
            rows.append(np.concatenate([np.zeros(count), price, np.zeros(2 * kinds)])[None])
            limits.append(np.array([budget.max_usd_per_h]))
        one_each = np.zeros((len(self.deployments), size))
        one_each[[self.deployments.index(plan.deployment) for plan in self.plans], np.arange(count)] = 1.0
        whole = np.zeros(size)
        whole[:count] = 1.0
        whole[at_units:] = self.units > 1
        return _Table(
            cost=cost,
            most=most,
            rows=np.vstack([*rows, bought]),
            limits=np.concatenate([*limits, np.zeros(kinds)]),
            one_each=one_each,
            whole=whole,
        )
