"""Read a shipped catalog entry without pydantic, whose import and schemas cost a tenth of a second.

For files that came with pdplan and that its tests validate in full. Types and keys are
checked as far as that is free, and the classes' own checks run; at any doubt `build`
raises, and the caller lets pdplan.documents.validation read the file and say what is wrong.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class DoubtError(Exception):
    """The data is not plainly what the type says."""


def build(kind: type[T], data: Mapping[str, Any]) -> T:
    """The mapping as a data class; raises DoubtError where that is not plain.

    >>> from pdplan.catalog.accelerator import SourcedNumber
    >>> build(SourcedNumber, {"value": 4, "source": "sheet"}).value
    4.0
    """
    try:
        found: T = _value(kind, data)
    except (TypeError, ValueError, KeyError) as problem:
        raise DoubtError(str(problem)) from None
    return found


def _value(kind: Any, data: Any) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _value(get_args(kind)[0], data)
    if origin in (Union, types.UnionType):
        return _member(get_args(kind), data)
    if origin is Literal:
        return _if(data in get_args(kind), data)
    if origin is tuple:
        return tuple(_value(get_args(kind)[0], item) for item in _if(isinstance(data, list), data))
    if origin is dict:
        below, pairs = get_args(kind)[1], _if(isinstance(data, dict), data)
        return {_value(get_args(kind)[0], key): _value(below, item) for key, item in pairs.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(
            **{key: _value(hints[key], item) for key, item in _if(isinstance(data, dict), data).items()}
        )
    return _plain(kind, data)


def _member(members: tuple[Any, ...], data: Any) -> Any:
    """The member of a union that is meant: by its tag where there are several classes."""
    if data is None:
        return _if(type(None) in members, None)
    classes = [m for m in members if m is not type(None)]
    if len(classes) > 1:
        tag = _if(isinstance(data, dict), data)["kind"]
        classes = [m for m in classes if tag in get_args(_hints(m)["kind"])]
    return _value(_if(len(classes) == 1, classes)[0], data)


def _plain(kind: Any, data: Any) -> Any:
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if kind is int and isinstance(data, float) and data.is_integer():
        return int(data)
    return _if(type(data) is kind, data)


def _if(plain: bool, data: Any) -> Any:
    if not plain:
        raise DoubtError
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
