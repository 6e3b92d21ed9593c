"""The least and the most whole number that does: many numbers of many cases tried in one array call.

A call costs about the same for one number as for hundreds, so the time hardly grows with the numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array

TRIED = 16
"""Numbers of one case that are tried at once, where cases are few."""
FEWEST = 3
AT_ONCE = 1024
"""Cases times numbers in a call: beyond so many, a call takes longer the more there are."""

Good = Callable[[Array, Array], Array]
"""(cases, numbers) -> where a number does for its case."""


def least_whole(good: Good, low: Array, high: Array) -> Array:
    """For each case the least n of [low, high] with good(case, n): it holds at `high`, and beyond the least.

    First at strides that double from `low`, as a few more than a bound mostly do, then evenly between two.

    >>> enough = np.array([3, 700, 41])
    >>> least_whole(lambda cases, n: n >= enough[cases], np.ones(3), np.array([9.0, 1e4, 41.0]))
    array([  3., 700.,  41.])
    """
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    stride = np.ones(np.shape(low))
    """Of the next number from `low`; 0 once some number that does is known, beside the given one."""
    while len(open_ := np.flatnonzero(low < high)):
        count = int(np.clip(AT_ONCE // len(open_), FEWEST, TRIED))
        width, stepping = (high - low)[open_, None], stride[open_, None]
        # `high` is never tried: it holds, whatever a call would say of it.
        doubling = np.minimum(stepping * np.exp2(np.arange(count)), width) - 1.0
        evenly = np.floor(np.arange(1, count + 1) / (count + 1) * width)
        tried = low[open_, None] + np.where(stepping > 0, doubling, evenly)
        ok = good(np.repeat(open_, count), tried.ravel()).reshape(tried.shape)
        known = ok.any(axis=1)
        first = np.where(known, ok.argmax(axis=1), count)
        edges = np.concatenate([low[open_, None] - 1.0, tried, high[open_, None]], axis=1)
        row = np.arange(len(open_))
        low[open_], high[open_] = edges[row, first] + 1.0, edges[row, first + 1]
        stride[open_] = np.where(known, 0.0, stride[open_] * 2.0 ** (count - 1))
    return high


def most_whole(good: Good, high: Array) -> Array:
    """For each case the largest n of [0, high] with good(case, n), 0 where none is; what is below is good.

    Quickest where n is near `high`.

    >>> most_whole(lambda cases, n: n * 3 <= 10, np.array([2.0, 9.0]))
    array([2., 3.])
    >>> most_whole(lambda cases, n: n <= 997, np.array([2.0, 1000.0]))
    array([  2., 997.])
    """
    high = np.maximum(np.asarray(high, dtype=float), 0.0)
    fewer = least_whole(lambda cases, less: good(cases, high[cases] - less), np.zeros(np.shape(high)), high)
    return np.asarray(high - fewer)
