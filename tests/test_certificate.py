"""The integer programme as a second opinion on the search: HiGHS shares no code with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import question, world

from pdplan.market import Lot, Tariff
from pdplan.search import recommend
from pdplan.search.fleets.certificate import Types, Wants, certify, least_cost
from pdplan.search.space import build_space


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
    found = certify(best.metrics.usd_per_h, q.workload, space, np.inf, 0)
    assert found.lower_bound <= best.metrics.usd_per_h * (1 + 1e-9)
    if rate > 100:  # whole workers and queues matter less and less
        assert found.gap < 0.12


# By hand: 10 requests/s from workers of 3 req/s on two accelerators and of 4 on three. Two of each would be
# 14 req/s on ten accelerators; 2·3 + 1·4 = 10 req/s on seven; four small ones 12 req/s on eight.
KNAPSACK = Types(
    hardware="a", cost=np.array([2.0, 3.0]), gpus=np.array([2.0, 3.0]), rate=np.array([3.0, 4.0])
)
PRICED = {"a": Tariff(lots=(Lot(usd_per_h=1.0),))}


def knapsack(**limits: float) -> Wants:
    return Wants(rate=10.0, ways=[{"colocated": [KNAPSACK]}], **limits)  # type: ignore[arg-type]


def test_the_programme_is_the_knapsack_that_it_claims_to_be() -> None:
    assert least_cost([knapsack()], PRICED).amount == pytest.approx(7.0)
    # Six accelerators hold two of either kind at most: 8 req/s, not enough.
    assert least_cost([knapsack(max_gpus=6)], PRICED).amount == np.inf
    # One worker of each kind that is used is paid for and not counted on: four small ones and one more.
    assert least_cost([knapsack(spare_workers=1)], PRICED).amount == pytest.approx(10.0)


def test_in_fractions_accelerators_have_a_price_and_scarcity_adds_to_it() -> None:
    # 10 req/s of workers of 3 req/s on two accelerators: 20/3 accelerators at $1.
    found = least_cost([knapsack()], PRICED, whole=False)
    assert found.amount == pytest.approx(20 / 3)
    assert found.prices["a"] == pytest.approx(1.0)
    # Four of them are at $1, the rest at $5: one more costs $5.
    lots = {"a": Tariff(lots=(Lot(usd_per_h=1.0, gpus=4), Lot(usd_per_h=5.0)))}
    found = least_cost([knapsack()], lots, whole=False)
    assert found.amount == pytest.approx(4 + 5 * 8 / 3)
    assert found.prices["a"] == pytest.approx(5.0)
    # Four are all there are; on b the same workers cost three times as much: an a is worth a b.
    other = replace(KNAPSACK, hardware="b")
    both = Wants(rate=10.0, ways=[{"colocated": [KNAPSACK, other]}])
    stock = {
        "a": Tariff(lots=(Lot(usd_per_h=1.0, gpus=4),)),
        "b": Tariff(lots=(Lot(usd_per_h=3.0),)),
    }
    found = least_cost([both], stock, whole=False)
    assert found.amount == pytest.approx(4 + 3 * 8 / 3)
    assert found.prices == pytest.approx({"a": 3.0, "b": 3.0})
