"""Objectives, spare workers and headroom: exact, and the plan that is printed is the plan that is meant."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.catalog.store import Catalog
from pdplan.cli import app
from pdplan.compose import World, evaluate_plan
from pdplan.errors import InputError
from pdplan.evaluate import meets
from pdplan.inputs import given as flags
from pdplan.inputs import question_from
from pdplan.plan import Colocated, Disaggregated, Plan, PoolPlan, Serving
from pdplan.question import Question, Recommendation
from pdplan.search import recommend
from pdplan.search.robust import with_spare_workers
from pdplan.workload import Workload
from tests.test_report import valid
from tests.test_search import DENSE, brute_force_cost

MODEL, HARDWARE = "llama-3.1-8b", ("h100", "l40s")
BASE = {"isl": 2000, "osl": 300, "rate": 20.0, "ttft": 1.0, "tpot": 0.04, "max_gpus_per_worker": 2}


def ask(**changes: object) -> Question:
    return question(MODEL, HARDWARE, **(BASE | changes))


def answer(**changes: object) -> Recommendation:
    return recommend(ask(**changes), world((MODEL,), HARDWARE))


def _amount(found: Recommendation, field: str) -> float:
    return getattr(found.best.metrics, field) if found.best else math.inf


# ------------------------------------------------------------------------ objectives


@pytest.mark.parametrize("rate", [3.0, 20.0, 75.0])
def test_each_objective_is_least_under_its_own_name(rate: float) -> None:
    fields = {"cost": "usd_per_h", "gpus": "gpus", "energy": "power_kw"}
    found = {goal: answer(rate=rate, objective=goal) for goal in fields}
    for goal, field in fields.items():
        for other in fields:
            assert _amount(found[goal], field) <= _amount(found[other], field) * (1 + 1e-6)


@pytest.mark.parametrize("goal", ["gpus", "energy"])
@pytest.mark.parametrize("rate", [2.0, 30.0])
def test_an_objective_is_exact(goal: str, rate: float) -> None:
    """GPUs and watts as prices give the brute force's optimum in them."""
    w = world((MODEL,), HARDWARE)
    units = {hw: 1.0 if goal == "gpus" else w.watts(hw) / 1e3 for hw in HARDWARE}
    counted = World(models=w.models, accelerators=w.accelerators, prices=units)
    best = brute_force_cost(counted, ask(rate=rate), DENSE, 8)
    field = "gpus" if goal == "gpus" else "power_kw"
    assert _amount(answer(rate=rate, objective=goal), field) == pytest.approx(best, rel=1e-9)


def test_among_plans_of_as_many_gpus_the_cheaper_accelerator_wins() -> None:
    hardware = ("h100", "h200")
    for cheap, dear in itertools.permutations(hardware):
        w = world((MODEL,), hardware, prices={cheap: 1.0, dear: 9.0})
        q = question(MODEL, hardware, isl=1000, osl=100, rate=1, ttft=2, tpot=0.1, objective="gpus")
        found = recommend(q, w)
        assert found.best is not None
        assert found.best.metrics.gpus == 1
        assert [p.hardware for p in found.best.plan.pools.values()] == [cheap]


def test_energy_needs_a_power() -> None:
    w = world((MODEL,), ("h100", "tpu-v5e"))
    q = question(MODEL, ("h100", "tpu-v5e"), isl=1000, osl=100, rate=1, objective="energy")
    with pytest.raises(InputError, match=r"power_w for tpu-v5e; leave it out"):
        recommend(q, w)


def test_the_certificate_counts_what_the_objective_counts() -> None:
    found = answer(objective="gpus", certify=True)
    assert found.certificate is not None
    assert found.certificate.lower_bound <= _amount(found, "gpus") * (1 + 1e-9)
    assert found.certificate.lower_bound > 0.5 * _amount(found, "gpus")


# ------------------------------------------------------------------------ spare workers


