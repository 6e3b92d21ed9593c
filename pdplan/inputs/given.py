"""One value and where it stands, so that an error can name the flag, or the line of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from pdplan.documents.files import Document, Location
from pdplan.errors import InputError, UnknownNameError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """What the user wrote, and where: `--isl`, or `question.yaml:3:1: 'isl'`."""

    value: Any
    where: str


Values = Mapping[str, Given]
"""Everything that was given, by key of the question file: isl, ttft, hardware and so on."""


@dataclass
class Findings:
    """Everything that is wrong with an input, to be told at once."""

    messages: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The work's result; None, and its errors kept, where it fails."""
        try:
            return work(*args, **kwargs)
        except InputError as problem:
            self.messages += problem.messages
            return None

    def attempt_at(self, where: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """As `attempt`, for work that does not say where its input stands."""
        try:
            return work(*args, **kwargs)
        except UnknownNameError as problem:
            self.messages += [f"{where}: {m}" for m in problem.messages]
        except InputError as problem:
            # A malformed catalog file says itself where the fault is.
            self.messages += problem.messages
        return None

    def say(self, where: str, message: str) -> None:
        self.messages.append(f"{where}: {message}")

    def check(self) -> None:
        """Raise InputError if anything was found: once, and where it stands if any finding of it says so."""
        if self.messages:
            told = dict.fromkeys(self.messages)
            raise InputError(*(m for m in told if not any(_says_more(other, m) for other in told)))


def _says_more(other: str, message: str) -> bool:
    """Whether another finding says the same of a place that is stated, or stated more closely.

    >>> _says_more("--price h10: unknown", "--price: unknown"), _says_more("--rate: unknown", "unknown")
    (True, True)
    """
    where, _, what = message.partition(": ")
    closer = other.startswith(f"{where} ") and other.endswith(f": {what}")
    return closer or other.endswith(f": {message}")


def flag_name(key: str) -> str:
    """
    >>> flag_name("prefix_reuse")
    '--prefix-reuse'
    """
    return "--" + key.replace("_", "-")


def given(values: Mapping[str, Any], name: Callable[[str], str] = flag_name) -> dict[str, Given]:
    """The values that are there (not None, not an empty list), each with its name.

    >>> given({"isl": "4k", "osl": None})
    {'isl': Given(value='4k', where='--isl')}
    """
    return {key: Given(value, name(key)) for key, value in values.items() if value not in (None, [], ())}


def given_in(document: Document, keys: Mapping[str, Any], location: Location = ()) -> dict[str, Given]:
    """The values of a mapping of a file, each with file:line:column; mappings in it likewise."""
    found: dict[str, Given] = {}
    for key, value in keys.items():
        if value is None:
            continue
        at = (*location, key)
        inner = given_in(document, value, at) if isinstance(value, Mapping) else value
        found[key] = Given(inner, f"{document.where(at)}: '{key}'")
    return found


def sub_document(document: Document, location: Location) -> Document:
    """The mapping at a location of a document, as a document that knows its lines.

    >>> from pdplan.documents.files import parse_yaml
    >>> sub_document(parse_yaml("a:\\n  b: {c: 1}", "x.yaml"), ("a", "b")).where(("c",))
    'x.yaml:2:7'
    """
    data: Any = document.data
    place = document.place
    for step in location:
        data = data[step]
        place = place.children.get(step) if place else None
    return Document(path=document.path, data=data, text=document.text, place=place)
