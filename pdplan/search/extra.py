"""How many workers more in one pool pay for fewer in the other: an exact minimum over whole numbers.

More decode workers shorten the first decode step a little, and with it TTFT, so that fewer
prefill workers may do. The number that is needed only falls as workers are added, so
an interval of numbers costs no less than what its far end needs at its near end's number:
branch and bound leaves no number out that could be the cheapest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.search.whole import AT_ONCE

MOST_EXTRA = 2**20
"""Beyond a million workers no plan is written."""

PIECES = 8
"""Intervals of extra workers are cut into so many at once, where they are few."""

Needed = Callable[[Array, Array, Array], Array]
"""(cases, extra workers, no fewer than) -> workers needed in the other pool, infinite where none do."""
Cost = Callable[[Array, Array, Array], Array]
"""(cases, workers needed, extra workers) -> cost; never falling in either number."""


def cheapest_extra(needed: Needed, cost: Cost, at_once: Array, least: Array, ceiling: float) -> Array:
    """For each case the whole e ≥ 0 that makes cost(W(e), e) least, the smallest of equals.

    W = `needed` never rises with the extra workers; `at_once` is W(0), `least` bounds W from below for
    every e. What costs more than `ceiling` is of no interest: 0 is returned for such cases.

    >>> steps = np.array([9.0, 9.0, 5.0, 5.0, 2.0])
    >>> def needed(cases, extra, least): return steps[np.minimum(extra.astype(int), 4)]
    >>> def cost(cases, workers, extra): return 3 * workers + 5 * extra  # 27, 32, 25, 30, 26
    >>> cheapest_extra(needed, cost, np.array([9.0]), np.array([2.0]), np.inf)
    array([2.])
    """
    every = np.arange(len(at_once))
    answer = np.zeros(len(at_once))
    best = np.minimum(_total(cost, every, at_once, answer), ceiling)

    def could_pay(cases: Array, workers: Array, extra: Array) -> Array:
        return _total(cost, cases, workers, extra) < best[cases] * (1 - 1e-12)

    cases = np.flatnonzero((least < at_once) & could_pay(every, least, np.ones(len(every))))
    if not len(cases):
        return answer
    # A tighter bound, for few: what is needed beside as many workers as there can be.
    beside_most = np.full(len(every), np.inf)
    beside_most[cases] = needed(cases, np.full(len(cases), float(MOST_EXTRA)), least[cases])
    least = beside_most
    cases = cases[could_pay(cases, least[cases], np.ones(len(cases))) & (least[cases] < at_once[cases])]
    # Doubling, up to so many that even the least of the other pool beside them costs too much.
    double = np.exp2(np.arange(np.log2(MOST_EXTRA) + 1.0))
    case, power = (x.ravel() for x in np.indices((len(cases), len(double))))
    before = np.where(power > 0, double[power] / 2.0, 0.0)
    pays = (power == 0) | could_pay(cases[case], least[cases[case]], before + 1.0)
    cases, near, far = cases[case[pays]], before[pays], double[power[pays]]
    at_far = needed(cases, far, least[cases]) if len(cases) else far
    _improve(best, answer, cases, _total(cost, cases, at_far, far), far)
    while True:
        # Whatever lies between costs no less than the far end's need beside the least more workers.
        open_ = np.flatnonzero((far - near > 1.0) & could_pay(cases, at_far, near + 1.0))
        if not len(open_):
            return answer
        cases, near, far, at_far = cases[open_], near[open_], far[open_], at_far[open_]
        pieces = int(np.clip(AT_ONCE // len(open_), 2, PIECES))
        inside = near[:, None] + np.floor((far - near)[:, None] * np.arange(1, pieces) / pieces)
        edges = np.concatenate([near[:, None], inside, far[:, None]], axis=1)
        at_inside = needed(
            np.repeat(cases, pieces - 1), inside.ravel(), np.repeat(at_far, pieces - 1)
        ).reshape(inside.shape)
        _improve(
            best,
            answer,
            np.repeat(cases, pieces - 1),
            _total(cost, np.repeat(cases, pieces - 1), at_inside.ravel(), inside.ravel()),
            inside.ravel(),
        )
        cases, near, far = np.repeat(cases, pieces), edges[:, :-1].ravel(), edges[:, 1:].ravel()
        at_far = np.concatenate([at_inside, at_far[:, None]], axis=1).ravel()


def _total(cost: Cost, cases: Array, workers: Array, extra: Array) -> Array:
    """Cost, infinite where no number of workers does."""
    possible = np.isfinite(workers)
    return np.where(possible, cost(cases, np.where(possible, workers, 1.0), extra), np.inf)


def _improve(best: Array, answer: Array, cases: Array, total: Array, extra: Array) -> None:
    """Take what is cheaper than the best known, in place; the fewest extra workers of equals."""
    order = np.lexsort((extra, total))
    for k in order[total[order] < best[cases[order]] * (1 - 1e-12)]:
        case = cases[k]
        if total[k] < best[case] * (1 - 1e-12):
            best[case], answer[case] = total[k], extra[k]