def _plans(w: World, q: Question, most: int) -> list[tuple[Plan, Plan]]:
    """Every plan of up to `most` workers a pool, with and without spares; layouts by hand."""
    serving = vars(Serving(model=q.model, precision=q.precision, kv_precision="bf16", engine=q.engine))
    shapes = [(hw, tp, pp) for hw in HARDWARE for tp, pp, _, _ in DENSE]
    pools = [
        PoolPlan(hardware=hw, tp=tp, pp=pp, workers=n) for hw, tp, pp in shapes for n in range(1, most + 1)
    ]
    prompts = [b for b in (1, 2, 4) if b == 1 or b * q.workload.new_tokens <= 8192]
    found: list[Plan] = [Colocated(**serving, colocated=p) for p in pools]
    found += [
        Disaggregated(
            **serving,
            prefill=PoolPlan(**{**vars(p), "max_batch": b * p.pp}),
            decode=d,
        )
        for p in pools
        for b in prompts
        for d in pools
    ]
    return [(with_spare_workers(p, q.spare_workers), p) for p in found]


@pytest.mark.parametrize(("rate", "spare", "headroom"), [(9.0, 1, 0.0), (14.0, 2, 0.2), (30.0, 1, 0.3)])
def test_spare_workers_cost_no_more_and_no_less_than_brute_force(
    rate: float, spare: int, headroom: float
) -> None:
    """Cheapest over whole plans, the spare workers of big types paid for as such."""
    w = world((MODEL,), HARDWARE)
    q = ask(rate=rate, spare_workers=spare, headroom=headroom)
    asked = Workload(isl=2000, osl=300, rate=rate / (1 - headroom))
    best = math.inf
    priced = sorted(
        (sum(p.gpus * w.price(p.hardware) for p in whole.pools.values()), k, left)
        for k, (whole, left) in enumerate(_plans(w, q, 6))
    )
    for cost, _, left in priced:
        if meets(evaluate_plan(w, left, asked, q.slo), q.slo):
            best = cost
            break
    found = recommend(q, w)
    assert _amount(found, "usd_per_h") == pytest.approx(best, rel=1e-9)


@settings(max_examples=10)
@given(
    rate=st.floats(0.5, 80),
    spare=st.integers(0, 3),
    headroom=st.sampled_from([0.0, 0.1, 0.5]),
    mode=st.sampled_from(["any", "colocated", "disaggregated"]),
)
def test_a_robust_plan_is_evaluated_with_all_its_workers_and_holds_without_the_spare_ones(
    rate: float, spare: int, headroom: float, mode: str
) -> None:
    w = world((MODEL,), HARDWARE)
    q = ask(rate=rate, spare_workers=spare, headroom=headroom, mode=mode)
    found = recommend(q, w)
    assert found.best is not None
    for candidate in (found.best, *found.alternatives):
        alone = evaluate_plan(w, candidate.plan, q.workload, q.slo)
        for name, value in vars(alone).items():
            assert vars(candidate.metrics)[name] == pytest.approx(value, rel=1e-7, nan_ok=True), name
        left = with_spare_workers(candidate.plan, -spare)
        for load in (q.workload, q.workload.at_rate(rate / (1 - headroom))):
            assert meets(evaluate_plan(w, left, load, q.slo), q.slo)
        assert max(candidate.metrics.utilisation.values()) <= 1 - headroom + 1e-9
    assert (found.robustness is None) == (spare == 0 and headroom == 0)
    if found.robustness:
        assert found.robustness.sizing_rate == pytest.approx(rate / (1 - headroom))
        assert meets(found.robustness.with_failures, q.slo)
        assert meets(found.robustness.at_sizing_rate, q.slo)


def test_more_spares_and_more_headroom_never_cost_less() -> None:
    costs = [_amount(answer(spare_workers=n), "usd_per_h") for n in (0, 1, 2, 4)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]
    costs = [_amount(answer(headroom=h), "usd_per_h") for h in (0, 0.1, 0.3, 0.6)]
    assert costs == sorted(costs)
    assert _amount(answer(headroom=0.5), "usd_per_h") == _amount(answer(rate=40.0), "usd_per_h")


def test_spare_workers_count_against_the_limit_of_gpus() -> None:
    plain = _amount(answer(), "gpus")
    assert answer(max_gpus=int(plain)).best is not None
    found = answer(max_gpus=int(plain), spare_workers=2)
    assert found.best is None
    assert found.infeasible is not None
    told = found.infeasible.relax
    assert "--spare 0 --headroom 0" in told
    needed = next(int(t.split()[1]) for t in told if t.startswith("--max-gpus"))
    assert needed > plain
    assert answer(max_gpus=needed, spare_workers=2).best is not None


