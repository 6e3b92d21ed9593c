"""A model folded for counting: equal blocks once, with how often they occur."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pdplan.architecture.feed_forward import Experts, FeedForward
from pdplan.architecture.mixers import Mixer
from pdplan.architecture.model import Layers, Model


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The layers that a forward step runs, equal ones as one entry: DeepSeek's 61 attention blocks."""

    hidden_size: int
    vocab_size: int
    tie_embeddings: bool
    layers: int
    norms: int
    """Norm vectors of all layers together."""
    mixers: tuple[tuple[Mixer, int], ...]
    feed_forwards: tuple[tuple[FeedForward, int], ...]
    projections: int = 0
    """Draft modules: each first projects 2·hidden to hidden."""
    other_parameters: int = 0
    """Weights that are loaded and take no part in a step on text: a vision tower."""
    order: tuple[tuple[int, int], ...] = ()
    """Of each layer in turn, which of `mixers` and `feed_forwards` it has; -1: none."""

    @property
    def has_experts(self) -> bool:
        return self.experts > 0

    @property
    def experts(self) -> int:
        """Of one layer, at most."""
        blocks = (block for block, _ in self.feed_forwards)
        return max((block.experts for block in blocks if isinstance(block, Experts)), default=0)


def fold(model: Model) -> Stack:
    """The model's own layers."""
    return replace(_fold(model, model.layers, 0), other_parameters=model.other_parameters)


def fold_draft(model: Model) -> Stack | None:
    """The multi-token-prediction layers, None where the checkpoint has none."""
    if model.draft is None:
        return None
    return _fold(model, model.draft.layers, model.draft.modules)


def _fold(model: Model, groups: Iterable[Layers], projections: int) -> Stack:
    mixers: dict[Mixer, int] = {}
    blocks: dict[FeedForward, int] = {}
    layers = 0
    order: list[tuple[int, int]] = []
    for group in groups:
        layers += group.count
        mixer, block = -1, -1
        if group.attention is not None:
            mixers[group.attention] = mixers.get(group.attention, 0) + group.count
            mixer = list(mixers).index(group.attention)
        if group.feed_forward is not None:
            blocks[group.feed_forward] = blocks.get(group.feed_forward, 0) + group.count
            block = list(blocks).index(group.feed_forward)
        order += [(mixer, block)] * group.count
    return Stack(
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        tie_embeddings=model.tie_embeddings,
        layers=layers,
        norms=layers * model.norms_per_layer,
        mixers=tuple(mixers.items()),
        feed_forwards=tuple(blocks.items()),
        projections=projections,
        order=tuple(order),
    )
