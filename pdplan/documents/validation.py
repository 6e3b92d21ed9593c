"""Check a document against a data class, and say every error of the file at once.

pydantic does the checking; this module turns its findings into lines such as
`hardware_catalog/h200.yaml:7:3: unknown key 'bandwith'; did you mean 'bandwidth'?`.

Strict, since a catalog is no web form: text is no number, true is no number, 8.5 is
no whole number, nan and inf are nothing. Lenient where nothing is lost: 8 is a fine
float and 128e3 a fine whole number. pydantic is imported on first use only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pdplan.documents.files import Document, Location
from pdplan.errors import InputError, nearest, quoted_list

T = TypeVar("T")

_EXACT_IN_A_FLOAT = 2**53

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "dataclass": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "dict": "a mapping of keys to values",
    "tuple": "a list",
    "list": "a list",
    "none": "nothing",
}
"""What a pydantic error type wants, by its first word."""

_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")

_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Finding:
    """One thing that is wrong, and the key that it is said of."""

    location: Location
    what: str
    missing: str | None = None
    suggested: str | None = None


def validate(kind: type[T], document: Document, error: type[InputError] = InputError) -> T:
    """The document as a `kind`; raises `error` with one message per finding, in file order."""
    from pydantic import ValidationError

    wrong = [
        _Finding(location=at, what=f"'{_key(at)}' is {value}; expected a finite number")
        for at, value in _not_finite(document.data, ())
    ]
    count = len(wrong)
    try:
        found: T = _adapter(cast(Hashable, kind)).validate_json(
            json.dumps(_plain(document.data)), strict=True
        )
    except ValidationError as problem:
        wrong += _findings(kind, document.data, problem.errors(include_url=False))
    except InputError as problem:  # raised by the class itself
        raise error(*(f"{document.where()}: {m}" for m in problem.messages)) from None
    if not wrong:
        return found
    infinite = {f.location for f in wrong[:count]}
    wrong = [f for i, f in enumerate(wrong) if i < count or f.location not in infinite]
    unique = {f"{document.where(f.location)}: {f.what}": document.position(f.location) for f in wrong}
    raise error(*sorted(unique, key=lambda message: unique[message] or (0, 0)))


@cache
def _adapter(kind: Any) -> Any:
    """pydantic's validator of a type; building one costs tens of milliseconds."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _plain(value: Any) -> Any:
    """The data with 128e3 as 128000, which is then as good for a whole number as for a float."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_IN_A_FLOAT:
        return int(value)
    return value


def _not_finite(value: Any, at: Location) -> Iterator[tuple[Location, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield at, value
    elif isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(below, (*at, key))


def _findings(kind: Any, data: Any, errors: Sequence[Mapping[str, Any]]) -> list[_Finding]:
    """What is wrong, in our words: a union speaks for the member that was meant, a typo once."""
    found = [f for e in errors for f in _translate(kind, data, e)]
    if not found:  # every error belongs to union members that were not meant: cannot happen, but say all
        found = [_Finding(location=(), what=f"{'.'.join(map(str, e['loc']))}: {e['msg']}") for e in errors]
    typos = {(f.location[:-1], f.suggested) for f in found if f.suggested}
    return [f for f in found if (f.location, f.missing) not in typos]


def _translate(kind: Any, data: Any, problem: Mapping[str, Any]) -> Iterator[_Finding]:
    """Our findings for one pydantic error; none if it is about a union member that was not meant."""
    steps = list(problem["loc"])
    what = problem["type"]
    about_a_key = what in _UNKNOWN_KEY or what.startswith("missing") or steps[-1:] == ["[key]"]
    key = str(steps.pop()) if about_a_key and steps else ""
    at: list[str | int] = []
    node = data
    while True:
        members = _members(kind)
        if len(members) > 1:
            meant = _meant(members, node)
            if meant is None:
                yield _no_member(members, node, tuple(at))
                return
            if steps and not _is_label(steps.pop(0), meant):
                return
            kind = meant
        elif not steps or not _has(node, steps[0]):
            kind = members[0]
            break
        else:
            kind, step = _below(members[0], steps.pop(0))
            node = _member(node, step)
            at.append(step)
    if what in _UNKNOWN_KEY:
        yield _unknown_key(key, kind, node, tuple(at))
    elif what.startswith("missing"):
        yield _Finding(location=tuple(at), what=f"missing key '{key}'", missing=key)
    else:
        yield from _wrong_value(problem, kind, node, tuple(at), is_key=key == "[key]")


def _unknown_key(key: str, kind: Any, node: Mapping[str, Any], at: Location) -> _Finding:
    fields = _fields(kind)
    absent = [name for name in fields if name not in node]
    close = nearest(key, absent) or nearest(key, fields)
    if close:
        hint = f"; did you mean {quoted_list(close)}?"
    else:
        hint = f"; the keys are {', '.join(fields)}" if fields else "; remove it"
    suggested = close[0] if close else None
    return _Finding(location=(*at, key), what=f"unknown key '{key}'{hint}", suggested=suggested)


def _wrong_value(
    problem: Mapping[str, Any], kind: Any, value: Any, at: Location, *, is_key: bool
) -> Iterator[_Finding]:
    """`at` leads to `value`, which is no `kind`; or, if `is_key`, to a key that is none."""
    what, context, name = problem["type"], problem.get("ctx", {}), _key(at)
    word = what.split("_")[0]
    if is_key:
        choices = _choices(problem, None)
        yield _Finding(location=at, what=f"unknown key '{name}'{_instead(name, choices)}")
    elif what == "literal_error":
        choices = _choices(problem, kind)
        yield _Finding(location=at, what=f"'{name}' is {_shown(value)}{_instead(value, choices)}")
    elif what in ("value_error", "assertion_error"):
        for message in str(context.get("error", problem["msg"])).split("; "):
            yield _Finding(location=_named_in(message, value, at), what=message)
    elif what in _BOUNDS:
        bound, words = _BOUNDS[what]
        yield _Finding(
            location=at, what=f"'{name}' is {_shown(value)}; it must be {words} {_shown(context[bound])}"
        )
    elif what.endswith(("too_short", "too_long")):
        words, bound = ("at least", "min_length") if what.endswith("short") else ("at most", "max_length")
        unit = "characters" if isinstance(value, str) else "entries"
        yield _Finding(
            location=at,
            what=f"'{name}' has {len(value)} {unit}; it must have {words} {context[bound]}",
        )
    elif word in _EXPECTED:
        yield _Finding(
            location=at, what=f"'{name}' is {_shown(value)}; expected {_EXPECTED[word]}{_mend(value, word)}"
        )
    else:
        yield _Finding(location=at, what=f"'{name}': {problem['msg'][:1].lower()}{problem['msg'][1:]}")


# ---------------------------------------------------------------- the type beside the data


def _members(kind: Any) -> tuple[Any, ...]:
    """The types that a value may have, None aside: one, or several of a union."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(m for k in get_args(kind) if k is not type(None) for m in _members(k))
    return (kind,)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    """Names and types of a class's fields, none if it is no data class or model."""
    if not isinstance(kind, type):
        return {}
    hints = get_type_hints(kind, include_extras=True)
    names = getattr(kind, "model_fields", None) or (
        [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    )
    return {name: hints[name] for name in names}


def _below(kind: Any, step: str | int) -> tuple[Any, str | int]:
    """The type of the member of a `kind` that `step` leads to."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(step, int):
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        return arguments[0] if variadic or step >= len(arguments) else arguments[step], step
    if arguments and get_origin(kind) is not Literal:
        return arguments[-1], step
    return _fields(kind).get(str(step), Any), step


def _has(node: Any, step: str | int) -> bool:
    if isinstance(node, list):
        return isinstance(step, int) and step < len(node)
    return isinstance(node, dict) and any(str(k) == str(step) for k in node)


def _member(node: Any, step: str | int) -> Any:
    if isinstance(node, list):
        return node[int(step)]
    return next(v for k, v in node.items() if str(k) == str(step))


def _meant(members: Sequence[Any], node: Any) -> Any:
    """Which member of a union the file means: by its tag (`kind`), else by its shape; None if unclear."""
    if isinstance(node, dict):
        classes = [m for m in members if _fields(m)]
        tag = _tag(classes)
        if tag and tag in node:
            return next((m for m in classes if node[tag] in get_args(_fields(m)[tag])), None)
        if classes:
            return max(classes, key=lambda m: len(node.keys() & _fields(m)) - len(node.keys() - _fields(m)))
        return next((m for m in members if (get_origin(m) or m) in (dict, Mapping)), None)
    wanted: tuple[Any, ...]
    if isinstance(node, list):
        wanted = (tuple, list)
    elif isinstance(node, int) and not isinstance(node, bool):
        wanted = (int, float)
    else:
        wanted = (type(node), Literal)
    return next((m for w in wanted for m in members if (get_origin(m) or m) is w), None)


def _tag(classes: Sequence[Any]) -> str | None:
    """The field that tells the classes of a union apart: the first that all of them have as a Literal."""
    if len(classes) < 2:
        return None
    shared = [n for n, k in _fields(classes[0]).items() if get_origin(k) is Literal]
    return next((n for n in shared if all(get_origin(_fields(c).get(n)) is Literal for c in classes)), None)


def _is_label(step: str | int, meant: Any) -> bool:
    """Whether pydantic's name of a union member is that of `meant`."""
    label = str(step)
    if fields := _fields(meant):
        tags = {str(v) for k in fields.values() if get_origin(k) is Literal for v in get_args(k)}
        return label == meant.__name__ or label in tags
    origin = get_origin(meant)
    name = "literal" if origin is Literal else (origin or meant).__name__
    return label.partition("[")[0] == name or (name == "bool" and label == "bool")


def _no_member(members: Sequence[Any], node: Any, at: Location) -> _Finding:
    classes = [m for m in members if _fields(m)]
    tag = _tag(classes)
    if isinstance(node, dict) and tag and tag in node:
        choices = [str(v) for m in classes for v in get_args(_fields(m)[tag])]
        what = f"'{tag}' is {_shown(node[tag])}{_instead(node[tag], choices)}"
        return _Finding(location=(*at, tag), what=what)
    expected = [_EXPECTED.get(_kind_word(m), f"one of {', '.join(map(repr, get_args(m)))}") for m in members]
    return _Finding(
        location=at, what=f"'{_key(at)}' is {_shown(node)}; expected {' or '.join(dict.fromkeys(expected))}"
    )


def _kind_word(kind: Any) -> str:
    if _fields(kind):
        return "dataclass"
    return {str: "string"}.get(kind, getattr(get_origin(kind) or kind, "__name__", ""))


# ---------------------------------------------------------------- words


def _choices(problem: Mapping[str, Any], kind: Any) -> list[str]:
    """The values that a Literal allows."""
    if get_origin(kind) is Literal:
        return [str(v) for v in get_args(kind)]
    return re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))


