"""How far predictions are off, as README and docs tell it: `python benchmarks/accuracy.py RUNS.csv`.

Prints the tables that stand between comments in the pages (`<!-- errors: begin -->`): errors in the
README, groups in docs/accuracy.md, ttft in docs/measured-runs.md, coverage and classes in
docs/confidence.md. Errors on the runs that constants were fitted to are those that `pdplan validate
--format json` prints; those with something left out stand in constants/errors.yaml, which the
cross-validation wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pdplan.measured.accuracy import Residuals
    from pdplan.measured.run import Run

QUANTITIES = {"tpot": "TPOT", "ttft": "TTFT", "tok_per_s_per_gpu": "tokens/s/GPU"}
MODES = ("colocated", "disaggregated")
LEFT_OUT = {
    "run": "sweep",
    "model": "model",
    "accelerator": "NVIDIA accelerator",
    "no-tables": "generation and its tables",
    "engine": "engine",
}
"""By kind of cross-validation; AMD's generations, which have no kernel tables, are one."""
WARMED_UP_SINCE = "2026-01-28"
"""From here on the publisher's benchmark sends requests before it measures."""
GROUPS = 18
"""Of the groups with most of the error, so many are shown."""


def blocks(path: Path) -> dict[str, str]:
    """The Markdown of each page's tables, by the name in its comments."""
    from pdplan.calibration.engine_parts import doubtful
    from pdplan.catalog.store import Catalog
    from pdplan.measured.accuracy import residuals
    from pdplan.measured.predict import predict
    from pdplan.measured.runs import read_runs
    from pdplan.report.validation import validation_report

    runs, catalog = read_runs(path), Catalog()
    found = predict(runs, catalog)
    by_mode, by_both = (
        validation_report(runs, found, by, "").data for by in (("mode",), ("mode", "hardware"))
    )
    fitted = {group["mode"]: group for group in by_mode["groups"]}
    errors = [*_left_out(fitted), "", *_by_accelerator(by_both["groups"]), "", _regret(by_mode)]
    off = residuals(runs, found)
    return {
        "errors": "\n".join(errors),
        "groups": "\n".join(_groups(runs, off, doubtful(runs))),
        "ttft": "\n".join(_ttft(runs, off)),
        "coverage": "\n".join(_coverage()),
        "classes": "\n".join(_classes()),
    }


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


GROUND = {
    "run": "sweeps",
    "model": "models",
    "accelerator": "NVIDIA accelerators",
    "no-tables": "generations, their kernel tables hidden",
    "engine": "engines",
}
"""What is left out, group by group, as docs/confidence.md calls it."""


def _coverage() -> Iterator[str]:
    """Coverage and width of the 80 % intervals found without the runs that they are held against."""
    from pdplan.uncertainty import left_out

    columns = [(quantity, mode) for quantity in QUANTITIES for mode in MODES]
    yield f"| left out | groups | {' | '.join(f'{QUANTITIES[q]}, {mode}' for q, mode in columns)} |"
    yield f"|---|---|{'---|' * len(columns)}"
    for kind, title in GROUND.items():
        some = [left_out(kind, mode, quantity) for quantity, mode in columns]
        groups = sorted({int(cell["groups"]) for cell in some})
        counts = " to ".join(str(count) for count in (groups if len(groups) < 2 else (groups[0], groups[-1])))
        found = [f"{100 * cell['blind']:.0f} %, ×{np.exp(cell['half_width']):.2f}" for cell in some]
        yield f"| {title} | {counts} | {' | '.join(found)} |"


def _classes() -> Iterator[str]:
    """How many times as wide errors of classes of runs are."""
    from pdplan.uncertainty import CLASSES, class_table

    columns = [(quantity, mode) for quantity in QUANTITIES for mode in MODES]
    yield f"| errors | {' | '.join(f'{QUANTITIES[q]}, {mode}' for q, mode in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for name, title in CLASSES.items():
        widths = [class_table(mode, quantity)[name] for quantity, mode in columns]
        yield f"| {title} | {' | '.join(f'{width:.1f}' for width in widths)} |"


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


def _groups(runs: Sequence[Run], off: Residuals, doubts: Mapping[int, str]) -> Iterator[str]:
    """The groups with most of the absolute error of TPOT."""
    size, sure = np.abs(off.tpot), np.array([i not in doubts for i in range(len(runs))])
    of = {mode: np.array([r.mode == mode for r in runs]) & sure for mode in MODES}
    one, two = (
        f"{_percent(np.nanmedian(size[of[m]]))} in the median and "
        f"{_percent(np.nanmean(size[of[m]]))} on average {m}"
        for m in MODES
    )
    yield f"Runs that are not named doubtful miss TPOT by {one}, by {two}. The groups with most of the error:"
    yield ""
    heads = ("mode", "engine", "accelerator", "model", "precision", "runs (doubtful)", "median", "signed")
    yield f"| {' | '.join(heads)} | share of all error |"
    yield f"|{'---|' * (len(heads) + 1)}"
    members: dict[tuple[str, ...], list[int]] = {}
    for i, r in enumerate(runs):
        if np.isfinite(size[i]):
            members.setdefault((r.mode, r.engine, r.hardware, r.model, r.precision), []).append(i)
    total = float(np.nansum(size))
    for key, many in sorted(members.items(), key=lambda item: -size[item[1]].sum())[:GROUPS]:
        numbers = (
            f"{len(many)} ({sum(i in doubts for i in many)})",
            _percent(np.median(size[many])),
            _signed(np.median(off.tpot[many])),
            _percent(size[many].sum() / total),
        )
        yield f"| {' | '.join((*key, *numbers))} |"


def _ttft(runs: Sequence[Run], off: Residuals) -> Iterator[str]:
    """Errors of TTFT by what sets runs apart."""
    yield "| runs | number | median error | signed |"
    yield "|---|---|---|---|"
    colocated: dict[str, Callable[[Run], bool]] = {
        "InferenceX since it sends requests to warm up (28 January 2026), mean published": lambda r: (
            _inferencex(r) and r.date >= WARMED_UP_SINCE and not np.isnan(r.ttft_mean_s)
        ),
        "the same, only the median published": lambda r: (
            _inferencex(r) and r.date >= WARMED_UP_SINCE and np.isnan(r.ttft_mean_s)
        ),
        "InferenceX before that": lambda r: _inferencex(r) and r.date < WARMED_UP_SINCE,
        "sweeps of fixed lengths": lambda r: not _inferencex(r),
    }
    yield from _rows(runs, off, colocated, "colocated")
    for mode in MODES:
        names = sorted({r.engine for r in runs if r.mode == mode})
        yield from _rows(runs, off, {name: partial(_under, name) for name in names}, mode)


def _under(engine: str, run: Run) -> bool:
    return run.engine == engine


def _rows(
    runs: Sequence[Run], off: Residuals, chosen: Mapping[str, Callable[[Run], bool]], mode: str
) -> Iterator[str]:
    for title, belongs in chosen.items():
        mine = np.array([r.mode == mode and belongs(r) for r in runs]) & np.isfinite(off.ttft)
        found = off.ttft[mine]
        if found.size:
            cells = f"{found.size:,} | {_percent(np.median(np.abs(found)))} | {_signed(np.median(found))}"
            yield f"| {title}, {mode} | {cells} |"


def _inferencex(run: Run) -> bool:
    return run.source == "inferencex"


def _signed(share: float) -> str:
    return f"{share * 100:+.1f} %"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


if __name__ == "__main__":
    for name, text in blocks(Path(sys.argv[1])).items():
        print(f"<!-- {name}: begin -->\n{text}\n<!-- {name}: end -->")
