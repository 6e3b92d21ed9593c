"""Fit engine constants to measured serving runs.

    python -m pdplan.calibration.engines --runs RUNS.csv -o pdplan/constants/engines.yaml
    python -m pdplan.calibration.engines --runs RUNS.csv --cross-validate

What is fitted, and how, stands in `pdplan.calibration.engine_fit`.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdplan.calibration.engine_errors import write_errors
from pdplan.calibration.engine_file import write_values
from pdplan.calibration.engine_fit import Sample, fit, sample
from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_yaml
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.measured.accuracy import choice_regret, residuals, summaries
from pdplan.measured.predict import Predictions, predict
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs


def held_out_predictions(
    data: Sample, catalog: Catalog, document: Mapping[str, Any], group: Callable[[Run], str]
) -> Predictions:
    """Each run predicted with constants fitted without any run of its group."""
    names = np.array([group(r) for r in data.runs])
    fields = ("tpot_mean_s", "ttft_mean_s", "ttft_median_s", "total_tok_per_s_per_gpu", "pool_load")
    table: dict[str, Any] = {f: np.full(len(data.runs), np.nan) for f in fields}
    for name in sorted(set(names)):
        out = np.flatnonzero(names == name)
        _, without = fit(data, document, names != name)
        found = predict([data.runs[i] for i in out], catalog, without)
        for f in fields:
            table[f][out] = getattr(found, f)
    return Predictions(**table, reasons=[""] * len(data.runs))


def report(title: str, runs: list[Run], predictions: Predictions) -> list[str]:
    """A table of errors by mode, and the regret."""
    lines = [title]
    for mode, by in summaries(runs, residuals(runs, predictions), lambda r: r.mode).items():
        for quantity, s in by.items():
            lines.append(
                f"  {mode:14} {quantity:18} {s.rows:5d} rows  {s.coverage:4.0%} covered  "
                f"{s.median:6.1%} median  {s.mean:6.1%} mean  {s.p90:6.1%} p90  {s.signed:+6.1%} signed"
            )
    regret = choice_regret(runs, predictions)
    lines.append(
        f"  choice regret over {regret.choices} choices: {regret.median:.1%} median, {regret.mean:.1%} mean"
    )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pdplan.calibration.engines", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=Path, required=True, help="measured runs, see docs/measured-runs.md")
    parser.add_argument("-o", "--output", type=Path, help="engines.yaml to write the constants into")
    parser.add_argument("--errors", type=Path, help="errors.yaml to write the error bars into")
    parser.add_argument(
        "--cross-validate", action="store_true", help="leave out each model, each accelerator"
    )
    options = parser.parse_args(arguments)
    catalog = Catalog()
    runs = read_runs(options.runs, catalog)
    path = CONSTANTS_DIRECTORY / "engines.yaml"
    document = dict(read_yaml(path).data)
    data = sample(runs, catalog, document)
    values, fitted = fit(data, copy.deepcopy(document))
    for key, entry in values.items():
        sys.stdout.write(f"{'.'.join(key):55} {entry['value']:g}\n")
    inside = predict(runs, catalog, fitted)
    lines = report(f"all {len(runs)} runs ({len(data.doubts)} of them named doubtful)", runs, inside)
    sys.stdout.write("\n".join(lines) + "\n")
    if options.output:
        write_values(path, options.output, values)
    if options.cross_validate:
        for name, group in (("model", lambda r: r.model), ("accelerator", lambda r: r.hardware)):
            found = held_out_predictions(data, catalog, document, group)
            sys.stdout.write("\n".join(report(f"each {name} left out in turn", runs, found)) + "\n")
    if options.errors:
        write_errors(options.errors, data, catalog, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
