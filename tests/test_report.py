"""Reports: golden texts of every renderer, the JSON contract, and what text must never do."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fleet import asked

import pdplan
from pdplan.catalog.store import Catalog
from pdplan.plan import PROBLEMS, Metrics
from pdplan.report.blocks import Cell, Headline, Report, table
from pdplan.report.comparison import comparison_report
from pdplan.report.evaluation import evaluation_report
from pdplan.report.fleet import fleet_report
from pdplan.report.formats.render import FORMATS, render
from pdplan.report.hardware import accelerator_report, accelerators_report
from pdplan.report.models import model_report, models_report
from pdplan.report.parts import margin
from pdplan.report.recommendation import recommendation_report
from pdplan.search.fleets.fleet_plan import plan_fleet
from tests import made_up

SCHEMAS = Path(pdplan.__file__).parent / "report" / "schemas"
SUFFIX = {"text": "txt", "json": "json", "markdown": "md", "csv": "csv"}

REPORTS = {
    "recommend": lambda: recommendation_report(
        made_up.recommendation(), catalog_sha256=made_up.DIGEST, notes=("a remark of the inputs",)
    ),
    "recommend-goodput": lambda: recommendation_report(made_up.goodput_recommendation()),
    "recommend-infeasible": lambda: recommendation_report(made_up.infeasible()),
    "evaluate": lambda: evaluation_report(made_up.deployment(), made_up.DISAGGREGATED_METRICS),
    "compare": lambda: comparison_report(made_up.comparison()),
    "fleet": lambda: fleet_report(plan_fleet(asked().wanted), catalog_sha256=made_up.DIGEST),
}
ISSUE_METRICS = {
    "requests_per_s",
    "gpus",
    "usd_per_h",
    "usd_per_million_output_tokens",
    "total_tok_per_s_per_gpu",
    "output_tok_per_s_per_gpu",
    "ttft_mean_s",
    "ttft_p50_s",
    "ttft_p90_s",
    "ttft_p99_s",
    "tpot_mean_s",
    "kv_transfer_mean_s",
    "utilisation",
}
"""The names that the issue promises."""


def same_version(text: str) -> str:
    return text.replace(f'"pdplan_version": "{pdplan.__version__}"', '"pdplan_version": "X"')


def valid(name: str, data: dict) -> None:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", REPORTS)
def test_golden(name, format, golden):
    golden(f"{name}.{SUFFIX[format]}", same_version(render(REPORTS[name](), format)))


@pytest.mark.parametrize("width", [80, 100, 160])
def test_golden_on_a_terminal(width, golden):
    text = render(REPORTS["recommend"](), "text", width=width)
    golden(f"recommend-{width}.txt", text)
    prose = [line for line in text.splitlines() if "  " not in line.strip()]
    assert max(len(line) for line in prose) <= width


@pytest.mark.parametrize("name", REPORTS)
def test_the_json_keeps_its_schema(name):
    valid(name.partition("-")[0], json.loads(render(REPORTS[name](), "json")))


def test_the_names_that_other_programs_rely_on():
    data = json.loads(render(REPORTS["recommend"](), "json"))
    for key in ("schema_version", "inputs", "plan", "metrics", "alternatives", "best_other_mode", "notes"):
        assert key in data
    assert data["plan"]["mode"] == "disaggregated"
    for pool in ("prefill", "decode"):
        assert set(data["plan"][pool]) == {"hardware", "workers", "tp", "pp", "dp", "ep", "max_batch"}
    assert data["metrics"].keys() >= ISSUE_METRICS
    assert data["alternatives"][0].keys() == {"plan", "metrics"}
    assert data["best_other_mode"]["plan"]["colocated"]["workers"] == 7
    evaluated = json.loads(render(REPORTS["evaluate"](), "json"))
    assert {"schema_version", "inputs", "plan", "metrics", "notes"} <= evaluated.keys()


def test_an_infeasible_answer_has_no_plan_but_says_why():
    data = json.loads(render(REPORTS["recommend-infeasible"](), "json"))
    assert data["plan"] is None
    assert data["metrics"] is None
    assert data["infeasible"]["misses"]["gpus"] == {"found": 40, "allowed": 32}
    assert data["infeasible"]["relax"]


def test_no_price_is_null_in_json_and_left_out_of_the_text():
    bare = replace(
        made_up.DISAGGREGATED_METRICS,
        usd_per_h=made_up.NAN,
        usd_per_million_output_tokens=made_up.NAN,
        usd_per_million_tokens=made_up.NAN,
    )
    report = evaluation_report(made_up.deployment(), bare)
    assert json.loads(render(report, "json"))["metrics"]["usd_per_h"] is None
    assert "$" not in render(report, "text")
    assert "nan" not in render(report, "text").casefold()
    assert "nan" not in render(report, "csv").casefold()


def test_what_cannot_be_done_leads_the_text():
    broken = replace(made_up.DISAGGREGATED_METRICS, problem=4, ttft_slo_s=float("inf"))
    report = evaluation_report(made_up.deployment(), broken)
    assert render(report, "text").startswith(f"This plan cannot do it: {PROBLEMS[4]}\n")
    assert json.loads(render(report, "json"))["metrics"]["ttft_slo_s"] is None


def test_brackets_are_no_markup():
    report = Report(blocks=(Headline("a [tp4] plan"),), data={})
    assert render(report, "text") == "a [tp4] plan\n"
    assert render(report, "markdown") == "**a \\[tp4\\] plan**\n"


def test_without_a_width_nothing_is_wrapped():
    row = ("x" * 300, "y " * 200)
    report = Report(blocks=(table("", "a|~b", [row]),), data={})
    assert render(report, "text").splitlines()[1] == f"{row[0]}  {row[1].rstrip()}"


def test_colour_only_where_it_is_asked_for():
    report = Report(blocks=(table("", "a", [(Cell("x", "bad"),)]),), data={})
    assert "\x1b" not in render(report, "text")
    assert "\x1b[31mx\x1b[0m" in render(report, "text", colour=True)
    plain = re.sub(r"\x1b\[\d+m", "", render(REPORTS["recommend"](), "text", colour=True))
    assert plain == render(REPORTS["recommend"](), "text")


def test_the_csv_has_one_row_a_plan_and_equal_columns():
    rows = list(csv.DictReader(io.StringIO(render(REPORTS["recommend"](), "csv"))))
    assert [r["answer"] for r in rows] == [
        *("best", "alternative", "alternative", "best_other_mode", "best_other_kind")
    ]
    assert float(rows[0]["usd_per_h"]) == 143.6
    assert rows[0]["prefill_workers"] == "3"
    assert rows[3]["prefill_workers"] == ""


@given(found=st.floats(1e-6, 1e6), limit=st.floats(1e-6, 1e6))
def test_a_miss_is_never_called_met(found, limit):
    words = margin(found, limit).text
    assert words.startswith("missed") == (found > limit)
    assert " 0.0%" not in words


def test_every_field_of_the_metrics_is_printed():
    data = json.loads(render(REPORTS["evaluate"](), "json"))["metrics"]
    assert set(Metrics.__dataclass_fields__) - {"parts"} <= data.keys()


def test_models_and_hardware_keep_their_schemas():
    catalog = Catalog(environment="")
    models, accelerators = catalog.models(), catalog.accelerators()
    for model in models:
        valid("model", json.loads(render(model_report(model, "f"), "json")))
        assert render(model_report(model, "f"), "text").startswith(model.name)
    for accelerator in accelerators:
        valid("hardware", json.loads(render(accelerator_report(accelerator, "f"), "json")))
        assert accelerator.name in render(accelerator_report(accelerator, "f"), "text")
    assert len(render(models_report(models), "text").splitlines()) == len(models) + 1
    assert len(render(accelerators_report(accelerators), "csv").splitlines()) == len(accelerators) + 1


def test_model_numbers_are_the_issue_s():
    """KV bytes per token and parameters as issue 2 states them, from the models' own papers."""
    catalog = Catalog(environment="")
    for name, kv in (
        ("llama-3.1-8b", 131072),
        ("llama-3.1-70b", 327680),
        ("deepseek-v3", 70272),
        ("deepseek-v2-lite", 31104),
        ("qwen3-30b-a3b", 98304),
        ("qwen3-235b-a22b", 192512),
    ):
        data = json.loads(render(model_report(catalog.model(name), ""), "json"))
        assert data["kv_bytes_per_token"] == kv
    data = json.loads(render(model_report(catalog.model("qwen2.5-0.5b"), ""), "json"))
    assert data["parameters_total"] == 494032768
    assert data["weight_bytes"]["bf16"] == 2 * 494032768
