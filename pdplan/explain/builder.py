"""Building a derivation: quantities know where they come from, lines are numbered as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np

from pdplan.explain.arithmetic import evaluate
from pdplan.explain.derivation import LINE_SOURCE, Derivation, Input, Line, Section, StepTable


def number(value: Any) -> float:
    """A plain float from a float or an array of one."""
    return float(np.asarray(value, dtype=float).reshape(-1)[0])


@dataclass(frozen=True)
class Quantity:
    """A value with unit and source, to be put into lines."""

    value: float
    unit: str
    source: str

    def named(self, name: str) -> Input:
        return Input(name=name, value=self.value, unit=self.unit, source=self.source)


class About(TypedDict, total=False):
    """What else a line says, as `Line` has it."""

    group: str
    binding: str | None
    note: str
    detail: bool


class Builder:
    """Collects sections and lines in order."""

    def __init__(self) -> None:
        self._sections: list[_Draft] = []

    def section(self, key: str, title: str, intro: str) -> None:
        self._sections.append(_Draft(key, len(self._sections), title, intro))

    def given(self, symbol: str, value: Any, unit: str, source: str) -> Quantity:
        """State a number and hand it out for use in lines."""
        found = Quantity(number(value), unit, source)
        self._here.given.append(found.named(symbol))
        return found

    def note(self, text: str) -> None:
        self._here.notes.append(text)

    def table(self, table: StepTable) -> None:
        self._here.tables.append(table)

    def line(
        self,
        symbol: str,
        name: str,
        expression: str,
        inputs: Mapping[str, Quantity],
        unit: str,
        *,
        value: Any = None,
        **about: Unpack[About],
    ) -> Quantity:
        """Write symbol = expression(inputs).

        `value` is the planner's own number; without one, for steps in between that it
        does not keep, the expression is evaluated.
        """
        here = self._here
        known = {k: q.value for k, q in inputs.items()}
        found = evaluate(expression, known) if value is None else number(value)
        line = Line(
            id=f"{here.number}.{len(here.lines) + 1}",
            symbol=symbol,
            name=name,
            expression=expression,
            inputs=tuple(q.named(k) for k, q in inputs.items()),
            value=found,
            unit=unit,
            **about,
        )
        here.lines.append(line)
        return Quantity(found, unit, f"{LINE_SOURCE}{line.id}")

    def total(
        self, symbol: str, name: str, parts: Sequence[Quantity], unit: str, *, prefix: str = "t", **more: Any
    ) -> Quantity:
        """A sum of many parts, named t_1, t_2 … in the formula."""
        named = {f"{prefix}_{i}": part for i, part in enumerate(parts, 1)}
        return self.line(symbol, name, "+".join(named) or "0", named, unit, **more)

    def total_of(
        self, symbol: str, name: str, parts: Mapping[str, Quantity], unit: str, **more: Any
    ) -> Quantity:
        """A sum of named parts."""
        return self.line(symbol, name, "+".join(parts), parts, unit, **more)

    def build(self, title: str, problem: str, answer: Mapping[str, Quantity]) -> Derivation:
        return Derivation(
            title=title,
            answer=tuple(q.named(name) for name, q in answer.items()),
            sections=tuple(d.done() for d in self._sections),
            problem=problem,
        )

    @property
    def _here(self) -> _Draft:
        return self._sections[-1]


class _Draft:
    def __init__(self, key: str, number: int, title: str, intro: str) -> None:
        self.key, self.number, self.title, self.intro = key, number, title, intro
        self.given: list[Input] = []
        self.tables: list[StepTable] = []
        self.lines: list[Line] = []
        self.notes: list[str] = []

    def done(self) -> Section:
        return Section(
            key=self.key,
            number=self.number,
            title=self.title,
            intro=self.intro,
            given=tuple(self.given),
            tables=tuple(self.tables),
            lines=tuple(self.lines),
            notes=tuple(self.notes),
        )
