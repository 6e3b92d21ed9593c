"""Calibration: finds what made the runs, moves little where they are few, says when it does not help."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from helpers import SHARED

import pdplan
from pdplan.calibrated import OwnSpread, overlaid, read_calibration
from pdplan.calibration.effects import effects_of
from pdplan.calibration.mixed import Observations, posterior
from pdplan.calibration.own_file import calibration_of, calibration_yaml
from pdplan.calibration.own_fit import Fit, cross_validate, fit_own
from pdplan.calibration.priors import fit_widths, read_priors
from pdplan.catalog.store import Catalog
from pdplan.cli.app import run as command
from pdplan.efficiency import engine_constants, engine_file
from pdplan.errors import InputError
from pdplan.inputs.own_runs import OwnRuns
from pdplan.measured.accuracy import residuals
from pdplan.measured.intervals import inside_intervals
from pdplan.measured.predict import predict
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs
from pdplan.plan import PoolPlan
from pdplan.uncertainty import Ground, error_factor

SCHEMAS = Path(pdplan.__file__).parent / "report" / "schemas"
TRAIN = SHARED / "measured" / "train.csv"
TRUTH = {
    "engines": {"vllm": {"request_overhead_s": 0.03, "sequence_overhead_s": 5e-5}},
    "models": {"llama-3.1-70b": {"kernel_time_factor": 1.25}},
}
"""Another host, and weights in a slower format."""


def made_up(*, tps: tuple[int, ...], loads: tuple[int, ...], engine: str = "vllm") -> list[Run]:
    """Runs of one model, measured as pdplan predicts them with the constants of `TRUTH`."""
    runs = [
        Run(
            id=f"tp{tp} c{load}",
            source="vllm bench serve",
            date="2026-03-01",
            model="llama-3.1-70b",
            hardware="h100",
            engine=engine,
            engine_version="",
            precision="fp8",
            mode="colocated",
            spec="none",
            isl=2048,
            osl=512,
            length_spread=0.0,
            concurrency=load,
            decode=PoolPlan(hardware="h100", workers=1, tp=tp),
            prefill=None,
            ttft_mean_s=0.1,
            ttft_median_s=float("nan"),
            tpot_mean_s=0.01,
            gpus=tp,
            total_tok_per_s_per_gpu=float("nan"),
        )
        for tp in tps
        for load in loads
    ]
    return measured(runs, overlaid(engine_file(), TRUTH))


def measured(runs: list[Run], document: Any) -> list[Run]:
    found = predict(runs, Catalog(), document)
    return [
        replace(r, tpot_mean_s=float(t), ttft_mean_s=float(f))
        for r, t, f in zip(runs, found.tpot_mean_s, found.ttft_mean_s, strict=True)
    ]


def value(fit: Fit, scope: str, name: str) -> float:
    at = next(i for i, p in enumerate(fit.parameters) if (p.effect.scope, p.effect.name) == (scope, name))
    return fit.parameters[at].value(fit.found.mean[at])


MANY = {"tps": (2, 4, 8), "loads": (1, 2, 4, 8, 16, 32, 64, 128, 256)}
FEW = {"tps": (4,), "loads": (1, 16)}


@pytest.fixture(scope="module")
def many() -> list[Run]:
    return made_up(**MANY)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(many: list[Run]) -> Fit:
    return fit_own(many, Catalog())


# ------------------------------------------------------------------------ the fit


def test_many_runs_give_back_what_made_them(many: list[Run], fitted: Fit) -> None:
    again = predict(many, Catalog(), fitted.document())
    for name in ("tpot_mean_s", "ttft_mean_s"):
        truth = np.array([getattr(r, name) for r in many])
        errors = np.abs(getattr(again, name) / truth - 1)
        assert np.median(errors) < 0.03
    before = predict(many, Catalog())
    assert np.median(np.abs(before.tpot_mean_s / np.array([r.tpot_mean_s for r in many]) - 1)) > 0.1
    # Model and accelerator had one factor between them: their product is what runs can tell.
    slower = value(fitted, "models", "kernel_time_factor") * value(
        fitted, "accelerators", "kernel_time_factor"
    )
    assert slower == pytest.approx(1.25, rel=0.06)
    assert value(fitted, "models", "kernel_time_factor") > value(fitted, "accelerators", "kernel_time_factor")


def test_two_runs_move_it_less(fitted: Fit) -> None:
    few = fit_own(made_up(**FEW), Catalog())  # type: ignore[arg-type]
    for scope, name in (("models", "kernel_time_factor"), ("engines", "sequence_overhead_s")):
        shipped = 1.0 if scope == "models" else getattr(engine_constants("vllm"), name)
        moved = abs(np.log(value(few, scope, name) / shipped))
        assert 0 < moved < abs(np.log(value(fitted, scope, name) / shipped))
    assert np.all(few.prior_left >= fitted.prior_left[: len(few.prior_left)] - 0.05)


def test_runs_that_agree_with_the_shipped_constants_change_nothing() -> None:
    runs = measured(made_up(**FEW), engine_file())  # type: ignore[arg-type]
    fit = fit_own(runs, Catalog())
    assert np.max(np.abs(fit.found.mean)) < 1e-6
    assert not cross_validate(fit, runs, Catalog()).summary.helped


def test_constants_that_runs_do_not_tell_stay(fitted: Fit) -> None:
    """No speculation ran, no experts: neither acceptance nor skew is written."""
    names = {fitted.parameters[i].effect.name for i in fitted.told}
    assert "kernel_time_factor" in names
    assert names.isdisjoint({"mtp_acceptance", "expert_skew"})


def test_left_out_layouts_are_predicted_better(many: list[Run], fitted: Fit) -> None:
    found = cross_validate(fitted, many, Catalog()).summary
    assert (found.left_out, found.helped) == ("deployment", True)
    assert found.tpot is not None
    assert found.tpot.after < found.tpot.before / 2


def test_one_run_has_nothing_to_be_checked_by() -> None:
    runs = made_up(tps=(4,), loads=(16,))
    found = cross_validate(fit_own(runs, Catalog()), runs, Catalog()).summary
    assert (found.left_out, found.helped) == ("nothing", False)


def test_an_engine_without_constants_starts_as_the_generic_one() -> None:
    runs = [replace(r, engine="lmdeploy") for r in made_up(tps=(2, 4, 8), loads=(1, 16, 256))]
    fit = fit_own(runs, Catalog())
    generic, own = engine_constants("generic"), engine_constants("lmdeploy", document=fit.document())
    assert own.memory_utilisation == generic.memory_utilisation
    assert own.sequence_overhead_s > generic.sequence_overhead_s


def test_every_prior_is_of_a_constant_and_none_is_without_width() -> None:
    """A constant without a line of its own has the generic width: `python -m pdplan.calibration.priors`."""
    priors, effects = read_priors(), effects_of(engine_file(), made_up(**FEW))  # type: ignore[arg-type]
    assert set(priors.effects) <= set(effects)
    assert all(priors.of(effect).log_sd > 0 for effect in effects)


def test_accelerators_and_models_have_factors_only() -> None:
    """What a generation adds in seconds has no value of 1 where nothing is known: an exchange of 1 s."""
    document = engine_file()
    assert "exchange_wait_s" in document["generations"]["amd"]
    found = {e.name for e in effects_of(document, made_up(**FEW)) if e.scope in ("accelerators", "models")}  # type: ignore[arg-type]
    assert found == {"kernel_time_factor"}


def test_the_posterior_is_ridge_regression_where_errors_are_small() -> None:
    """By hand: one slope of 1, n runs at y, noise s, prior t: mean = n·y/(n + s²/t²), far inside the loss."""
    data = Observations(
        design=np.ones((4, 1)), target=np.full(4, 1e-3), noise=np.full(4, 0.1), weight=np.ones(4)
    )
    found = posterior(data, np.array([0.1]))
    assert found.mean[0] == pytest.approx(4 * 1e-3 / 5, rel=1e-3)
    assert found.variance[0] == pytest.approx(0.01 / 5, rel=1e-3)


def test_an_outlier_pulls_less_than_its_size() -> None:
    def mean(last: float) -> float:
        target = np.array([0.0, 0.0, 0.0, last])
        data = Observations(design=np.ones((4, 1)), target=target, noise=np.full(4, 0.1), weight=np.ones(4))
        return float(posterior(data, np.array([1.0])).mean[0])

    assert mean(10.0) < 2.5 * mean(1.0)


def test_widths_of_priors_are_found_by_expectation_and_maximisation() -> None:
    """Five models whose kernels run 0.8 to 1.25 times as long as the law says."""
    factors = dict(zip(
        ("llama-3.1-70b", "llama-3.1-8b", "qwen3-32b", "mixtral-8x7b", "llama-3.3-70b"),
        (0.8, 0.9, 1.0, 1.1, 1.25), strict=True,
    ))  # fmt: skip
    document = overlaid(engine_file(), {"models": {m: {"kernel_time_factor": f} for m, f in factors.items()}})
    base = made_up(tps=(4,), loads=(4, 16, 64))
    runs = measured([replace(r, model=m, id=f"{m} {r.id}") for m in factors for r in base], document)
    found = fit_widths(runs, Catalog(), engine_file())
    (width,) = [v for e, v in found.log_sd.items() if e.scope == "models"]
    assert width == pytest.approx(np.std(np.log(list(factors.values()))), rel=0.35)


# ------------------------------------------------------------------------ real runs


@pytest.mark.skipif(not TRAIN.exists(), reason="../shared/measured/train.csv is not here")
def test_real_runs_of_one_place_are_predicted_better_after_calibration() -> None:
    """vLLM, Llama-3.1-70B FP8 on H100: the shipped constants are some 10 % too fast there."""
    runs = [
        r for r in read_runs(TRAIN) if (r.engine, r.hardware, r.model) == ("vllm", "h100", "llama-3.1-70b")
    ]
    found = cross_validate(fit_own(runs, Catalog()), runs, Catalog()).summary
    assert (found.left_out, found.helped) == ("deployment", True)
    assert found.tpot is not None
    assert found.tpot.after < 0.8 * found.tpot.before


@pytest.mark.skipif(not TRAIN.exists(), reason="../shared/measured/train.csv is not here")
def test_a_calibration_of_two_pools_stays_near_what_was_measured() -> None:
    """SGLang, DeepSeek-R1 over a GB200 rack: few runs must not throw predictions far off."""
    runs = [
        r
        for r in read_runs(TRAIN)
        if (r.engine, r.hardware, r.precision, r.mode) == ("sglang", "gb200", "fp8", "disaggregated")
        and r.model == "deepseek-r1"
    ][:24]
    found = cross_validate(fit_own(runs, Catalog()), runs, Catalog()).summary
    assert found.tpot is not None
    assert found.tpot.after < 1.5 * found.tpot.before


# ------------------------------------------------------------------------ the file


@pytest.fixture
def file(many: list[Run], fitted: Fit, tmp_path: Path) -> Path:
    own = OwnRuns(runs=tuple(many), left_out=(), sources=())
    checked = cross_validate(fitted, many, Catalog())
    path = tmp_path / "mine.yaml"
    path.write_text(calibration_yaml(calibration_of(fitted, checked, own, str(path)).keys))
    return path


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    found = read_calibration(file)
    assert calibration_yaml(found.keys) == file.read_text()
    assert found.keys.covers[0].runs == 27
    assert found.keys.models["llama-3.1-70b"]["kernel_time_factor"].prior_left < 0.5


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema_version: 1", "schema_version: 2", r"'schema_version' is 2; this pdplan reads up to 1"),
        ("engines:", "engine:", r"unknown key 'engine'; did you mean 'engines'"),
        ("sequence_overhead_s: {value", "sequence_overhead: {value",
         r"unknown constant 'sequence_overhead'; did you mean 'sequence_overhead_s'"),
        ("  vllm:\n", "  vlm:\n", r"'vlm' has constants, but 'covers' has no run of it; did you mean 'vllm'"),
        ("shipped: ", "shiped: ", r"unknown key 'shiped'; did you mean 'shipped'"),
        ("runs_used: 27", "runs_used: many", r"'runs_used' is the text 'many'; expected a whole number"),
        ("prior_left: 0", "prior_left: 7", r"'prior_left' is 7.*; it must be at most 1"),
        ("cross_validation:", "cross_validatoin:", r"this is no calibration; make one by `pdplan calibrate"),
        ("quantiles: [", "quantiles: [9.0, ", r"16 quantiles; expected 15"),
    ],
)  # fmt: skip
def test_a_bad_file_says_where_and_what(file: Path, old: str, new: str, expected: str) -> None:
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"mine.yaml:\d+:\d+: {expected}"):
        read_calibration(file)


PLAN = {
    "model": "llama-3.1-70b",
    "precision": "fp8",
    "colocated": {"hardware": "h100", "workers": 1, "tp": 4},
}
LOAD = {"isl": 2048, "osl": 512, "concurrency": 16}


def test_a_calibrated_prediction_is_nearer_to_the_runs(file: Path, many: list[Run]) -> None:
    truth = next(r for r in many if r.id == "tp4 c16").tpot_mean_s
    shipped = pdplan.evaluate(PLAN, **LOAD).tpot_mean_s
    own = pdplan.evaluate(PLAN, calibration=file, **LOAD).tpot_mean_s
    assert abs(own / truth - 1) < 0.05 < abs(shipped / truth - 1)


def test_what_the_calibration_does_not_cover_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--isl", "2k", "--osl", "512", "--rate", "4", "--calibration", str(file)]
    assert command(["recommend", "--model", "llama-3.1-8b", "--hardware", "h200", *flags]) == 0
    out = capsys.readouterr().out
    assert "engine constants fitted to 27 own runs" in out
    assert "holds no run of the model llama-3.1-8b" in out
    assert "holds no run of the accelerator h200" in out


def test_how_far_left_out_runs_lay_is_said_where_they_are_alike(file: Path) -> None:
    found = read_calibration(file)
    spread = found.spread("tpot", "colocated")
    assert spread is not None
    low, high = f"{spread.at(0.1):.2f}", f"{spread.at(0.9):.2f}"
    notes = list(found.notes("llama-3.1-70b", ("h100",), "vllm"))
    assert any(f"{low} to {high} times the predicted TPOT" in note for note in notes)
    assert not any("times the predicted" in note for note in found.notes("llama-3.1-8b", ("h100",), "vllm"))


def test_a_question_a_plan_and_a_budget_name_it_beside_themselves(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = file.parent / "plan.yaml"
    lines = [f"{k}: {json.dumps(v)}" for k, v in (PLAN | {"workload": LOAD}).items()]
    plan.write_text("\n".join([*lines, "calibration: mine.yaml"]) + "\n")
    assert command(["evaluate", str(plan), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["inputs"]["calibration"]["runs_used"] == 27
    jsonschema.validate(answer, json.loads((SCHEMAS / "evaluate.json").read_text()))
    plan.write_text("\n".join(lines) + "\n")
    budget = file.parent / "budget.yaml"
    tail = "  - name: a\n    plan: plan.yaml\n    limits: {tpot_mean: 1s}\n"
    budget.write_text(f"defaults: {{calibration: mine.yaml}}\ndeployments:\n{tail}")
    assert command(["check", str(budget), "--format", "json"]) == 0
    by_key = json.loads(capsys.readouterr().out)
    budget.write_text(f"deployments:\n{tail}")
    assert command(["check", str(budget), "--format", "json", "--calibration", str(file)]) == 0
    by_flag = json.loads(capsys.readouterr().out)
    assert by_key["deployments"][0]["metrics"] == by_flag["deployments"][0]["metrics"]
    assert command(["check", str(budget), "--format", "json"]) == 0
    shipped = json.loads(capsys.readouterr().out)
    assert shipped["deployments"][0]["metrics"] != by_flag["deployments"][0]["metrics"]


def test_explain_says_that_a_constant_is_the_user_s(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--calibration", str(file), "--hardware", "h100", "--isl", "2k", "--osl", "512", "--rate", "4"]
    assert command(["explain", "--model", "llama-3.1-70b", "--format", "json", *flags]) == 0
    assert "fitted to 27 own runs" in capsys.readouterr().out


@pytest.mark.parametrize("drafting", [["--speculation", "mtp"], ["--drafted", "1"]])
def test_drafts_are_accepted_as_own_runs_accepted_them(
    file: Path, capsys: pytest.CaptureFixture[str], drafting: list[str]
) -> None:
    constant = "mtp_acceptance: {value: 0.83, shipped: 0.6, prior_left: 0.2}"
    file.write_text(file.read_text().replace("  vllm:\n", f"  vllm:\n    {constant}\n", 1))
    flags = ["--model", "deepseek-r1", "--hardware", "h200", "--isl", "2k", "--osl", "512", "--rate", "4"]
    flags += [*drafting, "--format", "json"]
    accepted = {}
    for name, more in (("own", ["--calibration", str(file)]), ("shipped", [])):
        assert command(["recommend", *flags, *more]) == 0
        accepted[name] = json.loads(capsys.readouterr().out)["plan"]["speculation"]["acceptance"]
    assert accepted == {"own": 0.83, "shipped": engine_constants("vllm").mtp_acceptance}
    assert command(["explain", *flags, "--section", "question", "--calibration", str(file)]) == 0
    given = json.loads(capsys.readouterr().out)["sections"][0]["given"]
    source = next(x["source"] for x in given if x["name"] == "acceptance")
    assert "the plan, as measured: vllm, mtp_acceptance: fitted to 27 own runs" in source


def test_a_missing_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hardware", "h100", "--isl", "2k", "--osl", "512", "--rate", "4"]
    gone = str(tmp_path / "gone.yaml")
    assert command(["recommend", "--model", "llama-3.1-70b", *flags, "--calibration", gone]) == 2
    assert "--calibration: " in (said := capsys.readouterr().err)
    assert "there is no such file" in said


def test_an_engine_of_one_s_own_is_known_with_its_calibration(tmp_path: Path) -> None:
    runs = [replace(r, engine="lmdeploy") for r in made_up(**FEW)]  # type: ignore[arg-type]
    fit = fit_own(runs, Catalog())
    own = OwnRuns(runs=tuple(runs), left_out=(), sources=())
    path = tmp_path / "mine.yaml"
    keys = calibration_of(fit, cross_validate(fit, runs, Catalog()), own, str(path)).keys
    path.write_text(calibration_yaml(keys))
    assert pdplan.evaluate(PLAN | {"engine": "lmdeploy"}, calibration=path, **LOAD).tpot_mean_s > 0
    with pytest.raises(InputError, match="lmdeploy"):
        pdplan.evaluate(PLAN | {"engine": "lmdeploy"}, **LOAD)


def test_error_bars_lean_to_the_left_out_runs(file: Path) -> None:
    """27 own runs against the weight of ten: q = q_own^(27/37) · q_shipped^(10/37)."""
    own = read_calibration(file)
    found = own.spread("tpot", "colocated")
    assert found is not None
    ground = Ground(model="llama-3.1-70b", hardware="h100", engine="vllm", mode="colocated")
    for probability in (0.1, 0.9):
        shipped = error_factor("tpot", ground, probability)
        expected = found.at(probability) ** (27 / 37) * shipped ** (10 / 37)
        mixed = error_factor("tpot", replace(ground, calibration=own), probability)
        assert mixed == pytest.approx(expected, rel=1e-9)
    elsewhere = Ground(model="llama-3.1-8b", hardware="h100", engine="vllm", mode="colocated")
    assert error_factor("tpot", replace(elsewhere, calibration=own), 0.9) == error_factor(
        "tpot", elsewhere, 0.9
    )


def test_intervals_and_confidence_follow_the_calibration(
    file: Path, many: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    plan = file.parent / "plan.yaml"
    plan.write_text("\n".join(f"{k}: {json.dumps(v)}" for k, v in (PLAN | {"workload": LOAD}).items()))
    widths, factors = [], []
    for more in ([], ["--calibration", str(file)]):
        flags = ["--confidence", "0.9", "--tpot", "1s", "--format", "json", *more]
        assert command(["evaluate", str(plan), *flags]) == 0
        answer = json.loads(capsys.readouterr().out)
        bar = answer["error_bars"]["tpot_mean_s"]
        widths.append(bar["high"] / bar["low"])
        factors.append(answer["pessimistic_end"]["tpot_factor"])
    assert widths[1] < widths[0]
    assert factors[1] < factors[0]
    own = read_calibration(file)
    found = predict(many, Catalog(), own.document)
    assert inside_intervals(many, residuals(many, found), found.loaded, own).share("tpot") > 0.7


def test_quantiles_between_those_kept() -> None:
    own = OwnSpread(runs=9, quantiles=tuple(np.linspace(0.8, 1.2, 15)))
    assert own.at(0.5) == pytest.approx(1.0)
    assert own.at(0.0) == 0.8
    assert own.quantiles[3] < own.at(0.15) < own.quantiles[4]


# ------------------------------------------------------------------------ the command


def table(path: Path, runs: list[Run]) -> Path:
    head = "id,model,hardware,engine,precision,mode,isl,osl,concurrency,workers,tp,ttft_mean_s,tpot_mean_s"
    rows = [
        f"{r.id},{r.model},{r.hardware},{r.engine},{r.precision},{r.mode},{r.isl},{r.osl},{r.concurrency},1,"
        f"{r.decode.tp},{r.ttft_mean_s},{r.tpot_mean_s}"
        for r in runs
    ]
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_calibrate_writes_a_file_and_says_how_much_it_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = table(tmp_path / "runs.csv", made_up(tps=(4, 8), loads=(1, 16, 64)))
    out = tmp_path / "mine.yaml"
    assert command(["calibrate", str(runs), "-o", str(out), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    jsonschema.validate(answer, json.loads((SCHEMAS / "calibrate.json").read_text()))
    assert answer["cross_validation"]["helped"]
    written = out.read_text()
    assert command(["calibrate", str(runs), "-o", str(out)]) == 2
    assert "give --force to replace it" in capsys.readouterr().err
    assert command(["calibrate", str(runs), "-o", str(out), "--force"]) == 0
    text = capsys.readouterr().out
    assert out.read_text() == written  # same input, same bytes
    assert "Does it help?" in text
    assert "Yes:" in text
    assert command(["validate", str(runs), "--calibration", str(out), "--format", "json"]) == 0
    after = json.loads(capsys.readouterr().out)["all"]["tpot"]["median_error"]
    assert command(["validate", str(runs), "--format", "json"]) == 0
    assert after < json.loads(capsys.readouterr().out)["all"]["tpot"]["median_error"] / 2


def test_runs_that_cannot_be_used_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [replace(r, tpot_mean_s=0.9) for r in made_up(**FEW)]  # type: ignore[arg-type]
    assert command(["calibrate", str(table(tmp_path / "runs.csv", runs))]) == 2
    assert "none of 2 runs can be used: its TPOT is not in" in capsys.readouterr().err


def test_an_engine_without_constants_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [replace(r, engine="vlm") for r in made_up(**FEW)]  # type: ignore[arg-type]
    assert command(["calibrate", str(table(tmp_path / "runs.csv", runs)), "--format", "json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "'vlm' has no constants of its own" in note
    assert "is it 'vllm'?" in note


def test_engines_may_have_different_constants() -> None:
    runs = made_up(**FEW)
    both = [*runs, *(replace(r, id=f"{r.id} t", engine="trtllm") for r in runs)]
    names = {(p.owner, p.effect.name) for p in fit_own(both, Catalog()).parameters}
    assert ("trtllm", "operation_launch_s") in names
    assert ("vllm", "operation_launch_s") not in names


def test_times_in_another_unit_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = made_up(**FEW)
    runs = [good, replace(other, tpot_mean_s=other.tpot_mean_s / 1000)]
    assert command(["calibrate", str(table(tmp_path / "runs.csv", runs)), "--format", "json"]) == 0
    (left_out,) = json.loads(capsys.readouterr().out)["left_out"]
    assert left_out["run"] == other.id
    assert "another unit of time?" in left_out["reason"]
