"""Families beyond the shipped catalog: the counts of public config.json files are the published ones."""

import pytest
from test_hf_config import PLAIN, read

from pdplan.architecture.parameters import parameters_active, parameters_total
from pdplan.errors import InputError


def config(model_type, hidden, layers, heads, kv_heads, inner, vocab, **more):
    """The keys that nearly every config.json has."""
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
    } | more


UNTIED, TIED = {"tie_word_embeddings": False}, {"tie_word_embeddings": True}
STARCODER = {"use_bias": True, "hidden_act": "gelu_pytorch_tanh", "sliding_window": 4096}
GEMMA_2 = {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096}
WIDE_HEADS = GEMMA_2 | {"head_dim": 256}
GEMMA_3 = {"model_type": "gemma3_text", "sliding_window": 1024, "hidden_activation": "gelu_pytorch_tanh"}

# Totals: tables of the technical reports (Gemma 2: arXiv 2408.00118 table 2, embedding + rest; Gemma 3:
# arXiv 2503.19786 table 1, without the vision tower; Pythia: arXiv 2304.01373 table 1; Qwen2: arXiv
# 2407.10671; OLMoE: arXiv 2409.02060; OLMo 2: arXiv 2501.00656; Hunyuan and Apertus: their reports) and
# the sizes of the safetensors files that the publishers' Hugging Face pages show.
PUBLISHED = {
    "starcoder2-3b": (config("starcoder2", 3072, 30, 24, 2, 12288, 49152, **STARCODER), 3.03e9),
    "starcoder2-7b": (config("starcoder2", 4608, 32, 36, 4, 18432, 49152, **STARCODER), 7.17e9),
    "starcoder2-15b": (config("starcoder2", 6144, 40, 48, 4, 24576, 49152, **STARCODER, **UNTIED), 15.96e9),
    "gemma-7b": (config("gemma", 3072, 28, 16, 16, 24576, 256000, head_dim=256), 8.54e9),
    "gemma-2-2b": (
        config("gemma2", 2304, 26, 8, 4, 9216, 256000, head_dim=256, **GEMMA_2),
        0.590e9 + 2.024e9,
    ),
    "gemma-2-9b": (config("gemma2", 3584, 42, 16, 8, 14336, 256000, **WIDE_HEADS), 9_241_705_984),
    "gemma-2-27b": (
        config("gemma2", 4608, 46, 32, 16, 36864, 256000, head_dim=128, **GEMMA_2),
        27_227_128_320,
    ),
    "gemma-3-1b": (
        config("gemma3_text", 1152, 26, 4, 1, 6912, 262144, head_dim=256, sliding_window=512),
        0.302e9 + 0.698e9,
    ),
    "gemma-3-4b": (
        {
            "model_type": "gemma3",
            "text_config": GEMMA_3
            | {"hidden_size": 2560, "num_hidden_layers": 34, "intermediate_size": 10240},
        },
        0.675e9 + 3.209e9,
    ),
    "gemma-3-27b": (
        {
            "model_type": "gemma3",
            "text_config": GEMMA_3
            | {"hidden_size": 5376, "num_hidden_layers": 62, "intermediate_size": 21504}
            | {"num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128},
        },
        1.416e9 + 25.600e9,
    ),
    "phi-3-mini": (config("phi3", 3072, 32, 32, 32, 8192, 32064, sliding_window=2047), 3_821_079_552),
    "phi-4": (config("phi3", 5120, 40, 40, 10, 17920, 100352, sliding_window=None), 14_659_507_200),
    "phi-4-mini": (config("phi3", 3072, 32, 24, 8, 8192, 200064, **TIED), 3_836_021_760),
    "phi-2": (config("phi", 2560, 32, 32, 32, 10240, 51200, hidden_act="gelu_new"), 2_779_683_840),
    "pythia-12b": (
        config("gpt_neox", 5120, 36, 40, None, 20480, 50688, hidden_act="gelu", **UNTIED),
        11_846_072_320,
    ),
    "mistral-small-24b": (config("mistral", 5120, 40, 32, 8, 32768, 131072, head_dim=128), 23_572_403_200),
    "command-r-v01": (config("cohere", 8192, 40, 64, 64, 22528, 256000), 34_980_831_232),
    "command-r-plus": (config("cohere", 12288, 64, 96, 8, 33792, 256000, use_qk_norm=True), 103.8e9),
    "command-r7b": (config("cohere2", 4096, 32, 32, 8, 14336, 256000, sliding_window=4096), 8_027_897_856),
    "command-a": (config("cohere2", 12288, 64, 96, 8, 36864, 256000, sliding_window=4096), 111.06e9),
    "olmo-2-7b": (config("olmo2", 4096, 32, 32, 32, 11008, 100352, **UNTIED), 7_298_617_344),
    "olmo-2-32b": (config("olmo2", 5120, 64, 40, 8, 27648, 100352, **UNTIED), 32.23e9),
    "granite-3.1-8b": (config("granite", 4096, 40, 32, 8, 12800, 49155, **TIED), 8.17e9),
    "glm-4-9b": (config("glm", 4096, 40, 32, 2, 13696, 151552, attention_bias=True), 9.40e9),
    "glm-4-32b-0414": (config("glm4", 6144, 61, 48, 2, 23040, 151552, head_dim=128), 32.57e9),
    "internlm2.5-7b": (config("internlm2", 4096, 32, 32, 8, 14336, 92544, bias=False), 7_737_708_544),
    "seed-oss-36b": (
        config("seed_oss", 5120, 64, 80, 8, 27648, 155136, head_dim=128, attention_bias=True, **UNTIED),
        36.15e9,
    ),
    "smollm3-3b": (config("smollm3", 2048, 36, 16, 4, 11008, 128256), 3_075_098_624),
    "apertus-8b": (config("apertus", 4096, 32, 32, 8, 21504, 131072, hidden_act="xielu"), 8.05e9),
    "ernie-4.5-0.3b": (config("ernie4_5", 1024, 18, 16, 2, 3072, 103424, head_dim=128), 360_748_032),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_dense_variants_count_as_published(name):
    given, total = PUBLISHED[name]
    model = read(given)
    assert parameters_total(model) == pytest.approx(total, rel=0.003)
    assert not any("unknown" in note for note in model.notes)


MIXTURES = {
    "qwen1.5-moe-a2.7b": (
        config("qwen2_moe", 2048, 24, 16, 16, 5632, 151936, num_experts=60, num_experts_per_tok=4)
        | {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
        14.32e9,
        2.7e9,
    ),
    "qwen2-57b-a14b": (
        config("qwen2_moe", 3584, 28, 28, 4, 18944, 151936, num_experts=64, num_experts_per_tok=8)
        | {"moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20480},
        57.41e9,
        14.25e9,
    ),
    "olmoe-1b-7b": (
        config("olmoe", 2048, 16, 16, 16, 1024, 50304, num_experts=64, num_experts_per_tok=8),
        6.92e9,
        1.28e9,
    ),
    "granite-3.1-3b-a800m": (
        config(
            "granitemoe", 1536, 32, 24, 8, 512, 49155, num_local_experts=40, num_experts_per_tok=8, **TIED
        ),
        3.30e9,
        0.88e9,
    ),
    "phi-3.5-moe": (
        config("phimoe", 4096, 32, 32, 8, 6400, 32064, num_local_experts=16, num_experts_per_tok=2),
        41.9e9,
        6.6e9,
    ),
    "ernie-4.5-21b-a3b": (
        config("ernie4_5_moe", 2560, 28, 20, 4, 12288, 103424, moe_num_experts=64, moe_k=6, **TIED)
        | {"moe_intermediate_size": 1536, "moe_num_shared_experts": 2, "moe_layer_start_index": 1},
        21.83e9,
        3.0e9,
    ),
    "ernie-4.5-300b-a47b": (
        config("ernie4_5_moe", 8192, 54, 64, 8, 28672, 103424, moe_num_experts=64, moe_k=8, **UNTIED)
        | {"moe_intermediate_size": 3584, "moe_num_shared_experts": 0, "moe_layer_start_index": 3},
        300e9,
        47e9,
    ),
    "hunyuan-a13b": (
        config("hunyuan_v1_moe", 4096, 32, 32, 8, 3072, 128167, num_experts=64, use_qk_norm=True, **TIED)
        | {"moe_topk": [8] * 32, "moe_intermediate_size": [3072] * 32, "num_shared_expert": [1] * 32},
        80.4e9,
        13e9,
    ),
    "dots.llm1": (
        config("dots1", 4096, 62, 32, 32, 10944, 152064, n_routed_experts=128, num_experts_per_tok=6)
        | {"moe_intermediate_size": 1408, "n_shared_experts": 2, "first_k_dense_replace": 1},
        142.8e9,
        14e9,
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_count_as_published(name):
    given, total, active = MIXTURES[name]
    model = read(given)
    assert parameters_total(model) == pytest.approx(total, rel=0.01)
    # Publishers round what is active, and some leave the tables out of it.
    least = parameters_active(model, "without_embedding_and_head")
    assert 0.93 * least <= active <= 1.05 * parameters_active(model)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "ffn_config": {"moe_num_experts": 16}},
            "'dbrx' with 'ffn_config.moe_num_experts'",
        ),
        (
            {"model_type": "mpt", "d_model": 7168, "n_heads": 64},
            "unknown model_type 'mpt', without 'hidden_size'",
        ),
        (config("falcon", 4544, 32, 71, None, None, 65024), "unknown model_type 'falcon', without 'interm"),
        (config("jamba", 4096, 32, 32, 8, 14336, 65536, num_experts=16, mamba_d_state=16), "'jamba' with"),
        (config("persimmon", 4096, 36, 64, 64, 16384, 262144, hidden_act="relu2"), "two matrices or three"),
        (config("lfm2", 2048, 16, 32, 8, 12288, 65536, conv_L_cache=3), "'lfm2' with 'conv_L_cache'"),
        (
            config("odd", 64, 2, 2, 2, 64, 64, layer_types=["conv", "full_attention"]),
            "names 'conv', which is no",
        ),
        (config("mllama_text_model", 4096, 40, 32, 8, 14336, 128256, cross_attention_layers=[3]), "'mllama"),
        (
            config("gemma3n_text", 2048, 30, 8, 2, 8192, 262400, altup_num_inputs=4),
            "'gemma3n_text' with 'altup",
        ),
        (config("recurrent_gemma", 2560, 26, 10, 1, 15360, 256000, lru_width=2560), "'lru_width'"),
    ],
)
def test_what_cannot_be_counted_is_refused(given, words):
    with pytest.raises(InputError, match=words) as caught:
        read(given)
    assert "by hand" in str(caught.value) or "layer_types" in words or "layer_types" in str(caught.value)


def test_windows_of_families_whose_config_has_no_pattern():
    """Gemma 2 alternates, Gemma 3 has one full layer in six, Cohere 2 one in four."""

    def windows(given):
        return "".join(("s" if group.attention.window else "F") * group.count for group in read(given).layers)

    assert windows(PUBLISHED["gemma-2-2b"][0]).startswith("sFsFsF")
    assert windows(PUBLISHED["gemma-3-1b"][0]).startswith("sssssFsssssF")
    assert windows(PUBLISHED["command-r7b"][0]).startswith("sssFsssF")


def test_a_language_model_inside_a_multimodal_config_is_found():
    inner = {k: v for k, v in PLAIN.items() if k != "tie_word_embeddings"} | {"model_type": "qwen2"}
    whole = {"model_type": "internvl_chat", "llm_config": inner, "tie_word_embeddings": True}
    model = read(whole)
    assert model.tie_embeddings
    assert model.notes == ("the language model alone is counted: no tower for pictures, video or sound",)
    assert model.layers[0].attention.bias


def test_an_unknown_type_says_what_was_taken_for_granted():
    silent = {k: v for k, v in PLAIN.items() if k != "tie_word_embeddings"} | {"model_type": "brandnew"}
    assert "a head of its own" in read(silent).notes[0]
    assert "a head of its own" not in read(PLAIN | {"model_type": "brandnew"}).notes[0]
