"""A plan file, or the JSON that pdplan printed, becomes a plan, its workload and its world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pdplan.architecture.model import Model
from pdplan.catalog.store import Catalog
from pdplan.compose import World
from pdplan.documents.file_kinds import expect, read_kind
from pdplan.documents.files import Document, Location
from pdplan.documents.validation import validate
from pdplan.errors import InputError
from pdplan.inputs.choices import exchange_from
from pdplan.inputs.consistency import pool_findings, pool_notes
from pdplan.inputs.given import Findings, Given, Values, given_in
from pdplan.inputs.markets import market_from
from pdplan.inputs.names import (
    Entries,
    calibration_from,
    engine_from,
    kv_precision_from,
    measured_acceptance,
    precision_from,
    resolved_kv_precision,
)
from pdplan.inputs.printed import from_printed
from pdplan.inputs.quantities import network_from, slo_from, slo_notes, speculation_from, workload_from
from pdplan.inputs.questions import context_note, merged, with_paths
from pdplan.inputs.schemas import PlanKeys, PoolKeys
from pdplan.inputs.spelling import as_keys
from pdplan.plan import Part, Plan, PoolPlan, Serving, plan_of
from pdplan.split import DIGITS, split_by_rate
from pdplan.units import parse_fraction
from pdplan.workload import Slo, Workload

POOL_NAMES = {"disaggregated": ("prefill", "decode"), "colocated": ("colocated",)}
SHARE_TOLERANCE = 1e-3
"""Shares that add up to 1 within this are taken as rounded."""
_NOT_FLAT = ("workload", "slo", "prefill", "decode", "colocated")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A plan under a workload, with objectives, in its world."""

    plan: Plan
    workload: Workload
    slo: Slo
    world: World
    catalog_sha256: str
    notes: tuple[str, ...] = ()
    source: str = ""
    """The file that it was read from."""
    split_by_rate: bool = False
    """Whether a pool has several kinds of workers without shares: they follow from what each serves."""


def read_deployment(path: str | Path, catalog: Catalog, flags: Values | None = None) -> Deployment:
    """The deployment of a plan file; flags (workload, objectives, prices, network) override it."""
    return deployment_from(read_kind(path, "plan"), catalog, flags)


def deployment_from(document: Document, catalog: Catalog, flags: Values | None = None) -> Deployment:
    """The deployment of a document; raises InputError with everything that is wrong with it."""
    expect(document, "plan")
    printed = "schema_version" in document.data  # its paths are those of the command that printed it
    document = as_keys(_flattened(document))
    keys = validate(PlanKeys, document)
    findings = Findings()
    entries = Entries(catalog)
    own = _values(document, keys)
    values = merged(own if printed else with_paths(own, document), flags or {})
    model = entries.model(values, findings)
    calibration = entries.calibration = calibration_from(values, findings)
    engine = engine_from(values, findings, calibration)
    precision = precision_from(values, model, findings) if model else ""
    shared: dict[str, Any] = {
        "model": model.name if model else "",
        "precision": precision,
        "kv_precision": resolved_kv_precision(
            kv_precision_from(values, findings), precision, engine, calibration
        ),
        "engine": engine,
        "speculation": speculation_from(values, findings, measured_acceptance(engine, calibration)),
        **(exchange_from(values, model, findings) if model else {}),
    }
    pools = _pools(document, keys, entries, findings)
    if model:
        _check_pools(document, pools, model, entries, findings)
    workload = workload_from(values, findings, needs_load=True)
    slo = slo_from(values, findings, calibration)
    prices = entries.prices(values, findings)
    market = market_from(values, entries, prices, findings)
    world = entries.world(prices, network_from(values, findings), market)
    findings.check()
    assert workload is not None
    assert slo is not None
    serving = Serving(**shared)
    if workload.concurrency is not None:
        _refuse_loops(pools, values)
    plan = plan_of(serving, **_shared_out(pools, serving, world, workload, slo))
    return Deployment(
        plan=plan,
        workload=workload,
        slo=slo,
        world=world,
        catalog_sha256=entries.digest(),
        notes=(*slo_notes(slo), *_notes(plan, workload, world, catalog)),
        source=document.path,
        split_by_rate=any(len(parts) > 1 and parts[0][2] is None for parts in pools.values()),
    )


# ------------------------------------------------------------------------ inside


def _flattened(document: Document) -> Document:
    """The plan's keys at the top, whether they stood there, under `plan:`, or in printed JSON."""
    data = document.data
    if "schema_version" in data:
        return from_printed(document)
    plan = data.get("plan")
    if not isinstance(plan, dict):
        return document
    rest = {k: v for k, v in data.items() if k != "plan"}
    twice = sorted(rest.keys() & plan.keys())
    if twice:
        raise InputError(
            *(
                f"{document.where((k,))}: the key '{k}' stands at the top and under 'plan', too; keep one"
                for k in twice
            )
        )
    place = document.place
    if place is not None:
        inner = place.children.get("plan")
        children = {**place.children, **(inner.children if inner else {})}
        place = place._replace(children=children)
    return replace(document, data={**rest, **plan}, place=place)


def _values(document: Document, keys: PlanKeys) -> dict[str, Given]:
    """Everything but the pools, flat as in a question file."""
    everything = {k: v for k, v in asdict(keys).items() if v is not None}
    found = given_in(document, {k: v for k, v in everything.items() if k not in _NOT_FLAT})
    for group in ("workload", "slo"):
        found.update(given_in(document, everything.get(group, {}), (group,)))
    return found


Parts = tuple[tuple[Location, PoolPlan, float | None], ...]
"""The kinds of workers of one role: where each stands, and its share if it was given."""


