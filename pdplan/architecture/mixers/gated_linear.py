"""Linear attention with the gated delta rule: Qwen3-Next, Qwen3.5 and Kimi KDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import Count, Matrix, RecurrentState

_STRICT = {"extra": "forbid"}

_CHUNK_TOKENS = 64
"""Chunk of the parallel form in flash-linear-attention (fla/ops/gated_delta_rule, kda)."""


@dataclass(frozen=True, kw_only=True)
class GatedLinear:
    """A matrix state per head, updated by the gated delta rule.

    S ← S·decay; S ← S + β·k·(v − S·k)ᵀ; o = S·q. The decay is one number per
    head (gated DeltaNet) or one per key channel (KDA: `channel_decay`).
    Source: Yang et al., Gated Delta Networks, arXiv 2412.06464; Kimi Linear, arXiv 2510.26692.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["gated_linear"] = "gated_linear"
    key_heads: Count
    value_heads: Count
    key_head_dim: Count
    value_head_dim: Count
    conv_kernel: Count = 4
    channel_decay: bool = False
    """Decay per key channel, from a low-rank hidden → head_dim → heads·head_dim projection (KDA)."""
    gate_rank: Count | None = None
    """Rank of the output gate's projection; None for a full matrix."""
    state_bytes_per_element: float = 4.0

    @property
    def key_width(self) -> int:
        return self.key_heads * self.key_head_dim

    @property
    def value_width(self) -> int:
        return self.value_heads * self.value_head_dim

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        heads = self.value_heads
        found = [
            self._by_heads("qkv", hidden, 2 * self.key_width + self.value_width),
            Matrix(
                name="o",
                rows=self.value_width,
                columns=hidden,
                part="attention_output",
                split="rows",
                max_shards=heads,
            ),
        ]
        if self.gate_rank is None:
            found.append(self._by_heads("gate", hidden, self.value_width))
        else:
            found += [
                Matrix(name="gate down", rows=hidden, columns=self.gate_rank, part="attention"),
                self._by_heads("gate up", self.gate_rank, self.value_width),
            ]
        if self.channel_decay:
            found += [
                Matrix(name="decay down", rows=hidden, columns=self.key_head_dim, part="attention"),
                self._by_heads("decay up", self.key_head_dim, heads * self.key_head_dim),
                self._by_heads("beta", hidden, heads),
            ]
        else:
            found.append(self._by_heads("beta+decay", hidden, 2 * heads))
        return tuple(found)

    def vector_parameters(self, hidden: int) -> int:
        """Convolution taps, decay scales and biases (A_log, dt_bias), the norm of the output."""
        taps = self.conv_kernel * (2 * self.key_width + self.value_width)
        biases = self.value_heads * (self.key_head_dim if self.channel_decay else 1)
        return taps + self.value_heads + biases + self.value_head_dim

    def cores(self) -> tuple[()]:
        return ()

    def state(self) -> RecurrentState:
        """State and work of the recurrence.

        elements = heads·dk·dv + (kernel − 1)·(2·key width + value width).
        Decode [FLOP/token] = 7·heads·dk·dv: decay 1, S·k 2, update 2, S·q 2 per state element.
        Prefill [FLOP/token] = heads·(6·dk·dv + C·(6·dk + 4·dv)) in chunks of C = 64:
        K·Kᵀ, Q·Kᵀ and T·(βK) over keys, T·(βV) and the scores' product over values, each 2·C;
        W·S, Q·S and Kᵀ·U, each 2·dk·dv (arXiv 2412.06464, section 3.3).
        """
        dk, dv, heads = self.key_head_dim, self.value_head_dim, self.value_heads
        matrix = heads * dk * dv
        return RecurrentState(
            heads=heads,
            elements=matrix + (self.conv_kernel - 1) * (2 * self.key_width + self.value_width),
            bytes_per_element=self.state_bytes_per_element,
            flop_per_token=7.0 * matrix,
            prefill_width=3 * (2 * self.key_width + self.value_width) + self.value_width,
            prefill_flop_per_token=6.0 * matrix + heads * _CHUNK_TOKENS * (6.0 * dk + 4.0 * dv),
        )

    def _by_heads(self, name: str, rows: int, columns: int) -> Matrix:
        return Matrix(
            name=name,
            rows=rows,
            columns=columns,
            part="attention",
            split="columns",
            max_shards=self.value_heads,
        )
