"""Copies of busy experts: the law against a simulation of the balancer, published counts, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan.efficiency import engine_file
from pdplan.laws.experts import RoutedLoad, balanced_rank_factor, busiest_rank_factor, expert_slots

MANY = 1e15


def placed(popularity: np.ndarray, ranks: int, slots: int) -> float:
    """Busiest rank over the mean as deepseek-ai/EPLB's README tells it: replicate the heaviest, then pack the
    heaviest first onto the lightest rank with room."""
    copies = np.ones(len(popularity))
    for _ in range(slots - len(popularity)):
        copies[np.argmax(popularity / copies)] += 1
    each = np.sort(np.repeat(popularity / copies, copies.astype(int)))[::-1]
    load, held = np.zeros(ranks), np.zeros(ranks)
    for weight in each:
        rank = int(np.argmin(np.where(held < slots // ranks, load, np.inf)))
        load[rank] += weight
        held[rank] += 1
    return float(load.max() / load.mean())


@pytest.mark.parametrize("skew", [0.5, 0.9, 1.2])
@pytest.mark.parametrize(
    ("experts", "ranks", "slots"),
    [(256, 32, 288), (256, 72, 288), (256, 144, 288), (256, 320, 320), (384, 96, 480)],
)
def test_copies_even_ranks_out_as_far_as_the_balancer_does(
    skew: float, experts: int, ranks: int, slots: int
) -> None:
    random = np.random.default_rng(7)
    drawn = random.gamma(skew**-2, skew**2, (12, experts))
    simulated = np.mean([placed(popularity, ranks, slots) for popularity in drawn])
    load = RoutedLoad(ranks=ranks, assignments=MANY, experts=experts, skew=skew)
    assert float(balanced_rank_factor(load, slots)) == pytest.approx(simulated, rel=0.04)


@pytest.mark.parametrize(("ranks", "slots", "published"), [(32, 288, 1.109), (36, 288, 1.115)])
def test_the_busiest_rank_is_as_busy_as_published(ranks: int, slots: int, published: float) -> None:
    """TensorRT-LLM blog 4, table 1: DeepSeek-R1 over GB200, 1,024 tokens a rank on average.

    The skew is that of the table's counts by expert (164.1 of 128); drift is fitted to its standard
    deviations, not to the maximum.
    """
    load = RoutedLoad(ranks=ranks, assignments=32 * 1024, experts=256, skew=1.28)
    drift = engine_file()["common"]["popularity_drift"]["value"]
    assert float(balanced_rank_factor(load, slots, drift)) == pytest.approx(published, abs=0.03)


@given(
    st.sampled_from([8, 32, 72, 144, 320]),
    st.floats(0.0, 1.5),
    st.integers(0, 64),
    st.floats(1e2, 1e7),
)
def test_copies_never_make_the_busiest_rank_busier(
    ranks: int, skew: float, redundant: int, assignments: float
) -> None:
    load = RoutedLoad(ranks=ranks, assignments=assignments, experts=256, skew=skew)
    few, more = (
        float(balanced_rank_factor(load, expert_slots(256, r, ranks), 0.1))
        for r in (redundant, redundant + ranks)
    )
    alone = float(busiest_rank_factor(ranks, assignments, 256, skew))
    assert 1.0 <= more <= few * (1 + 1e-12) <= alone * (1 + 2e-12)


def test_without_copies_nothing_changes() -> None:
    load = RoutedLoad(ranks=32, assignments=1e5, experts=256, skew=0.9)
    assert balanced_rank_factor(load, expert_slots(256, 0, 32), 0.1) == busiest_rank_factor(32, 1e5, 256, 0.9)
