"""How many parameters a model has, how many a token meets, and the bytes they take.

Everything is summed from the matrices of the layers, so FLOP, weight bytes and
parameters cannot disagree. Counts are exact integers; bytes are floats, since
scales of block formats are shares of a byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pdplan.architecture.counts import AttentionCore, Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import BYTES_PER_ELEMENT, ActiveCounts, Checkpoint, Layers, Model

_VECTOR_BYTES = 2.0
"""Norms, biases and convolutions are stored in 16 bit by nearly every checkpoint."""


def head_matrix(model: Model) -> Matrix:
    """The LM head; where it is tied, the embedding table read as a matrix."""
    return Matrix(
        name="head",
        rows=model.hidden_size,
        columns=model.vocab_size,
        part="head",
        split="columns",
        max_shards=None,
    )


def parameters_total(model: Model) -> int:
    """Parameters of the text model, without draft layers [parameters].

    embedding + head (unless tied) + layers + norms + `other_parameters`.
    """
    table = model.vocab_size * model.hidden_size
    tables = table if model.tie_embeddings else 2 * table
    return tables + _layers_total(model) + model.hidden_size + model.other_parameters


def parameters_active(model: Model, counts: ActiveCounts = "all") -> int:
    """Parameters that take part in one token's forward pass [parameters].

    Routed experts count per_token of experts; everything else of a layer in full.
    Publishers differ on the tables: "all" counts embedding and head (Qwen3, Mixtral),
    "without_embedding" drops the input table, in which a token only looks up one row
    (OpenAI, NVIDIA's Nemotron 3 Nano, DeepSeek), "without_embedding_and_head" drops
    both (GLM-4.5, MiniMax).
    Dense models: active = total. `other_parameters` (vision) never count.
    """
    table = model.vocab_size * model.hidden_size
    tables = {
        "all": table if model.tie_embeddings else 2 * table,
        "without_embedding": table,
        "without_embedding_and_head": 0,
    }[counts]
    idle = sum(layer.count * _idle_experts(model.hidden_size, layer) for layer in model.layers)
    return tables + _layers_total(model) + model.hidden_size - idle


def matrix_parameters_per_token(model: Model) -> tuple[int, int]:
    """Matrix elements that one token is multiplied with: (layers, head) [parameters].

    A forward pass costs 2 FLOP per element. No norms, no biases, no embedding table.
    """
    layers = sum(
        layer.count * _matrix_parameters_per_token(model.hidden_size, layer) for layer in model.layers
    )
    return layers, head_matrix(model).parameters


def vector_parameters(model: Model) -> int:
    """Norms, biases, convolutions and other small weights of all layers, no matrices [parameters]."""
    return sum(layer.count * _vectors(model, layer) for layer in model.layers)


def draft_parameters(model: Model) -> int:
    """Parameters of the draft (MTP) modules that are theirs alone: no embedding, no head [parameters]."""
    if model.draft is None:
        return 0
    hidden = model.hidden_size
    layers = sum(layer.count * _layer_total(model, layer) for layer in model.draft.layers)
    joins = 2 * hidden * hidden + 3 * hidden  # projection; norms of its two inputs and of the output
    return layers + model.draft.modules * joins


def kv_bytes_per_token(model: Model, bytes_per_element: float = 2) -> float:
    """Cache bytes that one token adds while it is inside every window [B/token].

    Σ over layers and cores of cached elements / compression · bytes_per_element.
    The indexer's keys have their own format: `index_bytes_per_token`.
    """
    return (
        sum(count * core.cached_elements / core.compression for count, core in _cores(model))
        * bytes_per_element
    )


def index_bytes_per_token(model: Model, bytes_per_element: float | None = None) -> float:
    """Bytes of indexer keys that one token adds to the cache [B/token].

    In the format of the indexer's own cache (FP8 for DeepSeek) unless told otherwise.
    """
    total = 0.0
    for count, core in _cores(model):
        if core.indexer is not None:
            own = core.indexer.cache_bytes_per_element if bytes_per_element is None else bytes_per_element
            total += count * core.indexer.cached_elements / core.compression * own
    return total


def kv_bytes_per_sequence(
    model: Model,
    context_tokens: int,
    bytes_per_element: float = 2,
    index_bytes_per_element: float | None = None,
) -> float:
    """Cache bytes of one sequence: Σ min(context, window) / compression · elements · bytes [B].

    Indexer keys included; recurrent states not (`state_bytes_per_sequence`).
    """
    kept = sum(
        count * core.cached_elements / core.compression * min(context_tokens, core.window or context_tokens)
        for count, core in _cores(model)
    )
    return kept * bytes_per_element + context_tokens * index_bytes_per_token(model, index_bytes_per_element)


def state_bytes_per_sequence(model: Model) -> float:
    """Recurrent state of one sequence, over all linear-attention and SSM layers [B]."""
    total = 0.0
    for layer in model.layers:
        state = layer.attention.state() if layer.attention else None
        if state is not None:
            total += layer.count * state.elements * state.bytes_per_element
    return total


def weight_bytes(model: Model, checkpoint: Checkpoint, *, draft: bool = False) -> float:
    """Bytes of the weights as the checkpoint stores them [B].

    Σ parameters of a part · bytes of its format, scales included; vectors and
    vision tower in 16 bit; a tied table counts once.
    """
    groups = [(layer, checkpoint) for layer in model.layers]
    extra = 0
    if draft and model.draft is not None:
        groups += [(layer, checkpoint.of_draft) for layer in model.draft.layers]
        extra = model.draft.modules * 2 * model.hidden_size**2
    total = _VECTOR_BYTES * (model.hidden_size + model.other_parameters + extra)
    for layer, stored_as in groups:
        stored = _matrix_bytes(model.hidden_size, layer, stored_as, every_expert=True)
        total += layer.count * (stored + _VECTOR_BYTES * _vectors(model, layer))
    table = model.vocab_size * model.hidden_size
    total += table * BYTES_PER_ELEMENT[checkpoint.embedding]
    return total if model.tie_embeddings else total + table * BYTES_PER_ELEMENT[checkpoint.head]


def streamed_weight_bytes(model: Model, checkpoint: Checkpoint) -> float:
    """Matrix bytes that a decode step of one token reads: layers and head [B].

    No norms, no biases, no embedding table; routed experts per_token of experts.
    """
    hidden = model.hidden_size
    total = head_matrix(model).parameters * BYTES_PER_ELEMENT[checkpoint.head]
    for layer in model.layers:
        read = _matrix_bytes(hidden, layer, checkpoint, every_expert=False)
        total += layer.count * read
    return total


def _matrix_bytes(hidden: int, layer: Layers, checkpoint: Checkpoint, *, every_expert: bool) -> float:
    """Bytes of a layer's matrices: of every routed expert, or of those that one token visits."""
    total = sum(m.parameters * _bytes(checkpoint, m) for m in _shared_matrices(hidden, layer))
    block = layer.feed_forward
    if isinstance(block, Experts):
        one = sum(m.parameters * _bytes(checkpoint, m) for m in block.expert_matrices(hidden))
        total += (block.experts if every_expert else block.per_token) * one
    return total


def _bytes(checkpoint: Checkpoint, matrix: Matrix) -> float:
    return BYTES_PER_ELEMENT[checkpoint.storage(matrix.part)]


def _cores(model: Model) -> Iterator[tuple[int, AttentionCore]]:
    for layer in model.layers:
        for core in layer.attention.cores() if layer.attention else ():
            yield layer.count, core


def _shared_matrices(hidden: int, layer: Layers) -> Iterator[Matrix]:
    """Matrices that every token meets."""
    for block in (layer.attention, layer.feed_forward):
        if block is not None:
            yield from block.matrices(hidden)


def _count(matrices: Iterable[Matrix]) -> int:
    return sum(m.parameters for m in matrices)


def _matrix_parameters_per_token(hidden: int, layer: Layers) -> int:
    routed = 0
    if isinstance(layer.feed_forward, Experts):
        routed = layer.feed_forward.per_token * _count(layer.feed_forward.expert_matrices(hidden))
    return _count(_shared_matrices(hidden, layer)) + routed


def _idle_experts(hidden: int, layer: Layers) -> int:
    """Parameters of the routed experts that a token does not visit."""
    block = layer.feed_forward
    if not isinstance(block, Experts):
        return 0
    one = _count(block.expert_matrices(hidden)) + block.expert_vector_parameters(hidden)
    return (block.experts - block.per_token) * one


def _vectors(model: Model, layer: Layers) -> int:
    """Norms, biases, convolutions and other small weights of one layer."""
    blocks = [b for b in (layer.attention, layer.feed_forward) if b is not None]
    norms = model.norms_per_layer if len(blocks) == 2 else max(1, model.norms_per_layer // 2)
    return norms * model.hidden_size + sum(b.vector_parameters(model.hidden_size) for b in blocks)


def _layer_total(model: Model, layer: Layers) -> int:
    hidden = model.hidden_size
    total = _count(_shared_matrices(hidden, layer)) + _vectors(model, layer)
    if isinstance(layer.feed_forward, Experts):
        total += layer.feed_forward.experts * _count(layer.feed_forward.expert_matrices(hidden))
    return total


def _layers_total(model: Model) -> int:
    return sum(layer.count * _layer_total(model, layer) for layer in model.layers)
