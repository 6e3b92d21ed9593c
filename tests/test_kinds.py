"""The best plan of another kind: found exactly, and said why it comes second."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.plan import Plan
from pdplan.search import recommend
from pdplan.search.kinds import differences, kind_of
from tests.made_up import COLOCATED_PLAN, DISAGGREGATED_PLAN
from tests.test_search import DENSE, MIXTRAL, brute_force_cost


def _not_of_kind(plan: Plan):
    """Rows that differ in kind from a plan, told from (tp, pp, dp, ep, ...) by hand."""

    def other(hardware: dict[str, str], rows: dict[str, np.ndarray]) -> np.ndarray:
        if set(hardware) != set(plan.pools):
            return np.True_
        differs = np.False_
        for role, pool in plan.pools.items():
            _, pp, dp, *_ = rows[role].T
            differs = differs | (hardware[role] != pool.hardware)
            differs = differs | ((pp > 1) != (pool.pp > 1)) | ((dp > 1) != (pool.dp > 1))
        return differs

    return other


@settings(max_examples=8)
@given(
    rate=st.floats(0.5, 25), isl=st.integers(300, 5000), ttft=st.floats(0.2, 3), tpot=st.floats(0.012, 0.1)
)
def test_of_a_dense_model_it_costs_what_brute_force_finds(rate, isl, ttft, tpot):
    hardware = ("h100", "l40s")
    w = world(("llama-3.1-8b",), hardware)
    q = question(
        "llama-3.1-8b", hardware, isl=isl, osl=300, rate=rate, ttft=ttft, tpot=tpot, max_gpus_per_worker=2
    )
    found = recommend(q, w)
    if found.best is None:
        return
    brute = brute_force_cost(w, q, DENSE, 12, _not_of_kind(found.best.plan))
    if found.best_other_kind is None:
        assert brute == np.inf
    elif all(p.workers <= 12 for p in found.best_other_kind.candidate.plan.pools.values()):
        assert found.best_other_kind.candidate.metrics.usd_per_h == pytest.approx(brute, rel=1e-9)
    else:
        assert found.best_other_kind.candidate.metrics.usd_per_h <= brute * (1 + 1e-9)


@pytest.mark.parametrize(("rate", "mode"), [(4.0, "any"), (9.0, "disaggregated"), (6.0, "colocated")])
def test_of_a_mixture_of_experts_it_costs_what_brute_force_finds(rate, mode):
    w = world(("mixtral-8x7b",), ("h200",))
    q = question(
        *("mixtral-8x7b", ("h200",)),
        isl=2000,
        osl=300,
        rate=rate,
        ttft=1,
        tpot=0.03,
        max_gpus_per_worker=4,
        colocated_hardware=() if mode == "disaggregated" else ("h200",),
        prefill_hardware=() if mode == "colocated" else ("h200",),
        mode=mode,
    )
    found = recommend(q, w)
    assert found.best is not None
    assert found.best_other_kind is not None
    other = found.best_other_kind.candidate
    assert all(p.workers <= 5 for p in other.plan.pools.values())
    brute = brute_force_cost(w, q, MIXTRAL, 5, _not_of_kind(found.best.plan))
    assert other.metrics.usd_per_h == pytest.approx(brute, rel=1e-9)


def test_what_differs_is_named():
    assert differences(kind_of(DISAGGREGATED_PLAN), kind_of(COLOCATED_PLAN)) == ("mode",)
    found = recommend(
        question("llama-3.1-8b", ("h100", "h200"), isl=2000, osl=300, rate=20, ttft=1, tpot=0.04),
        world(("llama-3.1-8b",), ("h100", "h200")),
    )
    other = found.best_other_kind
    assert found.best is not None
    assert other is not None
    assert kind_of(other.candidate.plan) != kind_of(found.best.plan)
    assert other.differs_in
    assert other.why


def test_a_dearer_plan_says_what_it_takes_more():
    q = question("llama-3.1-8b", ("h100",), isl=2000, osl=300, rate=2, ttft=1, tpot=0.05)
    found = recommend(q, world(("llama-3.1-8b",), ("h100",)))
    assert found.best_other_kind is not None
    assert found.best_other_kind.differs_in == ("mode",)
    assert "it takes 2 h100 instead of 1 h100" in found.best_other_kind.why


def test_goodput_has_one_too():
    q = question("llama-3.1-8b", ("h100",), isl=2000, osl=300, rate=None, max_gpus=4, ttft=1, tpot=0.05)
    found = recommend(q, world(("llama-3.1-8b",), ("h100",)))
    assert found.best is not None
    assert found.best_other_kind is not None
    other = found.best_other_kind.candidate
    assert other.metrics.requests_per_s <= found.best.metrics.requests_per_s
    assert kind_of(other.plan) != kind_of(found.best.plan)
