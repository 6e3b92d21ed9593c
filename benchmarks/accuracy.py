"""How far predictions are off, as the README tells it: `python benchmarks/accuracy.py RUNS.csv`.

Errors on the runs that constants were fitted to are those that `pdplan validate --format json` prints;
those with something left out stand in constants/errors.yaml, which the cross-validation wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

QUANTITIES = {"tpot": "TPOT", "ttft": "TTFT", "tok_per_s_per_gpu": "tokens/s/GPU"}
MODES = ("colocated", "disaggregated")
LEFT_OUT = {
    "run": "sweep",
    "model": "model",
    "accelerator": "NVIDIA accelerator",
    "no-tables": "AMD accelerator",
    "engine": "engine",
}
"""By kind of cross-validation; AMD's accelerators are those without kernel tables."""


def tables(path: Path) -> str:
    """Two Markdown tables, by what was left out and by accelerator, and the regret of choosing by them."""
    from pdplan.catalog.store import Catalog
    from pdplan.measured.predict import predict
    from pdplan.measured.runs import read_runs
    from pdplan.report.validation import validation_report

    runs, catalog = read_runs(path), Catalog()
    found = predict(runs, catalog)
    by_mode, by_both = (
        validation_report(runs, found, by, "").data for by in (("mode",), ("mode", "hardware"))
    )
    fitted = {group["mode"]: group for group in by_mode["groups"]}
    return "\n".join([*_left_out(fitted), "", *_by_accelerator(by_both["groups"]), "", _regret(by_mode)])


def _left_out(fitted: Mapping[str, Any]) -> list[str]:
    from pdplan.uncertainty import left_out

    lines = [
        f"| median error | runs | all fitted | {' | '.join(f'{x} left out' for x in LEFT_OUT.values())} |",
        f"|---|---|---|{'---|' * len(LEFT_OUT)}",
    ]
    for quantity, title in QUANTITIES.items():
        for mode in MODES:
            group = fitted[mode][quantity]
            cells = [_percent(left_out(kind, mode, quantity)["median_error"]) for kind in LEFT_OUT]
            numbers = " | ".join([f"{group['rows']:,}", _percent(group["median_error"]), *cells])
            lines.append(f"| {title}, {mode} | {numbers} |")
    return lines


def _by_accelerator(groups: list[dict[str, Any]]) -> list[str]:
    heads = " | ".join(f"{title} median, p90" for title in QUANTITIES.values())
    lines = [f"| all fitted, by accelerator | runs | {heads} |", f"|---|---|{'---|' * len(QUANTITIES)}"]
    for group in groups:
        cells = [
            f"{_percent(group[q]['median_error'])}, {_percent(group[q]['p90_error'])}" for q in QUANTITIES
        ]
        numbers = " | ".join([f"{group['tpot']['rows']:,}", *cells])
        lines.append(f"| {group['hardware']}, {group['mode']} | {numbers} |")
    return lines


def _regret(found: Mapping[str, Any]) -> str:
    regret = found["choice_regret"]
    return (
        f"Picking the best measured layout by prediction ({regret['choices']:,} choices) loses "
        f"{_percent(regret['median'])} of tokens/s/GPU in the median, "
        f"{_percent(regret['mean'])} on average."
    )


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


if __name__ == "__main__":
    print(tables(Path(sys.argv[1])))
