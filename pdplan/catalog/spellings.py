"""The many ways in which one thing is written: Meta-Llama-3.1-8B-Instruct-FP8 is llama3.1-8b, and NVIDIA H100
80GB HBM3 is h100-sxm5-80gb.

Used where no entry has a name as it was given, so a catalog's own names always win.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z0-9][\w ./-]*")
_WORD = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)*")
_QUANTISED = re.compile(
    r"(^|[-.])(((nv|mx)?(fp|int)|bf|w)[0-9]+(a[0-9]+)?|awq|gptq|gguf|bnb|mlx|quantized|dynamic)([-.]|$)"
)
"""From such a word on, the name of a checkpoint says how it is stored."""
_PACKAGED = re.compile(
    r"-(instruct|chat|it|base|hf|thinking|exp|terminus|speciale|preview|v0\.[0-9]+|2[4-6][01][0-9]|0[0-9]{3}|1[0-2][0-9]{2})(?=-|$)"
)
"""What a model was tuned for, and when: its shape is that of the others."""
_PUBLISHER = re.compile(r"^(meta-(?=llama)|nvidia-)")
_MAKERS = re.compile(
    r"\b(nvidia|amd|intel|google|cloud|aws|instinct|tensor-core|gpu|accelerator|tesla|hbm[0-9]?e?|sxm[0-9]?|oam)\b"
)
_CLUSTERS = re.compile(r"-(nv|nb|cw|cr|tw|dgxc|slurm|docker|trt|amds?|multinode|disagg|p[0-9])(?=-|$)")
"""Machines of InferenceX, whose tables hold the runner's name: b200-dgxc-slurm, gb300-nv, mi325x-amds."""


def model_key(name: str) -> str:
    """A model's name less organisation, number format, tuning and date of its checkpoint.

    >>> model_key("nvidia/DeepSeek-R1-0528-FP4-V2"), model_key("Meta-Llama-3.1-8B-Instruct-FP8-KV")
    ('deepseekr1', 'llama3.1-8b')
    >>> model_key("llama3.1_8b"), model_key("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8")
    ('llama3.1-8b', 'qwen3-30ba3b')
    """
    text = name.strip().casefold().rpartition("/")[2]
    text = re.sub(r"(?<=[0-9])_(?=[0-9](_|-|$))", ".", text).replace("_", "-").replace(" ", "-")
    stored = _QUANTISED.search(text)
    if stored and stored.start():
        text = re.sub(r"-(w|a)$", "", text[: stored.start()])
    return _joined(_PACKAGED.sub("", _PUBLISHER.sub("", text)))


def accelerator_key(name: str) -> str:
    """An accelerator's name less its maker, its socket and the machine that it stood in.

    >>> accelerator_key("NVIDIA H100 80GB HBM3"), accelerator_key("h100-sxm5-80gb")
    ('h100-80gb', 'h100-80gb')
    >>> accelerator_key("gb300-nv"), accelerator_key("h200-dgxc-slurm")
    ('gb300', 'h200')
    >>> accelerator_key("AMD Instinct MI325X"), accelerator_key("H200 NVL")
    ('mi325x', 'h200nvl')
    """
    text = re.sub(r"[^a-z0-9.]+", "-", name.strip().casefold().replace("_", "-"))
    return _joined(_CLUSTERS.sub("", _MAKERS.sub("", text)))


def _joined(text: str) -> str:
    """Letters and numbers in their order, with a mark between two numbers only.

    >>> _joined("qwen-2.5-7b"), _joined("qwen2.57b")
    ('qwen2.5-7b', 'qwen2.57b')
    """
    found = ""
    for word in _WORD.findall(text):
        found += f"-{word}" if found and found[-1].isdigit() and word[0].isdigit() else word
    return found


KEYS: Mapping[str, Callable[[str], str]] = {"accelerator": accelerator_key, "model": model_key}


def same_entry(kind: str, name: str, known: Mapping[str, str]) -> str | None:
    """The entry that `name` is another spelling of; None where none is, or several are.

    `known` has every name of every entry, and the entry's own. Who quantises a model publishes it as his own;
    otherwise a name under another organisation is another model.
    >>> same_entry("model", "kimik2.5", {"kimi-k2.5": "kimi-k2.5", "kimi-k2": "kimi-k2"})
    'kimi-k2.5'
    >>> ids = {"qwen3-8b": "qwen3-8b", "Qwen/Qwen3-8B": "qwen3-8b"}
    >>> same_entry("model", "me/Qwen3-8B-AWQ", ids), same_entry("model", "me/Qwen3-8B", ids)
    ('qwen3-8b', None)
    """
    key = KEYS[kind]
    wanted = key(name) if _NAME.fullmatch(name.strip()) else ""
    found = {own for other, own in known.items() if key(other) == wanted} if wanted else set()
    if len(found) != 1:
        return None
    (entry,) = found
    publishers = {_publisher(other) for other, own in known.items() if own == entry}
    foreign = kind == "model" and _publisher(name) and _publisher(name) not in publishers
    return None if foreign and not _QUANTISED.search(name.casefold().replace("_", "-")) else entry


def _publisher(name: str) -> str:
    return name.casefold().rpartition("/")[0]
