"""Writing a models-catalog entry as tidy YAML: one line a block, repeated blocks by alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEXT_SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")


def catalog_yaml(entry: Mapping[str, Any]) -> str:
    """The entry as YAML text that a safe loader reads back equal."""
    aliases = _Aliases(entry)
    lines = [f"# {entry['source']}"]
    for key, value in entry.items():
        if key == "layers":
            lines += ["layers:", *_layers(value, aliases, "  ")]
        elif key == "draft":
            rest = {k: v for k, v in value.items() if k != "layers"}
            lines += ["draft:", *(f"  {k}: {_scalar(v)}" for k, v in rest.items())]
            lines += ["  layers:", *_layers(value["layers"], aliases, "    ")]
        elif key in ("checkpoints", "published"):
            lines += [f"{key}:", *_mapping(value)]
        elif key == "notes":
            lines += ["notes:", *(f"  - {_scalar(note)}" for note in value)]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


class _Aliases:
    """Names for the blocks that stand in more than one group of layers."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        groups = [*entry["layers"], *(entry.get("draft") or {}).get("layers", [])]
        blocks = [group[part] for group in groups for part in ("attention", "feed_forward") if part in group]
        repeated: list[Any] = []
        for found in blocks:
            if blocks.count(found) > 1 and found not in repeated:
                repeated.append(found)
        self._names = [(found, f"{found['kind']}{number}") for number, found in enumerate(repeated, start=1)]
        self._written: set[str] = set()

    def text(self, found: Mapping[str, Any]) -> str:
        name = next((name for known, name in self._names if known == found), None)
        if name is None:
            return _flow(found)
        if name in self._written:
            return f"*{name}"
        self._written.add(name)
        return f"&{name} {_flow(found)}"


def _layers(groups: list[Any], aliases: _Aliases, indent: str) -> list[str]:
    lines = []
    for group in groups:
        lines.append(f"{indent}- count: {group['count']}")
        for part in ("attention", "feed_forward"):
            if part in group:
                lines.append(f"{indent}  {part}: {aliases.text(group[part])}")
    return lines


def _mapping(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"  {key}:", *(f"    {k}: {_scalar(v)}" for k, v in value.items())]
        else:
            lines.append(f"  {key}: {_scalar(value)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    return (
        text
        if text and text[0].isalpha() and set(text) <= _TEXT_SAFE
        else json.dumps(text, ensure_ascii=False)
    )
