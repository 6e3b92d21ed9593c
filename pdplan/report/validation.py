"""What `validate` says: errors by group, coverage, choice regret, and how well the error bars hold."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pdplan.calibrated import Calibration
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.measured.accuracy import QUANTITIES, ErrorSummary, choice_regret, residuals, summaries
from pdplan.measured.intervals import covered, interval
from pdplan.measured.predict import Predictions
from pdplan.measured.runs import Run
from pdplan.report.blocks import Block, Bullets, Headline, Paragraph, Report, table
from pdplan.report.contract import header

COLUMNS: dict[str, Callable[[Run], Any]] = {
    "model": lambda r: r.model,
    "hardware": lambda r: r.hardware,
    "engine": lambda r: r.engine,
    "engine_version": lambda r: r.engine_version,
    "precision": lambda r: r.precision,
    "mode": lambda r: r.mode,
    "spec": lambda r: r.spec,
    "source": lambda r: r.source,
    "date": lambda r: r.date[:7],
    "isl": lambda r: f"{r.isl:g}",
    "osl": lambda r: f"{r.osl:g}",
    "concurrency": lambda r: f"{r.concurrency:g}",
    "tp": lambda r: r.decode.tp,
    "pp": lambda r: r.decode.pp,
    "dp": lambda r: r.decode.dp,
    "ep": lambda r: r.decode.ep,
}
"""What `--by` can group by."""
_TITLES = {"tpot": "TPOT", "ttft": "TTFT", "tok_per_s_per_gpu": "tokens/s/GPU"}


def validation_report(
    runs: Sequence[Run],
    predictions: Predictions,
    by: Sequence[str],
    catalog_sha256: str,
    calibration: Calibration | None = None,
) -> Report:
    """The report over runs and their predictions, grouped by columns of the run table."""
    names = tuple(by) or ("mode",)
    for name in names:
        if name not in COLUMNS:
            close = nearest(name, COLUMNS)
            hint = f"; did you mean {quoted_list(close)}?" if close else ""
            raise InputError(f"--by: '{name}' is no column{hint} (one of {', '.join(COLUMNS)})")
    found = residuals(runs, predictions)
    groups = summaries(runs, found, lambda r: tuple(COLUMNS[name](r) for name in names))
    everything = summaries(runs, found, lambda r: ())[()]
    regret = choice_regret(runs, predictions)
    inside = covered(runs, predictions)
    reasons = sorted({r for r in predictions.reasons if r})
    missed = sum(1 for r in predictions.reasons if r)
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
        "inside_80_percent_interval": {q: _plain(v) for q, v in inside.items()},
        "reasons": reasons,
    }
    records = tuple(
        {
            **dict(zip(names, key, strict=True)),
            **{f"{q}_{k}": v for q, s in entry.items() for k, v in _summary_json(s).items()},
        }
        for key, entry in groups.items()
    )
    return Report(
        blocks=tuple(_blocks(runs, names, groups, everything, regret, inside, reasons, missed)),
        data=data,
        records=records,
    )


def predictions_csv(runs: Sequence[Run], predictions: Predictions) -> str:
    """One line a run: mean TPOT and TTFT with their 80 % intervals, tokens/s/GPU, or why not."""
    columns = ["id"]
    values: list[Any] = []
    for quantity, predicted in (("tpot", predictions.tpot_mean_s), ("ttft", predictions.ttft_mean_s)):
        bars = interval(quantity, runs, predicted)
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
    inside: dict[str, float],
    reasons: list[str],
    missed: int,
) -> list[Block]:
    parts = [f"{_TITLES[q]} {_percent(everything[q].median)}" for q in QUANTITIES]
    blocks: list[Block] = [
        Headline(f"{len(runs):,} runs, {len(runs) - missed:,} predicted; median error {', '.join(parts)}")
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
        heads = "|".join([*names, ">runs", ">covered", ">median", ">mean", ">p90", ">signed"])
        blocks.append(table(f"Error of {_TITLES[quantity]}", heads, rows))  # type: ignore[arg-type]
    if regret.choices:
        text = (
            f"{regret.choices:,} choices by prediction lose {_percent(regret.median)} of the best measured "
            f"tokens/s/GPU in the median, {_percent(regret.mean)} on average."
        )
        blocks.append(Paragraph(text, title="Choice regret"))
    bars = ", ".join(f"{_TITLES[q]} {_percent(inside[q], 0)}" for q in QUANTITIES)
    blocks.append(Paragraph(f"Of the measurements, inside the 80 % interval: {bars}.", title="Error bars"))
    if reasons:
        blocks.append(Bullets(title="Not predicted", items=tuple(reasons[:8])))
    return blocks


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
