"""Writing the lines of one step's terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.sources import COUNTED, ENGINE_FORMAT, Sources
from pdplan.ops import Op

Known = dict[str, Quantity]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes the lines of one step's terms."""

    builder: Builder
    sources: Sources
    known: Known
    """What the step has established so far, by symbol: tokens m, prompts b_p, running sequences b_d …"""
    routed: Known = field(default_factory=dict)
    """Routing lines by model block, so that two matrices of one block share them."""

    def line(
        self,
        group: str,
        symbol: str,
        name: str,
        expression: str,
        inputs: Mapping[str, Quantity],
        unit: str,
        **more: object,
    ) -> Quantity:
        return self.builder.line(symbol, name, expression, inputs, unit, group=group, detail=True, **more)  # type: ignore[arg-type]


def used_in(expression: str, inputs: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """The inputs that an expression names, in its order."""
    names = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", expression))
    return {name: inputs[name] for name in names if name in inputs}


_UNITS = {
    "m": "tokens",
    "s": "ranks",
    "s_1": "ranks",
    "w": "B",
    "a": "B",
    "kv": "B",
    "b": "sequences",
    "n": "tokens",
    "p": "tokens",
    "first": "tokens",
    "last": "tokens",
    "x": "entries",
    "P": "pairs",
    "limit": "entries",
    "h": "heads",
    "e": "elements",
    "T": "tokens",
    "X": "experts",
    "Y": "experts",
    "R": "rows",
    "E": "experts",
    "ep": "ranks",
    "dp": "ranks",
    "tp": "ranks",
    "L": "layers",
    "f": "FLOP",
    "S": "elements",
    "R_e": "experts",
    "g": "ranks",
    "h_s": "heads",
}
_FROM_PLAN = {"R_e", "s", "s_1", "g", "ep", "dp", "tp"}


def plain_input(sources: Sources, op: Op, name: str) -> Quantity:
    """An input of an op that no line derives."""
    value, unit = number(op.inputs[name]), _UNITS.get(name, "")
    if name == "a":
        return Quantity(value, unit, ENGINE_FORMAT)
    if name == "kv":
        return Quantity(value, unit, f"KV cache kept as {sources.setting.formats.kv}")
    if name == "w" and op.family in ("gemm", "experts"):
        formats = sources.setting.formats
        return Quantity(value, unit, f"weights stored as {formats.precision}: {formats.checkpoint.source}")
    if op.family == "indexer" and name == "s":
        return Quantity(value, "B", "scores are written in 32 bit (pdplan.ops)")
    if name == "w":
        return Quantity(value, "B", f"{op.name} format")
    if name == "h_s":
        return Quantity(value, unit, f"{COUNTED}: query heads that share a cached head")
    if name in _FROM_PLAN:
        return sources.plan(value, unit)
    if name == "skew":
        return sources.engine("expert_skew")
    if name == "drift":
        return sources.engine("popularity_drift")
    return sources.model(value, unit)
