"""Queueing against tables, closed forms and a simulation that shares no code with it."""

from __future__ import annotations

import heapq
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pocket_calculator import wait_quantile

from pdplan.serving.queueing import (
    erlang_c,
    mean_for_peak,
    mean_wait_s,
    peak_count,
    response_quantile_s,
    spread_nodes,
)


@pytest.mark.parametrize(
    ("servers", "offered", "expected"),
    [
        (16, 12, 0.204574),  # issue 2, from published Erlang C tables
        (64, 56, 0.215123),  # issue 2
        (1, 0.5, 0.5),  # M/M/1: C = rho
        (2, 1.0, 1 / 3),  # M/M/2: C = 2 rho^2/(1 + rho), rho = 1/2
    ],
)
def test_erlang_c_is_the_published_value(servers: int, offered: float, expected: float) -> None:
    assert float(erlang_c(servers, offered)) == pytest.approx(expected, abs=5e-7)


def _erlang_c_by_sum(c: int, a: float) -> float:
    """The definition, term by term, in exact integers and floats: independent of the code."""
    below = sum(a**k / math.factorial(k) for k in range(c))
    top = a**c / math.factorial(c) * c / (c - a)
    return top / (below + top)


@given(c=st.integers(1, 60), rho=st.floats(0.01, 0.99))
def test_erlang_c_is_its_definition(c: int, rho: float) -> None:
    assert float(erlang_c(c, c * rho)) == pytest.approx(_erlang_c_by_sum(c, c * rho), rel=1e-7)


def test_arrays_give_what_scalars_give() -> None:
    c, a = np.array([1, 4, 16, 2000]), np.array([0.3, 3.5, 12.0, 1950.0])
    assert erlang_c(c, a) == pytest.approx([float(erlang_c(x, y)) for x, y in zip(c, a, strict=True)])


def test_large_pools_hardly_wait_and_full_ones_always_do() -> None:
    assert float(erlang_c(10_000, 9_000)) < 1e-10
    assert float(erlang_c(8, 8)) == 1.0
    assert float(mean_wait_s(8, 8, 1.0)) == math.inf


@given(c=st.integers(1, 40), rho=st.floats(0.05, 0.95))
def test_m_m_1_is_m_m_c_at_one_server_and_more_servers_wait_less(c: int, rho: float) -> None:
    # The textbook mean wait of M/M/1: rho/(mu - lambda).
    assert float(mean_wait_s(1, rho, 1.0, 1.0, 1.0)) == pytest.approx(rho / (1 - rho))
    assert float(mean_wait_s(c + 1, rho * c, 1.0)) <= float(mean_wait_s(c, rho * c, 1.0))


@given(c=st.integers(1, 40))
def test_waiting_diverges_as_the_load_reaches_the_servers(c: int) -> None:
    loads = np.array([0.9, 0.99, 0.999, 0.9999]) * c
    waits = mean_wait_s(c, loads, 1.0)
    assert np.all(np.diff(waits) > 0)
    assert waits[-1] > 500 / c


def test_deterministic_service_waits_half_as_long() -> None:
    # Pollaczek–Khinchine: M/D/1 waits half of M/M/1, exactly.
    assert float(mean_wait_s(1, 0.8, 1.0, 1.0, 0.0)) == pytest.approx(0.5 * 0.8 / 0.2)


def _simulate(c: int, rate: float, service_s: float, seed: int, count: int = 120_000) -> list[float]:
    """First come, first served with c servers and fixed service: waits, by event simulation."""
    rng = random.Random(seed)
    free = [0.0] * c
    heapq.heapify(free)
    now, waits = 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        start = max(now, heapq.heappop(free))
        heapq.heappush(free, start + service_s)
        waits.append(start - now)
    return waits[count // 10 :]


@pytest.mark.parametrize(("c", "rho"), [(1, 0.7), (4, 0.8), (12, 0.85)])
def test_mean_and_tail_agree_with_a_simulation(c: int, rho: float) -> None:
    waits = sorted(_simulate(c, c * rho, 1.0, seed=3))
    mean = float(mean_wait_s(c, c * rho, 1.0, 1.0, 0.0))
    assert mean == pytest.approx(sum(waits) / len(waits), rel=0.08)
    waiting = float(erlang_c(c, c * rho))
    p99 = float(response_quantile_s(0.99, waiting, mean, 1.0)) - 1.0
    assert p99 == pytest.approx(waits[int(0.99 * len(waits))], rel=0.2)


@given(cv=st.floats(0.05, 2.0))
def test_spread_nodes_have_mean_one_and_rise(cv: float) -> None:
    nodes = spread_nodes(cv)
    assert nodes.mean() == pytest.approx(1.0)
    assert np.all(np.diff(nodes) > 0)


@given(p=st.floats(0.5, 0.999), cv=st.floats(0, 1.5), wait=st.floats(0, 5), service=st.floats(0.01, 5))
def test_quantiles_rise_with_the_probability(p: float, cv: float, wait: float, service: float) -> None:
    low = float(response_quantile_s(p * 0.9, 0.5, wait, service, cv))
    high = float(response_quantile_s(p, 0.5, wait, service, cv))
    assert high >= low - 1e-9


@given(mean=st.floats(0.01, 1e5), z=st.floats(0, 4))
def test_peaks_invert(mean: float, z: float) -> None:
    assert float(mean_for_peak(peak_count(mean, z), z)) == pytest.approx(mean, rel=1e-6)


@given(
    p=st.floats(0.3, 0.999),
    waits=st.floats(0, 1),
    wait=st.floats(0, 5),
    service=st.floats(0, 5),
    cv=st.sampled_from((0.0, 0.7)),
    phase=st.floats(0.01, 3),
)
@settings(max_examples=60)
def test_the_percentile_with_a_step_met_at_random_is_that_of_its_distribution(
    p: float, waits: float, wait: float, service: float, cv: float, phase: float
) -> None:
    found = float(response_quantile_s(p, waits, wait, service, cv, phase))
    assert found == pytest.approx(wait_quantile(p, waits, wait, service, cv, phase), rel=1e-5, abs=1e-6)


def test_a_percentile_with_a_step_by_drawing_requests() -> None:
    rng = np.random.default_rng(5)
    waits, wait, service, phase = 0.3, 0.06, 0.1, 0.05
    met = rng.uniform(0, phase, 400_000)
    behind = np.where(rng.random(met.size) < waits, rng.exponential(wait / waits, met.size), 0.0)
    for p in (0.2, 0.5, 0.75, 0.9, 0.99):
        found = float(response_quantile_s(p, waits, wait, service, phase_s=phase))
        assert found == pytest.approx(np.quantile(met + behind + service, p), rel=0.01)
