"""Attention's counts by hand, and fits that recover constants and meet published kernels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pdplan.calibration import attention
from pdplan.calibration.attention_counts import Core, decode_counts, indexer_counts, prefill_counts
from pdplan.calibration.fit import predicted_s
from pdplan.calibration.pooling import Measured, blocks, not_from_cache, without_fallbacks
from pdplan.calibration.tables import Sheet
from pdplan.laws.attention import causal_pairs, mean_clipped_context
from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.laws.roofline import Roofline

SHEET = Sheet(name="h200", generation="hopper", peaks={"bf16": 989e12, "fp8": 1979e12}, bandwidth=4.8e12)


def test_pairs_by_enumeration() -> None:
    """Every query i of `new` after `past` sees min(past + i, limit) keys."""
    for new, past, limit in [
        (5, 0, None),
        (5, 3, None),
        (7, 0, 3),
        (7, 2, 4),
        (4, 9, 6),
        (6, 0, 6),
        (3, 1, 1),
    ]:
        counted = sum(min(past + i, limit or 10**9) for i in range(1, new + 1))
        assert float(causal_pairs(new, past, limit)) == counted
    limits = np.array([3.0, np.inf])
    assert causal_pairs(np.array([7.0, 7.0]), 0, limits).tolist() == [18.0, 28.0]


def test_mean_context_by_enumeration() -> None:
    steps = np.linspace(100, 1000, 200_001)
    for limit in (50, 300, 2000):
        assert float(mean_clipped_context(100, 1000, limit)) == pytest.approx(
            np.minimum(steps, limit).mean(), rel=1e-5
        )


def one(**values: float) -> dict[str, np.ndarray]:
    return {k: np.array([v]) for k, v in values.items()}


def test_decode_counts_by_hand() -> None:
    """Llama-3.1-70B on one of 8 GPUs: 8 heads on 1 KV head of 128; 16 sequences of 1,000 tokens."""
    counts = decode_counts(
        **one(batch=16, entries=1000, group=8),
        core=Core(**one(heads=8, kv_elements=256, qk_dim=128, v_dim=128, kv_bytes=2)),
    )
    assert counts["stored_bytes"][0] == 16 * 1000 * 2 * 128 * 2
    assert counts["flop"][0] == 2 * 16 * 1000 * 8 * 256
    assert counts["activation_bytes"][0] == 16 * 8 * 256 * 2


def test_prefill_counts_by_hand() -> None:
    """MLA of DeepSeek-V3, expanded: 128 heads of 192 + 128, 1,024 tokens after 512 cached ones."""
    counts = prefill_counts(
        **one(batch=1, new=1024, past=512),
        core=Core(**one(heads=128, kv_elements=576, qk_dim=192, v_dim=128, kv_bytes=2)),
    )
    pairs = 1024 * 512 + 1024 * 1025 / 2
    assert counts["flop"][0] == 2 * pairs * 128 * 320
    assert counts["scores"][0] == pairs * 128
    assert counts["stored_bytes"][0] == 512 * 576 * 2
    assert counts["rows"][0] == 1024 * 128


def test_indexer_counts_by_hand() -> None:
    """DeepSeek-V3.2's indexer, 64 heads of 128: one query after 8,191 tokens."""
    counts = indexer_counts(np.array([1.0]), np.array([1.0]), np.array([8191.0]), 64, 128)
    assert counts["flop"][0] == 2 * 8192 * 64 * 128
    assert counts["stored_bytes"][0] == 8192 * 128
    assert counts["activation_bytes"][0] == 8192 * 4


def synthetic(family: str, law: Roofline, dtype: str = "bf16") -> Measured:
    random = np.random.default_rng(7)
    n = 600
    batch, heads = 2.0 ** random.integers(0, 8, n), 2.0 ** random.integers(1, 6, n)
    length, dim = np.round(2.0 ** random.uniform(6, 14, n)), random.choice([64.0, 128.0, 256.0], n)
    core = Core(heads=heads, kv_elements=2 * dim, qk_dim=dim, v_dim=dim)
    if family == "decode_attention":
        counts = decode_counts(batch, length, core, heads)
    else:
        counts = prefill_counts(batch, length, 0 * length, core)
    measured = Measured(
        family=family,
        dtype=dtype,
        accelerator="h200",
        sheet=SHEET,
        counts=counts,
        seconds=np.ones(n),
        engine=np.full(n, "vllm"),
        shapes={"batch": batch},
        source="aic-attention",
    )
    seconds = predicted_s(measured.sample().counts, SHEET.rates(dtype), law)
    return dataclasses.replace(measured, seconds=seconds * np.exp(random.normal(0, 0.02, n)))


