"""`pdplan front`: exit codes, streams, files, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pdplan.cli import app
from pdplan.errors import InputError
from tests.test_report import valid

LLAMA = ["--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "2k", "--osl", "256"]


@pytest.fixture
def pdp(capfd):
    def run(*args):
        code = app.run([str(a) for a in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def test_front_has_help(pdp):
    code, out, err = pdp("front", "--help")
    assert (code, err) == (0, "")
    assert "--cost" in out
    assert "--rate" not in out


def test_front_answers_on_stdout(pdp):
    code, out, err = pdp("front", *LLAMA)
    assert (code, err) == (0, "")
    assert out.startswith("From ")
    assert "o disaggregated   x colocated   # both" in out
    assert max(len(line) for line in out.split("Who is ahead")[0].splitlines()[4:]) <= 90


def test_front_json_is_valid_and_the_same_every_time(pdp):
    first = pdp("front", *LLAMA, "--format", "json")
    assert first == pdp("front", *LLAMA, "--format", "json")
    data = json.loads(first[1])
    valid("front", data)
    assert data["points"]


def test_a_point_s_plan_is_one_that_evaluate_takes(pdp, tmp_path):
    data = json.loads(pdp("front", *LLAMA, "--format", "json")[1])
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data["points"][0]["plan"]))
    code, _, err = pdp("evaluate", path, "--isl", "2k", "--osl", "256", "--rate", "1")
    assert (code, err) == (0, "")


def test_a_question_file_does_and_its_rate_plays_no_part(pdp, tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("model: llama-3.1-8b\nhardware: h100\nisl: 2k\nosl: 256\nrate: 20\nspare: 1\n")
    assert pdp("front", path) == pdp("front", *LLAMA)


def test_how_many_points_are_shown(pdp):
    out = pdp("front", *LLAMA, "--points", "3")[1]
    assert "3 points of " in out
    code, _, err = pdp("front", *LLAMA, "--points", "1")
    assert code == 2
    assert "--points" in err


def test_no_answer_ends_in_1(pdp):
    code, out, _ = pdp("front", *LLAMA, "--tpot", "10us")
    assert code == 1
    assert out.startswith("No front: TPOT")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--output", "front.gif"), "--output: 'front.gif' ends in none of .png, .svg, .html"),
        (("--output", "no/such/folder/front.png"), "there is no folder"),
        (("--hardware", "h20o"), "did you mean"),
        (("--format", "xml"), "--format"),
    ],
)
def test_wrong_input_ends_in_2(pdp, args, says):
    code, out, err = pdp("front", *LLAMA, *args)
    assert (code, out) == (2, "")
    assert says in err


def test_every_missing_input_is_told_at_once(pdp):
    code, _, err = pdp("front")
    assert code == 2
    for name in ("model", "hardware", "isl", "osl"):
        assert f"{name} is missing" in err
    assert "load" not in err


def test_without_matplotlib_a_picture_is_refused_before_any_work(monkeypatch):
    from pdplan.report.pictures import drawing

    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'pdplan\[plot\]'"):
        drawing.picture_path("front.png")


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'pdplan[plot]'")
def test_the_command_writes_a_picture(pdp, tmp_path):
    path = tmp_path / "front.svg"
    code, _, err = pdp("front", *LLAMA, "--output", path)
    assert (code, err) == (0, f"wrote {path}\n")
    assert path.read_text().count("<svg") == 1


def test_the_front_needs_neither_scipy_nor_matplotlib():
    code = (
        "import sys; from pdplan.cli import app; app.run(sys.argv[1:]);"
        "print([m for m in ('scipy', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, "front", *LLAMA], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert done.stderr.strip() == "[]"
