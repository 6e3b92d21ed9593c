"""Dense decoders that differ from Llama in a few traits: Gemma, Phi, Cohere, OLMo, Granite and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pdplan.catalog.hugging_face.blocks import dense, grouped_query
from pdplan.catalog.hugging_face.fields import Fields
from pdplan.catalog.hugging_face.shape import Reader, Shape, window_of, windowed_layers


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a family's code fixes and its config.json does not say."""

    two_matrices: bool = False
    """An MLP of up and down, without a gate."""
    norms_per_layer: int = 2
    tied: bool = False
    """Whether head and embedding are one table where config.json is silent."""
    qk_norm: Literal["none", "head", "full"] = "none"
    """Norms of q and k with weights shared by the heads, or one for every channel."""
    qk_norm_key: str = ""
    """The key without which there are none."""
    bias: Literal["as said", "qkv", "all"] = "as said"
    """As attention_bias and mlp_bias say; on q, k and v; on every matrix."""
    bias_key: str = ""
    """The key without which there are none."""
    window_period: int | None = None
    """Every n-th layer attends to everything, where config.json has no pattern."""


def reader_of(traits: Traits) -> Reader:
    """A reader of the family with these traits."""

    def read(fields: Fields) -> Shape:
        window = window_of(fields)
        more = _norms(fields, traits) | _biases(fields, traits)
        wide, narrow = grouped_query(fields, **more), grouped_query(fields, window=window, **more)
        mlp = dense(
            fields,
            matrices_per_mlp=2 if traits.two_matrices else None,
            bias=fields.flag("mlp_bias") or _switched(fields, traits.bias_key, traits.bias == "all"),
        )
        near = windowed_layers(fields, window, traits.window_period)
        return Shape(
            layers=[(narrow if short else wide, mlp) for short in near],
            norms_per_layer=traits.norms_per_layer,
            tie_embeddings=traits.tied,
        )

    return read


def _norms(fields: Fields, traits: Traits) -> dict[str, bool]:
    there = _switched(fields, traits.qk_norm_key, traits.qk_norm != "none")
    return {"qk_norm": there and traits.qk_norm == "head", "qk_norm_full": there and traits.qk_norm == "full"}


def _biases(fields: Fields, traits: Traits) -> dict[str, Any]:
    if traits.bias == "as said":
        return {}
    there = _switched(fields, traits.bias_key, True)
    return {"bias": there, "output_bias": there and traits.bias == "all"}


def _switched(fields: Fields, key: str, there: bool) -> bool:
    """Whether a trait is there: where a key switches it, only if that says so."""
    return there and (not key or fields.flag(key))


_GEMMA = Traits(tied=True)
_GEMMA_3 = Traits(tied=True, norms_per_layer=4, qk_norm="head", window_period=6)
_COHERE = Traits(tied=True, norms_per_layer=1, qk_norm="full", qk_norm_key="use_qk_norm")

VARIANTS: dict[str, Traits] = {
    "gemma": _GEMMA,
    "gemma2": Traits(tied=True, norms_per_layer=4, window_period=2),
    "gemma3": _GEMMA_3,
    "cohere": _COHERE,
    "cohere2": Traits(tied=True, norms_per_layer=1, window_period=4),
    "starcoder2": Traits(tied=True, two_matrices=True, bias="all", bias_key="use_bias"),
    "phi": Traits(two_matrices=True, norms_per_layer=1, bias="all"),
    "phi3": Traits(),
    "gpt_neox": Traits(two_matrices=True, bias="all"),
    "nemotron": Traits(two_matrices=True),
    "arcee": Traits(two_matrices=True),
    "apertus": Traits(two_matrices=True, qk_norm="head"),
    "olmo": Traits(),
    "olmo2": Traits(qk_norm="full"),
    "olmo3": Traits(qk_norm="full"),
    "granite": Traits(),
    "glm": Traits(bias="qkv", bias_key="attention_bias"),
    "glm4": Traits(bias="qkv", bias_key="attention_bias", norms_per_layer=4),
    "internlm2": Traits(),
    "internlm3": Traits(),
    "exaone4": Traits(qk_norm="head"),
    "smollm3": Traits(tied=True),
    "seed_oss": Traits(bias="qkv", bias_key="attention_bias"),
    "stablelm": Traits(bias="qkv", bias_key="use_qkv_bias"),
    "ernie4_5": Traits(tied=True),
    "hunyuan_v1_dense": Traits(tied=True, qk_norm="head", qk_norm_key="use_qk_norm"),
    "qwen2_vl": Traits(bias="qkv"),
    "qwen2_5_vl": Traits(bias="qkv"),
    "baichuan": Traits(),
}
"""model_type -> what differs from Llama. Sources: the families' modules in transformers, and the
published counts of tests/test_hf_variants.py. LayerNorm's own biases are not counted (under 0.01 %)."""

UNSAID: dict[str, dict[str, Any]] = {
    "gemma3": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256},
}
"""Defaults of the family's code, which published config.json leave out."""
