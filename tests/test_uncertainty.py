"""Error bars and confidence: quantiles of measured errors, plans sized to them, what commands say of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given
from hypothesis import strategies as st

import pdplan
from pdplan.calibration.engine_errors import LEVELS, LeftOut, _cell, covered
from pdplan.cli.app import run as run_pdplan
from pdplan.compose import evaluate_plan
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.evaluate import judged, meets
from pdplan.files import read_yaml
from pdplan.plan import Colocated, Disaggregated, PoolPlan
from pdplan.question import Question
from pdplan.search import recommend
from pdplan.uncertainty import Ground, error_bars, error_factor, slo_of, slo_on, spread
from pdplan.workload import Slo

ERRORS = read_yaml(CONSTANTS_DIRECTORY / "errors.yaml").data
QUANTITIES, MODES = ("tpot", "ttft", "tok_per_s_per_gpu"), ("colocated", "disaggregated")
KNOWN = Ground(model="llama-3.1-70b", hardware="h200", engine="vllm", mode="colocated")
LESS_KNOWN = (
    replace(KNOWN, model="llama-4-scout"),
    replace(KNOWN, hardware="l40s"),
    replace(KNOWN, hardware="tpu-v6e"),
    replace(KNOWN, engine="mine"),
)
ROOT = Path(__file__).parents[1]


# ------------------------------------------------------------------------ quantiles


def test_a_factor_is_the_quantile_of_the_file() -> None:
    cell = ERRORS["quantiles"]["run"]["colocated"]["tpot"]
    for level, factor in zip(ERRORS["levels"], cell["factors"], strict=True):
        assert error_factor("tpot", KNOWN, level) == pytest.approx(factor, rel=1e-9)


def test_between_two_levels_the_logarithm_is_linear_in_the_normal_quantile() -> None:
    # By hand, half way between the normal quantiles of 90 % (1.2816) and 95 % (1.6449): 1.46321 is 92.83 %.
    factors = dict(
        zip(ERRORS["levels"], ERRORS["quantiles"]["run"]["colocated"]["tpot"]["factors"], strict=True)
    )
    p = NormalDist().cdf((1.2815515655446004 + 1.6448536269514722) / 2)
    assert error_factor("tpot", KNOWN, p) == pytest.approx(math.sqrt(factors[0.9] * factors[0.95]), rel=1e-6)


@given(
    st.sampled_from(QUANTITIES),
    st.sampled_from((KNOWN, *LESS_KNOWN, replace(LESS_KNOWN[2], model="x", engine="y"))),
    st.sampled_from(MODES),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_more_certainty_takes_a_larger_factor(
    quantity: str, ground: Ground, mode: str, p: float, q: float
) -> None:
    at = replace(ground, mode=mode)
    low, high = (error_factor(quantity, at, x) for x in sorted((p, q)))
    assert low <= high * (1 + 1e-12)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ground", LESS_KNOWN)
def test_bars_are_nowhere_narrower_where_less_is_known(quantity: str, mode: str, ground: Ground) -> None:
    on, other = replace(KNOWN, mode=mode), replace(ground, mode=mode)
    known, unknown = spread(quantity, on, on), spread(quantity, other, other)
    assert unknown.low <= known.low < 1.0 < known.high <= unknown.high


def test_what_is_new_widens_the_bars_in_some_quantity() -> None:
    for ground in LESS_KNOWN:
        grown = [
            spread(q, other, other).high / spread(q, on, on).high
            for q in QUANTITIES
            for mode in MODES
            for on, other in [(replace(KNOWN, mode=mode), replace(ground, mode=mode))]
        ]
        assert max(grown) > 1.0, ground


def test_several_new_things_widen_more_than_each() -> None:
    everything = replace(KNOWN, model="llama-4-scout", hardware="tpu-v6e", engine="mine")
    widest = max(spread("tpot", g, g).high for g in LESS_KNOWN)
    assert spread("tpot", everything, everything).high >= widest


def test_the_80_percent_intervals_hold_75_to_85_percent_of_runs_that_took_no_part() -> None:
    """What nested cross-validation wrote down: constants and quantiles fitted without the group."""
    checked = 0
    for kind, modes in ERRORS["quantiles"].items():
        for mode, cells in modes.items():
            for quantity, cell in cells.items():
                if cell["groups"] > 1:
                    checked += 1
                    assert 0.75 <= cell["coverage"] <= 0.85, (kind, mode, quantity)
    assert checked > 20


def test_coverage_of_known_errors_is_what_it_is() -> None:
    """Normal errors of one size in every group: no stretching is needed, and 80 % are inside."""
    random = np.random.default_rng(7)
    names = np.repeat([f"g{i}" for i in range(8)], 1500)
    ratios = {"tpot": np.exp(random.normal(0.0, 0.2, names.size))}
    found = LeftOut(names=names, ratios=ratios, without=dict.fromkeys(set(names), ratios))
    cell = _cell(found, "tpot", np.ones(names.size, dtype=bool))
    assert cell.blind == pytest.approx(0.8, abs=0.015)
    assert cell.stretch == pytest.approx(1.0, abs=0.05)
    expected = np.exp(0.2 * np.array([NormalDist().inv_cdf(p) for p in (0.1, 0.9)]))
    assert cell.factors[[LEVELS.index(0.1), LEVELS.index(0.9)]] == pytest.approx(expected, rel=0.02)


def test_groups_that_differ_are_stretched_until_they_are_covered() -> None:
    """Three groups off by different factors: quantiles of two of them do not hold the third."""
    random = np.random.default_rng(7)
    names = np.repeat(["a", "b", "c"], 2000)
    shift = np.repeat([-0.4, 0.0, 0.4], 2000)
    ratios = {"tpot": np.exp(shift + random.normal(0.0, 0.1, names.size))}
    found = LeftOut(names=names, ratios=ratios, without=dict.fromkeys(set(names), ratios))
    cell = _cell(found, "tpot", np.ones(names.size, dtype=bool))
    assert cell.blind < 0.6
    assert cell.stretch > 1.1
    assert cell.coverage == pytest.approx(0.8, abs=0.02)


def test_coverage_by_hand() -> None:
    quantiles = np.linspace(-1.0, 1.0, len(LEVELS))
    low, high = (quantiles[LEVELS.index(p)] for p in (0.1, 0.9))
    ratios = np.array([low - 0.01, low + 0.01, 0.0, high + 0.01])
    assert covered([(ratios, quantiles)], 1.0) == 0.5
    assert covered([(ratios, quantiles)], 1.1) == 1.0


# ------------------------------------------------------------------------ which accelerator counts

PAIR = Disaggregated(
    model="deepseek-r1",
    precision="fp8",
    kv_precision="bf16",
    prefill=PoolPlan(hardware="tpu-v6e", workers=1, tp=8),
    decode=PoolPlan(hardware="h200", workers=1, tp=8),
)


def test_a_queue_that_never_ends_takes_endlessly_with_any_confidence() -> None:
    """Found on TPU v5e with three tokens of answer: endless less endless warned."""
    model, load = "qwen3-vl-30b-a3b", {"isl": 5, "osl": 3, "rate": 45.4, "arrival_cv": 1.7, "confidence": 0.8}
    found = pdplan.recommend(model=model, hardware="tpu-v5e", mode="colocated", ttft=0.38, tpot=0.87, **load)
    assert found.best is not None
    crowded = replace(found.best.metrics, ttft_slo_s=math.inf, request_latency_slo_s=math.inf)
    values = judged(crowded, Slo(confidence=0.8, ttft_factor=1.5, tpot_factor=1.2))
    assert values["request_latency_s"] == math.inf


def test_ttft_errs_as_the_prefill_accelerator_and_tpot_as_the_decode_one() -> None:
    unknown, known = (
        Ground(model="deepseek-r1", hardware=h, engine="vllm", mode="disaggregated")
        for h in ("tpu-v6e", "h200")
    )
    room = slo_of(PAIR, Slo(ttft_s=1.0, tpot_s=0.1, confidence=0.8))
    assert room.ttft_factor == max(error_factor("ttft", unknown, 0.8), 1.0)
    assert room.tpot_factor == max(error_factor("tpot", known, 0.8), 1.0)


def test_cost_per_token_is_as_uncertain_as_throughput_only_where_that_is_a_result() -> None:
    plan = Colocated(
        model="llama-3.1-70b", precision="fp8", kv_precision="bf16",
        colocated=PoolPlan(hardware="h200", workers=1, tp=4),
    )  # fmt: skip
    inputs = {"isl": 2048, "osl": 512}
    open_loop, closed = (
        pdplan.evaluate(plan, **inputs, rate=1),
        pdplan.evaluate(plan, **inputs, concurrency=32),
    )
    assert set(error_bars(plan, open_loop)) == {"ttft_mean_s", "tpot_mean_s"}
    bars = error_bars(plan, closed, throughput=True)
    rate, usd = bars["requests_per_s"], bars["usd_per_million_output_tokens"]
    assert rate.low * usd.high == pytest.approx(closed.requests_per_s * closed.usd_per_million_output_tokens)


# ------------------------------------------------------------------------ sizing

W = world(("llama-3.1-8b", "llama-3.1-70b"), ("h100", "h200"), prices={"h100": 2.0, "h200": 3.0})
ASKED = {
    "both limits": question(
        "llama-3.1-70b", ("h100", "h200"), isl=2000, osl=500, rate=20, ttft=0.8, tpot=0.04
    ),
    "a whole request": question(
        "llama-3.1-8b", ("h100",), isl=1000, osl=300, rate=60, request_latency_s=4.0, ttft=1.0
    ),
    "one pool": question(
        "llama-3.1-70b", ("h200",), isl=3000, osl=300, rate=10, ttft=1.5, tpot=0.06, mode="colocated"
    ),
    "two pools": question(
        "llama-3.1-70b", ("h100",), isl=3000, osl=300, rate=10, ttft=2.0, tpot=0.06, mode="disaggregated"
    ),
}  # fmt: skip


def sure(asked: Question, confidence: float | None) -> Question:
    return replace(asked, slo=replace(asked.slo, confidence=confidence), alternatives=0)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_more_confidence_never_costs_less(asked: Question) -> None:
    costs = []
    for confidence in (None, 0.5, 0.7, 0.8, 0.9, 0.95):
        found = recommend(sure(asked, confidence), W).best
        costs.append(found.metrics.usd_per_h if found else math.inf)
    assert math.isfinite(costs[0])
    assert costs == sorted(costs)
    assert costs[-1] > costs[0], "the question is too easy to tell anything"


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_the_pessimistic_end_keeps_every_limit(asked: Question) -> None:
    found = recommend(sure(asked, 0.85), W).best
    assert found is not None
    slo = slo_of(found.plan, replace(asked.slo, confidence=0.85))
    assert slo.ttft_factor > 1.0
    assert slo.tpot_factor > 1.0
    assert bool(meets(found.metrics, slo))
    values, metrics = judged(found.metrics, slo), found.metrics
    assert values["ttft_s"] == slo.ttft_factor * metrics.ttft_slo_s
    answer_s = metrics.request_latency_slo_s - metrics.ttft_slo_s
    assert values["request_latency_s"] == slo.ttft_factor * metrics.ttft_slo_s + slo.tpot_factor * answer_s


@pytest.mark.parametrize("name", ["one pool", "two pools"])
def test_confidence_asks_for_more_than_tighter_limits(name: str) -> None:
    """On one accelerator the factors are the same for every plan: limits divided by them ask no more."""
    asked = ASKED[name]
    serving = recommend(asked, W).best.plan  # type: ignore[union-attr]
    hardware = asked.decode_hardware * (1 if asked.mode == "colocated" else 2)
    room = slo_on(replace(asked.slo, confidence=0.9), serving, *hardware)
    assert asked.slo.ttft_s is not None
    assert asked.slo.tpot_s is not None
    tighter = replace(
        asked,
        alternatives=0,
        slo=replace(
            asked.slo, ttft_s=asked.slo.ttft_s / room.ttft_factor, tpot_s=asked.slo.tpot_s / room.tpot_factor
        ),
    )
    confident, strict = recommend(sure(asked, 0.9), W).best, recommend(tighter, W).best
    assert confident is not None
    assert strict is not None
    assert confident.metrics.usd_per_h >= strict.metrics.usd_per_h


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_confident_plan_carries_the_rate_should_steps_take_longer(asked: Question) -> None:
    """Steps f times as long: as many requests run as at f times the rate, each token f times as late."""
    found = recommend(sure(asked, 0.9), W).best
    assert found is not None
    slo = slo_of(found.plan, replace(asked.slo, confidence=0.9))
    slower = evaluate_plan(W, found.plan, asked.workload.at_rate(asked.workload.rate * slo.tpot_factor), slo)
    role = "decode" if "decode" in found.plan.pools else "colocated"
    assert slower.utilisation[role] <= 1 + 1e-9
    if slo.tpot_s is not None:
        assert slo.tpot_factor * slower.tpot_slo_s <= slo.tpot_s * (1 + 1e-9)


def test_the_most_goodput_shrinks_with_confidence() -> None:
    asked = replace(
        question("llama-3.1-70b", ("h200",), isl=2000, osl=300, rate=None, ttft=1.0, tpot=0.03),
        max_gpus=8,
        alternatives=0,
    )
    rates = [recommend(sure(asked, c), W).best.metrics.requests_per_s for c in (None, 0.7, 0.9)]  # type: ignore[union-attr]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_where_no_plan_is_sure_enough_leaving_confidence_out_is_offered() -> None:
    asked = question("llama-3.1-70b", ("h100",), isl=2000, osl=300, rate=5, ttft=1.0, tpot=0.0105)
    assert recommend(sure(asked, None), W).best is not None
    found = recommend(sure(asked, 0.95), W)
    assert found.best is None
    assert found.infeasible is not None
    assert "95 % confidence" in found.infeasible.binding
    assert any("no --confidence" in way for way in found.infeasible.relax)


# ------------------------------------------------------------------------ commands

FLAGS = ["--isl", "2k", "--osl", "512", "--rate", "10", "--ttft", "1s", "--tpot", "50ms"]
HERE = ["--model", "llama-3.1-70b", "--hardware", "h200"]


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run_pdplan(list(words)) == code
    return capsys.readouterr().out


def test_recommend_says_what_it_sized_to(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "recommend", *HERE, *FLAGS, "--confidence", "90%")
    assert "with 90% confidence" in text
    assert "p90 at 90%" in text
    assert "held to the pessimistic end: TTFT p90 " in text
    data = json.loads(said(capsys, "recommend", *HERE, *FLAGS, "--confidence", "90%", "--format", "json"))
    end, metrics = data["pessimistic_end"], data["metrics"]
    assert data["inputs"]["slo"]["confidence"] == end["confidence"] == 0.9
    assert end["tpot_slo_s"] == pytest.approx(end["tpot_factor"] * metrics["tpot_slo_s"])
    assert end["tpot_slo_s"] <= 0.05
    assert end["ttft_slo_s"] <= 1.0


def test_what_recommend_printed_is_evaluated_with_its_confidence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(said(capsys, "recommend", *HERE, *FLAGS, "--confidence", "0.9", "--format", "json"))
    printed = json.loads(path.read_text())
    again = json.loads(said(capsys, "evaluate", str(path), "--format", "json"))
    assert again["pessimistic_end"] == printed["pessimistic_end"]
    plain = pdplan.evaluate(path)
    assert plain.tpot_slo_s == pytest.approx(printed["metrics"]["tpot_slo_s"])


def test_a_question_file_and_python_take_a_confidence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "question.yaml"
    path.write_text(
        "model: llama-3.1-70b\nhardware: h200\nisl: 2k\nosl: 512\nrate: 10\nttft: 1s\ntpot: 50ms\n"
        "confidence: 90%\n"
    )
    from_file = json.loads(said(capsys, "recommend", str(path), "--format", "json"))
    from_python = pdplan.recommend(path)
    assert from_python.best is not None
    assert from_python.question.slo.confidence == 0.9
    assert from_file["metrics"]["usd_per_h"] == from_python.best.metrics.usd_per_h


@pytest.mark.parametrize("given", ["100%", "0.3", "high", "-1", "90"])
def test_a_confidence_that_cannot_be_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_pdplan(["recommend", *HERE, *FLAGS, f"--confidence={given}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --confidence: ")
    assert error.count("\n") == 1


def test_compare_shows_intervals_of_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    both = [*HERE, "--hardware", "h100", *FLAGS]
    assert "8 of 10" in said(capsys, "compare", *both)
    rows = json.loads(said(capsys, "compare", *both, "--confidence", "80%", "--format", "json"))["rows"]
    for row in rows:
        bar = row["error_bars"]["tpot_mean_s"]
        assert bar["low"] < row["metrics"]["tpot_mean_s"] < bar["high"]
        assert row["pessimistic_end"]["tpot_slo_s"] <= 0.05


def test_the_front_with_confidence_keeps_within_the_one_without(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["front", *HERE, *FLAGS[:4], "--ttft", "500ms", "--tpot", "20ms", "--format", "json"]
    plain = json.loads(said(capsys, *words))["points"]
    strict = json.loads(said(capsys, *words, "--confidence", "90%"))["points"]
    assert max(p["tpot_s"] for p in strict) < max(p["tpot_s"] for p in plain)
    assert max(p["output_tok_per_s_per_gpu"] for p in strict) <= max(
        p["output_tok_per_s_per_gpu"] for p in plain
    )


def budget(tmp_path: Path, tpot: str, top: str = "") -> str:
    path = tmp_path / "budget.yaml"
    path.write_text(
        f"{top}deployments:\n"
        "  - name: chat\n"
        "    plan: {model: llama-3.1-70b, colocated: {hardware: h200, workers: 2, tp: 4}}\n"
        "    workload: {isl: 2k, osl: 512, rate: 4}\n"
        f"    limits: {{tpot_p90: {tpot}, usd_per_h: 100}}\n"
    )
    return str(path)


def test_check_tells_a_limit_that_holds_at_the_estimate_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = json.loads(said(capsys, "check", budget(tmp_path, "1s"), "--format", "json"))
    tpot, cost = data["deployments"][0]["findings"]
    assert (tpot["met_at_pessimistic_end"], cost["low"], data["at_risk"]) == (True, None, 0)
    between = f"{(tpot['found'] + tpot['high']) / 2 * 1e3:.4f}ms"
    path = budget(tmp_path, between)
    assert "pessimistic end misses" in said(capsys, "check", path)
    assert "::notice file=" in said(capsys, "check", path, "--format", "github")
    found = json.loads(said(capsys, "check", path, "--format", "json"))
    assert (found["met"], found["at_risk"]) == (True, 1)
    # At 90 % confidence the same end is a breach; the 80 % interval ends there.
    held = json.loads(said(capsys, "check", path, "--confidence", "90%", "--format", "json", code=1))
    finding = held["deployments"][0]["findings"][0]
    assert finding["found"] == pytest.approx(tpot["high"])
    assert finding["expected"] == pytest.approx(tpot["found"])
    assert "at confidence" in said(capsys, "check", path, "--confidence", "90%", code=1)


def test_a_budget_file_may_hold_the_confidence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flag = said(capsys, "check", budget(tmp_path, "1s"), "--confidence", "0.8", "--format", "json")
    key = said(capsys, "check", budget(tmp_path, "1s", "confidence: 80%\n"), "--format", "json")
    one, other = (json.loads(text)["deployments"][0] for text in (flag, key))
    assert one["inputs"] == other["inputs"]
    assert [f["found"] for f in one["findings"]] == [f["found"] for f in other["findings"]]
    assert run_pdplan(["check", budget(tmp_path, "1s", "confidence: 180%\n")]) == 2
    assert "budget.yaml:1:1: 'confidence'" in capsys.readouterr().err


def test_a_fix_of_check_holds_at_the_confidence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plain = json.loads(said(capsys, "check", budget(tmp_path, "1s"), "--format", "json"))
    found = plain["deployments"][0]["findings"][0]["found"]
    path = budget(tmp_path, f"{found * 1.02 * 1e3:.4f}ms")
    data = json.loads(said(capsys, "check", path, "--confidence", "90%", "--format", "json", code=1))
    fix = data["deployments"][0]["fix"]
    assert fix is not None
    text = Path(path).read_text().replace("workers: 2, tp: 4", "WORKERS, TP")
    pool = {"workers": 2, "tp": 4} | {c["field"].split(".")[1]: c["new"] for c in fix["changes"]}
    mended = ", ".join(f"{k}: {v}" for k, v in pool.items())
    Path(path).write_text(text.replace("WORKERS, TP", mended))
    said(capsys, "check", path, "--confidence", "90%")


def test_explain_shows_the_lines_of_the_pessimistic_end(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", *HERE, *FLAGS, "--confidence", "90%", "--section", "latency"]
    text = said(capsys, *words)
    assert "TPOT at 90 % confidence" in text
    assert "errors.yaml: 0.9 quantile of measured/predicted TPOT" in text
    assert "TPOT at 90" not in said(capsys, *words[:-4], "--section", "latency")
