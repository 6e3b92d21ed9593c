"""The most requests that a budget serves: against exhaustive enumeration, and however large it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.compose import World, evaluate_plan
from pdplan.evaluate import meets
from pdplan.question import Question, Recommendation
from pdplan.search import recommend
from pdplan.step import kernels as step_kernels
from pdplan.workload import MAX_RATE_PER_S
from tests.test_kinds import _not_of_kind
from tests.test_search import DENSE, MIXTRAL, brute_force_cost

Counts = Callable[[dict[str, str], dict[str, np.ndarray]], np.ndarray]
A_LITTLE = 1e-5
"""Rates are found to a millionth, from below; what serves this share more would have been found."""


def _within(w: World, q: Question) -> Counts:
    """Rows of (tp, pp, dp, ep, workers, ...) of every role that keep the budget together."""

    def kept(hardware: dict[str, str], rows: dict[str, np.ndarray]) -> np.ndarray:
        each = {
            role: np.prod(many[:, :3], axis=1) * (many[:, 4] + q.spare_workers) for role, many in rows.items()
        }
        gpus = sum(each.values(), start=np.zeros(()))
        usd = sum((n * w.price(hardware[role]) for role, n in each.items()), start=np.zeros(()))
        return (gpus <= (q.max_gpus or np.inf)) & (usd <= (q.max_usd_per_h or np.inf) * (1 + 1e-9))

    return kept


def _serves(w: World, q: Question, rate: float, layouts: list[tuple[int, ...]], counts_as: Counts) -> bool:
    """Whether anything within the budget serves a rate, by trying everything."""
    within = _within(w, q)
    most = 12 if len(layouts) < 5 else 6
    asked = replace(q, workload=q.workload.at_rate(rate))
    cost = brute_force_cost(w, asked, layouts, most, lambda h, r: within(h, r) & counts_as(h, r))
    return bool(np.isfinite(cost))


def _everything(hardware: dict[str, str], rows: dict[str, np.ndarray]) -> np.ndarray:
    return np.True_


def _is_the_most(found: Recommendation, layouts: list[tuple[int, ...]]) -> None:
    """Nothing in the budget serves more than the best, nor of another kind more than the best of those."""
    w, q = found.world, found.question
    if found.best is None:
        assert not _serves(w, q, 1e-3, layouts, _everything)
        return
    rate = found.best.metrics.requests_per_s
    assert np.all(meets(evaluate_plan(w, found.best.plan, q.workload.at_rate(rate), q.slo), q.slo))
    assert not _serves(w, q, rate * (1 + A_LITTLE), layouts, _everything)
    other = found.best_other_kind
    if other is not None:
        rate = other.candidate.metrics.requests_per_s * (1 + A_LITTLE)
    assert not _serves(w, q, max(rate, 1e-3) if other else 1e-3, layouts, _not_of_kind(found.best.plan))


@settings(max_examples=5)
@given(
    isl=st.integers(200, 6000),
    osl=st.integers(50, 800),
    ttft=st.floats(0.15, 3),
    tpot=st.floats(0.012, 0.1),
    budget=st.one_of(
        st.fixed_dictionaries({"max_gpus": st.integers(1, 12)}),
        st.fixed_dictionaries({"max_usd_per_h": st.floats(1, 18)}),
        st.fixed_dictionaries({"max_gpus": st.integers(2, 12), "max_usd_per_h": st.floats(4, 18)}),
        st.fixed_dictionaries({"max_gpus": st.integers(3, 12), "spare_workers": st.just(1)}),
    ),
)
def test_of_a_dense_model_nothing_in_the_budget_serves_more(isl, osl, ttft, tpot, budget):
    hardware = ("h100", "l40s")
    w = world(("llama-3.1-8b",), hardware, prices={"h100": 3.0, "l40s": 1.5})
    limits = {"ttft": ttft, "tpot": tpot, "max_gpus_per_worker": 2}
    q = question("llama-3.1-8b", hardware, isl=isl, osl=osl, rate=None, **limits, **budget)
    _is_the_most(recommend(q, w), DENSE)


@pytest.mark.parametrize(("max_gpus", "latency_s"), [(6, None), (6, 9.0)])
def test_of_a_mixture_of_experts_nothing_in_the_budget_serves_more(max_gpus, latency_s):
    """With a limit on the whole request, too: more decode workers then do more than serve more."""
    w = world(("mixtral-8x7b",), ("h200",))
    limits = {"ttft": 1 if latency_s is None else None, "tpot": 0.03 if latency_s is None else None}
    q = question(
        "mixtral-8x7b",
        ("h200",),
        isl=2000,
        osl=300,
        rate=None,
        max_gpus=max_gpus,
        request_latency_s=latency_s,
        max_gpus_per_worker=4,
        **limits,
    )
    _is_the_most(recommend(q, w), MIXTRAL)


@pytest.mark.parametrize("osl", [20, 300])
def test_without_a_limit_on_ttft_prefill_is_not_loaded_until_its_queue_never_ends(osl):
    """A hundredth less than the most where prefill binds, the most where decode does; on the L40S prompts of
    1,500 tokens fill steps of 2,048 by threes, so that batches of more prompts than a step holds pay."""
    w = world(("llama-3.1-8b",), ("l40s",), prices={"l40s": 1.5})
    limits = {"ttft": None, "tpot": 0.06, "max_gpus_per_worker": 2, "max_gpus": 6}
    q = question("llama-3.1-8b", ("l40s",), isl=1500, osl=osl, rate=None, **limits)
    best = recommend(q, w).best
    rate, parts = best.metrics.requests_per_s, best.metrics.parts
    assert parts["wait for prefill"] < 60 * parts["prefill"]
    again = evaluate_plan(w, best.plan, q.workload.at_rate(rate), q.slo)
    assert again.ttft_mean_s == pytest.approx(best.metrics.ttft_mean_s, rel=1e-9)
    assert _serves(w, q, rate, DENSE, _everything)
    assert not _serves(w, q, rate / 0.99 * (1 + A_LITTLE), DENSE, _everything)


ASKED = {"isl": 4096, "osl": 1024, "rate": None, "ttft": 2.0, "tpot": 0.04}


def _steps_evaluated(monkeypatch: pytest.MonkeyPatch, q: Question, w: World) -> tuple[int, Recommendation]:
    """Calls of the laws of a step that an answer takes: what the time of a search is made of."""
    calls = 0
    plain = step_kernels.kernel_time

    def counted(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return plain(*args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(step_kernels, "kernel_time", counted)
        found = recommend(q, w)
    return calls, found


@pytest.mark.parametrize("budget", ["max_gpus", "max_usd_per_h"])
def test_a_hundred_thousand_accelerators_take_little_longer_than_eight(monkeypatch, budget):
    w = world(("gpt-oss-120b",), ("h200",), prices={"h200": 3.5})
    price = 1.0 if budget == "max_gpus" else 3.5
    few, many = (
        _steps_evaluated(
            monkeypatch,
            question("gpt-oss-120b", ("h200",), **ASKED, **{budget: type(price)(n * price)}),  # type: ignore[arg-type]
            w,
        )
        for n in (8, 100_000)
    )
    assert few[1].best is not None
    assert many[1].best is not None
    assert many[1].best.metrics.gpus > 99_000
    # Many workers share their queues: each serves a little more than eight accelerators' do.
    assert 1.0 < many[1].best.metrics.requests_per_s / (few[1].best.metrics.requests_per_s * 12_500) < 1.2
    assert many[0] < 1.5 * few[0]


def test_a_budget_without_end_is_planned_up_to_the_highest_rate_there_is():
    w = world(("gpt-oss-120b",), ("h200",), prices={"h200": 3.5})
    found = recommend(question("gpt-oss-120b", ("h200",), **ASKED, max_usd_per_h=1e9), w)
    assert found.best is not None
    assert found.best.metrics.requests_per_s == pytest.approx(MAX_RATE_PER_S)
    # No more is bought than that takes.
    assert found.best.metrics.usd_per_h < 2e7
    assert any("no rate above 10,000,000" in note for note in found.notes)


def test_what_the_most_requests_do_not_need_is_not_bought():
    """One decode worker of four accelerators sets the rate: prefill has room to spare in the budget."""
    w = world(("llama-3.1-70b",), ("h100",))
    for gpus in range(9, 16):
        q = question(
            "llama-3.1-70b", ("h100",), isl=256, osl=2000, rate=None, ttft=2, tpot=0.03, max_gpus=gpus
        )
        best = recommend(q, w).best
        assert best is not None
        asked = replace(q, workload=q.workload.at_rate(best.metrics.requests_per_s))
        cheapest = recommend(asked, w).best
        assert cheapest is not None
        assert best.metrics.usd_per_h == pytest.approx(cheapest.metrics.usd_per_h)
