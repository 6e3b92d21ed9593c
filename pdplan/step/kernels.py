"""Kernels of a step: products of one law and one work are timed at once, attention cores one by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pdplan.formats import peak_type
from pdplan.laws.kernel import Counts, KernelTime, Rates, kernel_time
from pdplan.laws.roofline import Array, Roofline
from pdplan.layout import Load, Phases
from pdplan.ops import Kernel, Op, Product
from pdplan.step.setting import Setting
from pdplan.step.terms import Place, Term

PROMPT_MLA = "prefill_mla"
"""The family of MLA over prompts."""
ROOM = 1 << 12
"""Numbers of one count that are worked on at a time: 32 KB, as much as stays near a processor."""


def law_of(setting: Setting, kernel: Product | Kernel | Op) -> tuple[Roofline, Rates]:
    """The law of a kernel's family and number type, and what the data sheet allows that type."""
    return setting.constants.roofline(kernel.family, kernel.dtype), Rates(
        peak_flop_per_s=setting.formats.peaks[peak_type(kernel.dtype)],
        bandwidth_bytes_per_s=setting.bandwidth_bytes_per_s,
    )


def in_fp8_blocks(kernel: Product | Kernel | Op) -> bool:
    """Whether the operation is block-scaled FP8 products, of linear layers or of experts."""
    return kernel.family in ("gemm", "experts") and kernel.dtype == "fp8-block"


class Pace(NamedTuple):
    """What kernels of one law take in the steps of an engine."""

    law: Roofline
    rates: Rates
    slower: float
    """Seconds of a kernel over those of its law, its start apart."""
    start_s: float
    most_flop_per_s: float
    """Engines may run block-scaled FP8 products of prompts by kernels made for few tokens."""

    def time(self, counts: Counts, factor: Array, start_s: Array) -> KernelTime:
        """T = factor · t_running + start over all layers, t_running without any start; parts of one layer."""
        each, compute, memory = kernel_time(counts, self.rates, self.law)
        running = each - self.law.overhead_s
        if math.isfinite(self.most_flop_per_s):
            running = np.maximum(running, np.asarray(counts.flop) / self.most_flop_per_s)
        return KernelTime(factor * running + start_s, compute, memory)


def pace_of(setting: Setting, kernel: Product | Kernel, phases: Phases) -> Pace:
    """Of kernels of this one's law, in steps with these phases."""
    law, rates = law_of(setting, kernel)
    engine = setting.constants.engine
    limited = phases.prefill and in_fp8_blocks(kernel)
    return Pace(
        law=law,
        rates=rates,
        slower=engine.kernel_time_factor * (engine.prompt_mla_factor if kernel.family == PROMPT_MLA else 1.0),
        start_s=law.overhead_s * engine.kernel_overhead_share,
        most_flop_per_s=engine.prompt_fp8_flop_per_s if limited else math.inf,
    )


class _Timed(NamedTuple):
    """Seconds of some kernels along a leading axis, and what they were made with."""

    total_s: Array
    """Over all layers."""
    compute_s: Array
    """Of one layer, as the law says; so memory."""
    memory_s: Array
    factor: Array
    start_s: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelGroup(ABC):
    """Kernels of one law, each with its place in the step."""

    pace: Pace
    places: tuple[Place, ...]

    def totals_s(self, load: Load) -> list[Array]:
        """Seconds of each in a step, over all layers."""
        return [total for timed in self._timed(load) for total in timed.total_s]

    def terms(self, load: Load) -> Iterator[Term]:
        """The same with what they are made of."""
        each = (one for timed in self._timed(load) for one in zip(*timed, strict=True))
        for place, op, timed in zip(self.places, self._ops(load), each, strict=True):
            total, compute, memory, factor, start = timed
            yield Term(
                name=op.name,
                total_s=total,
                compute_s=factor * compute,
                memory_s=factor * memory,
                overhead_s=start,
                source=op,
                place=place,
            )

    @abstractmethod
    def _ops(self, load: Load) -> list[Op]: ...

    @abstractmethod
    def _timed(self, load: Load) -> Iterator[_Timed]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class OneKernel(KernelGroup):
    """A kernel that is timed by itself: each load makes its counts anew."""

    kernel: Kernel

    def _ops(self, load: Load) -> list[Op]:
        return [self.kernel.op(load)]

    def _timed(self, load: Load) -> Iterator[_Timed]:
        op = self.kernel.op(load)
        factor = np.asarray(op.layers * self.pace.slower)
        start_s = np.asarray(op.layers * op.starts * self.pace.start_s)
        time = self.pace.time(op, factor, start_s)
        yield _Timed(*(part[None] for part in (*time, factor, start_s)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Products(KernelGroup):
    """Products of one work: a table of what one row of each takes, which the work of a load multiplies."""

    members: tuple[Product, ...]
    table: Array
    """Columns by products by layouts."""

    def _ops(self, load: Load) -> list[Op]:
        return [product.op(load) for product in self.members]

    def _timed(self, load: Load) -> Iterator[_Timed]:
        work, rows = self.members[0].work(load), self.members[0].each.rows
        columns, members, *layouts = self.table.shape
        # Results have the axes of loads before those of layouts.
        between = (1,) * (np.ndim(work.rows) - len(layouts))
        table = self.table.reshape(columns, members, *between, *layouts)
        together = max(ROOM // max(np.size(work.rows), 1), 1)
        for first in range(0, members, together):
            flop, stored, activations, depth, passed, factor, start_s = table[:, first : first + together]
            each = Counts(
                flop=flop,
                stored_bytes=stored,
                activation_bytes=activations,
                rows=rows,
                depth=depth,
                input_bytes=passed,
            )
            yield _Timed(*self.pace.time(work.counts(each), factor, start_s), factor, start_s)


def side_by_side(pace: Pace, members: Sequence[tuple[Place, Product]], layouts: tuple[int, ...]) -> Products:
    """Products of one work; `layouts` is the shape of arrays over them."""
    rows = []
    for _, product in members:
        each, layers = product.each, product.layers
        counts = each.flop, each.stored_bytes, each.activation_bytes, each.depth, each.input_bytes
        factor, start_s = layers * pace.slower, layers * product.starts * pace.start_s
        rows.append([0.0 if x is None else x for x in (*counts, factor, start_s)])
    table = np.empty((len(rows[0]), len(rows), *layouts))
    for at, row in enumerate(rows):
        for column, value in enumerate(row):
            table[column, at] = value
    places, products = zip(*members, strict=True)
    return Products(pace=pace, places=places, members=products, table=table)
