"""A Hugging Face config.json becomes an entry of the models catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pdplan.catalog.hf_blocks import run_lengths
from pdplan.catalog.hf_families import BY_ARCHITECTURE, READERS
from pdplan.catalog.hf_fields import Fields
from pdplan.catalog.hf_llama_to_kimi import plain
from pdplan.catalog.hf_quantization import storages
from pdplan.catalog.hf_shape import Reader, Shape
from pdplan.errors import InputError

_NOT_PLAIN = re.compile(r"expert|(^|_)moe(_|$)|lora_rank|mamba|ssm|state_size|conv_kernel|linear_attn")
"""Keys of layers that are no plain ones: experts, latent attention, state spaces."""
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
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        return Fields(config, f"{name}: config.json")
    above = {key: config[key] for key in _FROM_THE_TOP if key in config}
    return Fields(above | dict(text), f"{name}: config.json: text_config")


def _reader(fields: Fields, config: Mapping[str, Any]) -> tuple[Reader, list[str]]:
    """The family's reader, and what to say where there is none."""
    for model_type in (fields.values.get("model_type"), config.get("model_type")):
        reader = READERS.get(str(model_type).removesuffix("_text"))
        if reader:
            return reader, []
    for architecture in [*(fields.values.get("architectures") or []), *(config.get("architectures") or [])]:
        if architecture in BY_ARCHITECTURE:
            return BY_ARCHITECTURE[architecture], []
    model_type = fields.values.get("model_type", config.get("model_type"))
    strange = [key for key, value in fields.values.items() if value and _NOT_PLAIN.search(str(key))]
    if strange:
        fields.fault(
            f"unknown model_type {model_type!r} with '{strange[0]}': its layers can't be read plainly; "
            "write the entry by hand after the nearest one in models_catalog/"
        )
    kinds = [str(a) for a in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or (kinds and not any(_GENERATES.search(kind) for kind in kinds)):
        fields.fault(f"{kinds[0] if kinds else model_type} is no decoder that writes text, token by token")
    return plain, [
        f"model_type {model_type!r} is unknown: read as a plain decoder (grouped queries, gated MLP); "
        "its count of parameters should be the published one"
    ]


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
