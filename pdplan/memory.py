"""What must fit on one accelerator: weights, KV cache, activations, the runtime's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stack import Stack
from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.efficiency import Engine
from pdplan.formats import Formats
from pdplan.laws.experts import expert_slots
from pdplan.laws.roofline import Array
from pdplan.layout import Layout
from pdplan.ops import shards
from pdplan.step.setting import Setting

T = TypeVar("T")
VECTOR_BYTES = 2.0  # norms and biases stay in BF16 in every published checkpoint


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Bytes of one accelerator, on the fullest stage of its worker; arrays over layouts."""

    usable: Array
    weights: Array
    reserve: Array
    """Activations, sampler, collectives, runtime."""
    sequence: Array
    """KV cache and state of one sequence at its full length, on one accelerator."""
    stage: Array
    """Which of `stages_of` its model and pipeline holds the fewest."""
    max_sequences: Array
    """Sequences one worker holds at full length; 0 where even one does not fit."""

    @property
    def cache(self) -> Array:
        """What is left for the KV cache; negative where the weights do not fit."""
        return self.usable - self.weights - self.reserve


def weight_bytes_per_gpu(
    stack: Stack, formats: Formats, layout: Layout, stage: Stage, draft: Stack | None = None
) -> Array:
    """Weights of a stage on one accelerator [bytes].

    W = Σ_layers shard(matrices) + ⌈(E + R)/ep⌉ · expert/expert_tp + (embedding + head)/tp, over the layers of
    the stage, R redundant experts.
    The first stage holds the embedding (and a vision tower), the last the head and the draft layers.
    """
    total = end_bytes(stack, formats, layout, stage)
    for part in weight_parts(stack, formats, layout, stage):
        total = total + part.bytes
    if draft is not None and stage.last:
        for part in weight_parts(draft, formats.of_draft, layout, whole(draft)):
            total = total + part.bytes
    return total


def end_bytes(stack: Stack, formats: Formats, layout: Layout, stage: Stage) -> Array:
    """Embedding and head of a stage on one accelerator [bytes]; tied, they are one table on each end."""
    table = stack.vocab_size * stack.hidden_size / layout.tp
    embedding, head = formats.weight_bytes("embedding"), formats.weight_bytes("head")
    if stack.tie_embeddings:
        return np.asarray(table * embedding * (stage.first or stage.last))
    return np.asarray(table * (embedding * stage.first + head * stage.last))


@dataclass(frozen=True, kw_only=True)
class WeightPart:
    """Equal tensors of all layers: count · elements · bytes each / ranks that share them."""

    name: str
    count: float
    elements: float
    bytes_per_element: float
    shards: Any = 1.0

    @property
    def bytes(self) -> Array:
        return np.asarray(self.count * self.elements * self.bytes_per_element / self.shards)


def weight_parts(stack: Stack, formats: Formats, layout: Layout, stage: Stage) -> Iterator[WeightPart]:
    """What the layers of a stage hold on one accelerator."""
    hidden = stack.hidden_size
    norms = stack.norms * stage.layers / stack.layers
    yield WeightPart(name="norms", count=norms, elements=hidden, bytes_per_element=VECTOR_BYTES)
    if stack.projections:
        yield WeightPart(
            name="draft input",
            count=stack.projections,
            elements=2.0 * hidden * hidden,
            bytes_per_element=formats.weight_bytes("dense"),
        )
    if stack.other_parameters and stage.first:  # in 16 bit, shared by tp ranks
        yield WeightPart(
            name="vision tower and other tensors",
            count=1.0,
            elements=stack.other_parameters,
            bytes_per_element=VECTOR_BYTES,
            shards=layout.tp,
        )
    for block, count in (
        *_held(stack.mixers, stage.mixers),
        *_held(stack.feed_forwards, stage.feed_forwards),
    ):
        spread = expert_shards(block, layout) if isinstance(block, Experts) else 1.0
        if vectors := block.vector_parameters(hidden):
            yield WeightPart(
                name="biases and small vectors",
                count=count,
                elements=vectors,
                bytes_per_element=VECTOR_BYTES,
                shards=spread,
            )
        for matrix in block.matrices(hidden):
            yield _matrix_part(matrix, count, formats, shards(matrix, layout))
        if isinstance(block, Experts):
            for matrix in block.expert_matrices(hidden):
                sharing = expert_shards(block, layout) * layout.expert_tp
                yield _matrix_part(matrix, count * block.experts, formats, sharing)


def _held(blocks: tuple[tuple[T, int], ...], counts: tuple[int, ...]) -> Iterator[tuple[T, int]]:
    """The kinds of blocks that a stage has, and how many."""
    return ((block, count) for (block, _), count in zip(blocks, counts, strict=True) if count)


def expert_shards(block: Experts, layout: Layout) -> Array:
    """All experts over those that one rank holds: E/⌈(E + R)/ep⌉, which is ep where ep divides E and R is 0.

    Else the ranks hold more than E together: R redundant experts, and copies that fill the ranks up.
    """
    return np.asarray(block.experts * layout.ep / expert_slots(block.experts, layout.redundant, layout.ep))


def _matrix_part(matrix: Matrix, count: float, formats: Formats, sharing: Array) -> WeightPart:
    return WeightPart(
        name=f"{matrix.name} ({matrix.block})",
        count=count,
        elements=matrix.parameters,
        bytes_per_element=formats.weight_bytes(matrix.part),
        shards=sharing,
    )


