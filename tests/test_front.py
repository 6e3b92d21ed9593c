"""The Pareto front against enumeration by `evaluate`, its properties, its pictures and its command."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import accelerator, question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.cli import app
from pdplan.compose import World, build_pool, evaluate_plan
from pdplan.errors import InputError, NoPriceError
from pdplan.plan import PREFILL_RATE, Colocated, Disaggregated, PoolPlan
from pdplan.question import Question
from pdplan.report.front import ahead, front_report, lead_words, spread_points
from pdplan.report.plots import Curve, draw, ticks
from pdplan.report.render import FORMATS, render
from pdplan.search.candidates import PROMPTS_PER_SERVER
from pdplan.search.front import Front, FrontPoint, pareto_front, whole_workers
from pdplan.workload import Slo, Workload
from tests import made_up
from tests.test_report import SUFFIX, same_version, valid

LLAMA = ["--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "2k", "--osl", "256"]


def asked(hardware: tuple[str, ...] = ("h100",), model: str = "llama-3.1-8b", **more) -> Question:
    shape = {"isl": 2048, "osl": 256, "rate": None} | more
    return question(model, hardware, **shape)


def found(hardware: tuple[str, ...] = ("h100",), model: str = "llama-3.1-8b", cost=False, **more) -> Front:
    return pareto_front(asked(hardware, model, **more), world((model,), hardware), by_cost=cost)


def value_at(points: tuple[FrontPoint, ...], x: float) -> float:
    """The front as a staircase: the most tokens/s/GPU for users who get at least x."""
    return max((p.output_tok_per_s_per_gpu for p in points if p.tok_per_s_per_user >= x), default=0.0)


# ---------------------------------------------------------------- the equation, by hand


def test_one_layout_is_the_formula_of_rate_matching():
    """tokens/s/GPU = OutTok/s / (ctx GPUs · gen rate / ctx rate + gen GPUs), numbers from `evaluate`.

    Source of the formula: NVIDIA's TensorRT-LLM blog on disaggregated serving.
    """
    front = found(mode="disaggregated", max_gpus_per_worker=1, tpot=0.02)
    w = world(("llama-3.1-8b",), ("h100",))
    for point in front.points[::7]:
        plan = point.plan
        one = replace(plan, prefill=replace(plan.prefill, workers=1), decode=replace(plan.decode, workers=1))
        # A closed loop of plenty of requests holds the batch full; here the open loop at its own rate.
        rate = point.batch / (256 * point.tpot_s)
        metrics = evaluate_plan(w, one, Workload(isl=2048, osl=256, rate=rate * 0.999999), Slo())
        assert metrics.tok_per_s_per_user == pytest.approx(point.tok_per_s_per_user, rel=1e-4)
        context_rate = rate / metrics.utilisation["prefill"]  # requests/s of one prefill worker
        by_hand = rate * 256 / (1 * rate / context_rate + 1)
        assert point.output_tok_per_s_per_gpu == pytest.approx(by_hand, rel=1e-5)
        assert point.prefill_per_decode == pytest.approx(rate / context_rate, rel=1e-5)
        assert point.total_tok_per_s_per_gpu == pytest.approx(by_hand * (2048 + 256) / 256, rel=1e-5)


def test_a_slow_network_takes_its_share_of_accelerators():
    """On 1 Gb/s a prompt's 268 MB of KV cache keep one link busy: neither pool has fewer GPUs than links."""
    slow = replace(
        world(("llama-3.1-8b",), ("h100",)), network=replace(World.network, bandwidth_bytes_per_s=1.25e8)
    )
    front = pareto_front(asked(mode="disaggregated", max_gpus_per_worker=1), slow)
    seconds = 2048 * 131072 / (1.25e8 * 0.9)  # bytes per token as in test_report; at most 90 % of the line
    most = 256 / (2 * seconds)
    for point in front.points:
        assert 0.5 * most < point.output_tok_per_s_per_gpu < 1.2 * most
        assert point.prefill_per_decode == pytest.approx(1.0)


