"""What a forward step takes: its seconds, and the lines that they are the sum of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.overlap import HalfLayers
from pdplan.laws.roofline import Array
from pdplan.ops import Block, Message, Op

BINDING_TERMS = ("compute", "memory", "network", "overhead")

Turn = Literal["before", "experts", "dispatch", "combine"]
"""Part of a layer with experts that a two-batch overlap runs in turns: a field of `HalfLayers`."""


class Place(NamedTuple):
    """Where a kernel or collective stands in a step."""

    number: int
    """Among the step's terms."""
    block: Block
    turn: Turn | None
    """None where it is not of a layer with experts."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of a step: a kernel or collective over all layers that run it [s]."""

    name: str
    total_s: Array
    compute_s: Array = field(default_factory=lambda: np.zeros(()))
    memory_s: Array = field(default_factory=lambda: np.zeros(()))
    network_s: Array = field(default_factory=lambda: np.zeros(()))
    overhead_s: Array = field(default_factory=lambda: np.zeros(()))
    source: Op | Message | Overlapped | None = None
    place: Place | None = None
    """None for what is no kernel's or collective's: what the engine adds, what an overlap saves."""

    @property
    def binding(self) -> Array:
        """Index into BINDING_TERMS of the largest part."""
        parts = np.broadcast_arrays(self.compute_s, self.memory_s, self.network_s, self.overhead_s)
        return np.argmax(np.stack(parts), axis=0)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one forward step, and the terms that they are the sum of where somebody reads them."""

    total_s: Array
    write: Callable[[], tuple[Term, ...]]
    """Makes the terms anew: a search keeps the seconds of thousands of steps, and reads the terms of none."""
    operations: float
    """That the host starts: an op of each layer; some are several kernels."""
    stages: Array = field(default_factory=lambda: np.ones(()))
    """Of the worker's pipeline."""
    earlier_s: Array | None = None
    """The slowest stage before the last, where any layout has several."""
    last_s: Array | None = None
    """The last stage, with the LM head."""
    turns: HalfLayers | None = None
    """Its layers with experts, where those of one half of a batch may run beside those of the other."""

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        return self.write()

    @property
    def own_share(self) -> Array:
        """Share that an attention rank spends on its own tokens: all but experts and messages."""
        shared: Array = np.zeros(())
        for term in self.terms:
            source = term.source
            if isinstance(source, Message) or (isinstance(source, Op) and source.family == "experts"):
                shared = shared + term.total_s
        return np.asarray(1.0 - shared / self.total_s)

    def slowest_s(self, after_s: ArrayLike = 0.0) -> Array:
        """What the slowest stage takes for its part, `after_s` more on the last one [s]."""
        if self.earlier_s is None or self.last_s is None:
            return self.total_s + after_s
        slowest = np.maximum(self.earlier_s, self.last_s + after_s)
        return np.where(self.stages > 1, slowest, self.total_s + after_s)

    def cycle_s(self, micro_batches: ArrayLike, after_s: ArrayLike = 0.0) -> Array:
        """From one step of a micro-batch to its next, when so many go round the stages [s].

        T = max(t + after, n · slowest stage): a stage works on one micro-batch at a time, and a
        micro-batch is in one stage at a time. One stage: t + after.
        """
        total = self.total_s + after_s
        if self.earlier_s is None:
            return np.asarray(total)
        return np.maximum(total, micro_batches * self.slowest_s(after_s))

    def part_s(self, name: str) -> Array:
        """Sum over terms of their compute, memory, network or overhead part."""
        total: Array = np.zeros(())
        for term in self.terms:
            total = total + getattr(term, f"{name}_s")
        return total


@dataclass(frozen=True, kw_only=True)
class Overlapped:
    """What a two-batch overlap saves, as the source of its term."""

    half: StepTime
    """A step of one half of the batch."""
    share: float
    """Of all layers, those with experts."""
    taken: float
    """Share of the cores that exchanges hold."""
