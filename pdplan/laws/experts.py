"""Mixtures of experts: which weights a step touches, and how unevenly ranks are loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def expected_touched_experts(tokens: ArrayLike, experts: int, per_token: int, skew: float = 0.0) -> Array:
    """Distinct experts that `tokens` tokens touch, each choosing `per_token` of `experts`.

    Uniform routing: E[touched] = E · (1 − (1 − k/E)^T); broadcasts over tokens.
    Popularities that vary with coefficient of variation `skew` = c (gamma distributed):
      E[touched] = E · (1 − (1 + T·((1 − k/E)^(−c²) − 1))^(−1/c²)), the uniform law at c → 0:
    tokens meet popular experts again, so fewer are touched and fewer weights read.
    Limits: T = 1 gives k; T → ∞ gives E.
    Source: a mixture of Poisson counts over gamma rates is negative binomial (Greenwood & Yule 1920).

    >>> [round(float(expected_touched_experts(1, 256, 8, c)), 9) for c in (0.0, 1.5)]
    [8.0, 8.0]
    >>> [round(float(expected_touched_experts(64, 256, 8, c)), 1) for c in (0.0, 1.0)]
    [222.4, 172.5]
    """
    t = np.asarray(tokens, dtype=float)
    if per_token >= experts:
        return np.asarray(experts * np.minimum(t, 1.0))
    none = np.log1p(-per_token / experts)  # log of the chance that a token leaves an expert alone
    if skew <= 0:
        return np.asarray(experts * -np.expm1(t * none))
    variance = skew * skew
    return np.asarray(experts * -np.expm1(np.log1p(t * np.expm1(-variance * none)) / -variance))


@dataclass(frozen=True, kw_only=True)
class RoutedLoad:
    """What a step routes to the ranks of a layer's experts. `ranks` and `assignments` broadcast."""

    ranks: ArrayLike
    assignments: ArrayLike
    """Copies of tokens, one for each expert that one chose."""
    experts: int
    skew: float
    """Coefficient of variation of the experts' popularity."""

    def factor(self, skew: float) -> Array:
        """Load of the busiest rank over the mean at another skew."""
        return busiest_rank_factor(self.ranks, self.assignments, self.experts, skew)


def busiest_rank_factor(
    ranks: ArrayLike, assignments: ArrayLike, experts: int = 1, skew: float = 0.0
) -> Array:
    """Load of the busiest of `ranks` ranks over the mean load, ≥ 1: the step waits for it.

    f = 1 + sqrt(2 ln(ranks) · ranks · (1/assignments + skew²/experts) · (1 − 1/ranks)),
    and never more than `ranks` (one rank does all).
    The expected maximum of `ranks` Gaussian loads: counts scatter by 1/sqrt(mean), and the popularities
    of a rank's experts/ranks experts, each with coefficient of variation `skew`, add their share.
    Source: Raab & Steger, "Balls into Bins", RANDOM 1998, heavily loaded case, for skew = 0.

    >>> float(busiest_rank_factor(1, 1000))
    1.0
    >>> round(float(busiest_rank_factor(8, 8192)), 3), round(float(busiest_rank_factor(8, 8192, 256, 1.0)), 3)
    (1.06, 1.342)
    """
    r = np.maximum(np.asarray(ranks, dtype=float), 1.0)
    a = np.maximum(np.asarray(assignments, dtype=float), 1e-12)
    spread = np.sqrt(2.0 * np.log(r) * r * (1.0 / a + skew * skew / experts) * (1.0 - 1.0 / r))
    return np.asarray(np.minimum(1.0 + spread, r))


def expert_slots(experts: ArrayLike, redundant: ArrayLike, ranks: ArrayLike) -> Array:
    """Places for experts on all ranks together, each rank the same number.

    S = ⌈(E + redundant)/r⌉ · r

    What is left over beside one place for each expert holds copies: of the busiest, where asked for.

    >>> [int(expert_slots(256, extra, ranks)) for extra, ranks in ((0, 32), (32, 32), (0, 72), (0, 320))]
    [256, 288, 288, 320]
    """
    r = np.maximum(np.asarray(ranks, dtype=float), 1.0)
    return np.asarray(np.ceil((np.asarray(experts) + np.asarray(redundant, dtype=float)) / r) * r)


