"""Flags, a question file or Python arguments become a Question and its World."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pdplan.catalog.store import Catalog
from pdplan.compose import World
from pdplan.documents.file_kinds import expect, kind_of, read_kind
from pdplan.documents.files import Document
from pdplan.documents.validation import validate
from pdplan.errors import InputError
from pdplan.inputs.choices import choices_from, exchange_from
from pdplan.inputs.given import Findings, Given, Values, given_in
from pdplan.inputs.markets import inventory_names, market_from
from pdplan.inputs.names import (
    POPULAR_HARDWARE,
    Entries,
    calibration_from,
    engine_from,
    resolved_kv_precision,
)
from pdplan.inputs.quantities import (
    budget_from,
    choice,
    count_from,
    headroom_from,
    network_from,
    slo_from,
    slo_notes,
    spare_from,
    workload_from,
)
from pdplan.inputs.schemas import QuestionKeys
from pdplan.inputs.spelling import as_keys
from pdplan.market import Market
from pdplan.question import Choices, Goal, Mode, Question

MODES = ("any", "colocated", "disaggregated")
GOALS = ("cost", "gpus", "energy")
_OF_PLANS = {
    "slo": "its keys (ttft, tpot, latency, percentile)",
    "workload": "its keys (isl, osl, rate, prefix_reuse and so on)",
}
ROLE_KEYS = ("prefill_hardware", "decode_hardware")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, the world it is asked of, and what to tell the user about it."""

    question: Question
    world: World
    catalog_sha256: str
    notes: tuple[str, ...] = ()


def read_question(path: str | Path) -> dict[str, Given]:
    """The values of a question file, unit texts unread, each with file:line:column."""
    return question_values(read_kind(path, "question"))


def question_values(document: Document) -> dict[str, Given]:
    document = as_keys(expect(document, "question"))
    for key, its in _OF_PLANS.items():
        if key in document.data:
            raise InputError(f"{document.where((key,))}: '{key}' is of plans; here {its} stand at the top")
    keys = validate(QuestionKeys, document)
    present = {k: v for k, v in asdict(keys).items() if v is not None}
    return with_paths(given_in(document, present), document)


def with_paths(values: Values, document: Document) -> dict[str, Given]:
    """Values with the names of files made relative to the document's folder."""
    found = dict(values)
    if "calibration" in found and isinstance(found["calibration"].value, str):
        given = found["calibration"]
        beside = os.path.join(os.path.dirname(document.path), given.value)
        found["calibration"] = Given(os.path.normpath(beside), given.where)
    return found


def question_from(values: Values, catalog: Catalog, *, needs_load: bool = True) -> Asked:
    """The question that values ask; raises InputError with everything that is wrong with them.

    `needs_load`: a rate, or a number of accelerators, must be given.
    """
    findings = Findings()
    entries = Entries(catalog)
    model = entries.model(values, findings)
    hardware = _roles(values, entries, findings)
    calibration = entries.calibration = calibration_from(values, findings)
    engine = engine_from(values, findings, calibration)
    choices = choices_from(values, model, engine, findings, calibration) if model else Choices()
    exchange = exchange_from(values, model, findings) if model else {}
    workload = workload_from(values, findings, needs_load=False)
    slo = slo_from(values, findings, calibration)
    max_gpus = count_from(values, "max_gpus", findings)
    max_usd_per_h = budget_from(values, findings)
    budgets = {"max_gpus", "max_usd_per_h", "inventory"}
    if needs_load and not {"rate", "concurrency", *budgets} & values.keys():
        findings.messages.append(
            "the load is missing; give --rate (requests/s, for the cheapest plan), --max-gpus or "
            "--max-usd-per-h (for the most goodput)"
        )
    if "concurrency" in values:
        findings.say(
            values["concurrency"].where,
            "a plan is sized for a rate; give --rate (`pdplan evaluate` takes a concurrency)",
        )
    max_gpus_per_worker = count_from(values, "max_gpus_per_worker", findings)
    alternatives = count_from(values, "alternatives", findings, 0, 100)
    mode = choice(values["mode"], MODES, findings) if "mode" in values else "any"
    objective = choice(values["objective"], GOALS, findings) if "objective" in values else "cost"
    spare_workers, headroom = spare_from(values, findings), headroom_from(values, findings)
    prices = entries.prices(values, findings)
    market = market_from(values, entries, prices, findings)
    world = entries.world(prices, network_from(values, findings), market)
    if not {"rate", "max_gpus", "max_usd_per_h"} & values.keys():
        _require_limits(market, entries, values, findings)
    findings.check()
    assert model is not None
    assert workload is not None
    assert slo is not None
    precision = choices.precisions[0]
    extra: dict[str, Any] = {} if alternatives is None else {"alternatives": alternatives}
    question = Question(
        model=model.name,
        workload=workload,
        slo=slo,
        precision=precision,
        kv_precision=resolved_kv_precision(choices.kv_precisions[0], precision, engine, calibration),
        engine=engine,
        speculation=choices.speculations[0],
        **exchange,
        chunk_tokens=choices.chunk_tokens[0],
        choices=choices if choices else Choices(),
        mode=cast(Mode, mode),
        max_gpus=max_gpus,
        max_usd_per_h=max_usd_per_h,
        max_gpus_per_worker=max_gpus_per_worker,
        objective=cast(Goal, objective),
        spare_workers=spare_workers,
        headroom=headroom,
        mix=_switch(values, "mix", findings),
        **hardware,
        **extra,
    )
    return Asked(
        question=question,
        world=world,
        catalog_sha256=entries.digest(),
        notes=tuple(_notes(question, world, catalog)),
    )


