"""Worker types that were evaluated before: what many questions about one deployment share.

Prices and rates change no worker type, a TPOT limit changes decode batches alone; only what
a question changes is evaluated anew.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

from pdplan.compose import World
from pdplan.laws.roofline import Array
from pdplan.plan import Serving
from pdplan.search.workers.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
    WorkerLimits,
    decode_choices,
    fitting_candidates,
    prefill_choices,
)
from pdplan.workload import Workload

T = TypeVar("T")


class WorkerTypes:
    """Remembers worker types by everything that they depend on.

    For the questions of one analysis: their worlds may differ in prices, accelerators and
    what is varied, in nothing else.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Any, Any]] = {}

    def fitting(
        self, world: World, serving: Serving, hardware: str, workload: Workload, limits: WorkerLimits
    ) -> Candidates:
        """`fitting_candidates`, unpriced."""
        accelerator = world.accelerator(hardware)
        key = ("fitting", id(accelerator), world.varied, serving, _lengths(workload), limits)
        return self._get(
            key, accelerator, lambda: fitting_candidates(world, serving, hardware, workload, limits)
        )

    def prefill(self, fitting: Candidates, workload: Workload) -> PrefillChoices:
        """`prefill_choices` of what `fitting` returned."""
        key = ("prefill", id(fitting), _lengths(workload))
        return self._get(key, fitting, lambda: prefill_choices(fitting, workload))

    def decode(
        self,
        fitting: Candidates,
        workload: Workload,
        tpot_limit_s: float | None,
        colocated: bool,
        at_least: Array | None = None,
    ) -> DecodeChoices:
        """`decode_choices` of what `fitting` returned; those that serve `at_least` so much are not kept."""
        key = ("decode", id(fitting), _lengths(workload), tpot_limit_s, colocated)
        if at_least is not None and key not in self._known:
            return decode_choices(fitting, workload, tpot_limit_s, colocated, at_least)
        return self._get(key, fitting, lambda: decode_choices(fitting, workload, tpot_limit_s, colocated))

    def remembered(self, key: Hashable, owner: object, make: Callable[[], T]) -> T:
        """What is made of worker types, under what else it depends on; `owner` is what they have alone."""
        return self._get((key, id(owner)), owner, make)

    def _get(self, key: Hashable, owner: object, make: Callable[[], T]) -> T:
        """What was made under a key; its owner is kept, so that no other object takes its id."""
        if key not in self._known:
            self._known[key] = (make(), owner)
        found: T = self._known[key][0]
        return found


def _lengths(workload: Workload) -> Workload:
    """The workload without its traffic: worker types know no rate."""
    return replace(workload, rate=None, concurrency=None)
