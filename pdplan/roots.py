"""Roots of increasing functions, for whole arrays at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array

TOLERANCE, MOST = 1e-10, 60
"""Of a root, relative; calls after which it is taken as it is."""
FEW, ROUNDS = 64, 6
"""Elements of which many guesses cost what one does; rounds of one guess each where there are more."""
ROOM, GUESSES = 1200, 16
"""Guesses of all elements in a call, and of each."""


def increasing_root(
    function: Callable[[Array], Array],
    low: Array,
    high: Array,
    ends: tuple[Array, Array] | None = None,
) -> Array:
    """Where an increasing function crosses zero between `low` and `high`, elementwise.

    Regula falsi with the modification of Anderson and Björck (BIT 13, 1973): the functions here are
    nearly linear, so five evaluations do. Of few elements, and where a kink keeps some from it, many guesses
    are tried in each call: two or three do. Clamped: `low` where f(low) ≥ 0, `high` where
    f(high) ≤ 0. Shapes: all arrays equal; `function` maps that shape, and a stack of such, to
    itself. `ends`: its values at `low` and at `high`, where they are known.

    >>> increasing_root(lambda x: x * x - 2.0, np.zeros(1), np.full(1, 2.0)).round(9)
    array([1.41421356])
    """
    a, b = np.array(low, dtype=float), np.array(high, dtype=float)
    if ends is None:
        # One call for both ends, and for what lies between them where that costs no more.
        between = _evenly(GUESSES if a.size <= FEW else 0, a.ndim)
        points = np.concatenate([a[None], a + between * (b - a), b[None]])
        values = np.array(function(points), dtype=float)
    else:
        points, values = np.stack([a, b]), np.array(ends, dtype=float)
    fa, fb = values[0], values[-1]
    at_low, at_high = fa >= 0, fb <= 0
    side = np.zeros(a.shape, dtype=int)
    x = np.where(at_low, a, b)
    open_ = ~(at_low | at_high)
    for _ in range(ROUNDS if a.size > FEW else 0):
        if not open_.any():
            break
        rise = np.where(fb != fa, fb - fa, 1.0)
        x = np.where(open_, (a * fb - b * fa) / rise, x)
        fx = function(x)
        positive = fx > 0
        # An end that stays twice is weighted down, by as much as the other came nearer: so both move.
        fa = np.where(open_ & positive & (side == 1), fa * _weight(fx, fb), fa)
        fb = np.where(open_ & ~positive & (side == -1), fb * _weight(fx, fa), fb)
        upper, lower = open_ & positive, open_ & ~positive
        b, fb = np.where(upper, x, b), np.where(upper, fx, fb)
        a, fa = np.where(lower, x, a), np.where(lower, fx, fa)
        values = np.stack([np.where(lower, fx, values[0]), np.where(upper, fx, values[-1])])
        points = np.stack([a, b])
        side = np.where(positive, 1, -1)
        open_ &= (np.abs(b - a) > TOLERANCE * np.maximum(np.abs(b), 1e-12)) & (fx != 0)
        close = np.abs(fx) <= TOLERANCE * np.maximum(np.abs(x), 1e-12)
        open_ &= ~close
    if open_.any():
        x = _within(points, values, x, open_, function)
    return np.where(at_low, low, np.where(at_high, high, x))


def _within(
    points: Array,
    values: Array,
    x: Array,
    open_: Array,
    function: Callable[[Array], Array],
) -> Array:
    """`increasing_root` among points, sorted along the first axis, where `open_`, else x.

    Many guesses are tried in each call: some where a curve through the points crosses zero and close to
    there, some evenly between the two points around it. The bracket shrinks to about the root's distance
    from the curve, and to a part of itself wherever the root is.
    """
    count = int(np.clip(ROOM // x.size, 6, GUESSES)) // 2
    near = 16.0 ** -np.arange(1.0, count)
    steps = np.concatenate([-near, [0.0], near]).reshape((-1,) + (1,) * x.ndim)
    open_ = open_.copy()
    for _ in range(MOST + 1):
        above = np.maximum(np.argmax(values > 0, axis=0), 1)[None]
        a, b = (np.take_along_axis(points, at, axis=0)[0] for at in (above - 1, above))
        fa, fb = (np.take_along_axis(values, at, axis=0)[0] for at in (above - 1, above))
        nearest = np.where(np.abs(fa) < np.abs(fb), a, b)
        x = np.where(open_, nearest, x)
        close = TOLERANCE * np.maximum(np.abs(nearest), 1e-12)
        open_ &= (b - a > close) & (np.minimum(np.abs(fa), np.abs(fb)) > close)
        if not open_.any():
            break
        line = a - fa * (b - a) / np.where(fb > fa, fb - fa, 1.0)
        curve = _curve(points, values, above, line)
        # Where a curve through four points and the line between two cross at one place, there is the root.
        settled = open_ & (np.abs(curve - line) <= close)
        x, open_ = np.where(settled, curve, x), open_ & ~settled
        if not open_.any():
            break
        guess = np.where(np.isnan(curve), line, curve)
        tried = np.concatenate([np.clip(guess + steps * (b - a), a, b), a + _evenly(count, x.ndim) * (b - a)])
        tried.sort(axis=0)
        points = np.concatenate([a[None], tried, b[None]])
        values = np.concatenate([fa[None], function(tried), fb[None]])
    return x


def _evenly(count: int, axes: int) -> Array:
    """So many steps from 0 to 1, the ends left out, along an axis before others."""
    return (np.arange(1.0, count + 1) / (count + 1)).reshape((-1,) + (1,) * axes)


def _curve(points: Array, values: Array, above: Array, near: Array) -> Array:
    """Where a cubic through the four points around zero crosses it, close to `near`; NaN where none does."""
    if len(points) < 4:
        return np.full(near.shape, np.nan)
    window = np.clip(above - 2, 0, len(points) - 4) + np.arange(4).reshape((-1,) + (1,) * near.ndim)
    x, f = np.take_along_axis(points, window, axis=0), np.take_along_axis(values, window, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # equal values: no curve
        weights = [np.prod([f[j] / (f[j] - f[i]) for j in range(4) if j != i], axis=0) for i in range(4)]
        curve = near + sum(w * (p - near) for w, p in zip(weights, x, strict=True))
    rises = (f[0] < f[1]) & (f[1] < f[2]) & (f[2] < f[3])
    return np.where(rises & (curve >= x[0]) & (curve <= x[3]), curve, np.nan)


def _weight(new: Array, old: Array) -> Array:
    """1 − f(new)/f(old), or a half where that is not positive."""
    found = 1.0 - new / np.where(old != 0, old, 1.0)
    return np.where(found > 0, found, 0.5)
