"""The linear mixed model that a calibration is: residuals explained by effects with Gaussian priors.

    log(measured/predicted) = Σ slope · θ + noise,   θ ~ N(0, prior²),   noise ~ soft-L1 with scale σ

Runs of one deployment err alike, so n of them weigh as sqrt(n) runs do. θ is the logarithm of a
constant over the shipped one. The maximum a posteriori is found by iterated reweighting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.measured.run import Run

ROUNDS = 30
SHARP = 1.0
"""In units of the noise: residuals beyond it pull only linearly."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Rows of the model: design, what it should explain, and the noise of each row."""

    design: Array
    """One row an observation, one column a parameter: slopes."""
    target: Array
    noise: Array
    """Standard deviation of each observation."""
    weight: Array

    def take(self, rows: Array) -> Observations:
        return Observations(
            design=self.design[rows],
            target=self.target[rows],
            noise=self.noise[rows],
            weight=self.weight[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Most likely parameters and their covariance."""

    mean: Array
    covariance: Array

    @property
    def variance(self) -> Array:
        return np.diag(self.covariance)


def posterior(data: Observations, prior_sd: Array) -> Posterior:
    """The maximum a posteriori of the parameters, and its covariance (Laplace).

    Minimises Σ w·ρ((y − Aθ)/σ) + Σ (θ/prior)²/2 with ρ the soft-L1 loss.
    Without observations it is the prior.
    """
    mean = np.zeros(len(prior_sd))
    precision = np.diag(prior_sd**-2.0)
    covariance = np.linalg.inv(precision)
    for _ in range(ROUNDS):
        scaled = (data.target - data.design @ mean) / (SHARP * data.noise)
        pull = data.weight / data.noise**2 / np.sqrt(1.0 + scaled**2)
        covariance = np.linalg.inv((data.design * pull[:, None]).T @ data.design + precision)
        moved = covariance @ ((data.design * pull[:, None]).T @ data.target)
        done = np.max(np.abs(moved - mean), initial=0.0) < 1e-7
        mean = moved
        if done:
            break
    return Posterior(mean=mean, covariance=covariance)


def weights(runs: Sequence[Run]) -> Array:
    """1/sqrt(n) for each of the n runs of one deployment, whatever its load and layout."""
    keys = [(r.model, r.hardware, r.engine, r.precision, r.mode, r.spec) for r in runs]
    sizes = Counter(keys)
    return np.array([sizes[key] ** -0.5 for key in keys])
