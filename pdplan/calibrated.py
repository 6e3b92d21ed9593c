"""A calibration: engine constants fitted to the user's own runs, as a file that commands take.

`pdplan calibrate` writes it, `--calibration` reads it. It holds values that stand in for those of
constants/engines.yaml, how far its runs lay from predictions (cross-validated), and where all of
it comes from; everything that it does not name stays as shipped.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pdplan.documents.bounds import Ge, Gt, Le
from pdplan.documents.file_kinds import expect, refuse_table
from pdplan.documents.files import Document, parse_yaml, read_text, read_yaml
from pdplan.efficiency import CONSTANTS_DIRECTORY, Engine, engine_file
from pdplan.errors import InputError, nearest, quoted_list

SCHEMA_VERSION = 1
PRIORS = CONSTANTS_DIRECTORY / "priors.yaml"
"""How far constants differ from place to place, and the weight of the shipped error bars."""
STRICT = {"extra": "forbid"}
INFINITE = float("inf")
SOURCE = "own-runs"
"""Under this name the document's `sources` say where calibrated constants come from."""
GENERIC = "generic"
"""The engine whose constants an engine without any of its own starts from."""
SCOPES = ("engines", "accelerators", "models", "benchmarks")
"""Blocks of constants: values of an engine or a benchmark, factors of an accelerator or a model."""


@dataclass(frozen=True, kw_only=True)
class FittedConstant:
    """One constant: a value (of an engine, a benchmark) or a factor (of an accelerator, a model)."""

    __pydantic_config__ = STRICT
    value: Annotated[float, Gt(0)]
    shipped: Annotated[float, Gt(0)]
    """What it was fitted from."""
    prior_left: Annotated[float, Ge(0), Le(1)]
    """Variance that is left of the prior's: 1 where the runs say nothing, 0 where they say all."""


Block = dict[str, dict[str, FittedConstant]]


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of results."""

    __pydantic_config__ = STRICT
    file: str
    sha256: str
    format: str
    runs: Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that took no part, and why."""

    __pydantic_config__ = STRICT
    run: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Covered:
    """What ran: predictions of the like rest on the user's own runs."""

    __pydantic_config__ = STRICT
    model: str
    hardware: str
    engine: str
    mode: Literal["colocated", "disaggregated"]
    runs: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """Median error of a quantity before and after, over runs that took no part in their own prediction."""

    __pydantic_config__ = STRICT
    runs: Annotated[int, Ge(1)]
    before: Annotated[float, Ge(0)]
    after: Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class OwnSpread:
    """measured/predicted of left-out runs: their count, and quantiles by probability, rising."""

    __pydantic_config__ = STRICT
    runs: Annotated[int, Ge(1)]
    quantiles: tuple[Annotated[float, Gt(0)], ...]
    """At `QUANTILES`."""

    def at(self, probability: float) -> float:
        """The quantile of a probability, linear between those kept.

        >>> OwnSpread(runs=9, quantiles=tuple(range(1, 16))).at(0.5)
        8.0
        """
        points = tuple(zip(QUANTILES, self.quantiles, strict=True))
        if probability <= QUANTILES[0]:
            return float(self.quantiles[0])
        for (p, low), (q, high) in pairwise(points):
            if probability <= q:
                return float(low + (high - low) * (probability - p) / (q - p))
        return float(self.quantiles[-1])


