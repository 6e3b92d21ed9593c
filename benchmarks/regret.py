"""What makes choices by prediction lose throughput: `python benchmarks/regret.py RUNS.csv`.

Prints the mean regret of the shipped constants; of errors that are as large in the median but have no
long tail, or stand at other runs; and of predictions that are exact for some of the runs.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import choice_regret
from pdplan.measured.predict import Predictions, predict
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs

DRAWS = 8
MEDIANS = (0.03, 0.05, 0.07)
TAILS = (0.1, 0.15, 0.2, 0.3)
MEDIAN_OF_NORMAL = 0.6745
"""Median of |x| of a standard normal distribution."""


class Choices:
    """The runs, what was measured of them and what is predicted."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs, self.predicted = runs, predict(runs, Catalog())
        self.tpot_s = np.array([r.tpot_mean_s for r in runs])
        self.rate = np.array([r.measured_tok_per_s_per_gpu for r in runs])
        self.counts = np.array([r.counts_for_tpot for r in runs])

    def lost(self, tpot_s: Array, rate: Array) -> float:
        """Mean regret, were TPOT and tokens/s/GPU predicted so."""
        guess: Predictions = replace(self.predicted, tpot_mean_s=tpot_s, total_tok_per_s_per_gpu=rate)
        return choice_regret(self.runs, guess).mean

    def off_by(self, factors: Array) -> float:
        """Mean regret, were TPOT off by factors and throughput by their inverse."""
        return self.lost(self.tpot_s * factors, self.rate / factors)

    def exact_for(self, right: Array) -> float:
        """Mean regret, were some of the runs predicted as measured."""
        p = self.predicted
        return self.lost(
            np.where(right, self.tpot_s, p.tpot_mean_s), np.where(right, self.rate, p.total_tok_per_s_per_gpu)
        )


def main() -> None:
    choices, draw = Choices(read_runs(Path(sys.argv[1]))), np.random.default_rng(0)
    errors = choices.predicted.tpot_mean_s / choices.tpot_s

    def tell(words: str, lost: float) -> None:
        print(f"{words:58} {lost:6.1%}")

    tell("as predicted", choices.exact_for(np.zeros(len(errors), dtype=bool)))
    for median in MEDIANS:
        size = (DRAWS, len(errors))
        factors = np.exp(draw.normal(0.0, median / MEDIAN_OF_NORMAL, size))
        tell(f"errors of {median:.0%} in the median, normal", float(np.mean([*map(choices.off_by, factors)])))
    counted = np.flatnonzero(choices.counts)
    shuffled = np.ones((DRAWS, len(errors)))
    for row in shuffled:
        row[counted] = errors[draw.permutation(counted)]
    tell("our own errors, dealt to other runs", float(np.mean([*map(choices.off_by, shuffled)])))
    for tail in TAILS:
        right = choices.counts & (np.abs(errors - 1.0) > tail)
        tell(f"exact where TPOT is off by over {tail:.0%} ({right.sum()} runs)", choices.exact_for(right))
    hardware = np.array([r.hardware for r in choices.runs])
    for name in sorted(set(hardware)):
        tell(f"exact on {name} ({np.sum(hardware == name)} runs)", choices.exact_for(hardware == name))


if __name__ == "__main__":
    main()
