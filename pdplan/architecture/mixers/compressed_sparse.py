"""DeepSeek V4 attention: a sliding window beside a compressed past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import AttentionCore, Count, Extent, Indexer, Matrix
from pdplan.architecture.mixers.latent import IndexerSpec

_STRICT = {"extra": "forbid"}

_OVERLAPPING_RATIO = 4
"""CSA blocks overlap their neighbour, so their compressor projects twice the width."""


@dataclass(frozen=True, kw_only=True)
class CompressedSparse:
    """DeepSeek V4: CSA (ratio 4, indexed top-k), HCA (ratio 128, dense) or window only (ratio 0).

    One 512-wide entry per token is key and value of every head (MQA). A query
    reads the last `window` entries and, beside them in the same softmax,
    entries that each stand for `compress_ratio` tokens of the past.
    Cache per token: head_dim / compress_ratio elements, and the indexer's keys.
    Source: DeepSeek-V4 inference/model.py (Attention, Compressor, Indexer), April 2026.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["csa"] = "csa"
    heads: Count
    head_dim: Count
    q_lora_rank: Count
    o_groups: Count
    """The output projection is block-diagonal over this many groups of heads, then dense."""
    o_lora_rank: Count
    window: Count
    compress_ratio: Extent = 0
    """Tokens per compressed entry; 0 where the layer keeps its window only."""
    indexer: IndexerSpec | None = None
    sinks: bool = True
    """A learned sink logit per head."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """The projections; the grouped output projection counts its non-zero blocks only."""
        wide = self.heads * self.head_dim
        found = [
            Matrix(
                name="q down",
                rows=hidden,
                columns=self.q_lora_rank,
                part="attention",
                joined="q down and kv",
            ),
            Matrix(
                name="q up",
                rows=self.q_lora_rank,
                columns=wide,
                part="query_up",
                split="columns",
                max_shards=self.heads,
            ),
            Matrix(name="kv", rows=hidden, columns=self.head_dim, part="attention", joined="q down and kv"),
            Matrix(
                name="o down",
                rows=wide // self.o_groups,
                columns=self.o_groups * self.o_lora_rank,
                part="attention_output",
                split="columns",
                max_shards=self.o_groups,
            ),
            Matrix(
                name="o up",
                rows=self.o_groups * self.o_lora_rank,
                columns=hidden,
                part="attention_output",
                split="rows",
                max_shards=self.o_groups,
            ),
        ]
        if self.compress_ratio:
            found.append(
                Matrix(
                    name="compressor",
                    rows=hidden,
                    columns=self._compressor_width(self.head_dim),
                    part="router",
                )
            )
        if self.indexer and not self.indexer.shared:
            columns = self.indexer.heads * self.indexer.head_dim
            wide_index = self.indexer.heads + self._compressor_width(self.indexer.head_dim)
            found += [
                Matrix(name="index q", rows=self.q_lora_rank, columns=columns, part="attention"),
                Matrix(name="index k", rows=hidden, columns=wide_index, part="router"),
            ]
        return tuple(found)

    def vector_parameters(self, hidden: int) -> int:
        """Norms of q and kv, sinks; per compressor its norm and position biases."""
        count = self.q_lora_rank + self.head_dim + (self.heads if self.sinks else 0)
        widths = [self.head_dim] if self.compress_ratio else []
        if self.indexer and not self.indexer.shared:
            widths.append(self.indexer.head_dim)
        return count + sum(w + self.compress_ratio * self._compressor_width(w) // 2 for w in widths)

    def cores(self) -> tuple[AttentionCore, ...]:
        """The window, and the compressed past where there is one."""
        near = self._core(window=self.window)
        if not self.compress_ratio:
            return (near,)
        scorer = None
        if self.indexer and not self.indexer.shared:
            scorer = Indexer(
                heads=self.indexer.heads, dim=self.indexer.head_dim, cached_elements=self.indexer.head_dim
            )
        far = self._core(
            compression=self.compress_ratio,
            top_k=self.indexer.top_k if self.indexer else None,
            indexer=scorer,
        )
        return (near, far)

    def state(self) -> None:
        """None: the compressor's open block (a few KiB a sequence) is neglected."""
        return

    def _compressor_width(self, width: int) -> int:
        """Columns of a compressor's value and gate projections together."""
        return 2 * width * (2 if self.compress_ratio == _OVERLAPPING_RATIO else 1)

    def _core(
        self,
        *,
        window: int | None = None,
        compression: int = 1,
        top_k: int | None = None,
        indexer: Indexer | None = None,
    ) -> AttentionCore:
        return AttentionCore(
            heads=self.heads,
            qk_dim=self.head_dim,
            v_dim=self.head_dim,
            decode_qk_dim=self.head_dim,
            decode_v_dim=self.head_dim,
            cached_elements=self.head_dim,
            cache_shards=1,
            latent=True,
            window=window,
            compression=compression,
            top_k=top_k,
            indexer=indexer,
        )
