"""What inputs move and where the answer turns, against fresh searches, brute force and plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from helpers import question, world

from pdplan.compose import World, evaluate_plan
from pdplan.efficiency import Engine
from pdplan.errors import InputError
from pdplan.evaluate import meets
from pdplan.question import Question, Recommendation
from pdplan.search import recommend
from pdplan.search.kinds import kind_of
from pdplan.search.objective import serves
from pdplan.search.what_if.answers import Answers
from pdplan.search.what_if.breakeven import BreakEven, Turn, break_even, used_for
from pdplan.search.what_if.sensitivity import Sensitivity, Swing, sensitivity
from pdplan.search.what_if.varied import ENGINE_CONSTANTS, VariedInput, chosen_inputs, varied_inputs
from pdplan.uncertainty import slo_of
from tests.test_search import DENSE, brute_force_cost

MODEL, HARDWARE = "llama-3.1-8b", ("h100", "l40s")
ASIDE = (0.99, 1.01)


def ask(**changes: object) -> Question:
    base = {"isl": 2000, "osl": 300, "rate": 9.0, "ttft": 1.0, "tpot": 0.02, "max_gpus_per_worker": 2}
    return question(MODEL, HARDWARE, **(base | changes))


@pytest.fixture(scope="module")
def found() -> Recommendation:
    return recommend(ask(), world((MODEL,), HARDWARE))


@pytest.fixture(scope="module")
def moves(found: Recommendation) -> Sensitivity:
    return sensitivity(found)


@pytest.fixture(scope="module")
def turns(found: Recommendation) -> BreakEven:
    return break_even(found, only=["rate", "tpot", "ttft", "isl", "osl"])


def swing(moves: Sensitivity, key: str) -> Swing:
    return next(s for s in moves.swings if s.input.key == key)


def find_input(key: str, found: Recommendation) -> VariedInput:
    return chosen_inputs(found, [key])[0]


def cost(q: Question, w: World) -> float:
    best = recommend(q, w).best
    return best.metrics.usd_per_h if best else math.inf


# ------------------------------------------------------------------------ inputs


def test_every_input_is_put_where_it_was_read(found):
    """After an input is put to a value, reading the inputs anew gives that value and moves no other."""
    w, plans = found.world, [found.best.plan, found.best_other_mode.plan]
    q = replace(
        found.question, workload=replace(found.question.workload, prefix_reuse=0.3),
        slo=replace(found.question.slo, request_latency_s=9.0),
    )  # fmt: skip
    before = {i.key: i.value for i in varied_inputs(q, w, plans)}
    assert {"rate", "isl", "osl", "prefix_reuse", "ttft", "tpot", "latency", "network"} <= before.keys()
    assert {"price.h100", "price.l40s", "memory_bandwidth.h100", "peak_flops.h100"} <= before.keys()
    for varied in varied_inputs(q, w, plans):
        if varied.key in ("network", "engine.expert_skew"):  # factors beside the entries
            continue
        value = varied.at(1.2)
        after = {i.key: i.value for i in varied_inputs(*varied.put(q, w, value), plans)}
        assert after.pop(varied.key) == pytest.approx(value)
        assert after == pytest.approx({k: v for k, v in before.items() if k != varied.key})


def test_a_share_has_no_more_than_all_and_tokens_are_whole(found):
    workload = replace(found.question.workload, prefix_reuse=0.9, isl=1001)
    changed = replace(found, question=replace(found.question, workload=workload))
    assert find_input("prefix_reuse", changed).at(1.2) == 0.999
    assert find_input("isl", changed).at(0.8) == 801


def test_engine_constants_are_fields_of_the_engine():
    assert {name for name, _ in ENGINE_CONSTANTS} <= Engine.__dataclass_fields__.keys()


def test_the_network_is_varied_where_it_acts():
    q = question(MODEL, ("h100",), isl=8000, osl=50, rate=3, ttft=1, tpot=0.05, mode="disaggregated")
    found = recommend(q, world((MODEL,), ("h100",)))
    varied = find_input("network", found)
    _, slow = varied.put(q, found.world, varied.value / 2)
    plan = found.best.plan
    times = [evaluate_plan(w, plan, q.workload, q.slo).kv_transfer_mean_s for w in (found.world, slow)]
    assert times[1] == pytest.approx(2 * times[0], rel=0.2)
    assert times[1] > 1.5 * times[0]


# ------------------------------------------------------------------------ sensitivity


@pytest.mark.parametrize("key", ["rate", "ttft", "tpot", "price.h100", "price.l40s", "isl"])
def test_an_end_costs_what_brute_force_finds(moves, found, key):
    varied = swing(moves, key).input
    for end in swing(moves, key).ends:
        q, w = varied.put(found.question, found.world, end.value)
        brute = brute_force_cost(w, q, DENSE, 8)
        assert end.amount == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize(
    "key", ["memory_bandwidth.h100", "memory_size.h100", "engine.kernel_time_factor", "osl"]
)
def test_an_end_costs_what_a_fresh_search_finds(moves, found, key):
    varied = swing(moves, key).input
    for end in swing(moves, key).ends:
        fresh = cost(*varied.put(found.question, found.world, end.value))
        assert end.amount == pytest.approx(fresh, rel=1e-9)


def test_more_of_what_is_harder_never_costs_less(moves):
    for s in moves.swings:
        if s.input.harder:
            easier, harder = s.ends if s.input.harder > 0 else reversed(s.ends)
            assert easier.amount <= moves.amount * (1 + 1e-9), s.input.key
            assert moves.amount <= harder.amount * (1 + 1e-9), s.input.key


def test_they_are_sorted_by_what_they_move(moves):
    widths = [s.width(moves.amount) for s in moves.swings]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0


def test_one_price_alone_moves_the_cost_by_its_own_share():
    q = question(MODEL, ("h100",), isl=2000, osl=300, rate=9, ttft=1, tpot=0.02, max_gpus_per_worker=2)
    moves = sensitivity(recommend(q, world((MODEL,), ("h100",))), change=0.35, only=["price.h100"])
    s = swing(moves, "price.h100")
    assert s.low.amount == pytest.approx(0.65 * moves.amount)
    assert s.high.amount == pytest.approx(1.35 * moves.amount)
    assert s.holds_to is None
    assert moves.kind_changes(s.low) == moves.kind_changes(s.high) == ()


def test_fractions_are_a_bound_that_is_proportional_to_the_rate(moves):
    assert moves.fractional <= moves.amount
    for s in moves.swings:
        assert all(end.fractional <= end.amount * (1 + 1e-9) for end in s.ends), s.input.key
    assert swing(moves, "rate").low.fractional == pytest.approx(0.8 * moves.fractional)
    assert swing(moves, "rate").high.fractional == pytest.approx(1.2 * moves.fractional)


def test_the_plan_holds_as_far_as_is_said_and_no_further(moves, found):
    plan = found.best.plan
    checked = 0
    for s in moves.swings:
        if s.holds_to in (None, 0.0, math.inf):
            continue
        beyond = 1.01 if s.input.harder > 0 else 1 / 1.01
        for value, holds in ((s.holds_to, True), (s.holds_to * beyond, False)):
            q, w = s.input.put(found.question, found.world, value)
            assert bool(meets(evaluate_plan(w, plan, q.workload, q.slo), q.slo)) == holds, s.input.key
        checked += 1
    assert checked >= 5


def test_another_kind_is_named_only_where_todays_costs_more(moves, found):
    for s in moves.swings:
        for end in s.ends:
            if moves.kind_changes(end):
                assert kind_of(end.best.plan) != kind_of(found.best.plan)
                assert not end.amount_of_kind <= end.amount


def test_an_end_without_any_plan_is_told_as_such():
    w = world((MODEL,), ("l40s",))
    q = question(MODEL, ("l40s",), isl=2000, osl=300, rate=1, tpot=0.001, max_gpus_per_worker=1)
    missed = recommend(q, w).infeasible
    assert missed is not None
    near = replace(q.slo, tpot_s=missed.nearest.metrics.tpot_slo_s * 1.1)
    moves = sensitivity(recommend(replace(q, slo=near), w), only=["tpot", "isl"])
    s = moves.swings[0]
    assert s.input.key == "tpot"
    assert math.isnan(s.low.amount)
    assert s.low.best is None
    assert s.width(moves.amount) == math.inf


def test_goodput_moves_too():
    q = question(MODEL, ("h100",), isl=2000, osl=300, rate=None, max_gpus=4, ttft=1, max_gpus_per_worker=1)
    found = recommend(q, world((MODEL,), ("h100",)))
    moves = sensitivity(found, only=["max_gpus", "isl"])
    assert moves.counted == "goodput"
    assert moves.amount == found.best.metrics.requests_per_s
    more = swing(moves, "max_gpus").high
    assert more.value == 5
    five = recommend(replace(q, max_gpus=5), found.world).best
    assert more.amount == pytest.approx(five.metrics.requests_per_s)
    assert "price.h100" not in {varied.key for varied in chosen_inputs(found)}


def test_spare_workers_are_paid_for_at_every_end():
    q = ask(spare_workers=1, headroom=0.1)
    w = world((MODEL,), HARDWARE)
    s = swing(sensitivity(recommend(q, w), only=["rate"]), "rate")
    for end in s.ends:
        assert end.amount == pytest.approx(cost(*s.input.put(q, w, end.value)))


def test_without_a_plan_there_is_nothing_to_vary():
    found = recommend(ask(tpot=0.0001), world((MODEL,), HARDWARE))
    for analyse in (sensitivity, break_even):
        with pytest.raises(InputError, match="no plan to vary: TPOT"):
            analyse(found)


def test_worker_types_are_remembered_and_change_nothing(found):
    """One memory for questions that differ in everything an analysis varies: the answers of fresh ones."""
    answers = Answers(kind_of(found.best.plan))
    for key in ("tpot", "rate", "memory_bandwidth.h100", "isl", "price.l40s", "engine.kernel_time_factor"):
        varied = find_input(key, found)
        for factor in (0.7, 1.3):
            q, w = varied.put(found.question, found.world, varied.at(factor))
            fresh = Answers(kind_of(found.best.plan)).answer(q, w)
            assert answers.answer(q, w) == fresh


def test_a_plan_that_is_known_spares_work_and_changes_no_answer(found):
    """The plan of a harder place is no dearer where it is easier: what is cheaper is found all the same."""
    answers, rate = Answers(kind_of(found.best.plan)), find_input("rate", found)
    kept = 0
    for factor in (0.3, 0.6, 0.8, 0.97, 1.0, 1.4, 2.2):
        q, w = rate.put(found.question, found.world, rate.at(factor))
        harder = answers.optimum(*rate.put(q, w, rate.at(factor * 1.05)))
        fresh, known = answers.optimum(q, w), answers.optimum(q, w, harder)
        assert known.metrics.usd_per_h == pytest.approx(fresh.metrics.usd_per_h, rel=1e-9)
        assert known.plan.mode == fresh.plan.mode
        kept += known is harder
    assert kept >= 3


def test_a_plan_holds_to_where_it_keeps_the_limits_with_the_confidence_asked_for():
    q = ask(max_gpus_per_worker=1)
    q = replace(q, slo=replace(q.slo, confidence=0.9, tpot_s=0.05, ttft_s=3.0))
    found = recommend(q, world((MODEL,), HARDWARE))
    plan = found.best.plan
    moves = sensitivity(found, only=["rate", "tpot"])
    for s in moves.swings:
        beyond = 1.01 if s.input.harder > 0 else 1 / 1.01
        for value, holds in ((s.holds_to, True), (s.holds_to * beyond, False)):
            asked, w = s.input.put(q, found.world, value)
            strict = slo_of(plan, asked.slo)
            metrics = evaluate_plan(w, plan, asked.workload, asked.slo)
            # Should steps take so much longer, requests stay longer, and as many run as at such a rate.
            slower = asked.workload.at_rate(asked.workload.rate * strict.tpot_factor)
            then = evaluate_plan(w, plan, slower, asked.slo)
            running, pool = then.running["colocated"], plan.colocated
            peak = (running * pool.workers + strict.z * (running * pool.workers) ** 0.5) / pool.workers
            kept_s = asked.slo.tpot_s * (1.0 + 1e-12)
            keeps = serves(metrics, strict) and strict.tpot_factor * then.tpot_slo_s <= kept_s
            assert (keeps and peak <= pool.max_batch) == holds, s.input.key


def test_a_name_that_is_no_input_is_refused(found):
    for analyse in (sensitivity, break_even):
        with pytest.raises(InputError, match=r"unknown input 'price.h10'; did you mean 'price.h100'"):
            analyse(found, only=["price.h10"])


# ------------------------------------------------------------------------ break-even points


def around(turn: Turn, found: Recommendation) -> list[tuple[Question, World]]:
    return [turn.input.put(found.question, found.world, turn.value * factor) for factor in ASIDE]


def by_mode(q: Question, w: World) -> dict[str, float]:
    return {mode: cost(replace(q, mode=mode), w) for mode in ("colocated", "disaggregated")}


def test_the_next_step_of_the_cost_is_where_it_is_said(turns, found):
    steps = [t for t in turns.turns if t.what == "cost"]
    assert {"rate", "isl"} <= {t.input.key for t in steps}
    for turn in steps:
        below, above = (cost(q, w) for q, w in around(turn, found))
        assert below < above if turn.input.harder > 0 else below > above
        base = found.best.metrics.usd_per_h
        assert base in (pytest.approx(below), pytest.approx(above))


def test_between_today_and_a_step_the_cost_is_todays(turns, found):
    for turn in turns.turns:
        if turn.what == "cost":
            for share in (0.25, 0.75, 0.97):
                value = turn.input.value * (turn.value / turn.input.value) ** share
                q, w = turn.input.put(found.question, found.world, value)
                assert cost(q, w) == pytest.approx(found.best.metrics.usd_per_h)


def test_modes_change_places_where_it_is_said(found, turns):
    told = [t for t in turns.turns if t.what == "mode"]
    assert told
    for turn in told:
        below, above = (by_mode(q, w) for q, w in around(turn, found))
        for costs, best in ((below, turn.below), (above, turn.above)):
            assert costs[best.plan.mode] == pytest.approx(min(costs.values()))
        one, other = turn.below.plan.mode, turn.above.plan.mode
        assert one != other
        assert below[one] < below[other] * (1 - 1e-9) or above[other] < above[one] * (1 - 1e-9)


@pytest.mark.parametrize("key", ["isl", "osl"])
def test_modes_change_places_at_the_lengths_that_are_said(found, turns, key):
    told = [t for t in turns.turns if t.what == "mode" and t.input.key == key]
    assert told
    for turn in told:
        assert turn.value == round(turn.value)
        one, other = turn.below.plan.mode, turn.above.plan.mode
        assert one != other
        cheaper = []
        for aside in (0.01, 0.03):  # a little farther off, both may take one more accelerator
            below, above = (
                by_mode(*turn.input.put(found.question, found.world, round(turn.value * factor)))
                for factor in (1 - aside, 1 + aside)
            )
            assert below[one] <= below[other]
            assert above[other] <= above[one]
            cheaper.append(below[one] < below[other] or above[other] < above[one])
        assert any(cheaper)


def most(q: Question, w: World) -> dict[str, float]:
    """Goodput by mode, each searched on its own."""
    rates = {}
    for mode in ("colocated", "disaggregated"):
        best = recommend(replace(q, mode=mode, alternatives=0), w).best
        rates[mode] = best.metrics.requests_per_s if best else 0.0
    return rates


def test_modes_change_places_in_goodput_where_it_is_said():
    q = ask(rate=None, max_gpus=5, tpot=0.02, max_gpus_per_worker=1)
    one = dict.fromkeys(("colocated_hardware", "prefill_hardware", "decode_hardware"), ("h100",))
    found = recommend(replace(q, **one), world((MODEL,), ("h100",)))
    told = break_even(found, only=["max_gpus", "isl"])
    assert told.counted == "goodput"
    assert [at.input.key for at in told.looked] == ["max_gpus", "isl"]
    turns = [t for t in told.turns if t.what == "mode"]
    assert {"max_gpus", "isl"} <= {t.input.key for t in turns}
    for turn in turns:
        factors = (0.97, 1.03)
        if turn.input.key == "max_gpus":  # the first number at which the other is ahead, and the one before
            assert turn.value == round(turn.value)
            factors = ((turn.value - 1) / turn.value, 1.0)
        below, above = (
            most(*turn.input.put(found.question, found.world, turn.value * factor)) for factor in factors
        )
        one, other = turn.below.plan.mode, turn.above.plan.mode
        assert below[one] >= below[other] * (1 - 1e-6), turn
        assert above[other] >= above[one] * (1 - 1e-6), turn


def test_an_accelerator_comes_into_use_at_a_price_for_a_budget_of_dollars():
    w = world((MODEL,), HARDWARE, prices={"h100": 3.5, "l40s": 1.2})
    found = recommend(
        ask(rate=None, max_usd_per_h=9.0, max_gpus_per_worker=1, mode="colocated", tpot=0.05), w
    )
    told = [t for t in break_even(found, only=["price.l40s"]).turns if t.what == "use"]
    assert told
    for turn in told:
        for factor, side in ((0.97, turn.below), (1.03, turn.above)):
            best = recommend(*turn.input.put(found.question, w, turn.value * factor)).best
            assert used_for(best.plan, "l40s") == used_for(side.plan, "l40s")
        assert used_for(turn.below.plan, "l40s") != used_for(turn.above.plan, "l40s")


def test_an_accelerator_comes_into_use_at_the_price_that_is_said():
    prices, limits = {"h100": 3.5, "l40s": 1.0}, {"ttft": 1, "tpot": 0.05, "max_gpus_per_worker": 1}
    q = question(MODEL, HARDWARE, isl=1000, osl=300, rate=6, **limits)
    found = recommend(q, world((MODEL,), HARDWARE, prices=prices))
    told = break_even(found, only=["price.l40s"]).turns
    assert told
    for turn in told:
        for (asked, where), side in zip(around(turn, found), (turn.below, turn.above), strict=True):
            assert cost(asked, where) == pytest.approx(side.metrics.usd_per_h, rel=1e-3)
            assert used_for(recommend(asked, where).best.plan, "l40s") == used_for(side.plan, "l40s")
        assert used_for(turn.below.plan, "l40s") != used_for(turn.above.plan, "l40s")


def test_plans_end_where_it_is_said():
    w = world((MODEL,), ("h100",))
    q = question(MODEL, ("h100",), isl=6000, osl=300, rate=3, ttft=0.6, tpot=0.02, max_gpus_per_worker=1)
    found = recommend(q, w)
    ends = [t for t in break_even(found, only=["ttft", "tpot"]).turns if t.what == "feasible"]
    assert {t.input.key for t in ends} == {"ttft", "tpot"}
    for turn in ends:
        below, above = (by_mode(a, b) for a, b in around(turn, found))
        modes = [turn.mode] if turn.mode else ["colocated", "disaggregated"]
        assert all(below[mode] == math.inf for mode in modes)
        assert any(above[mode] < math.inf for mode in modes)


def test_nothing_is_said_of_what_does_not_turn():
    q = ask(mode="colocated", tpot=None, ttft=None)
    found = recommend(q, world((MODEL,), HARDWARE))
    told = break_even(found)
    assert {t.what for t in told.turns} <= {"cost", "use"}
    assert {at.input.key for at in told.looked} == {"rate", "isl", "osl", "price.h100", "price.l40s"}
    one = dict.fromkeys(("colocated_hardware", "prefill_hardware", "decode_hardware"), ("h100",))
    alone = recommend(replace(q, **one), found.world)
    assert {at.input.key for at in break_even(alone).looked} == {"rate", "isl", "osl"}


def test_a_budget_of_dollars_has_an_amount_in_fractions_as_one_of_accelerators_has():
    """As many dollars as accelerators cost buy the same fractions; nothing in whole workers serves more."""
    w = world((MODEL,), ("h100",), prices={"h100": 2.5})
    asked = {"isl": 2000, "osl": 300, "rate": None, "ttft": 1, "tpot": 0.02, "max_gpus_per_worker": 2}
    found = [
        sensitivity(recommend(question(MODEL, ("h100",), **asked, **budget), w), only=["tpot"])
        for budget in ({"max_gpus": 8}, {"max_usd_per_h": 20.0})
    ]
    assert found[0].fractional == pytest.approx(found[1].fractional)
    assert found[1].amount <= found[1].fractional
