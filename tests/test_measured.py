"""Measured runs: reading and repairing them, predicting them, and the protocol's errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from pdplan.catalog.store import Catalog
from pdplan.cli.app import run as pdplan
from pdplan.errors import InputError
from pdplan.measured.accuracy import choice_regret, residuals, summarise
from pdplan.measured.intervals import inside_intervals, interval
from pdplan.measured.predict import Predictions, predict
from pdplan.measured.run import Run
from pdplan.measured.runs import group_runs, read_runs, repaired
from pdplan.report.validation import COLUMNS

SCHEMA = json.loads((Path(__file__).parents[1] / "pdplan/report/schemas/validate.json").read_text())
ROW = {
    "id": "a", "source": "inferencex", "date": "2026-03-01", "model": "llama-3.1-70b", "hardware": "h200",
    "engine": "vllm", "precision": "fp8", "mode": "colocated", "spec": "none", "isl": "1024", "osl": "1024",
    "length_spread": "0.2", "concurrency": "16", "workers": "1", "tp": "4", "ttft_mean_s": "0.13",
    "tpot_mean_s": "0.0109",
}  # fmt: skip


def table(tmp_path: Path, *rows: dict[str, str]) -> Path:
    full = [{**ROW, **row} for row in rows]
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({k for row in full for k in row}))
        writer.writeheader()
        writer.writerows(full)
    return path


def predictions(tpot: list[float], rate: list[float]) -> Predictions:
    nothing = np.full(len(tpot), np.nan)
    return Predictions(
        tpot_mean_s=np.array(tpot),
        ttft_mean_s=nothing,
        ttft_median_s=nothing,
        total_tok_per_s_per_gpu=np.array(rate),
        pool_load=nothing,
        reasons=[""] * len(tpot),
    )


# ------------------------------------------------------------------------ reading


def test_lengths_are_means_and_gpus_follow_from_the_layout(tmp_path: Path) -> None:
    (run,) = read_runs(table(tmp_path, {}))
    assert (run.mean_isl, run.mean_osl, run.gpus) == (921.6, 921.6, 4)
    # By hand: 16·(921.6 + 921.6)/(0.13 + 0.0109·920.6)/4
    assert run.measured_tok_per_s_per_gpu == pytest.approx(725.3, rel=1e-3)


def test_a_run_is_what_it_is_however_its_table_writes_it(tmp_path: Path) -> None:
    """Rules know runs by the catalog's names: another spelling must find the same rules."""
    plain = {"model": "deepseek-r1", "hardware": "b200", "engine": "sglang", "precision": "fp4"}
    spelled = {
        "model": "amd/DeepSeek-R1-0528-MXFP4", "hardware": "b200-dgxc-slurm", "engine": "dynamo-sglang",
        "precision": "NVFP4", "spec": "None", "mode": "agg", "source": "InferenceMAX", "date": "20260301",
    }  # fmt: skip
    runs = read_runs(table(tmp_path, plain, spelled), Catalog())
    assert runs[0].settings
    assert runs[0].settings == runs[1].settings
    assert runs[0].fingerprint == runs[1].fingerprint


def test_an_engine_without_constants_is_predicted_as_the_generic_one_and_said(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {}, {"engine": "lmdeploy"}, {"engine": "generic"}))
    found = predict(runs, Catalog())
    assert found.tpot_mean_s[1] == found.tpot_mean_s[2] > 0
    assert [line.partition(":")[0] for line in found.assumed] == ["lmdeploy"]


def test_two_pools_of_cards_without_a_known_network_send_over_their_server(tmp_path: Path) -> None:
    """rtx-pro-6000 has no scale-out link in the catalog, and a measured run did send its caches."""
    prefill = {"mode": "disaggregated", "prefill_workers": "1", "prefill_tp": "4", "prefill_dp": "1"}
    found = predict(read_runs(table(tmp_path, {"hardware": "rtx-pro-6000", **prefill})), Catalog())
    assert found.reasons == [""]
    assert found.tpot_mean_s[0] > 0


def test_sizes_that_a_dump_multiplied_are_divided(tmp_path: Path) -> None:
    (run,) = read_runs(table(tmp_path, {"tp": "64", "ep": "8", "gpus": "64"}))
    assert (run.decode.tp, run.decode.ep, run.gpus) == (8, 8, 8)


