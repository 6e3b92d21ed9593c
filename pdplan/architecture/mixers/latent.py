"""Multi-head latent attention (MLA), dense or sparse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import AttentionCore, Count, Indexer, Matrix

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class IndexerSpec:
    """DeepSeek sparse attention: which tokens the core reads.

    `shared` layers reuse the choice of an earlier layer: they own no indexer.
    """

    __pydantic_config__ = _STRICT
    heads: Count
    head_dim: Count
    top_k: Count
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (MLA), dense or with DeepSeek's sparse indexer.

    Cache per token: kv_lora_rank + qk_rope_head_dim elements, the same on every
    tensor-parallel rank. Decode runs in the absorbed form, over the latent.
    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["mla"] = "mla"
    heads: Count
    q_lora_rank: Count | None = None
    kv_lora_rank: Count
    qk_nope_head_dim: Count
    qk_rope_head_dim: Count
    v_head_dim: Count
    output_gate: bool = False
    """A hidden → heads·v_head_dim projection gates the output (Kimi K3)."""
    indexer: IndexerSpec | None = None

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        qk = self.qk_nope_head_dim + self.qk_rope_head_dim
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        found: list[Matrix] = []
        together = "qkv down" if self.q_lora_rank else ""
        if self.q_lora_rank:
            found.append(
                Matrix(
                    name="q down", rows=hidden, columns=self.q_lora_rank, part="attention", joined=together
                )
            )
        found += [
            Matrix(
                name="q up",
                rows=self.q_lora_rank or hidden,
                columns=self.heads * qk,
                part="query_up",
                split="columns",
                max_shards=self.heads,
            ),
            Matrix(name="kv down", rows=hidden, columns=latent, part="attention", joined=together),
            Matrix(
                name="kv up",
                rows=self.kv_lora_rank,
                columns=self.heads * (self.qk_nope_head_dim + self.v_head_dim),
                part="attention",
                split="columns",
                max_shards=self.heads,
            ),
            Matrix(
                name="o",
                rows=self.heads * self.v_head_dim,
                columns=hidden,
                part="attention_output",
                split="rows",
                max_shards=self.heads,
            ),
        ]
        if self.output_gate:
            gate = Matrix(
                name="gate",
                rows=hidden,
                columns=self.heads * self.v_head_dim,
                part="attention",
                split="columns",
                max_shards=self.heads,
            )
            found.append(gate)
        if self.indexer and not self.indexer.shared:
            wide = self.indexer.heads * self.indexer.head_dim
            source = self.q_lora_rank or hidden
            found += [
                Matrix(name="index q", rows=source, columns=wide, part="attention"),
                Matrix(
                    name="index k",
                    rows=hidden,
                    columns=self.indexer.head_dim + self.indexer.heads,
                    part="attention",
                ),
            ]
        return tuple(found)

    def vector_parameters(self, hidden: int) -> int:
        norms = (self.q_lora_rank or 0) + self.kv_lora_rank
        return norms + (2 * self.indexer.head_dim if self.indexer and not self.indexer.shared else 0)

    def cores(self) -> tuple[AttentionCore, ...]:
        scorer = None
        if self.indexer and not self.indexer.shared:
            scorer = Indexer(
                heads=self.indexer.heads, dim=self.indexer.head_dim, cached_elements=self.indexer.head_dim
            )
        absorbed = self.indexer is not None  # sparse prefill gathers latents, so it stays absorbed
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        core = AttentionCore(
            heads=self.heads,
            qk_dim=latent if absorbed else self.qk_nope_head_dim + self.qk_rope_head_dim,
            v_dim=self.kv_lora_rank if absorbed else self.v_head_dim,
            decode_qk_dim=latent,
            decode_v_dim=self.kv_lora_rank,
            cached_elements=latent,
            cache_shards=1,
            latent=True,
            top_k=self.indexer.top_k if self.indexer else None,
            indexer=scorer,
        )
        return (core,)

    def state(self) -> None:
        return None
