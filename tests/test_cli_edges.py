"""The command line at its edges: failing streams, files from a pipe, odd spellings, narrow terminals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pdplan.cli import app, strays
from pdplan.report.blocks import Report, table
from pdplan.report.formats.render import render

ROOT = Path(__file__).parents[1]

QUESTION = """\
model: llama-3.1-8b
hardware: h100
isl: 2k
osl: 256
rate: 4
tpot: 30ms
"""
PLAN = """\
model: llama-3.1-8b
colocated: {hardware: h100, workers: 2}
workload: {isl: 2k, osl: 256, rate: 4}
"""


@pytest.fixture
def pdp(capfd, monkeypatch):
    """Run a command line, a text on its standard input: exit code, stdout, stderr."""

    def run(*args, stdin=""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin.encode())))
        code = app.run([str(a) for a in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def question(tmp_path):
    path = tmp_path / "question.yaml"
    path.write_text(QUESTION)
    return path


# ---------------------------------------------------------------- streams


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("args", [["hardware", "show", "h100"], ["--help"], ["--version"]])
def test_a_full_disk_is_one_line_and_2(args):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pdplan", *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output cannot be written: No space left on device; the answer is lost\n"
    )


def test_a_closed_standard_output_is_2(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdout", None)
    assert app.run(["hardware", "show", "h100"]) == 2
    assert "standard output cannot be written" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "content"),
    [
        ("recommend", QUESTION),
        ("compare", QUESTION),
        ("explain", PLAN),
        ("explain", QUESTION),
        ("evaluate", PLAN),
    ],
)
def test_a_hyphen_reads_standard_input(pdp, tmp_path, command, content):
    path = tmp_path / "file.yaml"
    path.write_text(content)
    code, out, err = pdp(command, "-", stdin=content)
    assert (code, err) == (0, "")
    assert out == pdp(command, path)[1]


def test_check_reads_standard_input(pdp):
    inner = PLAN.replace("\n", "\n      ")
    budget = f"deployments:\n  - name: one\n    plan:\n      {inner}\n    limits: {{gpus: 1}}\n"
    code, out, _ = pdp("check", "-", stdin=budget)
    assert code == 1
    assert "<stdin>:" in out


def test_an_error_on_standard_input_has_line_and_column(pdp):
    code, out, err = pdp("recommend", "-", stdin="model: llama-3.1-8b\nrat: 4\n")
    assert (code, out) == (2, "")
    assert err.startswith("error: <stdin>:2:1: unknown key 'rat'; did you mean 'rate'")


# ---------------------------------------------------------------- files


def test_explain_takes_a_question_file_and_flags_over_it(pdp, question):
    flags = [f"--{line.replace(': ', '=')}" for line in QUESTION.replace("rate: 4", "rate: 9").splitlines()]
    by_flags = pdp("explain", *flags, "--section", "cost")
    assert pdp("explain", question, "--rate", "9", "--section", "cost") == by_flags
    assert by_flags[0] == 0


def test_a_question_is_no_plan_and_a_plan_no_question(pdp, question, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    assert pdp("evaluate", question) == (
        2,
        "",
        f"error: {question}:1:1: this is a question, not a plan; `pdplan recommend` and `pdplan explain` "
        "take it\n",
    )
    code, _, err = pdp("recommend", plan)
    assert code == 2
    assert f"{plan}:1:1: this is a plan, not a question; `pdplan evaluate`" in err


def test_keys_may_be_spelled_as_flags(pdp, tmp_path):
    keys, flags = tmp_path / "keys.yaml", tmp_path / "flags.yaml"
    keys.write_text(QUESTION + "kv_precision: fp8\nprices: {h100-sxm: 2}\n")
    flags.write_text(QUESTION + "kv-precision: fp8\nprice: h100-sxm=2\n")
    expected = pdp("recommend", keys)
    assert expected[0] == 0
    assert "$2.00/h" in expected[1]
    assert pdp("recommend", flags) == expected


def test_keys_of_fleets_and_budgets_may_be_spelled_as_flags_and_names_keep_their_hyphens(pdp, tmp_path):
    entry = "{model: llama-3.1-8b, isl: 1500, osl: 300, rate: 5, tpot: 50ms, max-gpus-per-worker: 1}"
    keys, flags = tmp_path / "keys.yaml", tmp_path / "flags.yaml"
    text = f"inventory: {{h20-3e: 8}}\nprices: {{h20-3e: 1}}\nmax-gpus: 4\ndeployments:\n  to-chat: {entry}\n"
    flags.write_text(text)
    keys.write_text(text.replace("max-gpus", "max_gpus").replace("-per-worker", "_per_worker"))
    expected = pdp("fleet", keys)
    assert expected[0] == 0
    assert "to-chat" in expected[1]
    assert pdp("fleet", flags) == expected
    flags.write_text(text.replace("max-gpus-per-worker", "max-gpu-per-worker"))
    assert f"{flags}:5:" in (told := pdp("fleet", flags))[2]
    assert "did you mean 'max_gpus_per_worker'" in told[2]
    budget = "deployments:\n  - name: a-b\n    plan: plan.yaml\n    limits: {usd-per-h: 90, ttft-p90: 2s}\n"
    (tmp_path / "plan.yaml").write_text(
        "model: llama-3.1-8b\nmode: colocated\ncolocated: {hardware: h100, workers: 1, max-batch: 64}\n"
        "workload: {isl: 1500, osl: 300, rate: 5, prefix-reuse: 20%}\n"
    )
    keys.write_text(budget.replace("usd-per-h", "usd_per_h").replace("ttft-p90", "ttft_p90"))
    flags.write_text(budget)
    expected = pdp("check", keys)
    assert expected[0] == 0
    assert pdp("check", flags)[1].replace("flags.yaml", "keys.yaml") == expected[1]


def test_an_inventory_without_a_number_is_told_once(pdp):
    code, _, err = pdp("recommend", "--model", "llama-3.1-8b", "--isl", 1500, "--osl", 300, "--rate", 5,
                       "--inventory", "h100")  # fmt: skip
    assert code == 2
    assert err.count("error:") == 1
    assert "'h100' is no inventory" in err


def test_names_in_a_file_keep_their_hyphens(pdp, tmp_path):
    path = tmp_path / "q.yaml"
    path.write_text(
        QUESTION.replace("hardware: h100\n", "") + "inventory: {h20-3e: 8}\nprices: {h20-3e: 1}\n"
    )
    code, out, err = pdp("recommend", path)
    assert (code, err) == (0, "")
    assert "h20-3e" in out


def test_a_flag_that_says_how_to_print_is_no_key(pdp, tmp_path):
    path = tmp_path / "q.yaml"
    path.write_text(QUESTION + "format: json\n")
    code, _, err = pdp("recommend", path)
    assert (code, err) == (2, f"error: {path}:7:1: 'format' is a flag only (--format); remove it here\n")


@pytest.mark.parametrize(
    ("kind", "text", "close"), [("models", "qwne3", "qwen3-8b"), ("hardware", "h2000", "h200")]
)
def test_a_list_of_nothing_says_so(pdp, kind, text, close):
    code, out, err = pdp(kind, "list", text)
    assert (code, out) == (1, "")
    assert f"'{text}'; did you mean '{close}'" in err


def test_an_entry_is_suggested_once(pdp):
    _, _, err = pdp("models", "show", "gpt")
    assert "did you mean 'gpt-oss-20b' or 'gpt-oss-120b'?" in err


def test_a_key_in_both_spellings_is_refused(pdp, tmp_path):
    path = tmp_path / "q.yaml"
    path.write_text(QUESTION + "kv_precision: fp8\nkv-precision: bf16\n")
    code, _, err = pdp("recommend", path)
    assert code == 2
    assert "q.yaml:8:1: unknown key 'kv-precision'" in err


# ---------------------------------------------------------------- errors


def test_an_unknown_engine_is_told_once(pdp, question):
    code, _, err = pdp("recommend", question, "--engine", "vlm")
    assert code == 2
    assert err.count("unknown engine") == 1
    assert err.startswith("error: --engine: unknown engine 'vlm'; did you mean 'vllm'?")


def test_an_unknown_name_in_an_inventory_is_told_once(pdp, question):
    code, _, err = pdp("recommend", question, "--inventory", "h1000=4")
    assert code == 2
    assert err.count("unknown accelerator 'h1000'") == 1


def test_part_of_a_name_suggests_names_that_hold_it(pdp, question):
    code, _, err = pdp("recommend", question, "--model", "mini")
    assert code == 2
    assert "did you mean 'MiniMax-M2', 'minimax-m3' or 'minimax-m2.7'?" in err


@pytest.mark.parametrize("text", ["name: h100\npeak_flop_per_s: [\n", "name: 'H100'  # mine\n\tx: 1\n"])
def test_a_malformed_file_that_would_hide_the_entry_asked_for_is_an_error(pdp, question, tmp_path, text):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my-part.yaml").write_text(text)
    code, out, err = pdp("recommend", question, "--catalog", mine)
    assert (code, out) == (2, "")
    assert "my-part.yaml:" in err
    assert "not valid YAML" in err


def test_a_malformed_file_that_only_mentions_the_name_is_noted(pdp, question, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "other.yaml").write_text("name: other  # like h100\npeak_flop_per_s: [\n")
    code, out, _ = pdp("recommend", question, "--catalog", mine)
    assert code == 0
    assert "other.yaml:3:1: not valid YAML" in out


def test_an_unknown_name_tells_which_files_could_not_be_read(pdp, question, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "half.yaml").write_text("layers: [\n")
    code, _, err = pdp("recommend", question, "--catalog", mine, "--model", "my-new-model")
    assert code == 2
    assert "unknown model 'my-new-model'" in err
    assert "warning: passed over:" in err
    assert "half.yaml:2:1: not valid YAML" in err


def test_an_entry_that_does_not_say_what_it_describes_is_an_error(pdp, question, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "new.yaml").write_text("name: my-new-model\nlayer: []\n")
    code, _, err = pdp("recommend", question, "--catalog", mine, "--model", "my-new-model")
    assert code == 2
    assert "new.yaml:1:1: has neither 'peak_flop_per_s' (of accelerators) nor 'layers' (of models)" in err


# ---------------------------------------------------------------- tables


WIDE = [
    ("llama-3.1-70b", "h200+mi300x", "disaggregated", "3 × h200 tp1 → 1 × mi300x tp4", "$25.13/h", "$1.36"),
    ("llama-3.1-8b", "h100", "colocated", "4 × h100 tp2", "$28.72/h", "$1.56"),
]
COLUMNS = "+model|+hardware|+mode|~plan|>cost|>?$/M output"


@pytest.mark.parametrize("width", range(40, 120, 3))
def test_a_table_fits_where_it_can_and_its_columns_stay_in_line(width):
    report = Report(blocks=(table("", COLUMNS, WIDE),), data={})
    lines = render(report, "text", width=width).splitlines()
    # The least is 14 for "llama-3.1-70b,", 14 for "3 × h200 tp1 →", 8 for "$25.13/h", and two gaps of 2.
    assert max(map(len, lines[:-1])) <= width
    ends = {len(line) for line in lines if line.endswith(("/h", "cost"))}
    ends |= {line.index("  $1") for line in lines if "  $1" in line}
    assert len(ends) == 1  # the costs end in one column, whatever was broken, left out or joined before them
    left_out = any("no room for $/M output" in line for line in lines)
    assert left_out != any("$1.36" in line for line in lines)


def test_a_table_that_fits_nowhere_is_as_narrow_as_it_gets():
    rows = [("a" * 30, "b" * 30, "c" * 30)]
    lines = render(
        Report(blocks=(table("", "one|two|?three", rows),), data={}), "text", width=40
    ).splitlines()
    assert lines[1] == f"{'a' * 30}  {'b' * 30}"
    assert lines[2:] == ["(no room for three: widen the terminal,", "or pipe)"]


R1 = [
    "--model",
    "deepseek-r1",
    "--hardware",
    "h200",
    "--isl",
    "4k",
    "--osl",
    "1k",
    "--ttft",
    "2s",
    "--tpot",
    "40ms",
]
SMALL = ["--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "2k", "--osl", "256", "--tpot", "30ms"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", ROOT / "examples/budget.yaml"),
        ("front", "--model", "deepseek-r1", "--hardware", "h200", "--isl", "4k", "--osl", "1k"),
        ("validate", ROOT / "examples/runs/trtllm-h200.csv", "--by", "model,hardware,engine,concurrency"),
        ("calibrate", ROOT / "examples/runs/trtllm-h200.csv"),
        ("recommend", *R1, "--rate", "20", "--kv-precision", "any", "--drafted", "1"),
        ("compare", "--modes", *R1, "--max-gpus", "64"),
        ("compare", *SMALL, "--model", "qwen3-8b", "--hardware", "l40s", "--max-gpus", "4"),
    ],
    ids=lambda a: a[0],
)
def test_pages_fit_a_terminal_of_80_columns(pdp, monkeypatch, arguments):
    monkeypatch.setattr("pdplan.cli.output.terminal", lambda format: (80, False))
    _, out, _ = pdp(*arguments)
    assert max(map(len, out.splitlines())) <= 80


def test_layers_that_alternate_are_shown_once(pdp):
    code, out, _ = pdp("models", "show", "gpt-oss-120b")
    assert code == 0
    layers = out[out.index("Layers") : out.index("Weights")].strip().splitlines()
    assert [line.split("  gqa")[0].strip() for line in layers[2:]] == ["18 × (1", "1)"]
    data = json.loads(pdp("models", "show", "gpt-oss-120b", "--format", "json")[1])
    assert sum(group["count"] for group in data["layers"]) == 36


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--ttft", "2", "s"], "--ttft 2 s: the blank parts '2' from 's'; write --ttft 2s"),
        (["--rate", "20", "req/s"], "write --rate 20req/s"),
        (["--network", "400", "Gbps"], "write --network 400Gbps"),
        (["--percentile", "90", "%"], "write --percentile 90%"),
        (["--price", "h200", "=", "2.60", "--isl", "4k"], "write --price h200=2.60"),
        (["--hardware", "h200,", "b200", "--isl", "4k"], "write --hardware h200,b200, or --hardware again"),
        (["--hardware", "h200", "no.yaml"], "no.yaml: there is no such file"),
        (
            ["deepseek-r1", "--hardware", "h200"],
            "deepseek-r1: a file of inputs is expected here; write",
        ),
        (["h200"], "h200: a file of inputs is expected here; write --hardware h200"),
    ],
)
def test_a_blank_in_a_value_is_told(pdp, args, told):
    code, out, err = pdp("recommend", *args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["recommend", "--gpu=h200"], "--gpu: recommend calls it --hardware"),
        (["compare", "--kv-cache-dtype", "fp8"], "--kv-cache-dtype: compare calls it --kv-precision"),
        (["explain", "--request-rate", "5"], "--request-rate: explain calls it --rate"),
        (["front", "--itl", "40ms"], "--itl: front calls it --tpot"),
    ],
)
def test_a_flag_of_another_tool_is_named_by_ours(pdp, args, told):
    assert pdp(*args) == (2, "", f"error: {told}\n")


@pytest.mark.parametrize("command", ["front", "day"])
def test_no_rate_is_proposed_to_a_command_without_one(pdp, command):
    code, _, err = pdp(command, "--qps", "5")
    assert code == 2
    assert "No such option: --qps" in err


def test_names_of_other_tools_are_no_flags_of_ours(pdp):
    for command in strays._ASKING:
        usage = pdp(command, "--help")[1]
        for theirs, ours in strays._ELSEWHERE.items():
            assert f"{theirs} " not in usage
            assert (f"{ours} " in usage) != (command in strays._WITHOUT_RATE and ours == "--rate")


def test_a_limit_of_forty_seconds_a_token_is_asked_about(pdp, question):
    def notes(*args):
        code, out, _ = pdp("recommend", question, *args, "--format", "json")
        assert code == 0
        return [note for note in json.loads(out)["notes"] if "binds nothing" in note]

    assert notes("--tpot", "40") == [
        "a TPOT limit of 40.0 s binds nothing; write 40ms where milliseconds are meant, "
        "since a bare number is seconds"
    ]
    assert notes("--ttft", "20") == []


def test_a_dash_is_no_file_to_write_to(pdp, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = ROOT / "examples/runs/trtllm-h200.csv"
    code, _, err = pdp("validate", runs, "--output", "-")
    assert (code, os.listdir(tmp_path)) == (2, [])
    assert "the answer itself goes to standard output" in err


def test_a_budget_as_baseline_is_told_the_other_flag(pdp):
    budget = ROOT / "examples/budget.yaml"
    code, _, err = pdp("check", budget, "--baseline", budget)
    assert (code, err.count("\n")) == (2, 1)
    assert "this is a budget file" in err
    assert "--against" in err


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interrupt_while_modules_load_is_quiet(tmp_path):
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # A shell's background jobs, and what they start, are deaf to the signal.
    command = [sys.executable, "-m", "pdplan", "--help"]
    found = subprocess.run(command, env=env, capture_output=True, preexec_fn=hear)
    assert (found.returncode, found.stdout, found.stderr) == (130, b"", b"")


def test_a_long_address_is_cut_behind_a_slash_where_a_table_is_narrow():
    address = "https://docs.example.org/en/v2/a-long-way/to-the-page.html"
    rows = [("docs", f"The page: {address}", "2026-01-01")]
    report = Report(blocks=(table("", "key|~title|date", rows),), data={}, records=())
    narrow = render(report, "text", width=50).splitlines()
    assert max(map(len, narrow)) <= 50
    assert address in "".join(line[6:].removesuffix("2026-01-01").strip() for line in narrow)
    assert address in render(report, "text", width=100)
    assert address in render(report, "text")


def test_yaml_is_told_of_json_which_other_commands_read(pdp, question, tmp_path):
    code, _, err = pdp("recommend", question, "--format", "yaml")
    assert code == 2
    assert "JSON is YAML, too" in err
    plan = tmp_path / "plan.yaml"
    plan.write_text(pdp("recommend", question, "--format", "json")[1])
    assert pdp("evaluate", plan)[0] == 0


def test_what_is_left_free_for_a_queue_without_a_ttft_limit_is_said(pdp, question):
    def notes(*args):
        asked = ("recommend", "--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "1k", "--osl", "64")
        found = json.loads(pdp(*asked, *args, "--format", "json")[1])
        return [note for note in found["notes"] if "1% of what it could do is left free" in note]

    assert len(notes("--max-gpus", "2")) == 1
    assert notes("--max-gpus", "2", "--ttft", "1s") == []
    assert notes("--max-gpus", "2", "--headroom", "10%") == []
    assert notes("--rate", "2") == []


def hear() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("other", "words"),
    [("h200", "catalog prices: "), ("mi350x", "catalog prices of 2 kinds, which compare but roughly: ")],
)
def test_compared_accelerators_have_their_prices_named(pdp, question, other, words):
    code, out, _ = pdp("compare", question, "--hardware", "h100", "--hardware", other)
    assert code == 0
    assert out.count("catalog prices") == 1
    assert f"- {words}" in out
    assert f"{other} $" in out.partition("catalog prices")[2]


def test_files_that_are_called_like_a_unit_are_read(pdp, question, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_text(question.read_text())
    assert pdp("recommend", "--alternatives", "1", "s")[0] == 0


# ---------------------------------------------------------------- slips that lose something


def test_the_last_of_two_values_counts_and_the_first_is_not_dropped_without_a_word(pdp, question):
    code, out, err = pdp("recommend", question, "--model", "llama-3.1-70b", "--model", "qwen3-8b")
    assert (code, "qwen3-8b in bf16" in out) == (0, True)
    assert err == (
        "warning: --model is given as llama-3.1-70b and as qwen3-8b; the last counts; `pdplan compare` takes "
        "several\n"
    )
    assert pdp("recommend", question, "--isl", "2k", "--isl", "2k")[2] == ""


RUN = """\
id,model,hardware,engine,precision,mode,isl,osl,concurrency,workers,tp,tpot_mean_s
a,llama-3.1-8b,h100,vllm,fp8,colocated,1024,1024,4,1,1,0.005
"""


@pytest.mark.parametrize(
    "args",
    [
        ("validate", "runs.csv", "--output", "./runs.csv"),
        ("calibrate", "runs.csv", "-o", "runs.csv", "--force"),
        ("check", "runs.csv", "--save", "runs.csv"),
    ],
)
def test_what_is_read_is_not_written_over(pdp, monkeypatch, tmp_path, args):
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(RUN)
    code, _, err = pdp(*args)
    assert (code, "is what is read; write to another file" in err) == (2, True)
    assert Path("runs.csv").read_text() == RUN


@pytest.mark.parametrize(
    ("text", "place"),
    [('{"model": "x", // mine\n "colocated": {}}', "1:16"), ('/* mine */\n{"model": "x"}', "1:1")],
)
def test_comments_in_json_are_named(pdp, text, place):
    code, _, err = pdp("evaluate", "-", stdin=text)
    assert (code, f"<stdin>:{place}: JSON has no comments" in err) == (2, True)


def test_addresses_in_json_are_no_comments(pdp, question):
    code, _, err = pdp("evaluate", "-", stdin='{"model": "https://huggingface.co/a/b", "mode": "/* */"}')
    assert (code, "comments" in err) == (2, False)


def test_a_table_is_no_calibration(pdp, question, tmp_path):
    (tmp_path / "runs.csv").write_text(RUN)
    code, _, err = pdp("recommend", question, "--calibration", tmp_path / "runs.csv")
    assert (code, "this is a table of measured runs, not a calibration" in err) == (2, True)


def test_an_accelerator_by_its_full_name_is_found(pdp, question):
    code, out, _ = pdp("recommend", question, "--hardware", "NVIDIA H200 Tensor Core GPU")
    assert (code, "(h200 tp" in out) == (0, True)


def test_a_folder_without_catalog_files_is_named_with_the_name_that_is_not_found(pdp, question, tmp_path):
    mine = tmp_path / "mine"
    (mine / "hardware").mkdir(parents=True)
    (mine / "hardware" / "own.yaml").write_text("name: own\n")
    code, _, err = pdp("recommend", question, "--catalog", mine, "--hardware", "own")
    assert (code, f"{mine} holds no catalog file (.yaml, there or in its hardware_catalog)" in err) == (
        2,
        True,
    )


def test_a_name_on_the_hub_is_told_what_to_download(pdp, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = pdp("models", "add", "Qwen/Qwen3-8B")
    assert (code, "https://huggingface.co/Qwen/Qwen3-8B/resolve/main/config.json" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--rates", "5,6", "--series", "x"], "--series: a list of rates has no series"),
        (["rates.csv"], "rates.csv:1: semicolons separate the columns"),
        (["--rates", "5", "--isl", "2k,4k"], "it is a list; give one value"),
    ],
)
def test_what_a_day_cannot_use_is_told(pdp, question, monkeypatch, tmp_path, args, told):
    monkeypatch.chdir(tmp_path)
    Path("rates.csv").write_text("hour;rate\n0;5\n1;6\n")
    asked = ["--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "2k", "--osl", "256"]
    code, _, err = pdp("day", *asked, *args)
    assert (code, told in err) == (2, True), err


def test_a_calibration_of_one_run_claims_nothing_of_eight_of_ten(pdp, question, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("runs.csv").write_text(RUN)
    assert pdp("calibrate", "runs.csv", "-o", "mine.yaml")[0] == 0
    _, out, _ = pdp("recommend", question, "--calibration", "mine.yaml", "--precision", "fp8")
    assert "mine.yaml: one run cannot show whether it helps" in out
    assert "of its 1" not in out


def test_a_question_with_a_plan_s_keys_is_told_where_they_stand(pdp):
    code, _, err = pdp("recommend", "-", stdin=f"{QUESTION}slo: {{ttft: 2s}}\n")
    assert code == 2
    assert err.startswith("error: <stdin>:7:1: 'slo' is of plans; here its keys (ttft,")
