"""What evaluate, compare, check and explain make of plans whose pools have several kinds of workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import pdplan
from pdplan.budget.judge import check_budget
from pdplan.budget.read import read_budget
from pdplan.budget.result import Check
from pdplan.catalog.store import Catalog
from pdplan.cli.app import app
from pdplan.documents.files import read_yaml
from pdplan.report.check import check_report
from pdplan.report.formats.check_ci import render_github, render_junit
from pdplan.report.formats.render import render

RUNNER = CliRunner()
SCHEMAS = Path(pdplan.__file__).parent / "report" / "schemas"
QUESTION = [
    "--model", "llama-3.1-8b", "--inventory", "h100=2@3", "--inventory", "l40s=4@1.1",
    "--isl", "1500", "--osl", "300", "--rate", "37", "--ttft", "1.5s", "--tpot", "50ms",
]  # fmt: skip
PLAN = """\
model: llama-3.1-8b
colocated:
  - {hardware: h100, workers: 2, max_batch: 250}
  - hardware: l40s
    workers: 3
workload: {isl: 1500, osl: 300, rate: 33}
slo: {ttft: 1.5s, tpot: 50ms}
prices: {h100: 3, l40s: 1.1}
"""
STATED = PLAN.replace("max_batch: 250", "max_batch: 250, share: 0.8").replace(
    "workers: 3", "workers: 3\n    share: 0.2"
)


def answer(*args: str) -> Any:
    result = RUNNER.invoke(app, [*args, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{args[0]}.json").read_text()))
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mix as `recommend` printed it."""
    path = tmp_path_factory.mktemp("mix") / "mix.json"
    path.write_text(json.dumps(answer("recommend", *QUESTION)))
    return path


def test_what_recommend_printed_is_evaluated_compared_and_explained_alike(printed: Path) -> None:
    recommended = json.loads(printed.read_text())
    assert isinstance(recommended["plan"]["colocated"], list)
    evaluated = answer("evaluate", str(printed))
    assert evaluated["plan"] == recommended["plan"]
    assert evaluated["metrics"] == recommended["metrics"]
    assert answer("compare", str(printed))["rows"][0]["metrics"] == recommended["metrics"]
    explained = answer("explain", str(printed))
    for name, found in explained["answer"].items():
        assert found["value"] == recommended["metrics"][name], name
    asked = answer("explain", *QUESTION)  # the flags of recommend explain its plan
    assert asked["plan"] == recommended["plan"]
    assert asked["answer"] == explained["answer"]


# ------------------------------------------------------------------------ check


def checked(folder: Path, plan: str, limits: str) -> Check:
    (folder / "plan.yaml").write_text(plan)
    (folder / "budget.yaml").write_text(
        f"deployments:\n  - name: chat\n    plan: plan.yaml\n    limits: {{{limits}}}\n"
    )
    return check_budget(read_budget(folder / "budget.yaml", Catalog()))


def test_limits_on_a_mix_are_held_against_what_evaluate_says(tmp_path: Path) -> None:
    keys = {
        "usd_per_h": "usd_per_h", "gpus": "gpus", "ttft_p99": "ttft_p99_s", "tpot_mean": "tpot_mean_s",
        "total_tok_per_s_per_gpu": "total_tok_per_s_per_gpu",
    }  # fmt: skip
    limits = ", ".join(f"{key}: 1000" for key in keys)
    found = checked(tmp_path, STATED, f"{limits}, utilisation: 99%, kv_cache: 99%, goodput_requests_per_s: 1")
    by_key = {f.limit.measure.key: f.found for f in found.findings}
    metrics = pdplan.evaluate(tmp_path / "plan.yaml")
    for key, name in keys.items():
        assert by_key[key] == getattr(metrics, name), key
    assert by_key["utilisation"] == max(metrics.utilisation.values())
    # Memory holds fewer than the 250 of the plan: it is what limits both kinds.
    held = [metrics.running[part] / metrics.max_batch[part] for part in ("colocated 1", "colocated 2")]
    assert metrics.max_batch["colocated 1"] < 250
    assert by_key["kv_cache"] == max(held)
    goodput = by_key["goodput_requests_per_s"]
    slower, faster = (pdplan.evaluate(tmp_path / "plan.yaml", rate=goodput * x) for x in (0.999, 1.003))
    assert slower.tpot_p90_s <= 0.05
    assert faster.problem or faster.tpot_p90_s > 0.05


