"""The search against exhaustive enumeration, and the properties that its answers must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.compose import World, build_network, build_setting, evaluate_plan
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, meets, pool_memory
from pdplan.layout import Layout
from pdplan.plan import Serving
from pdplan.question import Question
from pdplan.search import recommend
from pdplan.search.space import spaces
from pdplan.serving.pools import Pool, prefill_service
from pdplan.units import parse_duration_s
from pdplan.workload import Speculation

# Layouts of a dense model with 8 KV heads on up to two accelerators, and of Mixtral on up to
# four, written down by hand: (tp, pp, dp, ep). The enumeration under test is not consulted.
DENSE = [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 1, 1)]
MIXTRAL = [
    (tp, pp, dp, ep)
    for tp in (1, 2, 4)
    for pp in (1, 2, 4)
    for dp in (1, 2, 4)
    for ep in {1, tp * dp}
    if tp * pp * dp in (1, 2, 4)
]


def _pool(w: World, q: Question, hardware: str, rows: np.ndarray, role: str) -> Pool:
    """Rows of (tp, pp, dp, ep, workers, prompts) as one pool of arrays."""
    serving = Serving(model=q.model, precision=q.precision, kv_precision="bf16", engine=q.engine)
    tp, pp, dp, ep, workers, prompts = rows.T.astype(float)
    pool = Pool(
        setting=build_setting(w, serving, hardware),
        layout=Layout(tp=tp, pp=pp, dp=dp, ep=ep),
        workers=workers,
        max_batch=np.ones(len(rows)),
        speculation=Speculation(),
    )
    if role == "prefill":
        return replace(pool, max_batch=prompts * pool.servers_per_worker)
    return replace(pool, max_batch=np.maximum(pool_memory(pool, q.workload).max_sequences, 1e-9))


def fuller(hardware: str, new_tokens: float) -> list[int]:
    """Numbers of prompts that fill vLLM's steps better than any smaller one: 2,048 tokens on small GPUs."""
    step = 2048 if hardware == "l40s" else 8192
    fills = {b: b * new_tokens / np.ceil(b * new_tokens / step) for b in (1, 2, 4, 8, 16, 32)}
    return [b for b in fills if all(fills[b] > fills[a] * (1 + 1e-9) for a in fills if a < b)]


@settings(max_examples=10)
@given(isl=st.integers(200, 30_000), hardware=st.sampled_from(["l40s", "h100"]))
def test_batches_that_fill_steps_no_better_serve_no_more_and_take_longer(isl: int, hardware: str) -> None:
    w = world(("llama-3.1-8b",), (hardware,))
    q = question("llama-3.1-8b", (hardware,), isl=isl, osl=10, rate=1.0, max_gpus_per_worker=2)
    (_, space), *_ = spaces(q, w)
    found = space.prefill[hardware].candidates
    kept = fuller(hardware, float(isl))
    assert {int(b) for b in found.pool.max_batch / found.pool.micro_batches_per_worker} <= {*kept}
    for left_out in {1, 2, 4, 8, 16, 32} - {*kept}:
        best = [b for b in kept if b < left_out][-1]
        service = [
            prefill_service(
                replace(found.pool, max_batch=b * found.pool.micro_batches_per_worker), q.workload
            )
            for b in (best, left_out)
        ]
        assert np.all(service[1].rate_per_server <= service[0].rate_per_server * (1 + 1e-9))
        assert np.all(service[1].time_s >= service[0].time_s)


def brute_force_cost(
    w: World,
    q: Question,
    layouts: list[tuple[int, ...]],
    most: int,
    counts_as: Callable[[dict[str, str], dict[str, np.ndarray]], np.ndarray] = lambda _, rows: np.True_,
) -> float:
    """Cheapest $/h over every layout, every number of workers up to `most` and every pair of accelerators.

    `counts_as`: which rows count, given the accelerator and the rows (tp, pp, ...) of each role.
    """
    best = np.inf
    counts = range(1, most + 1)
    single = np.array([(*lay, n, 1) for lay in layouts for n in counts])
    for hardware in q.colocated_hardware:
        money = Economics(usd_per_gpu_h={"colocated": w.price(hardware)}, watt_per_gpu={"colocated": 0.0})
        pool = _pool(w, q, hardware, single, "colocated")
        metrics = evaluate_colocated(pool, q.workload, q.slo, money)
        good = meets(metrics, q.slo) & counts_as({"colocated": hardware}, {"colocated": single})
        best = min(best, np.min(metrics.usd_per_h, where=good, initial=np.inf))
    for p in q.prefill_hardware:
        prompts = fuller(p, q.workload.new_tokens)
        prefills = np.array([(*lay, n, b) for lay in layouts for n in counts for b in prompts])
        for d in q.decode_hardware:
            left = np.repeat(prefills, len(single), axis=0)
            right = np.tile(single, (len(prefills), 1))
            sending, receiving = _pool(w, q, p, left, "prefill"), _pool(w, q, d, right, "decode")
            money = Economics(
                usd_per_gpu_h={"prefill": w.price(p), "decode": w.price(d)},
                watt_per_gpu={"prefill": 0, "decode": 0},
            )
            metrics = evaluate_disaggregated(
                sending, receiving, q.workload, q.slo, build_network(w, p, d), money
            )
            held = pool_memory(sending, q.workload).max_sequences >= sending.max_batch
            good = counts_as({"prefill": p, "decode": d}, {"prefill": left, "decode": right})
            good = good & meets(metrics, q.slo) & held & (receiving.max_batch >= receiving.servers_per_worker)
            best = min(best, np.min(metrics.usd_per_h, where=good, initial=np.inf))
    return float(best)


