"""Whole numbers of workers for several deployments that share accelerators, at least cost.

    min  Σ_lots price·taken                                           (or the accelerators that are missing)
    s.t. one option (mode, TPOT level) of each deployment is chosen:  Σ_o y_o = 1
         each role of a chosen option serves its rate:                Σ_c r_c n_c ≥ λ y_o
         a kind of worker is used at one count or range of counts:    a x ≤ n ≤ b x,  Σ x ≤ y
         accelerators come in units from the lots that there are:     Σ g (n + spare x) ≤ Σ taken

Numbers in, numbers out: nothing here knows what a worker is. Solved by scipy.optimize.milp (HiGHS),
imported here alone, since the import takes longer than a plain search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.market import Tariff

LARGE, LARGE_GAP, SMALL_GAP = 5000.0, 3e-4, 1e-6
"""Accelerators in question, and the gaps at which the solver may stop above and below."""
TRACE = 1e-7
"""A variable below this is zero but for rounding."""
PROPER = 1e-9
"""Rates are asked for with this much less, so that what serves exactly the rate counts."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A range of counts of one kind of worker in one role of one option."""

    option: int
    role: str
    kind: int
    """Which kind of worker: ranges of one kind exclude each other."""
    low: int
    high: int
    rate_each: float
    """Requests/s of each worker, taken as the same over the range."""
    gpus_each: float
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to serve a deployment."""

    deployment: int
    roles: tuple[str, ...]
    rate: float


@dataclass(frozen=True, kw_only=True)
class Programme:
    """All of it."""

    options: Sequence[Option]
    columns: Sequence[Column]
    tariffs: Mapping[str, Tariff]
    spare_workers: Sequence[int] = ()
    """By deployment: workers of each kind that are paid for and not counted on."""
    own_max_gpus: Sequence[float] = ()
    """By deployment: accelerators that it may take in all."""
    max_gpus: float = np.inf
    max_usd_per_h: float = np.inf
    whole: bool = True
    """Whole numbers; without, a bound that takes a second where the whole takes minutes."""
    missing: bool = False
    """Any number of accelerators, and the least is sought of those that are not there."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What was chosen, and how good it is known to be."""

    counts: Mapping[int, int]
    """Workers by index of the column, spare ones not counted; only those used."""
    support: frozenset[int]
    """Columns that are used at all, of which there may be fractions."""
    objective: float
    bound: float
    """No solution costs less."""
    gap: float
    missing: Mapping[str, float] = field(default_factory=dict)
    """By accelerator, where that was sought."""
    gpus: float = 0.0
    """Accelerators in all."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """By accelerator, what one more of them is worth: its price, and its scarcity. In fractions alone."""


def solve(programme: Programme, time_limit_s: float = 20.0) -> Solution | None:
    """The optimum, or the best within the time; None where there is no solution."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    if not programme.columns:
        return None
    layout = _Layout(programme)
    rows = _Rows()
    _one_option_each(programme, layout, rows)
    _rates_served(programme, layout, rows)
    _ranges(programme, layout, rows)
    cost = _accelerators(programme, layout, rows)
    matrix = coo_array((rows.values, (rows.rows, rows.columns)), shape=(len(rows.low), layout.size)).tocsr()
    if not programme.whole:
        return _in_fractions(programme, layout, rows, matrix, cost)
    found = milp(
        cost,
        constraints=[LinearConstraint(matrix, np.array(rows.low), np.array(rows.high))],
        integrality=layout.integral,
        bounds=Bounds(np.zeros(layout.size), layout.most),
        options={"time_limit": time_limit_s, "mip_rel_gap": _gap_to_close(programme)},
    )
    if found.x is None:
        return None
    counts = {
        k: round(found.x[layout.n[k]] if k in layout.n else column.low * found.x[layout.x[k]])
        for k, column in enumerate(programme.columns)
    }
    bound = found.mip_dual_bound if found.mip_dual_bound is not None else found.fun
    return Solution(
        counts={k: n for k, n in counts.items() if n},
        support=frozenset(k for k in range(len(programme.columns)) if found.x[layout.x[k]] > TRACE),
        objective=float(found.fun),
        bound=float(min(bound, found.fun)),
        gap=float(found.mip_gap or 0.0),
        gpus=float(sum(found.x[k] for many in layout.lots.values() for k in many)),
        missing={hw: float(round(found.x[k])) for hw, k in layout.missing.items() if found.x[k] > 0.5},
    )


