"""The derivation: every line recomputes from its inputs, and its results are those of evaluate_plan."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import jsonschema
import pytest

import pdplan
from pdplan.catalog.store import Catalog
from pdplan.compose import NetworkSpec, World, evaluate_plan
from pdplan.errors import InputError
from pdplan.explain import SECTION_KEYS, Derivation, derive
from pdplan.explain.derivation import OF_MIXES
from pdplan.plan import Colocated, Disaggregated, Mixed, Part, Plan, PoolPlan
from pdplan.report.explanation import explanation_inputs, render_explanation
from pdplan.workload import Slo, Speculation, Workload
from tests.pocket_calculator import NAMES, UNITS, calculator, value_of

SLO = Slo(ttft_s=2.0, tpot_s=0.04, percentile=0.9)
CATALOG = Catalog()
SCHEMA = json.loads(
    (Path(pdplan.__file__).parent / "report" / "schemas" / "explain.json").read_text(encoding="utf-8")
)


def world(plan: Plan, **more: object) -> World:
    hardware = {p.hardware for p in plan.pools.values()}
    return World(
        models={plan.model: CATALOG.model(plan.model)},
        accelerators={h: CATALOG.accelerator(h) for h in hardware},
        prices={},
        **more,  # type: ignore[arg-type]
    )


def colocated(model: str, hardware: str, precision: str = "bf16", **pool: int) -> Colocated:
    speculation = Speculation(drafted=pool.pop("drafted", 0))
    own = PoolPlan(hardware=hardware, **{"workers": 2, **pool})
    return Colocated(
        model=model, precision=precision, kv_precision="bf16", colocated=own, speculation=speculation
    )


def disaggregated(
    model: str, prefill: PoolPlan, decode: PoolPlan, precision: str = "fp8", **more: object
) -> Disaggregated:
    return Disaggregated(
        model=model,
        precision=precision,
        kv_precision="fp8",
        prefill=prefill,
        decode=decode,
        **more,  # type: ignore[arg-type]
    )


R1 = disaggregated(
    "deepseek-r1",
    PoolPlan(hardware="h200", workers=4, tp=8, ep=8),
    PoolPlan(hardware="h200", workers=1, tp=1, dp=16, ep=16, max_batch=512),
)
CASES: dict[str, tuple[Plan, Workload, dict[str, object]]] = {
    "short answers": (
        colocated("llama-3.1-8b", "h100", workers=1),
        Workload(isl=60, osl=4, concurrency=300),
        {},
    ),
    "short answers in stages": (
        colocated("llama-3.1-8b", "h100", workers=1, tp=1, pp=2, max_batch=200),
        Workload(isl=500, osl=3, rate=30.0),
        {},
    ),
    "r1 in two pools": (R1, Workload(isl=4096, osl=1024, rate=10), {}),
    "r1 across domains, drafted, mixed accelerators": (
        disaggregated(
            "deepseek-r1",
            PoolPlan(hardware="h100", workers=2, tp=4, dp=8, ep=32, max_batch=64),
            PoolPlan(hardware="h200", workers=1, tp=2, dp=16, ep=8, max_batch=512),
            speculation=Speculation(drafted=2, acceptance=0.8),
        ),
        Workload(isl=3000, osl=500, rate=8, prefix_reuse=0.4, isl_cv=0.7, osl_cv=0.6, arrival_cv=1.5),
        {},
    ),
    "r1 over many ranks, halves overlapped, copies of busy experts": (
        disaggregated(
            "deepseek-r1",
            PoolPlan(hardware="h100", workers=3, tp=1, dp=32, ep=32, max_batch=64),
            PoolPlan(hardware="h100", workers=1, tp=1, dp=72, ep=72, max_batch=18432),
            speculation=Speculation(drafted=1, acceptance=0.8),
            redundant_experts=32,
            overlap="two-batch",
        ),
        Workload(isl=4096, osl=500, rate=150),
        {},
    ),
    "r1 over many ranks, both phases in one step, halves overlapped": (
        Colocated(
            model="deepseek-r1",
            precision="fp8",
            kv_precision="bf16",
            colocated=PoolPlan(hardware="h200", workers=1, dp=32, ep=32),
            redundant_experts=32,
            overlap="two-batch",
        ),
        Workload(isl=2048, osl=500, rate=40),
        {},
    ),
    "everything drafted is accepted": (
        disaggregated(
            "deepseek-v3", R1.prefill, R1.decode, speculation=Speculation(drafted=1, acceptance=1.0)
        ),
        Workload(isl=4096, osl=1024, rate=5),
        {},
    ),
    "sparse attention": (
        disaggregated("deepseek-v3.2", R1.prefill, R1.decode),
        Workload(isl=9000, osl=1024, rate=3),
        {},
    ),
    "compressed sparse attention": (
        colocated("deepseek-v4-flash", "h200", "fp8", tp=8, ep=8),
        Workload(isl=9000, osl=512, rate=1),
        {},
    ),
    "windows, 4-bit experts": (
        colocated("gpt-oss-120b", "h100", "fp4", tp=2),
        Workload(isl=100, osl=200, rate=2),
        {},
    ),
    "windows crossed while answering": (
        colocated("gpt-oss-20b", "b200", "fp4"),
        Workload(isl=60, osl=5000, rate=1),
        {},
    ),
    "state-space layers": (
        colocated("nemotron-h-56b", "h200", tp=4),
        Workload(isl=2000, osl=300, rate=2),
        {},
    ),
    "latent experts": (
        colocated("nemotron-3-super-120b-a12b", "h200", "fp8", tp=4),
        Workload(isl=2000, osl=300, rate=2),
        {},
    ),
    "delta attention": (
        colocated("kimi-k3", "b200", "fp4", tp=8, dp=4, ep=32),
        Workload(isl=2000, osl=300, rate=2),
        {},
    ),
    "tied tables": (colocated("gemma-4-31b", "mi300x", tp=2), Workload(isl=3000, osl=300, rate=1), {}),
    "a shared PCIe root": (colocated("llama-3.1-8b", "l40s", tp=4), Workload(isl=1000, osl=100, rate=1), {}),
    "closed loop, one pool": (
        colocated("llama-3.1-8b", "h100"),
        Workload(isl=1000, osl=200, concurrency=40, isl_cv=0.3),
        {},
    ),
    "closed loop, slots short": (
        colocated("llama-3.1-8b", "h100", max_batch=8),
        Workload(isl=1000, osl=200, concurrency=100),
        {},
    ),
    "closed loop, two pools": (R1, Workload(isl=4096, osl=1024, concurrency=200), {}),
    "pipeline stages": (
        disaggregated(
            "llama-3.1-70b",
            PoolPlan(hardware="a100-sxm-80gb", workers=2, tp=4, pp=2),
            PoolPlan(hardware="h100", workers=2, tp=8),
        ),
        Workload(isl=20000, osl=200, rate=1),
        {},
    ),
    "stages of unequal layers, drafted": (
        disaggregated(
            "deepseek-r1",
            PoolPlan(hardware="h200", workers=2, tp=1, pp=8, dp=2, ep=2, max_batch=16),
            PoolPlan(hardware="h200", workers=1, tp=2, pp=4, dp=4, ep=8, max_batch=512),
            speculation=Speculation(drafted=1, acceptance=0.7),
        ),
        Workload(isl=20000, osl=500, rate=2),
        {},
    ),
    "stages with prompts beside decodes": (
        colocated("llama-3.1-70b", "h100", tp=2, pp=4),
        Workload(isl=9000, osl=200, rate=2),
        {},
    ),
    "stages with few requests": (
        colocated("qwen3-235b-a22b", "h200", "fp8", tp=2, pp=4, drafted=1),
        Workload(isl=1000, osl=200, rate=0.05),
        {},
    ),
    "stages with prompts on their own": (
        Colocated(
            model="qwen3-30b-a3b",
            precision="fp8",
            kv_precision="fp8",
            engine="sglang",
            colocated=PoolPlan(hardware="h200", workers=1, tp=1, pp=4, max_batch=64),
        ),
        Workload(isl=20000, osl=300, rate=1),
        {},
    ),
    "stages in a closed loop": (
        colocated("llama-3.1-70b", "h100", tp=2, pp=4, workers=1),
        Workload(isl=1000, osl=200, concurrency=60),
        {},
    ),
    "a lossy RDMA network": (
        R1,
        Workload(isl=4096, osl=1024, rate=10),
        {"network": NetworkSpec(loss=1e-4, jitter_s=2e-3)},
    ),
    "a lossy TCP network": (
        R1,
        Workload(isl=4096, osl=1024, rate=10),
        {"network": NetworkSpec(bandwidth_bytes_per_s=12.5e9, loss=1e-6, transport="tcp", latency_s=1e-3)},
    ),
    "prefills on their own": (
        Colocated(
            model="qwen3-30b-a3b",
            precision="fp8",
            kv_precision="fp8",
            engine="sglang",
            colocated=PoolPlan(hardware="h200", workers=3, tp=1, max_batch=64),
        ),
        Workload(isl=2000, osl=300, rate=4),
        {},
    ),
    "two kinds of prefill and of decode workers": (
        Mixed(
            model="llama-3.1-70b",
            precision="bf16",
            kv_precision="bf16",
            prefill=(
                Part(pool=PoolPlan(hardware="h100", workers=1, pp=4, max_batch=4), share=0.77),
                Part(pool=PoolPlan(hardware="h20", workers=3, tp=4, max_batch=1), share=0.23),
            ),
            decode=(
                Part(pool=PoolPlan(hardware="h20", workers=2, tp=4, max_batch=111), share=0.84),
                Part(pool=PoolPlan(hardware="h20", workers=1, tp=2, max_batch=35), share=0.16),
            ),
        ),
        Workload(isl=2048, osl=512, rate=8, isl_cv=0.2),
        {"network": NetworkSpec(jitter_s=2e-3)},
    ),
    "three kinds of colocated workers": (
        Mixed(
            model="llama-3.1-8b",
            precision="bf16",
            kv_precision="bf16",
            colocated=(
                Part(pool=PoolPlan(hardware="h100", workers=2), share=0.8),
                Part(pool=PoolPlan(hardware="l40s", workers=1, pp=2), share=0.13),
                Part(pool=PoolPlan(hardware="l40s", workers=1, max_batch=40), share=0.07),
            ),
        ),
        Workload(isl=1500, osl=300, rate=30),
        {},
    ),
    "one kind of decode worker beside two that prefill": (
        Mixed(
            model="deepseek-r1",
            precision="fp8",
            kv_precision="fp8",
            prefill=(
                Part(pool=R1.prefill, share=0.6),
                Part(pool=PoolPlan(hardware="h100", workers=3, tp=16), share=0.4),
            ),
            decode=(Part(pool=R1.decode, share=1.0),),
        ),
        Workload(isl=4096, osl=1024, rate=6),
        {},
    ),
    "a mix of which one kind is overrun": (
        Mixed(
            model="llama-3.1-8b",
            precision="bf16",
            kv_precision="bf16",
            colocated=(
                Part(pool=PoolPlan(hardware="h100", workers=2), share=0.5),
                Part(pool=PoolPlan(hardware="l40s", workers=1), share=0.5),
            ),
        ),
        Workload(isl=1500, osl=300, rate=30),
        {},
    ),
    "more than it can do": (R1, Workload(isl=4096, osl=1024, rate=1000), {}),
    "does not fit": (colocated("llama-3.1-70b", "h100"), Workload(isl=1000, osl=100, rate=1), {}),
}


@pytest.fixture(scope="module", params=[*CASES, *(f"{name}, ideal" for name in list(CASES)[::4])])
def case(request: pytest.FixtureRequest) -> tuple[Derivation, World, Plan, Workload]:
    plan, workload, more = CASES[request.param.removesuffix(", ideal")]
    given = world(plan, ideal=request.param.endswith(", ideal"), **more)
    return derive(given, plan, workload, SLO), given, plan, workload


def finite(*values: float | None) -> bool:
    return all(v is not None and math.isfinite(v) for v in values)


# ---------------------------------------------------------------- every line


def test_every_line_recomputes_from_its_inputs(case: tuple[Derivation, World, Plan, Workload]) -> None:
    derivation, *_ = case
    assert len(derivation.lines) > 100
    for line in derivation.lines:
        inputs = {x.name: x.value for x in line.inputs}
        if finite(line.value, *inputs.values()):
            where = f"{line.id} {line.group}: {line.symbol} = {line.expression} with {inputs}"
            tolerance = 1e-6 if "wait_quantile" in line.expression else 1e-9
            assert value_of(line.expression, inputs) == pytest.approx(line.value, rel=tolerance, abs=1e-18), (
                where
            )


def test_inputs_are_used_and_lines_lead_on(case: tuple[Derivation, World, Plan, Workload]) -> None:
    derivation, *_ = case
    lines = {line.id: line for line in derivation.lines}
    seen: set[str] = set()
    for line in derivation.lines:
        named = {n.id for n in ast.walk(ast.parse(line.expression)) if isinstance(n, ast.Name)} - NAMES.keys()
        assert named == {x.name for x in line.inputs}, line
        for x in line.inputs:
            assert x.source, line
            if x.line:
                assert x.line in seen, f"{line.id} refers ahead"
                origin = lines[x.line]
                assert (origin.value, origin.unit) == (x.value, x.unit) or math.isnan(x.value)
        seen.add(line.id)


def test_the_results_are_those_of_the_planner(case: tuple[Derivation, World, Plan, Workload]) -> None:
    derivation, given, plan, workload = case
    metrics = evaluate_plan(given, plan, workload, SLO)
    assert derivation.problem == metrics.reason
    answer = {x.name: x.value for x in derivation.answer}
    for name in ("ttft_mean_s", "ttft_slo_s", "tpot_mean_s", "tpot_slo_s", "request_latency_slo_s", "gpus"):
        assert answer[name] == getattr(metrics, name), name
    for name, value in answer.items():
        expected = getattr(metrics, name)
        assert value == expected or (math.isnan(value) and math.isnan(expected)), name
    lines = {line.id: line for line in derivation.lines}
    for x in derivation.answer:
        assert (x.line and lines[x.line].value == x.value) or math.isnan(x.value)


def test_terms_add_up_to_the_step(case: tuple[Derivation, World, Plan, Workload]) -> None:
    tables = [t for s in case[0].sections for t in s.tables]
    assert tables
    for step in tables:
        assert sum(row.total_s for row in step.rows) == pytest.approx(step.total_s, rel=1e-12)
        assert all(row.constants and row.binding for row in step.rows)


# ---------------------------------------------------------------- as printed


def rendered(
    derivation: Derivation, given: World, plan: Plan, workload: Workload, format: str, **more: object
) -> str:
    head = explanation_inputs(plan, workload, SLO, given, "0" * 64)
    return render_explanation(derivation, head, format, **more)  # type: ignore[arg-type]


def test_json_recomputes(case: tuple[Derivation, World, Plan, Workload]) -> None:
    data = json.loads(rendered(*case, "json"))
    jsonschema.validate(data, SCHEMA)
    assert data["plan"]["model"] == case[2].model
    count = 0
    for section in data["sections"]:
        for line in section["lines"]:
            inputs = {name: x["value"] for name, x in line["inputs"].items()}
            if finite(line["value"], *inputs.values()) and "wait_quantile" not in line["expression"]:
                # JSON has 12 digits: differences of large numbers lose some of them.
                scale = max(
                    [
                        abs(line["value"]),
                        *(abs(v) * 1e-3 for v in inputs.values() if "-" in line["expression"]),
                    ]
                )
                assert value_of(line["expression"], inputs) == pytest.approx(
                    line["value"], rel=1e-9, abs=1e-9 * scale
                )
                count += 1
    assert count > 80


def test_text_can_be_followed_with_a_pocket_calculator(
    case: tuple[Derivation, World, Plan, Workload],
) -> None:
    count = 0
    for row in rendered(*case, "text").splitlines():
        parts = row.strip().split(" = ")
        if len(parts) != 4 or not row.startswith("       "):
            continue
        numbers, result = parts[2], parts[3]
        if "∞" in row or "n/a" in row:
            continue
        value, _, unit = result.partition(" ")
        scale = UNITS.get(unit, 1.0)
        digits = re.sub(r"e.*$", "", value.replace(",", ""))
        exponent = float(f"1e{value.split('e')[1]}") if "e" in value else 1.0
        last = 10.0 ** -len(digits.partition(".")[2]) * exponent * scale
        expected = float(value.replace(",", "")) * scale
        # Half a unit of the last printed digit, and what rounding the inputs may add.
        slack = 0.5 * last * 1.02 + abs(expected) * (1e-6 if "wait_quantile" in numbers else 1e-8)
        assert abs(calculator(numbers) - expected) <= slack, row
        count += 1
    assert count > 80


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_keeps_to_the_width(width: int) -> None:
    plan, workload, _ = CASES["r1 in two pools"]
    given = world(plan)
    text = rendered(derive(given, plan, workload, SLO), given, plan, workload, "text", width=width)
    long = [row for row in text.splitlines() if len(row) > width]
    assert not [row for row in long if " " in row.strip()[: width - 20]], long[:3]


@pytest.mark.parametrize("format", ["text", "markdown", "csv", "json"])
def test_same_input_same_bytes(format: str) -> None:
    plan, workload, _ = CASES["r1 in two pools"]
    given = world(plan)
    first, second = (
        rendered(derive(given, plan, workload, SLO), given, plan, workload, format) for _ in range(2)
    )
    assert first == second
    assert "h200" in first


def test_sections_and_brief() -> None:
    plan, workload, _ = CASES["r1 in two pools"]
    derivation = derive(world(plan), plan, workload, SLO)
    assert [s.key for s in derivation.sections] == [k for k in SECTION_KEYS if k not in ("mixed", *OF_MIXES)]
    assert [s.number for s in derivation.sections] == list(range(12))
    only = derivation.only(("decode",))
    assert [s.key for s in only.sections] == ["decode"]
    assert len(derivation.brief().lines) < len(derivation.lines) / 3
    plan, workload, _ = CASES["a shared PCIe root"]
    keys = [s.key for s in derive(world(plan), plan, workload, SLO).sections]
    assert keys == [k for k in SECTION_KEYS if k not in ("prefill", "decode", "transfer", *OF_MIXES)]


def test_a_load_is_needed() -> None:
    with pytest.raises(InputError, match="rate"):
        derive(world(R1), R1, Workload(isl=10, osl=10), SLO)
