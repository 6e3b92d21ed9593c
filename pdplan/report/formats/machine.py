"""A report for programs: one JSON object, or CSV rows. The same input gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from typing import Any

from pdplan.report.blocks import Report

_DIGITS = 15
"""Significant digits of printed numbers: more would only show the arithmetic of the machine."""


def render_json(report: Report) -> str:
    """The data as indented JSON; what is no finite number is null."""
    return json.dumps(clean(report.data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_csv(report: Report) -> str:
    """The records under a header; nested values under dotted names; no value is an empty field."""
    rows = [flat(clean(record)) for record in report.records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def clean(value: Any) -> Any:
    """The value in JSON's types.

    >>> clean({"a": (1, float("nan")), "b": 0.1 + 0.2})
    {'a': [1, None], 'b': 0.3}
    """
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(f"{value:.{_DIGITS}g}")
    return value


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """
    >>> flat({"mode": "colocated", "utilisation": {"colocated": 0.5}})
    {'mode': 'colocated', 'utilisation.colocated': 0.5}
    """
    found: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        elif isinstance(value, list):
            found[prefix + key] = " ".join(str(v) for v in value)
        else:
            found[prefix + key] = "" if value is None else value
    return found
