"""Selective state spaces: Mamba-2, as Nemotron-H and Nemotron 3 use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import Count, Matrix, RecurrentState

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class StateSpace:
    """Mamba-2 (SSD): a head_dim × state_size state per head.

    h ← decay·h + Δ·x·Bᵀ; y = h·C + D·x; B and C are shared by the heads of a group.
    Source: Dao & Gu, Transformers are SSMs, arXiv 2405.21060.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["mamba2"] = "mamba2"
    heads: Count
    head_dim: Count
    state_size: Count
    groups: Count
    conv_kernel: Count = 4
    conv_bias: bool = True
    chunk_size: Count = 128
    state_bytes_per_element: float = 4.0

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_width(self) -> int:
        return self.inner + 2 * self.groups * self.state_size

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        return (
            Matrix(
                name="in",
                rows=hidden,
                columns=self.inner + self.conv_width + self.heads,
                part="attention",
                split="columns",
                max_shards=self.heads,
            ),
            Matrix(
                name="out",
                rows=self.inner,
                columns=hidden,
                part="attention",
                split="rows",
                max_shards=self.heads,
            ),
        )

    def vector_parameters(self, hidden: int) -> int:
        """Convolution, Δ bias, A and D per head, the gated norm."""
        taps = self.conv_kernel + (1 if self.conv_bias else 0)
        return taps * self.conv_width + 3 * self.heads + self.inner

    def cores(self) -> tuple[()]:
        return ()

    def state(self) -> RecurrentState:
        """State and work of the recurrence.

        elements = heads·P·N + (kernel − 1)·(heads·P + 2·groups·N).
        Decode [FLOP/token] = 6·heads·P·N: decay 1, Δ·x·B 2, sum 1, h·C 2 per state element.
        Prefill [FLOP/token] = 2·L·(groups·N + heads·P) inside chunks of L tokens
        + 4·heads·P·N between them (arXiv 2405.21060, section 6).
        """
        matrix = self.inner * self.state_size
        return RecurrentState(
            heads=self.heads,
            elements=matrix + (self.conv_kernel - 1) * self.conv_width,
            bytes_per_element=self.state_bytes_per_element,
            flop_per_token=6.0 * matrix,
            prefill_width=3 * self.conv_width + self.inner,
            prefill_flop_per_token=2.0 * self.chunk_size * (self.groups * self.state_size + self.inner)
            + 4.0 * matrix,
        )
