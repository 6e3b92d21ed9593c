"""What `validate` says: errors by group, coverage, choice regret, and how well the error bars hold."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pdplan.calibrated import Calibration
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import (
    QUANTITIES,
    ErrorSummary,
    Residuals,
    choice_regret,
    residuals,
    summaries,
)
from pdplan.measured.intervals import Inside, inside_intervals, interval, is_fitted
from pdplan.measured.predict import Predictions
from pdplan.measured.run import Run
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Verbatim, table
from pdplan.report.contract import header
from pdplan.report.pictures.scatter import Cloud, clouds, terminal_scatter
from pdplan.report.words import counted

COLUMNS: dict[str, Callable[[Run], Any]] = {
    "model": lambda r: r.model,
    "hardware": lambda r: r.hardware,
    "engine": lambda r: r.engine,
    "engine_version": lambda r: r.engine_version,
    "precision": lambda r: r.precision,
    "kv_precision": lambda r: r.kv_precision,
    "mode": lambda r: r.mode,
    "spec": lambda r: r.spec,
    "drafted": lambda r: r.drafted,
    "source": lambda r: r.source,
    "date": lambda r: r.date[:7],
    "isl": lambda r: f"{r.isl:g}",
    "osl": lambda r: f"{r.osl:g}",
    "length_spread": lambda r: f"{r.length_spread:g}",
    "concurrency": lambda r: "" if r.open_loop else f"{r.concurrency:g}",
    "rate": lambda r: f"{r.rate:g}" if r.open_loop else "",
    "prefix_reuse": lambda r: f"{r.prefix_reuse:g}",
    "arrival_cv": lambda r: f"{r.arrival_cv:g}" if r.open_loop else "",
    "gpus": lambda r: r.gpus,
    "workers": lambda r: r.decode.workers,
    "tp": lambda r: r.decode.tp,
    "pp": lambda r: r.decode.pp,
    "dp": lambda r: r.decode.dp,
    "ep": lambda r: r.decode.ep,
    "prefill_hardware": lambda r: r.prefill.hardware if r.prefill else "",
    "prefill_workers": lambda r: r.prefill.workers if r.prefill else 0,
    "prefill_tp": lambda r: r.prefill.tp if r.prefill else 0,
    "prefill_pp": lambda r: r.prefill.pp if r.prefill else 0,
    "prefill_dp": lambda r: r.prefill.dp if r.prefill else 0,
    "prefill_ep": lambda r: r.prefill.ep if r.prefill else 0,
}
"""What `--by` can group by."""
_TITLES = {"tpot": "TPOT", "ttft": "TTFT", "tok_per_s_per_gpu": "tokens/s/GPU"}


MOST_REASONS = 8
PLOTTED = {"tpot": "TPOT", "ttft": "TTFT"}
"""Quantities that `--plot` shows."""


def columns_from(text: str | None) -> tuple[str, ...]:
    """The columns that `--by` names; InputError for one that there is not."""
    given = (name.strip() for name in (text or "").split(",") if name.strip())
    names = tuple(dict.fromkeys(given)) or ("mode",)
    for name in names:
        if name not in COLUMNS:
            close = nearest(name, COLUMNS)
            hint = f"; did you mean {quoted_list(close)}?" if close else ""
            raise InputError(f"--by: '{name}' is no column{hint} (one of {', '.join(COLUMNS)})")
    return names


def validation_report(
    runs: Sequence[Run],
    predictions: Predictions,
    names: Sequence[str],
    catalog_sha256: str,
    calibration: Calibration | None = None,
    *,
    plotted: bool = False,
) -> Report:
    """The report over runs and their predictions, grouped by columns of the run table.

    `plotted`: with predicted against measured in characters.
    """
    found = residuals(runs, predictions)
    groups = summaries(runs, found, lambda r: tuple(COLUMNS[name](r) for name in names))
    everything = summaries(runs, found, lambda r: ())[()]
    regret = choice_regret(runs, predictions)
    inside, fitted = inside_intervals(runs, found, predictions.loaded, calibration), is_fitted(runs)
    counts = Counter(r for r in predictions.reasons if r)
    reasons = sorted(counts)
    missed = predictions.missed
    seen = Counter(run.id for run in runs)
    twice = [name for name, count in seen.items() if count > 1]
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "rows": len(runs),
        "predicted_rows": len(runs) - missed,
        "by": list(names),
        **({"calibration": {"path": calibration.path, "sha256": calibration.sha256}} if calibration else {}),
        "all": _errors_json(everything),
        "groups": [
            {**dict(zip(names, key, strict=True)), **_errors_json(entry)} for key, entry in groups.items()
        ],
        "choice_regret": {k: _plain(v) for k, v in asdict(regret).items()},
        "fitted_rows": int(fitted.sum()),
        "inside_80_percent_interval": {q: _plain(v) for q, v in inside.shares().items()},
        "inside_80_percent_interval_of_new_rows": {q: _plain(v) for q, v in inside.shares(~fitted).items()},
        "reach_of_80_percent_interval": {q: _plain(inside.usual_reach(q)) for q in QUANTITIES},
        "reasons": reasons,
        "assumed": predictions.assumed,
        "repeated_ids": twice,
    }
    records = tuple(
        {
            **dict(zip(names, key, strict=True)),
            **{f"{q}_{k}": v for q, s in entry.items() for k, v in _summary_json(s).items()},
        }
        for key, entry in groups.items()
    )
    blocks = [
        *_blocks(runs, names, groups, everything, regret, missed),
        *_intervals(runs, inside, fitted),
        *([Bullets(title="Not predicted, or in part", items=_reasons(counts))] if reasons else []),
        *([Bullets(title="Assumed", items=tuple(predictions.assumed))] if predictions.assumed else []),
        *([Paragraph(f"{_repeated(twice)} stands on several lines: each is counted")] if twice else []),
    ]
    if plotted:
        panels = scatter_panels(runs, found, names[0])
        blocks[1:1] = [Verbatim(terminal_scatter(groups, name)) for name, groups in panels.items() if groups]
    return Report(
        blocks=tuple(blocks),
        data=data,
        records=records,
    )


def predictions_csv(
    runs: Sequence[Run], predictions: Predictions, calibration: Calibration | None = None
) -> str:
    """One line a run: mean TPOT and TTFT with their 80 % intervals, tokens/s/GPU, or why not."""
    columns = ["id"]
    values: list[Any] = []
    for quantity, predicted in (("tpot", predictions.tpot_mean_s), ("ttft", predictions.ttft_mean_s)):
        bars = interval(quantity, runs, predicted, predictions.loaded, calibration)
        values += [predicted, bars.low, bars.high]
        columns += [f"predicted_{quantity}_{kind}_s" for kind in ("mean", "low", "high")]
    values.append(predictions.total_tok_per_s_per_gpu)
    columns += ["predicted_total_tok_per_s_per_gpu", "reason"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for i, run in enumerate(runs):
        numbers = ["" if math.isnan(v[i]) else f"{v[i]:.6g}" for v in values]
        writer.writerow([run.id, *numbers, predictions.reasons[i]])
    return out.getvalue()


# ------------------------------------------------------------------------ inside


def _blocks(
    runs: Sequence[Run],
    names: Sequence[str],
    groups: dict[Any, dict[str, ErrorSummary]],
    everything: dict[str, ErrorSummary],
    regret: Any,
    missed: int,
) -> list[Block]:
    parts = [f"{_TITLES[q]} {_percent(everything[q].median)}" for q in QUANTITIES]
    blocks: list[Block] = [
        Headline(
            f"{counted(len(runs), 'run')}, {len(runs) - missed:,} predicted; median error {', '.join(parts)}"
        )
    ]
    for quantity in QUANTITIES:
        rows = [
            (
                *(str(part) for part in key),
                f"{s.rows:,}",
                _percent(s.coverage, 0),
                _percent(s.median),
                _percent(s.mean),
                _percent(s.p90),
                _percent(s.signed, sign=True),
            )
            for key, entry in groups.items()
            if (s := entry[quantity]).rows
        ]
        title = f"Error of {_TITLES[quantity]}"
        if not rows:
            blocks.append(Paragraph("no run has a measurement that counts", title=title))
            continue
        heads = "|".join(
            [*(f"+{name}" for name in names), ">runs", ">covered", ">median", ">mean", ">p90", ">signed"]
        )
        blocks.append(table(title, heads, rows))  # type: ignore[arg-type]
    if regret.choices:
        text = (
            f"{regret.choices:,} choices by prediction lose {_percent(regret.median)} of the best measured "
            f"tokens/s/GPU in the median, {_percent(regret.mean)} on average."
        )
        blocks.append(Paragraph(text, title="Choice regret"))
    return blocks


def _reasons(counts: Counter[str]) -> tuple[str, ...]:
    """Why runs are not predicted, the most frequent reasons first."""
    shown = [f"{counted(n, 'run')}: {reason}" for reason, n in counts.most_common(MOST_REASONS)]
    more = len(counts) - len(shown)
    return (*shown, *((f"and {counted(more, 'other reason')}",) if more > 0 else ()))


def _repeated(ids: Sequence[str]) -> str:
    more = f" and {counted(len(ids) - 1, 'other id')}" if len(ids) > 1 else ""
    return f"the id '{ids[0]}'{more}"


def _intervals(runs: Sequence[Run], inside: Inside, fitted: Array) -> list[Block]:
    """How many measurements their 80 % intervals hold, and how far these reach, by mode, apart for runs that
    were fitted and new ones."""
    modes = np.array([run.mode for run in runs])
    parts = [
        (f"{name}, {mode}", where & (modes == mode))
        for name, where in (("fitted", fitted), ("new", ~fitted))
        for mode in sorted(set(modes))
    ]
    rows: list[tuple[Cell | str, ...]] = [
        (name, f"{np.count_nonzero(where):,}", *(_held(inside, q, where) for q in QUANTITIES))
        for name, where in parts
        if where.any()
    ]
    heads = "|".join(["runs", ">count", *(f">{_TITLES[q]}" for q in QUANTITIES)])
    words = "none of these runs took part in the fit: errors and coverage are those of new ground"
    if fitted.all():
        words = (
            "all of these runs took part in the fit of constants and error bars, so errors and coverage are "
            "in-sample; docs/confidence.md has what is left of them on runs left out"
        )
    elif fitted.any():
        words = (
            f"{np.count_nonzero(fitted):,} of {fitted.size:,} runs took part in the fit of constants and "
            "error bars: the errors above are partly in-sample"
        )
    title = "Measurements inside the 80 % interval, and how far it reaches to each side"
    return [table(title, heads, rows), Paragraph(words)]


def _held(inside: Inside, quantity: str, where: Array) -> str:
    reach = inside.usual_reach(quantity, where)
    return f"{_percent(inside.share(quantity, where), 0)}{'' if math.isnan(reach) else f', ×{reach:.2f}'}"


def scatter_panels(runs: Sequence[Run], found: Residuals, by: str) -> dict[str, list[Cloud]]:
    """The clouds of each plotted quantity, by its title."""
    return {title: clouds(runs, found, quantity, COLUMNS[by]) for quantity, title in PLOTTED.items()}


def _errors_json(entry: dict[str, ErrorSummary]) -> dict[str, Any]:
    return {quantity: _summary_json(summary) for quantity, summary in entry.items()}


def _summary_json(summary: ErrorSummary) -> dict[str, Any]:
    found = asdict(summary)
    return {
        "rows": found["rows"],
        "coverage": _plain(found["coverage"]),
        "median_error": _plain(found["median"]),
        "mean_error": _plain(found["mean"]),
        "p90_error": _plain(found["p90"]),
        "median_signed_error": _plain(found["signed"]),
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _percent(value: float, digits: int = 1, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "n/a"
    return f"{value * 100:{'+' if sign else ''}.{digits}f} %"
