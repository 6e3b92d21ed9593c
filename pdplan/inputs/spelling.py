"""Keys of a file in the words of the flags: `kv-precision` and `price: h200=2.60` are understood, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pdplan.documents.files import Document
from pdplan.documents.yaml_events import Place
from pdplan.errors import InputError

_NAMES_INSIDE = ("prices", "reserved_prices", "inventory")
"""Mappings whose keys are names from the catalog: these keep their hyphens."""
_NAMED = "deployments"
"""Where it is a mapping its keys are names, too, and what stands below them are keys again."""
_FLAG_TO_KEY = {"price": "prices", "reserved_price": "reserved_prices"}
_FLAGS_ONLY = ("format", "catalog", "certify", "section", "brief", "ideal", "output", "points", "cost")
"""Flags that say where and how to print; a file of inputs has no keys for them."""


def as_keys(document: Document) -> Document:
    """The document with its keys as schemas name them; a key that is there in both spellings is left alone.

    >>> from pdplan.documents.files import parse_yaml
    >>> as_keys(parse_yaml("kv-precision: fp8\\nprice: tpu-v6e=2.60", "x.yaml")).data
    {'kv_precision': 'fp8', 'prices': {'tpu-v6e': '2.60'}}
    """
    printing = [key for key in _FLAGS_ONLY if key in document.data]
    if printing:
        raise InputError(
            *(f"{document.where((k,))}: '{k}' is a flag only (--{k}); remove it here" for k in printing)
        )
    data, place = _renamed(document.data, document.place, _FLAG_TO_KEY)
    for key in _NAMES_INSIDE:
        if isinstance(data.get(key), str):
            data[key] = _by_name(data[key])
    return replace(document, data=data, place=place)


# ------------------------------------------------------------------------ inside


def _renamed(
    data: dict[Any, Any], place: Place | None, aliases: Mapping[str, str]
) -> tuple[dict[Any, Any], Place | None]:
    found: dict[Any, Any] = {}
    children: dict[Any, Place] = {}
    for key, value in data.items():
        name = _key(key, data, aliases)
        below = place.children.get(key) if place else None
        if name not in _NAMES_INSIDE:
            value, below = _inside(value, below, name == _NAMED)
        found[name] = value
        if below:
            children[name] = below
    return found, place._replace(children=children) if place else None


def _inside(value: Any, place: Place | None, named: bool) -> tuple[Any, Place | None]:
    """A value with the keys of the mappings in it renamed; `named`: its own keys are names."""
    if isinstance(value, dict) and not named:
        return _renamed(value, place, {})
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    children = dict(place.children) if place else {}
    renamed = {}
    for key, member in members:
        renamed[key], below = _inside(member, children.get(key), False)
        if below:
            children[key] = below
    if not renamed:
        return value, place
    new = renamed if isinstance(value, dict) else list(renamed.values())
    return new, place._replace(children=children) if place else None


def _by_name(text: str) -> dict[str, str] | str:
    """h200=2.60,b200=5 as a mapping; any other text as it is, for the schema to refuse."""
    parts = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and equals for name, equals, _ in parts):
        return text
    return {name.strip(): value.strip() for name, _, value in parts}


def _key(key: Any, siblings: dict[Any, Any], aliases: Mapping[str, str]) -> Any:
    if not isinstance(key, str):
        return key
    name = key.replace("-", "_")
    name = aliases.get(name, name)
    return key if name in siblings else name