# ------------------------------------------------------------------------ inside


def _in_fractions(
    programme: Programme, layout: _Layout, rows: _Rows, matrix: Any, cost: Array
) -> Solution | None:
    """The optimum where nothing has to be whole, with the price of what is scarce."""
    from scipy.optimize import linprog
    from scipy.sparse import vstack

    low, high = np.array(rows.low), np.array(rows.high)
    equal = low == high
    above, below = np.flatnonzero(np.isfinite(low) & ~equal), np.flatnonzero(np.isfinite(high) & ~equal)
    found = linprog(
        cost,
        A_ub=vstack([-matrix[above], matrix[below]]),
        b_ub=np.concatenate([-low[above], high[below]]),
        A_eq=matrix[np.flatnonzero(equal)],
        b_eq=low[equal],
        bounds=np.column_stack([np.zeros(layout.size), layout.most]),
        method="highs",
    )
    if found.x is None:
        return None
    worth = dict(zip(above.tolist(), -found.ineqlin.marginals, strict=False))
    return Solution(
        counts={},
        support=frozenset(k for k in range(len(programme.columns)) if found.x[layout.x[k]] > TRACE),
        objective=float(found.fun),
        bound=float(found.fun),
        gap=0.0,
        gpus=float(sum(found.x[k] for many in layout.lots.values() for k in many)),
        prices={hw: float(worth[row]) for hw, row in rows.stock.items()},
    )


def _gap_to_close(programme: Programme) -> float:
    """A ten-thousandth of a fleet of thousands is worth no minutes; a small one is solved to the end."""
    sizes: dict[tuple[int, str], float] = {}
    for column in programme.columns:
        role = (programme.options[column.option].deployment, column.role)
        sizes[role] = max(sizes.get(role, 0.0), column.high * column.gpus_each)
    return LARGE_GAP if sum(sizes.values()) > LARGE else SMALL_GAP


class _Layout:
    """Which variable stands where."""

    def __init__(self, programme: Programme) -> None:
        columns = programme.columns
        self.size = 0
        self.y = self._take(len(programme.options))
        self.x = self._take(len(columns))
        ranges = [k for k, c in enumerate(columns) if c.high > c.low]
        self.n = dict(zip(ranges, self._take(len(ranges)), strict=True))
        self.lots = {hw: self._take(len(tariff.lots)) for hw, tariff in programme.tariffs.items()}
        self.units = {hw: self._take(1)[0] for hw, tariff in programme.tariffs.items() if tariff.unit > 1}
        self.missing = {hw: self._take(1)[0] for hw in programme.tariffs} if programme.missing else {}
        self.integral = np.zeros(self.size)
        self.most = np.full(self.size, np.inf)
        binary = [*self.y, *self.x]
        self.integral[binary], self.most[binary] = 1, 1.0
        for k, at in self.n.items():
            self.integral[at], self.most[at] = 1, columns[k].high
        for hw, many in self.lots.items():
            for lot, at in zip(programme.tariffs[hw].lots, many, strict=True):
                self.most[at] = lot.gpus
        for at in self.units.values():
            self.integral[at] = 1

    def _take(self, count: int) -> list[int]:
        found = list(range(self.size, self.size + count))
        self.size += count
        return found