@pytest.mark.parametrize("mode", ["disaggregated", "colocated"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_evaluate_finds_what_the_front_promises(model, mode):
    """The whole-worker plan of a point, at its rate: the same speed for the user, the throughput within rounding."""
    front = found(("h200",), model, mode=mode, max_gpus_per_worker=8)
    w = world((model,), ("h200",))
    assert len(front.points) > 10
    for point in front.points[::9]:
        plan = point.plan
        workers = (plan.decode if isinstance(plan, Disaggregated) else plan.colocated).workers
        rate = workers * point.batch / (256 * point.tpot_s) * (1 - 1e-6)
        metrics = evaluate_plan(w, plan, Workload(isl=2048, osl=256, rate=rate), Slo(percentile=0.5))
        assert metrics.tok_per_s_per_user == pytest.approx(point.tok_per_s_per_user, rel=1e-4)
        assert metrics.problem != PREFILL_RATE or metrics.utilisation.get("prefill", 0) == pytest.approx(
            1, rel=2e-3
        )
        if workers * plan.pools[next(reversed(plan.pools))].gpus_per_worker >= 8 and mode == "disaggregated":
            assert metrics.output_tok_per_s_per_gpu == pytest.approx(point.output_tok_per_s_per_gpu, rel=0.15)
        if mode == "colocated":
            assert metrics.output_tok_per_s_per_gpu == pytest.approx(point.output_tok_per_s_per_gpu, rel=1e-4)
        idle = sum(s for name, s in metrics.parts.items() if name != "wait for prefill")
        assert point.ttft_s == pytest.approx(idle, rel=1e-3)


# ---------------------------------------------------------------- brute force


def brute_force(
    q: Question, w: World, layouts: list[tuple[int, int]], batches: list[int]
) -> list[tuple[float, float]]:
    """(tokens/s/user, tokens/s/GPU) of every layout, batch and prompts per batch, one `evaluate` each."""
    hardware, osl = q.colocated_hardware[0], q.workload.osl
    pool = {(tp, pp): PoolPlan(hardware=hardware, workers=1, tp=tp, pp=pp) for tp, pp in layouts}
    serving = {"model": q.model, "precision": q.precision, "kv_precision": "bf16"}
    ttft = math.inf if q.slo.ttft_s is None else q.slo.ttft_s
    points = []

    def metrics_at(plan, role, batch, own):
        held = float(build_pool(w, plan, replace(own, max_batch=None), role, q.workload).max_batch[0])
        if batch > held:
            return None
        # At concurrency 1/s the rate of a saturated worker follows from TPOT: ask for a little, read
        # TPOT at the batch by a rate that holds it.
        low, high = 1e-6, 1e6
        for _ in range(200):
            rate = (low * high) ** 0.5
            m = evaluate_plan(w, plan, replace(q.workload, rate=rate), Slo(percentile=0.5))
            low, high = (rate, high) if m.running[role] < batch * (1 - 1e-9) else (low, rate)
            if high / low < 1 + 1e-10:
                break
        return m

    for (tp, pp), own in pool.items():
        for batch in batches:
            if batch < pp:
                continue
            own_batch = replace(own, max_batch=batch)
            alone = Colocated(**serving, colocated=own_batch)
            if m := metrics_at(alone, "colocated", batch, own):
                idle = sum(s for name, s in m.parts.items() if name != "wait for prefill")
                if idle <= ttft and m.utilisation["colocated"] < 1 + 1e-6 and np.isfinite(m.ttft_mean_s):
                    points.append((m.tok_per_s_per_user, m.output_tok_per_s_per_gpu))
            for other in pool.values():
                for prompts in PROMPTS_PER_SERVER:
                    if prompts > 1 and prompts * q.workload.new_tokens > 8192:
                        continue
                    sender = replace(other, max_batch=prompts * other.pp)
                    plan = Disaggregated(**serving, prefill=sender, decode=own_batch)
                    if m := metrics_at(plan, "decode", batch, own):
                        idle = sum(s for name, s in m.parts.items() if name != "wait for prefill")
                        if idle <= ttft:
                            per_decode = m.utilisation["prefill"] * sender.gpus
                            links = m.utilisation["network"] * max(
                                min(sender.gpus, own.gpus) // min(tp * pp, other.tp * other.pp), 1
                            )
                            floor = links * min(tp * pp, other.tp * other.pp)
                            gpus = max(per_decode, floor) + max(own.gpus, floor)
                            points.append((m.tok_per_s_per_user, m.requests_per_s * osl / gpus))
    return points


@pytest.mark.slow
@pytest.mark.parametrize("ttft", [None, 0.12])
def test_brute_force_finds_no_better_point_and_every_point_is_attained(ttft):
    """Batches of the front's own grid: then both are the same set, to the accuracy of the bisection."""
    q = asked(max_gpus_per_worker=2, ttft=ttft)
    w = world(("llama-3.1-8b",), ("h100",))
    front = pareto_front(q, w)
    brute = brute_force(q, w, [(1, 1), (2, 1), (1, 2)], [1, 2, 4, 8, 16, 32, 64])
    assert len(brute) > 20
    for x, y in brute:
        assert value_at(front.points, x * (1 - 1e-6)) >= y * (1 - 1e-5)
    small = [p for p in front.points if p.batch in (1, 2, 4, 8, 16, 32, 64)]
    assert small
    for point in small:
        assert any(
            x == pytest.approx(point.tok_per_s_per_user, rel=1e-5)
            and y == pytest.approx(point.output_tok_per_s_per_gpu, rel=1e-4)
            for x, y in brute
        )


# ---------------------------------------------------------------- properties


SHAPES = {"isl": st.integers(16, 16000), "osl": st.integers(8, 2000)}


@settings(max_examples=15)
@given(**SHAPES, ttft=st.one_of(st.none(), st.floats(0.05, 2)), cost=st.booleans())
def test_no_point_is_dominated(isl, osl, ttft, cost):
    front = found(("h100", "l40s"), cost=cost, isl=isl, osl=osl, ttft=ttft)
    for points in (front.points, *front.modes.values()):
        speeds = [p.tok_per_s_per_user for p in points]
        values = [front.value(p) for p in points]
        assert speeds == sorted(set(speeds))
        assert values == sorted(set(values), reverse=not cost)
    if ttft is not None:
        assert all(p.ttft_s <= ttft for p in front.points)


@settings(max_examples=15)
@given(**SHAPES, ttft=st.one_of(st.none(), st.floats(0.05, 2)))
def test_both_modes_together_are_never_below_one_alone(isl, osl, ttft):
    both = found(isl=isl, osl=osl, ttft=ttft)
    for mode in ("disaggregated", "colocated"):
        alone = found(isl=isl, osl=osl, ttft=ttft, mode=mode)
        assert [p.tok_per_s_per_user for p in alone.points] == [
            p.tok_per_s_per_user for p in both.modes[mode]
        ]
        for point in alone.points:
            assert value_at(both.points, point.tok_per_s_per_user) >= point.output_tok_per_s_per_gpu


@settings(max_examples=10)
@given(**SHAPES, factor=st.floats(1.0, 3.0), network=st.floats(1.0, 10.0))
def test_more_bandwidth_never_lowers_the_front(isl, osl, factor, network):
    slow = world(("llama-3.1-8b",), ("h100",))
    chip = accelerator("h100")
    bandwidth = chip.memory.bandwidth_bytes_per_s
    faster = bandwidth.model_copy if hasattr(bandwidth, "model_copy") else None
    value = bandwidth.value * factor
    more = faster(update={"value": value}) if faster else replace(bandwidth, value=value)
    memory = replace(chip.memory, bandwidth_bytes_per_s=more)
    slow = replace(slow, network=replace(slow.network, bandwidth_bytes_per_s=5e9))
    quick = replace(
        slow,
        accelerators={"h100": replace(chip, memory=memory)},
        network=replace(slow.network, bandwidth_bytes_per_s=5e9 * network),
    )
    q = asked(isl=isl, osl=osl, max_gpus_per_worker=4)
    before, after = pareto_front(q, slow), pareto_front(q, quick)
    for point in before.points:
        reached = value_at(after.points, point.tok_per_s_per_user * (1 - 1e-9))
        assert reached >= point.output_tok_per_s_per_gpu * (1 - 1e-9)


def test_a_looser_limit_and_one_more_accelerator_never_lower_the_front():
    tight, loose = found(ttft=0.1), found(ttft=0.5)
    more = found(("h100", "h200"), ttft=0.5)
    for lower, upper in ((tight, loose), (loose, more)):
        for point in lower.points:
            assert value_at(upper.points, point.tok_per_s_per_user) >= point.output_tok_per_s_per_gpu


def test_the_order_of_accelerators_changes_nothing():
    one, other = found(("h100", "h200")), found(("h200", "h100"))
    assert [p.plan for p in one.points] == [p.plan for p in other.points]


def test_limits_cut_the_front():
    free = found()
    cut = found(tpot=0.01)
    assert cut.points == tuple(p for p in free.points if p.tpot_s <= 0.01)
    whole = found(request_latency_s=2.0)
    assert whole.points
    assert all(p.ttft_s + p.tpot_s * 255 <= 2.0 for p in whole.points)


def test_cost_follows_prices():
    """Twice the price, twice the cost, the same plans; dollars are price / 3600 / tokens/s/GPU · 10⁶."""
    w = world(("llama-3.1-8b",), ("h100",), prices={"h100": 2.0})
    front = pareto_front(asked(), w, by_cost=True)
    double = pareto_front(asked(), replace(w, prices={"h100": 4.0}), by_cost=True)
    assert [p.plan for p in front.points] == [p.plan for p in double.points]
    for one, two in zip(front.points, double.points, strict=True):
        assert front.value(one) == pytest.approx(2.0 / 3600 / one.output_tok_per_s_per_gpu * 1e6)
        assert front.value(two) == pytest.approx(2 * front.value(one))


def test_cost_needs_prices():
    w = world(("llama-3.1-8b",), ("h100",), prices={"h100": float("nan")})
    with pytest.raises(NoPriceError, match="--price h100=USD_PER_HOUR"):
        pareto_front(asked(), w, by_cost=True)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"tpot": 1e-5}, "TPOT: 10.0 µs allowed, the fastest takes"),
        ({"ttft": 1e-5}, "TTFT: 10.0 µs allowed, the fastest takes"),
        ({"request_latency_s": 1e-3}, "request latency: 1.00 ms allowed, the fastest takes"),
        ({"model": "deepseek-r1", "hardware": ("l4",)}, "fits on no layout of l4"),
    ],
)
def test_no_front_says_why(limits, says):
    front = found(**limits)
    assert not front.points
    assert says in front.reason


