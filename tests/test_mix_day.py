"""A day of mixed pools: what runs when, against enumeration and fresh evaluations."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from pdplan.compose import evaluate_plan, full_rate_requests_per_s, plan_meets
from pdplan.goodput import goodput_requests_per_s
from pdplan.plan import Colocated, Mixed, Part, PoolPlan, plan_of
from pdplan.report.day import day_report
from pdplan.report.formats.machine import render_json
from pdplan.search import recommend
from pdplan.search.days.day import Day, DayPlan, plan_day
from pdplan.search.days.mixed_schedule import schedule_mix
from pdplan.search.objective import build_objective
from tests.test_mix import PRICES, SERVING, single_gpu, stocked
from tests.test_mix_commands import SCHEMAS

RATES = (35.0, 4.0, 9.0, 17.0, 26.0, 0.0)


def day_of(rates: tuple[float, ...], mode: str, h100: int, l40s: int, **options: object) -> DayPlan:
    question = replace(single_gpu(max(rates), mode, **options), mix=True)
    day = Day(hours=(4.0,) * len(rates), rates=rates, reserved_prices={})
    return plan_day(question, day, stocked(h100=h100, l40s=l40s))


def of_mix(found: DayPlan) -> DayPlan:
    assert found.schedule is not None
    assert isinstance(found.schedule.plan, Mixed)
    return found


@pytest.fixture(scope="module")
def colocated() -> DayPlan:
    return of_mix(day_of(RATES, "colocated", 2, 4))


def test_every_period_is_what_enumeration_finds_cheapest(colocated: DayPlan) -> None:
    schedule, question, w = colocated.schedule, colocated.question, colocated.world
    kinds = list(schedule.plan.pools.items())
    most = [int(schedule.workers[name][0]) for name, _ in kinds]
    alone = {
        (name, n): goodput_requests_per_s(
            w,
            Colocated(**vars(SERVING), colocated=replace(pool, workers=n, max_batch=None)),
            question.workload,
            question.slo,
        )
        for (name, pool), top in zip(kinds, most, strict=True)
        for n in range(1, top + 1)
    }
    alone |= {(name, 0): 0.0 for name, _ in kinds}

    def cost(counts: tuple[int, ...]) -> float:
        return sum(
            n * pool.gpus_per_worker * PRICES[pool.hardware]
            for n, (_, pool) in zip(counts, kinds, strict=True)
        )

    def least(rate: float) -> float:
        every = itertools.product(*(range(n + 1) for n in most))
        return min(
            (
                cost(counts)
                for counts in every
                if any(counts)
                and sum(alone[name, n] for (name, _), n in zip(kinds, counts, strict=True)) >= rate
            ),
            default=math.inf,
        )

    for k, rate in enumerate(RATES):
        found = cost(tuple(int(schedule.workers[name][k]) for name, _ in kinds))
        # Goodput is known to a thousandth.
        assert least(rate * 0.997) - 1e-9 <= found <= least(rate * 1.003) + 1e-9, rate


def test_every_period_keeps_the_limits_and_is_what_evaluate_says(colocated: DayPlan) -> None:
    schedule, question, w = colocated.schedule, colocated.question, colocated.world
    for k, rate in enumerate(RATES):
        plan, asked = schedule.plan_at(k), question.workload.at_rate(max(rate, 1e-9))
        assert plan_meets(w, plan, asked, question.slo)
        metrics = evaluate_plan(w, plan, asked, question.slo)
        assert schedule.metrics[k].ttft_slo_s == metrics.ttft_slo_s
        assert sorted(schedule.metrics[k].utilisation.values()) == sorted(metrics.utilisation.values())
        shares = schedule.shares_at(k)
        assert sum(shares.values()) == pytest.approx(1.0)
        assert shares.keys() == {name for name, n in schedule.workers.items() if n[k]}
        assert {p.max_batch for p in plan.pools.values()} <= {
            p.max_batch for p in schedule.plan.pools.values()
        }  # an engine is set once


def test_two_mixed_pools_need_no_more_than_any_split_of_fewer_workers() -> None:
    rates = (9.0, 1.5, 5.0)
    w, question = stocked(h100=3, l40s=5), single_gpu(9.0, "disaggregated", isl=6000, ttft=4.0, tpot=0.06)
    best = recommend(replace(question, mix=True), w).best
    assert best is not None
    assert isinstance(best.plan, Mixed)
    objective = build_objective(question, w, ["h100", "l40s"])
    schedule = schedule_mix(best.plan, question, w, objective, np.array(rates))
    kinds = dict(schedule.plan.pools)
    for k, rate in enumerate(rates[1:], start=1):
        asked = question.workload.at_rate(rate)
        plan = schedule.plan_at(k)
        assert plan_meets(w, plan, asked, question.slo)
        cost = evaluate_plan(w, plan, asked, question.slo).usd_per_h
        most = {name: int(schedule.workers[name][0]) for name in kinds}
        for counts in itertools.product(*(range(n + 1) for n in most.values())):
            pools = {n: replace(kinds[n], workers=c) for n, c in zip(kinds, counts, strict=True) if c}
            usd = sum(p.gpus * PRICES[p.hardware] for p in pools.values())
            by_role = {r: [p for n, p in pools.items() if n.startswith(r)] for r in ("prefill", "decode")}
            if usd >= cost - 1e-9 or not all(by_role.values()):
                continue
            if any(
                sum(full_rate_requests_per_s(w, SERVING, p, r, asked, question.slo) for p in ps) <= rate
                for r, ps in by_role.items()
            ):
                continue
            for p, d in itertools.product(*(splits(by_role[r]) for r in ("prefill", "decode"))):
                assert not plan_meets(w, plan_of(SERVING, prefill=p, decode=d), asked, question.slo), counts


def splits(pools: list[PoolPlan]) -> list[tuple[Part, ...]]:
    """One or two kinds of workers, their requests split in tenths."""
    if len(pools) == 1:
        return [(Part(pool=pools[0], share=1.0),)]
    assert len(pools) == 2
    return [
        tuple(Part(pool=pool, share=float(x)) for pool, x in zip(pools, (s, 1 - s), strict=True))
        for s in np.linspace(0.1, 0.9, 9)
    ]


def test_a_day_of_a_mix_costs_no_more_than_one_of_equal_workers(colocated: DayPlan) -> None:
    equal = plan_day(replace(colocated.question, mix=False), colocated.day, colocated.world)
    assert equal.schedule is None or colocated.usd <= equal.usd * (1 + 1e-9)
    assert colocated.usd < colocated.usd_fixed


def test_its_report_says_which_kinds_run_and_their_shares(colocated: DayPlan) -> None:
    found = json.loads(render_json(day_report(colocated)))
    jsonschema.validate(found, json.loads((SCHEMAS / "day.json").read_text()))
    assert isinstance(found["plan"]["colocated"], list)
    assert any(0 in period["workers"].values() for period in found["periods"])
    for period in found["periods"]:
        assert sum(period["shares"].values()) == pytest.approx(1.0)


def test_spare_workers_of_each_kind_that_runs() -> None:
    spared = replace(single_gpu(35.0, "colocated"), mix=True, spare_workers=1)
    day = Day(hours=(12.0, 12.0), rates=(35.0, 5.0), reserved_prices={})
    found = of_mix(plan_day(spared, day, stocked(h100=3, l40s=6)))
    for workers in found.schedule.workers.values():
        assert all(n == 0 or n >= 2 for n in workers)
