"""Constants of links: the library's collectives, and the all-reduces that are an engine's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pdplan.kernel_file import FIRST_PRINCIPLES, Provenance, provenance_of, scopes_of
from pdplan.laws.collectives import Links


@dataclass(frozen=True, kw_only=True)
class LinkSpeeds:
    """Data-sheet links of an accelerator, bytes/s per accelerator and direction."""

    scale_up_bytes_per_s: float
    scale_out_bytes_per_s: float
    domain_size: int
    switch_reduces: bool = False


_DATA_SHEET_LINKS = {f.name for f in fields(LinkSpeeds)}
_LINK_FIELDS = tuple(f.name for f in fields(Links) if f.name not in _DATA_SHEET_LINKS)
_SHOTS = ("scale_up_latency_s", "two_shot_rank_latency_s", "direct_efficiency")
"""Constants of an engine's own all-reduces; adding in the switch, two more."""
_SWITCH = ("switch_latency_s", "switch_efficiency")
_FUSED = "trtllm"
"""Whose all-reduces fuse norms, by the name in kernels.json: FlashInfer brings them to other engines."""


def links_of(
    accelerator: str, generation: str, speeds: LinkSpeeds, engine: str, fused: bool = False
) -> tuple[Links, dict[tuple[str, str], Provenance]]:
    """Each link constant from the nearest block that has it, the engine's own before those of all.

    fused: its all-reduces are those that fuse norms. The provenance of links is the nearest block's.
    """
    values = _constants(accelerator, generation, engine)
    links = Links(
        scale_up_bytes_per_s=speeds.scale_up_bytes_per_s,
        scale_out_bytes_per_s=speeds.scale_out_bytes_per_s,
        domain_size=speeds.domain_size,
        switch_reduces=speeds.switch_reduces,
        **values,
    )
    if fused:
        links = with_fused_all_reduces(links, accelerator, generation)
    origins = _origins(accelerator, generation, _FUSED if fused else engine)
    return links, origins


def with_all_reduces(links: Links, accelerator: str, generation: str, kernels: str) -> Links:
    """The same links under all-reduces of a name in kernels.json: an engine's, or of its older versions."""
    return _with(links, (*_SHOTS, *_SWITCH), _constants(accelerator, generation, kernels))


def with_fused_all_reduces(links: Links, accelerator: str, generation: str) -> Links:
    """The same links under the kernels that fuse norms."""
    return _with(links, _SHOTS, _constants(accelerator, generation, _FUSED))


def _with(links: Links, names: tuple[str, ...], values: Mapping[str, float]) -> Links:
    return replace(links, **{name: values[name] for name in names if name in values})  # type: ignore[arg-type]


def _constants(accelerator: str, generation: str, kernels: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for _, block in scopes_of(accelerator, generation):
        entry = block.get("links", {})
        own: Mapping[str, Any] = {**entry, **entry.get("engines", {}).get(kernels, {})}
        found = {key: float(own[key]) for key in _LINK_FIELDS if key in own} | found
    return found


def _origins(accelerator: str, generation: str, kernels: str) -> dict[tuple[str, str], Provenance]:
    """Where the constants of links come from, and those of all-reduces: an engine's, or those of all."""
    for scope, block in scopes_of(accelerator, generation):
        if not (entry := block.get("links")):
            continue
        origin = provenance_of(entry, scope)
        if own := entry.get("engines", {}).get(kernels):
            found = provenance_of({**entry, **own}, f"{scope}, {kernels}")
        else:
            found = replace(origin, median_error=entry.get("all_reduce_median_error"), p90_error=None)
        return {("links", ""): origin, ("all_reduce", ""): found}
    return {("links", ""): FIRST_PRINCIPLES, ("all_reduce", ""): FIRST_PRINCIPLES}
