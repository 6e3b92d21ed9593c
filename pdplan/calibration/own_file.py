"""A fit to the user's own runs becomes a calibration file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pdplan import __version__
from pdplan.calibrated import (
    SCHEMA_VERSION,
    SCOPES,
    Calibration,
    CalibrationKeys,
    FittedConstant,
    shipped_constants_sha256,
)
from pdplan.calibration.own_fit import Checked, Fit, covered_by
from pdplan.documents.files import write_atomic
from pdplan.errors import InputError
from pdplan.inputs.own_runs import OwnRuns
from pdplan.measured.run import Run

HEAD = """\
# Engine constants fitted to your own runs by `pdplan calibrate`. Use it with --calibration FILE, or as
# `calibration: FILE` in a question, plan or budget. Values of engines and benchmarks stand in for the
# shipped ones; those of accelerators and models are factors on them. prior_left: share of the prior's
# variance that the runs left (1: they say nothing). spread: quantiles of measured/predicted, left out.
"""


def calibration_of(fit: Fit, checked: Checked, own: OwnRuns, path: str) -> Calibration:
    """The calibration that a fit amounts to, as reading its file would give it."""
    blocks: dict[str, dict[str, dict[str, FittedConstant]]] = {scope: {} for scope in SCOPES}
    for i in fit.told:
        p = fit.parameters[i]
        blocks[p.effect.scope].setdefault(p.owner, {})[p.effect.name] = FittedConstant(
            value=_short(p.value(fit.found.mean[i])),
            shipped=_short(p.shipped),
            prior_left=round(float(fit.prior_left[i]), 3),
        )
    dates = sorted(run.date for run in own.runs if run.date)
    keys = CalibrationKeys(
        schema_version=SCHEMA_VERSION,
        pdplan_version=__version__,
        constants_sha256=shipped_constants_sha256(),
        first_run=dates[0] if dates else "",
        last_run=dates[-1] if dates else "",
        runs_used=len(own.runs),
        sources=own.sources,
        left_out=own.left_out,
        covers=covered_by(own.runs),
        cross_validation=checked.summary,
        spread=checked.spread,  # type: ignore[arg-type]
        **blocks,
    )
    text = calibration_yaml(keys)
    return Calibration(keys=keys, path=path, sha256=hashlib.sha256(text.encode()).hexdigest())


def write_calibration(calibration: Calibration, *, replace: bool = False) -> None:
    """Write the file whole or not at all; an existing one only with `replace`."""
    if Path(calibration.path).is_file() and not replace:
        raise InputError(f"{calibration.path}: the file is there already; give --force to replace it")
    write_atomic(calibration.path, calibration_yaml(calibration.keys))


def calibration_yaml(keys: CalibrationKeys) -> str:
    """The file's text; the same calibration gives the same bytes."""
    lines = [HEAD.rstrip()]
    for name in keys.__dataclass_fields__:
        lines += _lines(name, _plain(getattr(keys, name)), "")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------ inside


def _plain(value: Any) -> Any:
    """Data classes as mappings, without what is None."""
    if hasattr(value, "__dataclass_fields__"):
        pairs = ((k, getattr(value, k)) for k in value.__dataclass_fields__)
        return {k: _plain(v) for k, v in pairs if v is not None}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _lines(key: str, value: Any, indent: str) -> list[str]:
    """Blocks down to mappings of plain values, which stand on one line."""
    if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
        below = [line for k, v in value.items() for line in _lines(k, v, indent + "  ")]
        return [f"{indent}{_word(key)}:", *below]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [f"{indent}{_word(key)}:", *(f"{indent}  - {_flow(item)}" for item in value)]
    return [f"{indent}{_word(key)}: {_flow(value)}"]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_word(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    # JSON's texts and numbers are YAML's, but for the point that YAML wants in 1e-05.
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text


def _word(key: str) -> str:
    return key if key.replace("_", "a").isalnum() and not key[0].isdigit() else json.dumps(key)


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def used(runs: Sequence[Run]) -> str:
    """12 runs of llama-3.1-70b on h100 under vllm.

    >>> used([])
    'no run'
    """
    if not runs:
        return "no run"
    names = [sorted({getattr(r, key) for r in runs}) for key in ("model", "hardware", "engine")]
    model, hardware, engine = (", ".join(n[:3]) + (" and others" if len(n) > 3 else "") for n in names)
    return f"{len(runs):,} run{'s' if len(runs) > 1 else ''} of {model} on {hardware} under {engine}"
