"""An accelerator: what its data sheet, its driver and its sellers say, each number with its source.

Plain frozen data classes. A file of `hardware_catalog/` has exactly this shape; whoever reads
the file hands its mapping to `pydantic.TypeAdapter(Accelerator)`, which checks types and
unknown keys, while `__post_init__` here checks what ties the fields to each other. Units stand
in the names; rates are per accelerator, links per accelerator and direction, FLOP are dense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pdplan.documents.bounds import Gt, Le, MinLen

_STRICT = {"extra": "forbid"}

Confidence = Literal["high", "medium", "low"]
Dtype = Literal["bf16", "fp16", "fp8", "int8", "fp4"]
Topology = Literal["switch", "mesh", "torus", "pcie", "none"]
PriceKind = Literal["on-demand", "reserved", "market", "assumed", "tco", "spot"]

PRICE_KIND_ORDER: tuple[PriceKind, ...] = ("on-demand", "reserved", "market", "assumed", "tco", "spot")
"""Kinds of price from the one a plan should be costed with to the one it should not.

on-demand: a provider's list price without commitment. reserved: with a commitment or booked
ahead. market: a median, index or range over several providers. assumed: what an author
supposed. tco: a model of the cost of owning. spot: may be taken away at any moment.
"""

_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_DATE = re.compile(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_GB_PRINTED_FOR_GIB = 1.1
"""The driver may report more than the data sheet: vendors print GB for GiB (7.4 %), some also round down."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where numbers come from.

    `date` is that of the commit or page where it is known, else of its reading: a year, a month
    or a day (2026, 2026-05, 2026-05-18).
    """

    __pydantic_config__ = _STRICT
    title: Annotated[str, MinLen(1)]
    reference: Annotated[str, MinLen(1)]
    date: str
    note: str | None = None

    def __post_init__(self) -> None:
        _check_date(self.date)


@dataclass(frozen=True, kw_only=True)
class SourcedNumber:
    """A number, the key of its source, and what speaks against it."""

    __pydantic_config__ = _STRICT
    value: Annotated[float, Gt(0), Le(1e18)]
    source: str
    note: str | None = None
    confidence: Confidence | None = None
    """None: as the whole file."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"value must be finite, is {self.value}")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Device memory. `usable_bytes` is what the driver reports as total, before any allocation."""

    __pydantic_config__ = _STRICT
    capacity_bytes: SourcedNumber
    usable_bytes: SourcedNumber
    bandwidth_bytes_per_s: SourcedNumber


@dataclass(frozen=True, kw_only=True)
class ScaleUp:
    """The links inside the domain in which accelerators reach each other without a NIC."""

    __pydantic_config__ = _STRICT
    technology: str
    topology: Topology
    bandwidth_bytes_per_s: SourcedNumber
    """Sum over the accelerator's links, one direction."""
    domain_size: SourcedNumber
    """Accelerators in one domain."""
    reduces_in_switch: bool = False
    """Whether its switches add up what passes through them (NVLink SHARP, from NVLink 4's on)."""


@dataclass(frozen=True, kw_only=True)
class ScaleOut:
    """The network between domains, as an accelerator's own share of the NICs."""

    __pydantic_config__ = _STRICT
    bandwidth_bytes_per_s: SourcedNumber


