"""The command line: exit codes, streams, help, and no traceback whatever comes in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import pdplan
from pdplan.cli import app
from tests import made_up
from tests.test_report import valid

QUESTION = [
    "--model",
    "llama-3.1-8b",
    "--hardware",
    "h100",
    "--isl",
    "2k",
    "--osl",
    "256",
    "--rate",
    "4",
    "--ttft",
    "1s",
    "--tpot",
    "30ms",
]
PLAN = """\
model: llama-3.1-8b
colocated: {hardware: h100, workers: 2}
workload: {isl: 2k, osl: 256, rate: 4}
slo: {ttft: 1s, tpot: 30ms}
"""


@pytest.fixture
def pdp(capfd):
    """Run a command line: exit code, stdout, stderr."""

    def run(*args):
        code = app.run([str(a) for a in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def process(*args, **more):
    return subprocess.run(
        [sys.executable, "-m", "pdplan", *args], capture_output=True, text=True, timeout=60, **more
    )


# ---------------------------------------------------------------- help and start-up


def test_help_needs_no_heavy_module():
    code = (
        "import sys; from pdplan.cli import app; code = app.run(['--help']);"
        "heavy = {'numpy', 'scipy', 'pydantic', 'rich', 'yaml', 'json'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    for command in ("recommend", "compare", "evaluate", "explain", "check", "models", "hardware", "catalog"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("pdplan ca", ["calibrate", "catalog"]),
        ("pdplan recommend --model deepseek-r1-distill-l", ["deepseek-r1-distill-llama-70b"]),
        ("pdplan compare --hardware h100,b2", ["h100,b200"]),
        ("pdplan calibrate --engine sg", ["sglang"]),
        ("pdplan fleet --format j", ["json"]),
        ("pdplan hardware show h2", ["h20", "h20-3e", "h200", "h200-nvl"]),
        ("pdplan models show gpt-oss-1", ["gpt-oss-120b"]),
    ],
)  # fmt: skip
def test_shells_complete_commands_and_names(typed, expected):
    words = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
        "_PDPLAN_COMPLETE": "complete_bash",
    }
    done = process(env={**os.environ, **words})
    assert done.stdout.split() == expected


@pytest.mark.parametrize(
    "command",
    [
        "recommend", "compare", "evaluate", "explain", "check", "models", "models list", "models show",
        "models add", "hardware", "hardware list", "hardware show", "catalog validate", "catalog path",
    ],
)  # fmt: skip
def test_every_command_has_help(pdp, command):
    code, out, err = pdp(*command.split(), "--help")
    assert code == 0
    assert "Usage: pdplan" in out
    assert err == ""


def test_help_says_what_a_bare_number_means(pdp):
    _, out, _ = pdp("recommend", "--help")
    assert "bare number is seconds" in " ".join(out.split())


def test_version(pdp):
    assert pdp("--version") == (0, f"pdplan {pdplan.__version__}\n", "")


def test_it_runs_as_a_module():
    assert process("--version").stdout == f"pdplan {pdplan.__version__}\n"


# ---------------------------------------------------------------- recommend


def test_recommend_answers_on_stdout(pdp):
    code, out, err = pdp("recommend", *QUESTION)
    assert code == 0
    assert err == ""
    assert "(h100 tp1)" in out.splitlines()[0]
    assert "per million output tokens" in out.splitlines()[0]


def test_recommend_json_is_valid_and_the_same_every_time(pdp):
    first = pdp("recommend", *QUESTION, "--format", "json")
    assert first == pdp("recommend", *QUESTION, "--format", "json")
    data = json.loads(first[1])
    valid("recommend", data)
    assert re.fullmatch("[0-9a-f]{64}", data["catalog_sha256"])


def test_recommend_from_a_file_is_recommend_from_flags(pdp, tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text("model: llama-3.1-8b\nhardware: h100\nisl: 2k\nosl: 256\nrate: 4\nttft: 1s\ntpot: 30ms\n")
    assert pdp("recommend", path, "--format", "json") == pdp("recommend", *QUESTION, "--format", "json")


def test_infeasible_is_1_and_says_what_to_relax(pdp):
    code, out, err = pdp("recommend", *QUESTION, "--tpot", "0.01ms")
    assert code == 1
    assert out.startswith("No plan meets this: ")
    assert "What would help" in out
    assert err == ""
    code, out, _ = pdp("recommend", *QUESTION, "--tpot", "0.01ms", "--format", "json")
    assert code == 1
    valid("recommend", json.loads(out))


def test_a_model_that_fits_nowhere_is_1(pdp):
    args = [
        "--model",
        "kimi-k2",
        "--hardware",
        "l4",
        "--isl",
        "2k",
        "--osl",
        "256",
        "--rate",
        "1",
        "--max-gpus",
        "4",
    ]
    code, out, _ = pdp("recommend", *args)
    assert code == 1
    assert "kimi-k2" in out


def test_goodput(pdp):
    args = [
        "--model",
        "llama-3.1-8b",
        "--hardware",
        "h100",
        "--isl",
        "2k",
        "--osl",
        "256",
        "--max-gpus",
        "2",
        "--tpot",
        "30ms",
    ]
    code, out, _ = pdp("recommend", *args)
    assert code == 0
    assert out.startswith("up to ")


def test_doubling_a_price_doubles_the_cost(pdp):
    one, two = (
        json.loads(pdp("recommend", *QUESTION, "--price", f"h100={p}", "--format", "json")[1]) for p in (2, 4)
    )
    assert two["plan"] == one["plan"]
    assert two["metrics"]["usd_per_h"] == pytest.approx(2 * one["metrics"]["usd_per_h"])


# ---------------------------------------------------------------- evaluate, compare


def test_evaluate(pdp, plan):
    code, out, err = pdp("evaluate", plan)
    assert (code, err) == (0, "")
    assert out.startswith("4.00 req/s with 2 colocated workers (h100 tp1): 2 GPUs")
    code, out, _ = pdp("evaluate", plan, "--format", "json")
    valid("evaluate", json.loads(out))


def test_evaluate_of_what_cannot_be_done_is_1(pdp, plan):
    code, out, _ = pdp("evaluate", plan, "--rate", "1M")
    assert code == 1
    assert out.startswith("This plan cannot do it: ")
    assert "per million" not in out, "what is not served has no cost a token"
    most = float(re.search(r"it keeps up with at most ([\d.]+) req/s\n", out)[1])
    assert pdp("evaluate", plan, "--rate", 0.99 * most)[0] == 0, "three digits are printed"
    assert pdp("evaluate", plan, "--rate", 1.01 * most)[0] == 1


def test_a_recommended_plan_evaluates_to_its_own_metrics(pdp, tmp_path):
    _, out, _ = pdp("recommend", *QUESTION, "--format", "json")
    path = tmp_path / "answer.json"
    path.write_text(out)
    code, again, _ = pdp("evaluate", path, "--format", "json")
    assert code == 0
    found, wanted = json.loads(again), json.loads(out)
    assert found["plan"] == wanted["plan"]
    for name in ("requests_per_s", "usd_per_h", "ttft_p90_s", "tpot_mean_s", "utilisation"):
        assert found["metrics"][name] == pytest.approx(wanted["metrics"][name]), name


def test_compare_sorts_by_cost_and_shows_who_cannot(pdp):
    args = [*QUESTION[:-2], "--hardware", "l40s", "--tpot", "12ms"]
    code, out, _ = pdp("compare", *args, "--format", "json")
    assert code == 0
    data = json.loads(out)
    valid("compare", data)
    rows = data["rows"]
    assert rows[0]["hardware"] == "h100"
    assert rows[0]["ratio_to_best"] == 1
    costs = [r["metrics"]["usd_per_h"] for r in rows if r["metrics"]]
    assert costs == sorted(costs)
    assert all(r["reason"] for r in rows if not r["plan"])


def test_compare_runs_recommend_per_row(pdp):
    _, out, _ = pdp(
        "compare", *QUESTION, "--mode", "colocated", "--mode", "disaggregated", "--format", "json"
    )
    for row in json.loads(out)["rows"]:
        _, alone, _ = pdp("recommend", *QUESTION, "--mode", row["mode"], "--format", "json")
        assert row["plan"] == json.loads(alone)["plan"]


def test_compare_plan_files(pdp, plan, tmp_path):
    dear = tmp_path / "dear.yaml"
    dear.write_text(PLAN.replace("workers: 2", "workers: 4"))
    code, out, _ = pdp("compare", dear, plan, "--format", "json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [r["file"] for r in rows] == [str(plan), str(dear)]
    assert rows[1]["ratio_to_best"] == pytest.approx(2)
    code, _, err = pdp("compare", plan, "--model", "kimi-k2")
    assert code == 2
    assert "--model" in err


def test_compare_with_no_answer_at_all_is_1(pdp):
    code, out, _ = pdp("compare", *QUESTION[:-2], "--tpot", "0.001ms")
    assert code == 1
    assert "None of 1 row meets the objectives" in out


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["recomend"], ["No such command", "recommend"]),
        (["recommend", "--ils", "4k"], ["No such option", "--isl"]),
        (["recommend", *QUESTION[:-2], "--isl"], ["--isl"]),
        (["recommend", *QUESTION[:-2], "--isl", "-5"], ["--isl", "must not be negative"]),
        (["recommend", *QUESTION[:-2], "--rate", "NaN"], ["--rate"]),
        (["recommend", *QUESTION[:-2], "--rate", "inf"], ["--rate"]),
        (["recommend", *QUESTION[:-2], "--tpot", "40m"], ["--tpot", "did you mean 'ms' or 'min'?"]),
        (["recommend", *QUESTION[:-2], "--format", "jsn"], ["--format", "did you mean 'json'?"]),
        (["recommend", *QUESTION[:-2], "--hardware", "h1000"], ["--hardware", "did you mean 'h100'"]),
        (["recommend", *QUESTION[:-2], "--model", "lama-3.1-8b"], ["--model", "did you mean 'llama-3.1-8b'"]),
        (["recommend", *QUESTION[:-2], "--price", "h100=x"], ["--price h100"]),
        (["recommend", *QUESTION[:-2], "--catalog", "/nowhere"], ["/nowhere", "does not exist"]),
        (["recommend"], ["model is missing", "hardware is missing", "isl is missing", "the load is missing"]),
        (["recommend", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["evaluate"], ["PLAN"]),
        (["evaluate", "/"], ["this is a folder"]),
        (["evaluate", "/nowhere/plan.yaml"], ["no such folder"]),
        (["compare"], ["model is missing"]),
        (["models", "show", "nope"], ["unknown model 'nope'"]),
        (["models", "add", "/nowhere/config.json"], ["/nowhere"]),
        (["hardware", "show", "h20o"], ["unknown accelerator 'h20o'", "'h200'"]),
        (["hardware", "list", "--vendor", "Nvidea"], ["did you mean 'NVIDIA'?"]),
        (["catalog", "validate", "/nowhere"], ["does not exist"]),
        (["explain", "/nowhere/plan.yaml"], ["/nowhere"]),
        (["check", "/nowhere/budget.yaml"], ["/nowhere"]),
    ],
)
def test_bad_input_is_2_and_told_on_stderr(pdp, args, parts):
    code, out, err = pdp(*args)
    assert code == 2
    assert out == ""
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a: [1", "bad.yaml:"),
        (b"- 1\n- 2\n", "bad.yaml:1:1"),
        (b"model: x\nmodel: y\n", "bad.yaml:2:1"),
        (b"model: !!python/object:os.system x\n", "bad.yaml"),
        (b"model: llama-3.1-8b\nrate: .nan\n", "bad.yaml:2:1: 'rate'"),
        (b"x" * (17 * 2**20), "larger than 16 MiB"),
        (b"a: " + b"[" * 5000, "bad.yaml"),
        (b"a: &a [*a]\n", "bad.yaml"),
    ],
)
@pytest.mark.parametrize("command", ["recommend", "evaluate", "compare"])
def test_a_bad_file_is_2(pdp, tmp_path, command, content, part):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    code, out, err = pdp(command, path)
    assert (code, out) == (2, "")
    assert part in err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything is readable for root")
def test_no_permission_is_2(pdp, plan):
    plan.chmod(0)
    code, _, err = pdp("evaluate", plan)
    assert code == 2
    assert "no permission" in err


def test_a_bug_is_70_and_one_line(monkeypatch, capfd):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("pdplan.search.recommend", broken)
    assert app.run(["recommend", *QUESTION]) == 70
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("internal error: ZeroDivisionError: boom; please report")
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("PDPLAN_DEBUG", "1")
    assert app.run(["recommend", *QUESTION]) == 70
    assert "Traceback" in capfd.readouterr()[1]


def test_ctrl_c_is_130(monkeypatch, capfd):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pdplan.search.recommend", interrupted)
    assert app.run(["recommend", *QUESTION]) == 130
    assert "Traceback" not in capfd.readouterr()[1]


@pytest.mark.skipif(os.name == "nt", reason="needs a shell with pipes")
def test_a_reader_that_leaves_is_no_error(tmp_path):
    command = f"{sys.executable} -m pdplan hardware list --format json 2>{tmp_path / 'err'} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{\n"
    assert (tmp_path / "err").read_text() == ""


def test_a_terminal_without_unicode_gets_question_marks(plan):
    done = process("evaluate", str(plan), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "TTFT ? 1.00 s" in done.stdout


# ---------------------------------------------------------------- catalogs

CONFIG = {
    "model_type": "llama",
    "_name_or_path": "acme/Tiny-Llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return path


def test_models_add_then_recommend(pdp, config, tmp_path):
    mine = tmp_path / "mine"
    code, out, err = pdp("models", "add", config, "--dir", mine)
    assert code == 0
    assert "131,072 bytes" in out, "this is the shape of Llama-3.1-8B"
    assert f"wrote {mine / 'tiny-llama.yaml'}" in err
    assert f"--catalog {mine}" in err
    assert os.listdir(mine) == ["tiny-llama.yaml"]
    code, out, _ = pdp("models", "show", "acme/Tiny-Llama", "--catalog", mine, "--format", "json")
    assert json.loads(out)["parameters_total"] == 8_030_261_248
    assert json.loads(out)["kv_bytes_per_token"] == 131_072
    code, out, _ = pdp("recommend", *QUESTION, "--model", "tiny-llama", "--catalog", mine)
    assert code == 0


def test_models_add_goes_where_the_user_s_catalogs_are(pdp, config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert pdp("models", "add", config)[0] == 0
    assert (tmp_path / "config" / "pdplan" / "catalog" / "tiny-llama.yaml").is_file()
    assert pdp("models", "show", "tiny-llama")[0] == 0, "the per-user folder is read without a flag"
    (tmp_path / "env").mkdir()
    monkeypatch.setenv("PDPLAN_CATALOG", str(tmp_path / "env"))
    assert pdp("models", "add", config)[0] == 0
    assert (tmp_path / "env" / "tiny-llama.yaml").is_file()


def test_models_add_overwrites_only_when_told(pdp, config, tmp_path):
    assert pdp("models", "add", config, "--dir", tmp_path)[0] == 0
    code, _, err = pdp("models", "add", config, "--dir", tmp_path)
    assert code == 2
    assert "--force" in err
    assert pdp("models", "add", config, "--dir", tmp_path, "--force")[0] == 0


@pytest.mark.parametrize(
    ("change", "args", "part"),
    [
        ({"hidden_size": None}, [], "hidden_size"),
        ({"num_hidden_layers": -1}, [], "num_hidden_layers"),
        ({}, ["--name", "Tiny Llama"], "write for example 'tiny-llama'"),
        ({}, ["--name", "../evil"], "no catalog name"),
    ],
)
def test_models_add_writes_nothing_wrong(pdp, config, tmp_path, change, args, part):
    config.write_text(json.dumps({k: v for k, v in {**CONFIG, **change}.items() if v is not None}))
    mine = tmp_path / "mine"
    code, out, err = pdp("models", "add", config, "--dir", mine, *args)
    assert (code, out) == (2, "")
    assert part in err
    assert not mine.exists()


@pytest.mark.parametrize("kind", ["models", "hardware"])
@pytest.mark.parametrize("format", ["text", "json", "csv", "markdown"])
def test_lists(pdp, kind, format):
    code, out, err = pdp(kind, "list", "--format", format)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 30


def test_lists_can_be_filtered(pdp):
    _, out, _ = pdp("models", "list", "deepseek-v3", "--format", "csv")
    assert all("deepseek-v3" in line for line in out.splitlines()[1:])
    _, out, _ = pdp("hardware", "list", "--vendor", "amd", "--format", "json")
    assert {a["vendor"] for a in json.loads(out)["accelerators"]} == {"AMD"}


def test_shows(pdp):
    code, out, _ = pdp("hardware", "show", "mi355x", "--format", "json")
    data = json.loads(out)
    assert all(n["unit"] and n["source"] and n["date"] for n in data["numbers"])
    code, out, _ = pdp("models", "show", "deepseek-r1", "--format", "json")
    data = json.loads(out)
    assert data["weight_bytes"].keys() >= {"fp8", "fp4", "bf16"}
    assert code == 0


def test_catalog_validate_tells_everything_at_once(pdp, tmp_path):
    assert pdp("catalog", "validate")[0] == 0
    code, out, err = pdp("catalog", "validate", tmp_path)
    assert (code, err) == (0, f"warning: {tmp_path}: no catalog file (.yaml) is in this folder\n")
    (tmp_path / "a.yaml").write_text("name: a\nlayers: []\nhiden_size: 3\n")
    (tmp_path / "b.yaml").write_text("name: [\n")
    code, out, err = pdp("catalog", "validate", tmp_path)
    assert (code, out) == (2, "")
    assert f"{tmp_path / 'a.yaml'}:3:1: unknown key 'hiden_size'; did you mean 'hidden_size'?" in err
    assert str(tmp_path / "b.yaml") in err


def test_catalog_path(pdp, tmp_path):
    _, out, _ = pdp("catalog", "path", "--catalog", tmp_path)
    assert out.splitlines()[0] == str(tmp_path)
    assert len(out.splitlines()) == 3


# ---------------------------------------------------------------- terminals


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("variable", "coloured"), [(None, True), ("NO_COLOR", False)])
def test_colour_on_a_terminal_only(plan, variable, coloured):
    import pty

    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")} | {"TERM": "xterm"}
    if variable:
        environment[variable] = "1"
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "pdplan", "evaluate", str(plan)], stdout=follower, env=environment
    )
    os.close(follower)
    found = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        found += part
    os.close(leader)
    assert done.wait(60) == 0
    assert (b"\x1b[" in found) == coloured
    assert b"colocated" in found


def test_made_up_plans_can_be_deployed(pdp, tmp_path):
    """The plan of the golden files is one that the commands take."""
    from pdplan.report.contract import plan_json

    path = tmp_path / "plan.json"
    path.write_text(
        json.dumps({**plan_json(made_up.DISAGGREGATED_PLAN), "workload": {"isl": 1, "osl": 1, "rate": 1}})
    )
    assert pdp("evaluate", path)[0] == 0
