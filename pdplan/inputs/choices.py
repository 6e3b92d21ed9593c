"""Formats that a question leaves open: `any`, `auto`, or a list, in place of one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import Model
from pdplan.calibrated import Calibration
from pdplan.compose import KV_PRECISIONS
from pdplan.efficiency import engine_constants
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.inputs.given import Findings, Given, Values
from pdplan.inputs.names import (
    document_of,
    kv_precision_from,
    measured_acceptance,
    precision_from,
    split_names,
)
from pdplan.inputs.quantities import choice, count_from, speculation_from
from pdplan.plan import OVERLAPS
from pdplan.question import Choices
from pdplan.units import parse_tokens
from pdplan.workload import NO_SPECULATION, Speculation

ANY = "any"
AUTO = "auto"
SPECULATIONS = ("none", "mtp", AUTO)
CHUNKS = (1024, 2048, 4096, 16384, 32768)
"""What `auto` tries beside the engine's own: powers of two as engines are run with."""
LEAST_CHUNK, MOST_CHUNK = 16, 1_000_000


def choices_from(
    values: Values, model: Model, engine: str, findings: Findings, calibration: Calibration | None = None
) -> Choices:
    """Every format that the question allows, the first of each its default."""
    precisions = _each(values, "precision", tuple(model.checkpoints), findings, _precision(model))
    caches = _each(values, "kv_precision", KV_PRECISIONS[1:], findings, _kv_precision)
    return Choices(
        precisions=precisions,
        kv_precisions=caches,
        speculations=speculations_from(values, model, engine, findings, calibration),
        chunk_tokens=chunks_from(values, findings),
    )


def speculations_from(
    values: Values, model: Model, engine: str, findings: Findings, calibration: Calibration | None = None
) -> tuple[Speculation, ...]:
    """none; mtp: as many tokens as deployments draft; auto: none, or any number up to that."""
    word, accepted = _word(values), measured_acceptance(engine, calibration)
    if word is None:
        return (speculation_from(values, findings, accepted),)
    where = values["speculation"].where
    if word not in SPECULATIONS:
        close = nearest(word, SPECULATIONS)
        hint = f"; did you mean {quoted_list(close)}?" if close else ""
        findings.say(where, f"'{word}' is not known{hint} (one of {', '.join(SPECULATIONS)})")
        return (NO_SPECULATION,)
    rest = {k: v for k, v in values.items() if k != "speculation"}
    if word == "none":
        for key in ("drafted", "acceptance"):
            if key in rest:
                findings.say(rest[key].where, f"nothing is drafted with {where} none; leave one of them out")
        return (NO_SPECULATION,)
    try:
        constants = engine_constants(engine, document=document_of(calibration))
    except InputError:  # told where the engine is read
        return (NO_SPECULATION,)
    most = count_from(rest, "drafted", findings, 0, 16)
    if model.draft is None and most is None:
        if word == AUTO:
            return (NO_SPECULATION,)
        findings.say(
            where,
            f"{model.name} has no layers for multi-token prediction; give the tokens that a drafter of yours "
            "proposes, and the share accepted: --drafted 3 --acceptance 0.6",
        )
    most = int(constants.mtp_drafted) if most is None else most
    drafting = speculation_from({**rest, "drafted": Given(most, "drafted")}, findings, accepted)
    if word == "mtp":
        return (drafting,)
    fewer = (replace(drafting, drafted=k) for k in range(1, drafting.drafted + 1))
    return (NO_SPECULATION, *fewer)


def exchange_from(values: Values, model: Model, findings: Findings) -> dict[str, Any]:
    """How a plan exchanges tokens with experts: `redundant_experts` and `overlap`."""
    blocks = [g.feed_forward for g in model.layers if isinstance(g.feed_forward, Experts)]
    for key in ("redundant_experts", "overlap"):
        if key in values and values[key].value not in (0, "0", "none") and not blocks:
            findings.say(values[key].where, f"{model.name} has no experts; leave it out")
            return {}
    most = min((block.experts for block in blocks), default=0)
    redundant = count_from(values, "redundant_experts", findings, 0, most)
    overlap = choice(values["overlap"], OVERLAPS, findings) if "overlap" in values else None
    return {"redundant_experts": redundant or 0, "overlap": overlap or "none"}


def chunks_from(values: Values, findings: Findings) -> tuple[int | None, ...]:
    """Sizes of a chunk, None for the engine's own; `auto` tries several."""
    if "chunk_tokens" not in values:
        return (None,)
    given = values["chunk_tokens"]
    found: dict[int | None, None] = {}
    for text in split_names(given.value):
        if text.casefold() == AUTO:
            found.update(dict.fromkeys((None, *CHUNKS)))
            continue
        tokens = findings.attempt(parse_tokens, text, name=given.where)
        if tokens is None:
            continue
        if not LEAST_CHUNK <= tokens <= MOST_CHUNK:
            findings.say(
                given.where,
                f"{tokens:,} is out of range; expected {LEAST_CHUNK} to {MOST_CHUNK:,} tokens, or auto",
            )
        else:
            found[tokens] = None
    return tuple(found) or (None,)


# ------------------------------------------------------------------------ inside


def _word(values: Values) -> str | None:
    """`speculation` as a word; None where it is absent or holds {drafted, acceptance}."""
    given = values.get("speculation")
    if given is None or not isinstance(given.value, str):
        return None
    return given.value.strip().casefold()


def _each(
    values: Values,
    key: str,
    known: tuple[str, ...],
    findings: Findings,
    read: Callable[[Values, Findings], str],
) -> tuple[str, ...]:
    """The values of one key: all that are known, those of a list, or the one."""
    given = values.get(key)
    names = [] if given is None else split_names(given.value)
    if given is None or not names:
        return (read(values, findings),)
    found: dict[str, None] = {}
    for name in names:
        if name.casefold() == ANY:
            found.update(dict.fromkeys(known))
        else:
            found[read({**values, key: Given(name, given.where)}, findings)] = None
    return tuple(found)


def _precision(model: Model) -> Callable[[Values, Findings], str]:
    return lambda values, findings: precision_from(values, model, findings)


def _kv_precision(values: Values, findings: Findings) -> str:
    return kv_precision_from(values, findings)
