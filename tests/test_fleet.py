"""Fleets: several deployments on one stock, against enumeration; files, budgets, what is short."""

from __future__ import annotations

import copy
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pdplan
from pdplan.catalog.store import Catalog
from pdplan.cli.app import run
from pdplan.documents.files import Document
from pdplan.errors import InputError
from pdplan.goodput import goodput_requests_per_s
from pdplan.inputs.fleets import AskedFleet, fleet_from, read_fleet
from pdplan.plan import Colocated, PoolPlan, Serving, role_of
from pdplan.report.fleet import fleet_report
from pdplan.report.formats.machine import render_json
from pdplan.report.formats.render import FORMATS, render
from pdplan.search.fleets import fleet, narrowed
from pdplan.search.fleets.fleet_plan import FleetPlan, plan_fleet

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "pdplan/report/schemas/fleet.json").read_text(encoding="utf-8"))
PRICES = {"h100": 3.0, "l40s": 1.1}
SMALL = {
    "model": "llama-3.1-8b", "isl": 1500, "osl": 300, "ttft": 1.5, "tpot": 0.05, "mode": "colocated",
    "max_gpus_per_worker": 1,
}  # fmt: skip
TWO_TARIFFS = {
    "a": {"model": "llama-3.1-70b", "isl": 2048, "osl": 512, "rate": 30, "ttft": 1, "tpot": 0.05},
    "b": {"model": "qwen3-32b", "isl": 4096, "osl": 512, "rate": 10, "ttft": 1, "tpot": 0.05},
}
LONG = SMALL | {"isl": 6000, "osl": 100, "ttft": 4.0}


def asked(**top: Any) -> AskedFleet:
    data = {"prices": PRICES, "inventory": {"h100": 3, "l40s": 4}} | top
    if "deployments" not in data:
        data["deployments"] = {"chat": SMALL | {"rate": 20}, "long": LONG | {"rate": 4}}
    return fleet_from(Document(path="fleet", data=copy.deepcopy(data), text=""), Catalog())


def planned(time_limit_s: float = 20.0, **top: Any) -> FleetPlan:
    fleet = asked(**top)
    return plan_fleet(fleet.wanted, replace(fleet.budgets, time_limit_s=time_limit_s))


def alone(fleet: AskedFleet, most: dict[str, int]) -> list[dict[tuple[str, int], float]]:
    """Goodput of each deployment on so many workers of one kind: by bisection over the evaluation."""
    serving = vars(Serving(model="llama-3.1-8b", precision="bf16", kv_precision="bf16"))
    found = []
    for each in fleet.wanted:
        workload, slo = each.question.workload, each.question.slo
        found.append(
            {
                (hw, n): goodput_requests_per_s(
                    each.world,
                    Colocated(**serving, colocated=PoolPlan(hardware=hw, workers=n)),
                    workload,
                    slo,
                )
                for hw in PRICES
                for n in range(1, most[hw] + 1)
            }
        )
    return found


@settings(max_examples=4)
@given(
    chat=st.floats(5, 45), long=st.floats(1, 6), h100=st.integers(1, 3), l40s=st.integers(1, 4),
    extra=st.integers(1, 3),
)  # fmt: skip
def test_a_fleet_costs_what_enumeration_finds(
    chat: float, long: float, h100: int, l40s: int, extra: int
) -> None:
    # L40S: the first ones at list price, some more at twice as much.
    inventory = {"h100": h100, "l40s": [l40s, {"count": extra, "price": 2.2}]}
    deployments = {"chat": SMALL | {"rate": chat}, "long": LONG | {"rate": long}}
    fleet = asked(inventory=inventory, deployments=deployments)
    stock = {"h100": h100, "l40s": l40s + extra}
    rates = alone(fleet, stock)

    def cost(used: dict[str, int]) -> float:
        if any(used[hw] > stock[hw] for hw in stock):
            return math.inf
        cheap = min(used["l40s"], l40s)
        return used["h100"] * 3.0 + cheap * 1.1 + (used["l40s"] - cheap) * 2.2

    def least(factor: float) -> float:
        best = math.inf
        for a, b, c, d in itertools.product(range(h100 + 1), range(l40s + extra + 1), repeat=2):
            serves = [
                rate.get(("h100", x), 0.0) + rate.get(("l40s", y), 0.0) >= demand * factor
                for rate, x, y, demand in zip(rates, (a, c), (b, d), (chat, long), strict=True)
            ]
            if all(serves):
                best = min(best, cost({"h100": a + c, "l40s": b + d}))
        return best

    found = plan_fleet(fleet.wanted, fleet.budgets)
    total = found.bill.usd_per_h if found.bill else math.inf
    # Goodput is known to a thousandth.
    assert least(0.997) - 1e-9 <= total <= least(1.003) + 1e-9
    if found.bill:
        assert not found.bill.missing
        assert found.lower_bound <= total * (1 + 1e-9)
        assert sum(a.candidate.metrics.usd_per_h for a in found.assigned) == pytest.approx(total)


