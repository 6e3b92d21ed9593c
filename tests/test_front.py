"""The Pareto front against enumeration by `evaluate`, its properties, its pictures and its command."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from helpers import accelerator, question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.compose import World, evaluate_plan
from pdplan.errors import NoPriceError
from pdplan.plan import PREFILL_RATE, PROBLEMS, Colocated, Disaggregated, PoolPlan
from pdplan.question import Question
from pdplan.search.front import Front, FrontPoint, pareto_front, whole_workers
from pdplan.search.workers.candidates import PROMPTS_PER_SERVER
from pdplan.workload import Slo, Workload


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
    """The whole-worker plan of a point, at its rate: the same speed, the throughput within rounding."""
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
        parts = metrics.parts
        if mode == "disaggregated":  # the links have a queue at that rate
            calm = evaluate_plan(w, plan, Workload(isl=2048, osl=256, rate=1e-6), Slo())
            first = {name: metrics.parts[name] for name in ("hand-over", "first decode step")}
            scale = point.tpot_s / metrics.tpot_mean_s
            parts = calm.parts | {name: seconds * scale for name, seconds in first.items()}
        assert point.ttft_s == pytest.approx(without_wait(parts), rel=1e-4)


def without_wait(parts: dict[str, float]) -> float:
    return sum(seconds for name, seconds in parts.items() if name != "wait for prefill")


# ---------------------------------------------------------------- brute force


def rate_that_holds(w: World, q: Question, plan, role: str, batch: int) -> float:
    """Requests/s at which a worker runs `batch` sequences, by bisection over `evaluate`."""
    low, high = 1e-6, 1e6
    while high / low > 1 + 1e-10:
        rate = (low * high) ** 0.5
        running = evaluate_plan(w, plan, replace(q.workload, rate=rate), Slo()).running[role]
        low, high = (rate, high) if running < batch * (1 - 1e-9) else (low, rate)
    return low


def brute_force(
    q: Question, w: World, layouts: list[tuple[int, int]], batches: list[int]
) -> list[tuple[float, float]]:
    """(tokens/s/user, tokens/s/GPU) of every layout, batch and prompts per batch, each by `evaluate`."""
    hardware = q.colocated_hardware[0]
    serving = {"model": q.model, "precision": q.precision, "kv_precision": "bf16"}
    most = math.inf if q.slo.ttft_s is None else q.slo.ttft_s
    points = []
    pools = [PoolPlan(hardware=hardware, workers=1, tp=tp, pp=pp) for tp, pp in layouts]
    senders = [
        replace(own, max_batch=prompts * own.pp)
        for own in pools
        for prompts in PROMPTS_PER_SERVER
        if prompts == 1 or prompts * q.workload.new_tokens <= 8192
    ]
    for own in (replace(pool, max_batch=b) for pool in pools for b in batches if b >= pool.pp):
        assert own.max_batch is not None
        alone = Colocated(**serving, colocated=own)
        rate = rate_that_holds(w, q, alone, "colocated", own.max_batch)
        m = evaluate_plan(w, alone, replace(q.workload, rate=rate), Slo())
        if without_wait(m.parts) <= most and m.reason != PROBLEMS[PREFILL_RATE]:
            points.append((m.tok_per_s_per_user, m.output_tok_per_s_per_gpu))
        plans = [Disaggregated(**serving, prefill=sender, decode=own) for sender in senders]
        rate = rate_that_holds(w, q, plans[0], "decode", own.max_batch)
        for plan in plans:
            m = evaluate_plan(w, plan, replace(q.workload, rate=rate), Slo())
            calm = evaluate_plan(w, plan, replace(q.workload, rate=1e-6), Slo())
            if without_wait(calm.parts | {n: m.parts[n] for n in ("hand-over", "first decode step")}) > most:
                continue
            # One decode worker, as much of a prefill worker as it takes, and no fewer GPUs on
            # either side than links are busy.
            sender = plan.prefill
            links = min(sender.tp * sender.pp, own.tp * own.pp)
            lanes = max(min(sender.gpus, own.gpus) // links, 1)
            busy = m.utilisation["network"] * lanes * links
            gpus = max(m.utilisation["prefill"] * sender.gpus, busy) + max(own.gpus, busy)
            points.append((m.tok_per_s_per_user, rate * q.workload.osl / gpus))
    return points


@pytest.mark.slow
@pytest.mark.parametrize("ttft", [None, 0.2])
def test_brute_force_finds_no_better_point_and_every_point_is_attained(ttft):
    """Batches of the front's own grid: its points are brute force's, to the accuracy of the bisection."""
    q = asked(max_gpus_per_worker=2, ttft=ttft)
    w = world(("llama-3.1-8b",), ("h100",))
    front = pareto_front(q, w)
    brute = brute_force(q, w, [(1, 1), (2, 1), (1, 2)], [1, 8, 64])
    assert len(brute) >= 20
    for x, y in brute:
        assert value_at(front.points, x * (1 - 1e-6)) >= y * (1 - 1e-5)
    small = [p for p in front.points if p.batch in (1, 8, 64)]
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
    more = replace(bandwidth, value=bandwidth.value * factor)
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
        # Where prompts fill the worker, the last batch of the grid that has room for them may be one step of
        # the grid less: 9 % fewer sequences, of which throughput there hardly depends.
        assert reached >= point.output_tok_per_s_per_gpu * (1 - 1.5e-2)


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
        ({"model": "deepseek-r1", "hardware": ("l4",), "max_gpus_per_worker": 8}, "fits on no layout of l4"),
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
