"""A whole model: groups of equal layers, embeddings, head, and how checkpoints store it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pdplan.architecture.counts import Count, Extent, Part
from pdplan.architecture.feed_forward import Dense, Experts
from pdplan.architecture.mixers import Mixer
from pdplan.documents.bounds import Le

_STRICT = {"extra": "forbid"}


Storage = Literal["bf16", "fp8", "fp8-block", "int8", "mxfp4", "nvfp4", "int4", "int4-g32"]
ActiveCounts = Literal["all", "without_embedding", "without_embedding_and_head"]

BYTES_PER_ELEMENT: dict[str, float] = {
    "fp32": 4.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "fp8-block": 1.0 + 4 / 128**2,  # one FP32 scale per 128 x 128 weights (DeepSeek-V3)
    "int8": 1.0,
    "nvfp4": 0.5 + 1 / 16,  # one FP8 scale per 16 elements
    "mxfp4": 0.5 + 1 / 32,  # one E8M0 scale per 32 elements
    "int4": 0.5 + 2.5 / 128,  # FP16 scale and 4-bit zero per 128 elements (GPTQ, AWQ)
    "int4-g32": 0.5 + 2 / 32,  # BF16 scale per 32 elements, symmetric (Kimi K2 Thinking, K2.5)
}
"""Bytes a stored weight takes, its share of the scales included (formats' own definitions)."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """`count` equal layers; a layer has a mixer, a feed-forward block, or both."""

    __pydantic_config__ = _STRICT
    count: Annotated[Count, Le(10_000)]
    attention: Mixer | None = None
    feed_forward: Dense | Experts | None = None


@dataclass(frozen=True, kw_only=True)
class DraftHead:
    """Multi-token-prediction modules that ship with the checkpoint."""

    __pydantic_config__ = _STRICT
    layers: tuple[Layers, ...]
    """The layers of all modules together, in order."""
    modules: Count = 1
    """Each module first projects [hidden, embedding] (2·hidden) to hidden; table and head are the model's."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Which format each part of a published checkpoint is stored in."""

    __pydantic_config__ = _STRICT
    attention: Storage
    query_up: Storage | None = None
    """MLA's second query projection, where it is not stored like attention."""
    attention_output: Storage | None = None
    """The output projection, where it is not stored like attention."""
    dense: Storage
    experts: Storage
    shared: Storage
    draft: Storage | None = None
    """The layers that draft, where they are not stored like the model's own."""
    head: Storage = "bf16"
    embedding: Storage = "bf16"
    router: Storage = "bf16"
    source: str
    """Where the formats are stated; "default rule" where nobody published this checkpoint."""

    def storage(self, part: Part) -> Storage:
        """The format of a part.

        >>> Checkpoint(attention="bf16", dense="fp8", experts="fp8", shared="fp8", source="").storage("dense")
        'fp8'
        """
        stored: Storage | None = getattr(self, part)
        return self.attention if stored is None else stored

    @property
    def of_draft(self) -> Checkpoint:
        """The same of the layers that draft.

        >>> of = dict.fromkeys(("attention", "dense", "experts", "shared"), "fp8")
        >>> stored = Checkpoint(**of, draft="bf16", source="")
        >>> stored.storage("attention_output"), stored.of_draft.storage("attention_output")
        ('fp8', 'bf16')
        """
        if self.draft is None:
            return self
        every = dict.fromkeys(("attention", "dense", "experts", "shared"), self.draft)
        return replace(self, **every, query_up=None, attention_output=None)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the publisher says, to test the counts against."""

    __pydantic_config__ = _STRICT
    parameters_total: float
    parameters_active: float | None = None
    source: str
    active_counts: ActiveCounts = "all"
    """What the active figure counts: publishers differ on the tables; `note` says where it is inferred."""
    tolerance: float = 0.01
    """Relative agreement to expect: 1 %, or the rounding of a coarse figure ("10B active")."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One entry of the models catalog."""

    __pydantic_config__ = _STRICT
    name: str
    hugging_face_ids: tuple[str, ...]
    source: str
    date: str
    hidden_size: Count
    vocab_size: Count
    tie_embeddings: bool
    max_context: Count
    layers: tuple[Layers, ...]
    draft: DraftHead | None = None
    checkpoints: dict[str, Checkpoint]
    """By precision name: bf16, fp8, fp4, int4, int8. The first is the publisher's own."""
    published: Published | None = None
    norms_per_layer: Count = 2
    """Norm vectors of a layer with mixer and feed-forward block; a layer with one of them has half."""
    other_parameters: Extent = 0
    """Parameters off the text path that `published` counts (vision tower)."""
    aliases: tuple[str, ...] = ()
    """Other names, that are no Hugging Face ids."""
    notes: tuple[str, ...] = field(default=())