@pytest.mark.parametrize("sizes", [(8, 1, 8), (16, 1, 1), (1, 8, 8), (32, 1, 32)])
def test_sound_sizes_stay(sizes: tuple[int, int, int]) -> None:
    tp, dp, ep = sizes
    given = {"workers": 1, "tp": tp, "pp": 1, "dp": dp, "ep": ep}
    assert repaired(given) == given


def test_attention_dp_beyond_a_node_has_its_experts_spread() -> None:
    given = {"workers": 1, "tp": 1, "pp": 1, "dp": 32, "ep": 1}
    assert repaired(given, colocated=False)["ep"] == 32


def test_malformed_rows_are_told_by_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"runs.csv:3: tp is 'x'"):
        read_runs(table(tmp_path, {}, {"tp": "x"}))


# ------------------------------------------------------------------------ predicting


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_tables_of_every_system_are_read(tmp_path: Path, start: str, end: str) -> None:
    path = table(tmp_path, {}, {"id": "b"})
    path.write_bytes((start + end.join(path.read_text().split("\n"))).encode())
    assert [run.id for run in read_runs(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mode": "colocted"}, r":2: mode is 'colocted'; expected colocated$"),
        ({"tp": "0"}, r":2: tp is 0; expected at least 1"),
        ({"workers": "0"}, r":2: workers is 0; expected at least 1"),
        ({"tp": "1e9"}, r":2: tp is 1,000,000,000; expected at most 100,000"),
        ({"concurrency": "0"}, r":2: concurrency is 0; expected more"),
        ({"tpot_mean_s": "nan"}, r":2: tpot_mean_s is nan"),
        ({"concurrency": "4", "rate": "2"}, r":2: give either concurrency or rate, not both"),
    ],
)
def test_values_that_no_run_can_have(tmp_path: Path, change: dict[str, str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_runs(table(tmp_path, change))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", r"runs.csv: the file is empty"),
        ("{}", r"runs.csv: this is JSON.*`pdplan calibrate` reads"),
        ("id;model;tp\na;b;1\n", r"runs.csv:1: semicolons separate the columns; save the table with commas"),
        ("what,ever\n1,2\n", r"runs.csv:1: this is no header of a table of runs"),
        ("HEAD,tp\n", r"runs.csv:1: the column 'tp' stands twice"),
        ("HEAD\n" + "a," * 30, r"runs.csv:2: 31 cells, and 11 columns in the header"),
        ("HEAD\na,b\n", r"runs.csv:2: 2 cells, and 11 columns in the header"),
        ('HEAD\n"a,b\n', r"runs.csv:\d+: no CSV: .*; is a quote left open\?"),
        ("HEAD\n" + "a" * 140_000, r"runs.csv:2: no CSV: field larger than"),
    ],
)
def test_files_that_are_no_table(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "runs.csv"
    head = "id,model,hardware,engine,precision,mode,isl,osl,workers,tp,concurrency"
    path.write_text(text.replace("HEAD", head))
    with pytest.raises(InputError, match=expected):
        read_runs(path)


def test_a_disaggregated_run_without_prefill_pool_is_a_reason(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {}, {"id": "b", "mode": "disaggregated"}))
    assert predict(runs, Catalog()).reasons == ["", "mode is disaggregated, and there is no prefill pool"]


def test_a_run_is_predicted_near_its_measurement(tmp_path: Path) -> None:
    # vLLM, Llama-3.1-70B FP8, 4 x H200, InferenceX 2025-10-29: TPOT 10.9 ms, TTFT 126 ms.
    found = predict(read_runs(table(tmp_path, {})), Catalog())
    assert found.tpot_mean_s[0] == pytest.approx(10.9e-3, rel=0.25)
    assert found.ttft_mean_s[0] == pytest.approx(0.126, rel=0.5)