@given(ratio=st.floats(1e-3, 500), prefill=st.sampled_from([1, 8, 32]), decode=st.sampled_from([1, 8, 64]))
def test_whole_workers_are_enough_and_few(ratio, prefill, decode):
    x, y = whole_workers(ratio, prefill, decode)
    assert 1 <= y <= 64
    assert x >= ratio * y * (1 - 2e-3)
    assert x <= max(math.ceil(ratio * y), 1)


# ---------------------------------------------------------------- reports, of a front made by hand


def point(user: float, gpu: float, plan, ratio: float = math.nan, batch: int = 64) -> FrontPoint:
    return FrontPoint(
        plan=plan,
        tok_per_s_per_user=user,
        output_tok_per_s_per_gpu=gpu,
        total_tok_per_s_per_gpu=5 * gpu,
        usd_per_million_output_tokens=3.59 / 3600 / gpu * 1e6,
        tpot_s=1 / user,
        ttft_s=0.6,
        batch=batch,
        prefill_per_decode=ratio,
    )


def made_front(**changes) -> Front:
    apart = [
        point(user, gpu, made_up.DISAGGREGATED_PLAN, 1.5, batch)
        for user, gpu, batch in ((10.0, 900.0, 800), (20.0, 800.0, 400), (40.0, 500.0, 100), (80.0, 100.0, 8))
    ]
    together = [
        point(user, gpu, made_up.COLOCATED_PLAN, batch=batch)
        for user, gpu, batch in ((5.0, 1000.0, 900), (20.0, 640.0, 300), (40.0, 250.0, 50), (90.0, 50.0, 4))
    ]
    whole = Front(
        question=made_up.question(workload=replace(made_up.WORKLOAD, rate=None)),
        world=made_up.world(),
        by_cost=False,
        points=(together[0], *apart, together[3]),
        modes={"disaggregated": tuple(apart), "colocated": tuple(together)},
        notes=("a note",),
        layouts=12345,
    )
    return replace(whole, **changes)


