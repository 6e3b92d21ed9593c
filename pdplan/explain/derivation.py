"""What a derivation is: sections of lines, each line a formula with the numbers put in.

Plain data, so that every renderer and every test reads the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SECTION_KEYS = (
    "question",
    "model",
    "seed",
    "ideal",
    "memory",
    "split",
    "prefill",
    "decode",
    "mixed",
    "transfer",
    "queueing",
    "latency",
    "mixture",
    "rates",
    "cost",
)
"""Sections in order; colocated plans have `mixed` in place of `prefill`, `decode` and `transfer`.

Plans whose pools have several kinds of workers have `split` and `mixture` besides, and the sections
between them once for every kind, or every pair of kinds that a request may meet.
"""
OF_MIXES = ("split", "mixture")

LINE_SOURCE = "line "
"""A source that starts so names the line whose result the input is."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A number put into a formula: its symbol, value, unit, and where it comes from."""

    name: str
    value: float
    unit: str
    source: str
    """A document, the question itself, or "line 4.3"."""

    @property
    def line(self) -> str | None:
        """The line that this is the result of, None where it was given."""
        return self.source.removeprefix(LINE_SOURCE) if self.source.startswith(LINE_SOURCE) else None


@dataclass(frozen=True, kw_only=True)
class Line:
    """One step of the derivation: symbol = expression(inputs) = value unit."""

    id: str
    """Section and running number: "4.3"."""
    group: str = ""
    """The op, collective or pool that the line belongs to; "" where it stands alone."""
    symbol: str
    name: str
    expression: str
    """Arithmetic in Python's notation over the names of `inputs` (see pdplan.explain.arithmetic)."""
    inputs: tuple[Input, ...]
    value: float
    unit: str
    binding: str | None = None
    """compute, memory, network or overhead, where one of them decides."""
    note: str = ""
    detail: bool = False
    """Left out of a brief derivation; the tables hold its result."""


@dataclass(frozen=True, kw_only=True)
class TermRow:
    """One op or collective of a forward step, over all layers that run it, on the busiest accelerator."""

    name: str
    layers: float
    rows: float | None
    flop: float | None
    """Per layer, as are bytes."""
    moved_bytes: float
    compute_s: float
    """Seconds here and below are over all layers."""
    memory_s: float
    network_s: float
    overhead_s: float
    total_s: float
    binding: str
    constants: str
    """Source and scope of the constants that the times were computed with."""


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """The terms of one forward step."""

    title: str
    rows: tuple[TermRow, ...]
    total_s: float
    aside: bool = False
    """A step at another batch than the mean: left out of a brief derivation."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the way from the question to the answer."""

    key: str
    number: int
    title: str
    intro: str
    given: tuple[Input, ...] = ()
    """Numbers stated without arithmetic."""
    tables: tuple[StepTable, ...] = ()
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """From the two seed formulas to TTFT, TPOT, rates and cost of one plan."""

    title: str
    answer: tuple[Input, ...]
    """The results that the derivation leads to, each with its line."""
    sections: tuple[Section, ...]
    problem: str = ""
    """Why the plan cannot do the work, "" where it can."""

    def section(self, key: str) -> Section:
        """The section of this key; raises KeyError."""
        for section in self.sections:
            if section.key == key:
                return section
        raise KeyError(key)

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(line for section in self.sections for line in section.lines)

    def only(self, keys: tuple[str, ...]) -> Derivation:
        """The sections of these keys; line numbers stay what they are."""
        return replace(self, sections=tuple(s for s in self.sections if s.key in keys))

    def brief(self) -> Derivation:
        """Without the lines whose results the tables hold, and steps at other batches than the mean."""
        kept = [
            replace(
                s,
                lines=tuple(x for x in s.lines if not x.detail),
                tables=tuple(t for t in s.tables if not t.aside),
            )
            for s in self.sections
        ]
        return replace(self, sections=tuple(kept))