def balanced_rank_factor(routed: RoutedLoad, slots: ArrayLike, drift: float = 0.0) -> Array:
    """Load of the busiest rank over the mean, ≥ 1, where copies of the busiest experts fill `slots` (EPLB).

    Copies are made of whatever is heaviest until R = slots − E are placed, and packed so that ranks come out
    even. Two things are left. The heaviest copy m may by itself be more than a rank's mean E/r:
      f_pack = max(1, m·r/E),  m = 1 + c·(ln(1 + E/R) − 1)
    (popularities with coefficient of variation c: at c = 1 exponential, Σ_j P(p > j·m) = R/E, exact; else the
    same point of a scaled one). And counts scatter and popularities drift since they were last read, by a
    share d of their spread: f = f_pack · (1 + sqrt(2 ln(r) · r · (1/A + (d·c)²/E) · (1 − 1/r))).
    Never more than without copies; no copies: `busiest_rank_factor`.
    Within 4 % of DeepSeek's algorithm on gamma distributed popularities, 0.5 ≤ c ≤ 1.2, 8 to 320 ranks.
    Source: deepseek-ai/EPLB (replicate the heaviest, pack greedily).

    >>> load = RoutedLoad(ranks=32, assignments=32 * 1024, experts=256, skew=1.28)
    >>> [round(float(balanced_rank_factor(load, s, 0.086)), 2) for s in (256, 288)]
    [2.18, 1.13]
    """
    alone = routed.factor(routed.skew)
    copies = np.asarray(slots, dtype=float) - routed.experts
    if not np.any(copies > 0):
        return alone
    each = np.log1p(routed.experts / np.maximum(copies, 1e-9))
    heaviest = 1.0 + routed.skew * (each - 1.0)
    packed = np.maximum(heaviest * routed.ranks / routed.experts, 1.0)
    return np.asarray(
        np.where(copies > 0, np.minimum(packed * routed.factor(drift * routed.skew), alone), alone)
    )


def busiest_rank_touched(ranks: ArrayLike, touched: ArrayLike, experts: ArrayLike) -> Array:
    """Experts touched on the rank that touches most, when `touched` of `experts` are, over `ranks` ranks.

    Y = min(X/r · (1 + sqrt(2 ln r · (1 − X/E) · r/X · (1 − 1/r))), ⌈E/r⌉), X = touched.
    Of places for experts, some of them for copies, as of experts: X·slots/E of them are touched.
    The expected maximum of r Gaussians with binomial mean and variance; all touched leaves no scatter.
    Source: as `busiest_rank_factor`.

    >>> float(busiest_rank_touched(1, 8.0, 256)), float(busiest_rank_touched(8, 256.0, 256))
    (8.0, 32.0)
    """
    r = np.maximum(np.asarray(ranks, dtype=float), 1.0)
    x = np.maximum(np.asarray(touched, dtype=float), 1e-12)
    idle = np.maximum(1.0 - x / experts, 0.0)
    spread = np.sqrt(2.0 * np.log(r) * idle * r / x * (1.0 - 1.0 / r))
    return np.asarray(np.minimum(x / r * (1.0 + spread), np.ceil(np.asarray(experts) / r)))


REFERENCE_RANKS = 16.0
"""The ranks that `rank_wait_s` holds for: two nodes of eight."""


def last_rank_wait_s(wait_s: ArrayLike, ranks: ArrayLike) -> Array:
    """What a step waits for the last of `ranks` ranks where they come together [s].

    t = w · sqrt(ln(ranks)/ln(16)), w at 16 ranks: ranks run kernels a little longer or shorter, attention-dp
    ranks hold other sequences and run hosts of their own besides, and the expected maximum of r Gaussian
    delays lies sqrt(2 ln r) of their spread above the mean.
    It is time, not a factor on the traffic: with larger batches ranks do not come later in proportion.
    Fitted to exchanges over 2 to 48 ranks; growth with ln(ranks) predicts accelerators left out worse.
    Source: as `busiest_rank_factor`.

    >>> [round(float(last_rank_wait_s(4e-5, r)) * 1e6, 9) for r in (1, 2, 16)]
    [0.0, 20.0, 40.0]
    """
    r = np.maximum(np.asarray(ranks, dtype=float), 1.0)
    return np.asarray(np.asarray(wait_s) * np.sqrt(np.log(r) / np.log(REFERENCE_RANKS)))