QUANTILES = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """How much the calibration helps on runs that it has not seen."""

    __pydantic_config__ = STRICT
    left_out: Literal["deployment", "run", "nothing"]
    """What was left out in turn."""
    helped: bool
    tpot: Improvement | None = None
    ttft: Improvement | None = None
    tok_per_s_per_gpu: Improvement | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationKeys:
    """A calibration file."""

    __pydantic_config__ = STRICT
    schema_version: Annotated[int, Ge(1)]
    pdplan_version: str
    constants_sha256: str
    """Of the shipped constants that the fit started from."""
    first_run: str = ""
    """Date of the earliest run, "" where none says."""
    last_run: str = ""
    runs_used: Annotated[int, Ge(1)]
    sources: tuple[SourceFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    covers: tuple[Covered, ...]
    engines: Block = field(default_factory=dict)
    accelerators: Block = field(default_factory=dict)
    models: Block = field(default_factory=dict)
    benchmarks: Block = field(default_factory=dict)
    cross_validation: CrossValidation
    spread: dict[Literal["colocated", "disaggregated"], dict[str, OwnSpread]] = field(default_factory=dict)


_TELLING_RUNS = 5
"""Of fewer, "8 of 10" is no statement."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibration that was read (or just fitted), with the file's name and hash; one is as itself only."""

    keys: CalibrationKeys
    path: str
    sha256: str

    @functools.cached_property
    def document(self) -> Mapping[str, Any]:
        """constants/engines.yaml with the calibrated constants in place."""
        return overlaid(engine_file(), {scope: getattr(self.keys, scope) for scope in SCOPES}, self.title)

    @property
    def title(self) -> str:
        count = self.keys.runs_used
        return f"fitted to {count:,} own run{'s' if count != 1 else ''} by `pdplan calibrate`: {self.path}"

    def covers(self, model: str, hardware: str, engine: str) -> bool:
        return any((c.model, c.hardware, c.engine) == (model, hardware, engine) for c in self.keys.covers)

    @functools.cached_property
    def interval_runs(self) -> float:
        """As how many own runs the shipped error bars count."""
        return float(read_yaml(PRIORS).data["interval"]["runs"])

    def spread(self, quantity: str, mode: str) -> OwnSpread | None:
        return self.keys.spread.get(mode, {}).get(quantity)  # type: ignore[call-overload]

    def notes(self, model: str, hardware: tuple[str, ...], engine: str) -> Iterator[str]:
        """What a user of the calibration should know of a prediction."""
        yield f"engine constants {self.title}"
        if any(self.covers(model, name, engine) for name in hardware):
            yield from (words for mode in self.keys.spread if (words := self._errors(mode)))
        if self.keys.cross_validation.left_out == "nothing":
            yield f"{self.path}: one run cannot show whether it helps; add runs of another load or layout"
        elif not self.keys.cross_validation.helped:
            yield f"{self.path}: on runs left out, its predictions were no better than the shipped constants'"
        if self.keys.constants_sha256 != shipped_constants_sha256():
            yield (
                f"{self.path} was fitted to the constants of another pdplan ({self.keys.pdplan_version}); "
                "run `pdplan calibrate` again"
            )
        parts = (
            ("engine", engine, {c.engine for c in self.keys.covers}),
            ("model", model, {c.model for c in self.keys.covers}),
            *(("accelerator", h, {c.hardware for c in self.keys.covers}) for h in dict.fromkeys(hardware)),
        )
        for kind, name, known in parts:
            if name not in known:
                yield (
                    f"{self.path} holds no run of the {kind} {name}: there, what it says of "
                    f"{', '.join(sorted(known))} is assumed to hold, or the shipped constants are used"
                )

    def _errors(self, mode: str) -> str:
        """Between which factors of the prediction 8 of 10 left-out runs of a mode lay; "" where few tell."""
        titles = {"ttft": "TTFT", "tpot": "TPOT"}
        own = [(title, found) for key, title in titles.items() if (found := self.spread(key, mode))]
        words = [f"{found.at(0.1):.2f} to {found.at(0.9):.2f} times the predicted {t}" for t, found in own]
        count = max((found.runs for _, found in own), default=0)
        if count < _TELLING_RUNS:
            return ""
        return f"{self.path}: of its {count:,} {mode} runs, left out, 8 of 10 took {' and '.join(words)}"


def read_calibration(path: str | Path) -> Calibration:
    """The calibration of a file; raises InputError with all that is wrong, by file, line and column."""
    return _parsed(read_text(path), str(path))


@functools.lru_cache(maxsize=64)
def _parsed(text: str, path: str) -> Calibration:
    refuse_table(text, path, "calibration")
    document = parse_yaml(text, path)
    version = document.data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{document.where(('schema_version',))}: 'schema_version' is {version}; this pdplan reads up to "
            f"{SCHEMA_VERSION}: update pdplan, or run `pdplan calibrate` again"
        )
    if "schema_version" not in document.data or "cross_validation" not in document.data:
        expect(document, "calibration")
        raise InputError(
            f"{document.where()}: this is no calibration; make one by `pdplan calibrate RUNS... -o FILE`"
        )
    keys = _keys(document)
    findings = list(_unknown_names(document, keys))
    if findings:
        raise InputError(findings[0], *findings[1:])
    return Calibration(keys=keys, path=path, sha256=hashlib.sha256(text.encode()).hexdigest())


def _keys(document: Document) -> CalibrationKeys:
    """The file's keys; at any doubt pydantic, whose import takes a tenth of a second, says what is wrong."""
    from pdplan.catalog.trusted import DoubtError, build

    try:
        keys = build(CalibrationKeys, document.data)
        if _in_range(keys):
            return keys
    except DoubtError:
        pass
    from pdplan.documents.validation import validate

    return validate(CalibrationKeys, document)


