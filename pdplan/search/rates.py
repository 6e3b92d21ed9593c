"""The highest rate that each of many deployments serves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.evaluate import LIMITS, judged
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics
from pdplan.search.objective import serves
from pdplan.workload import Slo

RELATIVE_TOLERANCE = 1e-6
"""Rates are found to this share of themselves, from below."""

NEAR = 0.7
"""What is left of the capacity at the ends of a bracket: within such a logarithm lines are straight."""

Excess = Callable[[Array, Array], Array]
"""(rates, which deployments) -> not positive where a rate is served, infinite where none near it can be."""


def excess(metrics: Metrics, slo: Slo) -> Array:
    """Logarithm of the largest share of a limit that is used; infinite where the rate itself is too much."""
    values = judged(metrics, slo)
    good = serves(metrics, slo)
    used: Array = np.zeros(np.shape(good))
    for name in LIMITS:
        limit = getattr(slo, name)
        if limit is not None:
            used = np.maximum(used, np.asarray(values[name]) / limit)
    beyond = np.log(np.maximum(used, 1e-300))
    return np.where(good, np.minimum(beyond, 0.0), np.where(beyond > 0, beyond, np.inf))


def highest_rate(excess_at: Excess, high: Array, floor: float = 0.0) -> Array:
    """The largest rate up to `high` at which a deployment still meets its SLO, 0 where none does.

    Everything here is monotone in the rate. Waiting grows as the inverse of the capacity that is left,
    so on logarithmic scales of both the excess is nearly straight: regula falsi with the Illinois
    modification there, each guess a hair to the side that stayed last, the middle where an end is
    infinite. Of deployments that cannot reach `floor` times the best, 0 is returned once that is known.

    >>> tops = np.array([3.0, 9.0, -1.0])
    >>> highest_rate(lambda rate, which: rate - tops[which], np.array([4.0, 8.0, 1.0])).round(5)
    array([3., 8., 0.])
    """
    high = np.array(high, dtype=float)
    top = high * (1.0 + RELATIVE_TOLERANCE)
    above = np.array(excess_at(high, np.arange(len(high))), dtype=float)
    low = np.where(above <= 0, high, 0.0)
    below = np.full(np.shape(high), -np.inf)
    side = np.zeros(np.shape(high))
    for tries in range(1, 100):
        hopeless = high < floor * low.max(initial=0.0)
        low = np.where(hopeless, 0.0, low)
        open_ = np.flatnonzero((high - low > RELATIVE_TOLERANCE * high) & ~hopeless)
        if not len(open_):
            break
        a, b, fa, fb, last, end = (x[open_] for x in (low, high, below, above, side, top))
        left_a, left_b = np.log1p(-a / end), np.log1p(-b / end)
        # Far from the root it may be a cliff.
        straight = np.isfinite(fa) & np.isfinite(fb) & (left_a - left_b < NEAR)
        rise = np.where(straight, fb - fa, 1.0)
        left = np.where(straight, left_a - np.where(straight, fa, 0.0) * (left_b - left_a) / rise, 0.0)
        left = np.where(straight, left, (left_a + left_b) / 2)
        hair = RELATIVE_TOLERANCE * b / 2
        guess = -np.expm1(left) * end + np.where(straight, last * hair, 0.0)
        guess = (a + b) / 2 if tries % 4 == 0 else np.clip(guess, a + hair, b - hair)
        found = np.asarray(excess_at(guess, open_), dtype=float)
        good = found <= 0
        # An end that stays twice counts half, so that both ends move.
        low[open_], high[open_] = np.where(good, guess, a), np.where(good, b, guess)
        below[open_] = np.where(good, found, np.where(last < 0, fa / 2, fa))
        above[open_] = np.where(good, np.where(last > 0, fb / 2, fb), found)
        side[open_] = np.where(good, 1.0, -1.0)
    return low
