"""Kernels of a step: products with one law and one work are timed in one call, others one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.formats import peak_type
from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.laws.roofline import Array, Roofline
from pdplan.layout import Load
from pdplan.ops import Kernel, Op, Product
from pdplan.setting import Setting
from pdplan.terms import Term, Timed

PROMPT_MLA = "prefill_mla"
"""The family of MLA over prompts."""
ROOM = 1 << 12
"""Numbers of one count that are worked on at a time: 32 KB, as much as stays near a processor."""


def law_of(setting: Setting, kernel: Product | Op) -> tuple[Roofline, Rates]:
    """The law of a kernel's family and number type, and what the data sheet allows that type."""
    return setting.constants.roofline(kernel.family, kernel.dtype), Rates(
        peak_flop_per_s=setting.formats.peaks[peak_type(kernel.dtype)],
        bandwidth_bytes_per_s=setting.bandwidth_bytes_per_s,
    )


def in_fp8_blocks(kernel: Product | Op) -> bool:
    """Whether the operation is block-scaled FP8 products, of linear layers or of experts."""
    return kernel.family in ("gemm", "experts") and kernel.dtype == "fp8-block"


def running_s(setting: Setting, kernel: Product | Op, prompts: bool, law_s: Array, flop: ArrayLike) -> Array:
    """A kernel's seconds without its start: its law's, or what its FLOP take at the most that it reaches.

    Engines may run block-scaled FP8 products of prompts by kernels made for few tokens.
    """
    limit = setting.constants.engine.prompt_fp8_flop_per_s
    if prompts and in_fp8_blocks(kernel) and math.isfinite(limit):
        return np.maximum(law_s, np.asarray(flop) / limit)
    return law_s


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
        engine = self.setting.constants.engine
        slower = op.layers * engine.kernel_time_factor
        if op.family == PROMPT_MLA:
            slower = slower * engine.prompt_mla_factor
        start = op.layers * law.overhead_s * engine.kernel_overhead_share * op.starts
        total = slower * running_s(self.setting, op, self.prompts, each - law.overhead_s, op.flop) + start
        yield Timed(
            (self.place,),
            (total,),
            lambda _: kernel_term(op, (total, slower * compute, slower * memory), np.asarray(start)),
        )


class _Stack(NamedTuple):
    """Products along a leading axis, and what each counts in a step."""

    each: Counts
    slower: Array
    starts_s: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Together:
    """Products with one law and one work, each with its place among the step's terms."""

    setting: Setting
    prompts: bool
    law: Roofline
    rates: Rates
    shape: tuple[int, ...]
    """Of layouts."""
    places: tuple[int, ...]
    members: tuple[Product, ...]
    stacks: dict[int, _Stack] = field(default_factory=dict, init=False)
    """Of the members, by the axes that results have."""

    def times(self, load: Load) -> Iterator[Timed]:
        work = self.members[0].work(load)
        if len(self.members) > 1 and np.size(work.rows) * len(self.members) > ROOM:
            for one in self._apart:
                yield from one.times(load)
            return
        stack = self._stack(max(np.ndim(work.rows), len(self.shape)))
        counts = work.counts(stack.each)
        each, compute, memory = kernel_time(counts, self.rates, self.law)
        alone = each - self.law.overhead_s
        running = running_s(self.setting, self.members[0], self.prompts, alone, counts.flop)
        totals = stack.slower * running + stack.starts_s

        def term(index: int) -> Term:
            parts = (stack.slower[index] * part[index] for part in (compute, memory))
            return kernel_term(self.members[index].op(load), (totals[index], *parts), stack.starts_s[index])

        yield Timed(self.places, list(totals), term)

    @cached_property
    def _apart(self) -> list[Together]:
        each = zip(self.places, self.members, strict=True)
        return [replace(self, places=(place,), members=(member,)) for place, member in each]

    def _stack(self, axes: int) -> _Stack:
        """The products for results of so many axes, of which those of layouts are the last."""
        if axes not in self.stacks:
            first, law = self.members[0], self.law
            counts = [m.each for m in self.members]

            def stacked(values: list[Any]) -> Array:
                return _stacked(values, self.shape, axes)

            def asked_for(constant: float, values: list[Any]) -> Array | None:
                """None where the law has no such term, or no product has what it is of."""
                if not constant or all(x is None for x in values):
                    return None
                return stacked([0.0 if x is None else x for x in values])

            moved = asked_for(law.activation_traffic, [c.activation_bytes for c in counts])
            each = Counts(
                flop=stacked([c.flop for c in counts]),
                stored_bytes=stacked([c.stored_bytes for c in counts]),
                activation_bytes=0.0 if moved is None else moved,
                rows=first.each.rows,
                depth=asked_for(law.depth_s, [c.depth for c in counts]),
                input_bytes=asked_for(law.input_traffic, [c.input_bytes for c in counts]),
            )
            engine = self.setting.constants.engine
            start = law.overhead_s * engine.kernel_overhead_share
            slower = [m.layers * engine.kernel_time_factor for m in self.members]
            starts = [m.layers * m.starts * start for m in self.members]
            self.stacks[axes] = _Stack(each, stacked(slower), stacked(starts))
        return self.stacks[axes]


def _stacked(values: list[Any], shape: tuple[int, ...], axes: int) -> Array:
    """Numbers or arrays over layouts side by side, along an axis before `axes` others."""
    if not any(isinstance(x, np.ndarray) for x in values):
        return np.array(values, dtype=float).reshape(len(values), *(1,) * axes)
    found = np.empty((len(values), *shape))
    for index, value in enumerate(values):
        found[index] = value
    return found.reshape(len(values), *(1,) * (axes - len(shape)), *shape)
