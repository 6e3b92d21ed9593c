"""The most requests that mixed pools serve of an inventory or a budget, against enumeration."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from pdplan.compose import evaluate_plan, full_rate_requests_per_s, plan_bill, plan_meets
from pdplan.goodput import goodput_requests_per_s
from pdplan.plan import Colocated, Mixed, Part, PoolPlan, plan_of
from pdplan.question import Question
from pdplan.report.formats.machine import render_json
from pdplan.report.recommendation import recommendation_report
from pdplan.search import recommend
from tests.test_mix import HARDWARE, PRICES, SERVING, single_gpu, stocked
from tests.test_mix_commands import SCHEMAS


def most_of(mode: str, **options: object) -> Question:
    asked = single_gpu(1.0, mode, **options)
    return replace(asked, workload=replace(asked.workload, rate=None))


@pytest.mark.parametrize("usd_per_h", [None, 8.0])
def test_colocated_mixes_serve_what_enumeration_finds(usd_per_h: float | None) -> None:
    there = {"h100": 2, "l40s": 5}
    w, q = stocked(**there), replace(most_of("colocated"), mix=True, max_usd_per_h=usd_per_h)
    alone = {
        (hw, n): goodput_requests_per_s(
            w, Colocated(**vars(SERVING), colocated=PoolPlan(hardware=hw, workers=n)), q.workload, q.slo
        )
        for hw, most in there.items()
        for n in range(1, most + 1)
    }
    best = max(
        alone.get(("h100", a), 0.0) + alone.get(("l40s", b), 0.0)
        for a, b in itertools.product(range(3), range(6))
        if usd_per_h is None or a * PRICES["h100"] + b * PRICES["l40s"] <= usd_per_h + 1e-9
    )
    found = recommend(q, w)
    assert found.best is not None
    assert isinstance(found.best.plan, Mixed)
    assert found.mixture is not None
    rate = found.best.metrics.requests_per_s
    # Goodput is known to a thousandth, the plan's as closely as its programme's gap says.
    assert rate == pytest.approx(best, rel=3e-3)
    assert rate <= found.mixture.most_requests_per_s * (1 + 1e-9)
    assert found.mixture.most_requests_per_s <= best * 1.005
    assert not plan_bill(w, found.best.plan).missing
    assert plan_meets(w, found.best.plan, q.workload.at_rate(rate), q.slo)
    equal = recommend(replace(q, mix=False), w).best
    assert equal.metrics.requests_per_s < rate


def test_no_split_of_two_mixed_pools_serves_more_than_the_bound() -> None:
    there = {"h100": 2, "l40s": 3}
    w, q = stocked(**there), most_of("disaggregated", isl=6000, ttft=4.0, tpot=0.06)
    found = recommend(q, w)  # an inventory: mixes are tried unasked
    assert found.best is not None
    assert found.mixture is not None
    rate, bound = found.best.metrics.requests_per_s, found.mixture.most_requests_per_s
    assert rate <= bound * (1 + 1e-9)
    assert bound <= rate * 1.02
    asked = q.workload.at_rate(bound * 1.001)

    def parts(kinds: list[PoolPlan]) -> list[tuple[Part, ...]]:
        if len(kinds) == 1:
            return [(Part(pool=kinds[0], share=1.0),)]
        return [
            tuple(Part(pool=p, share=float(x)) for p, x in zip(kinds, (s, 1 - s), strict=True))
            for s in np.linspace(0.1, 0.9, 9)
        ]

    for counts in itertools.product(range(3), range(4), range(3), range(4)):
        if counts[0] + counts[2] > there["h100"] or counts[1] + counts[3] > there["l40s"]:
            continue
        pools = {
            role: [
                PoolPlan(hardware=hw, workers=n, max_batch=1 if role == "prefill" else None)
                for hw, n in zip(HARDWARE, some, strict=True)
                if n
            ]
            for role, some in (("prefill", counts[:2]), ("decode", counts[2:]))
        }
        able = all(
            kinds
            and sum(full_rate_requests_per_s(w, SERVING, p, role, asked, q.slo) for p in kinds) > asked.rate
            for role, kinds in pools.items()
        )
        if able:
            for p, d in itertools.product(parts(pools["prefill"]), parts(pools["decode"])):
                assert not plan_meets(w, plan_of(SERVING, prefill=p, decode=d), asked, q.slo), counts


def test_more_inventory_never_serves_less_and_the_answer_is_read_back() -> None:
    rates = []
    for l40s in (2, 6):
        w = stocked(h100=2, l40s=l40s)
        found = recommend(most_of("colocated"), w)
        metrics = evaluate_plan(
            w,
            found.best.plan,
            found.question.workload.at_rate(found.best.metrics.requests_per_s),
            found.question.slo,
        )
        assert metrics.tpot_slo_s == found.best.metrics.tpot_slo_s
        rates.append(found.best.metrics.requests_per_s)
    assert rates == sorted(rates)
    data = json.loads(render_json(recommendation_report(found)))
    jsonschema.validate(data, json.loads((SCHEMAS / "recommend.json").read_text()))
    assert data["mixture"]["most_requests_per_s"] >= rates[-1] * (1 - 1e-9)
    assert data["mixture"]["lower_bound"] is None


def test_spare_workers_and_headroom_are_kept_free() -> None:
    w = stocked(h100=3, l40s=6)
    q = replace(most_of("colocated"), spare_workers=1, headroom=0.2)
    found = recommend(q, w)
    assert isinstance(found.best.plan, Mixed)
    assert not plan_bill(w, found.best.plan).missing
    assert found.robustness is not None
    assert found.robustness.at_sizing_rate.reason == ""
    assert found.robustness.sizing_rate * 0.8 == pytest.approx(found.best.metrics.requests_per_s)
