"""What accelerators cost and how many there are: lots, tariffs, whole nodes, the bill of a plan.

A lot is so many accelerators at one price; a tariff is the lots of one accelerator, cheapest
first, and the unit in which they are bought. What is not taken costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pdplan.catalog.accelerator import Accelerator, PriceKind
from pdplan.laws.roofline import Array

Granularity = Literal["gpu", "node", "rack"]
GRANULARITIES: tuple[Granularity, ...] = ("gpu", "node", "rack")
LARGEST_RACK = 1024
"""A scale-up domain of more accelerators than this is a pod, sold in slices: its nodes count."""


@dataclass(frozen=True, kw_only=True)
class Lot:
    """Accelerators of one kind to be had at one price."""

    usd_per_h: float
    """Of one accelerator; NaN where no price is known."""
    gpus: float = math.inf
    """How many there are."""
    kind: str = ""
    """on-demand, reserved, spot and so on; empty where the user gave the price."""
    provider: str = ""
    date: str = ""

    @property
    def label(self) -> str:
        """reserved, Nebius on-demand, or "given" where the user gave the price alone."""
        return " ".join(word for word in (self.provider, self.kind) if word) or "given"


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """What a number of accelerators of one kind costs, up to as many as there are."""

    lots: tuple[Lot, ...]
    """Cheapest first, so that the cost is convex in whole units."""
    unit: int = 1
    """Accelerators that are bought together: 1, a node's, a rack's."""

    @property
    def most(self) -> float:
        """Accelerators that there are, in whole units; infinite where nobody limits them."""
        total = sum(lot.gpus for lot in self.lots)
        return total if math.isinf(total) else float(total // self.unit * self.unit)

    @property
    def is_plain(self) -> bool:
        """One price, no limit, single accelerators: the cost is price times number."""
        return len(self.lots) == 1 and self.unit == 1 and math.isinf(self.lots[0].gpus)

    def taken(self, bought: float) -> tuple[float, ...]:
        """How many of `bought` accelerators come from each lot.

        >>> Tariff(lots=(Lot(usd_per_h=2.1, gpus=16), Lot(usd_per_h=3.9))).taken(20)
        (16, 4)
        """
        left, found = bought, []
        for lot in self.lots:
            found.append(min(left, lot.gpus))
            left -= found[-1]
        return tuple(found)

    def cost_per_h(self, bought: ArrayLike) -> Array:
        """Cost of so many accelerators, in whole units already; infinite where there are not as many.

        cost(n) = Σ_lots price · clip(n − accelerators of cheaper lots, 0, accelerators of the lot)

        >>> Tariff(lots=(Lot(usd_per_h=2.0, gpus=16), Lot(usd_per_h=4.0, gpus=8))).cost_per_h([8, 20, 25])
        array([16., 48., inf])
        """
        n = np.asarray(bought, dtype=float)
        cost, start = np.zeros(np.shape(n)), 0.0
        for lot in self.lots:
            cost = cost + lot.usd_per_h * np.clip(n - start, 0.0, lot.gpus)
            start += lot.gpus
        return np.where(n > self.most, np.inf, cost)

    def weighed(self, amount: float) -> Tariff:
        """As many of them, each counting `amount` instead of its price."""
        total = sum(lot.gpus for lot in self.lots)
        return Tariff(lots=(Lot(usd_per_h=amount, gpus=total),), unit=self.unit)


@dataclass(frozen=True, kw_only=True)
class Market:
    """Which prices are meant, what there is of each accelerator, and in which units it is bought."""

    price_kind: PriceKind | None = None
    provider: str | None = None
    granularity: Granularity = "gpu"
    inventory: Mapping[str, tuple[Lot, ...]] = field(default_factory=dict)
    """By accelerator, cheapest first; what is not named is unlimited."""

    @property
    def limited(self) -> tuple[str, ...]:
        """Accelerators of which there are only so many."""
        return tuple(
            name for name, lots in self.inventory.items() if math.isfinite(sum(lot.gpus for lot in lots))
        )

    def unit(self, accelerator: Accelerator) -> int:
        """Accelerators that are bought together."""
        node, domain = accelerator.accelerators_per_node, accelerator.scale_up_domain_size
        if self.granularity == "gpu":
            return 1
        return max(node, domain) if self.granularity == "rack" and domain <= LARGEST_RACK else node


def packed_units(unit: int, workers: Iterable[tuple[int, int]]) -> int:
    """Units (nodes, racks) that hold workers, given as (accelerators each, how many).

    A worker within a unit is not split over two; one larger than a unit fills whole ones and
    shares its last. Largest first into the fullest unit that still has room, which is
    the least number wherever sizes divide each other, as powers of two do.

    >>> packed_units(8, [(4, 3), (2, 2)]), packed_units(72, [(64, 1), (8, 1)]), packed_units(8, [(16, 2)])
    (2, 1, 4)
    """
    units = 0
    room: dict[int, int] = {}
    for size, count in sorted(workers, key=lambda w: -(w[0] % unit)):
        units += size // unit * count
        rest, left = size % unit, count
        if not rest:
            continue
        for space in sorted(s for s in room if s >= rest):
            holds = space // rest
            full = min(room[space], left // holds)
            _move(room, space, space - holds * rest, full)
            left -= full * holds
            if 0 < left < holds and room.get(space, 0):
                _move(room, space, space - left * rest, 1)
                left = 0
        holds = unit // rest
        full, last = divmod(left, holds)
        room[unit - holds * rest] = room.get(unit - holds * rest, 0) + full
        if last:
            room[unit - last * rest] = room.get(unit - last * rest, 0) + 1
        units += full + (last > 0)
    return units


def _move(room: dict[int, int], old: int, new: int, count: int) -> None:
    """Units with `old` accelerators free now have `new` of them free."""
    if count:
        room[old] -= count
        room[new] = room.get(new, 0) + count


def packed_pair(
    unit: int, size_a: ArrayLike, count_a: ArrayLike, size_b: ArrayLike, count_b: ArrayLike
) -> Array:
    """`packed_units` of two kinds of workers, elementwise.

    >>> packed_pair(8, [4, 16], [3, 1], [2, 8], [2, 1])
    array([2., 3.])
    """
    sizes = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (size_a, size_b, count_a, count_b)))
    (a, b, n_a, n_b) = sizes
    swap = (a % unit) < (b % unit)
    whole = a // unit * n_a + b // unit * n_b
    big, small = np.where(swap, b, a) % unit, np.where(swap, a, b) % unit
    n_big, n_small = np.where(swap, n_b, n_a), np.where(swap, n_a, n_b)
    n_big, n_small = np.where(big > 0, n_big, 0.0), np.where(small > 0, n_small, 0.0)
    big, small = np.where(big > 0, big, unit), np.where(small > 0, small, unit)
    holds = unit // big
    bins = np.ceil(n_big / holds)
    last = n_big - (bins - 1) * holds
    beside = np.where(
        bins > 0, (bins - 1) * ((unit - holds * big) // small) + (unit - last * big) // small, 0
    )
    rest = np.maximum(n_small - beside, 0.0)
    return np.asarray(whole + bins + np.ceil(rest / (unit // small)))


@dataclass(frozen=True, kw_only=True)
class BillLine:
    """Accelerators taken from one lot."""

    hardware: str
    lot: Lot
    gpus: int

    @property
    def usd_per_h(self) -> float:
        return self.gpus * self.lot.usd_per_h


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a plan buys, and of that what stays idle for want of half nodes."""

    lines: tuple[BillLine, ...]
    idle_gpus: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    """By accelerator: how many more are needed than there are."""

    @property
    def gpus(self) -> int:
        return sum(line.gpus for line in self.lines)

    @property
    def usd_per_h(self) -> float:
        return sum(line.usd_per_h for line in self.lines)


def bill_of(workers: Mapping[str, Iterable[tuple[int, int]]], tariffs: Mapping[str, Tariff]) -> Bill:
    """The bill of workers, given by accelerator as (accelerators each, how many).

    What goes beyond the inventory is billed at the dearest lot's price, and told as missing.
    """
    lines: list[BillLine] = []
    missing: dict[str, int] = {}
    idle = 0
    for hardware, sizes in workers.items():
        tariff, kinds = tariffs[hardware], list(sizes)
        bought = packed_units(tariff.unit, kinds) * tariff.unit
        idle += bought - sum(size * count for size, count in kinds)
        taken = [int(n) for n in tariff.taken(bought)]
        if bought > tariff.most:
            missing[hardware] = math.ceil(bought - tariff.most)
            taken[-1] += bought - sum(taken)
        lines += [
            BillLine(hardware=hardware, lot=lot, gpus=n)
            for lot, n in zip(tariff.lots, taken, strict=True)
            if n
        ]
    return Bill(lines=tuple(lines), idle_gpus=idle, missing=missing)
