"""The highest rate that each of many deployments serves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array

RELATIVE_TOLERANCE = 1e-6
"""Rates are found to this share of themselves, from below."""

SHY = 1 - 1e-8
"""What is found is stated so much lower: evaluated anew, its last digits differ, and it keeps its limits."""

NEAR = 0.7
"""What is left of the capacity at the ends of a bracket: within such a logarithm lines are straight."""
AROUND = np.array([-1 / 4, -1 / 16, -1 / 128, -1 / 2048, 1 / 2048, 1 / 128, 1 / 16, 1 / 4])
"""Guesses around a straight line's crossing, as shares of what lies between the ends."""
FEW_AROUND = np.array([-1 / 8, -1 / 256, 1 / 256, 1 / 8])
MANY = 256
"""Of so many deployments each is tried at fewer rates in a call."""
TRICKLE = 1e-6
"""A deployment that does not serve this share of its bound serves nobody."""
MOST_CALLS = 40

Excess = Callable[[Array, Array], Array]
"""(rates, which deployments) -> not positive where a rate is served, infinite where none near it can be."""


def highest_rate(excess_at: Excess, high: Array, tolerance: float = RELATIVE_TOLERANCE) -> Array:
    """The largest rate up to `high` at which a deployment still meets its SLO, 0 where none does.

    Everything here is monotone in the rate. Waiting grows as the inverse of the capacity that is left,
    so on logarithmic scales of both the excess is nearly straight. Many rates of each deployment are
    tried in one call: close around where a straight line between the ends crosses, and evenly, in case
    it is none. To `tolerance`, from below.

    >>> tops = np.array([3.0, 9.0, -1.0])
    >>> highest_rate(lambda rate, which: rate - tops[which], np.array([4.0, 8.0, 1.0])).round(5)
    array([3., 8., 0.])
    """
    high = np.array(high, dtype=float)
    top = high * (1.0 + RELATIVE_TOLERANCE)
    ends = np.concatenate([high, high * TRICKLE])
    above, below = np.array(excess_at(ends, np.tile(np.arange(len(high)), 2)), dtype=float).reshape(2, -1)
    low = np.where(above <= 0, high, np.where(below <= 0, high * TRICKLE, 0.0))
    high = np.where(low > 0, high, 0.0)
    for _ in range(MOST_CALLS):
        open_ = np.flatnonzero(high - low > tolerance * high)
        if not len(open_):
            break
        a, b, fa, fb, end = (x[open_, None] for x in (low, high, below, above, top))
        left_a, left_b = np.log1p(-a / end), np.log1p(-b / end)
        # Far from the root it may be a cliff.
        straight = np.isfinite(fa) & np.isfinite(fb) & (left_a - left_b < NEAR)
        crossing = np.where(straight, -fa / np.where(straight, fb - fa, 1.0), 0.5)
        around = AROUND if len(open_) < MANY else FEW_AROUND
        evenly = np.arange(1, len(around) + 1) / (len(around) + 1)
        share = np.sort(np.clip(np.where(straight, crossing + around, evenly), 0.0, 1.0), axis=1)
        hair = tolerance * b / 2
        tried = np.clip(-np.expm1(left_a + share * (left_b - left_a)) * end, a + hair, b - hair)
        found = np.asarray(excess_at(tried.ravel(), np.repeat(open_, tried.shape[1])), dtype=float)
        found = found.reshape(tried.shape)
        # The first that is too much, and the last before it.
        first = np.where((found > 0).any(axis=1), (found > 0).argmax(axis=1), tried.shape[1])
        row = np.arange(len(open_))
        rates, values = np.concatenate([a, tried, b], axis=1), np.concatenate([fa, found, fb], axis=1)
        low[open_], high[open_] = rates[row, first], rates[row, first + 1]
        below[open_], above[open_] = values[row, first], values[row, first + 1]
    return low
