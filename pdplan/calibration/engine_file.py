"""Reading and writing fitted values of constants/engines.yaml, line by line, so that comments stay."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdplan.documents.files import read_text

Fitted = dict[tuple[str, ...], dict[str, Any]]
"""By path in the file, e.g. ("common", "expert_skew"): value, rows, median_error."""
_KEY = re.compile(r'^(?P<indent> *)(?:"(?P<quoted>[^"]+)"|(?P<plain>[^\s:#][^:#]*)):(?P<rest>.*)$')


def with_values(document: Mapping[str, Any], values: Fitted) -> dict[str, Any]:
    """A copy of the document with the fitted values in place."""
    changed = copy.deepcopy(dict(document))
    for path, entry in values.items():
        place: Any = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = {**place[path[-1]], "value": entry["value"]}
    return changed


def write_values(source: Path, target: Path, values: Fitted) -> None:
    """Write `source` to `target` with the lines of the fitted values replaced."""
    left = set(values)
    lines: list[str] = []
    stack: list[str] = []
    for line in read_text(source).splitlines():
        match = _KEY.match(line)
        if match:
            depth = len(match["indent"]) // 2
            stack = [*stack[:depth], match["quoted"] or match["plain"]]
            path = tuple(stack)
            if path in values:
                line = f"{match['indent']}{stack[-1]}: {_entry(values[path], match['rest'])}"
                left.discard(path)
        lines.append(line)
    if left:
        raise ValueError(f"{source}: no line for {', '.join('.'.join(p) for p in sorted(left))}")
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entry(entry: Mapping[str, Any], old: str) -> str:
    note = re.search(r'note: ("[^"]*"|[^},]*)', old)
    facts = [
        f"value: {_number(entry['value'])}",
        "source: serving-runs",
        f"rows: {entry['rows']}",
        f"median_error: {entry['median_error']}",
        *([f"note: {note[1].strip()}"] if note else []),
    ]
    return "{" + ", ".join(facts) + "}"


def _number(value: float) -> str:
    """YAML reads 1e-05 as text: the mantissa needs a point."""
    text = f"{value:g}"
    if "e" not in text:
        return text
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent)}"