# ------------------------------------------------------------------------ inside


def _roles(values: Values, entries: Entries, findings: Findings) -> dict[str, Any]:
    """Accelerators by role; where --hardware is absent, colocated pools may use either role's."""
    if not {"hardware", *ROLE_KEYS} & values.keys() and (named := inventory_names(values)):
        values = {**values, "hardware": Given(named, values["inventory"].where)}
    both = entries.hardware(values, "hardware", findings)
    prefill, decode = (entries.hardware(values, key, findings) or both for key in ROLE_KEYS)
    if "hardware" not in values:
        absent = [key for key in ROLE_KEYS if key not in values]
        some = ", ".join(POPULAR_HARDWARE)
        if len(absent) == 2 and "inventory" in values and values["inventory"].value:
            pass  # what is wrong with the inventory that should name them is told where it is read
        elif len(absent) == 2:
            findings.messages.append(
                f"hardware is missing; give one or more accelerators, e.g. --hardware h200 "
                f"(`pdplan hardware list` shows all: {some}, ...)"
            )
        elif absent:
            findings.say(
                values[next(k for k in ROLE_KEYS if k not in absent)].where,
                f"{absent[0]} is missing; give it, too, or --hardware for every role",
            )
    return {
        "prefill_hardware": prefill,
        "decode_hardware": decode,
        "colocated_hardware": both or tuple(dict.fromkeys((*prefill, *decode))),
    }


def _require_limits(market: Market, entries: Entries, values: Values, findings: Findings) -> None:
    """The most goodput of an inventory: of every accelerator there must be only so many."""
    endless = [name for name in entries.accelerators if name not in market.limited]
    if "inventory" in values and endless:
        findings.say(
            values["inventory"].where,
            f"there is no limit on {' and '.join(endless)}, and no rate; give a number of each, --max-gpus, "
            "or --rate",
        )


def _switch(values: Values, key: str, findings: Findings) -> bool | None:
    """Something that is on or off; None where nothing is said."""
    if key not in values:
        return None
    text = str(values[key].value).strip().casefold()
    if text not in ("true", "yes", "on", "false", "no", "off"):
        findings.say(values[key].where, f"'{values[key].value}' is not known (one of true, false)")
    return text in ("true", "yes", "on")


def _notes(question: Question, world: World, catalog: Catalog) -> list[str]:
    notes = slo_notes(question.slo)
    model, workload = world.model(question.model), question.workload
    if workload.isl + workload.osl > model.max_context:
        notes.append(context_note(model.name, workload.isl + workload.osl, model.max_context))
    unused = [name for name in world.prices if name not in world.accelerators]
    notes += [f"the price of '{name}' is not used: no role may use it" for name in unused]
    unused = [name for name in world.market.inventory if name not in world.accelerators]
    notes += [f"the inventory of '{name}' is not used: no role may use it" for name in unused]
    if world.market.limited:
        endless = [name for name in world.accelerators if name not in world.market.limited]
        notes += [f"there is no limit on {name}: the inventory does not name one" for name in endless]
    if world.calibration:
        notes += world.calibration.notes(question.model, tuple(world.accelerators), question.engine)
    notes += [f"catalog: {problem}" for problem in catalog.problems]
    return notes


def context_note(name: str, tokens: float, limit: int) -> str:
    return (
        f"prompt and answer are {tokens:,.0f} tokens, more than the {limit:,} that {name} was made for; "
        "an engine refuses them unless its context is extended"
    )


def merged(file: Values, flags: Values) -> Mapping[str, Given]:
    """Flags over the file: a load, and the choice of accelerators, are replaced as a whole."""
    kept = dict(file)
    if {"rate", "concurrency"} & flags.keys():
        kept.pop("rate", None)
        kept.pop("concurrency", None)
    if "hardware" in flags:
        for key in ROLE_KEYS:
            kept.pop(key, None)
    if {"drafted", "acceptance"} & flags.keys():
        inner = kept.pop("speculation", None)
        if inner is not None and isinstance(inner.value, Mapping):
            kept.update(inner.value)
        elif inner is not None:
            kept["speculation"] = inner
    if "prices" in flags and "prices" in kept:
        return {**kept, **flags, "prices": Given(_joined_prices(kept["prices"], flags["prices"]), "prices")}
    return {**kept, **flags}


def _joined_prices(file: Given, flags: Given) -> dict[str, Given]:
    """One mapping; a flag replaces the file's price of the same name."""
    from pdplan.inputs.quantities import price_items

    findings = Findings()
    joined = {
        name: Given(price, where)
        for given in (file, flags)
        for name, price, where in price_items(given, findings)
    }
    findings.check()
    return joined


def is_question_file(path: str | Path) -> bool:
    """Whether a file asks for a plan rather than holding one; raises InputError if it does neither."""
    return kind_of(read_kind(path, "plan", "question").data) != "plan"
