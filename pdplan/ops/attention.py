"""Token mixers: projections, attention cores, indexers, recurrent states."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np

from pdplan.architecture.counts import AttentionCore, Indexer, Matrix, RecurrentState
from pdplan.architecture.mixers import Latent, Mixer
from pdplan.formats import Formats
from pdplan.laws.attention import attention_flop, cache_read_bytes, causal_pairs, mean_clipped_context
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load, Phases
from pdplan.ops.kinds import ACTIVATION_BYTES, SCORE_BYTES, Family, Kernel, Op, Product, Work
from pdplan.ops.products import gemm, joint_gemm, products, step_rows


def mixer_kernels(
    mixer: Mixer, layers: float, hidden: int, formats: Formats, layout: Layout, phases: Phases
) -> Iterator[Product | Kernel]:
    for together in products(mixer.matrices(hidden)):
        if isinstance(mixer, Latent) and together[0].name == "kv up":
            yield from _latent_up(mixer, together[0], layers, formats, layout, phases)
        else:
            yield joint_gemm(together, layers, formats, layout)
    for core in mixer.cores():
        for phase, wanted, op in (
            ("prefill", phases.prefill, _prefill_core),
            ("decode", phases.decode, _decode_core),
        ):
            if wanted:
                family = _family_of(phase, core)  # type: ignore[arg-type]
                yield Kernel(
                    family=family,
                    dtype=formats.attention_arithmetic(),
                    layers=layers,
                    op=partial(op, family, core, layers, formats, layout),
                )
        if core.indexer is not None:
            yield Kernel(
                family="indexer",
                dtype=_indexer_dtype(core.indexer, formats),
                layers=layers,
                op=partial(_indexer_op, core, layers, formats, layout),
            )
    state = mixer.state()
    if state is not None:
        if phases.prefill:
            op = partial(_prefill_recurrence, state, layers, layout)
            yield Kernel(family="prefill_recurrence", dtype="bf16", layers=layers, op=op)
        if phases.decode:
            op = partial(_decode_recurrence, state, layers, layout)
            yield Kernel(family="decode_recurrence", dtype="bf16", layers=layers, op=op)


def _expanded_rows(load: Load) -> Work:
    """Latents of prompts, and those of their cached prefix again."""
    prompts = np.asarray(load.prefill_sequences, dtype=float)
    rows = prompts * (np.asarray(load.prefill_tokens) + load.prefill_past)
    return Work(rows=rows, inputs={"m": rows})


def _decoded_rows(load: Load) -> Work:
    """Queries of running sequences."""
    rows = np.asarray(load.decode_sequences, dtype=float) * load.queries
    return Work(rows=rows, inputs={"m": rows})


def _latent_up(
    mixer: Latent, matrix: Matrix, layers: float, formats: Formats, layout: Layout, phases: Phases
) -> Iterator[Product]:
    """Up-projection of the latent: of the keys and values of prompts, of the queries and outputs else.

    The expanded form multiplies the latents of a prompt, and those of its cached prefix again; the absorbed
    form, of decodes and of sparse attention, multiplies queries before the core and its outputs after it,
    head by head: two products, of weights that engines widen to 16 bit for it.
    """
    absorbed = step_rows
    if phases.prefill and mixer.indexer is None:
        absorbed = _decoded_rows
        yield gemm(matrix, layers, formats, layout, _expanded_rows)
        if not phases.decode:
            return
    heads = mixer.heads / np.minimum(layout.tp, mixer.heads)
    for name, width, depth in (
        ("query up", mixer.qk_nope_head_dim, mixer.qk_nope_head_dim),
        ("output up", mixer.v_head_dim, mixer.kv_lora_rank),
    ):
        each = heads * mixer.kv_lora_rank * float(width)
        yield Product(
            name=f"{name} projection (absorbed)",
            family="gemm",
            dtype="bf16",
            layers=layers,
            work=absorbed,
            each=Counts(
                flop=2.0 * each,
                stored_bytes=each * ACTIVATION_BYTES,
                activation_bytes=heads * (mixer.kv_lora_rank + width) * ACTIVATION_BYTES,
                rows=1.0,
                depth=float(depth),
                input_bytes=heads * depth * ACTIVATION_BYTES,
            ),
            inputs={"h": heads, "c": mixer.kv_lora_rank, "d": width, "a": ACTIVATION_BYTES},
            counted={
                "flop": "2*m*h*c*d",
                "stored_bytes": "h*c*d*a",
                "activation_bytes": "m*h*(c+d)*a",
                "depth": "d" if depth == width else "c",
                "input_bytes": "m*h*d*a" if depth == width else "m*h*c*a",
            },
        )


def _reach(core: AttentionCore) -> float | None:
    """Cached entries a query reads at most."""
    limits = [x for x in (core.window, core.top_k) if x is not None]
    return float(min(limits)) if limits else None


def _family_of(phase: Literal["prefill", "decode"], core: AttentionCore) -> Family:
    """Which kernels serve a core: sparse gathers, one latent for all heads, or keys and values per head."""
    kind = "sparse" if core.top_k is not None else "mla" if core.latent else "attention"
    return f"{phase}_{kind}"  # type: ignore[return-value]


def _prefill_core(
    family: Family, core: AttentionCore, layers: float, formats: Formats, layout: Layout, load: Load
) -> Op:
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
        family=family,
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


def _decode_core(
    family: Family, core: AttentionCore, layers: float, formats: Formats, layout: Layout, load: Load
) -> Op:
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
        family=family,
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


def _indexer_dtype(indexer: Indexer, formats: Formats) -> str:
    return indexer.flop_dtype if indexer.flop_dtype in formats.peaks else "bf16"


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
        dtype=_indexer_dtype(indexer, formats),
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
