"""Fit every kernel constant: `python -m pdplan.calibration.kernels --tables WHEEL --shared FOLDER`.

Reads kernel tables (aiconfigurator-core, and those shared in this project), lets each
family module fit its blocks, and writes pdplan/constants/kernels.yaml. The same
tables give the same bytes. Needs the `calibrate` extra: numpy, scipy, pyarrow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pdplan.calibration import unmeasured
from pdplan.calibration.fit import Block
from pdplan.calibration.tables import Tables
from pdplan.errors import PdplanError
from pdplan.files import write_atomic

MODULES = ("gemm", "experts", "elementwise", "attention", "recurrence", "collectives")
"""Each has `SOURCES` and `fit(tables) -> list[Block]`."""

INHERITS = {
    "blackwell-rtx": "blackwell",
    "cdna4": "cdna3",
    "cdna5": "cdna4",
    "gaudi3": "gaudi2",
    "rubin": "blackwell",
}
"""Generations whose missing constants are nearer to another generation's than to the defaults."""

HEADER = """\
# How far kernels stand from the data sheet, by accelerator, family and arithmetic type.
# Written by `python -m pdplan.calibration.kernels`; edit the fit, not this file.
#
# An accelerator's own entry wins over its generation's, that over the one it inherits from, that
# over the defaults. Errors are |predicted/measured - 1|: median and 90th percentile over `rows`
# measurements; `held_out_median_error` on the fifth of the shapes that the constants had not seen.
# `engines` has constants of an engine whose kernels stand more than 15 % from the common ones.
"""

_ORDER = (
    "compute_efficiency",
    "memory_efficiency",
    "overhead_s",
    "exponent",
    "activation_traffic",
    "row_tile",
    "depth_s",
    "input_traffic",
)
_AFTER = ("rows", "median_error", "p90_error", "held_out_median_error")
_LAST = ("source", "engines")
_WIDTH = 118


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when the file is written, 2 when the tables cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m pdplan.calibration.kernels", description=__doc__)
    parser.add_argument(
        "--tables", help="wheel or unpacked folder of aiconfigurator-core (default: the installed package)"
    )
    parser.add_argument(
        "--shared", default="/work/shared", help="folder with kernels/ and facts/ (default: %(default)s)"
    )
    parser.add_argument(
        "-o",
        "--output",
        default=str(Path(__file__).parents[1] / "constants" / "kernels.yaml"),
        help="file to write",
    )
    options = parser.parse_args(arguments)
    try:
        blocks, sources = fit_all(Tables.open(options.tables, options.shared))
        write_atomic(options.output, render(blocks, sources))
    except PdplanError as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    for line in summary(blocks):
        sys.stderr.write(f"{line}\n")
    return 0


def fit_all(tables: Tables) -> tuple[list[Block], dict[str, Mapping[str, str]]]:
    """Blocks and sources of every family."""
    blocks: list[Block] = []
    sources: dict[str, Mapping[str, str]] = dict(unmeasured.SOURCES)
    for name in MODULES:
        module = importlib.import_module(f"pdplan.calibration.{name}")
        blocks += module.fit(tables)
        sources.update(module.SOURCES)
    return blocks + unmeasured.fit(tables, blocks), sources


def render(blocks: Sequence[Block], sources: Mapping[str, Mapping[str, str]]) -> str:
    """The text of kernels.yaml."""
    used = {str(b.entry["source"]) for b in blocks}
    lines = [HEADER.rstrip("\n"), "sources:"]
    lines += [f"  {key}: {_flow(sources[key])}" for key in sorted(used)]
    lines.append("defaults:")
    lines += _families([b for b in blocks if b.scope == "defaults"], 2)
    for scope in ("generations", "accelerators"):
        lines.append(f"{scope}:")
        names = {b.name for b in blocks if b.scope == scope} | (
            set(INHERITS) if scope == "generations" else set()
        )
        for name in sorted(names):
            lines.append(f"  {name}:")
            if scope == "generations" and name in INHERITS:
                lines.append(f"    inherits: {INHERITS[name]}")
            lines += _families([b for b in blocks if b.scope == scope and b.name == name], 4)
    return "\n".join(lines) + "\n"


def _families(blocks: Sequence[Block], indent: int) -> Iterator[str]:
    """One family after the other; `any` stands for the types without an entry of their own."""
    margin = " " * indent
    for family in sorted({b.family for b in blocks}):
        own = sorted((b for b in blocks if b.family == family), key=lambda b: b.dtype)
        if len({b.dtype for b in own}) < len(own):
            raise ValueError(f"{own[0].scope} {own[0].name} {family}: two entries for one type")
        if [b.dtype for b in own] == [""]:
            yield from _entry(f"{margin}{family}", own[0].entry)
            continue
        yield f"{margin}{family}:"
        for block in own:
            yield from _entry(f"{margin}  {block.dtype or 'any'}", block.entry)


def _entry(head: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """A flow mapping over as many lines as it takes."""
    known = (
        [k for k in _ORDER if k in entry],
        [k for k in _AFTER if k in entry],
        [k for k in _LAST if k in entry],
    )
    others = sorted(k for k in entry if k not in (*_ORDER, *_AFTER, *_LAST))
    other_constants = [k for k in others if isinstance(entry[k], int | float)]
    notes = [k for k in others if k not in other_constants]
    keys = [*known[0], *other_constants, *known[1], *notes, *known[2]]
    margin = " " * (len(head) - len(head.lstrip()) + 2)
    line = f"{head}: {{"
    for index, key in enumerate(keys):
        piece = f"{key}: {_value(entry[key])}" + (", " if index < len(keys) - 1 else "}")
        if len(line) + len(piece.rstrip()) > _WIDTH and line.strip():
            yield line.rstrip()
            line = margin
        line += piece
    yield line


def _flow(mapping: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{k}: {_value(v)}" for k, v in mapping.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return ".inf" if math.isinf(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return _flow(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return (
        str(value)
        if str(value).replace("-", "").replace("_", "").isalpha()
        else json.dumps(str(value), ensure_ascii=False)
    )


def summary(blocks: Sequence[Block]) -> Iterator[str]:
    """How well each entry fits, one line each."""
    for b in sorted(blocks, key=lambda b: (b.family, b.dtype, b.scope, b.name)):
        median, p90 = b.entry.get("median_error"), b.entry.get("p90_error")
        if median is not None and p90 is not None:
            who = b.name or b.scope
            what = f"{b.family:18} {b.dtype or 'any':10} {who:16}"
            yield f"{what} {b.entry['rows']:8d} rows  {median:6.1%} median  {p90:6.1%} p90"


if __name__ == "__main__":
    sys.exit(main())