def test_runs_of_many_lengths_are_predicted_as_each_alone(tmp_path: Path) -> None:
    pools = {"mode": "disaggregated", "prefill_workers": "2", "prefill_tp": "4", "dp": "2"}
    rows = [
        {"id": f"{isl} {osl} {len(more)}", "isl": isl, "osl": osl, "source": source} | more
        for isl, osl in (("128", "1"), ("1024", "1024"), ("40000", "128"))
        for more in ({}, pools, {"spec": "mtp"}, {"concurrency": "", "rate": "0.5"})
        for source in ("inferencex", "aiconfigurator-sweep", "mine")
    ]
    runs = read_runs(table(tmp_path, *rows))
    together, catalog = predict(runs, Catalog()), Catalog()
    assert len(list(group_runs(runs, by_length=False))) < len(list(group_runs(runs)))
    for i, run in enumerate(runs):
        alone = predict([run], catalog)
        for name in ("tpot_mean_s", "ttft_mean_s", "ttft_median_s", "total_tok_per_s_per_gpu"):
            expected = getattr(alone, name)[0]
            assert getattr(together, name)[i] == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_a_length_that_no_request_has_is_a_reason_for_its_own_runs_only(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {}, {"id": "b", "isl": "1e9"}, {"id": "c", "osl": "512"}))
    reasons = predict(runs, Catalog()).reasons
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert "isl" in reasons[1]


def test_a_run_alone_equals_it_among_others(tmp_path: Path) -> None:
    both = read_runs(table(tmp_path, {}, {"concurrency": "64"}))
    together, alone = predict(both, Catalog()), predict(both[1:], Catalog())
    assert together.tpot_mean_s[1] == pytest.approx(alone.tpot_mean_s[0], rel=1e-9)


def test_the_opening_burst_raises_the_mean_and_not_the_median(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {"concurrency": "64", "isl": "8192"}))
    found = predict(runs, Catalog())
    assert found.ttft_mean_s[0] > 1.3 * found.ttft_median_s[0]


def test_an_unknown_model_is_a_reason_and_no_error(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {"model": "lama-3"}, {}))
    found = predict(runs, Catalog())
    assert "lama-3" in found.reasons[0]
    assert np.isnan(found.tpot_mean_s[0])
    assert found.reasons[1] == ""
    assert found.tpot_mean_s[1] > 0


# ------------------------------------------------------------------------ the protocol


def test_a_row_that_cannot_be_predicted_counts_against_coverage() -> None:
    found = summarise(np.array([0.1, np.nan, -0.2, 9.0]), np.array([True, True, True, False]))
    assert (found.rows, found.coverage) == (3, pytest.approx(2 / 3))
    assert (found.median, found.mean, found.signed) == (
        pytest.approx(0.15),
        pytest.approx(0.15),
        pytest.approx(-0.05),
    )


def run_with(tpot: float, rate: float, **more: Any) -> Run:
    given = {
        "model": "m", "hardware": "h", "precision": "fp8", "spec": "none", "isl": 1.0, "osl": 1.0,
        "tpot_mean_s": tpot, "measured_tok_per_s_per_gpu": rate, "counts_for_tpot": 0 < tpot < 0.3,
        "saturated_prefill": False, "ttft_mean_s": 1.0, "ttft_median_s": 1.0,
    }  # fmt: skip
    return SimpleNamespace(**(given | more))  # type: ignore[return-value]


def test_a_tpot_of_a_third_of_a_second_is_no_serving_result() -> None:
    found = residuals([run_with(0.31, 1.0)], predictions([0.3], [1.0]))
    assert not found.counts["tpot"][0]


EIGHT = [run_with(0.005 * (i + 1), 100.0 * (i + 1)) for i in range(8)]
"""TPOT 5, 10 … 40 ms for 100, 200 … 800 tokens/s/GPU."""


def test_a_perfect_prediction_has_no_regret() -> None:
    tpot = [r.tpot_mean_s for r in EIGHT]
    found = choice_regret(EIGHT, predictions(tpot, [r.measured_tok_per_s_per_gpu for r in EIGHT]))
    assert (found.choices, found.median, found.mean) == (6, 0.0, 0.0)


def test_regret_by_hand() -> None:
    # Everything predicted within every limit and the last run best: 800 tokens/s/GPU at 40 ms.
    found = choice_regret(EIGHT, predictions([0.001] * 8, list(range(8))))
    # Within 10, 15, 20, 30 ms the best are 200, 300, 400, 600, and the pick counts 800·limit/40 ms.
    expected = [1 - 200 / 200, 1 - 300 / 300, 1 - 400 / 400, 1 - 600 / 600, 0.0, 0.0]
    assert found.mean == pytest.approx(np.mean(expected))
    # The slowest choice: the first run, 100 tokens/s/GPU at 5 ms, against the best within each limit.
    found = choice_regret(EIGHT, predictions([0.001] * 8, list(range(8, 0, -1))))
    expected = [1 - 100 / best for best in (200, 300, 400, 600, 800, 800)]
    assert found.mean == pytest.approx(np.mean(expected))


