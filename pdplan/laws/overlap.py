"""Two-batch overlap: the exchanges of one half of a batch run beside the kernels of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


@dataclass(frozen=True, kw_only=True)
class HalfLayers:
    """What one half of a batch takes in its layers with experts, all of them [s]. Arrays broadcast."""

    before: Array
    """Kernels up to the dispatch: attention, router, shared experts."""
    experts: Array
    dispatch: Array
    combine: Array

    @property
    def in_turn(self) -> Array:
        """One after the other."""
        return self.before + self.experts + self.dispatch + self.combine


def two_batch_time_s(half: HalfLayers, taken: ArrayLike = 0.0) -> Array:
    """Layers with experts of two halves whose kernels and exchanges take turns [s].

    t = max(K_a, X_c) + max(X_d, K_a) + max(K_e, X_d) + max(X_c, K_e)
    X_d dispatch, X_c combine, K_a = before/(1 − taken), K_e = experts/(1 − taken), of one half: while the
    tokens of one come back or leave, the other is in attention; while one computes its experts, the tokens of
    the other travel. Never less than the kernels of both halves, nor than their exchanges.
    `taken`: the share of an accelerator's cores that exchanges hold meanwhile: none by low-latency kernels,
    20 of 132 by DeepEP's high-throughput ones.
    Source: DeepSeek-V3 Technical Report, arXiv 2412.19437, sections 3.4.1 and 3.4.2 (two micro-batches).

    >>> one = HalfLayers(before=np.asarray(10.0), experts=np.asarray(10.0),
    ...                  dispatch=np.asarray(5.0), combine=np.asarray(10.0))
    >>> float(two_batch_time_s(one)), float(two_batch_time_s(one, 0.2)), 2 * float(one.in_turn)
    (40.0, 50.0, 70.0)
    """
    before, experts = (np.asarray(t) / (1.0 - np.asarray(taken)) for t in (half.before, half.experts))
    return np.asarray(
        np.maximum(before, half.combine)
        + np.maximum(half.dispatch, before)
        + np.maximum(experts, half.dispatch)
        + np.maximum(half.combine, experts)
    )
