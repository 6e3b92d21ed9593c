"""Kernels of a step: products with one law and one work are timed in one call, others one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pdplan.formats import peak_type
from pdplan.laws.kernel import Rates, kernel_time
from pdplan.laws.roofline import Array, Roofline
from pdplan.layout import Load
from pdplan.ops import Family, Kernel, Op, Product
from pdplan.setting import Setting
from pdplan.terms import Term, Timed

ROOM = 1 << 15
"""Numbers of one count that are worked on at a time: more do not stay near the processor."""


def law_of(setting: Setting, kernel: Product | Op) -> tuple[Roofline, Rates]:
    """The law of a kernel's family and number type, and what the data sheet allows that type."""
    return setting.constants.roofline(kernel.family, kernel.dtype), Rates(
        peak_flop_per_s=setting.formats.peaks[peak_type(kernel.dtype)],
        bandwidth_bytes_per_s=setting.bandwidth_bytes_per_s,
    )


def scale_of(setting: Setting, family: Family, layers: float, prompts: bool) -> float:
    """Times that a kernel's own seconds, without its start, count in a step, with prompts or without."""
    engine = setting.constants.engine
    slower = layers * engine.kernel_time_factor
    return slower * engine.prompt_expert_factor if prompts and family == "experts" else slower


def start_s(setting: Setting, law: Roofline, layers: float) -> float:
    """What the starts of a kernel take in a step, over all layers [s]."""
    return layers * law.overhead_s * setting.constants.engine.kernel_overhead_share


def kernel_term(op: Op, seconds: Sequence[Array], start: Array) -> Term:
    """The term of a kernel from its seconds over all layers: total, compute, memory; start included."""
    total, compute, memory = seconds
    return Term(
        name=op.name,
        total_s=total,
        compute_s=compute,
        memory_s=memory,
        network_s=np.zeros(()),
        overhead_s=np.asarray(start),
        source=op,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class One:
    """A kernel that is timed by itself."""

    setting: Setting
    prompts: bool
    place: int
    kernel: Kernel

    def times(self, load: Load) -> Iterator[Timed]:
        op = self.kernel.op(load)
        law, rates = law_of(self.setting, op)
        each, compute, memory = kernel_time(op, rates, law)
        slower = scale_of(self.setting, op.family, op.layers, self.prompts)
        start = start_s(self.setting, law, op.layers)
        total = slower * (each - law.overhead_s) + start
        yield Timed(
            (self.place,),
            (total,),
            lambda _: kernel_term(op, (total, slower * compute, slower * memory), np.asarray(start)),
        )


class _Stack(NamedTuple):
    """Products along a leading axis, and what each counts in a step."""

    product: Product
    slower: Array
    starts_s: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """Products with one law and one work, each with its place among the step's terms."""

    setting: Setting
    prompts: bool
    axes: int
    """Of layouts."""
    places: tuple[int, ...]
    members: tuple[Product, ...]

    def times(self, load: Load) -> Iterator[Timed]:
        work = self.members[0].work(load)
        if len(self.members) > 1 and np.size(work.rows) * len(self.members) > ROOM:
            for one in self._apart:
                yield from one.times(load)
            return
        law, rates = law_of(self.setting, self.members[0])
        stacked, slower, starts = self._stack(max(np.ndim(work.rows), self.axes))
        each, compute, memory = kernel_time(stacked.counts(work), rates, law)
        totals = slower * (each - law.overhead_s) + starts

        def term(index: int) -> Term:
            parts = (slower[index] * part[index] for part in (compute, memory))
            return kernel_term(self.members[index].op(load), (totals[index], *parts), starts[index])

        yield Timed(self.places, list(totals), term)

    @cached_property
    def _apart(self) -> list[Together]:
        each = zip(self.places, self.members, strict=True)
        return [replace(self, places=(place,), members=(member,)) for place, member in each]

    @cached_property
    def _stacks(self) -> dict[int, _Stack]:
        return {}

    def _stack(self, axes: int) -> _Stack:
        """The products for results of so many axes, of which those of layouts are the last."""
        if axes not in self._stacks:
            first, law = self.members[0], law_of(self.setting, self.members[0])[0]

            def stacked(name: str) -> Array:
                return _stacked([getattr(m, name) for m in self.members], axes)

            some_input = any(m.input_bytes is not None for m in self.members)
            product = replace(
                first,
                flop=stacked("flop"),
                stored_bytes=stacked("stored_bytes"),
                activation_bytes=stacked("activation_bytes"),
                depth=None if first.depth is None else stacked("depth"),
                input_bytes=stacked("input_bytes") if some_input else None,
            )
            slower = [scale_of(self.setting, m.family, m.layers, self.prompts) for m in self.members]
            starts = [start_s(self.setting, law, m.layers) for m in self.members]
            self._stacks[axes] = _Stack(product, _stacked(slower, axes), _stacked(starts, axes))
        return self._stacks[axes]


def _stacked(values: Sequence[Any], axes: int) -> Array:
    """Arrays over layouts, side by side along an axis before `axes` others; None counts nothing."""
    found = np.stack(np.broadcast_arrays(*(0.0 if x is None else x for x in values)))
    return found.reshape(len(values), *(1,) * (axes - found.ndim + 1), *found.shape[1:])
