"""A budget file becomes a Budget; everything that is wrong with it is told at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pdplan.architecture.model import Model
from pdplan.budget.measures import TOTALS, Bound, find_measure
from pdplan.budget.result import Budget, Deployment, Limit, Spot
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.documents.file_kinds import read_kind
from pdplan.documents.files import Document, Location
from pdplan.documents.validation import validate
from pdplan.errors import InputError, quoted_list
from pdplan.inputs import Findings, Given, deployment_from, sub_document
from pdplan.inputs.given import Values, given_in
from pdplan.inputs.printed import PRINTED_NAMES, from_printed
from pdplan.inputs.questions import merged, with_paths
from pdplan.inputs.schemas import NetworkKeys, Quantity, SloKeys, WorkloadKeys
from pdplan.inputs.spelling import as_keys
from pdplan.plan import Plan
from pdplan.printing import percentile_name
from pdplan.workload import Slo

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class BoundKeys:
    """A limit with its direction said: {max: 90%}, {min: 20}, or both."""

    __pydantic_config__ = _STRICT
    max: Quantity | None = None
    min: Quantity | None = None


Limits = dict[str, Quantity | BoundKeys]


@dataclass(frozen=True, kw_only=True)
class DefaultKeys:
    """What holds for every deployment whose plan does not say otherwise."""

    __pydantic_config__ = _STRICT
    engine: str | None = None
    network: str | NetworkKeys | None = None
    calibration: str | None = None
    workload: WorkloadKeys | None = None
    slo: SloKeys | None = None
    limits: Limits = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeploymentKeys:
    """A plan, what overrides it, and its limits."""

    __pydantic_config__ = _STRICT
    name: str
    plan: str | dict[str, Any]
    workload: WorkloadKeys | None = None
    slo: SloKeys | None = None
    network: str | NetworkKeys | None = None
    calibration: str | None = None
    prices: dict[str, Quantity] | None = None
    limits: Limits = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BudgetKeys:
    """A budget file."""

    __pydantic_config__ = _STRICT
    deployments: tuple[DeploymentKeys, ...]
    schema_version: Literal[1] = 1
    prices: dict[str, Quantity] | None = None
    """Dollars per accelerator and hour, for every deployment, over the plan files' own."""
    defaults: DefaultKeys = field(default_factory=DefaultKeys)
    total: Limits = field(default_factory=dict)
    """Limits on sums over all deployments."""
    confidence: Quantity | None = None
    """Judge latencies at the pessimistic end of the prediction, of every deployment that says no other."""


def read_budget(path: str | Path, catalog: Catalog, flags: Values | None = None) -> Budget:
    """The budget of a file, plan files read relative to it; raises InputError with all findings.

    `flags` (a calibration, a confidence) hold for every deployment, over the files.
    """
    document = as_keys(read_kind(path, "budget"))
    keys = validate(BudgetKeys, document)
    findings = Findings()
    _check_names(document, keys, findings)
    read = [
        _deployment(document, keys, i, catalog, findings, flags or {}) for i in range(len(keys.deployments))
    ]
    total = _total(document, keys, findings)
    if not keys.deployments:
        findings.say(document.where(("deployments",)), "the list is empty; give at least one deployment")
    findings.check()
    deployments = tuple(d for d in read if d is not None)
    for i, deployment in enumerate(deployments):
        if not deployment.limits and not total:
            findings.say(
                document.where(("deployments", i)),
                f"'{deployment.name}' has no limit, so nothing is checked; "
                "add limits, e.g. limits: {usd_per_h: 150, ttft_p90: 2s}",
            )
    findings.check()
    used: list[Model | Accelerator] = []
    for d in deployments:
        used += [*d.world.models.values(), *d.world.accelerators.values()]
    return Budget(
        path=str(path), deployments=deployments, total=total, catalog_sha256=catalog.digest_of(used)
    )


# ------------------------------------------------------------------------ inside


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a deployment's values stand: its entry of the budget, the defaults, its plan."""

    document: Document
    entry: Location
    plan: Document
    printed: bool
    """Whether the plan is JSON that pdplan printed."""
    below: Location
    """Where the plan's pools stand in its document."""

    def spot(self, location: Location, key: str) -> Spot:
        return _spot(self.document, location, key)

    def plan_spot(self, location: Location, key: str) -> Spot:
        return _spot(self.plan, location, key)


