"""What `calibrate` says: which constants moved, how much it helps on runs left out, what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pdplan.calibrated import SCOPES, Calibration, Improvement
from pdplan.measured.accuracy import QUANTITIES
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, table
from pdplan.report.contract import header

_TITLES = {"tpot": "TPOT", "ttft": "TTFT", "tok_per_s_per_gpu": "tokens/s/GPU"}
_OWNERS = {"engines": "engine", "accelerators": "accelerator", "models": "model", "benchmarks": "benchmark"}
_LEFT_OUT = {
    "deployment": "each deployment left out in turn",
    "run": "each run left out in turn",
    "nothing": "a single run: nothing to leave out",
}
MOST_BULLETS = 8


def calibration_report(
    calibration: Calibration, headline: str, catalog_sha256: str, notes: Sequence[str] = ()
) -> Report:
    """The report on a fitted calibration; `headline` says what it was fitted to."""
    keys = calibration.keys
    rows = [
        {
            "scope": _OWNERS[scope],
            "owner": owner,
            "constant": name,
            "shipped": found.shipped,
            "fitted": found.value,
            "factor": found.value / found.shipped,
            "prior_left": found.prior_left,
        }
        for scope in SCOPES
        for owner, block in getattr(keys, scope).items()
        for name, found in block.items()
    ]
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "calibration": calibration.path or None,
        "runs_used": keys.runs_used,
        "first_run": keys.first_run or None,
        "last_run": keys.last_run or None,
        "sources": [asdict(source) for source in keys.sources],
        "left_out": [asdict(entry) for entry in keys.left_out],
        "covers": [asdict(entry) for entry in keys.covers],
        "constants": rows,
        "cross_validation": {
            "left_out": keys.cross_validation.left_out,
            "helped": keys.cross_validation.helped,
            **{q: _improvement(getattr(keys.cross_validation, q)) for q in QUANTITIES},
        },
    }
    data["notes"] = list(notes)
    blocks = _blocks(calibration, headline, rows)
    if notes:
        blocks.append(Bullets(title="Notes", items=tuple(notes)))
    return Report(
        blocks=tuple(blocks),
        data=data,
        records=tuple(rows),
    )


# ------------------------------------------------------------------------ inside


def _improvement(found: Improvement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"runs": found.runs, "median_error_before": found.before, "median_error_after": found.after}


def _blocks(calibration: Calibration, headline: str, rows: list[dict[str, Any]]) -> list[Block]:
    keys = calibration.keys
    blocks: list[Block] = [Headline(headline)]
    constants: list[tuple[Cell | str, ...]] = [
        (
            f"{row['scope']} {row['owner']}",
            row["constant"],
            f"{row['shipped']:.3g}",
            f"{row['fitted']:.3g}",
            f"{(row['factor'] - 1) * 100:+.1f} %",
            f"{row['prior_left'] * 100:.0f} %",
        )
        for row in rows
    ]
    if constants:
        heads = "~of|constant|>shipped|>fitted|>change|>prior left"
        blocks.append(table("Constants that the runs tell of", heads, constants))
    else:
        blocks.append(Paragraph("The runs tell of no constant: all stay as shipped.", title="Constants"))
    found = [(q, got) for q in QUANTITIES if (got := getattr(keys.cross_validation, q)) is not None]
    errors: list[tuple[Cell | str, ...]] = [
        (
            _TITLES[quantity],
            f"{got.runs:,}",
            f"{got.before * 100:.1f} %",
            Cell(f"{got.after * 100:.1f} %", "good" if got.after < got.before else "bad"),
        )
        for quantity, got in found
    ]
    title = f"Median error, {_LEFT_OUT[keys.cross_validation.left_out]}"
    blocks.append(table(title, "quantity|>runs|>shipped constants|>calibrated", errors))
    blocks.append(Paragraph(_verdict(calibration), title="Does it help?"))
    if keys.left_out:
        items = [f"{entry.run}: {entry.reason}" for entry in keys.left_out[:MOST_BULLETS]]
        more = len(keys.left_out) - len(items)
        blocks.append(
            Bullets(title="Left out", items=(*items, *((f"and {more:,} more",) if more > 0 else ())))
        )
    return blocks


def _verdict(calibration: Calibration) -> str:
    keys = calibration.keys
    checked = keys.cross_validation
    if checked.left_out == "nothing":
        return "One run cannot say: nothing was left out to predict. Add runs of another load or layout."
    pairs = [(_TITLES[q], got) for q in QUANTITIES if (got := getattr(checked, q)) is not None]
    worse = [name for name, got in pairs if got.after > got.before]
    if checked.helped:
        but = f", though not those of {' and '.join(worse)}" if worse else ""
        return f"Yes: runs that took no part are predicted better than by the shipped constants{but}."
    return (
        "No: runs that took no part are not predicted better than by the shipped constants, beyond chance. "
        "Go on without it, or add runs of other loads and layouts."
    )
