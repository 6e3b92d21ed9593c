"""Answers made up by hand, so that golden files stay put when constants are calibrated."""

from __future__ import annotations

from dataclasses import replace

from pdplan.catalog.store import Catalog
from pdplan.comparison import Comparison, Row
from pdplan.compose import World
from pdplan.inputs import Deployment
from pdplan.plan import Colocated, Disaggregated, Metrics, PoolPlan
from pdplan.question import Candidate, Infeasible, OtherKind, Question, Recommendation
from pdplan.workload import Slo, Workload

NAN = float("nan")
DIGEST = "0" * 64

DISAGGREGATED_METRICS = Metrics(
    requests_per_s=20.0,
    gpus=40.0,
    usd_per_h=143.6,
    usd_per_million_output_tokens=1.9477,
    usd_per_million_tokens=0.38954,
    total_tok_per_s_per_gpu=2560.0,
    output_tok_per_s_per_gpu=512.0,
    tok_per_s_per_user=27.7,
    ttft_mean_s=0.9,
    ttft_p50_s=0.85,
    ttft_p90_s=1.24,
    ttft_p99_s=2.1,
    ttft_slo_s=1.24,
    tpot_mean_s=0.0361,
    tpot_p50_s=0.036,
    tpot_p90_s=0.0398,
    tpot_p99_s=0.0402,
    tpot_slo_s=0.0398,
    request_latency_mean_s=37.8,
    request_latency_slo_s=41.9,
    kv_transfer_mean_s=0.0075,
    power_kw=28.0,
    utilisation={"prefill": 0.69, "decode": 0.97, "network": 0.0094},
    running={"prefill": 5.51, "decode": 361.0},
    max_batch={"prefill": 8.0, "decode": 1174.0},
    parts={
        "request handling": 0.008,
        "wait for prefill": 0.3484,
        "prefill": 0.5,
        "KV transfer": 0.0075,
        "first decode step": 0.0361,
    },
    problem=0,
)
COLOCATED_METRICS = replace(
    DISAGGREGATED_METRICS,
    gpus=56.0,
    usd_per_h=201.04,
    usd_per_million_output_tokens=2.7268,
    usd_per_million_tokens=0.54536,
    total_tok_per_s_per_gpu=1828.57142857143,
    output_tok_per_s_per_gpu=365.714285714286,
    kv_transfer_mean_s=0.0,
    power_kw=39.2,
    utilisation={"colocated": 0.81},
    running={"colocated": 103.0},
    max_batch={"colocated": 244.0},
    parts={"request handling": 0.008, "wait for prefill": 0.392, "prefill": 0.5},
)

DISAGGREGATED_PLAN = Disaggregated(
    model="deepseek-r1",
    precision="fp8",
    kv_precision="bf16",
    prefill=PoolPlan(hardware="h200", workers=3, tp=8, max_batch=8),
    decode=PoolPlan(hardware="h200", workers=2, tp=1, dp=8, ep=8, max_batch=1174),
)
COLOCATED_PLAN = Colocated(
    model="deepseek-r1",
    precision="fp8",
    kv_precision="bf16",
    colocated=PoolPlan(hardware="h200", workers=7, tp=8),
)
WORKLOAD = Workload(isl=4096, osl=1024, rate=20.0)
SLO = Slo(ttft_s=2.0, tpot_s=0.04)
DISAGGREGATED = Candidate(plan=DISAGGREGATED_PLAN, metrics=DISAGGREGATED_METRICS)
COLOCATED = Candidate(plan=COLOCATED_PLAN, metrics=COLOCATED_METRICS)


def world() -> World:
    catalog = Catalog(environment="")
    return World(
        models={"deepseek-r1": catalog.model("deepseek-r1")},
        accelerators={"h200": catalog.accelerator("h200")},
        prices={"h200": 3.59},
    )


def question(**changes) -> Question:
    asked = Question(
        model="deepseek-r1",
        workload=WORKLOAD,
        slo=SLO,
        prefill_hardware=("h200",),
        decode_hardware=("h200",),
        colocated_hardware=("h200",),
        precision="fp8",
        kv_precision="bf16",
    )
    return replace(asked, **changes)


def recommendation() -> Recommendation:
    return Recommendation(
        question=question(),
        world=world(),
        best=DISAGGREGATED,
        alternatives=(
            replace(
                DISAGGREGATED,
                plan=replace(
                    DISAGGREGATED_PLAN,
                    prefill=replace(DISAGGREGATED_PLAN.prefill, tp=1, dp=8, ep=8, workers=3),
                ),
            ),
            COLOCATED,
        ),
        best_other_mode=COLOCATED,
        best_other_kind=OtherKind(
            candidate=COLOCATED,
            differs_in=("mode",),
            why="it takes 56 h200 instead of 24 h200 and 16 h200; TPOT p90 39.8 ms of 40.0 ms allowed",
        ),
        binding="TPOT p90 39.8 ms of 40.0 ms allowed",
        notes=("constants of h200 are start values, not fitted",),
        layouts=12345,
    )


def goodput_recommendation() -> Recommendation:
    asked = question(workload=replace(WORKLOAD, rate=None), max_gpus=64)
    slower = replace(COLOCATED, metrics=replace(COLOCATED_METRICS, requests_per_s=15.0))
    other = OtherKind(candidate=slower, differs_in=("mode",), why="TPOT p90 39.8 ms of 40.0 ms allowed")
    return replace(
        recommendation(), question=asked, alternatives=(), best_other_mode=slower, best_other_kind=other
    )


def infeasible() -> Recommendation:
    return Recommendation(
        question=question(slo=Slo(ttft_s=2.0, tpot_s=0.004), max_gpus=32),
        world=world(),
        best=None,
        infeasible=Infeasible(
            binding="TPOT: the fastest layout needs 5.45 ms per token",
            nearest=DISAGGREGATED,
            misses={"tpot_s": (0.0398, 0.004), "gpus": (40.0, 32.0)},
            relax=("--tpot 6ms", "--max-gpus 40"),
        ),
        layouts=12345,
    )


def deployment() -> Deployment:
    return Deployment(
        plan=DISAGGREGATED_PLAN,
        workload=WORKLOAD,
        slo=SLO,
        world=world(),
        catalog_sha256=DIGEST,
        notes=("a note of [tp4] with *markup*",),
    )


def comparison() -> Comparison:
    return Comparison(
        rows=(
            Row(label={"model": "deepseek-r1", "hardware": "h200"}, answer=DISAGGREGATED),
            Row(label={"model": "deepseek-r1", "hardware": "mi300x"}, answer=COLOCATED),
            Row(
                label={"model": "deepseek-r1", "hardware": "l4"},
                answer=None,
                reason="deepseek-r1 in fp8 fits on no layout of l4",
                meets=False,
            ),
        ),
        workload=WORKLOAD,
        slo=SLO,
        catalog_sha256=DIGEST,
        world=world(),
    )
