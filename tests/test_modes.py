"""`compare --modes`: the ratio is that of two searches; its sign agrees with published pairs."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

from pdplan.cli import app
from tests.helpers import SHARED
from tests.test_report import valid

ROOT = Path(__file__).parents[1]
ASKED = ["--model", "llama-3.1-70b", "--hardware", "h200", "--ttft", "2s"]
ONE = [*ASKED, "--isl", "4k", "--osl", "1k", "--tpot", "40ms"]


def run(capfd, *args):
    code = app.run([str(a) for a in args])
    out, err = capfd.readouterr()
    return code, out, err


def contests(capfd, *args):
    code, out, err = run(capfd, "compare", "--modes", *args, "--format", "json")
    assert code == 0, err
    data = json.loads(out)
    valid("compare_modes", data)
    return data


def test_the_ratio_is_that_of_the_goodputs_of_either_mode_alone(capfd):
    data = contests(capfd, *ONE, "--max-gpus", "32")
    (found,) = data["contests"]
    assert data["means"] == "accelerators"
    alone = {}
    for mode in ("disaggregated", "colocated"):
        _, out, _ = run(capfd, "recommend", *ONE, "--max-gpus", 32, "--mode", mode, "--format", "json")
        answer = json.loads(out)
        assert found[mode]["plan"] == answer["plan"]
        alone[mode] = answer["metrics"]["requests_per_s"]
    assert found["ratio"] == pytest.approx(alone["disaggregated"] / alone["colocated"])


def test_at_a_rate_the_ratio_is_that_of_the_costs(capfd):
    data = contests(capfd, *ONE, "--rate", "20")
    (found,) = data["contests"]
    assert data["means"] == "cost"
    costs = {mode: found[mode]["metrics"]["usd_per_h"] for mode in ("disaggregated", "colocated")}
    assert found["ratio"] == pytest.approx(costs["colocated"] / costs["disaggregated"])


def test_a_map_holds_every_combination_once_and_agrees_with_each_alone(capfd):
    grid = ["--isl", "512", "--isl", "4k", "--osl", "128", "--osl", "1k", "--tpot", "20ms", "--tpot", "60ms"]
    data = contests(capfd, *ASKED, *grid, "--max-gpus", "16")
    cells = {
        (c["workload"]["isl_tokens"], c["workload"]["osl_tokens"], c["slo"]["tpot_s"]): c["ratio"]
        for c in data["contests"]
    }
    assert len(cells) == len(data["contests"]) == 8
    alone = contests(capfd, *ASKED, "--isl", "4k", "--osl", "128", "--tpot", "20ms", "--max-gpus", "16")[
        "contests"
    ][0]
    assert cells[4096, 128, 0.02] == pytest.approx(alone["ratio"])
    # DistServe (OSDI 2024): what separation saves is interference of long prompts with tight TPOT limits.
    assert cells[4096, 128, 0.02] > cells[4096, 1024, 0.06]
    code, text, _ = run(capfd, "compare", "--modes", *ASKED, *grid, "--max-gpus", "16")
    assert code == 0
    assert "TPOT ≤ 20.0 ms" in text
    assert f"{cells[4096, 128, 0.02]:.2f}×" in text


def test_one_gpu_leaves_only_colocation(capfd):
    args = ["--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "1k", "--osl", "128", "--max-gpus", "1"]
    (found,) = contests(capfd, *args)["contests"]
    assert found["ahead"] == "colocated"
    assert found["ratio"] == 0
    assert found["disaggregated"]["plan"] is None
    _, text, _ = run(capfd, "compare", "--modes", *args)
    assert text.startswith("Only colocated meets the limits")


def test_neither_is_an_answer_of_no(capfd):
    code, text, _ = run(
        capfd, "compare", "--modes", *ASKED, "--isl", 4096, "--osl", 128, "--tpot", "10us", "--rate", 1
    )
    assert code == 1
    assert "Neither mode" in text


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((*ONE, "--max-gpus", "8", "--mode", "colocated"), "--mode"),
        ((*ONE, "--isl", "8k"), "the load is missing"),
    ],
)
def test_what_cannot_be_compared_is_refused(capfd, args, says):
    code, _, err = run(capfd, "compare", "--modes", *args)
    assert code == 2
    assert says in err


def test_several_lengths_without_modes_are_refused(capfd):
    code, _, err = run(capfd, "compare", *ONE, "--isl", "8k", "--max-gpus", "8")
    assert code == 2
    assert "--modes" in err


def test_the_sign_agrees_with_published_pairs():
    published = SHARED / "published" / "colocated_vs_disaggregated.csv"
    if not published.exists():
        pytest.skip("the published pairs are not here")
    spec = importlib.util.spec_from_file_location(
        "published_pairs", ROOT / "benchmarks" / "modes" / "published_pairs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    pairs = [p for p in module.published_pairs(published) if p.predicted]
    assert len(pairs) == 7
    for pair in pairs:
        assert math.copysign(1, pair.predicted_ratio - 1) == math.copysign(1, pair.measured_ratio - 1), pair
