"""Softmax attention over per-head keys and values: MHA, GQA, MQA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import AttentionCore, Count, Indexer, Matrix

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class SparseBlocks:
    """Block-sparse attention on top of grouped queries (MiniMax M3).

    A small indexer scores blocks of keys; a query attends to the best of them.
    """

    __pydantic_config__ = _STRICT
    index_heads: Count
    index_dim: Count
    block_size: Count
    top_k_blocks: Count


@dataclass(frozen=True, kw_only=True)
class GroupedQuery:
    """MHA, GQA and MQA, with or without a sliding window.

    Cache per token: kv_heads · (head_dim + v_head_dim) elements.
    Source: Ainslie et al., GQA, arXiv 2305.13245.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["gqa"] = "gqa"
    heads: Count
    kv_heads: Count
    head_dim: Count
    v_head_dim: Count | None = None
    window: Count | None = None
    output_gate: bool = False
    """Q projection twice as wide, its second half gates the output (Qwen3.5)."""
    key_is_value: bool = False
    """V is K before its norm (Gemma 4 global layers): no V projection."""
    qk_norm: bool = False
    """Norms of q and k, their weights shared by the heads."""
    qk_norm_full: bool = False
    """Norms of q and k over all heads at once (MiniMax M2): a weight per channel."""
    head_gate: bool = False
    """A hidden → heads projection gates the heads' outputs (Step 3.5)."""
    bias: bool = False
    """Biases on q, k, v (Qwen2, gpt-oss)."""
    output_bias: bool = False
    sinks: bool = False
    """A learned sink logit per head (gpt-oss)."""
    sparse: SparseBlocks | None = None

    def __post_init__(self) -> None:
        if self.kv_heads > 0 and self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} query heads cannot share {self.kv_heads} KV heads evenly")

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        q = self.heads * self.head_dim * (2 if self.output_gate else 1)
        k, v = self.kv_heads * self.head_dim, self.kv_heads * self.value_dim
        kv = k if self.key_is_value else k + v
        found = [
            Matrix(
                name="q",
                rows=hidden,
                columns=q,
                part="attention",
                split="columns",
                max_shards=self.heads,
                joined="qkv",
            ),
            Matrix(
                name="kv",
                rows=hidden,
                columns=kv,
                part="attention",
                split="columns",
                max_shards=self.kv_heads,
                joined="qkv",
            ),
            Matrix(
                name="o",
                rows=self.heads * self.value_dim,
                columns=hidden,
                part="attention_output",
                split="rows",
                max_shards=self.heads,
            ),
        ]
        if self.head_gate:
            gate = Matrix(
                name="gate",
                rows=hidden,
                columns=self.heads,
                part="attention",
                split="columns",
                max_shards=self.heads,
            )
            found.append(gate)
        if self.sparse:
            wide = (self.sparse.index_heads + 1) * self.sparse.index_dim
            found.append(Matrix(name="index qk", rows=hidden, columns=wide, part="attention"))
        return tuple(found)

    def vector_parameters(self, hidden: int) -> int:
        count = 2 * self.head_dim if self.qk_norm else 0
        if self.qk_norm_full:
            count += (self.heads + self.kv_heads) * self.head_dim
        if self.sparse:
            count += 2 * self.sparse.index_dim
        if self.bias:
            count += self.heads * self.head_dim + self.kv_heads * (self.head_dim + self.value_dim)
        return count + (hidden if self.output_bias else 0) + (self.heads if self.sinks else 0)

    def cores(self) -> tuple[AttentionCore, ...]:
        sparse = self.sparse
        indexer = top_k = None
        if sparse:
            # One key per token; block scores are maxima over these.
            indexer = Indexer(
                heads=sparse.index_heads,
                dim=sparse.index_dim,
                cached_elements=sparse.index_dim,
                cache_bytes_per_element=2.0,
                flop_dtype="bf16",
            )
            top_k = sparse.block_size * sparse.top_k_blocks
        core = AttentionCore(
            heads=self.heads,
            qk_dim=self.head_dim,
            v_dim=self.value_dim,
            decode_qk_dim=self.head_dim,
            decode_v_dim=self.value_dim,
            cached_elements=self.kv_heads * (self.head_dim + self.value_dim),
            cache_shards=self.kv_heads,
            window=self.window,
            top_k=top_k,
            indexer=indexer,
        )
        return (core,)

    def state(self) -> None:
        return None
