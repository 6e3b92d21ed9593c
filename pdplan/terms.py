"""Lines of a step: what it takes for each kernel and collective, and what binds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.ops import Message, Op

if TYPE_CHECKING:
    from pdplan.step import Overlapped

BINDING_TERMS = ("compute", "memory", "network", "overhead")


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of a step: a kernel or collective over all layers that run it [s]."""

    name: str
    total_s: Array
    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array
    source: Op | Message | Overlapped | None = None

    @property
    def binding(self) -> Array:
        """Index into BINDING_TERMS of the largest part."""
        parts = np.broadcast_arrays(self.compute_s, self.memory_s, self.network_s, self.overhead_s)
        return np.argmax(np.stack(parts), axis=0)


class Timed(NamedTuple):
    """Seconds of some terms of a step, over all layers; the terms themselves where somebody reads them."""

    places: tuple[int, ...]
    """Of each, among the step's terms."""
    totals_s: Sequence[Array]
    term: Callable[[int], Term]
    """The term at an index of these."""
