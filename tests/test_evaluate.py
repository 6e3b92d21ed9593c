"""The composition point: published measurements, and properties that hold whatever the constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.compose import NetworkSpec, build_pool, evaluate_plan
from pdplan.plan import Colocated, Disaggregated, Metrics, Plan, PoolPlan
from pdplan.serving.pools import decode_tpot_s, first_step_s, pool_tpot_s
from pdplan.workload import Slo, Speculation, Workload

LLAMA = "llama-3.1-70b"
SERVING = {"model": LLAMA, "precision": "bf16", "kv_precision": "bf16"}


def colocated(workers: int = 1, **more: object) -> Colocated:
    pool = PoolPlan(hardware="h100", workers=workers, tp=4)
    return Colocated(**(SERVING | more), colocated=pool)  # type: ignore[arg-type]


def disaggregated(prefill: int = 2, decode: int = 1, **more: object) -> Disaggregated:
    return Disaggregated(
        **(SERVING | more),  # type: ignore[arg-type]
        prefill=PoolPlan(hardware="h100", workers=prefill, tp=4, max_batch=1),
        decode=PoolPlan(hardware="h100", workers=decode, tp=4),
    )


SLO, NETWORK = Slo(), NetworkSpec()


def metrics(plan: Plan, slo: Slo = SLO, network: NetworkSpec = NETWORK, **workload: float) -> Metrics:
    return evaluate_plan(world((LLAMA,), ("h100",), network=network), plan, Workload(**workload), slo)


def test_llama_70b_on_four_h100_is_as_measured() -> None:
    # vLLM, Llama-3.1-70B tp4 FP16, 547 in, 248 out, 6 requests/s: TPOT 18.8 ms, TTFT 54 ms (issue 2).
    found = metrics(colocated(), isl=547, osl=248, rate=6)
    assert found.tpot_mean_s == pytest.approx(18.8e-3, rel=0.25)
    # The source does not say whether 54 ms is the mean or the median. Prefill alone takes 47 ms: 35 ms of
    # kernels as measured on an H100 (benchmarks/device/h100.csv), and 160 all-reduces of 9 MB.
    # Both are within 30 %, and within a quarter without what HTTP adds to a request (10 ms).
    handling = found.parts["request handling"]
    for ttft in (found.ttft_p50_s, found.ttft_mean_s):
        assert ttft - handling == pytest.approx(54e-3, rel=0.25)
    assert found.ttft_p50_s == pytest.approx(54e-3, rel=0.3)


@pytest.mark.parametrize("plan", [colocated(), disaggregated()])
def test_littles_law_holds_in_the_decoding_pool(plan: Plan) -> None:
    found = metrics(plan, isl=1000, osl=300, rate=5)
    pool = "colocated" if plan.mode == "colocated" else "decode"
    workers = plan.pools[pool].workers
    assert found.running[pool] == pytest.approx(5 / workers * 300 * found.tpot_mean_s, rel=1e-6)


@pytest.mark.parametrize("plan", [colocated(2), disaggregated()])
@pytest.mark.parametrize("concurrency", [1, 8, 64, 200])
def test_littles_law_holds_in_a_closed_loop(plan: Plan, concurrency: int) -> None:
    found = metrics(plan, isl=1000, osl=300, concurrency=concurrency)
    latency = found.ttft_mean_s + found.tpot_mean_s * 300
    # The first decode step of a disaggregated request counts into TTFT and into running.
    slack = found.tpot_mean_s / latency if plan.mode == "disaggregated" else 0.0
    assert found.requests_per_s * latency == pytest.approx(concurrency, rel=0.02 + slack)


def test_a_hand_over_waits_for_steps_of_a_busy_decode_worker() -> None:
    asked = Workload(isl=1000, osl=300, rate=5)
    plan = disaggregated()
    pool = build_pool(world((LLAMA,), ("h100",)), plan, plan.decode, "decode", asked)
    engine = replace(pool.setting.constants.engine, handover_steps=4.0)
    setting = replace(pool.setting, constants=replace(pool.setting.constants, engine=engine))
    pool = replace(pool, setting=setting)
    # A plan's worker is busy: the own step and four of others.
    assert float(first_step_s(pool, asked, 7.0, 0.01)) == pytest.approx(0.05)
    # Drafting one token that is always accepted, each step gives two: four steps take eight tokens' time.
    drafting = replace(pool, speculation=Speculation(drafted=1, acceptance=1.0))
    assert float(first_step_s(drafting, asked, 7.0, 0.01)) == pytest.approx(0.09)
    # An engine whose drafting workers take half of the steps: two of them, four tokens' time.
    engine = replace(engine, drafting_handover_share=0.5)
    fewer = replace(setting, constants=replace(setting.constants, engine=engine))
    assert float(first_step_s(replace(drafting, setting=fewer), asked, 7.0, 0.01)) == pytest.approx(0.05)
    assert float(first_step_s(replace(pool, setting=fewer), asked, 7.0, 0.01)) == pytest.approx(0.05)
    # A closed loop with ln 2 sequences on a worker leaves it idle half of the time.
    closed = Workload(isl=1000, osl=300, concurrency=8)
    assert float(first_step_s(pool, closed, np.log(2.0), 0.01)) == pytest.approx(0.03)


@settings(max_examples=25)
@given(rate=st.floats(0.5, 8), more=st.floats(1.01, 2), isl=st.integers(100, 4000))
def test_more_traffic_is_never_quicker(rate: float, more: float, isl: int) -> None:
    light = metrics(disaggregated(6, 3), isl=isl, osl=200, rate=rate)
    heavy = metrics(disaggregated(6, 3), isl=isl, osl=200, rate=rate * more)
    assert heavy.tpot_mean_s >= light.tpot_mean_s * (1 - 1e-9)
    assert heavy.ttft_slo_s >= light.ttft_slo_s * (1 - 1e-9)


@settings(max_examples=25)
@given(rate=st.floats(0.5, 12), workers=st.integers(1, 8))
def test_more_workers_are_never_slower(rate: float, workers: int) -> None:
    few = metrics(colocated(workers), isl=800, osl=200, rate=rate)
    many = metrics(colocated(workers + 1), isl=800, osl=200, rate=rate)
    assert many.tpot_slo_s <= few.tpot_slo_s * (1 + 1e-9)
    if few.problem == 0:
        assert many.ttft_slo_s <= few.ttft_slo_s * (1 + 1e-9)


@pytest.mark.parametrize("mixed", [False, True])
def test_tokens_take_longer_as_the_batch_grows(mixed: bool) -> None:
    w = world((LLAMA,), ("h100",))
    workload = Workload(isl=1000, osl=300, rate=1)
    pool = build_pool(w, colocated(), PoolPlan(hardware="h100", workers=1, tp=4), "colocated", workload)
    batches = np.geomspace(1, 500, 40)
    wide = replace(
        pool,
        layout=pool.layout[np.zeros(40, dtype=int)],
        workers=np.ones(40),
        max_batch=np.full(40, 1e4),
    )
    assert np.all(np.diff(pool_tpot_s(wide, workload, batches, mixed)) > 0)


def test_scalar_equals_array_of_one() -> None:
    w = world((LLAMA,), ("h100",))
    workload = Workload(isl=1000, osl=300, rate=1)
    pool = build_pool(w, colocated(), PoolPlan(hardware="h100", workers=1, tp=4), "colocated", workload)
    alone = [float(decode_tpot_s(pool, workload, np.array([b]))[0]) for b in (1.0, 17.0, 200.0)]
    three = replace(
        pool, layout=pool.layout[np.zeros(3, dtype=int)], workers=np.ones(3), max_batch=np.ones(3)
    )
    assert decode_tpot_s(three, workload, np.array([1.0, 17.0, 200.0])) == pytest.approx(alone, rel=1e-12)


def test_an_overloaded_plan_says_so_and_does_not_crash() -> None:
    assert "prefill pool cannot keep up" in metrics(disaggregated(1, 4), isl=8000, osl=10, rate=200).reason
    assert "run short" in metrics(disaggregated(60, 1), isl=500, osl=800, rate=300).reason
    assert metrics(colocated(), isl=4000, osl=400, rate=500).problem != 0


def test_a_slow_network_is_a_reason_of_its_own() -> None:
    slow = NetworkSpec(bandwidth_bytes_per_s=1e7)
    assert "network" in metrics(disaggregated(4, 2), network=slow, isl=4000, osl=100, rate=3).reason


def test_loss_jams_the_network_that_latency_only_delays() -> None:
    clean = metrics(
        disaggregated(), network=NetworkSpec(bandwidth_bytes_per_s=12.5e9), isl=4000, osl=100, rate=1
    )
    lossy = metrics(
        disaggregated(),
        network=NetworkSpec(bandwidth_bytes_per_s=12.5e9, loss=1e-3, round_trip_s=100e-6),
        isl=4000,
        osl=100,
        rate=1,
    )
    late = metrics(
        disaggregated(),
        network=NetworkSpec(bandwidth_bytes_per_s=12.5e9, latency_s=0.05),
        isl=4000,
        osl=100,
        rate=1,
    )
    assert lossy.kv_transfer_mean_s > 1.2 * clean.kv_transfer_mean_s
    assert late.kv_transfer_mean_s >= 0.05


def test_jitter_widens_the_tail_and_not_the_mean() -> None:
    calm = metrics(disaggregated(), isl=1000, osl=100, rate=1)
    shaky = metrics(disaggregated(), network=NetworkSpec(jitter_s=0.02), isl=1000, osl=100, rate=1)
    assert shaky.ttft_mean_s == pytest.approx(calm.ttft_mean_s)
    # The normal quantile of 99 % is 2.3263.
    assert shaky.ttft_p99_s - calm.ttft_p99_s == pytest.approx(2.3263 * 0.02, rel=1e-4)


def test_answers_of_different_length_are_longer_while_they_run() -> None:
    even = Workload(isl=100, osl=1000, rate=1)
    mixed = Workload(isl=100, osl=1000, rate=1, osl_cv=1.0)
    # Exponential answers: what runs is twice the mean long (inspection paradox).
    assert mixed.last_context - 100 == 2 * (even.last_context - 100)


def test_prefix_reuse_saves_prefill_and_not_context() -> None:
    cold = metrics(colocated(), isl=4000, osl=200, rate=1)
    warm = metrics(colocated(), isl=4000, osl=200, rate=1, prefix_reuse=0.8)
    assert warm.ttft_mean_s < 0.6 * cold.ttft_mean_s
    short = metrics(colocated(), isl=800, osl=200, rate=1)
    assert warm.tpot_mean_s > short.tpot_mean_s


def test_speculation_pays_for_its_draft() -> None:
    w = world(("deepseek-r1",), ("h200",))
    plan = Colocated(
        model="deepseek-r1",
        precision="fp8",
        kv_precision="bf16",
        colocated=PoolPlan(hardware="h200", workers=1, tp=8),
    )
    workload, slo = Workload(isl=1000, osl=500, concurrency=8), Slo()
    plain = evaluate_plan(w, plan, workload, slo)
    drafting = evaluate_plan(
        w, replace(plan, speculation=Speculation(drafted=1, acceptance=0.8)), workload, slo
    )
    useless = evaluate_plan(
        w, replace(plan, speculation=Speculation(drafted=1, acceptance=0.0)), workload, slo
    )
    assert plain.tpot_mean_s / 1.8 < drafting.tpot_mean_s < plain.tpot_mean_s
    assert useless.tpot_mean_s > plain.tpot_mean_s


def test_cost_is_accelerators_times_price() -> None:
    found = metrics(disaggregated(2, 1), isl=1000, osl=250, rate=4)
    price = world((LLAMA,), ("h100",)).price("h100")
    assert found.usd_per_h == pytest.approx(12 * price)
    # $/h over 3600 · 4 · 250 tokens an hour, per million.
    assert found.usd_per_million_output_tokens == pytest.approx(12 * price / 3.6)


def test_caches_sent_one_after_another_bound_a_closed_loop() -> None:
    """A prefill worker that takes 0.5 s to send a prompt passes on two a second; one alone is 0.5 s later."""

    def served(requests: float, handover_s: float) -> Metrics:
        return metrics(disaggregated(), isl=1024, osl=128, concurrency=requests, handover_s=handover_s)

    assert float(served(500, 0.0).requests_per_s) > 8
    assert float(served(500, 0.5).requests_per_s) == pytest.approx(4.0, rel=0.03)
    assert float(served(1, 0.5).ttft_mean_s - served(1, 0.0).ttft_mean_s) == pytest.approx(0.5, abs=0.02)
