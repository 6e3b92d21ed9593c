"""What a sensitivity varies is what `recommend` recommends: mixes, budgets, spare workers, a confidence."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import question, world

from pdplan.compose import World, plan_meets
from pdplan.market import Lot, Market
from pdplan.plan import Mixed
from pdplan.question import Question, Recommendation
from pdplan.search import recommend
from pdplan.search.holding import excess_of_many, judged
from pdplan.search.kinds import differences, kind_of
from pdplan.search.what_if.answers import amount_of
from pdplan.search.what_if.breakeven import break_even
from pdplan.search.what_if.sensitivity import Sensitivity, sensitivity
from pdplan.search.what_if.varied import chosen_inputs

MODEL, HARDWARE = "llama-3.1-8b", ("h100", "l40s")


def ask(**changes: Any) -> Question:
    base = {"isl": 2000, "osl": 300, "rate": 9.0, "ttft": 1.0, "tpot": 0.02, "max_gpus_per_worker": 1}
    return question(MODEL, HARDWARE, **(base | changes))


def cost(q: Question, w: World) -> float:
    best = recommend(q, w).best
    return best.metrics.usd_per_h if best else math.inf


def stocked(**gpus: int) -> World:
    free = world((MODEL,), HARDWARE)
    lots = {name: (Lot(usd_per_h=free.price(name), gpus=many),) for name, many in gpus.items()}
    return replace(free, market=Market(inventory=lots))


def assert_every_end_is_what_recommend_says(moves: Sensitivity, found: Recommendation) -> None:
    assert moves.amount == amount_of(found.best.metrics, moves.counted)
    for swing in moves.swings:
        for end in swing.ends:
            q, w = swing.input.put(found.question, found.world, end.value)
            fresh = recommend(replace(q, alternatives=0), w).best
            told = amount_of(fresh.metrics, moves.counted) if fresh else math.nan
            assert end.amount == pytest.approx(told, rel=1e-9, nan_ok=True), (swing.input.key, end.value)


# ------------------------------------------------------------------------ what is varied


@pytest.mark.parametrize(
    "changes",
    [
        {"max_usd_per_h": 7.5},
        {"max_gpus": 3},
        {"spare_workers": 1, "headroom": 0.2},
        {"objective": "energy"},
    ],
    ids=["dollars", "gpus", "spare workers", "energy"],
)
def test_the_base_and_every_end_are_what_recommend_says(changes):
    found = recommend(ask(**changes), world((MODEL,), HARDWARE))
    keys = {i.key for i in chosen_inputs(found)} & {"rate", "tpot", "price.h100", "memory_bandwidth.h100"}
    assert_every_end_is_what_recommend_says(sensitivity(found, only=sorted(keys)), found)


def test_with_a_confidence_too():
    q = ask(rate=40.0, tpot=0.025, max_gpus_per_worker=2)
    found = recommend(replace(q, slo=replace(q.slo, confidence=0.8)), world((MODEL,), HARDWARE))
    only = ["memory_bandwidth.h100", "engine.kernel_time_factor"]
    assert_every_end_is_what_recommend_says(sensitivity(found, only=only), found)


def test_of_an_answer_that_mixes_workers_the_mix_is_varied():
    found = recommend(ask(rate=20.0, tpot=0.05, mode="colocated"), stocked(h100=1, l40s=12))
    assert isinstance(found.best.plan, Mixed)
    moves = sensitivity(found, only=["rate", "price.l40s"])
    assert moves.base.plan == found.best.plan
    assert_every_end_is_what_recommend_says(moves, found)
    for swing in moves.swings:
        assert all(end.fractional <= end.amount * (1 + 1e-9) for end in swing.ends if end.best)


def test_a_mix_turns_where_it_is_said():
    found = recommend(ask(rate=20.0, tpot=0.05, mode="colocated"), stocked(h100=1, l40s=12))
    told = break_even(found, only=["rate"])
    base = found.best.metrics.usd_per_h
    assert {turn.what for turn in told.turns} & {"cost", "feasible"}
    for turn in told.turns:
        below, above = (
            cost(*turn.input.put(found.question, found.world, turn.value * aside)) for aside in (0.985, 1.015)
        )
        assert below < above
        if turn.what == "cost":
            assert base in (pytest.approx(below), pytest.approx(above))


def test_kinds_of_mixes_are_told_apart_by_mode_and_accelerators():
    mixed = recommend(ask(rate=20.0, tpot=0.05, mode="colocated"), stocked(h100=1, l40s=12)).best.plan
    equal = recommend(ask(rate=14.0), world((MODEL,), HARDWARE)).best.plan
    assert kind_of(mixed) == kind_of(replace(mixed, precision="fp8"))
    assert differences(kind_of(mixed), kind_of(mixed)) == ()
    what = differences(kind_of(equal), kind_of(mixed))
    assert what == ("mode",) or (what and all(word.endswith("accelerator") for word in what))


def test_a_price_beyond_a_budget_leaves_no_plan():
    """The dearest price that fits is the budget over the accelerators, where only one kind can be bought."""
    w = world((MODEL,), ("h100",), prices={"h100": 2.0})
    q = question(MODEL, ("h100",), isl=2000, osl=300, rate=9, ttft=1, tpot=0.02, max_gpus_per_worker=1)
    found = recommend(replace(q, max_usd_per_h=9.0), w)
    swing = sensitivity(found, change=0.9, only=["price.h100"]).swings[0]
    plain = found.best.metrics.gpus
    assert swing.low.amount == pytest.approx(0.2 * plain)
    assert math.isnan(swing.high.amount) == (3.8 * plain > 9.0)


def test_break_even_tells_the_price_at_which_a_budget_ends():
    w = world((MODEL,), HARDWARE, prices={"h100": 3.5, "l40s": 1.2})
    found = recommend(ask(rate=12.0, max_usd_per_h=8.0), w)
    ends = [t for t in break_even(found, only=["price.h100"]).turns if t.what == "feasible"]
    assert len(ends) == 1
    assert ends[0].above is None
    below, above = (
        cost(*ends[0].input.put(found.question, w, ends[0].value * aside)) for aside in (0.99, 1.01)
    )
    assert below < math.inf == above


# ------------------------------------------------------------------------ what never makes it dearer


VARIED = ["rate", "isl", "osl", "tpot", "price.h100", "memory_bandwidth.h100", "engine.kernel_time_factor"]


@pytest.fixture(scope="module")
def moves() -> Sensitivity:
    return sensitivity(recommend(ask(), world((MODEL,), HARDWARE)), only=VARIED)


def test_the_order_of_accelerators_changes_nothing(moves):
    names = tuple(reversed(HARDWARE))
    roles = dict.fromkeys(("prefill_hardware", "decode_hardware", "colocated_hardware"), names)
    other = sensitivity(recommend(replace(ask(), **roles), world((MODEL,), names)), only=VARIED)
    assert [(s.input.key, s.low.amount, s.high.amount) for s in other.swings] == [
        (s.input.key, s.low.amount, s.high.amount) for s in moves.swings
    ]


def test_another_accelerator_or_a_looser_limit_makes_no_end_dearer(moves):
    fewer = dict.fromkeys(("prefill_hardware", "decode_hardware", "colocated_hardware"), ("h100",))
    w = world((MODEL,), HARDWARE)
    harder = [replace(ask(), **fewer), replace(ask(), slo=replace(ask().slo, ttft_s=0.4))]
    for q in harder:
        other = {s.input.key: s for s in sensitivity(recommend(q, w), only=VARIED).swings}
        for swing in moves.swings:
            for end, dearer in zip(swing.ends, other[swing.input.key].ends, strict=True):
                assert math.isnan(dearer.amount) or end.amount <= dearer.amount * (1 + 1e-9)


# ------------------------------------------------------------------------ how far plans hold


@pytest.mark.parametrize("confidence", [None, 0.85])
@pytest.mark.parametrize("mode", ["colocated", "disaggregated"])
@pytest.mark.parametrize("key", ["rate", "isl", "osl"])
def test_many_values_at_once_are_judged_as_one_by_one(mode, key, confidence):
    q = ask(mode=mode, tpot=0.03)
    q = replace(q, slo=replace(q.slo, confidence=confidence))
    found = recommend(q, world((MODEL,), HARDWARE))
    plan, varied = found.best.plan, chosen_inputs(found, [key])[0]
    values = np.array([varied.at(factor) for factor in (0.5, 1.0, 1.2, 2.0, 8.0)])
    together = excess_of_many(plan, *varied.put(q, found.world, values))
    for value, excess in zip(values, together, strict=True):
        one = judged(plan, *varied.put(q, found.world, float(value)))
        assert (excess <= 0) == one.keeps
        if one.keeps and math.isfinite(excess):
            assert excess == pytest.approx(one.excess, rel=1e-6, abs=1e-9)


def test_of_a_mix_many_rates_are_judged_as_each_kind_of_worker_is():
    q = ask(rate=20.0, tpot=0.05, mode="colocated")
    found = recommend(q, stocked(h100=1, l40s=12))
    rates = np.array([5.0, 15.0, 20.0, 21.0, 24.0, 60.0])
    together = excess_of_many(found.best.plan, replace(q, workload=q.workload.at_rate(rates)), found.world)
    kept = [plan_meets(found.world, found.best.plan, q.workload.at_rate(rate), q.slo) for rate in rates]
    assert (together <= 0).tolist() == kept
    assert kept[2]
    assert not kept[-1]