def sequence_bytes_per_gpu(
    stack: Stack, formats: Formats, layout: Layout, context: ArrayLike, stage: Stage | None = None
) -> Array:
    """KV cache and recurrent state of one sequence of `context` tokens on one accelerator [bytes].

    Σ_layers min(context, window)/compression · elements/min(tp, cache shards) · bytes, + state/tp, over the
    layers of the stage; None: all layers.
    """
    total: Array = np.zeros(())
    for part in sequence_parts(stack, formats, layout, context, stage or whole(stack)):
        total = total + part.bytes
    return total


@dataclass(frozen=True, kw_only=True)
class SequencePart:
    """What equal layers keep of one sequence: count · entries · elements · bytes each / sharing ranks."""

    name: str
    count: float
    entries: Any
    elements: float
    bytes_per_element: float
    shards: Any = 1.0

    @property
    def bytes(self) -> Array:
        return np.asarray(self.count * self.entries * self.elements * self.bytes_per_element / self.shards)


def sequence_parts(
    stack: Stack, formats: Formats, layout: Layout, context: ArrayLike, stage: Stage
) -> Iterator[SequencePart]:
    """Cache and state of one sequence on one accelerator of a stage."""
    length = np.asarray(context, dtype=float)
    for mixer, count in _held(stack.mixers, stage.mixers):
        for core in mixer.cores():
            kept = length if core.window is None else np.minimum(length, core.window)
            yield SequencePart(
                name="KV cache",
                count=count,
                entries=kept / core.compression,
                elements=core.cached_elements,
                bytes_per_element=formats.kv_bytes,
                shards=np.minimum(layout.tp, core.cache_shards),
            )
            if core.indexer is not None:
                yield SequencePart(
                    name="indexer keys",
                    count=count,
                    entries=length / core.compression,
                    elements=core.indexer.cached_elements,
                    bytes_per_element=core.indexer.cache_bytes_per_element,
                )
        state = mixer.state()
        if state is not None:
            yield SequencePart(
                name="recurrent state",
                count=count,
                entries=1.0,
                elements=state.elements,
                bytes_per_element=state.bytes_per_element,
                shards=np.minimum(layout.tp, state.heads),
            )


def request_cache_bytes(stack: Stack, formats: Formats, context: ArrayLike) -> Array:
    """KV cache and state of one request, each element once: what a transfer has to carry [bytes]."""
    return sequence_bytes_per_gpu(stack, formats, Layout(), context)


def reserve_bytes(stack: Stack, engine: Engine, layout: Layout) -> Array:
    """Memory that is neither weights nor cache on one accelerator [bytes].

    runtime + collective buffers (workers of several accelerators) + sampler
    (sequences · vocabulary · bytes per logit) + activations of one step
    (tokens · (4 · hidden + 3 · MLP width/tp) · 2 bytes).
    """
    width = widest_mlp(stack)
    activations = engine.max_step_tokens * 2.0 * (4.0 * stack.hidden_size + 3.0 * width / layout.tp)
    sampler = engine.sampler_sequences * stack.vocab_size * engine.sampler_bytes_per_logit
    collectives = np.where(layout.gpus > 1, engine.collective_reserve_bytes, 0.0)
    return np.asarray(engine.runtime_reserve_bytes + collectives + sampler + activations)


def widest_mlp(stack: Stack) -> float:
    """Width of the widest feed-forward block that a token passes; of experts, all that it visits."""
    return max(
        block.intermediate_size * (block.per_token if isinstance(block, Experts) else 1.0)
        for block, _ in stack.feed_forwards
    )


def memory_budget(setting: Setting, layout: Layout, context: float, drafts: bool = False) -> MemoryBudget:
    """What fits: usable · utilisation = weights + reserve + cache, on the stage that holds the fewest.

    `context`: tokens of a sequence at its full length; `drafts`: whether the draft layers are held, too.
    """
    stack, formats, engine = setting.stack, setting.formats, setting.constants.engine
    draft = setting.draft if drafts else None
    usable = setting.usable_bytes * engine.memory_utilisation
    reserve = reserve_bytes(stack, engine, layout)
    shape = np.broadcast_shapes(np.shape(layout.tp), np.shape(layout.pp), np.shape(layout.ep))
    held, weights, sequence = np.full(shape, np.inf), np.zeros(shape), np.zeros(shape)
    fullest = np.zeros(shape, dtype=int)
    for stages in layout.pipelines[0]:
        for number, stage in enumerate(stages_of(stack.order, whole(stack), stages)):
            own = weight_bytes_per_gpu(stack, formats, layout, stage, draft)
            each = sequence_bytes_per_gpu(stack, formats, layout, context, stage)
            fits = np.floor(np.maximum(usable - own - reserve, 0.0) / np.maximum(each, 1.0))
            fuller = (layout.pp == stages) & ((fits < held) | ((fits == held) & (own > weights)))
            held, fullest = np.where(fuller, fits, held), np.where(fuller, number, fullest)
            weights, sequence = np.where(fuller, own, weights), np.where(fuller, each, sequence)
    return MemoryBudget(
        usable=np.asarray(usable),
        weights=weights,
        reserve=reserve,
        sequence=sequence,
        stage=fullest,
        max_sequences=held * layout.dp,
    )