@settings(max_examples=12)
@given(
    rate=st.floats(0.5, 30),
    isl=st.integers(200, 6000),
    osl=st.integers(50, 800),
    ttft=st.floats(0.15, 3),
    tpot=st.floats(0.012, 0.1),
)
def test_dense_model_costs_no_more_and_no_less_than_brute_force(
    rate: float, isl: int, osl: int, ttft: float, tpot: float
) -> None:
    hardware = ("h100", "l40s")
    w = world(("llama-3.1-8b",), hardware)
    q = question(
        "llama-3.1-8b", hardware, isl=isl, osl=osl, rate=rate, ttft=ttft, tpot=tpot, max_gpus_per_worker=2
    )
    answer = recommend(q, w)
    brute = brute_force_cost(w, q, DENSE, 12)
    if answer.best is None:
        assert brute == np.inf
    elif all(p.workers <= 12 for p in answer.best.plan.pools.values()):
        assert answer.best.metrics.usd_per_h == pytest.approx(brute, rel=1e-9)
    else:
        assert answer.best.metrics.usd_per_h <= brute * (1 + 1e-9)


@settings(max_examples=8)
@given(
    rate=st.floats(0.5, 12), isl=st.integers(500, 4000), tpot=st.floats(0.015, 0.08), ttft=st.floats(0.3, 3)
)
def test_mixture_of_experts_costs_no_more_and_no_less_than_brute_force(
    rate: float, isl: int, tpot: float, ttft: float
) -> None:
    w = world(("mixtral-8x7b",), ("h200",))
    q = question(
        "mixtral-8x7b", ("h200",), isl=isl, osl=300, rate=rate, ttft=ttft, tpot=tpot, max_gpus_per_worker=4
    )
    answer = recommend(q, w)
    brute = brute_force_cost(w, q, MIXTRAL, 5)
    if answer.best is None:
        assert brute == np.inf
    elif all(p.workers <= 5 for p in answer.best.plan.pools.values()):
        assert answer.best.metrics.usd_per_h == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("mode", ["any", "colocated", "disaggregated"])
def test_metrics_equal_evaluate_of_the_plan(mode: str) -> None:
    hardware = ("h100", "h200")
    w = world(("llama-3.1-70b",), hardware)
    q = question("llama-3.1-70b", hardware, isl=2048, osl=512, rate=15, ttft=1, tpot=0.05, mode=mode)
    answer = recommend(q, w)
    assert answer.best is not None
    for candidate in (answer.best, *answer.alternatives):
        alone = evaluate_plan(w, candidate.plan, q.workload, q.slo)
        for name, value in vars(alone).items():
            assert vars(candidate.metrics)[name] == pytest.approx(value, rel=1e-7, nan_ok=True), name


BASE = {"isl": 2000, "osl": 300, "rate": 20.0, "ttft": 1.0, "tpot": 0.04}


def _cost(w: World, q: Question) -> float:
    answer = recommend(q, w)
    return answer.best.metrics.usd_per_h if answer.best else np.inf


@settings(max_examples=10)
@given(
    rate=st.floats(1, 60),
    loosening=st.floats(1.0, 3.0),
    which=st.sampled_from(["ttft", "tpot"]),
)
def test_a_looser_limit_never_costs_more(rate: float, loosening: float, which: str) -> None:
    w = world(("llama-3.1-70b",), ("h100",))
    tight = BASE | {"rate": rate}
    loose = tight | {which: tight[which] * loosening}
    assert _cost(w, question("llama-3.1-70b", ("h100",), **loose)) <= _cost(
        w, question("llama-3.1-70b", ("h100",), **tight)
    ) * (1 + 1e-9)


@pytest.mark.parametrize("what", ["bandwidth", "flop"])
@pytest.mark.parametrize("factor", [1.1, 1.7, 3.0])
def test_a_faster_accelerator_never_costs_more(what: str, factor: float) -> None:
    from dataclasses import replace as swap

    w = world(("llama-3.1-70b",), ("h100",))
    h100 = w.accelerator("h100")
    if what == "bandwidth":
        number = swap(
            h100.memory.bandwidth_bytes_per_s, value=h100.memory.bandwidth_bytes_per_s.value * factor
        )
        better = swap(h100, memory=swap(h100.memory, bandwidth_bytes_per_s=number))
    else:
        peaks = {t: swap(n, value=n.value * factor) for t, n in h100.peak_flop_per_s.items()}
        better = swap(h100, peak_flop_per_s=peaks)
    for rate in (3.0, 20.0, 70.0):
        q = question("llama-3.1-70b", ("h100",), **(BASE | {"rate": rate}))
        assert _cost(replace(w, accelerators={"h100": better}), q) <= _cost(w, q) * (1 + 1e-9)