def test_decode_fit_recovers_its_constants() -> None:
    truth = Roofline(
        memory_efficiency=0.82, overhead_s=9e-6, compute_efficiency=0.6, row_tile=64, activation_traffic=3.0
    )
    found = blocks([synthetic("decode_attention", truth)], attention.RECIPES)
    entry = next(b.entry for b in found if b.scope == "accelerators")
    assert entry["median_error"] < 0.03
    assert entry["memory_efficiency"] == pytest.approx(0.82, rel=0.05)
    assert entry["overhead_s"] == pytest.approx(9e-6, rel=0.05)


def test_prefill_fit_recovers_its_constants() -> None:
    truth = Roofline(
        compute_efficiency=0.75,
        memory_efficiency=0.8,
        overhead_s=1.2e-5,
        exponent=1.0,
        activation_traffic=2.0,
        row_tile=17_000,
        score_flop=250.0,
    )
    found = blocks([synthetic("prefill_attention", truth)], attention.RECIPES)
    entry = next(b.entry for b in found if b.scope == "accelerators")
    assert entry["median_error"] < 0.03
    assert entry["compute_efficiency"] == pytest.approx(0.75, rel=0.1)
    assert entry["score_flop"] == pytest.approx(250.0, rel=0.15)
    assert entry["row_tile"] == pytest.approx(17_000, rel=0.15)


def test_every_family_has_a_default_for_any_type() -> None:
    found = blocks([synthetic("decode_attention", Roofline(overhead_s=1e-5))], attention.RECIPES)
    assert {(b.scope, b.dtype) for b in found} == {
        ("accelerators", "bf16"),
        ("generations", "bf16"),
        ("defaults", "bf16"),
        ("defaults", ""),
    }


def test_engines_with_fall_back_kernels_and_cached_rows_are_left_out() -> None:
    good = synthetic("decode_attention", Roofline(memory_efficiency=0.8, overhead_s=1e-5))
    n = len(good.seconds)
    both = dataclasses.replace(
        good,
        counts={k: np.concatenate([v, v]) for k, v in good.counts.items()},
        seconds=np.concatenate([good.seconds, 4 * good.seconds]),
        engine=np.concatenate([np.full(n, "vllm"), np.full(n, "sglang")]),
        shapes={k: np.concatenate([v, v]) for k, v in good.shapes.items()},
    )
    assert set(without_fallbacks(both).engine) == {"vllm"}
    hot = dataclasses.replace(good, seconds=np.where(np.arange(n) < 100, 1e-12, good.seconds))
    assert len(not_from_cache(hot).seconds) == n - 100


def test_scores_and_filling_only_slow_down() -> None:
    law = Roofline(compute_efficiency=0.8, row_tile=2e4, score_flop=300.0, exponent=1.0)
    counts = prefill_counts(
        **one(batch=1, new=4096, past=0),
        core=Core(**one(heads=8, kv_elements=2048, qk_dim=128, v_dim=128, kv_bytes=2)),
    )
    h200 = Rates(peak_flop_per_s=989e12, bandwidth_bytes_per_s=4.8e12)
    plain = kernel_time(Counts(flop=counts["flop"], stored_bytes=0.0), h200, law)
    filled = {name: counts[name] for name in ("flop", "rows", "groups", "scores")}
    full = kernel_time(Counts(stored_bytes=0.0, **filled), h200, law)
    # by hand: (512 + 300)/512 of the arithmetic, half of 20,000 rows idle beside 32,768
    assert full.compute_s / plain.compute_s == pytest.approx((812 / 512) * (1 + 1e4 / 32768))
