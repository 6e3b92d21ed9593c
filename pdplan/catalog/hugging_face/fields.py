"""Reading a Hugging Face config.json: values by key, all faults collected before any is raised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pdplan.errors import InputError

_PLACEHOLDER = 1
"""Stands in for a value that could not be read, so that reading goes on to the next fault."""


class Fields:
    """The keys of one config, read with checks; call `check()` before using what was read."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where
        self.findings: list[str] = []

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def fault(self, message: str) -> None:
        self.findings.append(f"{self.where}: {message}")

    def check(self) -> None:
        """Raise InputError with every finding so far, if there are any."""
        if self.findings:
            raise InputError(*dict.fromkeys(self.findings))

    def integer(self, *keys: str, default: int | None = None, minimum: int = 1) -> int:
        """The first of `keys` that is there, as a whole number of at least `minimum`."""
        for key in keys:
            if key in self:
                return self._whole(key, self.values[key], minimum)
        if default is not None:
            return default
        self.fault(f"missing key {_either(keys)}; take it from the model's published config.json")
        return max(_PLACEHOLDER, minimum)

    def optional(self, *keys: str) -> int | None:
        """As `integer`, None where no key is there or the value is null."""
        found = next((key for key in keys if key in self), None)
        return None if found is None else self._whole(found, self.values[found], 1)

    def count(self, *keys: str, default: int = 0) -> int:
        """As `integer`, zero allowed."""
        return self.integer(*keys, default=default, minimum=0)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(f"'{key}' must be true or false, not {value!r}")
            return default
        return value

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.fault(f"'{key}' must be text, not {value!r}")
            return default
        return value

    def series(self, key: str, length: int | None = None) -> list[Any]:
        """A list with an entry per layer; [] where it is missing or malformed (a fault)."""
        value = self.values.get(key)
        if value is None:
            self.fault(f"missing key '{key}', a list with one entry per layer")
            return []
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.fault(f"'{key}' must be a list with one entry per layer, not {value!r}")
            return []
        if length is not None and len(value) < length:
            self.fault(f"'{key}' has {len(value)} entries for {length} layers")
            return []
        return list(value[:length] if length is not None else value)

    def section(self, key: str) -> Fields:
        """A nested mapping, sharing this reader's findings."""
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            self.fault(f"missing or malformed section '{key}'")
            value = {}
        nested = Fields(value, f"{self.where}: {key}")
        nested.findings = self.findings
        return nested

    def _whole(self, key: str, value: Any, minimum: int) -> int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            whole, value = True, int(value)
        if not whole or value < minimum:
            self.fault(f"'{key}' must be a whole number of at least {minimum}, not {value!r}")
            return max(_PLACEHOLDER, minimum)
        return value


def _either(keys: Sequence[str]) -> str:
    return " or ".join(f"'{key}'" for key in keys)