def _deployment(
    document: Document, keys: BudgetKeys, index: int, catalog: Catalog, findings: Findings, flags: Values
) -> Deployment | None:
    entry = keys.deployments[index]
    at: Location = ("deployments", index)
    plan_document = findings.attempt(_plan_document, document, at, entry)
    if plan_document is None:
        _limits(document, keys, at, entry, Slo(), findings)  # its errors are to be told, too
        return None
    stated, source = plan_document, _source(document, at, plan_document)
    if source.printed:
        stated = findings.attempt(from_printed, plan_document) or plan_document
    own = merged(_given(document, at, entry), {})
    if keys.confidence is not None:
        own = merged(given_in(document, {"confidence": keys.confidence}), own)
    weak = _unless_stated(_given(document, ("defaults",), keys.defaults), _keys_of(stated))
    if keys.prices is not None:
        own = merged(given_in(document, {"prices": keys.prices}), own)
    inner = Findings()
    read = inner.attempt(deployment_from, plan_document, catalog, merged(merged(weak, own), flags))
    entry_at = f"{document.where(at)}: '{entry.name}'"
    places = (f"{document.path}:", f"{plan_document.path}:")
    findings.messages += [m if m.startswith(places) else f"{entry_at}: {m}" for m in inner.messages]
    slo = read.slo if read else Slo()
    limits = _limits(document, keys, at, entry, slo, findings)
    if read is None:
        return None
    spots = _spots(source, keys, entry, read.plan)
    taken = {x.measure.key for x in limits if x.bound == "max"}
    limits += [x for x in _objectives(slo, spots) if x.measure.key not in taken]
    return Deployment(
        name=entry.name,
        plan=read.plan,
        workload=read.workload,
        slo=slo,
        world=read.world,
        limits=tuple(limits),
        spot=source.spot(at, entry.name),
        spots=spots,
        notes=read.notes,
        split_by_rate=read.split_by_rate,
    )


def _plan_document(document: Document, at: Location, entry: DeploymentKeys) -> Document:
    """The plan inline, or in a file whose path is relative to the budget's."""
    if not isinstance(entry.plan, str):
        return sub_document(document, (*at, "plan"))
    path = os.path.normpath(os.path.join(os.path.dirname(document.path), entry.plan))
    try:
        return read_kind(path, "plan")
    except InputError as problem:
        where = document.where((*at, "plan"))
        raise InputError(*(m if _has_place(m, path) else f"{where}: {m}" for m in problem.messages)) from None


def _has_place(message: str, path: str) -> bool:
    """Whether a message says path:line itself."""
    return message.startswith(f"{path}:") and message[len(path) + 1 : len(path) + 2].isdigit()


def _source(document: Document, entry: Location, plan: Document) -> _Source:
    printed = "schema_version" in plan.data
    nested = isinstance(plan.data.get("plan"), dict)
    return _Source(
        document=document, entry=entry, plan=plan, printed=printed, below=("plan",) if nested else ()
    )


def _given(document: Document, at: Location, keys: DeploymentKeys | DefaultKeys) -> dict[str, Given]:
    """What an entry of the budget says, flat as flags are."""
    own = {k: v for k, v in asdict(keys).items() if v is not None and k not in ("name", "plan", "limits")}
    found = given_in(document, {k: v for k, v in own.items() if k not in ("workload", "slo")}, at)
    for group in ("workload", "slo"):
        found.update(given_in(document, own.get(group, {}), (*at, group)))
    return with_paths(found, document)


def _keys_of(plan: Document) -> set[str]:
    """Every key that a plan document states, flat."""
    data = dict(plan.data)
    inner = data.get("plan")
    data.update(inner if isinstance(inner, dict) else {})
    groups = [data.get(group) for group in ("workload", "slo")]
    return {*data, *(k for g in groups if isinstance(g, dict) for k in g)}


def _unless_stated(defaults: Mapping[str, Given], stated: set[str]) -> dict[str, Given]:
    """Defaults for what a plan leaves open; its rate or concurrency is one thing."""
    load = {"rate", "concurrency"}
    closed = stated | (load if stated & load else set())
    return {key: value for key, value in defaults.items() if key not in closed}


def _limits(
    document: Document, keys: BudgetKeys, at: Location, entry: DeploymentKeys, slo: Slo, findings: Findings
) -> list[Limit]:
    """The deployment's limits, then the defaults' on other measures."""
    own = list(_read_limits(document, (*at, "limits"), entry.limits, slo, findings))
    first = at == ("deployments", 0)
    shared = _read_limits(
        document, ("defaults", "limits"), keys.defaults.limits, slo, findings if first else Findings()
    )
    taken = {(x.measure.key, x.bound) for x in own}
    return own + [x for x in shared if (x.measure.key, x.bound) not in taken]


def _read_limits(
    document: Document, at: Location, limits: Mapping[str, Any], slo: Slo, findings: Findings
) -> Iterator[Limit]:
    seen: dict[tuple[str, Bound], str] = {}
    for key, given in limits.items():
        where = document.where((*at, key))
        try:
            measure = find_measure(key, slo.percentile)
        except InputError as problem:
            findings.messages += [f"{where}: {m}" for m in problem.messages]
            continue
        bounds: list[tuple[Bound, Any, Location]] = [(measure.bound, given, (*at, key))]
        if isinstance(given, BoundKeys):
            both: tuple[tuple[Bound, Any], ...] = (("max", given.max), ("min", given.min))
            bounds = [(b, v, (*at, key, b)) for b, v in both if v is not None]
            if not bounds:
                mend = f"write e.g. {key}: {{{measure.bound}: ...}}"
                findings.say(where, f"'{key}' has neither max nor min; {mend}")
        for bound, value, location in bounds:
            read = findings.attempt(measure.parse, value, f"{document.where(location)}: '{key}'")
            if (measure.key, bound) in seen:
                other = seen[measure.key, bound]
                findings.say(where, f"'{key}' and '{other}' are the same limit ({measure.key}); keep one")
            elif read is not None:
                seen[measure.key, bound] = key
                yield Limit(measure=measure, bound=bound, value=read, spot=_spot(document, location, key))
        pair = {b: v for b, v, _ in bounds}
        if len(pair) == 2:
            low, high = (_readable(measure, pair[b]) for b in ("min", "max"))
            if low is not None and high is not None and low > high:
                both_values = f"min {pair['min']} is above max {pair['max']}"
                findings.say(where, f"'{key}': {both_values}; nothing can meet both")