@dataclass
class _Rows:
    """Constraints as they are collected: low ≤ row · v ≤ high."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    stock: dict[str, int] = field(default_factory=dict)
    """The row of each accelerator that says: no more than are taken."""

    def add(self, terms: Mapping[int, float], low: float = -np.inf, high: float = np.inf) -> None:
        for column, value in terms.items():
            self.rows.append(len(self.low))
            self.columns.append(column)
            self.values.append(value)
        self.low.append(low)
        self.high.append(high)


def _one_option_each(programme: Programme, layout: _Layout, rows: _Rows) -> None:
    for deployment in sorted({o.deployment for o in programme.options}):
        mine = [layout.y[k] for k, o in enumerate(programme.options) if o.deployment == deployment]
        rows.add(dict.fromkeys(mine, 1.0), 1.0, 1.0)


def _rates_served(programme: Programme, layout: _Layout, rows: _Rows) -> None:
    every: dict[tuple[int, str], dict[int, float]] = {
        (number, role): {layout.y[number]: -1.0 + PROPER}
        for number, option in enumerate(programme.options)
        for role in option.roles
    }
    for k, column in enumerate(programme.columns):
        share = column.rate_each / programme.options[column.option].rate  # scaled: every row asks for 1
        terms = every[column.option, column.role]
        if k in layout.n:
            terms[layout.n[k]] = share
        else:
            terms[layout.x[k]] = share * column.low
    for terms in every.values():
        rows.add(terms, low=0.0)


def _ranges(programme: Programme, layout: _Layout, rows: _Rows) -> None:
    kinds: dict[tuple[int, str, int], list[int]] = {}
    for k, column in enumerate(programme.columns):
        kinds.setdefault((column.option, column.role, column.kind), []).append(k)
        if k in layout.n:
            rows.add({layout.n[k]: 1.0, layout.x[k]: -float(column.low)}, low=0.0)
            rows.add({layout.n[k]: 1.0, layout.x[k]: -float(column.high)}, high=0.0)
    for (option, _, _), many in kinds.items():
        rows.add({**{layout.x[k]: 1.0 for k in many}, layout.y[option]: -1.0}, high=0.0)


def _accelerators(programme: Programme, layout: _Layout, rows: _Rows) -> Array:
    """Rows of stock and budgets; the cost of every variable."""
    cost: Array = np.zeros(layout.size)
    by_owner: dict[int, dict[int, float]] = {}
    used: dict[str, dict[int, float]] = {hw: {} for hw in programme.tariffs}
    for k, column in enumerate(programme.columns):
        terms, option = used[column.hardware], programme.options[column.option]
        spare = programme.spare_workers[option.deployment] if programme.spare_workers else 0
        mine: dict[int, float] = {}
        if k in layout.n:
            mine[layout.n[k]] = column.gpus_each
            if spare:
                mine[layout.x[k]] = spare * column.gpus_each
        else:
            mine[layout.x[k]] = (column.low + spare) * column.gpus_each
        terms.update(mine)
        by_owner.setdefault(option.deployment, {}).update(mine)
    for deployment, most in enumerate(programme.own_max_gpus):
        if np.isfinite(most):
            rows.add(by_owner.get(deployment, {}), high=float(most))
    money: dict[int, float] = {}
    for hardware, tariff in programme.tariffs.items():
        taken: dict[int, float] = dict.fromkeys(layout.lots[hardware], 1.0)
        if programme.missing:
            taken[layout.missing[hardware]] = 1.0
            cost[layout.missing[hardware]] = 1.0
        rows.stock[hardware] = len(rows.low)
        if hardware in layout.units:
            unit = {layout.units[hardware]: float(tariff.unit)}
            rows.add({**{k: -g for k, g in used[hardware].items()}, **unit}, low=0.0)
            rows.add({**taken, **{k: -g for k, g in unit.items()}}, 0.0, 0.0)
        else:
            rows.add({**{k: -g for k, g in used[hardware].items()}, **taken}, low=0.0)
        for at, lot in zip(layout.lots[hardware], tariff.lots, strict=True):
            money[at] = lot.usd_per_h
            if not programme.missing:
                cost[at] = lot.usd_per_h
    if np.isfinite(programme.max_usd_per_h):
        rows.add(money, high=programme.max_usd_per_h)
    if np.isfinite(programme.max_gpus):
        every: dict[int, float] = {}
        for terms in used.values():
            every.update(terms)
        rows.add(every, high=programme.max_gpus)
    return cost


def ranges_of(counts: Sequence[int], rates: Array, optimistic: bool) -> list[tuple[int, int, float]]:
    """(low, high, rate of each worker) of the counts of a curve.

    Within a range every worker counts as at its end (`optimistic`: never less than it serves) or
    as at its start (never more).

    >>> ranges_of((1, 2, 4), np.array([1.0, 3.0, 8.0]), True)
    [(1, 1, 1.0), (2, 2, 1.5), (3, 4, 2.0)]
    """
    found: list[tuple[int, int, float]] = []
    before: tuple[int, float] | None = None
    for count, rate in zip(counts, rates, strict=True):
        each = float(rate) / count
        if before is not None and count > before[0] + 1:
            if optimistic:
                found.append((before[0] + 1, count, each))
            else:
                found.append((before[0] + 1, count - 1, before[1]))
                found.append((count, count, each))
        else:
            found.append((count, count, each))
        before = (count, each)
    return [f for f in found if f[2] > 0]