def test_another_accelerator_to_choose_from_never_costs_more() -> None:
    one, two = ("h100",), ("h100", "l40s", "h200")
    alone = _cost(world(("llama-3.1-8b",), one), question("llama-3.1-8b", one, **BASE))
    both = _cost(world(("llama-3.1-8b",), two), question("llama-3.1-8b", two, **BASE))
    assert both <= alone * (1 + 1e-9)


def test_the_order_of_accelerators_changes_nothing() -> None:
    there, back = ("h100", "h200"), ("h200", "h100")
    a = recommend(question("llama-3.1-8b", there, **BASE), world(("llama-3.1-8b",), there))
    b = recommend(question("llama-3.1-8b", back, **BASE), world(("llama-3.1-8b",), back))
    assert a.best == b.best
    assert a.alternatives == b.alternatives


def test_doubling_every_price_doubles_the_cost_and_changes_no_layout() -> None:
    hardware = ("h100", "h200")
    once, twice = {"h100": 2.0, "h200": 3.0}, {"h100": 4.0, "h200": 6.0}
    q = question("deepseek-r1", hardware, isl=4096, osl=1024, rate=20, ttft=2, tpot=0.04)
    a = recommend(q, world(("deepseek-r1",), hardware, prices=once))
    b = recommend(q, world(("deepseek-r1",), hardware, prices=twice))
    assert a.best is not None
    assert b.best is not None
    assert b.best.plan == a.best.plan
    assert b.best.metrics.usd_per_h == pytest.approx(2 * a.best.metrics.usd_per_h)
    assert [c.plan for c in b.alternatives] == [c.plan for c in a.alternatives]


def test_a_cheaper_accelerator_never_raises_the_cost() -> None:
    hardware = ("h100", "h200")
    q = question("llama-3.1-70b", hardware, **BASE)
    before = _cost(world(("llama-3.1-70b",), hardware, prices={"h100": 3.0, "h200": 3.5}), q)
    for cheaper in ({"h100": 2.0, "h200": 3.5}, {"h100": 3.0, "h200": 1.0}):
        assert _cost(world(("llama-3.1-70b",), hardware, prices=cheaper), q) <= before * (1 + 1e-9)


def test_goodput_is_the_rate_that_still_fits_and_no_more() -> None:
    w = world(("llama-3.1-70b",), ("h100",))
    most = recommend(question("llama-3.1-70b", ("h100",), **(BASE | {"rate": None}), max_gpus=16), w)
    assert most.best is not None
    rate = most.best.metrics.requests_per_s
    assert most.best.metrics.gpus <= 16
    at = recommend(question("llama-3.1-70b", ("h100",), **(BASE | {"rate": rate * 0.999}), max_gpus=16), w)
    above = recommend(question("llama-3.1-70b", ("h100",), **(BASE | {"rate": rate * 1.01}), max_gpus=16), w)
    assert at.best is not None
    assert above.best is None


@pytest.mark.parametrize(
    "change",
    [
        {"tpot": 0.004},
        {"ttft": 0.02},
        {"max_gpus": 4},
        {"tpot": 0.004, "ttft": 0.02},
        {"request_latency_s": 1.0},
    ],
)
def test_what_an_infeasible_answer_says_to_relax_makes_it_feasible(change: dict[str, float]) -> None:
    w = world(("llama-3.1-70b",), ("h100",))
    given_ = BASE | change
    q = question("llama-3.1-70b", ("h100",), **given_)
    answer = recommend(q, w)
    assert answer.best is None
    assert answer.infeasible is not None
    assert answer.infeasible.nearest is not None
    slo, max_gpus = q.slo, q.max_gpus
    for flag in answer.infeasible.relax:
        name, value = flag.split()
        if name == "--max-gpus":
            max_gpus = int(value)
        elif name != "--rate":
            field = {"--ttft": "ttft_s", "--tpot": "tpot_s", "--latency": "request_latency_s"}[name]
            slo = replace(slo, **{field: parse_duration_s(value)})
    relaxed = recommend(replace(q, slo=slo, max_gpus=max_gpus), w)
    assert relaxed.best is not None


def test_a_model_that_fits_nowhere_says_by_how_much() -> None:
    w = world(("deepseek-r1",), ("h100",))
    q = question(
        "deepseek-r1", ("h100",), isl=4096, osl=1024, rate=1, ttft=2, tpot=0.1, max_gpus_per_worker=8
    )
    answer = recommend(q, w)
    assert answer.best is None
    assert answer.infeasible is not None
    assert "fits on no layout of h100" in answer.infeasible.binding