def test_together_costs_no_less_than_alone_and_no_more_with_more_stock() -> None:
    few = planned(inventory={"h100": 2, "l40s": 4})
    many = planned(inventory={"h100": 20, "l40s": 40})
    singles = [
        planned(inventory={"h100": 2, "l40s": 4}, deployments={name: entry})
        for name, entry in (("chat", SMALL | {"rate": 20}), ("long", LONG | {"rate": 4}))
    ]
    assert few.bill is not None
    assert many.bill is not None
    assert many.bill.usd_per_h <= few.bill.usd_per_h + 1e-9
    assert sum(s.bill.usd_per_h for s in singles if s.bill) <= few.bill.usd_per_h + 1e-9


def test_a_short_stock_says_how_many_more_would_do_and_they_do() -> None:
    stock = {"h100": 1, "l40s": 1}
    found = planned(inventory=stock)
    assert found.bill is None
    assert found.infeasible is not None
    assert "inventory" in found.infeasible.binding
    more = dict(stock)
    for name, (needed, there) in found.infeasible.misses.items():
        hardware = name.removeprefix("inventory_")
        assert there == stock[hardware]
        more[hardware] = int(needed)
    again = planned(inventory=more)
    assert again.bill is not None
    # One fewer of what was missing does not: it was the least.
    for hardware in more:
        if more[hardware] > stock[hardware]:
            fewer = more | {hardware: more[hardware] - 1}
            assert planned(inventory=fewer).bill is None


def test_a_stock_smaller_than_any_worker_says_how_many_more_would_do() -> None:
    model = {"model": "llama-3.1-70b", "isl": 2048, "osl": 512, "rate": 2}
    found = planned(inventory={"h100": 1}, deployments={"a": model})
    assert found.infeasible is not None
    assert found.infeasible.misses == {"inventory_h100": (4, 1)}, "141 GB of weights and a cache: four h100"
    assert planned(inventory={"h100": 4}, deployments={"a": model}).bill is not None
    assert planned(inventory={"h100": 3}, deployments={"a": model}).bill is None


@pytest.mark.parametrize(("budget", "value"), [("max_usd_per_h", 2.0), ("max_gpus", 1)])
def test_a_short_budget_says_what_would_do_and_it_does(budget: str, value: float) -> None:
    found = planned(**{budget: value})
    assert found.infeasible is not None
    assert "are allowed" in found.infeasible.binding
    key, needed = found.infeasible.relax[0].split(": ")
    assert key == budget
    again = planned(**{budget: float(needed)})
    assert again.bill is not None


def test_a_deployment_that_works_nowhere_is_named() -> None:
    hopeless = SMALL | {"rate": 5, "tpot": "0.1ms"}
    found = planned(deployments={"chat": SMALL | {"rate": 5}, "hopeless": hopeless})
    assert found.infeasible is not None
    assert list(found.infeasible.failing) == ["hopeless"]
    assert "TPOT" in found.infeasible.binding


def test_a_deployment_keeps_its_own_hardware_and_limit() -> None:
    only = SMALL | {"rate": 4, "hardware": "l40s", "max_gpus": 3}
    found = planned(deployments={"only": only, "any": SMALL | {"rate": 8}})
    assert found.bill is not None
    plan = found.assigned[0].candidate.plan
    assert {p.hardware for p in plan.pools.values()} == {"l40s"}
    assert found.assigned[0].candidate.metrics.gpus <= 3


def test_whole_nodes_are_shared_by_deployments() -> None:
    found = planned(granularity="node", inventory={"h100": 16})
    assert found.bill is not None
    assert found.bill.gpus == 8  # both deployments on one node
    assert found.bill.usd_per_h == pytest.approx(24.0)


@pytest.mark.parametrize("top", [{}, {"inventory": {"h100": 1, "l40s": 1}}], ids=["answer", "short"])
def test_json_keeps_its_schema(top: dict[str, Any]) -> None:
    fleet = asked(**top)
    report = fleet_report(plan_fleet(fleet.wanted, fleet.budgets), catalog_sha256=fleet.catalog_sha256)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(render_json(report)), SCHEMA, cls=jsonschema.Draft202012Validator)
    again = fleet_report(plan_fleet(fleet.wanted, fleet.budgets), catalog_sha256=fleet.catalog_sha256)
    for format in FORMATS:  # the same input, the same bytes
        assert render(report, format) == render(again, format)


LARGE = {
    "chat": SMALL | {"rate": 30_000},
    "long": LONG | {"rate": 8000},
    "both": SMALL | {"rate": 20_000, "mode": "any", "tpot": 0.03},
}


