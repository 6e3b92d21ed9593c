"""Lots, tariffs, whole nodes, inventories: by hand, by exhaustive packing, by brute force over plans."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st
from test_search import DENSE, _pool

from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_network, evaluate_plan, plan_bill
from pdplan.errors import InputError
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, meets, pool_memory
from pdplan.inputs import given as given_values
from pdplan.inputs import question_from
from pdplan.market import Lot, Market, Tariff, packed_pair, packed_units
from pdplan.plan import Colocated, PoolPlan
from pdplan.question import Question
from pdplan.report.contract import relax_words
from pdplan.search import recommend

HARDWARE = ("h100", "l40s")


def stocked(w: World, **lots: tuple[Lot, ...]) -> World:
    return replace(w, market=replace(w.market, inventory=lots))


def asked(rate: float = 10.0, hardware: tuple[str, ...] = HARDWARE, **options: object) -> Question:
    limits = {"ttft": 1.0, "tpot": 0.05} | options
    return question("llama-3.1-8b", hardware, isl=1500, osl=300, rate=rate, max_gpus_per_worker=2, **limits)


# ------------------------------------------------------------------------ nodes and lots


def least_units(unit: int, sizes: tuple[int, ...]) -> int:
    """Bin packing by trying every assignment: workers within a unit stay whole."""
    whole = sum(s // unit for s in sizes)
    rests = sorted((s % unit for s in sizes if s % unit), reverse=True)

    def fits(left: list[int], room: list[int]) -> bool:
        if not left:
            return True
        return any(
            fits(left[1:], [*room[:k], r - left[0], *room[k + 1 :]])
            for k, r in enumerate(room)
            if r >= left[0] and r not in room[:k]
        )

    return whole + next(n for n in range(len(rests) + 1) if fits(rests, [unit] * n))


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=7),
    unit=st.sampled_from([4, 8]),
)
def test_workers_that_halve_each_other_are_packed_as_tightly_as_can_be(sizes: list[int], unit: int) -> None:
    counts = [(size, sizes.count(size)) for size in set(sizes)]
    assert packed_units(unit, counts) == least_units(unit, tuple(sizes))


@given(
    a=st.integers(1, 100), b=st.integers(1, 100), n=st.integers(0, 9), m=st.integers(0, 9),
    unit=st.sampled_from([4, 6, 8, 16, 72]),
)  # fmt: skip
def test_two_kinds_in_an_array_are_packed_as_one_by_one(a: int, b: int, n: int, m: int, unit: int) -> None:
    assert int(packed_pair(unit, a, n, b, m)) == packed_units(unit, [(a, n), (b, m)])


def test_a_rack_holds_workers_whole() -> None:
    # A rack of 72: two workers of 32 leave 8, one of 64 leaves 8; a ninth of 8 needs another rack.
    assert packed_units(72, [(32, 3)]) == 2
    assert packed_units(72, [(64, 1), (8, 1)]) == 1
    assert packed_units(72, [(64, 2), (8, 3)]) == 3


def test_a_tariff_takes_the_cheapest_lots_first() -> None:
    tariff = Tariff(lots=(Lot(usd_per_h=2.10, gpus=16), Lot(usd_per_h=3.90)))
    assert tariff.cost_per_h([0, 16, 20]) == pytest.approx([0.0, 33.60, 33.60 + 15.60])
    assert not np.isfinite(Tariff(lots=(Lot(usd_per_h=2.0, gpus=16),)).cost_per_h(17))
    # Twelve in nodes of eight: one node, not one and a half.
    assert Tariff(lots=(Lot(usd_per_h=2.0, gpus=12),), unit=8).most == 8


def test_the_bill_counts_whole_nodes_over_all_pools() -> None:
    w = world(("llama-3.1-8b",), ("h100",), prices={"h100": 2.0})
    plan = Colocated(
        model="llama-3.1-8b", precision="bf16", kv_precision="bf16",
        colocated=PoolPlan(hardware="h100", workers=3, tp=4),
    )  # fmt: skip
    q = asked()
    by_gpu = evaluate_plan(w, plan, q.workload, q.slo)
    by_node = evaluate_plan(replace(w, market=Market(granularity="node")), plan, q.workload, q.slo)
    assert (by_gpu.usd_per_h, by_node.usd_per_h) == (24.0, 32.0)
    assert by_node.usd_per_million_tokens == pytest.approx(by_gpu.usd_per_million_tokens * 32 / 24)
    assert plan_bill(replace(w, market=Market(granularity="node")), plan).idle_gpus == 4


@pytest.mark.parametrize("layout", [{"tp": 16}, {"tp": 8, "pp": 2}, {"tp": 4, "dp": 4, "ep": 16}])
def test_a_worker_that_straddles_nodes_pays_for_the_slower_link(layout: dict[str, int]) -> None:
    # The same accelerators, once with a network as fast as the links inside a node.
    w = world(("deepseek-r1",), ("h200",))
    h200 = w.accelerators["h200"]
    assert h200.scale_up is not None
    assert h200.scale_out is not None
    network = replace(h200.scale_out, bandwidth_bytes_per_s=h200.scale_up.bandwidth_bytes_per_s)
    fast = replace(w, accelerators={"h200": replace(h200, scale_out=network)})
    plan = Colocated(
        model="deepseek-r1", precision="fp8", kv_precision="bf16",
        colocated=PoolPlan(hardware="h200", workers=1, **layout),
    )  # fmt: skip
    q = question("deepseek-r1", ("h200",), isl=4096, osl=512, rate=0.5)
    slow, quick = (evaluate_plan(each, plan, q.workload, q.slo) for each in (w, fast))
    assert slow.ttft_mean_s > quick.ttft_mean_s
    if "pp" in layout:  # while one micro-batch crosses nodes, the slower stage works on another
        assert slow.tpot_mean_s >= quick.tpot_mean_s
    else:
        assert slow.tpot_mean_s > quick.tpot_mean_s
    one_node = replace(plan, colocated=PoolPlan(hardware="h200", workers=1, tp=8))
    assert evaluate_plan(w, one_node, q.workload, q.slo) == evaluate_plan(fast, one_node, q.workload, q.slo)


# ------------------------------------------------------------------------ the search within an inventory


def cost_by_hand(bought: dict[str, int], lots: dict[str, tuple[Lot, ...]], unit: int) -> float:
    """Dollars an hour: units rounded up, accelerators taken one by one from the cheapest lot."""
    total = 0.0
    for hardware, count in bought.items():
        left = math.ceil(count / unit) * unit
        for lot in lots[hardware]:
            taken = min(left, lot.gpus)
            total, left = total + taken * lot.usd_per_h, left - taken
        if left:
            return math.inf
    return total


def brute_force(w: World, q: Question, lots: dict[str, tuple[Lot, ...]], unit: int, most: int) -> float:
    """Least cost over every layout, every number of workers up to `most`, every pair of accelerators."""
    best = math.inf
    single = np.array([(*lay, n, 1) for lay in DENSE for n in range(1, most + 1)])
    sending = np.array([(*lay, n, b) for lay in DENSE for n in range(1, most + 1) for b in (1, 2, 4)])
    money = {"prefill": 1.0, "decode": 1.0, "colocated": 1.0}
    free = Economics(usd_per_gpu_h=money, watt_per_gpu=money)
    for hw in HARDWARE:
        pool = _pool(w, q, hw, single, "colocated")
        good = meets(evaluate_colocated(pool, q.workload, q.slo, free), q.slo)
        for gpus in np.unique(pool.gpus[good]):
            best = min(best, cost_by_hand({hw: int(gpus)}, lots, unit))
    for p, d in itertools.product(HARDWARE, HARDWARE):
        left, right = np.repeat(sending, len(single), axis=0), np.tile(single, (len(sending), 1))
        send, receive = _pool(w, q, p, left, "prefill"), _pool(w, q, d, right, "decode")
        metrics = evaluate_disaggregated(send, receive, q.workload, q.slo, build_network(w, p, d), free)
        good = meets(metrics, q.slo) & (pool_memory(send, q.workload).max_sequences >= send.max_batch)
        for gpus_p, gpus_d in {
            (int(a), int(b)) for a, b in zip(send.gpus[good], receive.gpus[good], strict=True)
        }:
            bought = {p: gpus_p + gpus_d} if p == d else {p: gpus_p, d: gpus_d}
            best = min(best, cost_by_hand(bought, lots, unit))
    return best


@settings(max_examples=8)
@given(
    rate=st.floats(1, 25),
    h100=st.integers(1, 6),
    cheap=st.integers(1, 8),
    rest=st.integers(1, 8),
    granularity=st.sampled_from(["gpu", "node"]),
)
def test_the_search_within_an_inventory_costs_what_brute_force_costs(
    rate: float, h100: int, cheap: int, rest: int, granularity: str
) -> None:
    lots = {
        "h100": (Lot(usd_per_h=3.0, gpus=h100 * (8 if granularity == "node" else 1)),),
        "l40s": (Lot(usd_per_h=0.5, gpus=cheap), Lot(usd_per_h=1.5, gpus=rest)),
    }
    w = world(("llama-3.1-8b",), HARDWARE)
    w = replace(w, market=Market(granularity=granularity, inventory=lots))  # type: ignore[arg-type]
    q = asked(rate)
    unit = 8 if granularity == "node" else 1
    brute = brute_force(w, q, lots, unit, 8)
    answer = recommend(q, w)
    if answer.best is None:
        assert brute == math.inf
    elif all(p.workers <= 8 for p in answer.best.plan.pools.values()):
        assert answer.best.metrics.usd_per_h == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("rate", [3.0, 40.0])
def test_more_of_anything_never_costs_more(rate: float) -> None:
    w = world(("llama-3.1-8b",), HARDWARE)
    costs = []
    for count in (1, 2, 4, 8, 16, 64):
        lots = {"h100": (Lot(usd_per_h=3.0, gpus=count),), "l40s": (Lot(usd_per_h=1.0, gpus=4),)}
        best = recommend(asked(rate), stocked(w, **lots)).best
        costs.append(best.metrics.usd_per_h if best else math.inf)
        if best is not None:
            assert not plan_bill(stocked(w, **lots), best.plan).missing
    assert costs == sorted(costs, reverse=True)
    assert math.isfinite(costs[-1])


def test_an_inventory_without_end_changes_nothing() -> None:
    w = world(("llama-3.1-8b",), HARDWARE, prices={"h100": 3.0, "l40s": 1.0})
    lots = {hw: (Lot(usd_per_h=price),) for hw, price in w.prices.items()}
    plain, endless = recommend(asked(), w), recommend(asked(), stocked(w, **lots))
    assert plain.best == endless.best
    assert plain.alternatives == endless.alternatives


@pytest.mark.parametrize("mode", ["any", "colocated", "disaggregated"])
def test_a_short_inventory_says_how_many_more_would_do(mode: str) -> None:
    w = world(("llama-3.1-8b",), HARDWARE)
    lots = {"h100": (Lot(usd_per_h=3.0, gpus=1),), "l40s": (Lot(usd_per_h=1.0, gpus=2),)}
    q = asked(60.0, mode=mode)
    found = recommend(q, stocked(w, **lots))
    assert found.best is None
    assert found.infeasible is not None
    assert found.infeasible.nearest is not None
    assert "inventory" in found.infeasible.binding
    for flags in found.infeasible.relax:  # each on its own makes it feasible, as told
        more = dict(lots)
        for text in flags.split("--inventory ")[1:]:
            name, _, count = text.strip().partition("=")
            more[name] = (replace(lots[name][0], gpus=float(count)),)
        assert recommend(q, stocked(w, **more)).best is not None, flags


def test_what_more_accelerators_cost_is_told_cheapest_first() -> None:
    """Few h100 would do, many l40s too: the plan that each allows has its price, as its bill adds up."""
    w = world(("llama-3.1-8b",), HARDWARE)
    lots = {"h100": (Lot(usd_per_h=9.0, gpus=1),), "l40s": (Lot(usd_per_h=1.0, gpus=2),)}
    q = asked(60.0)
    told = recommend(q, stocked(w, **lots)).infeasible
    assert told is not None
    assert len(told.relax) == len(told.relax_usd_per_h) == 2
    assert list(told.relax_usd_per_h) == sorted(told.relax_usd_per_h)
    for flags, usd in zip(told.relax, told.relax_usd_per_h, strict=True):
        name, _, count = flags.removeprefix("--inventory ").partition("=")
        more = lots | {name: (replace(lots[name][0], gpus=float(count)),)}
        cheapest = recommend(q, stocked(w, **more)).best
        assert cheapest is not None
        # The plan of the fewest accelerators of one kind: no cheaper than the cheapest with as many.
        assert cheapest.metrics.usd_per_h <= usd * (1 + 1e-9)
        assert usd <= sum(
            lots[hw][0].usd_per_h * max(lots[hw][0].gpus, float(count) * (hw == name)) for hw in lots
        )
    words = relax_words(told)
    assert words[0].endswith("/h, the cheapest of these)")
    assert "cheapest" not in words[1]


def test_the_most_goodput_of_an_inventory_stays_within_it() -> None:
    w = world(("llama-3.1-8b",), HARDWARE)
    few = {"h100": (Lot(usd_per_h=3.0, gpus=2),), "l40s": (Lot(usd_per_h=1.0, gpus=4),)}
    many = {**few, "l40s": (Lot(usd_per_h=1.0, gpus=8),)}
    q = replace(asked(), workload=replace(asked().workload, rate=None))
    rates = []
    for lots in (few, many):
        best = recommend(q, stocked(w, **lots)).best
        assert best is not None
        assert not plan_bill(stocked(w, **lots), best.plan).missing
        rates.append(best.metrics.requests_per_s)
    assert rates[0] <= rates[1]


# ------------------------------------------------------------------------ what the user writes


def market(**values: object) -> Market:
    inputs = {"model": "llama-3.1-8b", "isl": 1500, "osl": 300, "rate": 5, "hardware": "h100"} | values
    return question_from(given_values(inputs), Catalog()).world.market


def test_lots_are_read_alike_from_flags_and_files() -> None:
    flags = market(inventory=["h100=16:reserved@2.10", "h100=any@3.90"])
    file = market(
        inventory={"h100": [{"count": "any", "price": 3.9}, {"count": 16, "kind": "reserved", "price": 2.1}]}
    )
    assert flags == file
    assert [(lot.gpus, lot.usd_per_h, lot.kind) for lot in flags.inventory["h100"]] == [
        (16, 2.10, "reserved"),
        (math.inf, 3.90, ""),
    ]


def test_prices_of_a_kind_and_a_provider_are_the_catalogs() -> None:
    # hardware_catalog/h100.yaml: AWS lists two on-demand prices, the lower median is the lower one.
    inputs = {"model": "llama-3.1-8b", "isl": 1500, "osl": 300, "rate": 5, "hardware": "h100"}
    asked = question_from(given_values(inputs | {"provider": "aws"}), Catalog())
    assert asked.world.lots("h100")[0].provider == "AWS"
    assert asked.world.price("h100") == 10.08
    spot = question_from(given_values(inputs | {"price_kind": "spot", "provider": "Nebius"}), Catalog())
    assert spot.world.price("h100") == 1.25


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inventory": "h100"}, "NAME=COUNT"),
        ({"inventory": "h100=0"}, "1 to 1,000,000"),
        ({"inventory": "h100=2.5"}, "1 to 1,000,000"),
        ({"inventory": "h10=2"}, "did you mean"),
        ({"inventory": "h100=2@x"}, "h100"),
        ({"inventory": "h100=2:reservd"}, "did you mean 'reserved'"),
        ({"inventory": "h20=2:spot", "hardware": "h20"}, "no spot price of h20"),
        ({"price_kind": "spot", "hardware": "h20"}, "no spot price of h20"),
        ({"provider": "amazon"}, "no price of 'amazon'"),
        ({"granularity": "chassis"}, "gpu, node, rack"),
    ],
)
def test_what_is_wrong_with_a_market_is_told(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        market(**values)


def test_without_a_rate_every_accelerator_needs_a_limit() -> None:
    inputs = {
        "model": "llama-3.1-8b",
        "isl": 1500,
        "osl": 300,
        "hardware": "h100,h200",
        "inventory": "h100=8",
    }
    with pytest.raises(InputError, match="no limit on h200"):
        question_from(given_values(inputs), Catalog())