def _pools(document: Document, keys: PlanKeys, entries: Entries, findings: Findings) -> dict[str, Parts]:
    """The pools of the plan, hardware under its catalog name."""
    there = {name for names in POOL_NAMES.values() for name in names if getattr(keys, name) is not None}
    mode = keys.mode or ("colocated" if there == {"colocated"} else "disaggregated")
    wanted = POOL_NAMES[mode]
    missing = [name for name in wanted if name not in there]
    for name in sorted(there - set(wanted)):
        findings.say(
            document.where((name,)),
            f"a {mode} plan has no pool '{name}'; it has {' and '.join(wanted)}: remove it, or change 'mode'",
        )
    if missing and (keys.mode or there):
        findings.say(
            document.where(("mode",) if keys.mode else ()),
            f"a {mode} plan needs the pool{'s' if len(missing) > 1 else ''} {' and '.join(missing)}",
        )
    elif missing:
        findings.say(document.where(), "no pool is given; give 'prefill' and 'decode', or 'colocated'")
    found: dict[str, Parts] = {}
    for name in wanted:
        given = getattr(keys, name)
        if given is None:
            continue
        kinds = given if isinstance(given, tuple) else (given,)
        if not kinds:
            findings.say(
                document.where((name,)), "no kind of worker is given; give one, or leave the pool out"
            )
            continue
        at: list[Location] = [(name, k) if isinstance(given, tuple) else (name,) for k in range(len(kinds))]
        found[name] = tuple(
            (place, *_pool(document, pool, place, entries, findings))
            for pool, place in zip(kinds, at, strict=True)
        )
        _check_shares(document, name, found[name], findings)
    return found


def _pool(
    document: Document, keys: PoolKeys, place: Location, entries: Entries, findings: Findings
) -> tuple[PoolPlan, float | None]:
    """One kind of worker, hardware under its catalog name, and its share of the requests."""
    where = f"{document.where((*place, 'hardware'))}: 'hardware'"
    accelerator = entries.accelerator(keys.hardware, where, findings)
    fields = {**asdict(keys), "hardware": accelerator.name if accelerator else keys.hardware}
    share = fields.pop("share")
    if share is not None:
        at = f"{document.where((*place, 'share'))}: 'share'"
        share = findings.attempt(parse_fraction, share, name=at)
    return PoolPlan(**fields), share


def _refuse_loops(pools: Mapping[str, Parts], values: Values) -> None:
    """How a closed loop splits its requests over kinds of workers is not known."""
    mixed = [role for role, parts in pools.items() if len(parts) > 1]
    if mixed:
        where = values["concurrency"].where if "concurrency" in values else "concurrency"
        raise InputError(
            f"{where}: a plan with several kinds of {mixed[0]} workers is evaluated at a rate, since how a "
            "closed loop splits its requests is not known; give a rate instead"
        )


def _check_shares(document: Document, name: str, parts: Parts, findings: Findings) -> None:
    shares = [share for _, _, share in parts]
    given = [share for share in shares if share is not None]
    if findings.messages and len(given) < len(shares):
        return  # a share that cannot be read is told already
    if given and len(given) < len(shares):
        findings.say(
            document.where((name,)), "some kinds of workers have a share, others none; give all or none"
        )
    elif given and (abs(sum(given) - 1.0) > SHARE_TOLERANCE or min(given) <= 0):
        findings.say(
            document.where((name,)),
            f"the shares of the requests add up to {sum(given):.6g}; expected 1, each above 0",
        )


def _shared_out(
    pools: Mapping[str, Parts], serving: Serving, world: World, workload: Workload, slo: Slo
) -> dict[str, tuple[Part, ...]]:
    """Every kind of worker with its share: as given, else in proportion to what each can serve."""
    found: dict[str, tuple[Part, ...]] = {}
    for role, parts in pools.items():
        kinds = [pool for _, pool, _ in parts]
        shares = [share for _, _, share in parts]
        if len(parts) == 1:
            shares = [1.0]
        elif None in shares:
            found[role] = split_by_rate(world, serving, role, kinds, workload, slo)
            continue
        else:
            total = sum(s for s in shares if s)
            if abs(total - 1.0) > 10.0**-DIGITS:  # shares given with few digits are to add up, too
                shares = [(s or 0.0) / total for s in shares]
        found[role] = tuple(
            Part(pool=pool, share=float(share or 0.0)) for pool, share in zip(kinds, shares, strict=True)
        )
    return found


def _check_pools(
    document: Document, pools: Mapping[str, Parts], model: Model, entries: Entries, findings: Findings
) -> None:
    for place, pool, _ in (part for parts in pools.values() for part in parts):
        accelerator = entries.accelerators.get(pool.hardware)
        if accelerator is None:
            continue
        for key, message in pool_findings(pool, model, accelerator):
            findings.say(
                document.where((*place, key)), f"'{key}': {message}" if key != "hardware" else message
            )


def _notes(plan: Plan, workload: Workload, world: World, catalog: Catalog) -> list[str]:
    notes: list[str] = []
    model = world.model(plan.model)
    if workload.isl + workload.osl > model.max_context:
        notes.append(context_note(model.name, workload.isl + workload.osl, model.max_context))
    for pool in plan.pools.values():
        notes += pool_notes(pool, world.accelerator(pool.hardware))
        price = world.price(pool.hardware)
        if price != price:
            notes.append(
                f"no price is known for {pool.hardware}: costs are left out; "
                f"give one, e.g. --price {pool.hardware}=2.50"
            )
    if world.calibration:
        notes += world.calibration.notes(plan.model, tuple(world.accelerators), plan.engine)
    notes += [f"catalog: {problem}" for problem in catalog.problems]
    return list(dict.fromkeys(notes))
