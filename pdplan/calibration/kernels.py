"""Fit every kernel constant: `python -m pdplan.calibration.kernels --tables WHEEL --shared FOLDER`.

Reads kernel tables (aiconfigurator-core, and those shared in this project), lets each
family module fit its blocks, and writes pdplan/constants/kernels.json. The same
tables give the same bytes. Needs the `calibrate` extra: numpy, scipy, pyarrow.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pdplan.calibration import amd, unmeasured
from pdplan.calibration.fit import Block
from pdplan.calibration.tables import Tables
from pdplan.documents.files import write_atomic
from pdplan.errors import PdplanError

MODULES = ("gemm", "experts", "elementwise", "attention", "recurrence", "collectives")
"""Each has `SOURCES` and `fit(tables) -> list[Block]`."""

INHERITS = {
    "cdna2": "cdna3",
    "blackwell-rtx": "blackwell",
    "cdna4": "cdna3",
    "cdna5": "cdna4",
    "gaudi3": "gaudi2",
    "rubin": "blackwell",
}
"""Generations whose missing constants are nearer to another generation's than to the defaults."""

SAME_CHIP = {"h20-3e": "h20"}
"""Accelerators without tables that are another with more memory, and so its ridge."""

ABOUT = (
    "How far kernels stand from the data sheet, by accelerator, family and arithmetic type.",
    "Written by `python -m pdplan.calibration.kernels`; edit the fit, not this file.",
    "An accelerator's own entry wins over its generation's, that over the one it inherits from, that over"
    " the defaults. Errors are |predicted/measured - 1|: median and 90th percentile over `rows` measurements;"
    " `held_out_median_error` on the fifth of the shapes that the constants had not seen.",
    "`engines` has constants of an engine whose kernels stand more than 7 % from the common ones"
    " (GEMM in FP4: 15 %).",
)

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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when the file is written, 2 when the tables cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m pdplan.calibration.kernels", description=__doc__)
    parser.add_argument(
        "--tables", help="wheel or unpacked folder of aiconfigurator-core (default: the installed package)"
    )
    parser.add_argument(
        "--shared", default="../shared", help="folder with kernels/ and facts/ (default: %(default)s)"
    )
    parser.add_argument(
        "-o",
        "--output",
        default=str(Path(__file__).parents[1] / "constants" / "kernels.json"),
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
    sources: dict[str, Mapping[str, str]] = {**unmeasured.SOURCES, **amd.SOURCES}
    for name in MODULES:
        module = importlib.import_module(f"pdplan.calibration.{name}")
        blocks += module.fit(tables)
        sources.update(module.SOURCES)
    return amd.fit(tables, blocks + unmeasured.fit(tables, blocks)), sources


def render(blocks: Sequence[Block], sources: Mapping[str, Mapping[str, str]]) -> str:
    """The text of kernels.json: JSON, since every start of pdplan reads it; one entry a line, for people."""
    used = {str(b.entry["source"]) for b in blocks}
    document: dict[str, Any] = {
        "about": list(ABOUT),
        "sources": {key: dict(sources[key]) for key in sorted(used)},
        "defaults": _families([b for b in blocks if b.scope == "defaults"]),
    }
    for scope, inherits in (("generations", INHERITS), ("accelerators", SAME_CHIP)):
        names = {b.name for b in blocks if b.scope == scope} | set(inherits)
        document[scope] = {
            name: ({"inherits": inherits[name]} if name in inherits else {})
            | _families([b for b in blocks if b.scope == scope and b.name == name])
            for name in sorted(names)
        }
    return "\n".join(_lines(document, 0)) + "\n"


def _families(blocks: Sequence[Block]) -> dict[str, Any]:
    """One family after the other; `any` stands for the types without an entry of their own."""
    found: dict[str, Any] = {}
    for family in sorted({b.family for b in blocks}):
        own = sorted((b for b in blocks if b.family == family), key=lambda b: b.dtype)
        if len({b.dtype for b in own}) < len(own):
            raise ValueError(f"{own[0].scope} {own[0].name} {family}: two entries for one type")
        if [b.dtype for b in own] == [""]:
            found[family] = _entry(own[0].entry)
        else:
            found[family] = {block.dtype or "any": _entry(block.entry) for block in own}
    return found


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Constants first, then what they were fitted to, then notes and source; numbers to four digits."""
    others = sorted(k for k in entry if k not in (*_ORDER, *_AFTER, *_LAST))
    constants = [k for k in others if isinstance(entry[k], int | float)]
    notes = [k for k in others if k not in constants]
    keys = [k for k in (*_ORDER, *constants, *_AFTER, *notes, *_LAST) if k in entry]
    return {k: _rounded(entry[k]) for k in keys}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return value


def _lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """JSON in which a mapping that holds mappings spreads over lines and any other stands on one."""
    yield "{"
    margin = " " * (depth + 1)
    for number, (key, inner) in enumerate(value.items()):
        comma = "," if number < len(value) - 1 else ""
        head = f"{margin}{json.dumps(key)}: "
        if isinstance(inner, Mapping) and any(
            isinstance(v, Mapping) for k, v in inner.items() if k != "engines"
        ):
            first, *rest = _lines(inner, depth + 1)
            yield head + first
            yield from rest[:-1]
            yield rest[-1] + comma
        else:
            yield head + json.dumps(inner, ensure_ascii=False) + comma
    yield " " * depth + "}"


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
