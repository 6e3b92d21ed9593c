"""Pools of several kinds of workers: the programme, the mixture and the whole against enumeration."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.catalog.store import Catalog
from pdplan.compose import World, evaluate_plan, full_rate_requests_per_s, plan_bill, plan_meets
from pdplan.documents.files import Document
from pdplan.errors import InputError
from pdplan.goodput import goodput_requests_per_s
from pdplan.inputs import deployment_from
from pdplan.market import Lot, Market, Tariff
from pdplan.plan import Colocated, Mixed, Part, PoolPlan, Serving, plan_of
from pdplan.question import Choices, Question
from pdplan.report.formats.machine import render_json
from pdplan.report.recommendation import recommendation_report
from pdplan.search import recommend
from pdplan.search.fleets.programme import Column, Option, Programme, ranges_of, solve
from pdplan.serving.mixture import mixture_crossing

HARDWARE = ("h100", "l40s")
PRICES = {"h100": 3.0, "l40s": 1.1}
SERVING = Serving(model="llama-3.1-8b", precision="bf16", kv_precision="bf16")


def stocked(**counts: int) -> World:
    w = world(("llama-3.1-8b",), HARDWARE, prices=PRICES)
    lots = {hw: (Lot(usd_per_h=PRICES[hw], gpus=n),) for hw, n in counts.items()}
    return replace(w, market=Market(inventory=lots))


def single_gpu(rate: float, mode: str, isl: int = 1500, **options: object) -> Question:
    limits = {"ttft": 1.5, "tpot": 0.05} | options
    return question(
        "llama-3.1-8b", HARDWARE, isl=isl, osl=300, rate=rate, mode=mode, max_gpus_per_worker=1, **limits
    )


# ------------------------------------------------------------------------ the programme


@settings(max_examples=40)
@given(
    rates=st.lists(st.floats(0.5, 5), min_size=4, max_size=4),
    gpus=st.lists(st.sampled_from([1, 2, 4]), min_size=4, max_size=4),
    demands=st.lists(st.floats(1, 12), min_size=2, max_size=2),
    stock=st.lists(st.integers(1, 12), min_size=2, max_size=2),
    unit=st.sampled_from([1, 4]),
    spare=st.integers(0, 1),
)
def test_the_programme_finds_what_enumeration_finds(
    rates: list[float], gpus: list[int], demands: list[float], stock: list[int], unit: int, spare: int
) -> None:
    # Two deployments, each with one kind of worker on either of two accelerators, up to three of each.
    hardware = ("a", "b")
    tariffs = {
        "a": Tariff(lots=(Lot(usd_per_h=1.0, gpus=stock[0]), Lot(usd_per_h=2.0, gpus=4)), unit=unit),
        "b": Tariff(lots=(Lot(usd_per_h=1.7, gpus=stock[1]),), unit=unit),
    }
    columns = [
        Column(
            option=d, role="colocated", kind=2 * d + h, low=n, high=n, rate_each=rates[2 * d + h],
            gpus_each=gpus[2 * d + h], hardware=hardware[h],
        )
        for d in range(2) for h in range(2) for n in (1, 2, 3)
    ]  # fmt: skip
    found = solve(
        Programme(
            options=[Option(deployment=d, roles=("colocated",), rate=demands[d]) for d in range(2)],
            columns=columns,
            tariffs=tariffs,
            spare_workers=[spare, spare],
        )
    )
    best = math.inf
    for counts in itertools.product(range(4), repeat=4):
        if all(sum(counts[2 * d + h] * rates[2 * d + h] for h in range(2)) >= demands[d] for d in range(2)):
            cost = 0.0
            for h, hw in enumerate(hardware):
                used = sum((n + spare) * gpus[k] for k, n in enumerate(counts) if k % 2 == h and n)
                cost += float(tariffs[hw].cost_per_h(math.ceil(used / unit) * unit))
            best = min(best, cost)
    if found is None:
        assert best == math.inf
    else:
        assert found.objective == pytest.approx(best)
        assert found.bound <= best * (1 + 1e-6)


def test_ranges_bracket_a_curve_that_rises_faster_than_its_counts() -> None:
    counts, rates = (1, 2, 3, 6), np.array([1.0, 2.2, 3.6, 9.0])
    for optimistic in (True, False):
        for low, high, each in ranges_of(counts, rates, optimistic):
            for n in range(low, high + 1):
                true = np.interp(n, counts, rates / counts) * n
                assert (each * n >= true - 1e-9) if optimistic else (each * n <= true + 1e-9)


# ------------------------------------------------------------------------ what mixed pools do


def test_a_mixture_of_samples_has_the_quantile_of_the_samples_together() -> None:
    rng = np.random.default_rng(1)
    fast, slow = rng.gamma(4.0, 0.05, 400_000), rng.gamma(9.0, 0.1, 100_000)
    p = np.unique(np.concatenate([np.linspace(1e-4, 0.9999, 800), [0.5, 0.9, 0.99]]))
    for probability in (0.5, 0.9, 0.99):
        found = mixture_crossing(
            probability, np.array([0.8, 0.2]), [np.quantile(fast, p), np.quantile(slow, p)], p
        )
        assert found.value == pytest.approx(np.quantile(np.concatenate([fast, slow]), probability), rel=5e-3)


@pytest.mark.parametrize("mode", ["colocated", "disaggregated"])
def test_two_equal_halves_are_one_half_at_half_the_rate(mode: str) -> None:
    w, q = stocked(), single_gpu(12.0, mode)
    pool = PoolPlan(hardware="h100", workers=2, max_batch=64)
    sender = PoolPlan(hardware="h100", workers=2, max_batch=1)
    halves = (Part(pool=pool, share=0.5), Part(pool=pool, share=0.5))
    roles = {"colocated": halves}
    if mode == "disaggregated":
        roles = {"prefill": tuple(Part(pool=sender, share=0.5) for _ in range(2)), "decode": halves}
    whole = evaluate_plan(w, plan_of(SERVING, **roles), q.workload, q.slo)
    half_roles = {role: (replace(parts[0], share=1.0),) for role, parts in roles.items()}
    half = evaluate_plan(w, plan_of(SERVING, **half_roles), q.workload.at_rate(6.0), q.slo)
    for name in ("ttft_mean_s", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "tpot_mean_s", "tpot_p99_s"):
        assert getattr(whole, name) == pytest.approx(getattr(half, name), rel=1e-6), name
    assert whole.requests_per_s == 12.0
    assert whole.gpus == 2 * half.gpus
    assert whole.usd_per_h == pytest.approx(2 * half.usd_per_h)
    assert whole.usd_per_million_tokens == pytest.approx(half.usd_per_million_tokens)


def test_shares_that_are_not_given_follow_what_each_kind_serves() -> None:
    pools = [{"hardware": "h100", "workers": 2}, {"hardware": "l40s", "workers": 3}]
    data = {"model": "llama-3.1-8b", "colocated": pools, "workload": {"isl": 1500, "osl": 300, "rate": 8}}
    found = deployment_from(Document(path="plan", data=data, text=""), Catalog())
    assert isinstance(found.plan, Mixed)
    rates = [
        full_rate_requests_per_s(found.world, found.plan, part.pool, "colocated", found.workload, found.slo)
        for part in found.plan.colocated
    ]
    assert [part.share for part in found.plan.colocated] == pytest.approx([r / sum(rates) for r in rates])
    assert rates[0] > rates[1]  # an H100 does more than one and a half L40S


@pytest.mark.parametrize(
    ("shares", "message"),
    [((0.5, 0.4), "add up to 0.9"), ((0.5, None), "all or none"), ((1.0, 0.0), "above 0")],
)
def test_shares_that_do_not_add_up_are_refused(shares: tuple[float, float | None], message: str) -> None:
    pools = [{"hardware": "h100", "workers": 1} | ({"share": s} if s is not None else {}) for s in shares]
    data = {"model": "llama-3.1-8b", "colocated": pools, "workload": {"isl": 1500, "osl": 300, "rate": 8}}
    with pytest.raises(InputError, match=message):
        deployment_from(Document(path="plan", data=data, text=""), Catalog())


def test_a_closed_loop_over_a_mixed_pool_is_refused() -> None:
    pools = [{"hardware": "h100", "workers": 1}, {"hardware": "l40s", "workers": 1}]
    data = {
        "model": "llama-3.1-8b",
        "colocated": pools,
        "workload": {"isl": 1500, "osl": 300, "concurrency": 8},
    }
    with pytest.raises(InputError, match="give a rate instead"):
        deployment_from(Document(path="plan", data=data, text=""), Catalog())
    data["workload"]["rate"] = data["workload"].pop("concurrency")
    found = deployment_from(Document(path="plan", data=data, text=""), Catalog())
    looping = replace(found.workload, rate=None, concurrency=8)
    with pytest.raises(InputError, match="give --rate"):
        evaluate_plan(found.world, found.plan, looping, found.slo)


# ------------------------------------------------------------------------ the search


@settings(max_examples=6)
@given(rate=st.floats(8, 45), h100=st.integers(1, 4), l40s=st.integers(1, 6))
def test_colocated_mixes_cost_what_enumeration_finds(rate: float, h100: int, l40s: int) -> None:
    w, q = stocked(h100=h100, l40s=l40s), single_gpu(rate, "colocated")
    # The goodput of each kind alone, by bisection over the evaluation: no code of the search.
    alone = {
        (hw, n): goodput_requests_per_s(
            w,
            Colocated(**vars(SERVING), colocated=PoolPlan(hardware=hw, workers=n)),
            q.workload,
            q.slo,
        )
        for hw, most in (("h100", h100), ("l40s", l40s))
        for n in range(1, most + 1)
    }  # fmt: skip

    def least(demand: float) -> float:
        return min(
            (
                a * PRICES["h100"] + b * PRICES["l40s"]
                for a in range(h100 + 1)
                for b in range(l40s + 1)
                if alone.get(("h100", a), 0.0) + alone.get(("l40s", b), 0.0) >= demand
            ),
            default=math.inf,
        )

    best = recommend(replace(q, mix=True), w).best
    cost = best.metrics.usd_per_h if best else math.inf
    # Goodput is known to a thousandth.
    assert least(rate * 0.997) - 1e-9 <= cost <= least(rate * 1.003) + 1e-9


@pytest.mark.parametrize(("rate", "h100", "l40s"), [(6.0, 2, 9), (9.0, 3, 5), (4.0, 1, 9)])
def test_no_disaggregated_mix_is_cheaper_than_the_one_found(rate: float, h100: int, l40s: int) -> None:
    # Prompts so long that a prefill worker takes one at a time: two kinds of workers in each role.
    w, q = stocked(h100=h100, l40s=l40s), single_gpu(rate, "disaggregated", isl=6000, ttft=4.0, tpot=0.06)
    answer = recommend(replace(q, mix=True), w)
    found = answer.best.metrics.usd_per_h if answer.best else math.inf
    if answer.best is not None:
        assert answer.mixture is not None
        assert answer.mixture.gap < 1e-6
        assert plan_meets(w, answer.best.plan, q.workload, q.slo)
    splits = np.linspace(0.1, 0.9, 9)

    def pools(role: str, counts: tuple[int, ...]) -> list[PoolPlan]:
        batch = 1 if role == "prefill" else None
        return [
            PoolPlan(hardware=hw, workers=n, max_batch=batch)
            for hw, n in zip(HARDWARE, counts, strict=True)
            if n
        ]

    def parts(kinds: list[PoolPlan]) -> list[tuple[Part, ...]]:
        if len(kinds) == 1:
            return [(Part(pool=kinds[0], share=1.0),)]
        return [tuple(Part(pool=p, share=x) for p, x in zip(kinds, (s, 1 - s), strict=True)) for s in splits]

    def could(role: str, kinds: list[PoolPlan]) -> bool:
        """Whether full batches without any queue would do: far less than what is asked."""
        return sum(full_rate_requests_per_s(w, SERVING, p, role, q.workload, q.slo) for p in kinds) > rate

    for counts in itertools.product(range(4), range(10), range(4), range(10)):
        sending, receiving = pools("prefill", counts[:2]), pools("decode", counts[2:])
        cost = (counts[0] + counts[2]) * PRICES["h100"] + (counts[1] + counts[3]) * PRICES["l40s"]
        within = counts[0] + counts[2] <= h100 and counts[1] + counts[3] <= l40s
        if not (sending and receiving and within and cost < found - 1e-9):
            continue
        if could("prefill", sending) and could("decode", receiving):
            for p, d in itertools.product(parts(sending), parts(receiving)):
                assert not plan_meets(w, plan_of(SERVING, prefill=p, decode=d), q.workload, q.slo), counts


def test_a_mix_does_what_no_plan_of_equal_workers_does() -> None:
    w, q = stocked(h100=2, l40s=4), single_gpu(35.0, "colocated")
    found = recommend(q, w)
    assert found.best is not None
    assert isinstance(found.best.plan, Mixed)
    assert not plan_bill(w, found.best.plan).missing
    assert plan_meets(w, found.best.plan, q.workload, q.slo)
    assert recommend(replace(q, mix=False), w).best is None


def test_evaluating_what_was_printed_gives_the_same_numbers() -> None:
    w, q = stocked(h100=2, l40s=4), single_gpu(35.0, "any")
    found = recommend(q, w)
    assert found.best is not None
    assert isinstance(found.best.plan, Mixed)
    printed = json.loads(render_json(recommendation_report(found)))
    again = deployment_from(Document(path="printed", data=printed, text=""), Catalog())
    metrics = evaluate_plan(again.world, again.plan, again.workload, again.slo)
    for name, value in vars(found.best.metrics).items():
        assert vars(metrics)[name] == pytest.approx(value, rel=1e-9), name


def test_more_inventory_never_costs_more_and_spares_are_paid_for() -> None:
    q = single_gpu(35.0, "colocated")
    costs = []
    for count in (1, 2, 3, 6, 30):
        best = recommend(q, stocked(h100=count, l40s=4)).best
        costs.append(best.metrics.usd_per_h if best else math.inf)
    assert costs == sorted(costs, reverse=True)
    spared = recommend(replace(q, spare_workers=1), stocked(h100=3, l40s=6))
    assert spared.best is not None
    assert spared.robustness is not None
    assert isinstance(spared.best.plan, Mixed)
    for part in spared.best.plan.colocated:
        assert part.pool.workers >= 2
    assert spared.robustness.with_failures.reason == ""


def test_a_mix_in_open_formats_is_the_cheapest_of_those_in_each() -> None:
    w = stocked(h100=1, l40s=6)
    q = single_gpu(30.0, "colocated")
    both = Choices(precisions=("bf16", "fp8"), kv_precisions=("bf16",))
    found = recommend(replace(q, choices=both, kv_precision="bf16"), w)
    assert found.best is not None
    assert found.mixture is not None
    each = [recommend(replace(q, precision=p, kv_precision="bf16"), w).best for p in ("bf16", "fp8")]
    costs = [best.metrics.usd_per_h if best else math.inf for best in each]
    assert found.best.metrics.usd_per_h == pytest.approx(min(costs))
    assert min(costs) < max(costs)
    assert found.mixture.lower_bound <= min(costs) * (1 + 1e-9)
    again = evaluate_plan(w, found.best.plan, q.workload, q.slo)
    assert again.tpot_slo_s == found.best.metrics.tpot_slo_s


def test_of_too_many_formats_mixes_are_tried_in_one_and_that_is_said() -> None:
    w = stocked(h100=1, l40s=6)
    many = Choices(precisions=("bf16", "fp8"), kv_precisions=("bf16", "fp8"), chunk_tokens=(None, 2048))
    found = recommend(replace(single_gpu(12.0, "colocated"), choices=many, mix=True), w)
    assert found.mixture is not None
    assert found.mixture.of_few_formats
    assert any("one combination of formats of 8" in note for note in found.notes)


def test_a_large_mix_is_bracketed_closely() -> None:
    q = single_gpu(4000.0, "colocated")
    w = stocked(h100=300, l40s=4000)
    found = recommend(replace(q, mix=True), w)
    assert found.best is not None
    assert found.mixture is not None
    assert found.mixture.gap < 2e-3
    assert found.mixture.lower_bound <= found.best.metrics.usd_per_h * (1 + 1e-9)