MADE = {
    "front": made_front,
    "front-cost": lambda: made_front(by_cost=True),
    "front-none": lambda: made_front(
        points=(),
        modes={"disaggregated": (), "colocated": ()},
        reason="TPOT: 1 ms allowed, the fastest takes 5 ms",
    ),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", MADE)
def test_golden(name, format, golden):
    report = front_report(MADE[name](), catalog_sha256=made_up.DIGEST, notes=("a remark",), shown=4)
    golden(f"{name}.{SUFFIX[format]}", same_version(render(report, format)))


@pytest.mark.parametrize("name", MADE)
def test_the_json_keeps_its_schema(name):
    valid("front", json.loads(render(front_report(MADE[name]()), "json")))


def test_who_is_ahead():
    """At 40 tok/s/user 500 of the one against 250 of the other; at 5 it is 1,000 against 900."""
    front = made_front()
    assert ahead(front, "disaggregated") == (2.0, 40.0)
    assert ahead(front, "colocated") == (pytest.approx(1000 / 900), 5.0)
    assert "disaggregated by up to 2.00 times, at 40.0 tok/s" in lead_words(front)
    assert "beyond 80.0 tok/s there is only the colocated front" in lead_words(front)
    assert ahead(made_front(by_cost=True), "disaggregated") == (pytest.approx(2.0), 40.0)


def test_csv_has_every_point_of_both_modes():
    rows = list(csv.DictReader(io.StringIO(render(front_report(made_front()), "csv"))))
    assert len(rows) == 8
    assert [r["on_front"] for r in rows] == ["True"] * 5 + ["False"] * 2 + ["True"]
    assert rows[0]["prefill_workers_per_decode_worker"] == "1.5"
    assert rows[7]["prefill_workers_per_decode_worker"] == ""


def test_spread_points_keep_both_ends():
    points = made_front().points
    assert spread_points(points, 2) == [points[0], points[-1]]
    assert spread_points(points, 99) == list(points)


# ---------------------------------------------------------------- the plot of characters


def test_a_plot_is_plain_and_puts_points_where_they_belong():
    lines = draw([Curve("line", "o", ((0.0, 0.0), (100.0, 50.0)))], "x", "y", width=51)
    assert all(line.isascii() for line in lines)
    grid = [line.split("|", 1)[-1].split("+", 1)[-1] for line in lines[1:21]]
    assert grid[0].rstrip().endswith("o")
    assert len(grid[0].rstrip()) == 51
    assert grid[19][0] == "o"
    columns = list(zip(*(row.ljust(51) for row in grid), strict=True))
    assert all("o" in column for column in columns)


def test_a_plot_marks_where_curves_meet():
    same = ((1.0, 5.0), (10.0, 1.0))
    body = "\n".join(draw([Curve("a", "o", same), Curve("b", "x", same)], "x", "y")[1:])
    assert "#" in body
    assert "o" not in body
    assert draw([Curve("a", "o", ())], "x", "y") == ()
    assert draw([Curve("a", "o", ((3.0, 2.0),))], "x", "y", log_y=True)


@given(
    points=st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)), min_size=1, max_size=30),
    log_y=st.booleans(),
)
def test_any_plot_is_within_its_width(points, log_y):
    lines = draw([Curve("a", "o", tuple(sorted(points)))], "x", "y", log_y=log_y, width=60)
    assert len(lines) == 24
    margin = lines[-3].index("+")
    assert all(len(line) <= margin + 1 + 60 + 8 for line in lines[1:])


