"""One forward step of one worker: ops and messages become seconds.

Every term keeps what it is made of (compute, memory, network, overhead), so the
explanation reads the very numbers that the search used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.architecture.stack import Stack
from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.efficiency import Constants, Engine
from pdplan.formats import Formats, peak_type
from pdplan.laws.collectives import (
    Links,
    Routed,
    all_gather_time_s,
    all_reduce_time_s,
    cheaper_exchange,
    expert_exchange_time_s,
    stage_hops_time_s,
)
from pdplan.laws.experts import busiest_exchange_factor
from pdplan.laws.kernel import Rates, kernel_time
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops import Block, Message, Op, Routing, forward_ops

BINDING_TERMS = ("compute", "memory", "network", "overhead")

LAUNCHES = {"prefill_recurrence": 8.0, "indexer": 4.0}
"""Operations that one op stands for: a chunked scan (convolution, gates, norm, sums, products in and
between chunks, output; flash-linear-attention's chunk_gated_delta_rule), a sparse indexer (quantise,
score, select, gather)."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model in certain formats on a certain accelerator under a certain engine: all that is not layout."""

    stack: Stack
    draft: Stack | None = None
    formats: Formats
    bandwidth_bytes_per_s: float
    usable_bytes: float
    constants: Constants


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of a step: a kernel or collective over all layers that run it [s]."""

    name: str
    total_s: Array
    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array
    source: Op | Message | None = None

    @property
    def binding(self) -> Array:
        """Index into BINDING_TERMS of the largest part."""
        parts = np.broadcast_arrays(self.compute_s, self.memory_s, self.network_s, self.overhead_s)
        return np.argmax(np.stack(parts), axis=0)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one forward step and the terms that they are the sum of."""

    terms: tuple[Term, ...]
    blocks: tuple[Block, ...] = ()
    """What each term belongs to; the engine's term, the last one, to none."""
    stages: Array = field(default_factory=lambda: np.ones(()))
    """Of the worker's pipeline."""
    earlier_s: Array | None = None
    """The slowest stage before the last, where any layout has several."""
    last_s: Array | None = None
    """The last stage, with the LM head."""

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

    @property
    def total_s(self) -> Array:
        total: Array = np.zeros(())
        for term in self.terms:
            total = total + term.total_s
        return total

    @property
    def operations(self) -> float:
        """Operations that the host starts: an op of each layer; some are several kernels."""
        sources = [term.source for term in self.terms if isinstance(term.source, Op)]
        return sum(op.layers * LAUNCHES.get(op.family, 1.0) for op in sources)

    def part_s(self, name: str) -> Array:
        """Sum over terms of their compute, memory, network or overhead part."""
        total: Array = np.zeros(())
        for term in self.terms:
            total = total + getattr(term, f"{name}_s")
        return total


def step_time(setting: Setting, layout: Layout, load: Load) -> StepTime:
    """Seconds of one forward step, t = Σ_terms layers · t_term + step overhead.

    Shapes: `layout` and `load` fields broadcast; so does the result.
    """
    constants = setting.constants
    forward = forward_ops(setting.stack, setting.formats, layout, load, routing_of(setting))
    terms = [_op_term(op, setting, load) for op in forward.ops]
    blocks = list(forward.op_blocks)
    for message, block in zip(forward.messages, forward.message_blocks, strict=True):
        if (term := _message_term(message, constants)) is not None:
            terms.append(term)
            blocks.append(block)
    step = StepTime(
        terms=(*terms, _engine_term(setting, load)), blocks=tuple(blocks), stages=np.asarray(layout.pp)
    )
    if np.all(step.stages <= 1):
        return step
    earlier, last = _stage_times(setting, layout, step, load)
    return replace(step, earlier_s=earlier, last_s=last)


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


def _stage_times(setting: Setting, layout: Layout, step: StepTime, load: Load) -> tuple[Array, Array]:
    """Seconds of the slowest stage before the last, and of the last."""
    totals: dict[Block, Array] = {}
    for term, block in zip(step.terms, step.blocks, strict=False):
        totals[block] = totals[block] + term.total_s if block in totals else term.total_s
    stack, engine = setting.stack, setting.constants.engine
    sizes, at = layout.pipelines
    found: list[Array] = []
    for row in _stage_rows(whole(stack), stack.order, sizes):
        fixed, sequence = np.array([engine_shares(engine, *stage) for stage in row.stages]).T
        time = fixed[at]
        if np.any(sequence):
            time = time + sequence[at] * np.asarray(load.sampled)
        for blocks, share in row.shares:
            here = [totals[block] for block in blocks if block in totals]
            if here:
                time = time + share[at] * sum(here[1:], start=here[0])
        found.append(time)
    *earlier, last = found
    slowest = earlier[0]
    for other in earlier[1:]:
        slowest = np.maximum(slowest, other)
    return slowest, last


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


