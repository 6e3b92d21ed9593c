"""A fleet file: several deployments, what they share, what they may cost together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pdplan.catalog.store import Catalog
from pdplan.documents.file_kinds import expect, read_kind
from pdplan.documents.files import Document
from pdplan.documents.validation import validate
from pdplan.inputs.given import Findings, Given, Values, given_in
from pdplan.inputs.quantities import count_from
from pdplan.inputs.questions import merged, question_from, with_paths
from pdplan.inputs.schemas import MarketKeys, NetworkKeys, Quantity, QuestionKeys
from pdplan.inputs.spelling import as_keys
from pdplan.search.fleets.fleet import Budgets, Wanted
from pdplan.units import parse_duration_s, parse_money

_STRICT = {"extra": "forbid"}
MARKET_KEYS = ("inventory", "price_kind", "provider", "granularity", "prices")
SHARED_KEYS = (*MARKET_KEYS, "network", "calibration")
"""What every deployment of a fleet has in common, so that it stands at the top alone."""
BUDGET_KEYS = ("max_gpus", "max_usd_per_h", "time_limit")
MOST_DEPLOYMENTS = 100
LONGEST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class FleetKeys(MarketKeys):
    """What `pdplan fleet` reads."""

    __pydantic_config__ = _STRICT
    deployments: dict[str, QuestionKeys]
    defaults: QuestionKeys | None = None
    prices: dict[str, Quantity] | None = None
    network: str | NetworkKeys | None = None
    calibration: str | None = None
    max_gpus: float | None = None
    max_usd_per_h: Quantity | None = None
    time_limit: Quantity | None = None


@dataclass(frozen=True, kw_only=True)
class AskedFleet:
    """The deployments, their budgets, and what to tell the user about both."""

    wanted: tuple[Wanted, ...]
    budgets: Budgets
    catalog_sha256: str
    notes: tuple[str, ...] = ()


def read_fleet(path: str | Path, catalog: Catalog, flags: Values | None = None) -> AskedFleet:
    """The fleet of a file; flags (inventory, prices, budgets) override it."""
    return fleet_from(read_kind(path, "fleet"), catalog, flags)


def fleet_from(document: Document, catalog: Catalog, flags: Values | None = None) -> AskedFleet:
    """The fleet of a document; raises InputError with everything that is wrong with it."""
    document = as_keys(expect(document, "fleet"))
    keys = validate(FleetKeys, document)
    findings = Findings()
    top = with_paths(
        given_in(document, {k: v for k, v in asdict(keys).items() if k in (*SHARED_KEYS, *BUDGET_KEYS)}),
        document,
    )
    values = {**merged(top, {k: v for k, v in (flags or {}).items() if k in SHARED_KEYS})}
    values.update({k: v for k, v in (flags or {}).items() if k in BUDGET_KEYS})
    budgets = _budgets(values, findings)
    shared = {k: v for k, v in values.items() if k in SHARED_KEYS}
    if not 1 <= len(keys.deployments) <= MOST_DEPLOYMENTS:
        where = document.where(("deployments",))
        findings.say(where, f"{len(keys.deployments)} deployments; expected 1 to {MOST_DEPLOYMENTS}")
    defaults = _own(document, keys.defaults, ("defaults",), findings) if keys.defaults else {}
    wanted: list[Wanted] = []
    notes: list[str] = []
    digests: list[Any] = []
    for name, entry in keys.deployments.items():
        own = _own(document, entry, ("deployments", name), findings)
        asked = _asked(name, {**merged(defaults, own), **shared}, document, catalog, findings)
        if asked is not None:
            wanted.append(asked[0])
            notes += asked[1]
            digests += [*asked[0].world.models.values(), *asked[0].world.accelerators.values()]
    findings.check()
    used = {hw for each in wanted for hw in each.world.accelerators}
    # What one deployment does not use, another may.
    notes = [n for n in notes if not (n.startswith("the ") and "is not used" in n)]
    market = wanted[0].world.market
    notes += [
        f"the inventory of '{name}' is not used: no deployment may use it"
        for name in market.inventory
        if name not in used
    ]
    return AskedFleet(
        wanted=tuple(wanted),
        budgets=budgets,
        catalog_sha256=catalog.digest_of(digests),
        notes=tuple(dict.fromkeys(notes)),
    )


# ------------------------------------------------------------------------ inside


def _own(
    document: Document, keys: QuestionKeys, location: tuple[str, ...], findings: Findings
) -> dict[str, Given]:
    """The values of one deployment, or of the defaults: nothing that the fleet shares."""
    values = given_in(document, {k: v for k, v in asdict(keys).items() if v is not None}, location)
    for key in SHARED_KEYS:
        if key in values:
            findings.say(values[key].where, "all deployments of a fleet share it; write it at the top")
            del values[key]
    for key in ("objective", "mix", "alternatives"):
        if key in values:
            findings.say(values[key].where, "a fleet is planned for least cost, mixes included; leave it out")
            del values[key]
    if "max_usd_per_h" in values:
        findings.say(
            values["max_usd_per_h"].where, "money is the fleet's: write it at the top, or give max_gpus here"
        )
        del values["max_usd_per_h"]
    return values


def _asked(
    name: str, values: Mapping[str, Given], document: Document, catalog: Catalog, findings: Findings
) -> tuple[Wanted, list[str]] | None:
    """One deployment and its notes; its errors say which one it is."""
    where = document.where(("deployments", name))
    inner = Findings()
    if "rate" not in values and "concurrency" not in values:
        inner.messages.append("the load is missing; give a rate, e.g. rate: 20")
    asked = inner.attempt(question_from, values, catalog, needs_load=False)
    findings.messages += [
        m if m.startswith(f"{document.path}:") else f"{where}: '{name}': {m}" for m in inner.messages
    ]
    if asked is None or inner.messages:
        return None
    if asked.question.choices:
        findings.say(
            where,
            f"'{name}': precision, kv_precision, speculation or chunk_tokens is open; choose one of each",
        )
        return None
    question = replace(asked.question, mix=True)
    return Wanted(name=name, question=question, world=asked.world), list(asked.notes)


def _budgets(values: Mapping[str, Given], findings: Findings) -> Budgets:
    found: dict[str, float] = {}
    gpus = count_from(values, "max_gpus", findings)
    if gpus is not None:
        found["max_gpus"] = gpus
    if "max_usd_per_h" in values:
        given = values["max_usd_per_h"]
        usd = findings.attempt(parse_money, given.value, name=given.where, allow_zero=False)
        if usd is not None:
            found["max_usd_per_h"] = usd
    if "time_limit" in values:
        given = values["time_limit"]
        seconds = findings.attempt(parse_duration_s, given.value, name=given.where)
        if seconds is not None and not 0.1 <= seconds <= LONGEST_S:
            findings.say(given.where, f"{given.value} is out of range; expected 0.1s to 1h")
        elif seconds is not None:
            found["time_limit_s"] = seconds
    return Budgets(**found)
