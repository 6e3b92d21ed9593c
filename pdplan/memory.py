"""What must fit on one accelerator: weights, KV cache, activations, the runtime's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stack import Stack
from pdplan.efficiency import Engine
from pdplan.formats import Formats
from pdplan.laws.roofline import Array
from pdplan.layout import Layout
from pdplan.ops import shards

VECTOR_BYTES = 2.0  # norms and biases stay in BF16 in every published checkpoint


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Bytes of one accelerator, the busiest of its worker; arrays over layouts."""

    usable: Array
    weights: Array
    reserve: Array
    """Activations, sampler, collectives, runtime."""
    sequence: Array
    """KV cache and state of one sequence at its full length, on one accelerator."""
    max_sequences: Array
    """Sequences one worker holds at full length; 0 where even one does not fit."""

    @property
    def cache(self) -> Array:
        """What is left for the KV cache; negative where the weights do not fit."""
        return self.usable - self.weights - self.reserve


def weight_bytes_per_gpu(stack: Stack, formats: Formats, layout: Layout, draft: Stack | None = None) -> Array:
    """Weights on the fullest accelerator of a worker [bytes].

    W = (Σ_layers shard(matrices) + E/ep · expert/expert_tp)/pp + (embedding + head)/tp.
    Stages are taken as equal; embedding and head sit on the first and last stage.
    """
    table = stack.vocab_size * stack.hidden_size
    ends = table * formats.weight_bytes("embedding") / layout.tp
    if not stack.tie_embeddings:
        ends = ends + table * formats.weight_bytes("head") / layout.tp
    ends = np.where(layout.pp > 1, ends / 2.0, ends)
    layers = _stack_bytes(stack, formats, layout)
    if draft is not None:
        layers = layers + _stack_bytes(draft, formats, layout)
    return layers / layout.pp + ends


def _stack_bytes(stack: Stack, formats: Formats, layout: Layout) -> Array:
    hidden = stack.hidden_size
    total: Array = np.full(np.shape(layout.tp), stack.norms * hidden * VECTOR_BYTES)
    total = total + stack.projections * 2.0 * hidden * hidden * formats.weight_bytes("dense")
    for mixer, count in stack.mixers:
        total = total + count * mixer.vector_parameters(hidden) * VECTOR_BYTES
        for matrix in mixer.matrices(hidden):
            total = total + count * matrix.parameters * formats.weight_bytes(matrix.part) / shards(matrix, layout)
    for block, count in stack.feed_forwards:
        spread = layout.ep if isinstance(block, Experts) else 1.0
        total = total + count * block.vector_parameters(hidden) * VECTOR_BYTES / spread
        for matrix in block.matrices(hidden):
            total = total + count * matrix.parameters * formats.weight_bytes(matrix.part) / shards(matrix, layout)
        if isinstance(block, Experts):
            expert = sum(m.parameters for m in block.expert_matrices(hidden))
            held = block.experts / layout.ep / layout.expert_tp
            total = total + count * held * expert * formats.weight_bytes("experts")
    return total


def sequence_bytes_per_gpu(stack: Stack, formats: Formats, layout: Layout, context: ArrayLike) -> Array:
    """KV cache and recurrent state of one sequence of `context` tokens on one accelerator [bytes].

    Σ_layers min(context, window)/compression · elements/min(tp, cache shards) · bytes, + state/tp; /pp.
    """
    length = np.asarray(context, dtype=float)
    total: Array = np.zeros(())
    for mixer, count in stack.mixers:
        for core in mixer.cores():
            kept = (length if core.window is None else np.minimum(length, core.window)) / core.compression
            own = core.cached_elements / np.minimum(layout.tp, core.cache_shards) * formats.kv_bytes
            total = total + count * kept * own
            if core.indexer is not None:
                scan = core.indexer.cached_elements * core.indexer.cache_bytes_per_element
                total = total + count * length / core.compression * scan
        state = mixer.state()
        if state is not None:
            total = total + count * state.elements * state.bytes_per_element / np.minimum(layout.tp, state.heads)
    return total / layout.pp


def request_cache_bytes(stack: Stack, formats: Formats, context: float) -> float:
    """KV cache and state of one request, each element once: what a transfer has to carry [bytes]."""
    return float(sequence_bytes_per_gpu(stack, formats, Layout(), context))


def reserve_bytes(stack: Stack, engine: Engine, layout: Layout) -> Array:
    """Memory that is neither weights nor cache on one accelerator [bytes].

    runtime + collective buffers (workers of several accelerators) + sampler
    (sequences · vocabulary · bytes per logit) + activations of one step
    (tokens · (4 · hidden + 3 · MLP width/tp) · 2 bytes).
    """
    width = max(
        block.intermediate_size * (block.per_token if isinstance(block, Experts) else 1.0)
        for block, _ in stack.feed_forwards
    )
    activations = engine.max_step_tokens * 2.0 * (4.0 * stack.hidden_size + 3.0 * width / layout.tp)
    sampler = engine.sampler_sequences * stack.vocab_size * engine.sampler_bytes_per_logit
    collectives = np.where(layout.gpus > 1, engine.collective_reserve_bytes, 0.0)
    return np.asarray(engine.runtime_reserve_bytes + collectives + sampler + activations)


def memory_budget(
    stack: Stack,
    formats: Formats,
    engine: Engine,
    usable_bytes: float,
    layout: Layout,
    context: float,
    draft: Stack | None = None,
) -> MemoryBudget:
    """What fits where: usable · utilisation = weights + reserve + cache."""
    usable = usable_bytes * engine.memory_utilisation
    weights = weight_bytes_per_gpu(stack, formats, layout, draft)
    reserve = reserve_bytes(stack, engine, layout)
    sequence = sequence_bytes_per_gpu(stack, formats, layout, context)
    left = usable - weights - reserve
    per_rank = np.floor(np.maximum(left, 0.0) / np.maximum(sequence, 1.0))
    return MemoryBudget(
        usable=np.asarray(usable),
        weights=weights,
        reserve=reserve,
        sequence=sequence,
        max_sequences=per_rank * layout.dp,
    )
