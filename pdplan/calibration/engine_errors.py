"""Error bars from residuals: constants/errors.yaml, written by the fit of the engine constants.

For every kind of ground (pdplan.uncertainty) groups of runs are left out in turn, constants fitted to
the rest, and measured/predicted of the group kept (pdplan.calibration.left_out). What ships are
quantiles of that, as pdplan.calibration.error_cells makes them.

How much such quantiles are worth is cross-validated once more, nested: for every group, constants,
quantiles, W and S are found without it (each of the other groups left out beside it), and the share of its
runs inside the 80 % interval is counted: `blind`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdplan.calibration.engine_fit import Sample
from pdplan.calibration.error_cells import LEVELS, Cell, Errors, cells, class_masks, class_widths, widest
from pdplan.calibration.left_out import LeftOut, Ratios, WithoutTables, left_out, maker_folds, run_folds
from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_text
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import QUANTITIES
from pdplan.measured.run import Run
from pdplan.uncertainty import FITTED_RUNS

MODES = ("colocated", "disaggregated")
HEAD = """\
# How far measurements stood from predictions: quantiles of measured/predicted of plain runs at `levels`,
# by what of a prediction's ground took part in the fit (pdplan/uncertainty.py), and how much wider errors
# of `classes` of runs are, in the logarithm. Written by `python -m pdplan.calibration.engines --runs
# RUNS.csv --errors errors.yaml`; how, stands in pdplan/calibration/error_cells.py. `groups` were left out
# in turn, and predicted with `median_error` |predicted/measured - 1|; of their runs the share `blind` lay
# inside the 80 % interval of constants, quantiles and widths found without them (`blind_groups`: a group
# weighing as the square root of its runs), which reached a factor of exp(`half_width`) to each side in the
# median and scored `score` (its whole width in the logarithm, and ten times what runs lie outside by, on
# average). `differ` says how much groups of the kind differ, `stretch` what that made of the quantiles.
"""

FINGERPRINTS_HEAD = """\
# Runs that constants/engines.yaml and errors.yaml were fitted to: `Run.fingerprint` of each. Written beside
# errors.yaml."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the file holds."""

    classes: dict[tuple[str, str], dict[str, float]]
    quantiles: dict[str, dict[tuple[str, str], Cell]]


def found_errors(data: Sample, document: Mapping[str, Any], catalog: Catalog) -> Found:
    """Class widths by mode and quantity; cells by kind of ground, mode and quantity: some 110 fits."""
    tables = accelerators_with_tables()
    by = {k: np.array([getattr(r, k) for r in data.runs]) for k in ("model", "hardware", "engine", "mode")}
    everything = np.ones(len(data.runs), dtype=bool)
    sweeps = left_out(data, catalog, document, run_folds(data.runs))
    makers = maker_folds(data, lambda name: name in tables, document)
    hidden = WithoutTables(tables)
    kinds = {
        "run": (sweeps, everything),
        "model": (left_out(data, catalog, document, by["model"]), everything),
        "accelerator": (
            left_out(data, catalog, document, by["hardware"]),
            np.isin(by["hardware"], tables),
        ),
        "no-tables": (left_out(data, hidden, document, makers), everything),
        "engine": (left_out(data, catalog, document, by["engine"]), everything),
    }
    quantiles = {}
    for kind, (found, where) in kinds.items():
        quantiles[kind] = cells(
            {
                (mode, q): errors_of(found, sweeps.own, data.runs, tables, q, where & (by["mode"] == mode))
                for mode in MODES
                for q in QUANTITIES
            }
        )
    classes = {
        (mode, q): class_widths(
            np.where(by["mode"] == mode, np.log(sweeps.own.of[q]), np.nan),
            class_masks(data.runs, tables, sweeps.own.loaded, q),
        )
        for mode in MODES
        for q in QUANTITIES
    }
    return Found(classes=classes, quantiles=quantiles)


def errors_of(
    found: LeftOut, sweeps: Ratios, runs: Sequence[Run], tables: Sequence[str], quantity: str, where: Array
) -> Errors:
    """One cell's errors; classes are as wide as among runs whose sweeps were left out, without each group."""
    learning = np.where(where, np.log(sweeps.of[quantity]), np.nan)
    masks = class_masks(runs, tables, sweeps.loaded, quantity)

    def logs_and_widths(ratios: Ratios, learnt: Array) -> tuple[Array, Array]:
        widths = class_widths(learnt, masks)
        own = class_masks(runs, tables, ratios.loaded, quantity)
        return np.where(where, np.log(ratios.of[quantity]), np.nan), widest(widths, own)

    def without(name: str) -> tuple[Array, Array]:
        others = found.names != name
        logs, _ = logs_and_widths(found.without[name], learning)
        # The group's own rows stand in the table of those left out.
        ratios = Ratios(
            of=found.own.of, loaded=np.where(others, found.without[name].loaded, found.own.loaded)
        )
        _, wide = logs_and_widths(ratios, np.where(others, learning, np.nan))
        return logs, wide

    own, wide = logs_and_widths(found.own, learning)
    return Errors(
        own=own, wide=wide, names=found.names, without={name: without(name) for name in found.without}
    )


# ------------------------------------------------------------------------ the file


def write_errors(path: Path, data: Sample, catalog: Catalog, document: Mapping[str, Any]) -> None:
    """Write class widths and the quantiles of every kind, mode and quantity: a few minutes."""
    tables = accelerators_with_tables()
    measured = {r.hardware for r in data.runs}
    generations = set(data.generation)
    relatives = [a.name for a in catalog.accelerators() if a.generation in generations]
    lines = [HEAD.rstrip(), "measured:"]
    for name, values in (
        ("models", {r.model for r in data.runs}),
        ("accelerators", measured),
        ("engines", {r.engine for r in data.runs}),
    ):
        lines.append(f"  {name}: [{', '.join(sorted(values))}]")
    lines += [
        f"with_tables: [{', '.join(sorted(tables))}]",
        "# without tables or runs of their own, of a generation that was measured",
        f"relatives: [{', '.join(sorted(set(relatives) - measured - set(tables)))}]",
        f"levels: [{', '.join(str(p) for p in LEVELS)}]",
        "classes:",
    ]
    found = found_errors(data, document, catalog)
    for mode in MODES:
        lines.append(f"  {mode}:")
        for quantity in QUANTITIES:
            widths = ", ".join(f"{k}: {v:.3g}" for k, v in found.classes[mode, quantity].items())
            lines.append(f"    {quantity}: {{{widths}}}")
    lines.append("quantiles:")
    for kind, table in found.quantiles.items():
        lines.append(f"  {kind}:")
        for mode in MODES:
            lines.append(f"    {mode}:")
            lines += [f"      {quantity}: {table[mode, quantity].text}" for quantity in QUANTITIES]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_fingerprints(path.parent / FITTED_RUNS, data.runs)


def write_fingerprints(path: Path, runs: list[Run]) -> None:
    """Which runs constants and error bars rest on, so that `validate` can tell them from new ones."""
    marks = sorted({run.fingerprint for run in runs})
    rows = [" ".join(marks[i : i + 12]) for i in range(0, len(marks), 12)]
    path.write_text("\n".join([FINGERPRINTS_HEAD, *rows]) + "\n", encoding="utf-8")


def accelerators_with_tables() -> list[str]:
    """Accelerators whose GEMM and decode attention were measured as kernels."""
    kernels = json.loads(read_text(CONSTANTS_DIRECTORY / "kernels.json"))
    return [
        n for n, block in kernels["accelerators"].items() if "gemm" in block and "decode_attention" in block
    ]
