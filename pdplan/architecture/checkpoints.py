"""Which checkpoint a precision name stands for: the published one, or a documented default."""

from __future__ import annotations

from pdplan.architecture.mixers import GroupedQuery
from pdplan.architecture.model import Checkpoint, Model, Storage
from pdplan.errors import UnknownNameError

PRECISIONS = ("bf16", "fp8", "fp4", "int8", "int4")

_STORAGE: dict[str, Storage] = {"bf16": "bf16", "fp8": "fp8", "fp4": "nvfp4", "int8": "int8", "int4": "int4"}
_LINEAR_PARTS = ("attention", "dense", "experts", "shared")


def checkpoint_for(model: Model, precision: str) -> Checkpoint:
    """The checkpoint that `precision` means for this model.

    A published one if the catalog has it. Otherwise the default rule:
    bf16      everything in 16 bit
    fp8, int8, int4
              the layers' linear parts in that format; head, embedding and router
              in 16 bit (Qwen3-FP8, DeepSeek-V3, AWQ checkpoints do so)
    fp4       NVFP4 feed-forward blocks; NVFP4 attention where all of it is GQA
              (nvidia/Qwen3-32B-NVFP4 and Qwen3-30B-A3B-NVFP4 exclude lm_head and
              routers only), 16-bit attention otherwise (nvidia/DeepSeek-V3-0324-NVFP4
              excludes self_attn, mlp.gate, lm_head); draft layers in 16 bit (every NVFP4
              checkpoint with some that was read, of DeepSeek, GLM and Qwen3.5, excludes them)
    Raises UnknownNameError for a name outside PRECISIONS.
    """
    if precision in model.checkpoints:
        return model.checkpoints[precision]
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, {*PRECISIONS, *model.checkpoints})
    return _default(model, precision)


def _default(model: Model, precision: str) -> Checkpoint:
    storage = _STORAGE[precision]
    parts = dict.fromkeys(_LINEAR_PARTS, storage)
    if precision == "fp4" and not _only_grouped_query(model):
        parts["attention"] = "bf16"
    if precision == "fp4" and model.draft is not None:
        parts["draft"] = "bf16"
    return Checkpoint(**parts, source="default rule (pdplan.architecture.checkpoints)")


def _only_grouped_query(model: Model) -> bool:
    return all(isinstance(layer.attention, GroupedQuery | None) for layer in model.layers)
