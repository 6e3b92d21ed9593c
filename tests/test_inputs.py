"""Flags and files become questions and plans; everything that is wrong is told at once, and where."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pdplan.catalog.store import Catalog
from pdplan.compose import evaluate_plan
from pdplan.documents.files import parse_yaml
from pdplan.efficiency import engine_constants
from pdplan.errors import InputError, PdplanError
from pdplan.inputs import Given, deployment_from, question_from, read_deployment, read_question
from pdplan.inputs import given as flags
from pdplan.inputs.questions import merged
from pdplan.report.evaluation import evaluation_report
from pdplan.report.formats.render import render
from pdplan.report.recommendation import recommendation_report
from pdplan.workload import Speculation
from tests import made_up

CATALOG = Catalog(environment="")
ASKED = {"model": "deepseek-r1", "hardware": ["h200"], "isl": "4k", "osl": "1k", "rate": "20"}
PLAN = """\
model: deepseek-r1
prefill: {hardware: h200, workers: 3, tp: 8}
decode: {hardware: H200-SXM, workers: 2, dp: 8, ep: 8, max_batch: 64}
workload: {isl: 4k, osl: 1k, rate: 20}
slo: {ttft: 2s, tpot: 40ms}
"""


def ask(**changes):
    return question_from(flags({**ASKED, **changes}), CATALOG)


def refused(**changes) -> str:
    with pytest.raises(InputError) as caught:
        ask(**changes)
    return str(caught.value)


def deploy(text, **more):
    return deployment_from(parse_yaml(text, "plan.yaml"), CATALOG, flags(more))


def refused_plan(text) -> str:
    with pytest.raises(InputError) as caught:
        deploy(text)
    return str(caught.value)


# ---------------------------------------------------------------- questions


def test_the_question_of_the_issue():
    asked = ask(ttft="2s", tpot="40ms")
    question = asked.question
    assert (question.workload.isl, question.workload.osl, question.workload.rate) == (4096, 1024, 20.0)
    assert (question.slo.ttft_s, question.slo.tpot_s, question.slo.percentile) == (2.0, 0.04, 0.9)
    assert question.precision == "fp8", "the publisher's own"
    assert question.kv_precision == "bf16"
    assert question.engine == "vllm"
    assert question.prefill_hardware == question.decode_hardware == question.colocated_hardware == ("h200",)
    assert len(asked.catalog_sha256) == 64


def test_names_are_found_in_any_spelling():
    asked = ask(model="deepseek-ai/DeepSeek-R1", hardware=["H200-SXM, h200", "mi355x"])
    assert asked.question.model == "deepseek-r1"
    assert asked.question.prefill_hardware == ("h200", "mi355x")


def test_roles_may_have_their_own_hardware():
    asked = ask(hardware=None, prefill_hardware=["b200"], decode_hardware=["h200"]).question
    assert asked.prefill_hardware == ("b200",)
    assert asked.decode_hardware == ("h200",)
    assert asked.colocated_hardware == ("b200", "h200")
    asked = ask(prefill_hardware=["b200"]).question
    assert asked.prefill_hardware == ("b200",)
    assert asked.colocated_hardware == ("h200",)


def test_everything_wrong_is_told_at_once():
    message = refused(
        model="deepsek-r1", hardware=["h20o"], isl="-1", rate="nan", tpot="40m", prices=["h200"]
    )
    for part in (
        "--model: unknown model 'deepsek-r1'; did you mean 'deepseek-r1'",
        "--hardware: unknown accelerator 'h20o'; did you mean 'h20', 'h200'",
        "--isl: '-1' is not a number of tokens: it must not be negative",
        "--rate: 'nan'",
        "--tpot: '40m' is not a duration: unknown unit 'm', did you mean 'ms' or 'min'?",
        "'h200' is not a price; write NAME=DOLLARS",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"isl": "0"}, "--isl"),
        ({"isl": "1e9"}, "maximum of 100,000,000"),
        ({"isl": "20M"}, "expected 1 to 10,000,000 tokens"),
        ({"isl": None}, "isl is missing"),
        ({"rate": None}, "the load is missing"),
        ({"rate": "inf"}, "--rate"),
        ({"rate": "0"}, "more than zero"),
        ({"model": None}, "model is missing"),
        ({"hardware": None}, "hardware is missing"),
        ({"hardware": [""]}, "--hardware: no accelerator is named"),
        ({"hardware": [","]}, "--hardware: no accelerator is named"),
        ({"hardware": None, "prefill_hardware": ["h200"]}, "decode_hardware is missing"),
        ({"percentile": "90"}, "did you mean '90%'?"),
        ({"percentile": "p10"}, "expected p50 to p99.99"),
        ({"ttft": "-1s"}, "--ttft"),
        ({"tpot": "0"}, "--tpot"),
        ({"mode": "disagregated"}, "did you mean 'disaggregated'?"),
        ({"precision": "fp9"}, "one of fp8, fp4, bf16"),
        ({"kv_precision": "fp9"}, "one of auto, bf16, fp8"),
        ({"engine": "vlm"}, "did you mean 'vllm'?"),
        ({"max_gpus": "0"}, "expected 1 to 1,000,000"),
        ({"max_gpus": "2.5"}, "not a whole number"),
        ({"max_gpus": "many"}, "not a number"),
        ({"max_gpus": "nan"}, "out of range"),
        ({"prefix_reuse": "1"}, "--prefix-reuse"),
        ({"isl_cv": "-1"}, "--isl-cv: -1 is out of range"),
        ({"network": "400"}, "it has no unit"),
        ({"network": "400gbs"}, "did you mean"),
        ({"network": 400}, "it has no unit"),
        ({"network": "bandwith=400Gbps"}, "did you mean 'bandwidth'?"),
        ({"network": "400Gbps,transport=ib"}, "one of rdma, tcp"),
        ({"network": "400Gbps,loss=2"}, "loss"),
        ({"prices": ["h200=-1"]}, "must not be negative"),
        ({"prices": ["h200=0"]}, "more than zero"),
        ({"prices": ["h200=5000"]}, "out of range"),
        ({"prices": ["h2oo=2"]}, "unknown accelerator 'h2oo'"),
        ({"prices": ["h200=2", "h200=3"]}, "given twice"),
        ({"drafted": "40"}, "expected 0 to 16"),
        ({"acceptance": "0.5"}, "give --drafted"),
        ({"concurrency": "5"}, "sized for a rate"),
    ],
)
def test_one_wrong_value(changes, part):
    assert part in refused(**changes)


def test_values_reach_the_world():
    asked = ask(
        network="400Gbps,latency=5us,loss=1e-5", prices=["H200-SXM=$2.60"], drafted="2", acceptance="80%"
    )
    assert asked.world.price("h200") == 2.60
    assert asked.world.network.bandwidth_bytes_per_s == 50e9
    assert asked.world.network.latency_s == pytest.approx(5e-6)
    assert asked.world.network.loss == 1e-5
    assert (asked.question.speculation.drafted, asked.question.speculation.acceptance) == (2, 0.8)


def test_drafts_are_accepted_as_measured_unless_told():
    measured = engine_constants("vllm").mtp_acceptance
    assert ask(drafted="2").question.speculation == Speculation(drafted=2, acceptance=measured)
    assert ask(drafted="2", acceptance="0.9").question.speculation.acceptance == 0.9


def test_what_is_odd_but_possible_is_noted():
    assert any("more than the 163,840" in note for note in ask(isl="200k").notes)
    assert any("is not used" in note for note in ask(prices=["b200=3"]).notes)
    assert ask(ttft="1s").notes == ()


QUESTION = """\
model: deepseek-r1
hardware: [h200, b200]
isl: 4k
osl: 1024
rate: 20/s
ttft: 2s
tpot: 0.04
percentile: p99
network: {bandwidth: 400Gbps, loss: 1e-6}
prices: {h200: 2.60}
speculation: {drafted: 1}
"""


def test_a_question_file_says_what_flags_say(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text(QUESTION)
    asked = question_from(read_question(path), CATALOG)
    by_flags = ask(
        hardware=["h200", "b200"],
        ttft="2s",
        tpot="40ms",
        percentile="99%",
        network="400Gbps,loss=1e-6",
        prices=["h200=2.60"],
        drafted="1",
    )
    assert asked.question == by_flags.question
    assert asked.world.network == by_flags.world.network
    assert asked.world.prices == by_flags.world.prices


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text(QUESTION)
    values = merged(
        read_question(path),
        flags({"rate": "5", "hardware": ["mi300x"], "prices": ["mi300x=1.5"], "acceptance": "0.9"}),
    )
    asked = question_from(values, CATALOG)
    assert asked.question.workload.rate == 5
    assert asked.question.prefill_hardware == ("mi300x",)
    assert asked.world.prices == {"h200": 2.6, "mi300x": 1.5}
    assert asked.question.speculation.acceptance == 0.9


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("ttfs: 2s", "question.yaml:1:1: unknown key 'ttfs'; did you mean 'ttft'"),
        ("isl: [4]", "question.yaml:1:1: 'isl' is a list"),
        ("rate: .nan", "question.yaml:1:1: 'rate'"),
        ("rate: .inf", "question.yaml:1:1: 'rate'"),
        ("isl: 8x", "question.yaml:1:1: 'isl': '8x' is not a number of tokens"),
        ("network: {bandwidth: 4}", "question.yaml:1:11: 'bandwidth'"),
        ("network: {latency: 5m}", "question.yaml:1:11: 'latency': '5m'"),
        ("prices: {h2oo: 3}", "question.yaml:1:10: 'h2oo': unknown accelerator"),
        ("model: true", "question.yaml:1:1: 'model' is true"),
        ("isl: 1\nisl: 2", "a second time"),
        ("", "empty"),
        ("- a", "question.yaml"),
        ("a: [", "question.yaml"),
    ],
)
def test_a_wrong_question_file_says_where(tmp_path, line, part):
    path = tmp_path / "question.yaml"
    path.write_text(line)
    with pytest.raises(InputError) as caught:
        question_from(read_question(path), CATALOG)
    assert part in str(caught.value)


# ---------------------------------------------------------------- plans


def test_a_plan_file():
    found = deploy(PLAN)
    assert found.plan.mode == "disaggregated"
    assert found.plan.precision == "fp8"
    assert found.plan.decode.hardware == "h200"
    assert found.plan.decode.max_batch == 64
    assert found.workload.rate == 20
    assert found.slo.tpot_s == 0.04


def test_a_plan_may_stand_under_its_own_key():
    head, _, rest = PLAN.partition("workload:")
    nested = "plan:\n" + "".join(f"  {line}\n" for line in head.splitlines()) + "workload:" + rest
    assert deploy(nested).plan == deploy(PLAN).plan
    with pytest.raises(InputError, match=r"plan\.yaml:3:29: 'workers'"):
        deploy(nested.replace("workers: 3", "workers: three"))


def test_flags_override_a_plan_file():
    found = deploy(PLAN, concurrency="64", isl="1k", ttft="1s", prices=["h200=9"])
    assert found.workload.rate is None
    assert found.workload.concurrency == 64
    assert found.workload.isl == 1024
    assert found.slo.ttft_s == 1.0
    assert found.world.price("h200") == 9


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("tp: 8", "tp: 7", "plan.yaml:2:39: 'tp': 7 does not divide the 128 attention heads"),
        ("workers: 3", "workers: 0", "'workers': 0 is out of range; expected 1 to 1,000,000"),
        ("workers: 3", "workers: 3.5", "expected a whole number"),
        ("ep: 8", "ep: 3", "'ep': 3 does not divide tp·dp = 8; expected one of 1, 2, 4, 8"),
        ("dp: 8, ep: 8", "dp: 1024, ep: 1024", "'ep': 1024 is more than 2 times the 256 experts"),
        ("tp: 8", "pp: 100", "100 stages for 61 layers"),
        ("max_batch: 64", "max_batch: -1", "'max_batch': -1 is out of range"),
        ("hardware: h200", "hardware: h2oo", "plan.yaml:2:11: 'hardware': unknown accelerator 'h2oo'"),
        ("model: deepseek-r1", "model: deepseek-r9", "plan.yaml:1:1: 'model': unknown model"),
        ("model: deepseek-r1", "modal: deepseek-r1", "unknown key 'modal'; did you mean 'model'"),
        (
            "model: deepseek-r1",
            "model: deepseek-r1\nmode: colocated",
            "a colocated plan has no pool 'decode'",
        ),
        ("model: deepseek-r1", "model: deepseek-r1\nmode: colocated", "needs the pool colocated"),
        ("decode:", "colocated:", "a disaggregated plan has no pool 'colocated'"),
        ("rate: 20", "rate: 20, concurrency: 4", "give either rate or concurrency"),
        (", rate: 20", "", "the load is missing"),
        ("ttft: 2s", "ttft: 2parsecs", "plan.yaml:5:7: 'ttft'"),
    ],
)
def test_a_wrong_plan_says_where(old, new, part):
    assert part in refused_plan(PLAN.replace(old, new, 1))


def test_a_plan_without_pools_says_so():
    assert "no pool is given" in refused_plan("model: deepseek-r1\nworkload: {isl: 1, osl: 1, rate: 1}")


def test_a_dense_model_has_no_experts():
    text = PLAN.replace("deepseek-r1", "llama-3.1-8b")
    assert "'dp': 8, but llama-3.1-8b has no experts" in refused_plan(text)


def test_odd_layouts_are_noted():
    found = deploy(PLAN.replace("tp: 8", "tp: 16").replace("h200", "h20-3e").replace("H200-SXM", "h20-3e"))
    assert any("leaves the scale-up domain of 8" in note for note in found.notes)
    assert any("no price is known for h20-3e" in note for note in found.notes)


# ---------------------------------------------------------------- what pdplan printed


@pytest.mark.parametrize("make", [made_up.recommendation, made_up.goodput_recommendation])
def test_printed_json_is_a_plan_file(tmp_path, make):
    path = tmp_path / "answer.json"
    path.write_text(render(recommendation_report(make()), "json"))
    found = read_deployment(path, CATALOG)
    assert found.plan == made_up.DISAGGREGATED_PLAN
    assert found.workload == made_up.WORKLOAD
    assert found.slo == made_up.SLO
    assert found.world.price("h200") == 3.59


def test_printed_metrics_come_out_again(tmp_path):
    first = deploy(PLAN, network="400Gbps,latency=5us,loss=1e-6,transport=tcp", prices=["h200=2.5"])
    path = tmp_path / "answer.json"
    metrics = evaluate_plan(first.world, first.plan, first.workload, first.slo)
    path.write_text(render(evaluation_report(first, metrics), "json"))
    again = read_deployment(path, CATALOG)
    assert again.world.network == first.world.network
    assert evaluate_plan(again.world, again.plan, again.workload, again.slo) == metrics


def test_an_infeasible_answer_is_no_plan(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text(render(recommendation_report(made_up.infeasible()), "json"))
    with pytest.raises(InputError, match="holds no plan"):
        read_deployment(path, CATALOG)
    path.write_text(json.dumps({"schema_version": 1, "name": "h200", "plan": 3}))
    with pytest.raises(InputError, match="no output of recommend"):
        read_deployment(path, CATALOG)


# ---------------------------------------------------------------- anything at all

_KEYS = ["isl", "osl", "rate", "ttft", "tpot", "percentile", "max_gpus", "prefix_reuse", "network", "prices"]
_KEYS += ["isl_cv", "drafted", "acceptance", "mode", "precision", "engine", "kv_precision", "alternatives"]
_ANYTHING = st.one_of(
    st.text(max_size=12), st.floats(), st.integers(-(10**20), 10**20), st.booleans(), st.just([]), st.just({})
)


@settings(max_examples=60)
@given(key=st.sampled_from(_KEYS), value=_ANYTHING)
@example(key="rate", value=math.nan)
@example(key="prices", value="=")
@example(key="network", value="=,=")
def test_any_value_is_taken_or_refused_in_words(key, value):
    values = {**{k: Given(v, k) for k, v in ASKED.items()}, key: Given(value, key)}
    with contextlib.suppress(PdplanError):  # any other exception fails the test
        question_from(values, CATALOG)
