"""Bounds of the values in catalogs and files, for `Annotated`: what pydantic checks by them.

`annotated_types` has the same; loading it takes longer than reading an accelerator and a model do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class _Bound:
    """One limit of a value, by pydantic's name for it."""

    name: ClassVar[str]

    def __init__(self, value: float) -> None:
        self.value = value

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return {**handler(source), self.name: self.value}


class Gt(_Bound):
    """More than a number."""

    name = "gt"


class Ge(_Bound):
    """At least a number."""

    name = "ge"


class Le(_Bound):
    """At most a number."""

    name = "le"


class MinLen(_Bound):
    """So many characters, entries or keys at least."""

    name = "min_length"
