"""One forward step of one worker: ops and messages become seconds.

Every term keeps what it is made of (compute, memory, network, overhead), so the
explanation reads the very numbers that the search used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pdplan.architecture.stack import Stack
from pdplan.efficiency import Constants
from pdplan.formats import Formats, peak_type
from pdplan.laws.collectives import (
    Links,
    all_gather_time_s,
    all_reduce_time_s,
    cheaper_exchange,
    expert_exchange_time_s,
    stage_hops_time_s,
)
from pdplan.laws.kernel import kernel_time
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops import Message, Op, Routing, forward_ops

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
    ops, messages = forward_ops(setting.stack, setting.formats, layout, load, routing_of(setting))
    terms = [_op_term(op, setting) for op in ops]
    terms += [term for message in messages if (term := _message_term(message, constants)) is not None]
    terms.append(_engine_term(setting, load))
    return StepTime(terms=tuple(terms))


def routing_of(setting: Setting) -> Routing:
    """How the engine brings tokens in these formats to experts."""
    engine = setting.constants.engine
    fp4 = setting.formats.precision == "fp4"
    return Routing(
        skew=engine.expert_skew,
        dispatch_bytes=engine.fp4_dispatch_bytes if fp4 else engine.dispatch_bytes,
        combine_bytes=engine.combine_bytes,
    )


def _op_term(op: Op, setting: Setting) -> Term:
    law = setting.constants.roofline(op.family, op.dtype)
    each, compute, memory = kernel_time(
        op.flop,
        op.stored_bytes,
        op.activation_bytes,
        setting.formats.peaks[peak_type(op.dtype)],
        setting.bandwidth_bytes_per_s,
        law,
        rows=op.rows,
        groups=op.groups,
        depth=op.depth,
        input_bytes=op.input_bytes,
        scores=op.scores,
    )
    engine = setting.constants.engine
    slower = op.layers * engine.kernel_time_factor
    start = op.layers * law.overhead_s * engine.kernel_overhead_share
    return Term(
        name=op.name,
        total_s=slower * (each - law.overhead_s) + start,
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
        each = engine.exchange_imbalance * each
    if engine.collective_wait_s and message.exchange != "stage_hop":
        each = each + np.where(np.asarray(message.ranks) > 1, engine.collective_wait_s, 0.0)
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

    def by_kernel(deduplicate: bool) -> Array:
        return expert_exchange_time_s(
            message.tokens,  # type: ignore[arg-type]
            message.per_token,
            float(message.message_bytes),
            message.ranks,
            links,
            deduplicate=deduplicate,
            group_limit=message.group_limit,
            ranks_per_domain=np.maximum(links.domain_size / np.asarray(message.spread), 1.0),
        )

    bulk = by_kernel(True)
    if message.deduplicate:
        return bulk, np.ones(np.shape(bulk), dtype=bool)
    return cheaper_exchange(by_kernel(False), bulk)


def _engine_term(setting: Setting, load: Load) -> Term:
    """What the engine adds: scheduling and launch per step and layer, sampling per sequence."""
    engine = setting.constants.engine
    # Each attention-dp rank has a scheduler of its own.
    seconds = (
        engine.step_overhead_s
        + setting.stack.layers * engine.layer_overhead_s
        + engine.sequence_overhead_s * load.sequences
    )
    return Term(
        name="engine overhead",
        total_s=np.asarray(seconds),
        compute_s=np.zeros(()),
        memory_s=np.zeros(()),
        network_s=np.zeros(()),
        overhead_s=np.asarray(seconds),
    )
