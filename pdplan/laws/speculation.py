"""Speculative decoding: tokens that one verified step yields."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def tokens_per_step(drafted: ArrayLike, acceptance: ArrayLike) -> Array:
    """Expected tokens a verify step yields with `drafted` tokens, each accepted with `acceptance`.

    E = (1 − a^(k+1)) / (1 − a), and k + 1 at a = 1; no draft gives 1. Broadcasts.
    Range: k ≥ 0, 0 ≤ a ≤ 1; acceptances taken as independent.
    Source: Leviathan, Kalman, Matias, ICML 2023, equation 1.

    >>> float(tokens_per_step(1, 0.5)), float(tokens_per_step(0, 0.8)), float(tokens_per_step(3, 1.0))
    (1.5, 1.0, 4.0)
    """
    k, a = np.broadcast_arrays(np.asarray(drafted, dtype=float), np.asarray(acceptance, dtype=float))
    safe = np.where(a < 1.0, a, 0.0)
    return np.where(a < 1.0, (1.0 - safe ** (k + 1)) / (1.0 - safe), k + 1)


def long_answer_tokens(
    drafted: ArrayLike, acceptance: ArrayLike, per_doubling: ArrayLike, osl: ArrayLike
) -> Array:
    """Tokens a verify step yields, averaged over answers to random text that may not end before `osl` tokens.

    E = 1 + (a + g · log2(osl/1024)) · (1 − a^k)/(1 − a), the bracket within [0, 0.98]: an answer that has to
    go on repeats itself, and what repeats is easily drafted from the model's own state. Later drafts follow
    from drafts, and are accepted as ever. Holds for benchmarks that ignore the end-of-sequence token, not for
    served requests. Source: fitted to answers of 1,024 and 8,192 tokens (constants/engines.yaml); beyond them
    it is a guess. A growth of all drafts' acceptance leaves one draft too few and three too many tokens.

    >>> [round(float(long_answer_tokens(k, 0.6, 0.05, 8192)), 3) for k in (0, 1, 3)]
    [1.0, 1.75, 2.47]
    """
    k, a = np.asarray(drafted, dtype=float), np.asarray(acceptance, dtype=float)
    first = np.clip(a + np.asarray(per_doubling) * np.log2(np.asarray(osl, dtype=float) / 1024.0), 0.0, 0.98)
    return np.where(k > 0, 1.0 + first * tokens_per_step(np.maximum(k - 1.0, 0.0), a), 1.0)


def acceptance_of_tokens(drafted: int, tokens: float) -> float:
    """The acceptance, equal for all drafts, at which a step yields so many tokens: E(k, a) = `tokens`.

    Range: k ≥ 1, 1 ≤ E ≤ k + 1. Bisection, to the last bit.

    >>> round(acceptance_of_tokens(1, 1.6), 9), round(acceptance_of_tokens(3, 1 + 0.7 + 0.49 + 0.343), 9)
    (0.6, 0.7)
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if tokens_per_step(drafted, middle) > tokens else (middle, high)
    return (low + high) / 2.0
