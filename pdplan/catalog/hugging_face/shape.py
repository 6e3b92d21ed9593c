"""What a family's reader returns, and which layers are of which kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pdplan.catalog.hugging_face.blocks import Block, Pair
from pdplan.catalog.hugging_face.fields import Fields


@dataclass(kw_only=True)
class Shape:
    """What a family's reader found."""

    layers: Sequence[Pair]
    draft: Block | None = None
    notes: list[str] = field(default_factory=list)
    norms_per_layer: int = 2
    tie_embeddings: bool = False
    """Where config.json does not say: the default of the family's published checkpoints."""


MOST_LAYERS = 10_000
Reader = Callable[[Fields], Shape]


def depth_of(fields: Fields) -> int:
    depth = fields.integer("num_hidden_layers")
    if depth > MOST_LAYERS:
        fields.fault(f"'num_hidden_layers' is {depth:,}; expected at most {MOST_LAYERS:,}")
        return 1
    return depth


def layer_kinds(fields: Fields, mixers: dict[str, Block], interval_key: str = "") -> list[Block]:
    """A mixer per layer from layer_types, or from the interval of full attention."""
    depth = depth_of(fields)
    if "layer_types" not in fields and interval_key in fields:
        interval = fields.integer(interval_key)
        kinds = ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(depth)]
    else:
        kinds = fields.series("layer_types", depth)
    for strange in sorted({str(kind) for kind in kinds if kind not in mixers}):
        fields.fault(f"'layer_types' names {strange!r}; known here are {', '.join(sorted(mixers))}")
    return [mixers.get(kind, {}) for kind in kinds]


def window_of(fields: Fields) -> int | None:
    """The sliding window, where one is switched on."""
    return fields.optional("sliding_window") if fields.flag("use_sliding_window", default=True) else None


def windowed_layers(fields: Fields, window: int | None, period: int | None = None) -> list[bool]:
    """Which layers attend within the window: all, but where the config or the family has a pattern.

    `layer_types` names each; `sliding_window_pattern` is the `period` of layers without a window (Gemma 3,
    Cohere 2), or one letter a layer: L within the window, G without (EXAONE 4).
    """
    depth, pattern = depth_of(fields), fields.values.get("sliding_window_pattern")
    if "layer_types" in fields:
        kinds = fields.series("layer_types", depth)
        for strange in sorted({str(kind) for kind in kinds} - {"full_attention", "sliding_attention"}):
            fields.fault(f"'layer_types' names {strange!r}, which is no plain attention")
        return [window is not None and kind != "full_attention" for kind in kinds]
    if window is None:
        return [False] * depth
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        return [pattern[i % len(pattern)] == "L" for i in range(depth)]
    if pattern is not None:
        period = fields.integer("sliding_window_pattern")
    if period is not None:
        return [(i + 1) % period != 0 for i in range(depth)]
    return [True] * depth


def stepped_layers(fields: Fields) -> list[bool]:
    """Which layers have experts in Qwen's words: every n-th, but for those named."""
    step = fields.integer("decoder_sparse_step", default=1)
    without = fields.values.get("mlp_only_layers") or []
    return [(i + 1) % step == 0 and i not in without for i in range(depth_of(fields))]


def sparse_layers(fields: Fields) -> list[bool]:
    """Which layers have experts, by any of the keys that say so."""
    depth = depth_of(fields)
    if "mlp_layer_types" in fields:
        return [kind == "sparse" for kind in fields.series("mlp_layer_types", depth)]
    if isinstance(fields.values.get("moe_layer_freq"), list):
        return [bool(flag) for flag in fields.series("moe_layer_freq", depth)]
    first, step = fields.count("first_k_dense_replace"), fields.integer("moe_layer_freq", default=1)
    return [index >= first and index % step == 0 for index in range(depth)]
