"""Roots of increasing functions, for whole arrays at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pdplan.laws.roofline import Array

FEW, ROUNDS = 24, 6
"""Elements of which many guesses cost what one does; rounds of one guess each where there are more."""
ROOM, GUESSES = 1200, 16
"""Guesses of all elements in a call, and of each."""


def increasing_root(
    function: Callable[[Array], Array],
    low: Array,
    high: Array,
    tolerance: float = 1e-10,
    iterations: int = 60,
    ends: tuple[Array, Array] | None = None,
) -> Array:
    """Where an increasing function crosses zero between `low` and `high`, elementwise.

    Regula falsi with the modification of Anderson and Björck (BIT 13, 1973): the functions here are
    nearly linear, so five evaluations do. Of few elements, and where a kink keeps some from it, many guesses
    are tried in each call. Clamped: `low` where f(low) ≥ 0, `high` where
    f(high) ≤ 0. Shapes: all arrays equal; `function` maps that shape, and a stack of such, to
    itself. `ends`: its values at `low` and at `high`, where they are known.

    >>> increasing_root(lambda x: x * x - 2.0, np.zeros(1), np.full(1, 2.0)).round(9)
    array([1.41421356])
    """
    a, b = np.array(low, dtype=float), np.array(high, dtype=float)
    # One call for both ends.
    fa, fb = np.array(function(np.stack([a, b])) if ends is None else ends, dtype=float)
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
        b, fb = np.where(open_ & positive, x, b), np.where(open_ & positive, fx, fb)
        a, fa = np.where(open_ & ~positive, x, a), np.where(open_ & ~positive, fx, fa)
        side = np.where(positive, 1, -1)
        open_ &= (np.abs(b - a) > tolerance * np.maximum(np.abs(b), 1e-12)) & (fx != 0)
        close = np.abs(fx) <= tolerance * np.maximum(np.abs(x), 1e-12)
        open_ &= ~close
    if open_.any():
        x = _within((a, fa), (b, fb), x, open_, function, tolerance, iterations)
    return np.where(at_low, low, np.where(at_high, high, x))


def _within(
    low: tuple[Array, Array],
    high: tuple[Array, Array],
    x: Array,
    open_: Array,
    function: Callable[[Array], Array],
    tolerance: float,
    iterations: int,
) -> Array:
    """`increasing_root` between two (x, f) where `open_`, else x; many guesses in each call.

    Some are on the straight line between the ends and close to it, some evenly between: the bracket shrinks
    to about the root's distance from the line, and to a part of itself wherever the root is.
    """
    (a, fa), (b, fb) = low, high
    count = int(np.clip(ROOM // a.size, 6, GUESSES)) // 2
    near = 16.0 ** -np.arange(1.0, count)
    shape = (-1,) + (1,) * a.ndim
    steps = np.concatenate([-near, [0.0], near]).reshape(shape)
    evenly = (np.arange(1.0, count + 1) / (count + 1)).reshape(shape)
    open_ = open_.copy()
    for _ in range(iterations):
        guess = a - fa * (b - a) / np.where(fb > fa, fb - fa, 1.0)
        tried = np.concatenate([np.clip(guess + steps * (b - a), a, b), a + evenly * (b - a)])
        tried.sort(axis=0)
        points = np.concatenate([a[None], tried, b[None]])
        values = np.concatenate([fa[None], function(tried), fb[None]])
        above = np.maximum(np.argmax(values > 0, axis=0), 1)[None]
        a, b = (np.take_along_axis(points, at, axis=0)[0] for at in (above - 1, above))
        fa, fb = (np.take_along_axis(values, at, axis=0)[0] for at in (above - 1, above))
        nearest = np.where(np.abs(fa) < np.abs(fb), a, b)
        x = np.where(open_, nearest, x)
        close = tolerance * np.maximum(np.abs(nearest), 1e-12)
        open_ &= (b - a > close) & (np.minimum(np.abs(fa), np.abs(fb)) > close)
        if not open_.any():
            break
    return x


def _weight(new: Array, old: Array) -> Array:
    """1 − f(new)/f(old), or a half where that is not positive."""
    found = 1.0 - new / np.where(old != 0, old, 1.0)
    return np.where(found > 0, found, 0.5)
