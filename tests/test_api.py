"""`import pdplan`: small, light, typed, and the same answers as the command line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import pdplan

ASKED = {"model": "llama-3.1-8b", "hardware": "h100", "isl": "2k", "osl": 256, "rate": 4, "tpot": "30ms"}
PLAN = {"model": "llama-3.1-8b", "colocated": {"hardware": "h100", "workers": 2}}
TRAFFIC = {"isl": "2k", "osl": 256, "rate": 4}


def test_every_exported_name_is_there_and_sorted():
    assert pdplan.__all__ == sorted(pdplan.__all__)
    for name in pdplan.__all__:
        assert getattr(pdplan, name) is not None
        assert name in dir(pdplan)
    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        _ = pdplan.recomend


def test_the_import_is_light():
    code = "import pdplan, sys; sys.exit(bool({'numpy', 'pydantic', 'yaml', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_functions_stay_functions_beside_modules_of_their_name():
    import pdplan.evaluate
    import pdplan.explain

    assert callable(pdplan.evaluate)
    assert callable(pdplan.explain)
    from pdplan.evaluate import meets

    assert callable(meets)


def test_recommend():
    found = pdplan.recommend(**ASKED)
    assert found.best is not None
    assert found.best.plan.model == "llama-3.1-8b"
    again = pdplan.recommend(found.question, found.world)
    assert again.best == found.best


def test_recommend_takes_a_file_and_inputs_override_it(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("model: llama-3.1-8b\nhardware: h100\nisl: 2k\nosl: 256\nrate: 4000\n")
    found = pdplan.recommend(path, rate=4, tpot="30ms")
    assert found.best == pdplan.recommend(**ASKED).best


def test_front_needs_no_load_and_takes_questions_in_every_form():
    found = pdplan.front(**{k: v for k, v in ASKED.items() if k != "rate"}, by_cost=True)
    assert found.by_cost
    assert found.points
    again = pdplan.front(found.question, found.world, by_cost=True)
    assert again.points == found.points
    with pytest.raises(pdplan.InputError, match="front: a Question needs its World"):
        pdplan.front(found.question)


def test_sensitivity_and_break_even_take_an_answer():
    found = pdplan.recommend(**ASKED)
    moves = pdplan.sensitivity(found, change=0.5, inputs=["price.h100"])
    assert [s.input.key for s in moves.swings] == ["price.h100"]
    assert moves.swings[0].high.amount == pytest.approx(1.5 * moves.amount)
    turns = pdplan.break_even(found, inputs=["rate"]).turns
    assert all(turn.input.key == "rate" for turn in turns)
    with pytest.raises(pdplan.InputError, match="change: 2 is out of range"):
        pdplan.sensitivity(found, change=2)


def test_evaluate_takes_plans_in_every_form(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("model: llama-3.1-8b\ncolocated: {hardware: h100, workers: 2}\n")
    metrics = pdplan.evaluate(path, **TRAFFIC)
    assert metrics.gpus == 2
    assert pdplan.evaluate(PLAN, **TRAFFIC) == metrics
    assert pdplan.evaluate(str(path), **TRAFFIC) == metrics
    best = pdplan.recommend(**ASKED).best
    slo = {"tpot": "30ms"}
    assert pdplan.evaluate(best, **TRAFFIC, **slo) == best.metrics
    assert pdplan.evaluate(best.plan, **TRAFFIC, **slo) == best.metrics


def test_compare():
    found = pdplan.compare(**{**ASKED, "hardware": ["h100", "b200"]})
    assert {row.label["hardware"] for row in found.rows} == {"h100", "b200"}


def test_explain():
    assert pdplan.explain(PLAN, **TRAFFIC) is not None


def test_prices_and_network_are_mappings():
    found = pdplan.recommend(**ASKED, prices={"h100": 1.0}, network={"bandwidth": "400Gbps"})
    assert found.best.metrics.usd_per_h == found.best.metrics.gpus
    assert found.world.network.bandwidth_bytes_per_s == 50e9


def test_what_is_wrong_is_said_with_its_name():
    with pytest.raises(pdplan.InputError, match="unknown input 'tpto'; did you mean 'tpot'"):
        pdplan.recommend(**ASKED, tpto="3ms")
    with pytest.raises(pdplan.PdplanError, match="isl: '8x'"):
        pdplan.recommend(**{**ASKED, "isl": "8x"})
    with pytest.raises(pdplan.InputError, match="unknown model"):
        pdplan.evaluate({**PLAN, "model": "nope"}, **TRAFFIC)
    with pytest.raises(pdplan.InputError, match="a Question needs its World"):
        pdplan.recommend(pdplan.recommend(**ASKED).question)


def test_a_plan_of_the_shortest_requests_can_be_evaluated() -> None:
    """A million sequences of two tokens fit: what recommend answers, evaluate takes."""
    load = {"isl": 1, "osl": 1, "rate": 108.9}
    found = pdplan.recommend(
        model="qwen2.5-7b", hardware="mi355x", precision="int4", ttft=1.5, tpot=0.05, mode="colocated", **load
    )
    assert found.best is not None
    metrics = pdplan.evaluate(found.best, **load)
    assert metrics.ttft_mean_s == pytest.approx(found.best.metrics.ttft_mean_s)


FEW = {"model": "llama-3.1-8b", "hardware": "h100", "isl": 1024, "osl": 128, "rate": 2}


def test_numbers_of_numpy_are_numbers():
    found = pdplan.recommend(**FEW | {"isl": np.int64(1024), "rate": np.float32(2)})
    assert found.best.metrics == pdplan.recommend(**FEW).best.metrics


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pdplan.recommend(**FEW, prices={1: 2}), "unknown accelerator '1'"),
        (lambda: pdplan.recommend(**FEW, network={"bandwith": "1Gbps"}), "did you mean 'bandwidth'"),
        (lambda: pdplan.evaluate(pdplan.recommend(**FEW)), "give its answer, found.best"),
        (
            lambda: pdplan.evaluate(None),
            "None is no plan; give one, a mapping or a file",
        ),
        (lambda: pdplan.explain(3), "3 is no plan"),
        (lambda: pdplan.fleet(None), "None is no fleet"),
        (lambda: pdplan.sensitivity(None), "None is no recommendation"),
        (lambda: pdplan.break_even(7), "7 is no recommendation"),
        (lambda: pdplan.compare("nowhere.yaml"), "nowhere.yaml: there is no such file"),
    ],
)
def test_what_is_no_input_is_told_as_one(call, words):
    with pytest.raises(pdplan.InputError) as caught:
        call()
    assert words in str(caught.value)


def test_one_input_may_stand_without_a_list():
    found = pdplan.recommend(**FEW)
    assert pdplan.break_even(found, inputs="rate").turns == pdplan.break_even(found, inputs=["rate"]).turns


def test_a_folder_in_place_of_a_catalog_is_told_how_to_become_one() -> None:
    asked = {"model": "llama-3.1-8b", "hardware": "h100", "rate": 1, "isl": 100, "osl": 10}
    with pytest.raises(pdplan.InputError, match=r"'mine' is no pdplan\.Catalog; write pdplan\.Catalog"):
        pdplan.recommend(**asked, catalog="mine")  # type: ignore[arg-type]