def test_seven_runs_are_no_choice() -> None:
    assert choice_regret(EIGHT[:7], predictions([0.01] * 7, [1.0] * 7)).choices == 0


# ------------------------------------------------------------------------ error bars


def test_intervals_hold_the_prediction(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, {}))
    found = predict(runs, Catalog())
    bars = interval("tpot", runs, found.tpot_mean_s, found.loaded)
    assert bars.low[0] < found.tpot_mean_s[0] < bars.high[0]
    assert inside_intervals(runs, residuals(runs, found), found.loaded).share("tpot") in (0.0, 1.0)


# ------------------------------------------------------------------------ the command


def test_validate_writes_predictions_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = table(tmp_path, {}, {"id": "b", "model": "lama-3"}), tmp_path / "predictions.csv"
    assert (
        pdplan(["validate", str(path), "--by", "model,hardware", "--output", str(out), "--format", "json"])
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, SCHEMA)
    assert (answer["rows"], answer["predicted_rows"], len(answer["groups"])) == (2, 1, 2)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    expected = "id"
    for quantity in ("tpot", "ttft"):
        expected += "".join(f" predicted_{quantity}_{kind}_s" for kind in ("mean", "low", "high"))
    assert list(rows[0]) == [*expected.split(), "predicted_total_tok_per_s_per_gpu", "reason"]
    assert rows[1]["predicted_tpot_mean_s"] == ""
    assert "lama-3" in rows[1]["reason"]


def test_validate_knows_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pdplan(["validate", str(table(tmp_path, {})), "--by", "modle"]) == 2
    assert "did you mean 'mode' or 'model'" in capsys.readouterr().err


def test_validate_counts_reasons_and_repeated_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ({"model": "lama-3"}, {"model": "lama-3"}, {"hardware": "h20o"}, {"id": "b", "tpot_mean_s": ""})
    assert pdplan(["validate", str(table(tmp_path, *rows)), "--by", "concurrency,concurrency,rate"]) == 0
    text = capsys.readouterr().out
    assert "- 2 runs: unknown model 'lama-3'" in text
    assert "- 1 run: unknown accelerator 'h20o'" in text
    assert "the id 'a' stands on several lines" in text


def test_every_column_can_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pools = {"mode": "disaggregated", "prefill_workers": "2", "prefill_tp": "4", "id": "b"}
    path = table(
        tmp_path, {"concurrency": "128"}, {"concurrency": "16"}, {"concurrency": "", "rate": "2"}, pools
    )
    assert pdplan(["validate", str(path), "--by", ",".join(COLUMNS), "--format", "json"]) == 0
    jsonschema.validate(json.loads(capsys.readouterr().out), SCHEMA)
    assert pdplan(["validate", str(path), "--by", "concurrency", "--format", "json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [group["concurrency"] for group in groups] == ["16", "128", ""]


def test_a_rate_beyond_capacity_has_no_ttft_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever more is asked, a full deployment gives the same tokens/s, at the TPOT of full batches."""
    open_loop = {"concurrency": "", "model": "llama-3.1-8b", "tp": "1"}
    rates = {"low": "2", "high": "300", "higher": "600"}
    path = table(tmp_path, *({**open_loop, "id": name, "rate": rate} for name, rate in rates.items()))
    out = tmp_path / "predictions.csv"
    assert pdplan(["validate", str(path), "--output", str(out)]) == 0
    assert "3 runs, 3 predicted" in capsys.readouterr().out
    rows = {row["id"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert rows["low"]["reason"] == ""
    assert float(rows["low"]["predicted_ttft_mean_s"]) > 0
    for name in ("high", "higher"):
        assert rows[name]["reason"].startswith("no TTFT: the rate is ")
        assert [rows[name][f"predicted_ttft_{kind}_s"] for kind in ("mean", "low", "high")] == ["", "", ""]
    full, fuller = (float(rows[name]["predicted_total_tok_per_s_per_gpu"]) for name in ("high", "higher"))
    assert full == pytest.approx(fuller, rel=1e-5)
    assert full > float(rows["low"]["predicted_total_tok_per_s_per_gpu"])
    assert rows["high"]["predicted_tpot_mean_s"] == rows["higher"]["predicted_tpot_mean_s"]
