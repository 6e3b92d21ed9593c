"""How far constants differ from place to place: constants/priors.yaml, what a calibration is drawn by.

    python -m pdplan.calibration.priors --runs RUNS.csv -o pdplan/constants/priors.yaml

A linear mixed model over the runs that the engine constants were fitted to: every group (an engine on an
accelerator, a model, an accelerator) has its own logarithm of a constant, drawn from a normal distribution
around the shipped one; expectation and maximisation find its width, and the noise of single runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdplan.calibrated import PRIORS
from pdplan.calibration.effects import (
    OBSERVED,
    Effect,
    effects_of,
    sensitivities,
    shipped_value,
)
from pdplan.calibration.mixed import Observations, posterior, weights
from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_yaml
from pdplan.efficiency import engine_file
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs

ROUNDS = 60
HEAD = """\
# How far engine constants differ between groups of the runs that they were fitted to, as the standard
# deviation of their logarithm: what `pdplan calibrate` takes for the prior of a user's own. Written by
# `python -m pdplan.calibration.priors`. `low` and `high` are what the constant may be.
"""
ASSUMED = """\
generic: {log_sd: 0.3, source: "assumed, not measured: for constants without a line above"}
interval: {runs: 10, source: "assumed, not measured: the shipped interval counts as this many own runs"}
"""


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Width of the prior, and the range, of a constant."""

    log_sd: float
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Priors by effect, the noise of a run by quantity, and the weight of the shipped error bars."""

    effects: Mapping[Effect, Prior]
    generic: Prior
    noise: Mapping[str, float]
    interval_runs: float

    def of(self, effect: Effect) -> Prior:
        return self.effects.get(effect, self.generic)


def read_priors(path: Path = PRIORS) -> Priors:
    data = read_yaml(path).data
    return Priors(
        effects={
            Effect(scope, name): Prior(**{k: float(v) for k, v in entry.items() if k != "groups"})
            for scope, block in data["effects"].items()
            for name, entry in block.items()
        },
        generic=Prior(log_sd=float(data["generic"]["log_sd"])),
        noise={k: float(v) for k, v in data["noise"].items()},
        interval_runs=float(data["interval"]["runs"]),
    )


def _group(effect: Effect, run: Run) -> str:
    """Whose constant it is in the fit of widths: engines and benchmarks by accelerator."""
    own = effect.owner(run)
    return f"{own} on {run.hardware}" if effect.scope in ("engines", "benchmarks") else own


@dataclass(frozen=True, kw_only=True)
class Widths:
    """What expectation and maximisation found."""

    log_sd: Mapping[Effect, float]
    groups: Mapping[Effect, int]
    noise: Mapping[str, float]


def fit_widths(runs: list[Run], catalog: Catalog, document: Mapping[str, Any]) -> Widths:
    """Standard deviations between groups, and the noise, by expectation and maximisation."""
    effects = effects_of(document, runs)
    generation = [catalog.accelerator(r.hardware).generation for r in runs]
    values: dict[Effect, dict[str, float]] = {e: {} for e in effects}
    for effect in effects:
        for run, name in zip(runs, generation, strict=True):
            values[effect].setdefault(effect.owner(run), shipped_value(effect, run, name, document))
    target, slopes = sensitivities(runs, catalog, document, effects, values)
    columns, owners = [], []
    for at, effect in enumerate(effects):
        groups = np.array([_group(effect, run) for run in runs] * len(OBSERVED))
        for group in sorted(set(groups)):
            column = np.where(groups == group, slopes[effect], 0.0)
            if np.nanmax(np.abs(column)) > 1e-3:
                columns.append(column)
                owners.append(at)
    seen = np.isfinite(target)
    kind = np.repeat(np.arange(len(OBSERVED)), len(runs))[seen]
    design, of = np.array(columns).T[seen], np.array(owners)
    weight = np.tile(weights(runs), len(OBSERVED))[seen]
    spread, noise = np.full(len(effects), 0.3), np.array([0.1, 0.3])
    for _ in range(ROUNDS):
        data = Observations(design=design, target=target[seen], noise=noise[kind], weight=weight)
        found = posterior(data, spread[of])
        second = found.mean**2 + found.variance
        spread = np.array(
            [np.sqrt(second[of == k].mean()) if (of == k).any() else s for k, s in enumerate(spread)]
        )
        left = np.abs(data.target - design @ found.mean)
        noise = np.array([1.4826 * np.median(left[kind == k]) for k in range(len(OBSERVED))])
    return Widths(
        log_sd={e: float(spread[k]) for k, e in enumerate(effects) if (of == k).any()},
        groups={e: int(np.count_nonzero(of == k)) for k, e in enumerate(effects)},
        noise=dict(zip(OBSERVED, map(float, noise), strict=True)),
    )


def write_priors(path: Path, found: Widths, ranges: Mapping[str, tuple[float, float]]) -> None:
    """The file, effects by scope; `ranges` by the constant's name."""
    lines = [HEAD.rstrip(), "effects:"]
    scope = ""
    for effect, width in sorted(found.log_sd.items()):
        if effect.scope != scope:
            scope = effect.scope
            lines.append(f"  {scope}:")
        facts = [f"log_sd: {width:.3g}", f"groups: {found.groups[effect]}"]
        if effect.name in ranges and effect.scope in ("engines", "benchmarks"):
            low, high = ranges[effect.name]
            facts += [f"low: {low:g}", f"high: {high:g}"]
        lines.append(f"    {effect.name}: {{{', '.join(facts)}}}")
    noise = ", ".join(f"{k}: {v:.3g}" for k, v in found.noise.items())
    lines += [f"noise: {{{noise}}}", ASSUMED.rstrip()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    from pdplan.calibration.engine_fit import STEP
    from pdplan.calibration.engine_parts import doubtful
    from pdplan.calibration.engine_ttft import TTFT

    parser = argparse.ArgumentParser(
        prog="python -m pdplan.calibration.priors", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--runs", type=Path, required=True, help="measured runs, see docs/measured-runs.md")
    parser.add_argument("-o", "--output", type=Path, help="priors.yaml to write")
    options = parser.parse_args(arguments)
    runs = read_runs(options.runs, Catalog())
    doubts = doubtful(runs)
    sound = [run for i, run in enumerate(runs) if i not in doubts]
    found = fit_widths(sound, Catalog(), engine_file())
    for effect, width in sorted(found.log_sd.items()):
        sys.stdout.write(f"{effect.scope}.{effect.name:30} {width:.3f}  {found.groups[effect]} groups\n")
    sys.stdout.write(f"noise {found.noise}\n")
    if options.output:
        # Of shares and counts: what a time may be, another host may exceed.
        ranges = {
            c.path[-1]: (c.low, c.high)
            for c in (*STEP, *TTFT)
            if c.path[0] != "generations" and not c.path[-1].endswith("_s")
        }
        write_priors(options.output, found, ranges)
    return 0


if __name__ == "__main__":
    sys.exit(main())
