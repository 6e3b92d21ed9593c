"""`pdplan explain` as a process would run it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from pdplan.cli.app import app

RUNNER = CliRunner()
QUESTION = [
    "--model",
    "llama-3.1-8b",
    "--hardware",
    "h100",
    "--isl",
    "1k",
    "--osl",
    "200",
    "--rate",
    "4",
    "--ttft",
    "1s",
    "--tpot",
    "40ms",
]
PLAN = """\
model: llama-3.1-8b
precision: bf16
colocated: {hardware: h100, workers: 1, tp: 1}
workload: {isl: 1000, osl: 200, rate: 2}
slo: {ttft: 1s, tpot: 40ms}
"""


def run(*args: str) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, ["explain", *args])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return str(path)


def test_the_flags_of_recommend_explain_its_plan() -> None:
    code, out, err = run(*QUESTION, "--format", "json")
    assert (code, err) == (0, "")
    explained = json.loads(out)
    recommended = json.loads(RUNNER.invoke(app, ["recommend", *QUESTION, "--format", "json"]).stdout)
    assert explained["plan"] == recommended["plan"]
    for name, answer in explained["answer"].items():
        assert answer["value"] == recommended["metrics"][name], name


def test_a_plan_file_is_explained_as_evaluate_sees_it(plan: str) -> None:
    code, out, _ = run(plan, "--format", "json")
    assert code == 0
    metrics = json.loads(RUNNER.invoke(app, ["evaluate", plan, "--format", "json"]).stdout)["metrics"]
    assert all(a["value"] == metrics[name] for name, a in json.loads(out)["answer"].items())


def test_text_leads_from_the_seed_to_the_cost(plan: str) -> None:
    code, out, _ = run(plan)
    assert code == 0
    heads = [
        "The model in numbers",
        "The two seed formulas",
        "The laws in the ideal limit",
        "Memory fit",
        "Decode beside prefill",
        "Waiting for prefill",
        "Latency against the SLO",
        "Rates",
        "Cost and power",
        "Sources",
    ]
    places = [out.index(f"{head}\n") for head in heads]
    assert places == sorted(places)
    assert "15,009,316,864 B" in out


def test_brief_and_section(plan: str) -> None:
    everything, brief = run(plan)[1], run(plan, "--brief")[1]
    assert len(brief) < len(everything) * 0.6
    code, out, _ = run(plan, "--section", "seed", "--section", "cost")
    assert code == 0
    assert "2 The two seed formulas" in out
    assert "Cost and power" in out
    assert "Memory fit" not in out


def test_ideal_is_never_slower(plan: str) -> None:
    real, ideal = (json.loads(run(plan, *more, "--format", "json")[1]) for more in ([], ["--ideal"]))
    assert ideal["inputs"]["ideal"] is True
    for name in ("ttft_mean_s", "tpot_mean_s"):
        assert ideal["answer"][name]["value"] < real["answer"][name]["value"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--section", "decod"], "did you mean 'decode'?"),
        (["--section", "transfer"], "a colocated plan has none of them"),
        (["--format", "txt"], "did you mean 'text'?"),
    ],
)
def test_bad_flags(plan: str, args: list[str], message: str) -> None:
    code, out, err = run(plan, *args)
    assert (code, out) == (2, "")
    assert message in err


def test_a_plan_that_cannot_do_it_is_explained_and_exits_1(plan: str) -> None:
    code, out, _ = run(plan, "--rate", "1000")
    assert code == 1
    assert "This plan cannot do it: " in out
    assert "∞" in out


def test_an_infeasible_question_exits_1() -> None:
    code, out, _ = run(*QUESTION, "--tpot", "1us")
    assert code == 1
    assert "Sources" not in out


def test_markdown_and_csv(plan: str) -> None:
    code, out, _ = run(plan, "--format", "markdown")
    assert code == 0
    assert "| line | what | formula |" in out
    code, out, _ = run(plan, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {"section", "line", "expression", "value", "unit", "sources"} <= rows[0].keys()
    assert {row["section"] for row in rows} >= {"seed", "memory", "cost"}
