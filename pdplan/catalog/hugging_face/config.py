"""A Hugging Face config.json becomes an entry of the models catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pdplan.catalog.hugging_face.blocks import run_lengths
from pdplan.catalog.hugging_face.families import BY_ARCHITECTURE, READERS
from pdplan.catalog.hugging_face.fields import Fields
from pdplan.catalog.hugging_face.llama_to_kimi import plain
from pdplan.catalog.hugging_face.quantization import storages
from pdplan.catalog.hugging_face.shape import Reader, Shape
from pdplan.catalog.hugging_face.variants import UNSAID
from pdplan.errors import InputError, quoted_list

_NOT_PLAIN = re.compile(
    r"expert|(^|_)moe(_|$)|lora_rank|mamba|ssm|state_size|conv_kernel|conv_l_cache|linear_attn|cross_attention"
    r"|altup|laurel|lru_width|block_types|share_q_dim|rwkv",
    re.IGNORECASE,
)
"""Keys of layers that are no plain ones: experts, latent attention, state spaces, convolutions."""
_GATED = ("silu", "swiglu", "swish")
"""Activations of gated MLPs; others stand in gated ones and plain ones alike."""
_STANDARD = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configs keep their language model."""
_GENERATES = re.compile(r"CausalLM|ConditionalGeneration|LMHead")
_FROM_THE_TOP = ("tie_word_embeddings", "quantization_config")
"""Keys that multimodal configs state beside text_config, not in it."""


def model_from_config(
    config: Mapping[str, Any], *, name: str, hugging_face_id: str, source: str, date: str
) -> dict[str, Any]:
    """The plain dict, in the schema of pdplan.architecture.Model, that a config.json describes.

    Counts come from the text part of multimodal configs. An unknown model_type is
    read as a plain decoder if the standard keys are there, which `notes` then says.
    Raises InputError with every missing or malformed key.
    """
    fields = _text_fields(config, name)
    reader, notes = _reader(fields, config)
    if any(isinstance(config.get(part), Mapping) for part in _TEXT_PARTS):
        notes = [*notes, "the language model alone is counted: no tower for pictures, video or sound"]
    shape = reader(fields)
    entry = {
        "name": name,
        "hugging_face_ids": [hugging_face_id],
        "source": source,
        "date": date,
        "hidden_size": fields.integer("hidden_size"),
        "vocab_size": fields.integer("vocab_size"),
        "tie_embeddings": fields.flag("tie_word_embeddings", default=shape.tie_embeddings),
        "max_context": fields.integer("max_position_embeddings", "model_max_length"),
    }
    checkpoints = _checkpoints(fields, f"{hugging_face_id} config.json")
    fields.check()
    return entry | _layout(shape, checkpoints, notes)


def _layout(shape: Shape, checkpoints: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if shape.norms_per_layer != 2:
        found["norms_per_layer"] = shape.norms_per_layer
    found["layers"] = run_lengths(shape.layers)
    if shape.draft:
        found["draft"] = shape.draft
    found["checkpoints"] = checkpoints
    if notes or shape.notes:
        found["notes"] = [*notes, *shape.notes]
    return found


def _text_fields(config: Mapping[str, Any], name: str) -> Fields:
    if not isinstance(config, Mapping):
        raise InputError(
            f"{name}: config.json must be a mapping of keys to values, not {type(config).__name__}"
        )
    where, text = f"{name}: config.json", config
    above: dict[str, Any] = {}
    while part := next((p for p in _TEXT_PARTS if isinstance(text.get(p), Mapping)), None):
        above |= {key: text[key] for key in _FROM_THE_TOP if key in text}
        where, text = f"{where}: {part}", text[part]
    unsaid = UNSAID.get(_family(text.get("model_type")), {})
    return Fields({**unsaid, **above, **text}, where)


def _family(model_type: object) -> str:
    return str(model_type).removesuffix("_text")


def _reader(fields: Fields, config: Mapping[str, Any]) -> tuple[Reader, list[str]]:
    """The family's reader, and what to say where there is none."""
    for model_type in (fields.values.get("model_type"), config.get("model_type")):
        reader = READERS.get(_family(model_type))
        if reader:
            return reader, []
    for architecture in [*(fields.values.get("architectures") or []), *(config.get("architectures") or [])]:
        if architecture in BY_ARCHITECTURE:
            return BY_ARCHITECTURE[architecture], []
    model_type = fields.values.get("model_type", config.get("model_type"))
    strange = list(_strange_keys(fields.values))
    missing = [key for key in _STANDARD if key not in fields]
    activation = fields.values.get("hidden_act", fields.values.get("hidden_activation"))
    if strange:
        fields.fault(
            f"unknown model_type {model_type!r} with '{strange[0]}': its layers can't be read plainly; "
            "write the entry by hand after the nearest one in models_catalog/"
        )
    elif missing and model_type is not None:
        raise InputError(
            f"{fields.where}: unknown model_type {model_type!r}, without {quoted_list(missing)}: its keys "
            "are not the usual ones; write the entry by hand after the nearest one in models_catalog/"
        )
    elif activation is not None and str(activation).casefold() not in _GATED:
        fields.fault(
            f"unknown model_type {model_type!r} with 'hidden_act' {activation!r}: whether its MLP has two "
            "matrices or three can't be told; write the entry by hand after the nearest in models_catalog/"
        )
    kinds = [str(a) for a in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or (kinds and not any(_GENERATES.search(kind) for kind in kinds)):
        fields.fault(f"{kinds[0] if kinds else model_type} is no decoder that writes text, token by token")
    return plain, [
        f"model_type {model_type!r} is unknown: read as a plain decoder (grouped queries, gated MLP); "
        "its count of parameters should be the published one"
        + ("" if "tie_word_embeddings" in fields else "; a head of its own, as config.json does not say")
    ]


def _strange_keys(values: Mapping[str, Any]) -> Iterator[str]:
    """Keys of layers that are no plain ones, also one level down (DBRX: ffn_config)."""
    for key, value in values.items():
        if value and _NOT_PLAIN.search(str(key)):
            yield key
        elif isinstance(value, Mapping):
            yield from (f"{key}.{k}" for k, v in value.items() if v and _NOT_PLAIN.search(str(k)))


def _checkpoints(fields: Fields, source: str) -> dict[str, Any]:
    """The checkpoint that the config itself describes, under its precision name."""
    try:
        precision, parts = storages(fields.values.get("quantization_config"), fields.text("expert_dtype"))
    except InputError as error:
        fields.fault(str(error))
        return {}
    entry = parts | {"source": source}
    if fields.values.get("model_type") == "gpt_oss" and precision == "fp4":
        # One MXFP4 checkpoint is all there is: runs labelled fp8 or bf16 use it, too.
        return dict.fromkeys(("fp4", "fp8", "bf16"), entry)
    return {precision: entry}
