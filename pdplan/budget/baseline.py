"""What changed since an earlier check: by deployment and measure, and which limits it breaks or mends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pdplan.budget.measures import TOTALS, Measure, find_measure
from pdplan.documents.file_kinds import mistaken_text
from pdplan.documents.files import parse_json, read_text
from pdplan.errors import InputError

COMPARED = (
    "usd_per_h",
    "usd_per_million_output_tokens",
    "gpus",
    "power_kw",
    "requests_per_s",
    "goodput_requests_per_s",
    "ttft_p90",
    "tpot_p90",
    "request_latency_mean",
)
_OF_ACCELERATORS = ("usd_per_h", "gpus", "power_kw")
_SAME = 1e-9


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One measure, before and now; None where it is not known or there was no deployment."""

    measure: Measure
    old: float | None
    new: float | None

    @property
    def delta(self) -> float | None:
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def share(self) -> float | None:
        return self.delta / self.old if self.delta is not None and self.old else None

    @property
    def is_change(self) -> bool:
        if self.old is None or self.new is None:
            return self.old is not self.new
        return abs(self.new - self.old) > _SAME * max(abs(self.old), abs(self.new))

    @property
    def is_better(self) -> bool:
        """Less of what has an upper limit by nature, more of what has a lower one."""
        return self.delta is not None and (self.delta < 0) == (self.measure.bound == "max")


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """A field of the plan or of its inputs that is not what it was."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class DeploymentShift:
    name: str
    kind: Literal["added", "removed", "changed", "unchanged"]
    fields: tuple[FieldChange, ...]
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two checks side by side."""

    source: str
    deployments: tuple[DeploymentShift, ...]
    total: tuple[Shift, ...]
    newly_breached: tuple[tuple[str, str], ...]
    """(deployment, limit)."""
    mended: tuple[tuple[str, str], ...]
    same_catalog: bool


def read_baseline(path: str | Path) -> Mapping[str, Any]:
    """The JSON of an earlier `pdplan check`; raises InputError where it is something else."""
    text = read_text(path)
    mistaken = mistaken_text(text, str(path), "printed")
    if mistaken:
        raise InputError(f"{path}:1:1: {mistaken}; --against compares with a budget file")
    document = parse_json(text, str(path))
    data = document.data
    deployments = data.get("deployments")
    shaped = isinstance(deployments, list) and all(
        isinstance(d, dict) and isinstance(d.get("name"), str) and isinstance(d.get("metrics"), dict)
        for d in deployments
    )
    if not shaped or not isinstance(data.get("total"), dict):
        raise InputError(
            f"{path}:1:1: this JSON is no output of check; write one by: "
            "pdplan check --format json > baseline.json"
        )
    if data.get("schema_version") != 1:
        raise InputError(
            f"{document.where(('schema_version',))}: schema_version is {data.get('schema_version')!r}; "
            "expected 1: write the baseline anew with this version of pdplan"
        )
    return data


def difference(old: Mapping[str, Any], new: Mapping[str, Any], source: str) -> Difference:
    """What changed from one check's JSON to another's; deployments are matched by name."""
    before = {d["name"]: d for d in old["deployments"]}
    after = {d["name"]: d for d in new["deployments"]}
    names = [*after, *(n for n in before if n not in after)]
    was, is_ = set(_breaches(old)), set(_breaches(new))
    return Difference(
        source=source,
        deployments=tuple(_deployment(n, before.get(n), after.get(n)) for n in names),
        total=tuple(_shift(key, old["total"], new["total"]) for key in TOTALS),
        newly_breached=tuple(x for x in _breaches(new) if x not in was),
        mended=tuple(x for x in _breaches(old) if x not in is_),
        same_catalog=old.get("catalog_sha256") == new.get("catalog_sha256"),
    )


def _deployment(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> DeploymentShift:
    before, after = old or {}, new or {}
    values = [
        {**_held(d.get("metrics", {})), "goodput_requests_per_s": d.get("goodput_requests_per_s")}
        for d in (before, after)
    ]
    shifts = tuple(_shift(key, *values) for key in COMPARED)
    fields: tuple[FieldChange, ...] = ()
    if old is None or new is None:
        kind: Literal["added", "removed", "changed", "unchanged"] = "added" if old is None else "removed"
    else:
        fields = tuple(_fields(before, after))
        kind = "changed" if fields or any(s.is_change for s in shifts) else "unchanged"
    return DeploymentShift(name=name, kind=kind, fields=fields, shifts=shifts)


def _held(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metrics that hold: of a deployment that cannot do its work those of its accelerators alone."""
    if not metrics.get("problem"):
        return metrics
    return {key: metrics.get(key) for key in _OF_ACCELERATORS}


def _shift(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Shift:
    measure = find_measure(key, 0.9)
    return Shift(measure=measure, old=_number(old.get(measure.field)), new=_number(new.get(measure.field)))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[FieldChange]:
    """Fields of plan and inputs, dotted, that differ."""
    before, after = ({**_flat(d.get("plan")), **_flat(d.get("inputs"))} for d in (old, new))
    for name in dict.fromkeys((*after, *before)):
        if before.get(name) != after.get(name):
            yield FieldChange(field=name, old=before.get(name), new=after.get(name))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value} if prefix else {}
    return {k: v for key, below in value.items() for k, v in _flat(below, f"{prefix}{key}.").items()}


def _breaches(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    findings: Sequence[Any] = [
        *(f for d in data["deployments"] for f in d.get("findings", ())),
        *data["total"].get("findings", ()),
    ]
    return [
        (str(f.get("deployment")), str(f.get("limit")))
        for f in findings
        if isinstance(f, dict) and f.get("status") == "breached"
    ]