def _readable(measure: Any, value: Any) -> float | None:
    """A limit's value, None where it cannot be read (which is told elsewhere)."""
    try:
        found: float = measure.parse(value, "")
    except InputError:
        return None
    return found


def _objectives(slo: Slo, spots: Mapping[str, Spot]) -> list[Limit]:
    """The deployment's own SLO as limits."""
    at = percentile_name(slo.percentile)
    found = []
    for base, key, value in (
        ("ttft", "ttft", slo.ttft_s),
        ("tpot", "tpot", slo.tpot_s),
        ("request_latency", "latency", slo.request_latency_s),
    ):
        if value is not None:
            measure = find_measure(f"{base}_{at}", slo.percentile)
            found.append(Limit(measure=measure, bound=measure.bound, value=value, spot=spots[f"slo.{key}"]))
    return found


def _spots(source: _Source, keys: BudgetKeys, entry: DeploymentKeys, plan: Plan) -> dict[str, Spot]:
    """The line of every field that an edit or a finding may point at."""
    spots = {"": source.plan_spot(source.below, "")}
    for pool in plan.pools:
        at = _place_of(source, pool)
        for name in ("workers", "tp", "pp", "dp", "ep", "max_batch", "hardware", "share"):
            spots[f"{pool}.{name}"] = source.plan_spot((*at, name), f"{pool}.{name}")
    for group, names in (("workload", ("rate", "concurrency")), ("slo", ("ttft", "tpot", "latency"))):
        for name in names:
            spots[f"{group}.{name}"] = _override_spot(source, keys, entry, group, name)
    return spots


def _place_of(source: _Source, pool: str) -> Location:
    """Where a pool stands; of several kinds of workers, which of the list."""
    role, _, number = pool.partition(" ")
    data: Any = source.plan.data
    for step in (*source.below, role):
        data = data.get(step) if isinstance(data, dict) else None
    kind = (int(number or 1) - 1,) if isinstance(data, list | tuple) else ()
    return (*source.below, role, *kind)


def _override_spot(source: _Source, keys: BudgetKeys, entry: DeploymentKeys, group: str, name: str) -> Spot:
    """Where a value of the workload or SLO stands: in the entry, in the plan, or in the defaults."""
    field_name = f"{group}.{name}"
    if getattr(getattr(entry, group), name, None) is not None:
        return source.spot((*source.entry, group, name), field_name)
    location: Location = (*source.below, group, name)
    if source.printed:
        unprinted = {v: k for k, v in PRINTED_NAMES.items()}
        location = ("inputs", group, unprinted.get(name, name))
    elif group in source.plan.data:
        location = (group, name)
    if _is_there(source.plan.data, location):
        return source.plan_spot(location, field_name)
    if getattr(getattr(keys.defaults, group), name, None) is not None:
        return source.spot(("defaults", group, name), field_name)
    return source.plan_spot(location, field_name)


def _is_there(data: Any, location: Location) -> bool:
    for step in location:
        if not isinstance(data, dict) or step not in data:
            return False
        data = data[step]
    return data is not None


def _total(document: Document, keys: BudgetKeys, findings: Findings) -> tuple[Limit, ...]:
    found = []
    for limit in _read_limits(document, ("total",), keys.total, Slo(), findings):
        if limit.measure.key in TOTALS:
            found.append(limit)
        else:
            mend = f"a total may limit {quoted_list(TOTALS)}"
            findings.say(str(limit.spot), f"'{limit.spot.key}' does not add up over deployments; {mend}")
    return tuple(found)


def _check_names(document: Document, keys: BudgetKeys, findings: Findings) -> None:
    first: dict[str, int] = {}
    for i, entry in enumerate(keys.deployments):
        where = document.where(("deployments", i, "name"))
        if not entry.name.strip():
            findings.say(where, "'name' is empty; give each deployment a name")
        elif entry.name in first:
            findings.say(where, f"a second deployment is called '{entry.name}'; rename one")
        elif entry.name == "total":
            findings.say(where, "'total' stands for the sum of all deployments; choose another name")
        first[entry.name] = i


def _spot(document: Document, location: Location, key: str) -> Spot:
    place = document.position(location)
    spot = Spot(path=document.path, key=key)
    return replace(spot, line=place[0], column=place[1]) if place else spot
