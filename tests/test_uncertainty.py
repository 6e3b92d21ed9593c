"""Error bars and confidence: quantiles of measured errors, plans sized to them, what commands say of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

import pdplan
from pdplan.calibration.error_cells import (
    LEVELS,
    Errors,
    Learnt,
    Trial,
    cells,
    class_widths,
    learn,
    stretched,
    widest,
)
from pdplan.calibration.left_out import WithoutTables, maker_folds
from pdplan.catalog.store import Catalog
from pdplan.cli.app import run as run_pdplan
from pdplan.compose import evaluate_plan
from pdplan.documents.files import read_yaml
from pdplan.efficiency import CONSTANTS_DIRECTORY, LinkSpeeds, resolve_constants
from pdplan.efficiency import Case as EngineCase
from pdplan.evaluate import judged, meets
from pdplan.plan import Colocated, Disaggregated, PoolPlan
from pdplan.question import Question
from pdplan.search import recommend
from pdplan.uncertainty import LOADED, Ground, error_bars, error_factor, slo_of, slo_on, spread, widening
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


def test_what_several_new_things_add_is_independent() -> None:
    """Squares of distances from the median of what is known add up."""
    middle, at = LEVELS.index(0.5), LEVELS.index(0.9)

    def distance(kind: str) -> float:
        factors = np.log(ERRORS["quantiles"][kind]["colocated"]["tpot"]["factors"])
        run = np.log(ERRORS["quantiles"]["run"]["colocated"]["tpot"]["factors"])
        return float(factors[at] - run[middle])

    known, model, engine = (distance(kind) for kind in ("run", "model", "engine"))
    both = replace(KNOWN, model="llama-4-scout", engine="mine")
    found = math.log(error_factor("tpot", both, 0.9) / error_factor("tpot", KNOWN, 0.5))
    more = max(model**2 - known**2, 0.0) + max(engine**2 - known**2, 0.0)
    assert found == pytest.approx(math.sqrt(known**2 + more))


def test_the_80_percent_intervals_hold_75_to_85_percent_of_runs_that_took_no_part() -> None:
    """What nested cross-validation wrote down: constants, quantiles and widths found without the group.

    On average over modes and quantities; of few groups one may hold somewhat more or less, and most so of the
    three generations whose tables are hidden.
    """
    for kind, modes in ERRORS["quantiles"].items():
        shares = [cell["blind"] for cells in modes.values() for cell in cells.values()]
        assert len(shares) == 6
        least, most, high = (0.55, 0.95, 0.9) if kind == "no-tables" else (0.72, 0.9, 0.85)
        assert least <= min(shares) <= max(shares) <= most, kind
        assert 0.75 <= np.mean(shares) <= high, kind


# ------------------------------------------------------------------------ how they are found


def errors_of_groups(logs: np.ndarray, names: np.ndarray, wide: np.ndarray | None = None) -> Errors:
    """Of groups whose runs err alike whatever else is left out."""
    wide = np.ones(logs.size) if wide is None else wide
    without = dict.fromkeys(sorted(set(names)), (logs, wide))
    return Errors(own=logs, wide=wide, names=names, without=without)


def test_coverage_of_known_errors_is_what_it_is() -> None:
    """Normal errors of one size in every group: no stretching is needed, and 80 % are inside."""
    random = np.random.default_rng(7)
    names = np.repeat([f"g{i}" for i in range(8)], 1500)
    cell = cells({("colocated", "tpot"): errors_of_groups(random.normal(0.0, 0.2, names.size), names)})[
        "colocated", "tpot"
    ]
    assert cell.blind == pytest.approx(0.8, abs=0.015)
    assert cell.stretch == pytest.approx(1.0, abs=0.01)
    by_hand = 0.2 * NormalDist().inv_cdf(0.9)
    assert cell.half_width == pytest.approx(by_hand, rel=0.03)
    assert np.log(cell.factors[[LEVELS.index(0.1), LEVELS.index(0.9)]]) == pytest.approx(
        [-by_hand, by_hand], rel=0.05
    )
    # The score of the right interval of a normal error is 2/0.2·φ(z)·2·σ (Gneiting & Raftery 2007, by hand).
    assert cell.score == pytest.approx(20 * 0.17549833 * 0.2, rel=0.03)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_one_more_group_is_held_by_80_percent(count: int) -> None:
    """Groups whose errors differ in size, by e^0.5: quantiles of few of them hold less of one more."""
    random, held, plain = np.random.default_rng(11), [], []
    for _ in range(400):
        sizes = np.exp(random.normal(0.0, 0.5, count + 1))
        *seen, new = (random.normal(0.0, size, 300) for size in sizes)
        learnt = learn(np.concatenate(seen), np.repeat(np.arange(count).astype(str), 300))
        for stretch, into in ((stretched(0.5, learnt.groups), held), (1.0, plain)):
            low, high = learnt.ends(stretch)
            into.append(np.mean((new >= low) & (new <= high)))
    # Of few groups more than asked for: a t of G − 1 degrees allows for what so few say of their differences.
    assert 0.79 < np.mean(held) < 0.93
    assert np.mean(held) > np.mean(plain) + 0.01


@given(st.floats(0.0, 1.5), st.floats(0.0, 1.5), st.floats(1.0, 20.0), st.floats(1.0, 20.0))
@settings(max_examples=25)
def test_more_difference_and_fewer_groups_stretch_more(b: float, c: float, g: float, h: float) -> None:
    least = stretched(min(b, c), max(g, h))
    assert 1.0 <= least <= stretched(max(b, c), min(g, h)) * (1 + 1e-9)


def test_groups_weigh_as_the_square_root_of_their_runs() -> None:
    """900 runs at 0 and 100 at 1: weights 30 to 10, so a quarter of all lies at 1, beyond 75 %."""
    learnt = learn(np.repeat([0.0, 1.0], [900, 100]), np.repeat(["many", "few"], [900, 100]))
    at = dict(zip(LEVELS, learnt.quantiles, strict=True))
    assert (at[0.7], at[0.8]) == pytest.approx((0.0, 1.0), abs=0.05)
    assert learnt.groups == pytest.approx(40**2 / (30**2 + 10**2))


def test_coverage_by_hand() -> None:
    learnt = Learnt(quantiles=np.linspace(-1.0, 1.0, len(LEVELS)), groups=3.0)
    low, high = learnt.ends(1.0)
    logs = np.array([low - 0.01, low + 0.01, 0.0, high + 0.01])
    trial = Trial(group="a", learnt=learnt, logs=logs, wide=np.ones(4))
    assert trial.inside(1.0).tolist() == [False, True, True, False]
    assert trial.inside(1.1).all()
    wide = replace(trial, wide=np.array([1.1, 1.0, 1.0, 1.0]))
    assert wide.inside(1.0).tolist() == [True, True, True, False]
    assert trial.scores(1.0) == pytest.approx([high - low + 0.1, high - low, high - low, high - low + 0.1])


def test_a_class_is_as_wide_as_its_own_runs_are() -> None:
    random = np.random.default_rng(3)
    speculating, loaded = np.zeros((2, 6000), dtype=bool)
    speculating[:2000] = True
    loaded[1000:3000] = True
    speculating[1000:2000] &= np.arange(1000) % 2 == 0
    size = np.where(loaded & ~speculating, 0.3, np.where(speculating, np.where(loaded, 0.6, 0.2), 0.1))
    masks = {"speculating": speculating, "no-tables": np.zeros(6000, dtype=bool), "loaded": loaded}
    widths = class_widths(random.normal(0.0, 1.0, 6000) * size, masks)
    assert widths == pytest.approx({"speculating": 2.0, "no-tables": 1.0, "loaded": 3.0}, rel=0.1)
    # Loaded runs that speculate are 0.6 = 2 · 0.3 here: the order of the classes takes the 2 away first.
    assert set(widest(widths, masks)) == {1.0, *(widths[name] for name in ("speculating", "loaded"))}


def test_makers_share_constants_where_they_have_no_tables() -> None:
    runs = [SimpleNamespace(hardware=name) for name in ("h100", "b200", "mi300x", "mi355x")]
    data: Any = SimpleNamespace(runs=runs, generation=["hopper", "blackwell", "cdna3", "cdna4"])
    document = {"generations": {"cdna3": {"inherits": "amd"}, "cdna4": {"inherits": "amd"}}}
    folds = maker_folds(data, lambda name: not name.startswith("mi"), document)
    assert folds.tolist() == ["hopper", "blackwell", "amd", "amd"]


def test_hidden_tables_leave_the_defaults() -> None:
    """What an accelerator of an unknown generation has; its data sheet stays."""
    hidden, shipped = WithoutTables(["h200"]), Catalog()
    found = hidden.accelerator("h200")
    assert found.memory == shipped.accelerator("h200").memory
    assert hidden.accelerator("h100") == shipped.accelerator("h100")
    speeds = LinkSpeeds(domain_size=8, scale_up_bytes_per_s=4.5e11, scale_out_bytes_per_s=5e10)
    laws, unknown = (
        resolve_constants(EngineCase(engine="vllm", generation=g, accelerator=n), speeds).roofline(
            "gemm", "bf16"
        )
        for g, n in ((found.generation, found.name), ("none", "nobody's"))
    )
    assert laws == unknown


# ------------------------------------------------------------------------ classes

PLAIN = Ground(model="deepseek-r1", hardware="h200", engine="sglang", mode="disaggregated")


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("change", [{"speculates": True}, {"loaded": True}, {"hardware": "mi355x"}])
def test_classes_of_runs_are_as_much_wider_as_the_file_says(quantity: str, change: dict[str, Any]) -> None:
    name = {"speculates": "speculating", "loaded": "loaded", "hardware": "no-tables"}[next(iter(change))]
    wider = ERRORS["classes"]["disaggregated"][quantity][name]
    other = replace(PLAIN, **change)
    assert wider >= 1.0
    assert other.unknown == ()
    for p in (0.1, 0.9):
        plain, found = (math.log(error_factor(quantity, g, p)) for g in (PLAIN, other))
        assert found == pytest.approx(wider * plain)


def test_of_several_classes_the_widest_counts() -> None:
    table = ERRORS["classes"]["disaggregated"]["tpot"]
    both = replace(PLAIN, speculates=True, hardware="mi355x", loaded=True)
    assert widening("tpot", both) == max(table.values())


def test_relatives_of_measured_accelerators_are_not_strangers() -> None:
    assert replace(PLAIN, hardware="mi325x").unknown == ("accelerator",)
    assert replace(PLAIN, hardware="gh200").unknown == ("accelerator",)
    assert replace(PLAIN, hardware="b300").unknown == ("accelerator",)
    assert replace(PLAIN, hardware="tpu-v6e").unknown == ("no-tables",)
    assert replace(PLAIN, hardware="trainium2").unknown == ("no-tables",)


def test_the_bar_of_ttft_is_wider_where_prefill_is_loaded() -> None:
    plan = Colocated(
        model="llama-3.1-70b", precision="fp8", kv_precision="bf16",
        colocated=PoolPlan(hardware="h200", workers=1, tp=4),
    )  # fmt: skip
    metrics = pdplan.evaluate(plan, isl=2048, osl=512, rate=1)
    easy, loaded = (
        error_bars(plan, replace(metrics, utilisation={"colocated": share}))
        for share in (LOADED - 0.01, LOADED)
    )
    assert loaded["ttft_mean_s"].high > easy["ttft_mean_s"].high
    assert loaded["ttft_mean_s"].low < easy["ttft_mean_s"].low


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
        "llama-3.1-70b", ("h100",), isl=3000, osl=300, rate=10, ttft=1.0, tpot=0.05, mode="disaggregated"
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
