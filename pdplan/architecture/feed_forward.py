"""Feed-forward blocks: dense MLPs and mixtures of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pdplan.architecture.counts import Count, Extent, Matrix

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A gated (gate, up, down: 3 matrices) or plain (up, down: 2) MLP."""

    __pydantic_config__ = _STRICT
    kind: Literal["dense"] = "dense"
    intermediate_size: Count
    matrices_per_mlp: Literal[2, 3] = 3
    bias: bool = False

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        return _mlp(hidden, self.intermediate_size, self.matrices_per_mlp, "dense")

    def vector_parameters(self, hidden: int) -> int:
        return (self.matrices_per_mlp - 1) * self.intermediate_size + hidden if self.bias else 0


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts: a router sends each token to `per_token` of `experts`."""

    __pydantic_config__ = _STRICT
    kind: Literal["experts"] = "experts"
    experts: Count
    per_token: Count
    intermediate_size: Count
    matrices_per_mlp: Literal[2, 3] = 3
    shared_intermediate_size: Extent = 0
    """Width of the MLP that every token passes: shared experts, or a dense MLP beside the experts."""
    shared_gate: bool = False
    latent_size: Count | None = None
    """Routed experts work in a projected space of this width (Nemotron 3, Kimi K3)."""
    bias: bool = False
    router_bias: bool = False
    routed_groups: Count | None = None
    """A token's experts lie in at most this many groups, and groups on as many nodes (DeepSeek: 4)."""
    """A bias or a load-balancing correction per expert."""

    def __post_init__(self) -> None:
        if self.per_token > self.experts:
            raise ValueError(f"{self.per_token} experts per token, but {self.experts} experts in all")

    @property
    def width(self) -> int | None:
        """Width of the routed experts' input, None where it is the hidden size."""
        return self.latent_size

    def expert_matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """The matrices of ONE routed expert."""
        return _mlp(self.latent_size or hidden, self.intermediate_size, self.matrices_per_mlp, "experts")

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """What every token is multiplied with: router, latent projections, shared experts."""
        found = [Matrix(name="router", rows=hidden, columns=self.experts, part="router")]
        if self.latent_size:
            found += [
                Matrix(name="latent down", rows=hidden, columns=self.latent_size, part="shared"),
                Matrix(name="latent up", rows=self.latent_size, columns=hidden, part="shared"),
            ]
        if self.shared_intermediate_size:
            found += _mlp(hidden, self.shared_intermediate_size, self.matrices_per_mlp, "shared")
        if self.shared_gate:
            found.append(Matrix(name="shared gate", rows=hidden, columns=1, part="router"))
        return tuple(found)

    def vector_parameters(self, hidden: int) -> int:
        """Router and expert biases, those of every routed expert included."""
        count = self.experts if self.router_bias else 0
        return count + self.experts * self.expert_vector_parameters(hidden)

    def expert_vector_parameters(self, hidden: int) -> int:
        """Biases of ONE routed expert."""
        if not self.bias:
            return 0
        return (self.matrices_per_mlp - 1) * self.intermediate_size + (self.latent_size or hidden)


FeedForward = Dense | Experts


def _mlp(
    hidden: int, intermediate: int, matrices: int, part: Literal["dense", "experts", "shared"]
) -> tuple[Matrix, ...]:
    wide = intermediate * (matrices - 1)
    name = "gate+up" if matrices == 3 else "up"
    return (
        Matrix(name=name, rows=hidden, columns=wide, part=part, split="columns"),
        Matrix(name="down", rows=intermediate, columns=hidden, part=part, split="rows"),
    )
