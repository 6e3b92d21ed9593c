"""Which kind of file a document is, so that a command given another command's file can say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdplan.documents.files import Document, parse_yaml, read_text, shown_name
from pdplan.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: what it is called, and what to do with one."""

    noun: str
    mend: str


KINDS = {
    "question": Kind(noun="a question", mend="`pdplan recommend` and `pdplan explain` take it"),
    "plan": Kind(noun="a plan", mend="`pdplan evaluate` and `pdplan explain` take it"),
    "day": Kind(noun="a file of a day's rates", mend="`pdplan day` takes it"),
    "budget": Kind(noun="a budget file", mend="`pdplan check` takes it"),
    "fleet": Kind(noun="a fleet file", mend="`pdplan fleet` takes it"),
    "listing": Kind(noun="a listing of measured runs", mend="`pdplan calibrate` takes it"),
    "runs": Kind(noun="a table of measured runs", mend="`pdplan validate` and `pdplan calibrate` take it"),
    "table": Kind(noun="a table (CSV)", mend="`pdplan day` takes tables of rates, `pdplan validate` of runs"),
    "result": Kind(noun="a benchmark's result", mend="`pdplan calibrate` takes it"),
    "calibration": Kind(
        noun="a calibration", mend="use it with --calibration, or as `calibration:` in a file"
    ),
    "printed": Kind(noun="an answer that pdplan printed", mend="give the file that asked for it"),
    "accelerator": Kind(
        noun="a catalog entry of an accelerator",
        mend="name its folder with --catalog, and the accelerator with --hardware",
    ),
    "model": Kind(
        noun="a catalog entry of a model", mend="name its folder with --catalog, and the model with --model"
    ),
    "config": Kind(
        noun="a model's config.json", mend="`pdplan models add` takes it, then name the model with --model"
    ),
}

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_POOLS = {"plan", "prefill", "decode", "colocated"}
_OF_A_PLAN = {"workload", "slo"}
_OF_A_QUESTION = {"hardware", "prefill_hardware", "decode_hardware", "isl", "osl"}


def kind_of(data: Mapping[Any, Any]) -> str | None:
    """The name in KINDS of what a file's top keys show; None where they show none.

    >>> kind_of({"deployments": {"chat": {}}}), kind_of({"deployments": [{}]}), kind_of({"x": 1})
    ('fleet', 'budget', None)
    """
    keys = {k.replace("-", "_") for k in data if isinstance(k, str)}
    if {"cross_validation", "constants_sha256"} & keys:
        return "calibration"
    if "pdplan_version" in keys:
        return "plan" if {"plan", "inputs"} <= keys and "periods" not in keys else "printed"
    if "deployments" in keys:
        return _of_deployments(data["deployments"])
    if "rates" in keys:
        return "day"
    if isinstance(data.get("runs"), list):
        return "listing"
    if {"architectures", "model_type", "text_config"} & keys:
        return "config"
    if "name" in keys and {"vendor", "generation"} & keys:
        return "accelerator"
    if "name" in keys and {"hugging_face_ids", "layers"} & keys:
        return "model"
    if "mean_ttft_ms" in keys or {"request_throughput", "output_throughput"} <= keys:
        return "result"
    if _POOLS & keys:
        return "plan"
    if _OF_A_QUESTION & keys:
        return "question"
    return "plan" if _OF_A_PLAN & keys else None


def expect(document: Document, wanted: str, *also: str) -> Document:
    """The document; raises InputError if it is of another known kind than `wanted` (or `also`)."""
    found = kind_of(document.data)
    if found is not None and found not in (wanted, *also):
        raise InputError(f"{document.where()}: {_mistaken(found, wanted)}")
    return document


def read_kind(path: str | Path, wanted: str, *also: str) -> Document:
    """The mapping in a YAML file of the kind `wanted` (or `also`)."""
    text = read_text(path)
    name = shown_name(path)
    refuse_table(text, name, wanted)
    return expect(parse_yaml(text, name), wanted, *also)


def refuse_table(text: str, name: str, wanted: str) -> None:
    """Raise InputError where a text starts as a CSV table does."""
    table = kind_of_table(text)
    if table is not None:
        raise InputError(f"{name}:1: {_mistaken(table, wanted)}")


def kind_of_table(text: str) -> str | None:
    """Whether a text starts as a CSV table does, and of what."""
    first = text.lstrip().partition("\n")[0].strip()
    columns = [c.strip().strip('"') for c in first.replace(";", ",").replace("\t", ",").split(",")]
    if len(columns) < 2 or not all(c.replace("_", "").isalnum() for c in columns):
        return None
    return "runs" if {"model", "hardware", "isl"} <= set(columns) else "table"


def refuse_separators(header: Sequence[str], path: str) -> None:
    """Raise InputError where a header is one cell, since no comma separates its columns."""
    for mark, words in _OTHER_SEPARATORS.items() if len(header) == 1 else ():
        if mark in header[0]:
            raise InputError(f"{path}:1: {words} separate the columns; save the table with commas")


def mistaken_text(text: str, name: str, wanted: str) -> str | None:
    """What to say of a text that is no `wanted`, where it is a known kind of another; else None.

    For readers of formats that are not YAML.
    """
    try:
        found = kind_of(parse_yaml(text, name).data)
    except InputError:
        found = kind_of_table(text)
    return None if found in (None, wanted, "table") else _mistaken(found, wanted)


def _mistaken(found: str, wanted: str) -> str:
    return f"this is {KINDS[found].noun}, not {KINDS[wanted].noun}; {KINDS[found].mend}"


def _of_deployments(deployments: Any) -> str:
    """Budgets list deployments, each with its plan; fleets name them, each with a question."""
    if not isinstance(deployments, Mapping):
        return "budget"
    entries = [e for e in deployments.values() if isinstance(e, Mapping)]
    return "budget" if any("plan" in e for e in entries) else "fleet"