@dataclass(frozen=True, kw_only=True)
class Price:
    """What one accelerator costs for one hour."""

    __pydantic_config__ = _STRICT
    usd_per_h: Annotated[float, Gt(0), Le(1000)]
    kind: PriceKind
    provider: Annotated[str, MinLen(1)]
    date: str
    source: str
    note: str | None = None

    def __post_init__(self) -> None:
        _check_date(self.date)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One accelerator as the catalog describes it."""

    __pydantic_config__ = _STRICT
    name: str
    full_name: Annotated[str, MinLen(1)]
    vendor: Annotated[str, MinLen(1)]
    generation: str
    """Parts of one generation share constants where a part has no measurements of its own."""
    aliases: tuple[str, ...] = ()
    confidence: Confidence
    released: bool = True
    """False: announced only, its numbers are promises."""
    sources: Annotated[dict[str, Source], MinLen(1)]
    peak_flop_per_s: Annotated[dict[Dtype, SourcedNumber], MinLen(1)]
    """Dense matrix rate by input type; a type that the hardware lacks is absent."""
    memory: Memory
    scale_up: ScaleUp | None = None
    scale_out: ScaleOut | None = None
    """None: no source says what network such parts are sold with."""
    accelerators_per_node: Annotated[int, Gt(0)]
    power_w: SourcedNumber | None = None
    prices: tuple[Price, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        findings = list(self._findings())
        if findings:
            raise ValueError("; ".join(findings))

    def peak(self, dtype: Dtype) -> float | None:
        """Dense FLOP/s with inputs of `dtype`, None where the hardware has no such path.

        fp16 stands in for bf16 where there is no bf16: engines then convert such a model.
        """
        number = self.peak_flop_per_s.get(dtype)
        if number is None and dtype == "bf16":
            number = self.peak_flop_per_s.get("fp16")
        return number.value if number else None

    def default_price(self, kind: PriceKind | None = None, provider: str | None = None) -> Price | None:
        """The price that costs a plan when the user names none, of one kind or provider where asked for.

        The lower median of the first kind in `PRICE_KIND_ORDER` that has any price: the lower
        one, so that it is a price someone quoted and not a mean that nobody did.
        """
        offered = [p for p in self.prices if provider in (None, p.provider)]
        for each in PRICE_KIND_ORDER if kind is None else (kind,):
            quoted = sorted(
                (p for p in offered if p.kind == each), key=lambda p: (p.usd_per_h, p.date, p.provider)
            )
            if quoted:
                return quoted[(len(quoted) - 1) // 2]
        return None

    @property
    def scale_up_domain_size(self) -> int:
        """Accelerators that reach each other without a NIC; 1 where nothing is known."""
        return int(self.scale_up.domain_size.value) if self.scale_up else 1

    def numbers(self) -> Iterator[tuple[str, SourcedNumber]]:
        """Every sourced number with its path in the file."""
        for dtype, number in self.peak_flop_per_s.items():
            yield f"peak_flop_per_s.{dtype}", number
        for key in ("capacity_bytes", "usable_bytes", "bandwidth_bytes_per_s"):
            yield f"memory.{key}", getattr(self.memory, key)
        if self.scale_up:
            yield "scale_up.bandwidth_bytes_per_s", self.scale_up.bandwidth_bytes_per_s
            yield "scale_up.domain_size", self.scale_up.domain_size
        if self.scale_out:
            yield "scale_out.bandwidth_bytes_per_s", self.scale_out.bandwidth_bytes_per_s
        if self.power_w:
            yield "power_w", self.power_w

    def _findings(self) -> Iterator[str]:
        """What is wrong between the fields, one line each."""
        for what, name in (
            ("name", self.name),
            ("generation", self.generation),
            *(("alias", a) for a in self.aliases),
        ):
            if not _NAME.fullmatch(name):
                yield f"{what} '{name}' must be lower-case letters and digits, joined by '-', '_' or '.'"
        if len({self.name, *self.aliases}) != 1 + len(self.aliases):
            yield "an alias repeats the name or another alias"

        cited = [(path, number.source) for path, number in self.numbers()]
        cited += [(f"prices[{i}]", price.source) for i, price in enumerate(self.prices)]
        for path, source in cited:
            if source not in self.sources:
                yield f"{path}: source '{source}' is not in sources ({', '.join(self.sources)})"
        for unused in self.sources.keys() - {source for _, source in cited}:
            yield f"sources.{unused} is cited by no number"

        for path, number in self.numbers():
            if path.endswith("bandwidth_bytes_per_s") and not 1e6 <= number.value <= 1e15:
                yield f"{path} must lie between 1e6 and 1e15 byte/s, is {number.value:g}"
            if path.startswith("peak") and number.value < 1e12:
                yield f"{path} must be at least 1e12 FLOP/s, is {number.value:g}"
        memory = self.memory
        if memory.usable_bytes.value > _GB_PRINTED_FOR_GIB * memory.capacity_bytes.value:
            yield (
                f"memory.usable_bytes {memory.usable_bytes.value:g} is more than "
                f"{_GB_PRINTED_FOR_GIB} x capacity_bytes {memory.capacity_bytes.value:g}"
            )
        if self.scale_up and self.scale_up.domain_size.value % 1:
            yield f"scale_up.domain_size must be a whole number, is {self.scale_up.domain_size.value:g}"


def _check_date(date: str) -> None:
    if not _DATE.fullmatch(date):
        raise ValueError(f"date must be a year, month or day (2026, 2026-05, 2026-05-18), is '{date}'")
