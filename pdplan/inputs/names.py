"""Which catalog entries, formats and engines are meant; only the files needed are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pdplan.architecture.checkpoints import PRECISIONS, checkpoint_for
from pdplan.architecture.model import Model
from pdplan.calibrated import Calibration, read_calibration
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.compose import KV_PRECISIONS, NetworkSpec, World, kv_precision_for
from pdplan.efficiency import engine_constants
from pdplan.errors import InputError
from pdplan.inputs.given import Findings, Given, Values
from pdplan.inputs.quantities import choice, prices_from
from pdplan.market import Market
from pdplan.workload import Speculation

DEFAULT_ENGINE = "vllm"
POPULAR_MODELS = ("deepseek-r1", "llama-3.3-70b", "qwen3-235b-a22b", "gpt-oss-120b")
POPULAR_HARDWARE = ("h100", "h200", "b200", "mi300x", "mi355x")


@dataclass
class Entries:
    """The catalog entries that an input names, under their own names."""

    catalog: Catalog
    models: dict[str, Model] = field(default_factory=dict)
    accelerators: dict[str, Accelerator] = field(default_factory=dict)
    calibration: Calibration | None = None

    def model(self, values: Values, findings: Findings) -> Model | None:
        if "model" not in values:
            findings.messages.append(
                f"model is missing; give one, e.g. --model {POPULAR_MODELS[0]} "
                f"(`pdplan models list` shows all: {', '.join(POPULAR_MODELS)}, ...)"
            )
            return None
        given = values["model"]
        found = findings.attempt_at(given.where, self.catalog.model, str(given.value))
        if found is not None:
            self.models[found.name] = found
        return found

    def accelerator(self, name: str, where: str, findings: Findings) -> Accelerator | None:
        found = findings.attempt_at(where, self.catalog.accelerator, name)
        if found is not None:
            self.accelerators[found.name] = found
        return found

    def hardware(self, values: Values, key: str, findings: Findings) -> tuple[str, ...]:
        """Names of the accelerators under a key, each once, in the order given."""
        if key not in values:
            return ()
        given = values[key]
        found: dict[str, None] = {}
        names = split_names(given.value)
        if not names:
            findings.say(given.where, "no accelerator is named; give one or more, e.g. h200")
        for name in names:
            accelerator = self.accelerator(name, given.where, findings)
            if accelerator is not None:
                found[accelerator.name] = None
        return tuple(found)

    def prices(self, values: Values, findings: Findings) -> dict[str, float]:
        """By the accelerators' own names."""
        found: dict[str, float] = {}
        for name, (price, where) in prices_from(values, findings).items():
            accelerator = findings.attempt_at(where, self.catalog.accelerator, name)
            if accelerator is not None:
                found[accelerator.name] = price
        return found

    def world(self, prices: dict[str, float], network: NetworkSpec, market: Market | None = None) -> World:
        return World(
            models=self.models,
            accelerators=self.accelerators,
            prices=prices,
            network=network,
            market=market or Market(),
            calibration=self.calibration,
        )

    def digest(self) -> str:
        """SHA-256 over the catalog files that take part."""
        return self.catalog.digest_of([*self.models.values(), *self.accelerators.values()])


def split_names(value: object) -> list[str]:
    """
    >>> split_names("h200, mi355x"), split_names(["h200", "b200"])
    (['h200', 'mi355x'], ['h200', 'b200'])
    """
    texts: Iterable[object] = (
        [value] if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    )
    return [name.strip() for text in texts for name in str(text).split(",") if name.strip()]


def calibration_from(values: Values, findings: Findings) -> Calibration | None:
    """The calibration that is named; its own errors say where in its file they are."""
    if "calibration" not in values:
        return None
    given = values["calibration"]
    try:
        return read_calibration(str(given.value))
    except InputError as problem:
        own = f"{given.value}:"
        findings.messages += [
            m if m.startswith(own) and m[len(own) : len(own) + 1].isdigit() else f"{given.where}: {m}"
            for m in problem.messages
        ]
        return None


def document_of(calibration: Calibration | None) -> Mapping[str, Any] | None:
    """The engine constants to use; None is the shipped ones."""
    return calibration.document if calibration else None


def engine_from(values: Values, findings: Findings, calibration: Calibration | None = None) -> str:
    given = values.get("engine", Given(DEFAULT_ENGINE, "engine"))
    name = str(given.value).strip().casefold()
    findings.attempt_at(given.where, engine_constants, name, "", document_of(calibration))
    return name


def measured_acceptance(engine: str, calibration: Calibration | None = None) -> float:
    """Share of drafts that measured runs of an engine accepted; an unknown engine is told elsewhere."""
    try:
        return engine_constants(engine, document=document_of(calibration)).mtp_acceptance
    except InputError:
        return Speculation().acceptance


_IN_NAME = dict.fromkeys(("fp4", "nvfp4", "mxfp4"), "fp4") | {
    "fp8": "fp8",
    "int8": "int8",
    "int4": "int4",
    "awq": "int4",
    "gptq": "int4",
    "w4a16": "int4",
}


def precision_in_name(name: str) -> str | None:
    """The precision that the name of a quantised repository states.

    >>> precision_in_name("nvidia/DeepSeek-R1-0528-NVFP4"), precision_in_name("deepseek-r1")
    ('fp4', None)
    """
    words = name.casefold().replace("_", "-").split("-")
    return next((_IN_NAME[w] for w in reversed(words) if w in _IN_NAME), None)


def precision_from(values: Values, model: Model, findings: Findings) -> str:
    """The format asked for, or that of the publisher's own checkpoint."""
    native = next(iter(model.checkpoints))
    if "precision" not in values:
        named = precision_in_name(str(values["model"].value)) if "model" in values else None
        return named or native
    given = values["precision"]
    name = str(given.value).strip().casefold()
    try:
        checkpoint_for(model, name)
    except InputError as problem:
        known = ", ".join(dict.fromkeys((*model.checkpoints, *PRECISIONS)))
        findings.say(given.where, f"{problem} (one of {known})")
    return name


def kv_precision_from(values: Values, findings: Findings) -> str:
    """bf16, fp8 or auto: see `resolved_kv_precision` for what that means."""
    given = values.get("kv_precision", Given("auto", "kv_precision"))
    return choice(given, KV_PRECISIONS, findings) or "auto"


def resolved_kv_precision(
    name: str, precision: str, engine: str, calibration: Calibration | None = None
) -> str:
    """What auto means for an engine; an engine that is not known is told elsewhere."""
    try:
        return kv_precision_for(name, precision, engine, document_of(calibration))
    except InputError:
        return name
