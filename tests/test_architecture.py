"""Counts of the architecture against hand arithmetic, papers and published checkpoint sizes."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pdplan.architecture.checkpoints import checkpoint_for
from pdplan.architecture.mixers import CompressedSparse, GatedLinear, GroupedQuery, Latent, StateSpace
from pdplan.architecture.model import Checkpoint, Model
from pdplan.architecture.parameters import (
    draft_parameters,
    index_bytes_per_token,
    kv_bytes_per_sequence,
    kv_bytes_per_token,
    matrix_parameters_per_token,
    parameters_active,
    parameters_total,
    state_bytes_per_sequence,
    streamed_weight_bytes,
    weight_bytes,
)
from pdplan.errors import UnknownNameError

CATALOG = Path(__file__).parents[1] / "models_catalog"
GIB = 2**30


def model(name: str) -> Model:
    return TypeAdapter(Model).validate_python(yaml.safe_load((CATALOG / f"{name}.yaml").read_text()))


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        # Hand: layers · 2 · kv_heads · head_dim · 2 B
        ("llama-3.1-8b", 32 * 2 * 8 * 128 * 2),
        ("llama-3.1-70b", 80 * 2 * 8 * 128 * 2),
        ("qwen3-30b-a3b", 48 * 2 * 4 * 128 * 2),
        ("qwen3-235b-a22b", 94 * 2 * 4 * 128 * 2),
        # Hand: layers · (kv_lora_rank 512 + rope 64) · 2 B; DeepSeek-V3: 70,272 B
        ("deepseek-v3", 61 * 576 * 2),
        ("deepseek-v2-lite", 27 * 576 * 2),
        # Qwen3.5: every fourth of 60 layers attends, 2 KV heads of 256
        ("qwen3.5-397b-a17b", 15 * 2 * 2 * 256 * 2),
        # Gemma 4 26B: 25 windowed layers of 8 · 256, 5 global ones of 2 · 512
        ("gemma-4-26b-a4b", (25 * 2 * 8 * 256 + 5 * 2 * 2 * 512) * 2),
        # MiMo-V2: 9 global layers with 4 KV heads, 39 windowed with 8, K 192 and V 128 wide
        ("mimo-v2-flash", (9 * 4 + 39 * 8) * (192 + 128) * 2),
    ],
)
def test_kv_bytes_per_token(name, bytes_per_token):
    assert kv_bytes_per_token(model(name)) == bytes_per_token


def test_the_required_figures_are_those_of_the_hand_arithmetic():
    names = (
        "llama-3.1-8b",
        "llama-3.1-70b",
        "deepseek-v3",
        "deepseek-v2-lite",
        "qwen3-30b-a3b",
        "qwen3-235b-a22b",
    )
    assert [kv_bytes_per_token(model(n)) for n in names] == [131072, 327680, 70272, 31104, 98304, 192512]


def test_index_keys_have_their_own_bytes():
    # DeepSeek-V3.2-Exp: 128 FP8 elements a layer; GLM-5.2: 21 of 78 layers own an indexer
    assert index_bytes_per_token(model("deepseek-v3.2")) == 61 * 128
    assert index_bytes_per_token(model("glm-5.2")) == 21 * 128
    assert index_bytes_per_token(model("deepseek-v3")) == 0


def test_deepseek_v4_keeps_9_62_gib_of_a_million_tokens():
    # "9.62 GiB/sequence (in bf16)" at 1M for V4-Pro: AINews, 2026-04-24
    # https://news.triggerhive.com/entry/2026-04-25/ai-ainews-deepseek-v4-pro-16t-a49b-and-flash-284b-a13b-base-and
    size = kv_bytes_per_sequence(model("deepseek-v4-pro"), 2**20, 2, index_bytes_per_element=2)
    assert size / GIB == pytest.approx(9.62, abs=0.01)


def test_deepseek_v4_layers_have_two_cores_and_one_indexer_in_csa():
    near, far = next(
        g.attention for g in model("deepseek-v4-pro").layers if g.attention.compress_ratio == 4
    ).cores()
    assert (near.window, near.compression, far.window, far.compression, far.top_k) == (128, 1, None, 4, 1024)
    assert far.indexer is not None
    assert near.indexer is None
    heavy = next(g.attention for g in model("deepseek-v4-pro").layers if g.attention.compress_ratio == 128)
    assert heavy.cores()[1].top_k is None
    assert heavy.cores()[1].indexer is None


@pytest.mark.parametrize(
    ("name", "gib", "tolerance"),
    [
        # gpt-oss model card (arXiv 2508.10925, table 1): checkpoints of 60.8 and 12.8 GiB
        ("gpt-oss-120b", 60.8, 0.001),
        ("gpt-oss-20b", 12.8, 0.002),
        # Repository of Kimi-K2-Instruct: 958.52 GB as Simon Willison's calculator (2^30) shows, 2025-07-11
        ("kimi-k2", 958.52, 0.001),
        # Kimi K2.5: 595 GB on Hugging Face (https://huggingface.co/ISTA-DASLab/Kimi-K2.5-P48-NVFP4-W4A4-Preview
        # states it for the same layers in NVFP4, also 4.5 bit an element); its vision tower is 0.8 GB of it
        ("kimi-k2.5", 595e9 / GIB, 0.002),
        # DeepSeek-V4: about 865 and 160 GB, MTP included (https://framia.pro/page/en-US/news/deepseek-v4-parameters)
        ("deepseek-v4-pro", 865e9 / GIB, 0.005),
        ("deepseek-v4-flash", 160e9 / GIB, 0.005),
    ],
)
def test_checkpoint_sizes(name, gib, tolerance):
    entry = model(name)
    own = next(iter(entry.checkpoints.values()))
    assert weight_bytes(entry, own, draft=True) / GIB == pytest.approx(gib, rel=tolerance)


def test_nvfp4_keeps_most_of_attention_and_the_draft_layer_in_16_bit():
    # nvidia/DeepSeek-R1-0528-NVFP4-v2 holds 413,340,567,567 bytes (a copy of its repository, 2026-04-29), the
    # draft module's own tables among them. Its card: `wo` of attention is quantised, other than in version 1.
    entry = model("deepseek-r1")
    stored = checkpoint_for(entry, "fp4")
    tables = 2 * 2 * entry.vocab_size * entry.hidden_size
    assert weight_bytes(entry, stored, draft=True) + tables == pytest.approx(413_340_567_567, rel=2e-4)
    for part in ("attention_output", "draft"):
        other = dataclasses.replace(stored, **{part: None})
        assert weight_bytes(entry, other, draft=True) + tables != pytest.approx(413_340_567_567, rel=0.02)


def test_glm_5_1_in_nvfp4_with_its_draft_layer():
    # https://huggingface.co/CortexLM/GLM-5.1-NVFP4-MTP: ~441 GB, all linear layers NVFP4, lm_head BF16,
    # of it mtp.safetensors in BF16 19.9 GB
    entry = model("glm-5.1")
    everything = Checkpoint(attention="nvfp4", dense="nvfp4", experts="nvfp4", shared="nvfp4", source="card")
    assert 2 * draft_parameters(entry) == pytest.approx(19.9e9, rel=0.002)
    assert weight_bytes(entry, everything) + 19.9e9 == pytest.approx(441e9, rel=0.005)


def test_deepseek_v3_draft_module():
    # DeepSeek-V3 README_WEIGHTS: 11.5B parameters unique to the MTP module,
    # 0.9B each for the shared embedding and head, 14B together
    entry = model("deepseek-v3")
    assert draft_parameters(entry) == pytest.approx(11.5e9, rel=0.01)
    assert draft_parameters(entry) + 2 * 129280 * 7168 == pytest.approx(14e9, abs=0.6e9)


def test_qwen_2_5_has_exactly_its_parameters():
    assert parameters_total(model("qwen2.5-0.5b")) == 494_032_768  # Hugging Face, safetensors


def test_llama_streams_its_matrices():
    # Hand: 32 · (4096·(4096 + 2·1024 + 4096) + 3·4096·14336) + 4096·128256 elements of 2 B
    entry = model("llama-3.1-8b")
    assert streamed_weight_bytes(entry, entry.checkpoints["bf16"]) == 15_009_316_864
    assert 2 * sum(matrix_parameters_per_token(entry)) == 15_009_316_864


def test_dense_models_are_fully_active():
    assert parameters_active(model("qwen3-32b")) == parameters_total(model("qwen3-32b"))


def test_recurrent_states():
    # Qwen3.5-397B: 45 layers · (64·128·128 + 3·(2·16·128 + 64·128)) FP32 elements
    assert state_bytes_per_sequence(model("qwen3.5-397b-a17b")) == 45 * (64 * 128 * 128 + 3 * 12288) * 4
    # Nemotron 3 Nano: 23 Mamba-2 layers · (64·64·128 + 3·(64·64 + 2·8·128)) FP32 elements
    assert state_bytes_per_sequence(model("nemotron-3-nano-30b-a3b")) == 23 * (64 * 64 * 128 + 3 * 6144) * 4
    assert state_bytes_per_sequence(model("llama-3.1-8b")) == 0


MIXERS = [
    GroupedQuery(heads=8, kv_heads=2, head_dim=64),
    Latent(heads=8, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128),
    CompressedSparse(heads=8, head_dim=512, q_lora_rank=64, o_groups=2, o_lora_rank=64, window=128),
    GatedLinear(key_heads=4, value_heads=8, key_head_dim=64, value_head_dim=64),
    StateSpace(heads=8, head_dim=64, state_size=128, groups=2),
]


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda m: m.kind)
def test_every_mixer_has_either_cores_or_a_state(mixer):
    assert bool(mixer.cores()) != (mixer.state() is not None)
    assert all(m.parameters > 0 for m in mixer.matrices(256))
    assert mixer.vector_parameters(256) >= 0


def test_mamba_parameters_by_hand():
    # mamba_ssm Mamba2: in_proj d·(2·d_inner + 2·G·N + H),
    # conv (kernel + bias)·(d_inner + 2·G·N), 3·H, norm, out_proj
    mixer = StateSpace(heads=8, head_dim=64, state_size=128, groups=2)
    inner, conv = 8 * 64, 8 * 64 + 2 * 2 * 128
    assert sum(m.parameters for m in mixer.matrices(256)) == 256 * (inner + conv + 8) + inner * 256
    assert mixer.vector_parameters(256) == 5 * conv + 3 * 8 + inner


def test_gpt_oss_is_mxfp4_whatever_it_says():
    entry = model("gpt-oss-120b")
    found = [dataclasses.asdict(checkpoint_for(entry, p)) for p in ("fp4", "fp8", "bf16")]
    assert found[0] == found[1] == found[2]
    assert found[0]["experts"] == "mxfp4"
    assert found[0]["attention"] == "bf16"


def test_default_checkpoints():
    # nvidia/Qwen3-30B-A3B-NVFP4 quantises attention,
    # nvidia/DeepSeek-V3-0324-NVFP4 does not (hf_quant_config.json)
    llama = dataclasses.replace(model("llama-3.1-8b"), checkpoints={})
    deepseek = dataclasses.replace(model("deepseek-v3"), checkpoints={})
    assert checkpoint_for(llama, "fp4").attention == "nvfp4"
    assert checkpoint_for(deepseek, "fp4").attention == "bf16"
    assert checkpoint_for(llama, "fp8").head == checkpoint_for(llama, "int4").router == "bf16"
    with pytest.raises(UnknownNameError, match="did you mean"):
        checkpoint_for(llama, "fp88")


def test_halving_the_storage_halves_the_layers():
    entry = dataclasses.replace(model("llama-3.1-8b"), checkpoints={})
    layers, head = matrix_parameters_per_token(entry)
    assert streamed_weight_bytes(entry, checkpoint_for(entry, "fp8")) == layers + 2 * head


def test_catalog_values_are_json():
    assert json.dumps(dataclasses.asdict(model("kimi-k3")))
