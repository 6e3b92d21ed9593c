"""Two-batch overlap: what a step saves whose halves take turns with kernels and exchanges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stack import Stack
from pdplan.laws.overlap import HalfLayers, two_batch_time_s
from pdplan.laws.roofline import Array
from pdplan.layout import Load
from pdplan.ops import Block, Kernel, Product, Sending
from pdplan.step.setting import Setting
from pdplan.step.terms import Overlapped, Place, StepTime, Term, Turn


def turn_of(member: Product | Kernel | Sending, block: Block, routed: bool) -> Turn | None:
    """What of a layer with experts it belongs to; None where it is of other layers. `routed`: block's own."""
    if isinstance(member, Sending) and member.exchange == "expert_exchange":
        return "dispatch" if "dispatch" in member.name else "combine"
    if not isinstance(member, Sending) and member.family == "experts":
        return "experts"
    return "before" if block[0] in ("mixer", "layers") or (block[0] == "feed_forward" and routed) else None


def share_with_experts(stack: Stack) -> float:
    """Of all layers, those with experts."""
    return sum(count for block, count in stack.feed_forwards if isinstance(block, Experts)) / stack.layers


def expert_layers(stack: Stack, timed: Iterable[tuple[Place, Array]]) -> HalfLayers:
    """A step's layers with experts, taken apart into what overlaps with what."""
    share, none = share_with_experts(stack), np.zeros(())
    found: dict[Turn, Array] = {"before": none, "experts": none, "dispatch": none, "combine": none}
    for place, seconds in timed:
        if place.turn is not None:
            # What is dealt out over all layers counts by the share that these are of them.
            weight = 1.0 if place.block[0] == "feed_forward" else share
            found[place.turn] = found[place.turn] + weight * seconds
    return HalfLayers(**found)


def in_two_batches(step: StepTime, half: StepTime, setting: Setting, load: Load) -> StepTime:
    """The step with what halves of the batch save whose exchanges run beside each other's kernels.

    Where two halves take longer than the whole (weights are read twice, kernels start twice), in pipelines,
    and where no tokens are exchanged, nothing changes: engines have thresholds, too.
    """
    assert step.turns is not None
    assert half.turns is not None
    source = Overlapped(
        half=half,
        share=share_with_experts(setting.stack),
        taken=setting.constants.engine.exchange_cores if load.has_prefill else 0.0,
    )
    saved = step.turns.in_turn - two_batch_time_s(half.turns, source.taken)
    saved = np.where((step.turns.dispatch > 0) & (step.stages <= 1), np.maximum(saved, 0.0), 0.0)
    if not np.any(saved):
        return step
    term = Term(name="two-batch overlap", total_s=-saved, network_s=-saved, source=source)
    return replace(step, total_s=step.total_s - saved, write=lambda: (*step.terms, term))
