"""Loops whose requests all began at once, as benchmarks begin, in front of a server that keeps their order.

Requests come back as they left, one behind the other: a train that fills a part of each round. Answers of
different lengths blur it, and prompts get in one another's way. Both laws are read off simulations of ten
rounds with lengths uniform in 0.8 to 1 times the longest (tests/test_trains.py). A loop of random gaps
(mean-value analysis) waits twice as long where prompts fill 0.6 to 0.9 of a round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array

SPREAD = 1.3
"""Of a train in front of one server: those that wait where it is short of a round, over d/(1 − d)³."""
BLUR = 0.2
"""Requests that lengths mix, over √(n·d)."""
DENSITY_EXPONENT = -0.4
"""A train's arrivals over those of a loop on average, as a power of d.

All three are read off the simulation that the tests repeat, for lengths within 0.8 to 1 times the longest.
"""
ITERATIONS = 16
"""For a step's length, each of which halves its error."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Steps of a prefill worker: a + b·k seconds for the k ≤ `most` prompts of its fullest rank."""

    fixed_s: Array
    each_s: Array
    most: Array
    ranks: Array

    @property
    def alone_s(self) -> Array:
        """One prompt's."""
        return np.asarray(self.fixed_s + self.each_s)

    @property
    def full_prompt_s(self) -> Array:
        """What a prompt takes of its rank where as many wait as a step holds."""
        return np.asarray(self.fixed_s / self.most + self.each_s)


def train_prompts(each: ArrayLike, away_s: ArrayLike, prompt_s: ArrayLike) -> Array:
    """Prompts that one waits for, of n requests of a server that serves one prompt after another.

    With S seconds a prompt and T away, the train is d = n·S/(T + S) of a round. Those that get in one
    another's way are as many as the blur mixes, 0.2·√(n·d), as long as the train is not spread over the
    whole round, 1.3·d/(1 − d)³. Beyond d = 1 the server is never idle:
        q = √(max(n − T/S − 1, 0)² + g²),  1/g² = 1/(1.3·d/(1 − d)³)² + 1/(0.04·n·d)

    >>> [round(float(q), 2) for q in train_prompts(64.0, [639.0, 127.0, 57.2, 0.0], 1.0)]
    [0.17, 1.11, 6.01, 63.02]
    """
    n, away, prompt = (np.asarray(x, dtype=float) for x in (each, away_s, prompt_s))
    away, prompt = np.maximum(away, 0.0), np.maximum(prompt, 1e-12)
    d = np.clip(n * prompt / (away + prompt), 1e-9, 0.98)
    spread, blurred = SPREAD * d / (1.0 - d) ** 3, BLUR * np.sqrt(np.maximum(n, 1e-9) * d)
    mixed = 1.0 / np.hypot(1.0 / spread, 1.0 / blurred)
    most = np.maximum(n - 1.0, 0.0)
    return np.asarray(np.hypot(np.maximum(most - away / prompt, 0.0), np.minimum(mixed, most)))


def gated_prompt_s(each: ArrayLike, away_s: ArrayLike, steps: Steps) -> Array:
    """From a prompt's coming to the end of its step, where all that came during one start with the next [s].

    Ranks of attention-dp step together, so that a step ends with its fullest rank. With m = λ·d^−0.4·D
    prompts a rank and step D (λ on average; a train is denser), n, T and d as in `train_prompts` with the S
    of full steps:
        k = m + √(m·ln(ranks)/2), from 1 to `most`;  D = a + b·k
        t = D·(1 + u/2),  u = w/(w + e^−w), w = λ·ranks·D
    u is the chance to find a step under way. One rank: k = m.
    """
    n, away = np.asarray(each, dtype=float), np.maximum(np.asarray(away_s, dtype=float), 0.0)
    full = steps.full_prompt_s
    denser = np.clip(n * full / np.maximum(away + full, 1e-12), 1e-9, 1.0) ** DENSITY_EXPONENT
    step = took = steps.alone_s
    for _ in range(ITERATIONS):
        rate = n / (away + took)
        came = rate * denser * step
        fullest = came + np.sqrt(came * np.log(np.maximum(steps.ranks, 1.0)) / 2.0)
        step = (step + steps.fixed_s + steps.each_s * np.clip(fullest, 1.0, steps.most)) / 2.0
        took = step * (1.0 + step_under_way(rate * steps.ranks * step) / 2.0)
    return np.asarray(took)


def step_under_way(work: ArrayLike) -> Array:
    """Chance that ranks which step together are in a step, at `work` = arrivals · step time.

    All that came during a step start with the next one: a/(a + e^−a).
    """
    a = np.asarray(work, dtype=float)
    return np.asarray(a / (a + np.exp(-a)))


def rank_lag(ranks: ArrayLike, prompts: ArrayLike, spread: ArrayLike) -> Array:
    """How much longer than the mean the longest of r ranks is, of k prompts each, as a share.

    Lengths that spread evenly over s of their mean: s/2·(r − 1)/(r + 1), exact for one prompt a rank; of
    several the sums spread less, by √k.

    >>> [round(float(rank_lag(r, k, 0.2)), 4) for r, k in ((1, 1), (8, 1), (8, 4))]
    [0.0, 0.0778, 0.0389]
    """
    r = np.asarray(ranks, dtype=float)
    return np.asarray(np.asarray(spread) / 2.0 * (r - 1.0) / (r + 1.0) / np.sqrt(prompts))
