"""Which model_type of config.json goes to which reader.

One small reader per family is in llama_to_kimi, minimax_to_nemotron or experts; dense
families that differ from Llama in a few traits are a table in variants; what they share is in
blocks and shape.
"""

from __future__ import annotations

from pdplan.catalog.hugging_face.experts import ernie4_5_moe, granitemoe, hunyuan_v1_moe, olmoe, qwen2_moe
from pdplan.catalog.hugging_face.llama_to_kimi import (
    deepseek,
    deepseek_v4,
    gpt_oss,
    kimi_linear,
    llama4,
    mixtral,
    plain,
    qwen2,
    qwen3,
    qwen3_5,
    qwen3_moe,
)
from pdplan.catalog.hugging_face.minimax_to_nemotron import (
    gemma4,
    glm4_moe,
    mimo_v2,
    minimax_m2,
    minimax_m3,
    nemotron_h,
    nemotron_nas,
    step3,
)
from pdplan.catalog.hugging_face.shape import Reader
from pdplan.catalog.hugging_face.variants import VARIANTS, reader_of

READERS: dict[str, Reader] = {
    "llama": plain,
    "mistral": plain,
    "ministral3": plain,
    "qwen2": qwen2,
    "mimo": qwen2,
    "qwen3": qwen3,
    "qwen3_vl": qwen3,
    "qwen3_moe": qwen3_moe,
    "qwen3_vl_moe": qwen3_moe,
    "qwen3_next": qwen3_5,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5,
    "mixtral": mixtral,
    "gpt_oss": gpt_oss,
    "llama4": llama4,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "deepseek_v32": deepseek,
    "kimi_k2": deepseek,
    "glm_moe_dsa": deepseek,
    "glm4_moe_lite": deepseek,
    "deepseek_v4": deepseek_v4,
    "kimi_linear": kimi_linear,
    "minimax_m2": minimax_m2,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl": minimax_m3,
    "glm4_moe": glm4_moe,
    "mimo_v2_flash": mimo_v2,
    "mimo_v2": mimo_v2,
    "step3p5": step3,
    "step3p7": step3,
    "gemma4": gemma4,
    "nemotron_h": nemotron_h,
    "nemotron-nas": nemotron_nas,
    "qwen2_moe": qwen2_moe,
    "olmoe": olmoe,
    "granitemoe": granitemoe,
    "granitemoeshared": granitemoe,
    "phimoe": mixtral,
    "ernie4_5_moe": ernie4_5_moe,
    "hunyuan_v1_moe": hunyuan_v1_moe,
    "dots1": glm4_moe,
    **{model_type: reader_of(traits) for model_type, traits in VARIANTS.items()},
}
"""model_type of config.json (of its text part) -> reader."""

BY_ARCHITECTURE: dict[str, Reader] = {
    "DeepseekV4ForCausalLM": deepseek_v4,
    "DeepseekV32ForCausalLM": deepseek,
    "DeepseekV3ForCausalLM": deepseek,
}
"""Where model_type is a vendor's own word, the architecture still tells."""