@given(high=st.floats(1e-6, 1e9), about=st.integers(2, 10))
def test_ticks_are_round_and_reach_the_end(high, about):
    found_ticks = ticks(0.0, high, about)
    assert found_ticks[0] == 0
    assert found_ticks[-1] >= high * (1 - 1e-6)
    assert 2 <= len(found_ticks) <= 2 * about + 2


# ---------------------------------------------------------------- pictures


@pytest.fixture
def drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="pip install 'pdplan[plot]'")
    from pdplan.report.pictures import draw_front

    def draw_as(suffix: str, front: Front) -> bytes:
        path = tmp_path / f"front{suffix}"
        draw_front(front, path)
        first = path.read_bytes()
        draw_front(front, path)
        assert path.read_bytes() == first, "the same input, the same bytes"
        return first

    return draw_as


@pytest.mark.parametrize("cost", [False, True])
def test_pictures_are_what_their_ending_says(drawn, cost):
    front = made_front(by_cost=cost)
    assert drawn(".png", front).startswith(b"\x89PNG")
    svg = drawn(".svg", front)
    assert b"<svg" in svg
    page = drawn(".html", front).decode()
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") == 1
    assert "deepseek-r1 in fp8 on h200" in page
    assert "<script" not in page
    assert 'src="' not in page
    assert page.count("<tr>") == 1 + len(front.points)


def test_a_page_is_no_place_for_markup(drawn):
    odd = made_front(question=made_up.question(model="<b>&", workload=replace(made_up.WORKLOAD, rate=None)))
    assert "<b>&" not in drawn(".html", odd).decode()


# ---------------------------------------------------------------- the command


@pytest.fixture
def pdp(capfd):
    def run(*args):
        code = app.run([str(a) for a in args])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


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
    code, out, err = pdp("evaluate", path, "--isl", "2k", "--osl", "256", "--rate", "1")
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
    from pdplan.report import pictures

    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'pdplan\[plot\]'"):
        pictures.picture_path("front.png")


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'pdplan[plot]'")
def test_the_command_writes_a_picture(pdp, tmp_path):
    path = tmp_path / "front.svg"
    code, out, err = pdp("front", *LLAMA, "--output", path)
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
