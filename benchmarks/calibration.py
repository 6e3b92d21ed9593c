"""How much a calibration helps: fit to some runs of one place, predict its others.

    python benchmarks/calibration.py RUNS.csv

For every group of runs (model, accelerator, engine, precision, mode, speculation) with twelve runs and
three deployments: errors before and after `pdplan calibrate` on up to 40 of them, deployments left out in
turn; and of all other runs after a calibration to three of them. The groups took part in the fit of the
shipped constants; what is measured is what own runs add to it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

from pdplan.calibration.engine_parts import doubtful
from pdplan.calibration.own_fit import cross_validate, fit_own
from pdplan.catalog.store import Catalog
from pdplan.measured.accuracy import residuals
from pdplan.measured.predict import predict
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs

MANY, FEW, LEAST = 40, 3, 12


def groups(runs: list[Run]) -> dict[tuple[str, ...], list[Run]]:
    """Runs of one place, where there are enough to learn from and to be wrong on."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        key = (run.engine, run.hardware, run.model, run.precision, run.mode, run.spec)
        found.setdefault(key, []).append(run)
    return {
        key: own
        for key, own in sorted(found.items())
        if len(own) >= LEAST and len({(r.decode, r.prefill, r.isl, r.osl) for r in own}) >= 3
    }


def median_error(errors: np.ndarray) -> float:
    return float(np.nanmedian(np.abs(errors)))


def main() -> int:
    runs, catalog = read_runs(Path(sys.argv[1])), Catalog()
    doubts = doubtful(runs)
    sound = [run for i, run in enumerate(runs) if i not in doubts]
    chance = random.Random(1)
    many, few, helped = [], [], 0
    for key, own in groups(sound).items():
        some = own if len(own) <= MANY else chance.sample(own, MANY)
        checked = cross_validate(fit_own(some, catalog), some, catalog).summary
        helped += checked.helped
        tpot, ttft = checked.tpot, checked.ttft
        many.append([x for q in (tpot, ttft) for x in ((q.before, q.after) if q else (np.nan, np.nan))])
        three = chance.sample(own, FEW)
        rest = [run for run in own if run not in three]
        fit = fit_own(three, catalog)
        before, after = (residuals(rest, predict(rest, catalog, d)) for d in (fit.shipped, fit.document()))
        few.append([median_error(getattr(e, q)) for q in ("tpot", "ttft") for e in (before, after)])
        print(f"{' '.join(key):60} TPOT {many[-1][0]:6.1%} -> {many[-1][1]:6.1%}  TTFT {many[-1][2]:6.1%} -> "
              f"{many[-1][3]:6.1%}   by {FEW} runs: TPOT {few[-1][0]:6.1%} -> {few[-1][1]:6.1%}")  # fmt: skip
    for name, table in ((f"up to {MANY} runs, deployments left out", many), (f"{FEW} runs, all others", few)):
        mean = np.nanmean(np.array(table), axis=0)
        better = np.count_nonzero(np.array(table)[:, 1] < np.array(table)[:, 0])
        print(
            f"{name}: mean of the groups' median errors: TPOT {mean[0]:.1%} -> {mean[1]:.1%}, TTFT "
            f"{mean[2]:.1%} -> {mean[3]:.1%}; TPOT better in {better} of {len(table)}"
        )
    print(f"the report says that it helps in {helped} of {len(many)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
