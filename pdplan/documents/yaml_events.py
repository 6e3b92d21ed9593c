"""YAML read from the parser's events: values and places in one pass, within limits.

Not by `yaml.safe_load`, since that drops duplicate keys silently, reads 989e12 as
text, 2025-01-01 as a date and `no` as False, expands alias bombs, and crashes the
interpreter on deep nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from pdplan.errors import InputError

MAX_NODES = 200_000
"""Most keys and values in a file, aliases expanded: a guard against alias bombs ("billion laughs")."""

MAX_DEPTH = 100
"""Deepest nesting: a guard against stack overflow; catalogs need 6, deployments about 15."""


class Place(NamedTuple):
    """Where a value stands; `children` holds, by key or index, where its members do."""

    line: int
    column: int
    children: dict[Any, Place]


_INTEGER = re.compile(r"[-+]?\d[\d_]*", re.ASCII)
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F][0-9a-fA-F_]*", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "-", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_LONGEST_NUMBER = 400
"""Digits beyond this are text: no float is longer, and int() is quadratic."""


def _scalar(text: str, plain: bool) -> Any:
    """A scalar's value by the YAML 1.2 core rules: no dates, no `yes`, no octal 0777.

    >>> [_scalar(x, True) for x in ("1e3", "1_000", "0x10", "007", "true", "no", "1:30")]
    [1000.0, 1000, 16, 7, True, 'no', '1:30']
    """
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "0123456789+-." and len(text) <= _LONGEST_NUMBER:
        if _INTEGER.fullmatch(text):
            return int(text.replace("_", ""))
        if _HEXADECIMAL.fullmatch(text):
            return int(text.replace("_", ""), 16)
        if _FLOAT.fullmatch(text):
            return float(text.replace("_", ""))
    return text


class _Built(NamedTuple):
    """A value that the events of a node add up to."""

    value: Any
    place: Place
    nodes: int


class _Builder:
    """Turns the parser's events into values and places, within the limits."""

    def __init__(self, events: Iterator[Any], name: str) -> None:
        self.events, self.name = events, name
        self.anchors: dict[str, _Built] = {}
        self.nodes = 0

    def fail(self, mark: Any, what: str) -> NoReturn:
        raise InputError(f"{self.name}:{mark.line + 1}:{mark.column + 1}: {what}")

    def build(self, event: Any, depth: int) -> _Built:
        """The node that starts with `event`; reads the events up to its end."""
        import yaml

        start = event.start_mark
        if depth > MAX_DEPTH:
            self.fail(start, f"nested more than {MAX_DEPTH} levels deep; is this the right file?")
        if isinstance(event, yaml.AliasEvent):
            known = self.anchors.get(str(event.anchor))
            if known is None:
                self.fail(start, f"the alias '*{event.anchor}' has no anchor '&{event.anchor}' before it")
            self.count(known.nodes, start)
            return known
        if event.tag not in (None, "!"):
            self.fail(start, f"the tag '{event.tag}' is not allowed; write plain values")
        before = self.nodes
        self.count(1, start)
        place = Place(start.line + 1, start.column + 1, {})
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value, plain=not event.style)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.sequence(place, depth)
        else:
            value = self.mapping(place, depth)
        built = _Built(value, place, self.nodes - before)
        if event.anchor:
            self.anchors[str(event.anchor)] = built
        return built

    def count(self, nodes: int, mark: Any) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.fail(mark, f"the file holds more than {MAX_NODES:,} values, aliases expanded; split it")

    def sequence(self, place: Place, depth: int) -> list[Any]:
        import yaml

        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            built = self.build(event, depth + 1)
            place.children[len(items)] = built.place
            items.append(built.value)
        return items

    def mapping(self, place: Place, depth: int) -> dict[Any, Any]:
        import yaml

        found: dict[Any, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.build(event, depth + 1)
            mark = event.start_mark
            if isinstance(key.value, list | dict):
                self.fail(mark, "a key must be plain text; quote it if it starts with '{' or '['")
            if key.value == "<<" and not event.style:
                self.fail(mark, "merge keys ('<<') are not supported; write the keys out")
            if key.value in found:
                first = place.children[key.value].line
                self.fail(
                    mark, f"the key '{key.value}' is here a second time (first in line {first}); remove one"
                )
            built = self.build(next(self.events), depth + 1)
            found[key.value] = built.value
            place.children[key.value] = Place(mark.line + 1, mark.column + 1, built.place.children)
        return found


def read_documents(text: str, name: str) -> Iterator[tuple[dict[Any, Any], Place]]:
    """The mappings of a YAML text, one for each document that is not empty; `name` leads every message."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        events = iter(yaml.parse(text, Loader=loader))
        for event in events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            builder = _Builder(events, name)
            built = builder.build(next(events), 0)
            if built.value is None:
                continue
            if not isinstance(built.value, dict):
                what = describe(built.value)
                mend = "expected keys and values, such as 'name: value'"
                raise InputError(f"{name}:{built.place.line}:{built.place.column}: here is {what}; {mend}")
            yield built.value, built.place
    except yaml.MarkedYAMLError as problem:
        raise _malformed(problem, text, name) from None
    except yaml.reader.ReaderError as problem:
        raise _bad_character(problem, text, name) from None


def _malformed(problem: Any, text: str, name: str) -> InputError:
    mark = problem.problem_mark or problem.context_mark
    lines = text.split("\n")
    tabbed = mark.line < len(lines) and "\t" in lines[mark.line]
    mend = "indent with blanks, not tabs" if tabbed else "check indentation, colons and quotes here"
    context = f" {problem.context}" if problem.context else ""
    what = f"not valid YAML: {problem.problem}{context}"
    return InputError(f"{name}:{mark.line + 1}:{mark.column + 1}: {what}; {mend}")


def _bad_character(problem: Any, text: str, name: str) -> InputError:
    bad = re.search("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    start = bad.start() if bad else 0
    line, column = text.count("\n", 0, start) + 1, start - (text.rfind("\n", 0, start) + 1) + 1
    code = f"U+{ord(bad[0]):04X}" if bad else "a character"
    return InputError(f"{name}:{line}:{column}: {code} is not allowed in YAML; remove it")


def describe(value: object) -> str:
    """What a value is, for a message."""
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else f"a single value ({value!r})"
