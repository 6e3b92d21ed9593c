"""Mixtures of experts: which weights a step touches, and how unevenly ranks are loaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def expected_touched_experts(tokens: ArrayLike, experts: int, per_token: int) -> Array:
    """Distinct experts that `tokens` tokens touch, each choosing `per_token` of `experts`.

    E[touched] = E · (1 − (1 − k/E)^T), uniform routing; broadcasts over tokens.
    Skewed routing touches fewer, so this is the upper end for weights read.
    Limits: T = 1 gives k; T → ∞ gives E.

    >>> round(float(expected_touched_experts(1, 256, 8)), 9)
    8.0
    >>> round(float(expected_touched_experts(64, 256, 8)), 1)
    222.4
    """
    t = np.asarray(tokens, dtype=float)
    if per_token >= experts:
        return np.asarray(experts * np.minimum(t, 1.0))
    return np.asarray(experts * -np.expm1(t * np.log1p(-per_token / experts)))


def busiest_rank_factor(ranks: ArrayLike, assignments: ArrayLike, skew: float = 0.0) -> Array:
    """Load of the busiest of `ranks` ranks over the mean load, ≥ 1: the step waits for it.

    f = 1 + sqrt(2 ln(ranks) · ranks / assignments) · (1 − 1/ranks)^(1/2) + skew · (1 − 1/ranks),
    and never more than `ranks` (one rank does all).
    The root is the expected maximum of `ranks` multinomial counts with mean
    assignments/ranks (extreme-value bound for Gaussians); `skew` is what uneven
    routing adds and redundant experts take away again.
    Source: Raab & Steger, "Balls into Bins", RANDOM 1998, heavily loaded case.

    >>> float(busiest_rank_factor(1, 1000))
    1.0
    >>> round(float(busiest_rank_factor(8, 8192)), 3)
    1.06
    """
    r = np.maximum(np.asarray(ranks, dtype=float), 1.0)
    a = np.maximum(np.asarray(assignments, dtype=float), 1e-12)
    spread = np.sqrt(2.0 * np.log(r) * r / a * (1.0 - 1.0 / r))
    return np.asarray(np.minimum(1.0 + spread + skew * (1.0 - 1.0 / r), r))
