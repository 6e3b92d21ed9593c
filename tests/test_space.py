"""Formats as dimensions of the space, and budgets turned into goodput, against exhaustive enumeration."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from helpers import model, question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.compose import World, build_network, build_setting, evaluate_plan
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, meets, pool_memory
from pdplan.layout import Layout
from pdplan.plan import Metrics, Serving
from pdplan.question import Choices, Question
from pdplan.search import recommend
from pdplan.search.modes.extra import cheapest_extra
from pdplan.search.space import build_space, spaces
from pdplan.serving.pools import Pool
from pdplan.workload import Speculation

# (tp, pp) of a dense model with 8 KV heads on one or two accelerators, by hand.
LAYOUTS = [(1, 1), (2, 1), (1, 2)]
DRAFTING = Speculation(drafted=2, acceptance=0.6)
OPEN = Choices(
    precisions=("bf16", "fp8"),
    kv_precisions=("bf16", "fp8"),
    speculations=(Speculation(), DRAFTING),
    chunk_tokens=(None, 1024),
)


class Enumerated:
    """Every deployment of a dense model within a number of accelerators, as arrays: no search at all."""

    def __init__(self, w: World, q: Question, most: int, formats: tuple[str, str, Speculation, int | None]):
        self.w, self.q, self.most = w, q, most
        self.precision, self.kv, self.speculation, self.chunk = formats

    def pool(self, hardware: str, rows: np.ndarray, role: str) -> Pool:
        """Rows of (tp, pp, workers, prompts)."""
        serving = Serving(
            model=self.q.model, precision=self.precision, kv_precision=self.kv, engine=self.q.engine
        )
        tp, pp, workers, prompts = rows.T.astype(float)
        pool = Pool(
            setting=build_setting(self.w, serving, hardware, None if role == "decode" else self.chunk),
            layout=Layout(tp=tp, pp=pp, dp=np.ones(len(rows)), ep=np.ones(len(rows))),
            workers=workers,
            max_batch=np.ones(len(rows)),
            speculation=Speculation() if role == "prefill" else self.speculation,
        )
        if role == "prefill":
            return replace(pool, max_batch=prompts * pool.servers_per_worker)
        return replace(pool, max_batch=np.maximum(pool_memory(pool, self.q.workload).max_sequences, 1e-9))

    def deployments(self):
        """(metrics at a rate, allowed) of every colocated pool and every pair, one function a kind."""
        q, w = self.q, self.w
        counts = range(1, self.most + 1)
        single = np.array(
            [(*lay, n, 1) for lay in LAYOUTS for n in counts if lay[0] * lay[1] * n <= self.most]
        )
        for hardware in q.colocated_hardware:
            money = Economics(usd_per_gpu_h={"colocated": w.price(hardware)}, watt_per_gpu={"colocated": 0.0})
            pool = self.pool(hardware, single, "colocated")

            def alone(rate, pool=pool, money=money):
                return evaluate_colocated(pool, q.workload.at_rate(rate), q.slo, money)

            yield alone, pool.max_batch >= pool.servers_per_worker
        step = 8192 if self.chunk is None else self.chunk
        prompts = [b for b in (1, 2, 4, 8, 16, 32) if b == 1 or b * q.workload.new_tokens <= step]
        rows = [
            (p, d) for p in single for d in single if p[0] * p[1] * p[2] + d[0] * d[1] * d[2] <= self.most
        ]
        left = np.array([(*p[:3], b) for p, _ in rows for b in prompts])
        right = np.array([d for _, d in rows for _ in prompts])
        if not len(left):
            return
        for p, d in product(q.prefill_hardware, q.decode_hardware):
            sending, receiving = self.pool(p, left, "prefill"), self.pool(d, right, "decode")
            money = Economics(
                usd_per_gpu_h={"prefill": w.price(p), "decode": w.price(d)},
                watt_per_gpu={"prefill": 0, "decode": 0},
            )
            network = build_network(w, p, d)
            held = pool_memory(sending, q.workload).max_sequences >= sending.max_batch

            def both(rate, s=sending, r=receiving, n=network, m=money):
                return evaluate_disaggregated(s, r, q.workload.at_rate(rate), q.slo, n, m)

            yield both, held & (receiving.max_batch >= receiving.servers_per_worker)

    def least_usd(self) -> float:
        best = np.inf
        for at, allowed in self.deployments():
            metrics = at(float(self.q.workload.rate))
            good = meets(metrics, self.q.slo) & allowed & self.within(metrics)
            best = min(best, np.min(metrics.usd_per_h, where=good, initial=np.inf))
        return float(best)

    def serves(self, rate: float) -> bool:
        """Whether any deployment within the budget keeps the SLO at `rate`."""
        found = False
        for at, allowed in self.deployments():
            metrics = at(np.full(len(allowed), rate))
            found |= bool(np.any(meets(metrics, self.q.slo) & allowed & self.within(metrics)))
        return found

    def within(self, metrics: Metrics) -> np.ndarray:
        gpus, usd = self.q.max_gpus or np.inf, self.q.max_usd_per_h or np.inf
        return (metrics.gpus <= gpus) & (metrics.usd_per_h <= usd * (1 + 1e-9))


def every_format(choices: Choices):
    return product(choices.precisions, choices.kv_precisions, choices.speculations, choices.chunk_tokens)


PLAIN = ("bf16", "bf16", Speculation(), None)


@settings(max_examples=3)
@given(
    rate=st.floats(1, 8),
    isl=st.integers(200, 3000),
    osl=st.integers(50, 500),
    ttft=st.floats(0.2, 2),
    tpot=st.floats(0.008, 0.05),
)
def test_the_cheapest_over_open_formats_is_that_of_brute_force(rate, isl, osl, ttft, tpot):
    w = world(("llama-3.1-8b",), ("h100",))
    q = question(
        "llama-3.1-8b", ("h100",), isl=isl, osl=osl, rate=rate, ttft=ttft, tpot=tpot,
        max_gpus_per_worker=2, max_gpus=5, choices=OPEN,
    )  # fmt: skip
    brute = min(Enumerated(w, q, 5, formats).least_usd() for formats in every_format(OPEN))
    best = recommend(q, w).best
    assert (best.metrics.usd_per_h if best else np.inf) == pytest.approx(brute, rel=1e-9)


BUDGETS = [
    {"max_gpus": 5},
    {"max_usd_per_h": 14.0},
    {"max_gpus": 4, "max_usd_per_h": 9.0},
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@settings(max_examples=2)
@given(isl=st.integers(200, 5000), ttft=st.floats(0.15, 2), tpot=st.floats(0.01, 0.06))
def test_no_deployment_of_the_budget_serves_more(budget, isl, ttft, tpot):
    hardware = ("h100", "l40s")
    w = world(("llama-3.1-8b",), hardware, prices={"h100": 3.0, "l40s": 1.9})
    q = question(
        "llama-3.1-8b", hardware, isl=isl, osl=200, rate=None, ttft=ttft, tpot=tpot,
        max_gpus_per_worker=2, **budget,
    )  # fmt: skip
    every = Enumerated(w, q, budget.get("max_gpus", 7), PLAIN)
    found = recommend(q, w).best.metrics.requests_per_s
    assert every.serves(found * (1 - 3e-6))
    assert not every.serves(found * (1 + 3e-6))


def test_no_deployment_of_any_format_serves_more():
    w = world(("llama-3.1-8b",), ("h100",))
    q = question(
        "llama-3.1-8b", ("h100",), isl=1500, osl=200, rate=None, ttft=1, tpot=0.02,
        max_gpus_per_worker=2, max_gpus=3, choices=OPEN,
    )  # fmt: skip
    every = [Enumerated(w, q, 3, formats) for formats in every_format(OPEN)]
    found = recommend(q, w).best.metrics.requests_per_s
    assert any(e.serves(found * (1 - 3e-6)) for e in every)
    assert not any(e.serves(found * (1 + 3e-6)) for e in every)


@settings(max_examples=3)
@given(usd=st.floats(8, 60), more=st.floats(1, 2))
def test_more_money_never_serves_less_and_what_it_serves_costs_no_more(usd, more):
    w = world(("llama-3.1-8b",), ("h100",))
    ask = {"isl": 1000, "osl": 200, "rate": None, "ttft": 1, "tpot": 0.03, "max_gpus_per_worker": 2}
    less = recommend(question("llama-3.1-8b", ("h100",), **ask, max_usd_per_h=usd), w).best
    much = recommend(question("llama-3.1-8b", ("h100",), **ask, max_usd_per_h=usd * more), w).best
    assert less.metrics.usd_per_h <= usd * (1 + 1e-6)
    assert much.metrics.requests_per_s >= less.metrics.requests_per_s * (1 - 1e-5)


def test_a_budget_in_dollars_is_one_in_accelerators_where_there_is_one_price():
    w = world(("llama-3.1-8b",), ("h100",), prices={"h100": 2.5})
    ask = {"isl": 1000, "osl": 200, "rate": None, "ttft": 1, "tpot": 0.03}
    by_count = recommend(question("llama-3.1-8b", ("h100",), **ask, max_gpus=7), w)
    by_money = recommend(question("llama-3.1-8b", ("h100",), **ask, max_usd_per_h=17.5), w)
    assert by_money.best == by_count.best
    assert by_money.best.metrics.gpus == 7


def test_a_rate_that_the_money_does_not_buy_says_what_it_costs_and_what_it_buys():
    w = world(("llama-3.1-70b",), ("h100",))
    ask = {"isl": 2000, "osl": 300, "ttft": 1.0, "tpot": 0.04}
    q = question("llama-3.1-70b", ("h100",), **ask, rate=20.0, max_usd_per_h=30.0)
    answer = recommend(q, w)
    assert answer.best is None
    money, rate = answer.infeasible.relax
    assert money.startswith("--max-usd-per-h ")
    assert recommend(replace(q, max_usd_per_h=float(money.split()[1])), w).best is not None
    slower = replace(q, workload=q.workload.at_rate(float(rate.split()[1])))
    assert recommend(slower, w).best is not None


@pytest.mark.parametrize("mode", ["disaggregated", "colocated"])
def test_a_plan_of_chosen_formats_does_what_evaluate_says(mode):
    w = world(("deepseek-r1",), ("h200",))
    open_ = Choices(
        precisions=("fp8", "fp4"),
        kv_precisions=("bf16", "fp8"),
        speculations=(Speculation(), DRAFTING),
        chunk_tokens=(None, 16384),
    )
    ask = {"isl": 4096, "osl": 1024, "rate": 20, "ttft": 2, "tpot": 0.03, "mode": mode}
    q = question("deepseek-r1", ("h200",), **ask, choices=open_)
    answer = recommend(q, w)
    assert evaluate_plan(w, answer.best.plan, q.workload, q.slo) == answer.best.metrics
    for candidate in answer.alternatives:  # these are as the search evaluated them: equal but for rounding
        again = vars(evaluate_plan(w, candidate.plan, q.workload, q.slo))
        for name, value in vars(candidate.metrics).items():
            assert again[name] == pytest.approx(value, rel=1e-9), name
    closed = recommend(replace(q, choices=Choices()), w)
    assert answer.best.metrics.usd_per_h <= closed.best.metrics.usd_per_h
    assert answer.layouts == 16 * closed.layouts


def test_equal_cost_keeps_the_format_named_first():
    """One accelerator serves it in any format: quality is not given away for nothing."""
    w = world(("llama-3.1-8b",), ("h100",))
    ask = {"isl": 500, "osl": 100, "rate": 0.5, "ttft": 2, "tpot": 0.1}
    best = recommend(question("llama-3.1-8b", ("h100",), **ask, choices=OPEN), w).best
    assert best.metrics.gpus == 1
    assert (best.plan.precision, best.plan.kv_precision) == ("bf16", "bf16")
    assert best.plan.colocated.chunk_tokens is None
    assert best.plan.speculation.drafted == 0


def test_expert_parallelism_goes_up_to_320_ranks():
    """DeepSeek serves decode by EP320 on H800: one expert a rank, 64 copies of the busiest."""
    w = world(("deepseek-v3",), ("h800",))
    q = question("deepseek-v3", ("h800",), isl=4096, osl=1024, rate=500, ttft=2, tpot=0.05)
    layout = build_space(q, w).decode["h800"].candidates.pool.layout
    wide = (layout.ep == 320) & (layout.dp == 320) & (layout.tp == 1)
    assert wide.sum() == 1
    assert layout.gpus.min() >= 8  # eight of 80 GB do not hold it
    assert {16, 32, 64, 72, 144, 256}.issubset(set(layout.ep.astype(int)))


def test_a_rank_of_ep320_holds_one_expert_of_256():
    experts = next(g.feed_forward for g in model("deepseek-v3").layers if hasattr(g.feed_forward, "experts"))
    from pdplan.memory import expert_shards

    shards = expert_shards(experts, Layout(tp=1, dp=[32, 320, 144], ep=[32, 320, 144]))
    assert (experts.experts / shards).tolist() == [8, 1, 2]


def test_variants_share_what_they_have_in_common():
    w = world(("llama-3.1-8b",), ("h100",))
    q = question("llama-3.1-8b", ("h100",), isl=1000, osl=100, rate=5, choices=OPEN)
    found = [space for _, space in spaces(q, w)]
    assert len(found) == 16
    pools = {id(s.decode["h100"].candidates.pool) for s in found}
    assert len(pools) == 8  # of chunk sizes, decode workers know nothing


@settings(max_examples=150)
@given(data=st.data())
def test_extra_workers_are_counted_exactly(data):
    """W(e) by hand as a falling staircase; the answer beside the plain minimum over every e."""
    cases, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
    stairs = np.array(
        [
            sorted(data.draw(st.lists(st.integers(1, 30), min_size=length, max_size=length)), reverse=True)
            for _ in range(cases)
        ],
        dtype=float,
    )
    for row in stairs:
        row[: data.draw(st.integers(0, length - 1)) if data.draw(st.booleans()) else 0] = np.inf
    unit = np.array([data.draw(st.integers(1, 9)) for _ in range(cases)], dtype=float)
    extra = np.array([data.draw(st.integers(1, 9)) for _ in range(cases)], dtype=float)
    at = lambda c, e: stairs[c, np.minimum(e, length - 1).astype(int)]  # noqa: E731
    price = lambda c, n, e: n * unit[c] + e * extra[c]  # noqa: E731
    least = stairs[:, -1] - data.draw(st.integers(0, 1))
    costs = stairs * unit[:, None] + np.arange(length) * extra[:, None]
    short = (lambda c, e, enough: at(c, e) > enough) if data.draw(st.booleans()) else None
    found = cheapest_extra(at, price, stairs[:, 0], least, np.inf, short=short).astype(int)
    for k in range(cases):
        assert costs[k, found[k]] == costs[k].min()
    # Where only the cheapest of all is wanted, and what is as cheap.
    found = cheapest_extra(at, price, stairs[:, 0], least, np.inf, 1 + 1e-9, short).astype(int)
    for k in np.flatnonzero(costs.min(axis=1) == costs.min()):
        assert costs[k, found[k]] == costs.min()


def test_a_budget_that_pays_for_nothing_says_what_one_costs():
    w = world(("llama-3.1-8b",), ("h100",), prices={"h100": 2.5})
    q = question("llama-3.1-8b", ("h100",), isl=1000, osl=100, rate=None, max_usd_per_h=1.0)
    answer = recommend(q, w)
    assert answer.best is None
    assert answer.infeasible.binding.startswith("$1.00/h does not pay for one accelerator")
    assert answer.infeasible.relax == ("--max-usd-per-h 2.5",)
    assert recommend(replace(q, max_usd_per_h=2.5), w).best is not None
