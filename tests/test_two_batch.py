"""Two-batch overlap: what it saves, where it saves nothing, and what it can never save."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import pdplan
from pdplan.catalog.store import Catalog
from pdplan.cli.app import app
from pdplan.compose import World, build_setting
from pdplan.laws.overlap import HalfLayers, two_batch_time_s
from pdplan.layout import Layout, decode_load, mixed_load, prefill_load
from pdplan.plan import Serving
from pdplan.step import Setting, step_time

CATALOG = Catalog()
SECONDS = st.floats(1e-6, 1.0)


def setting(overlap: Any = "two-batch", model: str = "deepseek-r1", hardware: str = "h100") -> Setting:
    world = World(
        models={model: CATALOG.model(model)},
        accelerators={hardware: CATALOG.accelerator(hardware)},
        prices={},
    )
    serving = Serving(model=model, precision="fp8", kv_precision="bf16", engine="sglang", overlap=overlap)
    return build_setting(world, serving, hardware)


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_halves_take_no_less_than_their_kernels_nor_their_exchanges(
    before: float, experts: float, dispatch: float, combine: float
) -> None:
    half = HalfLayers(
        before=np.asarray(before),
        experts=np.asarray(experts),
        dispatch=np.asarray(dispatch),
        combine=np.asarray(combine),
    )
    together = float(two_batch_time_s(half))
    assert together >= 2 * max(before + experts, dispatch + combine) * (1 - 1e-12)
    assert together <= 2 * float(half.in_turn) * (1 + 1e-12)
    assert float(two_batch_time_s(half, 0.2)) >= together


def test_equal_phases_hide_every_exchange() -> None:
    """Attention, dispatch, experts and combine of a tenth of a second each: two halves in four tenths."""
    tenth = np.asarray(0.1)
    half = HalfLayers(before=tenth, experts=tenth, dispatch=tenth, combine=tenth)
    assert float(two_batch_time_s(half)) == pytest.approx(0.4)


def test_large_batches_over_many_ranks_gain_and_small_ones_do_not() -> None:
    layout = Layout(dp=72, ep=72)
    large, small = decode_load(256.0, 2000.0, 2100.0), decode_load(2.0, 2000.0, 2100.0)
    gains = [
        float(step_time(setting("none"), layout, load).total_s / step_time(setting(), layout, load).total_s)
        for load in (large, small)
    ]
    assert gains[0] > 1.15
    assert gains[1] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("model", "layout"),
    [("deepseek-r1", Layout(tp=8)), ("deepseek-r1", Layout(tp=8, ep=8)), ("llama-3.1-70b", Layout(tp=4))],
)
def test_without_an_exchange_nothing_overlaps(model: str, layout: Layout) -> None:
    load = decode_load(256.0, 2000.0, 2100.0)
    steps = [step_time(setting(o, model), layout, load).total_s for o in ("none", "two-batch")]
    assert steps[0] == steps[1]


def test_arrays_give_what_each_layout_gives_alone() -> None:
    layouts = [(1, 72, 72), (8, 1, 8), (2, 8, 16), (1, 32, 32)]
    for load in (decode_load(128.0, 2000.0, 2100.0), prefill_load(4.0, 4096.0)):
        tp, dp, ep = np.array(layouts, dtype=float).T
        together = step_time(setting(), Layout(tp=tp, dp=dp, ep=ep), load).total_s
        alone = [step_time(setting(), Layout(tp=t, dp=d, ep=e), load).total_s for t, d, e in layouts]
        assert together == pytest.approx(np.array(alone, dtype=float), rel=1e-12)


def test_exchanges_of_prompts_take_cores_from_kernels() -> None:
    """DeepEP's high-throughput kernels hold 20 of 132 multiprocessors: with all, prompts are faster."""
    built, layout, load = setting(), Layout(dp=32, ep=32, redundant=32), prefill_load(4.0, 4096.0)
    free = replace(built.constants.engine, exchange_cores=0.0)
    unhindered = replace(built, constants=replace(built.constants, engine=free))
    assert step_time(built, layout, load).total_s > step_time(unhindered, layout, load).total_s