def test_a_large_fleet_of_few_kinds_of_workers_comes_as_near_as_one_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kinds that are too dear at the linear programme's prices are dropped: what is left does as well."""
    top = {"inventory": {"h100": 3000, "l40s": 40_000}, "deployments": LARGE}
    quick = planned(**top)
    monkeypatch.setattr(narrowed, "MANY", 99)
    thorough = planned(time_limit_s=120.0, **top)  # far more than it takes, on a slow machine, too
    assert quick.bill is not None
    assert thorough.bill is not None
    assert quick.gap < 0.01
    assert quick.lower_bound <= thorough.bill.usd_per_h * (1 + 1e-9)
    assert thorough.lower_bound <= quick.bill.usd_per_h * (1 + 1e-9)
    assert quick.bill.usd_per_h <= thorough.bill.usd_per_h * 1.001


def test_a_small_fleet_of_many_columns_is_as_cheap_as_one_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deployments part at the prices of what they share; nothing is cut to make the programme small."""
    chat = {k: v for k, v in SMALL.items() if k != "mode"}
    deployments = {
        "chat": chat | {"rate": 90},
        "long": LONG | {"rate": 9},
        "short": chat | {"osl": 60, "rate": 7},
    }
    top = {"inventory": {"h100": 30, "l40s": 60}, "deployments": deployments}
    exact = planned(**top)
    monkeypatch.setattr(fleet, "MANY_COLUMNS", 10)
    found = planned(**top)
    assert exact.bill is not None
    assert found.bill is not None
    assert exact.gap < 1e-6
    assert found.bill.usd_per_h == pytest.approx(exact.bill.usd_per_h, rel=fleet.NEAR)
    assert found.gap <= fleet.NEAR


def test_workers_that_differ_in_their_batch_alone_are_one_pool() -> None:
    lots = [{"count": 16, "price": 2.1}, {"count": "any", "price": 3.9}]
    fleet = asked(inventory={"h100": lots, "h20": 16}, prices={"h20": 0.8}, deployments=TWO_TARIFFS)
    found = plan_fleet(fleet.wanted, fleet.budgets)
    assert found.bill is not None
    assert len([line for line in found.bill.lines if line.hardware == "h100"]) == 2
    for each in found.assigned:
        pools = [
            (role_of(name), replace(pool, workers=1, max_batch=1))
            for name, pool in each.candidate.plan.pools.items()
        ]
        assert len(pools) == len(set(pools))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"deployments": {}}, "0 deployments"),
        ({"deployments": {"a": SMALL}}, "the load is missing"),
        ({"deployments": {"a": SMALL | {"rate": 5, "inventory": {"h100": 2}}}}, "share it"),
        ({"deployments": {"a": SMALL | {"rate": 5, "objective": "gpus"}}}, "least cost"),
        ({"deployments": {"a": SMALL | {"rate": 5, "model": "llama-3.1-8bb"}}}, "did you mean"),
        ({"max_usd_per_h": -3}, "max_usd_per_h"),
        ({"deployments": {"a": SMALL | {"rate": 5, "max_usd_per_h": 9}}}, "at the top"),
        ({"deployments": {"a": SMALL | {"rate": 5, "kv_precision": ["bf16", "fp8"]}}}, "is open"),
        ({"time_limit": "5h"}, "0.1s to 1h"),
        ({"inventry": {"h100": 2}}, "did you mean 'inventory'"),
    ],
)
def test_what_is_wrong_with_a_fleet_is_told(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked(**data)


def test_the_command_answers_and_says_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.json"
    entry = SMALL | {"rate": 20}
    path.write_text(json.dumps({"inventory": {"h100": 4}, "deployments": {"chat": entry}}), encoding="utf-8")
    assert run(["fleet", str(path)]) == 0
    assert "1 deployment on" in capsys.readouterr().out
    assert run(["fleet", str(path), "--inventory", "h100=1"]) == 1
    assert "1 more h100" in capsys.readouterr().out
    assert run(["fleet", str(path), "--inventory", "h10=1"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_from_python_as_from_a_file() -> None:
    deployments = {"chat": SMALL | {"rate": 20}, "long": LONG | {"rate": 4}}
    data = {"prices": PRICES, "inventory": {"h100": 3, "l40s": 4}, "deployments": deployments}
    found = pdplan.fleet(data)
    assert found.bill == planned().bill
    assert pdplan.fleet(data, max_usd_per_h=1).infeasible is not None
    with pytest.raises(InputError, match="unknown input"):
        pdplan.fleet(data, budget=1)


def test_a_large_fleet_whose_stock_is_used_to_the_last_has_plans() -> None:
    """Fractions divide deployments between ways of which none can take all of one: no plan was found."""
    asked = read_fleet(Path(__file__).parents[1] / "benchmarks" / "fleet.yaml", Catalog())
    found = plan_fleet(asked.wanted, asked.budgets)
    assert found.bill is not None
    assert not found.bill.missing
    assert found.gap < 0.05
