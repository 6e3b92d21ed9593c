"""`pdplan check`: judging, edits, baselines, the budget file, every renderer, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers import world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.budget.baseline import Difference, difference, read_baseline
from pdplan.budget.edits import best_edit
from pdplan.budget.judge import check_budget, check_deployment
from pdplan.budget.measures import DESCRIPTIONS, find_measure
from pdplan.budget.read import read_budget
from pdplan.budget.result import Budget, Check, Deployment, Finding, Limit, Spot
from pdplan.budget.trial import Bench
from pdplan.catalog.store import Catalog
from pdplan.compose import evaluate_plan
from pdplan.errors import InputError, NoPriceError
from pdplan.goodput import goodput_requests_per_s, highest_rate
from pdplan.plan import PROBLEMS, Colocated, Disaggregated, PoolPlan
from pdplan.report.check import check_json, check_report
from pdplan.report.formats.check_ci import render_github, render_junit
from pdplan.report.formats.render import render
from pdplan.workload import Slo, Workload

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCHEMA = json.loads((ROOT / "pdplan/report/schemas/check.json").read_text())
SPOT = Spot(path="budget.yaml", line=1, column=1)
WORLD = world(("llama-3.1-8b", "llama-3.3-70b"), ("h100", "h200"), prices={"h100": 2.0, "h200": 3.0})


def limits(**given: Any) -> tuple[Limit, ...]:
    found = []
    for key, value in given.items():
        measure = find_measure(key, 0.9)
        spot = replace(SPOT, key=key)
        found.append(Limit(measure=measure, bound=measure.bound, value=measure.parse(value, key), spot=spot))
    return tuple(found)


def colocated(
    workers: int = 2, rate: float = 4.0, tp: int = 4, model: str = "llama-3.3-70b", **given: Any
) -> Deployment:
    pool = PoolPlan(hardware="h100", workers=workers, tp=tp)
    return Deployment(
        name="colocated",
        plan=Colocated(model=model, precision="fp8", kv_precision="bf16", colocated=pool),
        workload=Workload(isl=4096, osl=512, rate=rate),
        slo=Slo(),
        world=WORLD,
        limits=limits(**given),
        spot=SPOT,
    )


def disaggregated(prefill: int = 2, decode: int = 2, rate: float = 4.0, **given: Any) -> Deployment:
    plan = Disaggregated(
        model="llama-3.3-70b",
        precision="fp8",
        kv_precision="bf16",
        prefill=PoolPlan(hardware="h200", workers=prefill, tp=2),
        decode=PoolPlan(hardware="h200", workers=decode, tp=2),
    )
    workload = Workload(isl=4096, osl=512, rate=rate)
    return Deployment(
        name="pd", plan=plan, workload=workload, slo=Slo(), world=WORLD, limits=limits(**given), spot=SPOT
    )


def finding(found: Any, key: str) -> Finding:
    return next(f for f in found.findings if f.limit.measure.key == key)


# ------------------------------------------------------------------------ judging


def test_check_says_what_evaluate_says() -> None:
    deployment = disaggregated(ttft_p90="1h", tpot_mean="1h", usd_per_h=1e6, request_latency_mean="1d")
    metrics = evaluate_plan(WORLD, deployment.plan, deployment.workload, deployment.slo)
    found = check_deployment(deployment)
    assert found.metrics == metrics
    for f in found.findings:
        assert f.found == getattr(metrics, f.limit.measure.field)
        assert f.status == "met"


def test_cost_and_gpus_by_hand() -> None:
    # 2 workers of tp 4 are 8 GPUs; at $2.00 they cost $16.00/h: $4.00 or a third over a limit of 12.
    found = check_deployment(colocated(usd_per_h=12, gpus=8), suggest=False)
    cost = finding(found, "usd_per_h")
    assert (cost.found, cost.over_by, cost.status) == (16.0, 4.0, "breached")
    assert cost.over_by_share == pytest.approx(1 / 3)
    assert (finding(found, "gpus").status, finding(found, "gpus").over_by) == ("met", 0.0)


def test_rounding_is_no_breach() -> None:
    (limit,) = limits(usd_per_h=83.2)
    assert limit.kept_by(83.2 * (1 + 1e-12))
    assert not limit.kept_by(83.21)


def test_a_percentile_between_the_fixed_ones_lies_between_them() -> None:
    found = check_deployment(disaggregated(ttft_p90=99, ttft_p95=99, ttft_p99=99), suggest=False)
    p90, p95, p99 = (f.found or 0.0 for f in found.findings)
    assert p90 <= p95 <= p99


def test_overload_is_a_breach_with_its_reason() -> None:
    found = check_deployment(colocated(rate=500, ttft="2s", usd_per_h=100))
    rate = finding(found, "requests_per_s")
    assert rate.status == "breached"
    assert rate.reason in PROBLEMS[1:]
    assert rate.found is not None
    assert rate.found < rate.limit.value == 500
    assert finding(found, "ttft_p90").status == "not judged"
    assert finding(found, "usd_per_h").status == "met"


def test_too_little_memory_is_a_breach_with_its_reason() -> None:
    # 70.6e9 parameters of two bytes are 141 GB; an H100 has 85 GB.
    pool = PoolPlan(hardware="h100", workers=1, tp=1)
    plan = Colocated(model="llama-3.3-70b", precision="bf16", kv_precision="bf16", colocated=pool)
    found = check_deployment(replace(colocated(gpus=8, goodput_requests_per_s=1), plan=plan))
    memory = found.findings[0]
    assert (memory.limit.measure.key, memory.status) == ("memory", "breached")
    assert "do not fit" in memory.reason
    assert memory.found is not None
    assert memory.found > 130e9
    assert memory.edit is not None
    assert memory.edit.plan.pools["colocated"].tp > 1
    assert finding(found, "goodput_requests_per_s").found == 0.0


@settings(max_examples=15)
@given(
    key=st.sampled_from(
        ["usd_per_h", "gpus", "ttft_p90", "tpot_p90", "utilisation", "goodput_requests_per_s"]
    ),
    value=st.floats(0.01, 0.99),
    factor=st.floats(1.0, 100.0),
    rate=st.sampled_from([1.0, 6.0, 40.0]),
)
def test_loosening_a_limit_never_breaches(key: str, value: float, factor: float, rate: float) -> None:
    measure = find_measure(key, 0.9)
    tight = Limit(
        measure=measure, bound=measure.bound, value=value * (20 if key == "usd_per_h" else 1), spot=SPOT
    )
    loose = replace(tight, value=tight.value * factor if tight.bound == "max" else tight.value / factor)
    base = disaggregated(rate=rate, ttft_p99="3s", goodput_requests_per_s=2)
    before = check_deployment(replace(base, limits=(tight, *base.limits)), suggest=False)
    after = check_deployment(replace(base, limits=(loose, *base.limits)), suggest=False)
    was = {f.limit.measure.key for f in before.breaches}
    assert {f.limit.measure.key for f in after.breaches} <= was


# ------------------------------------------------------------------------ goodput


def test_highest_rate_finds_the_edge_from_either_side() -> None:
    for start in (1e-3, 1.0, 37.0, 38.0, 1e6):
        assert highest_rate(lambda r: r <= 37.5, start=start) == pytest.approx(37.5, rel=1.1e-3)
    assert highest_rate(lambda r: r <= 37.5) <= 37.5


def test_goodput_is_kept_and_a_little_more_is_not() -> None:
    deployment, slo = disaggregated(), Slo(ttft_s=2.0, tpot_s=0.06)
    goodput = goodput_requests_per_s(WORLD, deployment.plan, deployment.workload, slo)
    assert goodput > 0

    def at(rate: float) -> Any:
        return evaluate_plan(WORLD, deployment.plan, deployment.workload.at_rate(rate), slo)

    assert at(goodput).problem == 0
    assert at(goodput).ttft_slo_s <= 2.0
    assert at(goodput).tpot_slo_s <= 0.06
    more = at(goodput * 1.002)
    assert more.problem or more.ttft_slo_s > 2.0 or more.tpot_slo_s > 0.06


def test_check_and_goodput_agree() -> None:
    deployment = disaggregated(ttft="2s", tpot="60ms")
    slo = Slo(ttft_s=2.0, tpot_s=0.06)
    alone = goodput_requests_per_s(WORLD, deployment.plan, deployment.workload, slo)
    assert check_deployment(deployment).goodput_requests_per_s == pytest.approx(alone, rel=2e-3)


# ------------------------------------------------------------------------ edits


@pytest.mark.parametrize(
    "deployment",
    [
        disaggregated(rate=12, ttft="400ms", tpot="25ms", usd_per_h=1000),
        disaggregated(rate=40, ttft="2s", goodput_requests_per_s=50),
        colocated(rate=8, tpot_p90="20ms", utilisation="50%"),
        colocated(workers=12, usd_per_h=60, ttft="3s"),
        colocated(rate=300, ttft="2s"),
    ],
)
def test_every_suggestion_is_true(deployment: Deployment) -> None:
    """The edited plan, judged from scratch, keeps the limit that it is for, at the cost that was said."""
    found = check_deployment(deployment)
    assert found.breaches
    edits = [(f, f.edit) for f in found.breaches if f.edit] + [(None, e) for e in [found.fix] if e]
    assert edits
    for f, edit in edits:
        again = check_deployment(replace(deployment, plan=edit.plan), suggest=False)
        breached = {b.limit.measure.key for b in again.breaches}
        assert breached == {*edit.still_breached, *edit.newly_breached}
        assert again.metrics.usd_per_h - found.metrics.usd_per_h == pytest.approx(edit.usd_per_h_delta)
        if f is None:
            assert not breached
        else:
            assert f.limit.measure.key not in breached


@pytest.mark.parametrize(
    "given", [{"ttft": "400ms"}, {"tpot": "25ms"}, {"goodput_requests_per_s": 14, "ttft": "2s"}]
)
def test_no_fewer_workers_would_do(given: dict[str, Any]) -> None:
    """Brute force over both pools: nothing cheaper in workers alone meets the limits."""
    deployment = disaggregated(rate=12, **given)
    found = check_deployment(deployment)
    fix = found.fix
    if fix is None or any(not c.field.endswith("workers") for c in fix.changes):
        pytest.skip("mended by a layout")
    wanted = {role: pool.workers for role, pool in fix.plan.pools.items()}
    for p in range(2, wanted["prefill"] + 1):
        for d in range(2, wanted["decode"] + 1):
            if p + d < sum(wanted.values()):
                tried = disaggregated(prefill=p, decode=d, rate=12, **given)
                assert check_deployment(tried, suggest=False).breaches


def test_a_breach_is_mended_by_the_cheapest_pair_of_changes() -> None:
    """A smaller batch alone leaves too few prefill workers, more workers alone do not shorten the batch."""
    deployment = disaggregated(rate=8, ttft="500ms")

    def edited(workers: int, batch: int | None, decode: int) -> Deployment:
        plan = deployment.plan
        assert isinstance(plan, Disaggregated)
        sending = replace(plan.prefill, workers=workers, max_batch=batch)
        receiving = replace(plan.decode, workers=decode)
        return replace(deployment, plan=replace(plan, prefill=sending, decode=receiving))

    fix = check_deployment(deployment).fix
    assert fix is not None
    assert len(fix.changes) == 2
    cost = evaluate_plan(WORLD, fix.plan, deployment.workload, deployment.slo).usd_per_h * (1 - 1e-9)
    for workers in range(2, 8):
        for batch in (None, 1, 2, 4):
            for decode in range(2, 6):
                tried = check_deployment(edited(workers, batch, decode), suggest=False)
                assert tried.breaches or tried.metrics.usd_per_h >= cost


def test_the_limit_said_to_pass_passes() -> None:
    found = check_deployment(disaggregated(rate=2, ttft="1ms", tpot="1ms", usd_per_h=1.11, utilisation="1%"))
    assert len(found.breaches) == 4
    for f in found.breaches:
        assert f.passing_limit is not None
        written = f.limit.measure.write(f.passing_limit)
        read = f.limit.measure.parse(written, "")
        assert replace(f.limit, value=read).kept_by(f.found or 0.0), written


def test_without_breach_there_is_nothing_to_edit() -> None:
    found = check_deployment(colocated(usd_per_h=100))
    assert found.fix is None
    assert all(f.edit is None for f in found.findings)


def test_best_edit_is_none_where_nothing_helps() -> None:
    deployment = colocated(workers=1, rate=1, usd_per_h=0.5)
    bench = Bench(deployment)
    assert best_edit(bench, check_deployment(deployment, suggest=False).breaches[0]) is None


# ------------------------------------------------------------------------ the file


def test_the_example_is_met_and_its_broken_twin_is_not() -> None:
    assert not check_budget(read_budget(EXAMPLES / "budget.yaml", Catalog())).breaches
    broken = check_budget(read_budget(EXAMPLES / "budget-breached.yaml", Catalog()))
    assert broken.breaches


def test_lines_lead_to_the_budget_and_to_the_plan(tmp_path: Path) -> None:
    text = (EXAMPLES / "budget.yaml").read_text().replace("plans/", f"{EXAMPLES}/plans/")
    (tmp_path / "b.yaml").write_text(text.replace("tpot_p90: 80ms", "tpot_p90: 20ms"))
    found = check_budget(read_budget(tmp_path / "b.yaml", Catalog()))
    breach = next(f for f in found.breaches if f.limit.measure.key == "tpot_p90")
    line = next(i for i, t in enumerate(text.splitlines(), 1) if "tpot_p90" in t)
    assert (breach.limit.spot.line, breach.limit.spot.column) == (line, 7)
    assert breach.edit_spot is not None
    assert breach.edit_spot.path.endswith("plans/chat.yaml")
    plan_lines = Path(breach.edit_spot.path).read_text().splitlines()
    role, _, field = (breach.edit.changes[0].field if breach.edit else "").partition(".")
    line_text = plan_lines[(breach.edit_spot.line or 0) - 1]
    assert line_text.strip().startswith(
        (f"{field}:", f"{role}:")
    )  # the pool's line where the key is not there


def test_entry_over_plan_over_defaults(tmp_path: Path) -> None:
    plan = "{model: llama-3.1-8b, colocated: {hardware: h100, workers: 1}, workload: {isl: 1k, osl: 100}}"
    (tmp_path / "b.yaml").write_text(
        "prices: {h100: 5}\n"
        "defaults: {workload: {isl: 9k, rate: 3}, engine: sglang, limits: {gpus: 1, usd_per_h: 3}}\n"
        f"deployments:\n  - name: a\n    plan: {plan}\n    workload: {{osl: 200}}\n"
        "    limits: {usd_per_h: 6}\n"
    )
    (found,) = read_budget(tmp_path / "b.yaml", Catalog()).deployments
    assert (found.workload.isl, found.workload.osl, found.workload.rate) == (1024, 200, 3)
    assert found.plan.engine == "sglang"
    assert found.world.price("h100") == 5
    assert {x.measure.key: x.value for x in found.limits} == {"usd_per_h": 6.0, "gpus": 1.0}


def test_printed_json_is_a_plan_file(tmp_path: Path) -> None:
    """What check (and evaluate, recommend) printed can be checked again."""
    first = check_budget(read_budget(EXAMPLES / "budget.yaml", Catalog()))
    data = check_json(first)["deployments"][0]
    (tmp_path / "plan.json").write_text(json.dumps({"schema_version": 1, **data}))
    (tmp_path / "b.yaml").write_text("deployments: [{name: chat, plan: plan.json, limits: {gpus: 64}}]")
    (again,) = check_budget(read_budget(tmp_path / "b.yaml", Catalog())).deployments
    assert again.metrics == first.deployments[0].metrics


BAD = {
    "an unknown key": ("deployment: []", "did you mean 'deployments'?"),
    "no deployment": ("deployments: []", "b.yaml:1:1: the list is empty"),
    "an empty file": ("", "b.yaml:1:1: the file is empty"),
    "a future version": ("schema_version: 2\ndeployments: []", "b.yaml:1:1: 'schema_version' is 2"),
    "a key twice": (
        "deployments: []\ndeployments: []",
        "b.yaml:2:1: the key 'deployments' is here a second time",
    ),
    "a missing plan": ("deployments:\n- {name: a, plan: no.yaml, limits: {gpus: 1}}", "b.yaml:2:13: "),
    "no limit": ("deployments:\n- {name: a, plan: PLAN}", "b.yaml:2:3: 'a' has no limit"),
    "an unknown limit": (
        "deployments:\n- {name: a, plan: PLAN, limits: {tfft: 2s}}",
        "unknown limit 'tfft'; did you mean 'ttft'",
    ),
    "a wrong unit": (
        "deployments:\n- {name: a, plan: PLAN, limits: {ttft: 2m}}",
        "did you mean 'ms' or 'min'?",
    ),
    "a negative limit": ("deployments:\n- {name: a, plan: PLAN, limits: {gpus: -1}}", "'gpus'"),
    "not a number": (
        "deployments:\n- {name: a, plan: PLAN, limits: {gpus: .nan}}",
        "expected a finite number",
    ),
    "min above max": (
        "deployments:\n- {name: a, plan: PLAN, limits: {gpus: {min: 3, max: 2}}}",
        "nothing can meet",
    ),
    "the same limit twice": (
        "deployments:\n- {name: a, plan: PLAN, limits: {ttft: 2s, ttft_p90: 3s}}",
        "are the same limit (ttft_p90)",
    ),
    "the same name twice": (
        "deployments:\n- {name: a, plan: PLAN, limits: {gpus: 9}}\n- {name: a, plan: PLAN}",
        "b.yaml:3:4: a second deployment is called 'a'",
    ),
    "a total that does not add up": (
        "deployments:\n- {name: a, plan: PLAN}\ntotal: {ttft: 2s}",
        "does not add up",
    ),
    "a misspelt model": (
        "deployments:\n- {name: a, plan: {model: lama-3.1-8b, colocated: {hardware: h100, workers: 1}, "
        "workload: {isl: 1k, osl: 1k, rate: 1}}, limits: {gpus: 1}}",
        "did you mean",
    ),
    "no load": (
        "deployments:\n- {name: a, plan: {model: llama-3.1-8b, colocated: {hardware: h100, workers: 1}, "
        "workload: {isl: 1k, osl: 1k}}, limits: {gpus: 1}}",
        "b.yaml:2:3: 'a': the load is missing",
    ),
}
PLAN = "{model: llama-3.1-8b, colocated: {hardware: h100, workers: 1}, workload: {isl: 1k, osl: 1k, rate: 1}}"


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_clear_error(name: str, tmp_path: Path) -> None:
    text, expected = BAD[name]
    path = tmp_path / "b.yaml"
    path.write_text(text.replace("PLAN", PLAN))
    with pytest.raises(InputError) as problem:
        read_budget(path, Catalog())
    assert expected in str(problem.value)


def test_all_errors_of_a_file_at_once(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(
        "deployments:\n"
        "- {name: a, plan: no.yaml, limits: {tfft: 2s}}\n"
        f"- {{name: b, plan: {PLAN}, workload: {{rate: -3}}, limits: {{tpot: -1ms}}}}\n"
        "total: {gpu: 3}\n"
    )
    with pytest.raises(InputError) as problem:
        read_budget(tmp_path / "b.yaml", Catalog())
    assert len(problem.value.messages) == 5


def test_a_cost_limit_needs_a_price() -> None:
    unpriced = world(("llama-3.1-8b",), ("h100",), prices={"h100": float("nan")})
    deployment = replace(colocated(model="llama-3.1-8b", tp=1, usd_per_h=9), world=unpriced)
    with pytest.raises(NoPriceError, match="no price is known for h100"):
        check_budget(Budget(path="b.yaml", deployments=(deployment,)))
    free = replace(deployment, limits=limits(gpus=9))
    assert not check_budget(Budget(path="b.yaml", deployments=(free,))).breaches


# ------------------------------------------------------------------------ baselines


def test_a_check_beside_itself_has_not_changed() -> None:
    data = check_json(check_budget(Budget(path="b", deployments=(disaggregated(ttft="2s"),))))
    changes = difference(data, data, "main.json")
    assert [d.kind for d in changes.deployments] == ["unchanged"]
    assert not changes.newly_breached
    assert not any(s.is_change for d in changes.deployments for s in d.shifts)


def test_difference_by_hand() -> None:
    # From 2 + 2 to 3 + 2 workers of two H200 at $3.00: from $24 to $30, up 25 %.
    old = check_json(check_budget(Budget(path="b", deployments=(disaggregated(usd_per_h=25),))))
    new = check_json(check_budget(Budget(path="b", deployments=(disaggregated(prefill=3, usd_per_h=25),))))
    changes = difference(old, new, "main.json")
    (one,) = changes.deployments
    assert [(f.field, f.old, f.new) for f in one.fields] == [("prefill.workers", 2, 3)]
    cost = one.shifts[0]
    assert (cost.old, cost.new, cost.delta, cost.share) == (24.0, 30.0, 6.0, 0.25)
    assert not cost.is_better
    assert changes.newly_breached == (("pd", "usd_per_h"),)
    back = difference(new, old, "x")
    assert back.mended == (("pd", "usd_per_h"),)
    assert back.deployments[0].shifts[0].is_better


def test_added_and_removed_deployments() -> None:
    one = check_json(check_budget(Budget(path="b", deployments=(colocated(gpus=9),))))
    two = check_json(check_budget(Budget(path="b", deployments=(disaggregated(gpus=9),))))
    kinds = {d.name: d.kind for d in difference(one, two, "x").deployments}
    assert kinds == {"pd": "added", "colocated": "removed"}


@pytest.mark.parametrize(
    "text", ["{}", '{"deployments": 3}', '{"schema_version": 1, "plan": {}}', "[]", "no"]
)
def test_another_file_is_no_baseline(text: str, tmp_path: Path) -> None:
    (tmp_path / "main.json").write_text(text)
    with pytest.raises(InputError):
        read_baseline(tmp_path / "main.json")


# ------------------------------------------------------------------------ renderers


@pytest.fixture(scope="module")
def shown() -> tuple[Check, Difference]:
    """A budget with everything in it, under ideal constants: refitting them changes no golden file."""
    budget = read_budget(EXAMPLES / "budget-breached.yaml", Catalog(environment=""))
    met = read_budget(EXAMPLES / "budget.yaml", Catalog(environment=""))
    checks = []
    for one in (budget, met):
        ideal = tuple(replace(d, world=replace(d.world, ideal=True)) for d in one.deployments)
        short = one.path.removeprefix(f"{ROOT}/")
        checks.append(check_budget(replace(one, deployments=ideal, path=short, catalog_sha256="0" * 64)))
    return checks[0], difference(check_json(checks[1]), check_json(checks[0]), "main.json")


def rendered(check: Check, changes: Difference, format: str) -> str:
    if format == "github":
        return render_github(check)
    if format == "junit":
        return render_junit(check)
    return render(check_report(check, changes), format)


@pytest.mark.parametrize(
    ("format", "suffix"),
    [
        ("text", "txt"),
        ("json", "json"),
        ("markdown", "md"),
        ("csv", "csv"),
        ("github", "github.txt"),
        ("junit", "xml"),
    ],
)
def test_golden(shown: tuple[Check, Difference], format: str, suffix: str, golden: Any) -> None:
    golden(f"check.{suffix}", rendered(*shown, format).replace(f"{ROOT}/", ""))


def test_json_keeps_its_schema(shown: tuple[Check, Difference]) -> None:
    jsonschema.validate(json.loads(rendered(*shown, "json")), SCHEMA)
    met = check_budget(Budget(path="b", deployments=(colocated(usd_per_h=100),)))
    jsonschema.validate(json.loads(render(check_report(met), "json")), SCHEMA)
    hopeless = check_budget(Budget(path="b", deployments=(colocated(tp=1, rate=1e5, ttft="2s"),)))
    jsonschema.validate(json.loads(render(check_report(hopeless), "json")), SCHEMA)


def test_github_annotations_are_one_line_each_and_escaped(shown: tuple[Check, Difference]) -> None:
    check, _ = shown
    lines = render_github(check).splitlines()
    assert len(lines) == len(check.breaches) + len(check.at_risk) + 1
    for line in lines:
        command, properties, message = line[2:].split("::")[0], line.split("::")[1], line.split("::", 2)[2]
        assert command.startswith(("error", "notice"))
        assert "%" not in message.replace("%25", "").replace("%0A", "")
        assert properties


def test_junit_is_xml_with_a_failure_a_breach(shown: tuple[Check, Difference]) -> None:
    check, _ = shown
    tree = ElementTree.fromstring(render_junit(check))
    assert len(tree.findall(".//failure")) == len(check.breaches) == int(tree.attrib["failures"])
    assert len(tree.findall(".//testcase")) == len(check.findings)


# ------------------------------------------------------------------------ the command


def run(*args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pdplan.__main__ import main; main()", "check", *map(str, args)]
    import os

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_exit_codes_and_streams(tmp_path: Path) -> None:
    met = run("examples/budget.yaml")
    assert (met.returncode, met.stderr) == (0, "")
    assert met.stdout.startswith("Budget met")
    broken = run("examples/budget-breached.yaml", "--format", "github")
    assert (broken.returncode, broken.stderr) == (1, "")
    assert "\n::error file=examples/plans/" in f"\n{broken.stdout}"
    bad = run(tmp_path / "nothing.yaml")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert "there is no such file" in bad.stderr
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize(
    "flags",
    [
        ("--format", "tex"),
        ("--baseline", "examples/budget.yaml"),
        ("--baseline", "no.json"),
        ("--against", "no.yaml"),
        ("--baseline", "a", "--against", "b"),
        ("--save", "x.pdf"),
        ("--save", "/no/such/folder/x.json"),
        ("--nonsense",),
    ],
)
def test_bad_flags_exit_2(flags: tuple[str, ...]) -> None:
    found = run("examples/budget.yaml", *flags)
    assert (found.returncode, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr


def test_saved_files_and_baseline(tmp_path: Path) -> None:
    saved = [tmp_path / name for name in ("c.json", "c.md", "c.csv", "c.xml", "c.txt")]
    first = run("examples/budget.yaml", *(x for path in saved for x in ("--save", path)))
    assert first.returncode == 0
    assert all(path.stat().st_size for path in saved)
    assert saved[4].read_text() == first.stdout
    same = run("examples/budget.yaml", "--baseline", saved[0])
    assert "nothing has changed" in same.stdout
    against = run("examples/budget.yaml", "--against", "examples/budget.yaml", "--format", "markdown")
    assert "nothing has changed" in against.stdout


def test_the_same_input_gives_the_same_bytes() -> None:
    one, two = (run("examples/budget-breached.yaml", "--format", "json").stdout for _ in range(2))
    assert one == two


# ------------------------------------------------------------------------ documentation


def test_every_limit_is_documented() -> None:
    text = (ROOT / "docs" / "check.md").read_text()
    for key in DESCRIPTIONS:
        assert f"`{key}`" in text, key


def test_commands_of_the_documentation_run() -> None:
    """Every `pdplan check` line of docs/check.md, as it stands there."""
    import shlex

    text = (ROOT / "docs" / "check.md").read_text()
    lines = {
        x.strip().removeprefix("$ ") for x in text.splitlines() if x.strip().startswith("$ pdplan check")
    }
    assert lines
    for line in sorted(lines):
        arguments = shlex.split(line)[2:]
        found = run(*arguments)
        assert found.returncode in (0, 1), (line, found.stderr)


def test_the_documented_output_is_real(request: pytest.FixtureRequest) -> None:
    path = ROOT / "docs" / "check.md"
    head, _, rest = path.read_text(encoding="utf-8").partition(
        "$ pdplan check examples/budget-breached.yaml\n"
    )
    shown, _, tail = rest.partition("```")
    real = run("examples/budget-breached.yaml").stdout
    if request.config.getoption("--update-golden"):
        text = f"{head}$ pdplan check examples/budget-breached.yaml\n{real}```{tail}"
        path.write_text(text, encoding="utf-8")
        shown = real
    assert shown == real, "docs/check.md is out of date: pytest --update-golden"


def test_a_deployment_that_cannot_do_its_work_has_no_cost_a_token_to_compare():
    metrics = {"usd_per_h": 80.0, "usd_per_million_output_tokens": 2.0, "gpus": 32, "problem": None}
    half = {"usd_per_h": 40.0, "usd_per_million_output_tokens": 1.0, "gpus": 16, "problem": "too slow"}
    old, new = ({"deployments": [{"name": "a", "metrics": m}], "total": {}} for m in (metrics, half))
    shifts = {s.measure.key: s for s in difference(old, new, "base").deployments[0].shifts}
    assert shifts["usd_per_h"].delta == -40.0
    assert shifts["usd_per_million_output_tokens"].old == 2.0
    assert shifts["usd_per_million_output_tokens"].new is None