@pytest.mark.parametrize("overlap", ["none", "two-batch"])
@pytest.mark.parametrize("ranks", [8, 72])
def test_more_sequences_or_a_prompt_make_no_step_shorter(overlap: str, ranks: int) -> None:
    built, layout = setting(overlap), Layout(dp=ranks, ep=ranks, redundant=32)
    decodes = decode_load(np.geomspace(0.5, 2000.0, 40), 2000.0, 2500.0)
    alone = step_time(built, layout, decodes).total_s
    assert np.all(np.diff(alone) > 0)
    for tokens in (8.0, 512.0, 8192.0):
        beside = step_time(built, layout, mixed_load(decodes, prefill_load(1.0, tokens))).total_s
        assert np.all(beside >= alone * (1 - 1e-12))


def test_copies_that_only_fill_ranks_up_even_nothing_out() -> None:
    """256 experts over 72 ranks leave 32 places; only with a balancer do they hold the busiest."""
    load, none, some = (
        decode_load(128.0, 2000.0, 2100.0),
        Layout(dp=72, ep=72),
        Layout(dp=72, ep=72, redundant=32),
    )
    filled, balanced = (step_time(setting("none"), layout, load) for layout in (none, some))
    rows = [
        next(float(np.asarray(t.source.rows)) for t in step.terms if "(experts)" in t.name)  # type: ignore[union-attr,arg-type]
        for step in (filled, balanced)
    ]
    assert rows[0] > 1.5 * rows[1]


PLAN = {
    "model": "deepseek-r1",
    "engine": "sglang",
    "precision": "fp8",
    "prefill": {"hardware": "h100", "workers": 3, "dp": 32, "ep": 32},
    "decode": {"hardware": "h100", "workers": 1, "dp": 72, "ep": 72},
    "workload": {"isl": 2048, "osl": 512, "rate": 120},
}


def evaluated(tmp_path: Path, **more: Any) -> dict[str, Any]:
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps({**PLAN, **more}), encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", str(path), "--format", "json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_plan_file_says_both_and_its_json_reads_back(tmp_path: Path) -> None:
    plain = evaluated(tmp_path)
    assert not {"overlap", "redundant_experts"} & plain["plan"].keys()
    wide = evaluated(tmp_path, overlap="two-batch", redundant_experts=32)
    assert (wide["plan"]["overlap"], wide["plan"]["redundant_experts"]) == ("two-batch", 32)
    assert wide["metrics"]["tpot_mean_s"] < plain["metrics"]["tpot_mean_s"]
    folder = Path(pdplan.__file__).parent / "report" / "schemas"
    schema = json.loads((folder / "evaluate.json").read_text(encoding="utf-8"))
    assert {"overlap", "redundant_experts"} <= schema["$defs"]["plan"]["properties"].keys()
    jsonschema.validate(wide, schema)
    path = tmp_path / "printed.json"
    path.write_text(json.dumps(wide), encoding="utf-8")
    again = CliRunner().invoke(app, ["evaluate", str(path), "--format", "json"])
    assert json.loads(again.stdout)["metrics"] == wide["metrics"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--overlap", "two-batches"], "--overlap: 'two-batches' is not known; did you mean 'two-batch'?"),
        (["--redundant-experts", "300"], "expected 0 to 256"),
        (["--redundant-experts", "1.5"], "not a whole number"),
    ],
)
def test_a_wrong_word_or_number_is_told(flags: list[str], said: str) -> None:
    command = "recommend --model deepseek-r1 --hardware h100 --isl 2k --osl 256 --rate 5"
    done = CliRunner().invoke(app, [*command.split(), *flags])
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_model_without_experts_has_nothing_to_copy() -> None:
    command = (
        "recommend --model llama-3.1-8b --hardware h100 --isl 2k --osl 256 --rate 5 --redundant-experts 8"
    )
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 2
    assert "--redundant-experts: llama-3.1-8b has no experts; leave it out" in done.stderr


def test_the_search_finds_what_evaluate_finds(tmp_path: Path) -> None:
    command = "recommend --model deepseek-r1 --hardware h100 --isl 2k --osl 256 --rate 400 --tpot 100ms"
    flags = "--engine sglang --mode disaggregated --overlap two-batch --redundant-experts 32 --format json"
    done = CliRunner().invoke(app, [*command.split(), *flags.split()])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["plan"]["redundant_experts"] == 32
    path = tmp_path / "found.json"
    path.write_text(done.stdout, encoding="utf-8")
    again = json.loads(CliRunner().invoke(app, ["evaluate", str(path), "--format", "json"]).stdout)
    assert again["metrics"]["tpot_mean_s"] == pytest.approx(found["metrics"]["tpot_mean_s"], rel=1e-9)