def _in_range(keys: CalibrationKeys) -> bool:
    """Whether every number is what its type allows."""
    constants = [c for s in SCOPES for block in getattr(keys, s).values() for c in block.values()]
    errors = keys.cross_validation
    checked = (errors.tpot, errors.ttft, errors.tok_per_s_per_gpu)
    spreads = [own for by_quantity in keys.spread.values() for own in by_quantity.values()]
    return (
        min(keys.schema_version, keys.runs_used, *(c.runs for c in keys.covers)) >= 1
        and all(source.runs >= 0 for source in keys.sources)
        and all(0 < c.value < INFINITE and 0 < c.shipped < INFINITE for c in constants)
        and all(0 <= c.prior_left <= 1 for c in constants)
        and all(i.runs >= 1 and min(i.before, i.after) >= 0 for i in checked if i is not None)
        and all(own.runs >= 1 and all(0 < q < INFINITE for q in own.quantiles) for own in spreads)
    )


def _unknown_names(document: Document, keys: CalibrationKeys) -> Iterator[str]:
    """Constants that no engine has, owners that did not run, quantiles that are none."""
    known = set(Engine.__dataclass_fields__) - {"name"}
    benches = {k for b in engine_file()["benchmarks"].values() for k, v in b.items() if "value" in v}
    ran = {
        "engines": {c.engine for c in keys.covers},
        "accelerators": {c.hardware for c in keys.covers},
        "models": {c.model for c in keys.covers},
    }
    for scope in SCOPES:
        names = benches if scope == "benchmarks" else known
        for owner, block in getattr(keys, scope).items():
            if owner not in ran.get(scope, {owner}):
                close = nearest(owner, ran[scope])
                hint = f"; did you mean {quoted_list(close)}?" if close else ""
                where = document.where((scope, owner))
                yield f"{where}: '{owner}' has constants, but 'covers' has no run of it{hint}"
            for name in block:
                if name not in names:
                    close = nearest(name, names)
                    hint = f"; did you mean {quoted_list(close)}?" if close else "; remove it"
                    yield f"{document.where((scope, owner, name))}: unknown constant '{name}'{hint}"
    for mode, by_quantity in keys.spread.items():
        for quantity, own in by_quantity.items():
            where = document.where(("spread", mode, quantity, "quantiles"))
            if len(own.quantiles) != len(QUANTILES):
                yield f"{where}: {len(own.quantiles)} quantiles; expected {len(QUANTILES)}"
            elif any(b < a for a, b in pairwise(own.quantiles)):
                yield f"{where}: the quantiles must rise"


def overlaid(shipped: Mapping[str, Any], blocks: Mapping[str, Any], title: str = "") -> dict[str, Any]:
    """The document of engine constants with blocks of other values in place; sources say where from.

    `blocks`: by scope, owner and name, values or `FittedConstant`s. An engine that the document does not
    know starts as the generic one.
    """
    changed = copy.deepcopy(dict(shipped))
    changed["sources"] = {**changed["sources"], SOURCE: title or "a fit"}
    for scope in SCOPES:
        place = changed.setdefault(scope, {})
        for owner, block in blocks.get(scope, {}).items():
            start = {}
            if scope == "engines" and owner not in place:
                start = place[GENERIC]
            old = {k: _without(v, block) for k, v in {**start, **place.get(owner, {})}.items()}
            place[owner] = {**old, **{k: _entry(v) for k, v in block.items()}}
    return changed


def _without(entry: Any, names: Mapping[str, Any]) -> Any:
    """An entry as it is; a block in a block (a benchmark's, for one generation) without what is replaced."""
    if not isinstance(entry, dict) or "value" in entry:
        return entry
    return {k: v for k, v in entry.items() if k not in names}


def _entry(value: Any) -> dict[str, Any]:
    if not isinstance(value, FittedConstant):
        return {"value": float(value), "source": SOURCE}
    note = f"shipped {value.shipped:.3g}; {value.prior_left:.0%} of the prior's variance left"
    return {"value": value.value, "source": SOURCE, "note": note}


@functools.cache
def shipped_constants_sha256() -> str:
    """Of the values in constants/engines.yaml, whatever its comments say."""
    import json

    return hashlib.sha256(json.dumps(engine_file(), sort_keys=True).encode()).hexdigest()
