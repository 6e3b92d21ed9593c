"""The fit of engine constants: finds what made the data, keeps to the start where data says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pdplan.calibration import engine_fit
from pdplan.calibration.engine_file import with_values, write_values
from pdplan.calibration.engine_parts import doubtful, running_sequences
from pdplan.calibration.engine_ttft import TTFT
from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_yaml
from pdplan.efficiency import CONSTANTS_DIRECTORY, Engine, as_built, benchmark_settings, engine_constants
from pdplan.laws.experts import busiest_rank_factor, busiest_rank_touched, expected_touched_experts
from pdplan.measured.maturity import tuning_factor
from pdplan.measured.predict import predict
from pdplan.measured.run import Run
from pdplan.plan import PoolPlan

DOCUMENT = dict(read_yaml(CONSTANTS_DIRECTORY / "engines.yaml").data)
ALL_REDUCE_HABIT = ("one_shot_tokens", "small_group_library_bytes", "large_group_library_bytes")


def made_up_runs() -> list[Run]:
    runs = []
    for model, precision in (("llama-3.1-70b", "fp8"), ("gpt-oss-120b", "fp4"), ("minimax-m2.5", "fp8")):
        for tp in (4, 8):
            for concurrency in (4, 16, 64):
                runs.append(
                    Run(
                        id=f"{model}-{tp}-{concurrency}",
                        source="inferencex",
                        date="2026-03-01",
                        model=model,
                        hardware="h200",
                        engine="vllm",
                        engine_version="0.18.0",
                        precision=precision,
                        mode="colocated",
                        spec="none",
                        isl=1024,
                        osl=1024,
                        length_spread=0.2,
                        concurrency=concurrency,
                        decode=PoolPlan(hardware="h200", workers=1, tp=tp),
                        prefill=None,
                        ttft_mean_s=0.1,
                        ttft_median_s=float("nan"),
                        tpot_mean_s=0.01,
                        gpus=tp,
                        total_tok_per_s_per_gpu=float("nan"),
                    )
                )
    return runs


def measured(runs: list[Run], document: dict[str, object]) -> list[Run]:
    """The runs with what the tool itself predicts as their measurement."""
    found = predict(runs, Catalog(), document)
    return [
        replace(r, tpot_mean_s=float(t), ttft_mean_s=float(f))
        for r, t, f in zip(runs, found.tpot_mean_s, found.ttft_mean_s, strict=True)
    ]


def test_the_fit_finds_the_constants_that_made_the_data() -> None:
    truth = {
        ("common", "kernel_overhead_share"): {"value": 0.4},
        ("common", "step_overhead_s"): {"value": 0.1e-3},
        ("engines", "vllm", "sequence_overhead_s"): {"value": 2e-5},
        ("common", "expert_skew"): {"value": 1.0},
        ("common", "tuning_exponent"): {"value": 0.1},
        ("common", "collective_wait_s"): {"value": 5e-6},
    }
    runs = measured(made_up_runs(), with_values(DOCUMENT, truth))
    _, fitted = engine_fit.fit(engine_fit.sample(runs, Catalog(), DOCUMENT), DOCUMENT)
    again = predict(runs, Catalog(), fitted)
    errors = np.abs(again.tpot_mean_s / np.array([r.tpot_mean_s for r in runs]) - 1)
    assert np.median(errors) < 0.03
    assert np.max(errors) < 0.1
    before = predict(runs, Catalog(), DOCUMENT)
    assert np.median(np.abs(before.tpot_mean_s / np.array([r.tpot_mean_s for r in runs]) - 1)) > 0.05


def test_constants_without_data_stay_at_their_start() -> None:
    runs = measured(made_up_runs(), DOCUMENT)
    values, _ = engine_fit.fit(engine_fit.sample(runs, Catalog(), DOCUMENT), DOCUMENT)
    acceptance = next(c for c in engine_fit.STEP if c.path == ("common", "mtp_acceptance"))
    assert values[acceptance.path]["value"] == pytest.approx(acceptance.start, rel=1e-3)


def test_every_fitted_constant_has_a_line_in_the_file(tmp_path: Path) -> None:
    values = {c.path: {"value": 1.25e-5, "rows": 7, "median_error": 0.1} for c in (*engine_fit.STEP, *TTFT)}
    target = tmp_path / "engines.yaml"
    write_values(CONSTANTS_DIRECTORY / "engines.yaml", target, values)
    document = dict(read_yaml(target).data)
    assert document["generations"]["cdna3"]["kernel_time_factor"]["value"] == 1.25e-5
    assert document["network"] == DOCUMENT["network"]
    assert document["engines"]["vllm"]["partial_ep"] == DOCUMENT["engines"]["vllm"]["partial_ep"]


def test_a_fit_drafts_as_many_tokens_as_serve_a_run_best() -> None:
    few = replace(made_up_runs()[0], model="deepseek-r1", spec="mtp", hardware="b200", concurrency=4)
    many = replace(few, id="many", concurrency=1024, decode=PoolPlan(hardware="b200", workers=1, tp=8))
    catalog = Catalog()
    found = predict([few, many], catalog, DOCUMENT)
    by_drafts = []
    for drafted in (1, 2, 3):
        only = with_values(DOCUMENT, {("common", "mtp_drafted"): {"value": drafted}})
        by_drafts.append(predict([few, many], catalog, only).tpot_mean_s)
    assert np.all(np.diff([t[0] for t in by_drafts]) <= 0)  # a small batch drafts all it may
    assert found.tpot_mean_s == pytest.approx(np.min(by_drafts, axis=0))


def test_starts_shrink_with_the_months_since_a_models_release() -> None:
    run = made_up_runs()[0]  # Llama 3.1 came on 2024-07-23
    dates = ("2024-07-23", "2025-01-23", "2025-07-23", "2026-03-23", "2027-03-23", "")
    found = tuning_factor(0.5, [replace(run, date=d) for d in dates])
    months = np.array([1.0, 6.0, 12.0, 20.0, 20.0, 12.0])  # from 1 to 20; unknown is a year
    assert found == pytest.approx(np.sqrt(12.0 / months), rel=1e-2)
    assert tuning_factor(0.5, [replace(run, model="mine")])[0] == 1.0


def test_an_older_build_adds_what_the_file_says_and_nothing_else() -> None:
    today = engine_constants("trtllm", "blackwell")
    blocks = DOCUMENT["builds"]
    more, later = (
        blocks["trtllm-1.1"][f"added_{name}_s"]["value"] for name in ("sequence_overhead", "rank_wait")
    )
    builds = ("trtllm-1.1", "trtllm-1.1-chained", "trtllm-1.1-deepgemm")
    times = [blocks[name]["kernel_start_factor"]["value"] for name in builds]
    assert as_built(today, "") == today
    old, chained, deepgemm = (as_built(today, name) for name in builds)
    starts = [today.kernel_overhead_share * each for each in times]
    habit = {name: blocks["trtllm-1.1"][name]["value"] for name in ALL_REDUCE_HABIT}
    seconds = {
        "sequence_overhead_s": today.sequence_overhead_s + more,
        "rank_wait_s": today.rank_wait_s + later,
    }
    assert old == replace(today, kernel_overhead_share=starts[0], **seconds, **habit)
    assert deepgemm == replace(old, kernel_overhead_share=starts[2])
    # Chained launches: kernels start as today's; over a rack, all-reduces are not chosen by tokens and bytes.
    assert chained == replace(old, kernel_overhead_share=today.kernel_overhead_share, one_shot_tokens=0.0)
    assert times[0] > times[1] == 1.0
    run = replace(made_up_runs()[0], engine="trtllm")
    found = predict([run, replace(run, build="trtllm-1.1")], Catalog(), DOCUMENT).tpot_mean_s
    assert found[0] < found[1]


def test_the_fit_finds_what_an_older_build_adds() -> None:
    path = ("builds", "trtllm-1.1", "added_sequence_overhead_s")
    runs = [
        replace(
            r, id=f"{r.id} {build} {times}", engine="trtllm", build=build, concurrency=r.concurrency * times
        )
        for r in made_up_runs()
        for build in ("", "trtllm-1.1")
        for times in (1, 4, 8)  # many sequences tell what each adds from what starts of kernels add
    ]
    runs = measured(runs, with_values(DOCUMENT, {path: {"value": 4e-5}}))
    values, _ = engine_fit.fit(engine_fit.sample(runs, Catalog(), DOCUMENT), DOCUMENT)
    assert 2e-5 < values[path]["value"] < 4.2e-5  # 4e-5, drawn to its start of 1e-5


def test_the_ideal_engine_adds_nothing() -> None:
    ideal = Engine()
    assert ideal.collective_wait_s == ideal.tuning_exponent == 0.0
    assert ideal.rank_wait_s == 0.0
    assert (ideal.kernel_overhead_share, ideal.kernel_time_factor, ideal.expert_skew) == (1.0, 1.0, 0.0)
    assert ideal.step_overhead_s == ideal.sequence_overhead_s == ideal.request_overhead_s == 0.0


def test_generations_scale_what_engines_share() -> None:
    plain, amd = engine_constants("sglang", "hopper"), engine_constants("sglang", "cdna3")
    assert amd.kernel_overhead_share > plain.kernel_overhead_share
    assert engine_constants("sglang", "cdna5") == engine_constants("sglang", "cdna4")


def test_a_benchmark_without_settings_of_its_own_has_the_common_ones() -> None:
    assert benchmark_settings("mine", "vllm", "hopper")["burst_share"] == 0.1


def test_a_run_spends_its_life_in_prefill_and_decode() -> None:
    run = replace(made_up_runs()[0], concurrency=10, tpot_mean_s=0.01, ttft_mean_s=0.01 * (921.6 - 1))
    assert running_sequences([run])[0] == pytest.approx(5.0)


def test_doubtful_runs_are_named_with_a_reason() -> None:
    doubted = replace(made_up_runs()[0], engine="sglang", hardware="mi355x", date="2025-12-12")
    assert doubtful([made_up_runs()[0]]) == {}
    assert "broken build" in doubtful([doubted])[0]


@pytest.mark.parametrize("skew", [0.0, 0.5, 2.0])
def test_touched_experts_grow_with_tokens_up_to_all(skew: float) -> None:
    touched = expected_touched_experts(np.array([1.0, 8.0, 64.0, 1e9]), 256, 8, skew)
    assert touched[0] == pytest.approx(8.0)
    assert np.all(np.diff(touched) > 0)
    assert touched[-1] == pytest.approx(256.0, rel=0.03)


def test_uneven_popularity_touches_fewer_and_loads_the_busiest_more() -> None:
    # Simulated: 256 experts with gamma popularities of variation 1, 64 tokens of 8 choices each.
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(300):
        popularity = rng.gamma(1.0, 1.0, 256)
        chance = 1 - np.exp(-popularity / popularity.sum() * 64 * 8)
        seen.append(chance.sum())
    assert float(expected_touched_experts(64, 256, 8, 1.0)) == pytest.approx(np.mean(seen), rel=0.03)
    assert busiest_rank_factor(8, 1e9, 256, 1.0) > busiest_rank_factor(8, 1e9, 256, 0.0)


def test_the_busiest_rank_touches_at_least_the_mean_and_at_most_all() -> None:
    here = busiest_rank_touched(8.0, np.array([1.0, 8.0, 100.0, 256.0]), 256)
    assert np.all(here >= np.array([1.0, 8.0, 100.0, 256.0]) / 8)
    assert np.all(here <= 32.0)
