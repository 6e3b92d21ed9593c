"""Each command, given another command's kind of file, says what it is and which command takes it."""

from pathlib import Path

import pytest

from pdplan.cli.app import run
from pdplan.documents.file_kinds import kind_of_table

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FILES = {
    "question": "model: llama-3.1-8b\nhardware: h100\nisl: 1k\nosl: 256\nrate: 5\n",
    "plan": EXAMPLES / "plans/chat.yaml",
    "day": EXAMPLES / "day.yaml",
    "budget": EXAMPLES / "budget.yaml",
    "fleet": EXAMPLES / "fleet.yaml",
    "listing": EXAMPLES / "runs/vllm-h100.yaml",
    "runs": EXAMPLES / "runs/trtllm-h200.csv",
    "result": ROOT / "benchmarks/device/vllm-h100/bf16-1024-256-c1-rinf.json",
    "accelerator": ROOT / "hardware_catalog/h200.yaml",
    "model": ROOT / "models_catalog/deepseek-r1.yaml",
    "calibration": "schema_version: 1\ncross_validation: {}\n",
    "printed": '{"schema_version": 1, "pdplan_version": "0.1.0", "budget": "b", "met": true}',
    "config": '{"model_type": "llama", "hidden_size": 4096}',
}
TAKES = {
    "recommend": {"question"},
    "front": {"question"},
    "compare": {"question", "plan"},
    "explain": {"question", "plan"},
    "evaluate": {"plan"},
    "check": {"budget"},
    "fleet": {"fleet"},
    "day": {"day", "question", "runs"},
    "validate": {"runs", "printed", "config", "result"},
    "calibrate": {"runs", "listing", "calibration", "result"},
    "models add": {"config"},
}
"""What each reads, or refuses in words of its own: JSON is no table, a calibration no result."""


@pytest.mark.parametrize("command", TAKES)
def test_another_commands_file_is_named_with_the_command_that_takes_it(command, tmp_path, capsys):
    for kind, given in FILES.items():
        if kind in TAKES[command]:
            continue
        path = given
        if isinstance(given, str):
            path = tmp_path / f"{kind}.yaml"
            path.write_text(given)
        assert run([*command.split(), str(path)]) == 2, kind
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith(f"error: {path}:"), err
        assert "this is a" in err, err
        assert "take" in err or "--" in err or "give the file" in err, err


def test_a_fleet_file_is_told_to_check(capsys):
    path = EXAMPLES / "fleet.yaml"
    assert run(["check", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {path}:2:1: this is a fleet file, not a budget file; `pdplan fleet` takes it\n"
    )


def test_a_budget_without_plans_is_told_key_by_key(tmp_path, capsys):
    path = tmp_path / "budget.yaml"
    path.write_text("deployments:\n  - {name: a, limits: {gpus: 8}}\n")
    assert run(["check", str(path)]) == 2
    assert "missing key 'plan'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("id,model,hardware,isl\n", "runs"),
        ("hour;rate\n0;5\n", "table"),
        ("model: [a, b]\n", None),
        ("a: 1\n", None),
        ("", None),
    ],
)
def test_tables_are_known_by_their_first_line(text, kind):
    assert kind_of_table(text) == kind
