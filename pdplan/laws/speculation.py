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


def long_answer_acceptance(acceptance: ArrayLike, per_doubling: ArrayLike, osl: ArrayLike) -> Array:
    """Acceptance of drafts, averaged over answers to random text that may not end before `osl` tokens.

    a + g · log2(osl/1024), within [0, 0.98]: an answer that has to go on repeats itself, and what repeats is
    easily drafted. Holds for benchmarks that ignore the end-of-sequence token, not for served requests.
    Source: fitted to answers of 1,024 and 8,192 tokens (constants/engines.yaml); beyond them it is a guess.

    >>> round(float(long_answer_acceptance(0.6, 0.04, 8192)), 3)
    0.72
    """
    grown = np.asarray(acceptance) + np.asarray(per_doubling) * np.log2(np.asarray(osl, dtype=float) / 1024.0)
    return np.clip(grown, 0.0, 0.98)