def test_goodput_leaves_spares_and_headroom_out() -> None:
    w = world((MODEL,), HARDWARE)
    q = ask(rate=None, max_gpus=8, spare_workers=1, headroom=0.2)
    most = recommend(q, w)
    assert most.best is not None
    assert most.best.metrics.gpus <= 8
    rate = most.best.metrics.requests_per_s
    robust = {"max_gpus": 8, "spare_workers": 1, "headroom": 0.2}
    assert answer(rate=rate * 0.999, **robust).best is not None
    assert answer(rate=rate * 1.01, **robust).best is None


def test_the_certificate_is_below_a_robust_plan() -> None:
    found = answer(spare_workers=1, headroom=0.2, certify=True)
    assert found.certificate is not None
    cost = _amount(found, "usd_per_h")
    assert _amount(answer(), "usd_per_h") / 2 < found.certificate.lower_bound <= cost * (1 + 1e-9)


# ------------------------------------------------------------------------ in and out

ASKED = {"model": MODEL, "hardware": ["h100"], "isl": "2k", "osl": "256", "rate": "4"}


@pytest.mark.parametrize(("text", "spare"), [("1", 1), ("n+1", 1), ("N+2", 2), ("0", 0)])
def test_spare_workers_are_read(text: str, spare: int) -> None:
    asked = question_from(flags({**ASKED, "spare": text, "headroom": "20%", "objective": "GPUs"}), Catalog())
    assert asked.question.spare_workers == spare
    assert asked.question.headroom == 0.2
    assert asked.question.objective == "gpus"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("spare", "n+x", "--spare: 'x' is not a number; expected 0 to 1,000"),
        ("spare", "1.5", "is not a whole number"),
        ("spare", "-1", "out of range"),
        ("headroom", "95%", "--headroom: 95% is out of range; expected 0 to 90%"),
        ("headroom", "20", "did you mean '20%'"),
        ("objective", "enrgy", "did you mean 'energy'?"),
    ],
)
def test_what_is_wrong_is_told(key: str, value: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        question_from(flags({**ASKED, key: value}), Catalog())
    assert words in str(caught.value)


def _run(capfd: pytest.CaptureFixture[str], *more: str) -> str:
    args = [f"--{k}={v[0] if isinstance(v, list) else v}" for k, v in ASKED.items()]
    assert app.run(["recommend", *args, "--ttft=1s", "--tpot=30ms", *more]) == 0
    return capfd.readouterr().out


def test_text_and_json_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    text = _run(capfd, "--spare", "n+1", "--headroom", "20%", "--objective", "energy")
    assert "; least power; sized for 5.00 req/s (20.0% headroom) with 1 worker of each pool down" in text
    assert "1 worker of each pool down, headroom used up" in text
    data = json.loads(_run(capfd, "--spare", "n+1", "--headroom", "20%", "--format", "json"))
    valid("recommend", data)
    assert (data["inputs"]["spare_workers"], data["inputs"]["headroom"]) == (1, 0.2)
    robust = data["robustness"]
    assert robust["sizing_rate_requests_per_s"] == 5
    assert robust["with_failures"]["gpus"] < data["metrics"]["gpus"]
    assert robust["with_failures"]["requests_per_s"] == data["metrics"]["requests_per_s"] == 4


def test_without_them_nothing_changes(capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(capfd) == _run(capfd, "--spare", "0", "--headroom", "0%", "--objective", "cost")
    assert json.loads(_run(capfd, "--format", "json"))["robustness"] is None


def test_a_spare_big_worker_costs_more_so_smaller_ones_win() -> None:
    """A single worker of two GPUs serves; with a spare for each, single-GPU workers may do it for less."""
    sizes = {
        spare: np.mean([p.gpus_per_worker for p in found.best.plan.pools.values()])
        for spare in (0, 3)
        if (found := answer(spare_workers=spare)).best
    }
    assert sizes[3] <= sizes[0]


def test_spares_that_leave_none_to_serve_are_told_so() -> None:
    found = answer(rate=None, max_gpus=2, spare_workers=2)
    assert found.infeasible is not None
    assert found.infeasible.binding.startswith("2 accelerators do not hold 2 spare workers of each pool")
    assert answer(rate=None, max_gpus=2).best is not None