def routing_of(setting: Setting) -> Routing:
    """How the engine brings tokens in these formats to experts."""
    engine = setting.constants.engine
    fp4 = setting.formats.precision == "fp4"
    return Routing(
        skew=engine.expert_skew,
        dispatch_bytes=engine.fp4_dispatch_bytes if fp4 else engine.dispatch_bytes,
        combine_bytes=engine.combine_bytes,
        gathered=bool(engine.gathers_tokens),
        sums_prompts=bool(engine.sums_prompts),
    )


def _op_term(op: Op, setting: Setting, load: Load) -> Term:
    law = setting.constants.roofline(op.family, op.dtype)
    rates = Rates(
        peak_flop_per_s=setting.formats.peaks[peak_type(op.dtype)],
        bandwidth_bytes_per_s=setting.bandwidth_bytes_per_s,
    )
    each, compute, memory = kernel_time(op, rates, law)
    engine = setting.constants.engine
    slower = op.layers * engine.kernel_time_factor
    running, limit = each - law.overhead_s, engine.prompt_fp8_flop_per_s
    if (op.family, op.dtype) == ("gemm", "fp8-block") and load.has_prefill and math.isfinite(limit):
        running = np.maximum(running, op.flop / limit)
    start = op.layers * law.overhead_s * engine.kernel_overhead_share * op.starts
    return Term(
        name=op.name,
        total_s=slower * running + start,
        compute_s=slower * compute,
        memory_s=slower * memory,
        network_s=np.zeros(()),
        overhead_s=np.asarray(start),
        source=op,
    )


def _message_term(message: Message, constants: Constants) -> Term | None:
    links, engine = constants.links, constants.engine
    if not np.any(np.asarray(message.ranks) > 1):
        return None
    if message.exchange == "all_reduce":
        each = all_reduce_time_s(message.message_bytes, message.ranks, links)
    elif message.exchange == "all_gather":
        each = all_gather_time_s(message.message_bytes, message.ranks, links)
    elif message.exchange == "stage_hop":
        assert message.spread is not None
        each = stage_hops_time_s(message.message_bytes, message.ranks, message.spread, links)
    else:
        each = exchange_s(message, links)[0]
    if message.uneven:
        each = busiest_exchange_factor(engine.exchange_imbalance, message.ranks) * each
    if engine.collective_wait_s and message.exchange != "stage_hop":
        each = each + np.where(np.asarray(message.ranks) > 1, engine.collective_wait_s, 0.0)
    if engine.exchange_wait_s and message.exchange == "expert_exchange":
        each = each + np.where(np.asarray(message.ranks) > 1, engine.exchange_wait_s, 0.0)
    if message.mask is not None:
        each = np.where(message.mask, each, 0.0)
    total = message.layers * each
    return Term(
        name=message.name,
        total_s=total,
        compute_s=np.zeros(()),
        memory_s=np.zeros(()),
        network_s=total,
        overhead_s=np.zeros(()),
        source=message,
    )


def exchange_s(message: Message, links: Links) -> tuple[Array, Array]:
    """Seconds of one exchange with experts, and where it takes the high-throughput kernels."""
    assert message.tokens is not None
    routed = Routed(
        tokens=message.tokens,
        per_token=message.per_token,
        bytes_per_token=message.message_bytes,
        ranks=message.ranks,
        group_limit=message.group_limit,
        ranks_per_domain=np.maximum(links.domain_size / np.asarray(message.spread), 1.0),
    )
    bulk = expert_exchange_time_s(routed, links)
    if message.deduplicate:
        return bulk, np.ones(np.shape(bulk), dtype=bool)
    return cheaper_exchange(expert_exchange_time_s(routed, links, deduplicate=False), bulk)


def _engine_term(setting: Setting, load: Load) -> Term:
    """What the engine adds: scheduling and launch per step and layer, sampling per sequence."""
    engine = setting.constants.engine
    # Each attention-dp rank has a scheduler of its own.
    seconds = (
        engine.step_overhead_s
        + setting.stack.layers * engine.layer_overhead_s
        + engine.sequence_overhead_s * load.sampled
    )
    return Term(
        name="engine overhead",
        total_s=np.asarray(seconds),
        compute_s=np.zeros(()),
        memory_s=np.zeros(()),
        network_s=np.zeros(()),
        overhead_s=np.asarray(seconds),
    )