BADLY_SPLIT = STATED.replace("share: 0.8", "share: 0.76").replace("share: 0.2", "share: 0.24")


@pytest.mark.parametrize(
    "plan", [PLAN, STATED, BADLY_SPLIT], ids=["split by rate", "shares stated", "badly split"]
)
def test_what_an_edit_says_is_what_the_edited_file_gives(tmp_path: Path, plan: str) -> None:
    found = checked(tmp_path, plan, "tpot_p90: 36ms")
    breached = [f for f in found.findings if f.status == "breached" and f.edit is not None]
    assert breached
    for finding in breached:
        lines = plan.splitlines()
        for change in finding.edit.changes:
            part, _, field = change.field.partition(".")
            line = change.spot.line - 1
            assert str(change.spot).startswith(str(tmp_path / "plan.yaml"))
            if f"{field}: {change.old}" in lines[line]:
                lines[line] = lines[line].replace(f"{field}: {change.old}", f"{field}: {change.new}")
            else:  # the default, written down beside what the line holds
                assert change.old is None or field in ("tp", "pp", "dp", "ep", "max_batch")
                hardware = {"colocated 1": "h100", "colocated 2": "l40s"}[part]
                old = f"hardware: {hardware}"
                assert old in lines[line]
                joined = ", " if "{" in lines[line] else "\n    "
                lines[line] = lines[line].replace(old, f"{old}{joined}{field}: {change.new}")
        again = checked(tmp_path, "\n".join(lines) + "\n", "tpot_p90: 36ms")
        same = next(f for f in again.findings if f.limit.measure == finding.limit.measure)
        assert same.status == "met"
        assert same.found == pytest.approx(finding.edit.found, rel=1e-9)


def test_a_bad_split_is_mended_by_other_shares(tmp_path: Path) -> None:
    found = checked(tmp_path, BADLY_SPLIT, "tpot_p90: 46ms")
    breached = next(f for f in found.findings if f.status == "breached" and f.limit.measure.key == "tpot_p90")
    assert [c.field for c in breached.edit.changes] == ["colocated 1.share", "colocated 2.share"]
    assert breached.edit.usd_per_h_delta == 0
    assert breached.edit.meets_all
    assert sum(c.new for c in breached.edit.changes) == pytest.approx(1.0)
    assert "colocated 1.share: 0.76 → 0.7" in render(check_report(found), "text")


def test_a_mix_in_a_budget_is_told_in_every_format(tmp_path: Path) -> None:
    found = checked(tmp_path, PLAN, "usd_per_h: 5")
    assert found.breaches
    report = check_report(found)
    jsonschema.validate(json.loads(render(report, "json")), json.loads((SCHEMAS / "check.json").read_text()))
    told = [render(report, form) for form in ("text", "markdown", "csv")]
    for page in (*told, render_github(found), render_junit(found)):
        assert "usd_per_h" in page.replace("\\", "")


def test_a_closed_loop_over_a_mix_is_refused_where_it_is_said(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN.replace("rate: 33", "concurrency: 40"))
    for args in (["evaluate", str(plan)], ["explain", str(plan)], ["compare", str(plan)]):
        result = RUNNER.invoke(app, args)
        assert result.exit_code == 2
        assert "plan.yaml:6:33: " in result.stderr
        assert "give a rate instead" in result.stderr
    assert read_yaml(plan).data["workload"]["concurrency"] == 40
