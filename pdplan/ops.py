"""From a model, a layout and a step's load to ops: counts of FLOP, bytes and messages per rank.

This is where architecture meets parallelism; there is no time here. Every count
is for the busiest rank, broadcasts over layouts and loads, and is for one layer;
`layers` says how often it happens in a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pdplan.architecture.counts import AttentionCore, Matrix, RecurrentState
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.mixers import Mixer
from pdplan.architecture.stack import Stack
from pdplan.formats import Formats
from pdplan.laws.attention import attention_flop, cache_read_bytes, causal_pairs, mean_clipped_context
from pdplan.laws.experts import busiest_rank_factor, busiest_rank_touched, expected_touched_experts
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load

Family = Literal[
    "gemm",
    "experts",
    "prefill_attention",
    "prefill_mla",
    "prefill_sparse",
    "decode_attention",
    "decode_mla",
    "decode_sparse",
    "indexer",
    "prefill_recurrence",
    "decode_recurrence",
    "elementwise",
]
Exchange = Literal["all_reduce", "all_gather", "expert_exchange", "stage_hop"]

ACTIVATION_BYTES = 2.0  # activations travel in BF16 between kernels in every engine
DISPATCH_BYTES = 1.0  # FP8 out, BF16 back: DeepEP's wire formats
COMBINE_BYTES = 2.0
SCORE_BYTES = 4.0  # the indexer writes FP32 scores, the top-k selection reads them


@dataclass(frozen=True, kw_only=True)
class Op:
    """One kernel: arithmetic, weight, cache and activation bytes of the busiest rank."""

    name: str
    family: Family
    dtype: str
    layers: float
    flop: Array
    """Useful arithmetic, before tiles round it up."""
    stored_bytes: Array
    """Weights or cache: always cross the memory bus."""
    activation_bytes: Array
    """Cross it as far as they do not stay on chip."""
    rows: Array | None = None
    """Rows of the product (tokens), for tile rounding; None where that has no meaning."""
    groups: Array | float | None = None
    """Grouped GEMM: matrices touched, each with its own half-filled tile."""
    depth: Array | float | None = None
    """Inner dimension that a tile walks through in sequence."""
    input_bytes: Array | None = None
    """16-bit bytes of the input, for the quantisation pass before the product."""
    scores: Array | None = None
    """Attention: (query, key, head) triples that pass the softmax."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that the counts were made of, by symbol, for `explain`."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """By field, the arithmetic over `inputs` that gave it: {"flop": "2*m*K*N/s"}."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One collective per layer."""

    name: str
    exchange: Exchange
    layers: float
    message_bytes: Array
    """all_reduce, all_gather, stage_hop: the whole message. expert_exchange: bytes per token copy."""
    ranks: Array
    tokens: Array | None = None
    per_token: int = 0
    group_limit: int | None = None
    """Nodes that one token's experts lie on at most."""
    deduplicate: bool = False
    """High-throughput kernels, which send a token once to a node (prefill); else low-latency ones."""
    spread: Array | None = None
    """Accelerators that share one expert, so that `ranks` lie that far apart."""
    mask: Array | None = None
    """Where the collective happens at all (layouts differ)."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that `message_bytes` was made of, by symbol, for `explain`."""
    counted: str = ""
    """The arithmetic over `inputs` that gave `message_bytes`."""


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How evenly tokens meet experts: fitted, see constants/engines.yaml."""

    skew: float = 0.0


def forward_ops(
    stack: Stack, formats: Formats, layout: Layout, load: Load, routing: Routing
) -> tuple[list[Op], list[Message]]:
    """Every op and message of one forward step of one worker.

    A step runs all layers, stage after stage where there are pipeline stages, so
    pp appears only in its hops; the caller hands over the load of one micro-batch.
    """
    ops: list[Op] = []
    messages: list[Message] = []
    hidden, tokens = stack.hidden_size, load.tokens
    for mixer, count in stack.mixers:
        ops += _mixer_ops(mixer, count, hidden, formats, layout, load)
        messages.append(_all_reduce("attention all-reduce", count, tokens, hidden, layout))
    for block, count in stack.feed_forwards:
        if isinstance(block, Experts):
            ops += _expert_ops(block, count, hidden, formats, layout, tokens, routing)
            messages += _expert_messages(block, count, hidden, layout, load)
        else:
            ops += [_gemm(m, count, formats, layout, tokens) for m in block.matrices(hidden)]
            messages.append(_all_reduce("MLP all-reduce", count, tokens, hidden, layout))
    if stack.projections:
        joint = Matrix(name="draft input", rows=2 * hidden, columns=hidden, part="dense")
        ops.append(_gemm(joint, stack.projections, formats, layout, tokens))
    ops.append(_elementwise(stack, layout, tokens))
    ops += _head_ops(stack, formats, layout, load)
    messages += _edge_messages(stack, layout, load)
    return ops, messages


def shards(matrix: Matrix, layout: Layout) -> Array:
    """Ranks of a tp group that share `matrix`; the others hold copies."""
    if matrix.split == "none":
        return np.ones_like(layout.tp)
    return layout.tp if matrix.max_shards is None else np.minimum(layout.tp, matrix.max_shards)


def _gemm(matrix: Matrix, layers: float, formats: Formats, layout: Layout, rows: Array) -> Op:
    sharing = shards(matrix, layout)
    k = matrix.rows / sharing if matrix.split == "rows" else float(matrix.rows)
    n = matrix.columns / sharing if matrix.split == "columns" else float(matrix.columns)
    return Op(
        name=f"{matrix.name} projection" if matrix.part == "attention" else f"{matrix.name} ({matrix.part})",
        family="gemm",
        dtype=formats.arithmetic(matrix.part),
        layers=layers,
        flop=2.0 * rows * k * n,
        stored_bytes=np.asarray(k * n * formats.weight_bytes(matrix.part)),
        activation_bytes=rows * (k + n) * ACTIVATION_BYTES,
        rows=rows,
        depth=k,
        input_bytes=rows * k * ACTIVATION_BYTES,
        inputs={
            "m": rows,
            "K": matrix.rows,
            "N": matrix.columns,
            "s": sharing,
            "w": formats.weight_bytes(matrix.part),
            "a": ACTIVATION_BYTES,
        },
        counted={
            "flop": "2*m*K*N/s",
            "stored_bytes": "K*N/s*w",
            "activation_bytes": {"columns": "m*(K+N/s)*a", "rows": "m*(K/s+N)*a", "none": "m*(K+N)*a"}[
                matrix.split
            ],
            "depth": "K/s" if matrix.split == "rows" else "K",
            "input_bytes": "m*K/s*a" if matrix.split == "rows" else "m*K*a",
        },
    )


def _mixer_ops(
    mixer: Mixer, layers: float, hidden: int, formats: Formats, layout: Layout, load: Load
) -> Iterator[Op]:
    for matrix in mixer.matrices(hidden):
        rows = load.tokens
        if matrix.name == "kv up" and load.has_prefill:
            # Prefill in the expanded form expands the cached prefix again.
            rows = rows + np.asarray(load.prefill_sequences) * load.prefill_past
        yield _gemm(matrix, layers, formats, layout, rows)
    for core in mixer.cores():
        if load.has_prefill:
            yield _prefill_core(core, layers, formats, layout, load)
        if load.has_decode:
            yield _decode_core(core, layers, formats, layout, load)
        if core.indexer is not None:
            yield _indexer_op(core, layers, formats, layout, load)
    state = mixer.state()
    if state is not None:
        if load.has_prefill:
            yield _prefill_recurrence(state, layers, layout, load)
        if load.has_decode:
            yield _decode_recurrence(state, layers, layout, load)


def _reach(core: AttentionCore) -> float | None:
    """Cached entries a query reads at most."""
    limits = [x for x in (core.window, core.top_k) if x is not None]
    return float(min(limits)) if limits else None


def _kernel_of(phase: Literal["prefill", "decode"], core: AttentionCore) -> Family:
    """Which kernels serve a core: sparse gathers, one latent for all heads, or keys and values per head."""
    kind = "sparse" if core.top_k is not None else "mla" if core.latent else "attention"
    return f"{phase}_{kind}"  # type: ignore[return-value]


def _prefill_core(core: AttentionCore, layers: float, formats: Formats, layout: Layout, load: Load) -> Op:
    sequences, new, past = (
        np.asarray(x, dtype=float) for x in (load.prefill_sequences, load.prefill_tokens, load.prefill_past)
    )
    reach = _reach(core)
    # A query meets one entry per `compression` tokens before it.
    limit = None if reach is None else reach * core.compression
    pairs = sequences * causal_pairs(new, past, limit) / core.compression
    heads = core.heads / np.minimum(layout.tp, core.heads)
    kept = core.cached_elements / core.compression / np.minimum(layout.tp, core.cache_shards)
    return Op(
        name="attention core (prefill)",
        family=_kernel_of("prefill", core),
        dtype=formats.attention_arithmetic(),
        layers=layers,
        flop=attention_flop(pairs, heads, core.qk_dim, core.v_dim),
        stored_bytes=sequences * past * kept * formats.kv_bytes,
        activation_bytes=sequences * new * heads * 2 * (core.qk_dim + core.v_dim) * ACTIVATION_BYTES,
        rows=sequences * new * heads,
        groups=1.0,
        scores=pairs * heads,
        inputs={
            "b": sequences,
            "n": new,
            "p": past,
            "P": pairs,
            "limit": limit,
            "c": core.compression,
            "h": heads,
            "d_qk": core.qk_dim,
            "d_v": core.v_dim,
            "e": kept,
            "kv": formats.kv_bytes,
            "a": ACTIVATION_BYTES,
        },
        counted={
            "flop": "2*P*h*(d_qk+d_v)",
            "stored_bytes": "b*p*e*kv",
            "activation_bytes": "b*n*h*2*(d_qk+d_v)*a",
            "rows": "b*n*h",
            "scores": "P*h",
        },
    )


def _decode_core(core: AttentionCore, layers: float, formats: Formats, layout: Layout, load: Load) -> Op:
    sequences = np.asarray(load.decode_sequences, dtype=float)
    c = core.compression
    entries = mean_clipped_context(
        np.asarray(load.context_first) / c, np.asarray(load.context_last) / c, _reach(core)
    )
    heads = core.heads / np.minimum(layout.tp, core.heads)
    elements = core.cached_elements / np.minimum(layout.tp, core.cache_shards)
    pairs = sequences * load.queries * entries
    # Queries that share a cached head fill a tile together.
    sharing = heads if core.cache_shards == 1 else core.heads / core.cache_shards
    return Op(
        name="attention core (decode)",
        family=_kernel_of("decode", core),
        dtype=formats.attention_arithmetic(),
        layers=layers,
        flop=attention_flop(pairs, heads, core.decode_qk_dim, core.decode_v_dim),
        stored_bytes=cache_read_bytes(sequences, entries, elements, formats.kv_bytes),
        activation_bytes=sequences
        * load.queries
        * heads
        * (core.decode_qk_dim + core.decode_v_dim)
        * ACTIVATION_BYTES,
        rows=np.asarray(sharing * load.queries),
        inputs={
            "b": sequences,
            "q": load.queries,
            "x": entries,
            "limit": _reach(core),
            "c": c,
            "first": load.context_first,
            "last": load.context_last,
            "h": heads,
            "h_s": sharing,
            "d_qk": core.decode_qk_dim,
            "d_v": core.decode_v_dim,
            "e": elements,
            "kv": formats.kv_bytes,
            "a": ACTIVATION_BYTES,
        },
        counted={
            "flop": "2*b*q*x*h*(d_qk+d_v)",
            "stored_bytes": "b*x*e*kv",
            "activation_bytes": "b*q*h*(d_qk+d_v)*a",
            "rows": "h_s*q",
        },
    )


def _indexer_op(core: AttentionCore, layers: float, formats: Formats, layout: Layout, load: Load) -> Op:
    """The indexer scores every cached entry, on every rank."""
    indexer = core.indexer
    assert indexer is not None
    pairs: Array = np.zeros(())
    read: Array = np.zeros(())
    if load.has_prefill:
        sequences = np.asarray(load.prefill_sequences, dtype=float)
        pairs = pairs + sequences * causal_pairs(load.prefill_tokens, load.prefill_past) / core.compression
        read = read + sequences * (np.asarray(load.prefill_past) + load.prefill_tokens) / core.compression
    if load.has_decode:
        sequences = np.asarray(load.decode_sequences, dtype=float)
        entries = mean_clipped_context(load.context_first, load.context_last, None) / core.compression
        pairs = pairs + sequences * load.queries * entries
        read = read + sequences * entries
    return Op(
        name="sparse-attention indexer",
        family="indexer",
        dtype="fp8" if "fp8" in formats.peaks else "bf16",
        layers=layers,
        flop=2.0 * pairs * indexer.heads * indexer.dim + 0.0 * layout.tp,
        stored_bytes=read * indexer.cached_elements * indexer.cache_bytes_per_element,
        activation_bytes=pairs * SCORE_BYTES,
        inputs={
            "P": pairs,
            "R": read,
            "c": core.compression,
            "h": indexer.heads,
            "d": indexer.dim,
            "e": indexer.cached_elements,
            "w": indexer.cache_bytes_per_element,
            "s": SCORE_BYTES,
        },
        counted={"flop": "2*P*h*d", "stored_bytes": "R*e*w", "activation_bytes": "P*s"},
    )


def _state_bytes(state: RecurrentState) -> float:
    """A state is read and written once a step."""
    return 2.0 * state.elements * state.bytes_per_element


def _decode_recurrence(state: RecurrentState, layers: float, layout: Layout, load: Load) -> Op:
    shards = np.minimum(layout.tp, state.heads)
    sequences = np.asarray(load.decode_sequences, dtype=float)
    return Op(
        name="recurrent state (decode)",
        family="decode_recurrence",
        dtype="bf16",
        layers=layers,
        flop=sequences * load.queries * state.flop_per_token / shards,
        stored_bytes=sequences * _state_bytes(state) / shards,
        activation_bytes=np.zeros(()),
        inputs={
            "b": sequences,
            "q": load.queries,
            "f": state.flop_per_token,
            "S": state.elements,
            "w": state.bytes_per_element,
            "g": shards,
        },
        counted={"flop": "b*q*f/g", "stored_bytes": "b*2*S*w/g"},
    )


def _prefill_recurrence(state: RecurrentState, layers: float, layout: Layout, load: Load) -> Op:
    shards = np.minimum(layout.tp, state.heads)
    sequences = np.asarray(load.prefill_sequences, dtype=float)
    tokens = sequences * load.prefill_tokens
    return Op(
        name="recurrent state (prefill)",
        family="prefill_recurrence",
        dtype="bf16",
        layers=layers,
        flop=tokens * state.prefill_flop_per_token / shards,
        stored_bytes=sequences * _state_bytes(state) / shards,
        activation_bytes=tokens * state.prefill_width * ACTIVATION_BYTES / shards,
        depth=np.asarray(load.prefill_tokens, dtype=float),
        inputs={
            "b": sequences,
            "n": load.prefill_tokens,
            "f": state.prefill_flop_per_token,
            "S": state.elements,
            "w": state.bytes_per_element,
            "v": state.prefill_width,
            "a": ACTIVATION_BYTES,
            "g": shards,
        },
        counted={
            "flop": "b*n*f/g",
            "stored_bytes": "b*2*S*w/g",
            "activation_bytes": "b*n*v*a/g",
            "depth": "n",
        },
    )


def _expert_ops(
    block: Experts,
    layers: float,
    hidden: int,
    formats: Formats,
    layout: Layout,
    tokens: Array,
    routing: Routing,
) -> Iterator[Op]:
    for matrix in block.matrices(hidden):
        yield _gemm(matrix, layers, formats, layout, tokens)
    everyone = tokens * layout.dp  # every attention rank's tokens meet the same experts
    assignments = everyone * block.per_token
    factor = busiest_rank_factor(layout.ep, assignments, block.experts, routing.skew)
    touched = expected_touched_experts(everyone, block.experts, block.per_token, routing.skew)
    touched_here = busiest_rank_touched(layout.ep, touched, block.experts)
    rows = assignments / layout.ep * factor
    # Quantising and sorting the input happens once, before the first product; without
    # attention-dp every rank passes over all copies and keeps its own experts'.
    passed = np.where(layout.dp > 1, rows, assignments)
    for matrix in block.expert_matrices(hidden):
        k, n = float(matrix.rows), float(matrix.columns)
        share = k * n / layout.expert_tp
        yield Op(
            name=f"{matrix.name} (experts)",
            family="experts",
            dtype=formats.arithmetic("experts"),
            layers=layers,
            flop=2.0 * rows * share,
            stored_bytes=touched_here * share * formats.weight_bytes("experts"),
            activation_bytes=rows
            * np.where(matrix.split == "columns", k + n / layout.expert_tp, k / layout.expert_tp + n)
            * ACTIVATION_BYTES,
            rows=rows,
            groups=touched_here,
            input_bytes=passed * k * ACTIVATION_BYTES if matrix.split == "columns" else None,
            inputs={
                "m": tokens,
                "dp": layout.dp,
                "T": everyone,
                "k": block.per_token,
                "E": block.experts,
                "A": assignments,
                "ep": layout.ep,
                "skew": routing.skew,
                "f": factor,
                "X": touched,
                "Y": touched_here,
                "R": rows,
                "R_in": passed,
                "K": matrix.rows,
                "N": matrix.columns,
                "s": layout.expert_tp,
                "w": formats.weight_bytes("experts"),
                "a": ACTIVATION_BYTES,
            },
            counted={
                "flop": "2*R*K*N/s",
                "stored_bytes": "Y*K*N/s*w",
                "activation_bytes": "R*(K+N/s)*a" if matrix.split == "columns" else "R*(K/s+N)*a",
                "input_bytes": "R_in*K*a",
            },
        )


def _expert_messages(block: Experts, layers: float, hidden: int, layout: Layout, load: Load) -> list[Message]:
    """Experts inside one tp group need the all-reduce only; attention-dp sends tokens to experts and back."""
    tokens = load.tokens
    spread = layout.dp > 1
    exchanged = spread & (layout.ep > 1)
    width = block.latent_size or hidden

    def exchange(name: str, element_bytes: float) -> Message:
        return Message(
            name=name,
            exchange="expert_exchange",
            layers=layers,
            message_bytes=np.asarray(width * element_bytes),
            ranks=layout.ep,
            tokens=tokens / layout.tp,  # each tp rank sends its share of the rank's tokens
            per_token=block.per_token,
            group_limit=block.routed_groups,
            deduplicate=load.has_prefill,
            spread=layout.expert_tp,
            mask=exchanged,
            inputs={"m": tokens, "tp": layout.tp, "H": width, "w": element_bytes},
            counted="H*w",
        )

    return [
        _all_reduce("experts all-reduce", layers, tokens, hidden, layout, mask=~spread),
        exchange("expert dispatch", DISPATCH_BYTES),
        exchange("expert combine", COMBINE_BYTES),
        Message(
            name="tokens all-gather and reduce-scatter",
            exchange="all_gather",
            layers=2 * layers,
            message_bytes=tokens * layout.dp * width * ACTIVATION_BYTES / layout.ep,
            ranks=layout.expert_tp,
            mask=spread & (layout.expert_tp > 1),
            inputs={"m": tokens, "dp": layout.dp, "H": width, "a": ACTIVATION_BYTES, "ep": layout.ep},
            counted="m*dp*H*a/ep",
        ),
    ]


def _all_reduce(
    name: str, layers: float, tokens: Array, hidden: int, layout: Layout, mask: Array | None = None
) -> Message:
    return Message(
        name=name,
        exchange="all_reduce",
        layers=layers,
        message_bytes=tokens * hidden * ACTIVATION_BYTES,
        ranks=layout.tp,
        mask=mask,
        inputs={"m": tokens, "H": hidden, "a": ACTIVATION_BYTES},
        counted="m*H*a",
    )


def _elementwise(stack: Stack, layout: Layout, tokens: Array) -> Op:
    """Norms, residuals, rotary and activation functions: passes over the activations.

    Per layer: two fused residual norms (2 reads and 2 writes of the hidden state
    each), and the activation function (2 reads, 1 write of its width).
    """
    widths = sum(
        count * block.intermediate_size * (block.per_token if isinstance(block, Experts) else 1)
        for block, count in stack.feed_forwards
    )
    passes = 8.0 * stack.hidden_size + 3.0 * widths / stack.layers / layout.tp
    return Op(
        name="norms, residuals, activations",
        family="elementwise",
        dtype="bf16",
        layers=stack.layers,
        flop=np.zeros(()),
        stored_bytes=np.zeros(()),
        activation_bytes=tokens * passes * ACTIVATION_BYTES,
        inputs={
            "m": tokens,
            "H": stack.hidden_size,
            "V": widths,
            "L": stack.layers,
            "tp": layout.tp,
            "a": ACTIVATION_BYTES,
        },
        counted={"activation_bytes": "m*(8*H+3*V/L/tp)*a"},
    )


def _head_ops(stack: Stack, formats: Formats, layout: Layout, load: Load) -> list[Op]:
    head = Matrix(
        name="LM head", rows=stack.hidden_size, columns=stack.vocab_size, part="head", split="columns"
    )
    return [_gemm(head, 1, formats, layout, load.outputs)]


def _edge_messages(stack: Stack, layout: Layout, load: Load) -> list[Message]:
    return [
        Message(
            name="logits all-gather",
            exchange="all_gather",
            layers=1,
            message_bytes=load.outputs * stack.vocab_size * ACTIVATION_BYTES,
            ranks=layout.tp,
            inputs={"o": load.outputs, "V": stack.vocab_size, "a": ACTIVATION_BYTES},
            counted="o*V*a",
        ),
        Message(
            name="pipeline hops",
            exchange="stage_hop",
            layers=1,
            message_bytes=load.tokens * stack.hidden_size * ACTIVATION_BYTES / layout.tp,
            ranks=layout.pp,
            inputs={"m": load.tokens, "H": stack.hidden_size, "a": ACTIVATION_BYTES, "tp": layout.tp},
            counted="m*H*a/tp",
        ),
    ]
