"""The file of kernel constants: its blocks that apply to an accelerator, and where each comes from."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdplan.documents.files import read_text

CONSTANTS_DIRECTORY = Path(__file__).parent / "constants"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a constant comes from and how well it fits."""

    source: str
    scope: str
    """Whose constants these are: the accelerator's own, its generation's, or the default."""
    rows: int = 0
    median_error: float | None = None
    p90_error: float | None = None


FIRST_PRINCIPLES = Provenance(source="first principles", scope="ideal")


@functools.cache
def kernel_file() -> dict[str, Any]:
    """constants/kernels.json; nobody changes it."""
    return dict(json.loads(read_text(CONSTANTS_DIRECTORY / "kernels.json")))


def scopes_of(accelerator: str, generation: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Blocks that apply, nearest first: accelerator, another of the same chip, generation, what that inherits
    from, defaults."""
    kernels = kernel_file()
    scopes: list[tuple[str, Mapping[str, Any]]] = []
    measured = kernels.get("accelerators") or {}
    own = measured.get(accelerator, {})
    for name in (accelerator, own.get("inherits")):
        if measured.get(name, {}).keys() - {"inherits"}:
            scopes.append((f"measured on {name}", measured[name]))
    generations = kernels.get("generations") or {}
    seen: set[str] = set()
    current: str | None = generation
    while current and current in generations and current not in seen:
        seen.add(current)
        how = "generation" if current == generation else "inherited from"
        scopes.append((f"{how} {current}", generations[current]))
        current = generations[current].get("inherits")
    scopes.append(("default of all accelerators", kernels["defaults"]))
    return scopes


def provenance_of(entry: Mapping[str, Any], scope: str) -> Provenance:
    """Where an entry of the file comes from, as its fit says."""
    source = kernel_file()["sources"][entry["source"]]
    return Provenance(
        source=source["title"],
        scope=scope,
        rows=int(entry.get("rows", 0)),
        median_error=entry.get("median_error"),
        p90_error=entry.get("p90_error"),
    )
