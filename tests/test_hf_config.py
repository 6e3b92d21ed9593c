"""Reading config.json files: every family, and every way to be wrong."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from pdplan.architecture.model import Model
from pdplan.catalog.hugging_face.config import model_from_config
from pdplan.catalog.hugging_face.quantization import storages
from pdplan.errors import InputError

SHARED = Path(__file__).parents[2] / "shared" / "models"
FILES = sorted(SHARED.glob("*.json")) or [None]

PLAIN = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


def read(config: dict) -> Model:
    entry = model_from_config(config, name="x", hugging_face_id="a/x", source="test", date="2026-01-01")
    return TypeAdapter(Model).validate_python(entry)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem if p else "none")
def test_every_shared_config_is_read(path):
    if path is None:
        pytest.skip("../shared/models is not here")
    config = json.loads(path.read_text())
    model = read(config)
    text = config.get("text_config", config)
    depth = text.get("num_hidden_layers") or len(text["layers_block_type"])
    assert sum(group.count for group in model.layers) == depth
    assert not any("unknown" in note for note in model.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": None}, "missing key 'hidden_size'"),
        ({"hidden_size": -1}, "'hidden_size' must be a whole number of at least 1, not -1"),
        ({"hidden_size": 0}, "'hidden_size'"),
        ({"num_hidden_layers": "32"}, "'num_hidden_layers' .* not '32'"),
        ({"vocab_size": float("nan")}, "'vocab_size' .* not nan"),
        ({"vocab_size": 1e400}, "'vocab_size' .* not inf"),
        ({"num_attention_heads": True}, "'num_attention_heads'"),
        ({"num_attention_heads": 12.5}, "'num_attention_heads'"),
        ({"intermediate_size": [1]}, "'intermediate_size'"),
        ({"tie_word_embeddings": "no"}, "'tie_word_embeddings' must be true or false"),
        ({"quantization_config": {"quant_method": "magic"}}, "unknown method 'magic'"),
        (
            {"model_type": "brandnew", "num_local_experts": 8},
            "unknown model_type 'brandnew' with 'num_local_experts'",
        ),
        (
            # ERNIE 4.5's words: 300 B parameters, which would be read as 48 B.
            {"model_type": "brandnew_moe", "moe_num_experts": 64, "moe_k": 8},
            "unknown model_type 'brandnew_moe' with 'moe_num_experts'",
        ),
        ({"model_type": "falcon_h1", "mamba_d_ssm": 4096}, "'falcon_h1' with 'mamba_d_ssm'"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM is no decoder"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "bart is no decoder that writes text"),
        ({"num_hidden_layers": 1e9}, "'num_hidden_layers' is 1,000,000,000; expected at most 10,000"),
        (
            {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4},
            "4 experts per token, but 2",
        ),
        ({"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 1}, "'sliding_window'.*"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "MX"}, "layer pattern has 'X'"),
    ],
)
def test_a_bad_value_is_named(change, words):
    with pytest.raises(InputError, match=words):
        read(PLAIN | change)


@pytest.mark.parametrize(
    ("pattern", "windowed"),
    [
        ({}, "1111"),
        ({"sliding_window_pattern": 4}, "1110"),
        ({"sliding_window_pattern": "LG"}, "1010"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 2}, "0101"),
        ({"use_sliding_window": False}, "0000"),
        ({"sliding_window": None, "sliding_window_pattern": 4}, "0000"),
    ],
)
def test_a_plain_decoder_s_window_is_on_the_layers_that_the_config_says(pattern, windowed):
    """Gemma 3 and Cohere 2 say the period, EXAONE 4 letters, newer configs each layer."""
    change = {"model_type": "brandnew", "num_hidden_layers": 4, "sliding_window": 4096} | pattern
    found = [group.attention.window for group in read(PLAIN | change).layers for _ in range(group.count)]
    assert found == [4096 if mark == "1" else None for mark in windowed]


def test_a_fault_is_told_once():
    with pytest.raises(InputError) as caught:
        read({})
    assert len(caught.value.messages) == len(set(caught.value.messages))


def test_all_faults_are_reported_at_once():
    with pytest.raises(InputError) as caught:
        read(PLAIN | {"hidden_size": -1, "vocab_size": None, "intermediate_size": "wide"})
    assert {"hidden_size", "vocab_size", "intermediate_size"} <= {
        m.split("'")[1] for m in caught.value.messages
    }


@pytest.mark.parametrize("config", [{}, [], None, "text", 3])
def test_what_is_no_config_is_refused(config):
    with pytest.raises(InputError):
        read(config)


def test_an_unknown_type_with_the_standard_keys_is_read_plainly_and_says_so():
    model = read(PLAIN | {"model_type": "brandnew"})
    assert model.layers == read(PLAIN).layers
    assert "brandnew" in model.notes[0]


def test_head_dim_is_what_the_config_says():
    # Qwen3-30B-A3B: 2048 / 32 = 64, but head_dim is 128
    assert read(PLAIN | {"head_dim": 64}).layers[0].attention.head_dim == 64
    assert read(PLAIN).layers[0].attention.head_dim == 128


def test_layer_lists_that_are_too_short_are_refused():
    short = PLAIN | {
        "model_type": "gpt_oss",
        "sliding_window": 128,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
    }
    with pytest.raises(InputError, match="'layer_types' has 1 entries for 32 layers"):
        read(short | {"layer_types": ["full_attention"]})
    with pytest.raises(InputError, match="'layer_types' names 'odd'"):
        read(short | {"layer_types": ["odd"] * 32})


# hf_quant_config.json of nvidia/DeepSeek-V3-0324-NVFP4 (shortened) and of nvidia/Qwen3-32B-NVFP4,
# https://github.com/ai-dynamo/aiconfigurator/tree/main/src/aiconfigurator/model_configs
DEEPSEEK_NVFP4 = {
    "quantization": {
        "quant_algo": "NVFP4",
        "group_size": 16,
        "exclude_modules": [
            *(f"model.layers.{i}.self_attn*" for i in range(61)),
            *(f"model.layers.{i}.mlp.gate" for i in range(3, 61)),
            "lm_head",
            "model.embed_tokens",
            "model.layers.61*",
        ],
    }
}
KIMI_INT4 = {  # moonshotai/Kimi-K2.5 config.json
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"group_size": 32, "num_bits": 4, "type": "int"}}},
    "ignore": [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
    ],
}
MIXED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "quantized_layers": {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.shared_expert.gate_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.experts": {"quant_algo": "NVFP4"},
    },
}


@pytest.mark.parametrize(
    ("quantization", "precision", "attention", "dense", "experts", "shared"),
    [
        (None, "bf16", "bf16", "bf16", "bf16", "bf16"),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128]},
            "fp8",
            "fp8-block",
            "fp8-block",
            "fp8-block",
            "fp8-block",
        ),
        (DEEPSEEK_NVFP4, "fp4", "bf16", "nvfp4", "nvfp4", "nvfp4"),
        (
            {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}},
            "fp4",
            "nvfp4",
            "nvfp4",
            "nvfp4",
            "nvfp4",
        ),
        (KIMI_INT4, "int4", "bf16", "bf16", "int4-g32", "bf16"),
        (MIXED, "fp4", "fp8", "bf16", "nvfp4", "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4", "int4", "int4", "int4", "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8", "int8", "int8", "int8", "int8"),
    ],
)
def test_storage_by_part(quantization, precision, attention, dense, experts, shared):
    name, parts = storages(quantization)
    assert name == precision
    assert [parts[p] for p in ("attention", "dense", "experts", "shared")] == [
        attention,
        dense,
        experts,
        shared,
    ]
