"""The integer programme as a second opinion on the search: HiGHS shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import question, world

from pdplan.search import recommend
from pdplan.search.certificate import _least_cost, certify
from pdplan.search.recommend import build_space


@pytest.mark.parametrize("rate", [2.0, 15.0, 120.0])
@pytest.mark.parametrize("mode", ["any", "colocated", "disaggregated"])
def test_no_plan_is_below_the_bound_and_large_ones_come_close(rate: float, mode: str) -> None:
    hardware = ("h100", "l40s")
    w = world(("llama-3.1-8b",), hardware)
    q = question(
        "llama-3.1-8b", hardware, isl=1500, osl=300, rate=rate, ttft=1, tpot=0.05, percentile=0.5, mode=mode
    )
    best = recommend(q, w).best
    assert best is not None
    space = build_space(q, w)
    found = certify(best.metrics.usd_per_h, q.workload, space.prefill, space.decode, space.colocated)
    assert found.lower_bound <= best.metrics.usd_per_h * (1 + 1e-9)
    if rate > 100:  # whole workers and queues matter less and less
        assert found.gap < 0.12


def test_the_programme_is_the_knapsack_that_it_claims_to_be() -> None:
    # By hand: 10 requests/s from workers of 3 req/s at $2 and 4 req/s at $3. Two of each would be
    # 14 req/s at $10; 2·3 + 1·4 = 10 req/s at $7; four small ones 12 req/s at $8.
    types = (np.array([2.0, 3.0]), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert _least_cost([[types]], 10.0, None)[0] == pytest.approx(7.0)
    # Three accelerators only hold one of each: 7 req/s, not enough.
    assert _least_cost([[types]], 10.0, 3)[0] == np.inf
