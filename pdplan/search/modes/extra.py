"""How many workers more in one pool pay for fewer in the other: an exact minimum over whole numbers.

More decode workers shorten the first decode step a little, and with it TTFT, so that fewer
prefill workers may do. The number that is needed only falls as workers are added, so
an interval of numbers costs no less than what its far end needs at its near end's number:
branch and bound leaves no number out that could be the cheapest. What is needed takes many
forward steps to work out, what it costs none: so numbers that cost too much are dropped first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array

MOST_EXTRA = 2**20
"""Beyond a million workers no plan is written."""
CHEAPER = 1 - 1e-12
"""What costs less than another by no more than this is no cheaper."""

Needed = Callable[[Array, Array], Array]
"""(cases, extra workers) -> workers needed in the other pool, infinite where no number does."""
Cost = Callable[[Array, Array, Array], Array]
"""(cases, workers needed, extra workers) -> cost; never falling in either number."""


Short = Callable[[Array, Array, Array], Array]
"""(cases, extra workers, enough) -> where more than `enough` are surely needed: cheaper than `Needed`."""


def cheapest_extra(
    needed: Needed,
    cost: Cost,
    at_once: Array,
    least: Array,
    ceiling: float,
    within: float = np.inf,
    short: Short | None = None,
) -> Array:
    """For each case the whole e ≥ 0 that makes cost(W(e), e) least, the smallest of equals.

    W = `needed` never rises with the extra workers; `at_once` is W(0), `least` bounds W from below for
    every e. What costs more than `ceiling`, or than `within` times the cheapest case, is of no interest:
    0, or a number that is not the cheapest, is returned for such cases. Where `short` says of the last
    number that could pay that it needs too many, so do all before it.

    >>> steps = np.array([9.0, 9.0, 5.0, 5.0, 2.0])
    >>> def needed(cases, extra): return steps[np.minimum(extra.astype(int), 4)]
    >>> def cost(cases, workers, extra): return 3 * workers + 5 * extra  # 27, 32, 25, 30, 26
    >>> cheapest_extra(needed, cost, np.array([9.0]), np.array([2.0]), np.inf)
    array([2.])
    """
    every, answer = np.arange(len(at_once)), np.zeros(len(at_once))
    best = np.minimum(_total(cost, every, at_once, answer), ceiling)

    def could_pay(cases: Array, workers: Array, extra: Array) -> Array:
        return _total(cost, cases, workers, extra) < best[cases] * CHEAPER

    def tried(cases: Array, extra: Array) -> Array:
        """What is needed beside so many more, and what that costs noted."""
        found = needed(cases, extra)
        _improve(best, answer, cases, _total(cost, cases, found, extra), extra)
        np.minimum(best, within * best.min(), out=best)
        return found

    np.minimum(best, within * best.min(initial=np.inf), out=best)
    cases = np.flatnonzero((least < at_once) & could_pay(every, least, np.ones(len(every))))
    near = np.zeros(len(cases))
    # Where no number is known to work, the first of doubling ones that does bounds the cost.
    far = np.ones(len(cases))
    while len(open_ := np.flatnonzero(np.isinf(best[cases]) & (far <= MOST_EXTRA))):
        works = np.isfinite(tried(cases[open_], far[open_]))
        near[open_[~works]] = far[open_[~works]]
        far[open_] *= 2
    known = np.isfinite(best[cases])
    cases, near = cases[known], near[known]
    # Numbers in (near, top] are still to be looked at; all of them need `bound` at least.
    top, bound = np.full(len(cases), float(2 * MOST_EXTRA)), least[cases]
    while True:
        before = top
        top = np.minimum(top, _last(lambda n: could_pay(cases, bound, n), near, before))  # noqa: B023
        open_ = np.flatnonzero(top > near)
        if not len(open_):
            return answer
        cases, near, top, bound, before = cases[open_], near[open_], top[open_], bound[open_], before[open_]
        middle = np.ceil((near + top) / 2)
        # The last number that could pay says of all before it whether they could: not if it is far off.
        at = np.where(2 * (top - near) <= before - near, top, middle)
        if short is not None:
            dead = at == top
            part, first = cases[dead], near[dead] + 1.0
            most = np.minimum(at_once[part], 2.0 * MOST_EXTRA)
            enough = _last(lambda n: could_pay(part, n, first), bound[dead] - 1.0, most)  # noqa: B023
            dead[dead] = short(part, at[dead], enough)
            cases, near, top, bound, at = (each[~dead] for each in (cases, near, top, bound, at))
            if not len(cases):
                return answer
        found = tried(cases, at)
        cases = np.concatenate([cases, cases])
        near, top = np.concatenate([near, at]), np.concatenate([at - 1.0, top])
        bound = np.concatenate([found, bound])


def _last(holds: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The last whole number of (low, high] that holds, `low` where none does; those before it hold, too."""
    low, high = np.array(low), np.array(high)
    while np.any(low < high):
        middle = np.ceil((low + high) / 2)
        good = holds(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle - 1.0)
    return low


def _total(cost: Cost, cases: Array, workers: Array, extra: Array) -> Array:
    """Cost, infinite where no number of workers does."""
    possible = np.isfinite(workers)
    return np.where(possible, cost(cases, np.where(possible, workers, 1.0), extra), np.inf)


def _improve(best: Array, answer: Array, cases: Array, total: Array, extra: Array) -> None:
    """Take what is cheaper than the best known, in place; the fewest extra workers of equals."""
    order = np.lexsort((extra, total))
    for k in order[total[order] < best[cases[order]] * CHEAPER]:
        case = cases[k]
        if total[k] < best[case] * CHEAPER:
            best[case], answer[case] = total[k], extra[k]
