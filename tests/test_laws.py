"""Laws against counting by hand, and the properties that hold whatever the constants."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan.laws.attention import attention_flop, causal_pairs, mean_clipped_context
from pdplan.laws.experts import busiest_rank_factor, expected_touched_experts
from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.laws.roofline import Roofline, rounded_roofline_time_s
from pdplan.laws.speculation import acceptance_of_tokens, long_answer_tokens, tokens_per_step

positive = st.floats(1e-6, 1e3)


@given(compute=positive, memory=positive, exponent=st.sampled_from([1.0, 2.0, 3.5, np.inf]))
def test_a_rounded_roofline_lies_between_the_slower_part_and_the_sum(
    compute: float, memory: float, exponent: float
) -> None:
    time = float(rounded_roofline_time_s(compute, memory, exponent))
    assert max(compute, memory) * (1 - 1e-12) <= time <= (compute + memory) * (1 + 1e-12)


@given(work=positive)
def test_the_roofline_is_continuous_at_the_ridge(work: float) -> None:
    below = float(rounded_roofline_time_s(work * (1 - 1e-9), work))
    above = float(rounded_roofline_time_s(work * (1 + 1e-9), work))
    assert above == pytest.approx(below, rel=1e-8)


@given(
    flop=st.floats(1e6, 1e15),
    moved=st.floats(1e3, 1e11),
    faster=st.floats(1, 10),
    efficiency=st.floats(0.1, 1),
)
def test_more_flop_per_s_or_bandwidth_is_never_slower(
    flop: float, moved: float, faster: float, efficiency: float
) -> None:
    law = Roofline(compute_efficiency=efficiency, memory_efficiency=efficiency, exponent=2.0, overhead_s=3e-6)
    counts = Counts(flop=flop, stored_bytes=moved)

    def time_s(peak: float, bandwidth: float) -> float:
        rates = Rates(peak_flop_per_s=peak, bandwidth_bytes_per_s=bandwidth)
        return float(kernel_time(counts, rates, law).total_s)

    base = time_s(1e15, 4e12)
    assert time_s(1e15 * faster, 4e12) <= base
    assert time_s(1e15, 4e12 * faster) <= base


def test_the_ideal_kernel_is_the_classical_roofline() -> None:
    # 2·1·8192·8192 FLOP at 989 TFLOP/s and 2·8192² bytes at 3.35 TB/s: memory, 40.1 µs by hand.
    flop, moved = 2.0 * 8192**2, 8192**2 * 2.0
    h100 = Rates(peak_flop_per_s=989e12, bandwidth_bytes_per_s=3.35e12)
    time = kernel_time(Counts(flop=flop, stored_bytes=moved), h100, Roofline())
    assert float(time.total_s) == pytest.approx(2 * 8192**2 / 3.35e12)


@given(new=st.integers(0, 60), past=st.integers(0, 60), limit=st.one_of(st.none(), st.integers(1, 40)))
def test_causal_pairs_are_what_counting_gives(new: int, past: int, limit: int | None) -> None:
    counted = sum(min(past + i, limit or 10**9) for i in range(1, new + 1))
    assert float(causal_pairs(new, past, limit)) == pytest.approx(counted)


@given(first=st.floats(0, 500), span=st.floats(0, 500), limit=st.one_of(st.none(), st.floats(1, 600)))
def test_mean_context_is_the_integral(first: float, span: float, limit: float | None) -> None:
    grid = first + span * (np.arange(20_000) + 0.5) / 20_000
    mean = np.minimum(grid, np.inf if limit is None else limit).mean()
    assert float(mean_clipped_context(first, first + span, limit)) == pytest.approx(mean, rel=1e-4, abs=1e-6)


def test_attention_flop_of_llama_70b_by_hand() -> None:
    # 64 heads of 128: scores and values, 2 FLOP a multiply-add, 128 + 128 per pair and head.
    assert float(attention_flop(1000, 64, 128, 128)) == 1000 * 64 * 2 * (128 + 128)


@pytest.mark.parametrize(("tokens", "experts", "k"), [(1, 8, 2), (7, 64, 6), (128, 256, 8)])
def test_touched_experts_agree_with_rolling_dice(tokens: int, experts: int, k: int) -> None:
    rng = random.Random(1)
    trials = [len({e for _ in range(tokens) for e in rng.sample(range(experts), k)}) for _ in range(800)]
    expected = float(expected_touched_experts(tokens, experts, k))
    assert expected == pytest.approx(sum(trials) / len(trials), rel=0.02)


@given(tokens=st.floats(1, 1e5), ranks=st.sampled_from([2, 8, 32, 256]))
def test_the_busiest_rank_has_at_least_the_mean_and_at_most_everything(tokens: float, ranks: int) -> None:
    factor = float(busiest_rank_factor(ranks, tokens * 8))
    assert 1.0 <= factor <= ranks
    assert float(busiest_rank_factor(ranks, tokens * 16)) <= factor + 1e-12
    assert float(busiest_rank_factor(1, tokens)) == 1.0


def test_long_answers_accept_the_first_draft_more_often_with_every_doubling() -> None:
    lengths = np.array([1024.0, 2048.0, 4096.0, 8192.0])
    assert np.diff(long_answer_tokens(1, 0.6, 0.04, lengths)) == pytest.approx([0.04] * 3)
    # Of three drafts the second and third are accepted as ever, 0.6 each: 1 + 0.04 · (1 + 0.6 + 0.36) more.
    assert np.diff(long_answer_tokens(3, 0.6, 0.04, lengths)) == pytest.approx([0.04 * 1.96] * 3)
    assert float(long_answer_tokens(1, 0.9, 0.1, 2.0**20)) == pytest.approx(1.98)
    assert float(long_answer_tokens(1, 0.1, 0.1, 1.0)) == 1.0
    assert float(long_answer_tokens(0, 0.6, 0.04, 8192)) == 1.0


@given(st.integers(1, 3), st.floats(0.05, 0.95))
def test_acceptance_of_tokens_is_the_inverse_of_tokens(drafted: int, accepted: float) -> None:
    assert long_answer_tokens(drafted, accepted, 0.04, 1024) == pytest.approx(
        tokens_per_step(drafted, accepted)
    )
    tokens = float(tokens_per_step(drafted, accepted))
    assert acceptance_of_tokens(drafted, tokens) == pytest.approx(accepted)


@given(k=st.integers(0, 8), a=st.floats(0, 1))
def test_speculation_yields_between_one_and_all_tokens(k: int, a: float) -> None:
    tokens = float(tokens_per_step(k, a))
    assert 1.0 <= tokens <= k + 1 + 1e-9
    # Leviathan et al. 2023, eq. 1, as the sum it is: 1 + a + a² + …
    assert tokens == pytest.approx(sum(a**i for i in range(k + 1)), rel=1e-9)


def test_scalars_and_arrays_agree() -> None:
    pairs = causal_pairs(np.array([1.0, 50.0]), np.array([10.0, 0.0]), 20)
    assert pairs == pytest.approx([float(causal_pairs(1, 10, 20)), float(causal_pairs(50, 0, 20))])