def _instead(value: Any, choices: Sequence[str]) -> str:
    """What to write in place of a value that is none of the choices."""
    close = nearest(str(value), choices)
    if close:
        return f"; did you mean {quoted_list(close)}?" + (
            f" Expected one of {', '.join(choices)}" if len(choices) > len(close) else ""
        )
    one_of = "one of " if len(choices) > 1 else ""
    return f"; expected {one_of}{', '.join(choices)}" if choices else ""


def _shown(value: Any) -> str:
    """A value as an error message names it."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value if len(value) <= 40 else value[:37] + '...'}'"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _mend(value: Any, word: str) -> str:
    """How to turn the value into what is expected, where that is plain."""
    if word == "string" and isinstance(value, int | float):
        return "; put it in quotes"
    if word == "bool" and str(value).casefold() in ("yes", "no", "on", "off"):
        return f"; write {'true' if value.casefold() in ('yes', 'on') else 'false'}"
    if word in ("int", "float") and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return " without a unit, such as 989e12" if value[:1].isdigit() else ""
        return "; remove the quotes"
    return ""


def _key(at: Location) -> str:
    """The last key of a location with the indices behind it.

    >>> _key(("layers", 0, "count")), _key(("prices", 2)), _key(())
    ('count', 'prices[2]', 'the file')
    """
    for i in range(len(at) - 1, -1, -1):
        if isinstance(at[i], str):
            return str(at[i]) + "".join(f"[{n}]" for n in at[i + 1 :])
    return "the file" if not at else "".join(f"[{n}]" for n in at)


def _named_in(message: str, node: Any, at: Location) -> Location:
    """The location that a class's own message starts with (`memory.usable_bytes ...`), if it exists."""
    found = at
    first = re.match(r"'?([\w.\[\]-]+)", message)
    for step in re.findall(r"[\w-]+", first[1]) if first else ():
        key = int(step) if isinstance(node, list) and step.isdigit() else step
        if not _has(node, key):
            break
        node = _member(node, key)
        found = (*found, key)
    return found
