"""The two seed formulas come out of the laws exactly in the ideal limit, by hand arithmetic."""

from __future__ import annotations

import pytest

from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_setting
from pdplan.explain import derive
from pdplan.layout import Layout, decode_load, prefill_load
from pdplan.ops import Op
from pdplan.plan import Colocated, PoolPlan
from pdplan.step import Setting, StepTime, step_time
from pdplan.workload import Slo, Workload

# Llama-3.1-8B, from its config.json: 32 layers, hidden 4096, 32 heads and 8 KV heads of 128,
# MLP width 14336, vocabulary 128256.
LAYER = 4096 * 4096 + 4096 * 2 * 8 * 128 + 4096 * 4096 + 3 * 4096 * 14336
LAYERS = 32 * LAYER
HEAD = 4096 * 128256
KV_BYTES_PER_TOKEN = 32 * 2 * 8 * 128 * 2
# H100 SXM data sheet, dense.
FLOP_PER_S, BYTES_PER_S = 989e12, 3.35e12

CATALOG = Catalog()


def setting(model: str, hardware: str, precision: str) -> Setting:
    world = World(
        models={model: CATALOG.model(model)},
        accelerators={hardware: CATALOG.accelerator(hardware)},
        prices={},
        ideal=True,
    )
    pool = PoolPlan(hardware=hardware, workers=1)
    plan = Colocated(model=model, precision=precision, kv_precision="bf16", colocated=pool)
    return build_setting(world, plan, hardware)


LLAMA = setting("llama-3.1-8b", "h100", "bf16")


def products_s(step: StepTime) -> float:
    """Seconds of the layers' matrix products."""
    return sum(
        float(t.total_s)
        for t in step.terms
        if isinstance(t.source, Op) and t.source.family in ("gemm", "experts") and "head" not in t.name
    )


def test_the_numbers_by_hand() -> None:
    assert (LAYERS + HEAD) * 2 == 15_009_316_864  # issue 2: bytes streamed a decode step in BF16
    assert KV_BYTES_PER_TOKEN == 131_072


@pytest.mark.parametrize("context", [0, 1, 100, 1000])
def test_decode_is_bytes_over_bandwidth(context: int) -> None:
    step = step_time(LLAMA, Layout(), decode_load(1.0, context, context))
    expected = (15_009_316_864 + context * KV_BYTES_PER_TOKEN) / BYTES_PER_S
    assert float(step.total_s) == pytest.approx(expected, rel=1e-12)


def test_decode_averages_the_growing_context() -> None:
    step = step_time(LLAMA, Layout(), decode_load(1.0, 100, 300))
    assert float(step.total_s) == pytest.approx(
        (15_009_316_864 + 200 * KV_BYTES_PER_TOKEN) / BYTES_PER_S, rel=1e-12
    )


@pytest.mark.parametrize("tokens", [512, 2048, 8192])
def test_prefill_is_two_flop_per_parameter_and_token(tokens: int) -> None:
    step = step_time(LLAMA, Layout(), prefill_load(1.0, tokens))
    assert products_s(step) == pytest.approx(tokens * 2 * LAYERS / FLOP_PER_S, rel=1e-12)
    # The LM head runs for the last token only, and reads its weights: memory-bound.
    head = next(t for t in step.terms if t.name.startswith("LM head"))
    assert float(head.total_s) == pytest.approx(HEAD * 2 / BYTES_PER_S, rel=1e-12)
    # 4 FLOP per pair, head and dimension; n(n+1)/2 pairs; 32 heads of 128, 32 layers.
    core = next(t for t in step.terms if t.name.startswith("attention core"))
    pairs = tokens * (tokens + 1) / 2
    assert float(core.total_s) == pytest.approx(32 * 4 * pairs * 32 * 128 / FLOP_PER_S, rel=1e-12)
    total = products_s(step) + float(head.total_s) + float(core.total_s)
    assert float(step.total_s) == pytest.approx(total, rel=1e-12)


def test_a_short_prompt_is_the_seed_to_within_attention() -> None:
    step = step_time(LLAMA, Layout(), prefill_load(1.0, 512))
    seed = 512 * 2 * LAYERS / FLOP_PER_S
    assert seed < float(step.total_s) < 1.06 * seed


def test_experts_read_what_one_token_visits() -> None:
    """Qwen3-30B-A3B: 48 layers, hidden 2048, 32 heads and 4 KV heads of 128, 8 of 128 experts of 768."""
    attention = 2048 * 32 * 128 * 2 + 2048 * 2 * 4 * 128
    layer = attention + 2048 * 128 + 8 * 3 * 2048 * 768
    weights = (48 * layer + 2048 * 151936) * 2
    moe = setting("qwen3-30b-a3b", "h100", "bf16")
    step = step_time(moe, Layout(), decode_load(1.0, 1000, 1000))
    kv = 1000 * 98_304  # issue 2: KV bytes per token
    assert float(step.total_s) == pytest.approx((weights + kv) / BYTES_PER_S, rel=1e-12)
    # A long prompt touches every expert, each token 8 of them.
    long = step_time(moe, Layout(), prefill_load(1.0, 8192))
    compute = sum(
        float(t.compute_s)
        for t in long.terms
        if isinstance(t.source, Op) and t.source.family in ("gemm", "experts") and "head" not in t.name
    )
    assert compute == pytest.approx(8192 * 2 * 48 * layer / FLOP_PER_S, rel=1e-12)


def test_a_batch_reads_the_weights_once() -> None:
    step = step_time(LLAMA, Layout(), decode_load(16.0, 500, 500))
    expected = (15_009_316_864 + 16 * 500 * KV_BYTES_PER_TOKEN) / BYTES_PER_S
    assert float(step.total_s) == pytest.approx(expected, rel=1e-12)


def test_explain_shows_the_two_numbers() -> None:
    world = World(
        models={"llama-3.1-8b": CATALOG.model("llama-3.1-8b")},
        accelerators={"h100": CATALOG.accelerator("h100")},
        prices={},
    )
    plan = Colocated(
        model="llama-3.1-8b",
        precision="bf16",
        kv_precision="bf16",
        colocated=PoolPlan(hardware="h100", workers=1),
    )
    derivation = derive(world, plan, Workload(isl=512, osl=128, rate=1), Slo())
    seed = {x.symbol: x.value for x in derivation.section("seed").lines}
    ideal = {x.symbol: x.value for x in derivation.section("ideal").lines}
    assert seed["t_prefill"] == pytest.approx(512 * 2 * LAYERS / FLOP_PER_S, rel=1e-12)
    assert seed["t_decode"] == pytest.approx(
        (15_009_316_864 + 576 * KV_BYTES_PER_TOKEN) / BYTES_PER_S, rel=1e-12
    )
    assert ideal["t_bf16"] == pytest.approx(seed["t_prefill"], rel=1e-12)
    assert ideal["t_bytes"] == pytest.approx(seed["t_decode"], rel=1e-12)
    assert ideal["t"] == pytest.approx(seed["t_decode"], rel=1e-12)  # nothing but bytes at batch 1
