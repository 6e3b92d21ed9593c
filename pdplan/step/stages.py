"""Pipeline stages: what one takes of a step."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np

from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.efficiency import Engine
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops import Block
from pdplan.step.setting import Setting
from pdplan.step.terms import Place


def block_shares(everything: Stage, stage: Stage, stages: int) -> dict[Block, float]:
    """Of each block's time over all layers, what one stage takes.

    Layers by how many of each kind it has; the head is the last stage's; every other stage sends once.
    """
    shares: dict[Block, float] = {
        ("layers", 0): stage.layers / everything.layers,
        ("last", 0): float(stage.last),
        ("hop", 0): 0.0 if stage.last else 1.0 / max(stages - 1, 1),
    }
    for number, (own, count) in enumerate(zip(stage.mixers, everything.mixers, strict=True)):
        shares["mixer", number] = own / count
    for number, (own, count) in enumerate(zip(stage.feed_forwards, everything.feed_forwards, strict=True)):
        shares["feed_forward", number] = own / count
    return shares


def engine_shares(engine: Engine, stage: Stage, stages: int) -> tuple[float, float]:
    """What a stage takes of a step's overhead [s], and of that of each sequence [s]: the last one samples.

    What a step costs the host is taken as even over the stages.
    """
    fixed = engine.step_overhead_s / stages + stage.layers * engine.layer_overhead_s
    return fixed, engine.sequence_overhead_s * stage.last


def stage_times(
    setting: Setting, layout: Layout, load: Load, timed: Iterable[tuple[Place, Array]]
) -> tuple[Array, Array]:
    """Seconds of the slowest stage before the last, and of the last, from those of all that a step does."""
    totals: dict[Block, Array] = {}
    for place, seconds in timed:
        totals[place.block] = totals[place.block] + seconds if place.block in totals else seconds
    stack, engine = setting.stack, setting.constants.engine
    sizes, at = layout.pipelines
    found: list[Array] = []
    for row in _stage_rows(whole(stack), stack.order, sizes):
        fixed, sequence = np.array([engine_shares(engine, *stage) for stage in row.stages]).T
        time = fixed[at]
        if np.any(sequence):
            time = time + sequence[at] * np.asarray(load.sampled)
        for alike_blocks, share in row.shares:
            here = [totals[block] for block in alike_blocks if block in totals]
            if here:
                time = time + share[at] * sum(here[1:], start=here[0])
        found.append(time)
    *earlier, last = found
    return reduce(np.maximum, earlier), last


class _StageRow(NamedTuple):
    """A stage of each of some pipelines, and what it takes of blocks that are dealt out alike."""

    stages: list[tuple[Stage, int]]
    shares: list[tuple[list[Block], Array]]


@lru_cache(maxsize=64)
def _stage_rows(
    everything: Stage, order: tuple[tuple[int, int], ...], sizes: tuple[int, ...]
) -> list[_StageRow]:
    """Stages that may be the slowest of pipelines of these sizes, side by side; the last row, last stages."""
    by_size = [sorted(stages_of(order, everything, size), key=lambda s: s.last) for size in sizes]
    most = max(len(stages) for stages in by_size)
    rows = []
    for number in range(most):
        # A pipeline of fewer kinds of stages repeats its first.
        some = [(s[max(number - most + len(s), 0)], size) for s, size in zip(by_size, sizes, strict=True)]
        each = [block_shares(everything, stage, size) for stage, size in some]
        alike: dict[tuple[float, ...], list[Block]] = {}
        for block in each[0]:
            alike.setdefault(tuple(share[block] for share in each), []).append(block)
        rows.append(
            _StageRow(some, [(blocks, np.array(share)) for share, blocks in alike.items() if any(share)])
        )
    return rows
