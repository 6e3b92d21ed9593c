"""The vocabulary in which every layer states its work.

A layer is a list of matrices (each a GEMM over the tokens of a step), at most
a few attention cores (work that grows with context) and states (work that does
not). Parameters, FLOP, weight bytes and cache bytes all follow from these, so
the count of parameters and the count of FLOP cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pdplan.documents.bounds import Ge, Le

Count = Annotated[int, Ge(1), Le(1_000_000_000)]
"""Heads, layers, widths: at least one, and no more than any model has."""
Extent = Annotated[int, Ge(0), Le(10**15)]
"""As a Count, and 0 where there is none; also a number of parameters."""

Part = Literal[
    "attention", "query_up", "attention_output", "dense", "experts", "shared", "router", "head", "embedding"
]
"""Which tensors of a checkpoint a matrix belongs to; checkpoints quantise by part.

"query_up" (MLA's second query projection) and "attention_output" are attention's own, stored like the rest of
it where a checkpoint does not say otherwise. "router" is every small matrix that publishers leave in 16 bit:
routers, gates of shared experts, DeepSeek V4's compressors.
"""

ATTENTION_PARTS: tuple[Part, ...] = ("attention", "query_up", "attention_output")


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A weight matrix W[rows, columns], applied as y = x·W.

    `split` is the side that tensor parallelism divides: "columns" (Megatron's
    column-parallel), "rows" (row-parallel, an all-reduce follows) or "none"
    (every rank holds a copy). `max_shards` caps the division: a K projection of
    8 heads on 16 ranks is held twice. Matrices of one input that engines multiply
    it with at once, side by side, name the product they are `joined` in.
    """

    name: str
    rows: int
    columns: int
    part: Part
    split: Literal["columns", "rows", "none"] = "none"
    max_shards: int | None = None
    joined: str = ""

    @property
    def parameters(self) -> int:
        return self.rows * self.columns

    @property
    def block(self) -> str:
        """What the matrix is a part of: attention, whichever of its parts that is."""
        return "attention" if self.part in ATTENTION_PARTS else self.part


@dataclass(frozen=True, kw_only=True)
class AttentionCore:
    """Scores and weighted values of one layer: work per (query, key) pair.

    Prefill may use another form than decode (MLA expands the latent for prefill
    and absorbs the projections for decode); `cached` counts elements per token.
    """

    heads: int
    """Query heads; tensor parallelism divides them."""
    qk_dim: int
    """Length of the dot product per head and pair in prefill."""
    v_dim: int
    """Length of the value per head and pair in prefill."""
    decode_qk_dim: int
    decode_v_dim: int
    cached_elements: float
    """Elements that the cache keeps per cached token and layer, all heads."""
    cache_shards: int
    """How many ranks can share the cache: KV heads, or 1 where it is replicated (MLA)."""
    latent: bool = False
    """Decode reads one cached vector for all heads (MLA, absorbed): kernels of their own."""
    window: int | None = None
    """Sliding window [tokens]: no key further back is read or kept."""
    top_k: int | None = None
    """Sparse attention: a query reads this many of the cached entries at most."""
    compression: int = 1
    """Tokens that one cached entry stands for (DeepSeek V4 CSA/HCA); 1 without."""
    indexer: Indexer | None = None
    """What selects the top-k entries, if this layer runs its own."""


@dataclass(frozen=True, kw_only=True)
class Indexer:
    """A lightweight scorer that reads *every* cached entry to pick the top-k.

    Source: DeepSeek-V3.2-Exp (DSA lightning indexer).
    """

    heads: int
    dim: int
    cached_elements: float
    """Elements kept per entry and layer (replicated on every rank)."""
    cache_bytes_per_element: float = 1.0
    """DSA keeps its keys in FP8 whatever the KV cache is."""
    flop_dtype: Literal["fp8", "bf16"] = "fp8"


@dataclass(frozen=True, kw_only=True)
class RecurrentState:
    """Linear attention or SSM: a state of constant size per sequence and layer."""

    heads: int
    """Heads that tensor parallelism divides the state by."""
    elements: int
    """State elements per sequence and layer (recurrent matrix and convolution tail)."""
    bytes_per_element: float
    """Bytes a state element takes: engines keep recurrent states in FP32 unless told otherwise."""
    flop_per_token: float
    """Recurrence FLOP per token and layer in decode."""
    prefill_flop_per_token: float
    """Chunked-scan FLOP per token and layer in prefill."""
    prefill_width: int = 0
    """Elements per token that the scan's kernels read and write: 3·(q, k and v) and the output."""
