"""Memory fit against what vLLM reported on H100 (79.18 GiB, 0.9 utilisation; issue 2)."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import model, world

from pdplan.architecture.stack import fold
from pdplan.architecture.stages import whole
from pdplan.compose import build_setting
from pdplan.layout import Layout
from pdplan.memory import MemoryBudget, memory_budget, sequence_bytes_per_gpu, weight_bytes_per_gpu
from pdplan.plan import Serving

GIB = 2**30


def budget(name: str, hardware: str, tp: int, precision: str, context: float = 2000) -> MemoryBudget:
    w = world((name,), (hardware,))
    setting = build_setting(w, Serving(model=name, precision=precision, kv_precision="bf16"), hardware)
    return memory_budget(setting, Layout(tp=tp), context)


@pytest.mark.parametrize(
    ("name", "tp", "precision", "cache_gib", "within"),
    [
        ("llama-3.1-8b", 1, "bf16", 51.0, 1.0),
        ("qwen3-32b", 2, "bf16", 34.5, 1.0),
        ("gpt-oss-120b", 1, "fp4", 3.3, 1.0),
    ],
)
def test_cache_left_on_h100_as_vllm_reports_it(
    name: str, tp: int, precision: str, cache_gib: float, within: float
) -> None:
    assert float(budget(name, "h100", tp, precision).cache) / GIB == pytest.approx(cache_gib, abs=within)


def test_what_fits_and_what_does_not() -> None:
    assert float(budget("llama-3.3-70b", "h100", 1, "fp8").cache) < 0
    assert float(budget("llama-3.3-70b", "h100", 2, "fp8").cache) > 0
    assert float(budget("deepseek-r1", "h100", 8, "fp8").cache) < 0
    assert float(budget("deepseek-r1", "h200", 8, "fp8").cache) > 0


@pytest.mark.parametrize("tp", [1, 2, 4, 8, 16])
def test_latent_cache_is_whole_on_every_rank(tp: int) -> None:
    # DeepSeek-V2-Lite: 27 layers x 576 elements x 2 bytes = 31,104 bytes per token, at every tp (issue 2).
    name = "deepseek-v2-lite"
    w = world((name,), ("h100",))
    setting = build_setting(w, Serving(model=name, precision="bf16", kv_precision="bf16"), "h100")
    assert float(sequence_bytes_per_gpu(fold(model(name)), setting.formats, Layout(tp=tp), 1)) == 31_104


def test_heads_are_copied_where_there_are_fewer_than_ranks() -> None:
    # Qwen3-30B-A3B has 4 KV heads: 48 layers x 2 x 4 x 128 x 2 bytes = 98,304 bytes per token.
    name = "qwen3-30b-a3b"
    w = world((name,), ("h100",))
    setting = build_setting(w, Serving(model=name, precision="bf16", kv_precision="bf16"), "h100")
    stack = fold(model(name))
    per_rank = [
        float(sequence_bytes_per_gpu(stack, setting.formats, Layout(tp=tp), 1)) for tp in (1, 2, 4, 8)
    ]
    assert per_rank == [98_304, 49_152, 24_576, 24_576]


def test_expert_weights_are_spread_and_attention_is_copied() -> None:
    name = "deepseek-r1"
    w = world((name,), ("h200",))
    setting = build_setting(w, Serving(model=name, precision="fp8", kv_precision="bf16"), "h200")
    stack = fold(model(name))

    def weights(**layout: int) -> float:
        return float(weight_bytes_per_gpu(stack, setting.formats, Layout(**layout), whole(stack)))

    # 58 layers x 256 experts x 3 x 7168 x 2048 FP8 weights, one FP32 scale per 128 x 128.
    experts = 58 * 256 * 3 * 7168 * 2048 * (1 + 4 / 128**2)
    # (The experts' 256 router biases of two bytes a layer are spread too: 58 x 256 x 2 / 32 bytes.)
    assert weights(dp=16, ep=16) - weights(dp=32, ep=32) == pytest.approx(
        (experts + 58 * 512) / 32, rel=1e-12
    )


def test_sequences_shrink_with_context_and_grow_with_ranks() -> None:
    held = [
        float(budget("llama-3.1-8b", "h100", 1, "bf16", context).max_sequences)
        for context in (1000, 4000, 16000)
    ]
    assert held[0] > held[1] > held[2] > 0
    assert np.all(budget("llama-3.1-8b", "h100", 2, "bf16").max_sequences > 100)
