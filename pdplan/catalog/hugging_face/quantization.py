"""Which format each part of a quantized checkpoint is stored in, from its quantization_config.

A config says a method and which modules it leaves alone. Asked about one typical
module per part, that gives the storage of the part.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pdplan.errors import InputError

_PARTS: dict[str, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.q_a_proj", "attention.q_proj", "mixer.q_proj"),
    "dense": ("mlp.gate_proj", "mlp.up_proj", "mixer.up_proj"),
    "experts": ("mlp.experts.7.gate_proj", "block_sparse_moe.experts.7.w1", "mixer.experts.7.up_proj"),
    "shared": ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "mixer.shared_experts.up_proj"),
}
_STEMS = (
    "model.layers.{layer}.",
    "model.language_model.layers.{layer}.",
    "language_model.model.layers.{layer}.",
)
_TYPICAL_LAYERS = {"attention": 5, "dense": 0, "experts": 5, "shared": 5}

_UNQUANTIZED = {"attention": "bf16", "dense": "bf16", "experts": "bf16", "shared": "bf16"}


def storages(quantization: Mapping[str, Any] | None, expert_dtype: str = "") -> tuple[str, dict[str, str]]:
    """(precision name, storage by part) of a config's quantization_config; bf16 without one.

    Head and embedding stay in 16 bit unless a format quantizes the head, routers always
    (they are no Linear modules, or excluded). `expert_dtype` is DeepSeek V4's: "fp4".

    >>> storages({"quant_method": "fp8"})[1]["attention"]
    'fp8'
    """
    if not quantization:
        return "bf16", dict(_UNQUANTIZED)
    settings = _flat(quantization)
    storage = _storage(settings)
    if storage is None:
        method = settings.get("quant_algo") or settings.get("quant_method")
        raise InputError(
            f"quantization_config: unknown method {method!r}; known are fp8, mxfp4, gptq, awq, "
            "compressed-tensors and modelopt. Remove the section to read the model as 16 bit"
        )
    if storage == "mixed":
        parts = _mixed(settings)
    else:
        left_out = _left_out(settings)
        parts = {part: "bf16" if _excluded(part, left_out) else storage for part in _PARTS}
        if settings.get("quant_method") == "compressed-tensors" and not _matches(("lm_head",), left_out):
            parts["head"] = storage
    if expert_dtype == "fp4":
        parts["experts"] = "mxfp4"
    return _precision(parts), parts


def _flat(quantization: Mapping[str, Any]) -> Mapping[str, Any]:
    """hf_quant_config.json nests its settings one level deeper than config.json."""
    inner = quantization.get("quantization")
    return inner if isinstance(inner, Mapping) else quantization


_FORMATS = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8-block",
    "NVFP4": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "W4A16_AWQ": "int4",
    "W4A8_AWQ": "int4",
    "INT8_SQ": "int8",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "MXFP4": "mxfp4",
    "MIXED_PRECISION": "mixed",
}


def _storage(settings: Mapping[str, Any]) -> str | None:
    """The format of what is quantized; None where the method is unknown."""
    algorithm = settings.get("quant_algo")
    if isinstance(algorithm, str):
        return _FORMATS.get(algorithm.upper())
    method = settings.get("quant_method")
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8-block" if settings.get("weight_block_size") else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("gptq", "awq", "auto-round"):
        return "int8" if settings.get("bits") == 8 else "int4"
    if method == "bitsandbytes":
        return "int4" if settings.get("load_in_4bit") else "int8"
    return _of_groups(settings)


def _of_groups(settings: Mapping[str, Any]) -> str | None:
    """compressed-tensors: the format of the first group of targets."""
    groups = settings.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        return None
    weights = next(iter(groups.values())).get("weights") or {}
    bits, kind, group = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if kind == "float":
        return "fp8" if bits == 8 else ("mxfp4" if group == 32 else "nvfp4") if bits == 4 else None
    if kind == "int":
        return "int8" if bits == 8 else ("int4-g32" if group == 32 else "int4") if bits == 4 else None
    return None


def _left_out(settings: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("ignore", "exclude_modules", "modules_to_not_convert", "ignored_layers")
    return tuple(str(pattern) for key in keys for pattern in settings.get(key) or ())


def _excluded(part: str, left_out: Iterable[str]) -> bool:
    return _matches(_typical_names(part), left_out)


def _typical_names(part: str) -> tuple[str, ...]:
    layer = _TYPICAL_LAYERS[part]
    return tuple(stem.format(layer=layer) + module for stem in _STEMS for module in _PARTS[part])


def _matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Does a pattern hit one of the names: regex (re:), glob, or a run of whole components."""
    for pattern in patterns:
        if pattern.startswith("re:"):
            if any(re.match(pattern[3:], name) for name in names):
                return True
        elif any(fnmatch.fnmatchcase(f".{name}.", f"*.{pattern.lstrip('.*')}.*") for name in names):
            return True
    return False


def _mixed(settings: Mapping[str, Any]) -> dict[str, str]:
    """ModelOpt MIXED_PRECISION: a format per named layer; the commonest one of a part counts."""
    layers = settings.get("quantized_layers") or {}
    found = dict(_UNQUANTIZED)
    marks = {
        "attention": ("self_attn", "linear_attn", "attention", "q_proj", "in_proj"),
        "shared": ("shared_expert",),
        "experts": (".experts",),
        "dense": ("mlp.", "up_proj"),
    }
    taken: dict[str, list[str]] = {part: [] for part in marks}
    for name, spec in layers.items():
        part = next(
            (p for p in ("shared", "experts", "attention", "dense") if any(m in name for m in marks[p])), None
        )
        storage = _FORMATS.get(str(spec.get("quant_algo", "")).upper())
        if part and storage:
            taken[part].append(storage)
    return found | {part: max(set(seen), key=seen.count) for part, seen in taken.items() if seen}


def _precision(parts: Mapping[str, str]) -> str:
    """The name a checkpoint goes by: that of its narrowest format."""
    order = ("mxfp4", "nvfp4", "int4-g32", "int4", "fp8", "fp8-block", "int8")
    names = {"mxfp4": "fp4", "nvfp4": "fp4", "int4-g32": "int4", "fp8-block": "fp8"}
    narrowest = next((s for s in order if s in parts.values()), "bf16")
    return names.get(narrowest, narrowest)
