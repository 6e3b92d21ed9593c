"""A day of rates: workers by the hour against brute force, reserve levels against every level."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import question, world
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.catalog.store import Catalog
from pdplan.cli import app
from pdplan.compose import World, evaluate_plan
from pdplan.documents.files import parse_yaml
from pdplan.errors import InputError
from pdplan.evaluate import meets
from pdplan.inputs import given as flags
from pdplan.inputs.days import AskedDay, day_from, day_values, read_day
from pdplan.inputs.rates import listed_rates, read_rates
from pdplan.plan import Disaggregated, Plan
from pdplan.question import Question
from pdplan.search.days.day import Day, DayPlan, plan_day, reserve_level
from pdplan.search.days.series import with_workers
from tests.test_report import valid

MODEL, HARDWARE = "llama-3.1-8b", ("h100", "l40s")
RATES = (4.0, 3.0, 3.0, 6.0, 14.0, 35.0, 60.0, 72.0, 66.0, 48.0, 21.0, 0.0)
PRICES = {"h100": 1.3, "l40s": 0.6}


def plan(
    rates: tuple[float, ...] = RATES, prices: dict[str, float] = PRICES, **changes: object
) -> tuple[DayPlan, World]:
    w = world((MODEL,), HARDWARE)
    asked: dict = {"isl": 2000, "osl": 300, "ttft": 1.0, "tpot": 0.04, "max_gpus_per_worker": 2} | changes
    q: Question = question(MODEL, HARDWARE, rate=max(rates), **asked)
    hours = (24.0 / len(rates),) * len(rates)
    return plan_day(q, Day(hours=hours, rates=rates, reserved_prices=prices), w), w


def least_cost(w: World, found: DayPlan, rate: float, whole: Plan) -> float:
    """Cheapest $/h of the plan's types at one rate, over every number of workers up to the plan's own."""
    q, best = found.question, math.inf
    spare = q.spare_workers
    load = q.workload.at_rate(max(rate, 1e-9) / (1 - q.headroom))
    ranges = [range(1, pool.workers - spare + 1) for pool in whole.pools.values()]
    for counts in np.ndindex(*(len(r) for r in ranges)):
        up = {name: r[i] for name, r, i in zip(whole.pools, ranges, counts, strict=True)}
        cost = sum(
            (n + spare) * whole.pools[name].gpus_per_worker * w.price(whole.pools[name].hardware)
            for name, n in up.items()
        )
        if cost < best and meets(evaluate_plan(w, with_workers(whole, up), load, q.slo), q.slo):
            best = cost
    return best


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "colocated"},
        {"mode": "disaggregated"},
        {"mode": "disaggregated", "ttft": 0.25},
        {"mode": "disaggregated", "spare_workers": 1, "headroom": 0.2},
        {"mode": "colocated", "spare_workers": 2},
    ],
)
def test_every_period_has_the_fewest_workers_that_serve_it(changes: dict[str, object]) -> None:
    found, w = plan(**changes)
    assert found.schedule is not None
    for k, rate in enumerate(RATES):
        here = found.schedule.plan_at(k)
        cost = sum(p.gpus * w.price(p.hardware) for p in here.pools.values())
        assert cost == pytest.approx(least_cost(w, found, rate, found.schedule.plan), rel=1e-9), rate


@pytest.mark.parametrize("mode", ["colocated", "disaggregated"])
def test_metrics_of_a_period_equal_evaluate_of_its_plan(mode: str) -> None:
    found, w = plan(mode=mode, spare_workers=1, headroom=0.1)
    assert found.schedule is not None
    q = found.question
    for k, rate in enumerate(RATES):
        alone = evaluate_plan(w, found.schedule.plan_at(k), q.workload.at_rate(max(rate, 1e-9)), q.slo)
        assert meets(alone, q.slo)
        for name, value in vars(alone).items():
            assert vars(found.schedule.metrics[k])[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name


def test_the_highest_rate_has_as_many_workers_as_recommend_says() -> None:
    found, _ = plan(rates=(20.0, 20.0, 20.0))
    assert found.schedule is not None
    assert found.usd_all_on_demand == pytest.approx(24 * found.fixed.metrics.usd_per_h)
    assert found.usd == pytest.approx(found.usd_fixed)
    assert set(found.schedule.gpus(next(iter(found.reserve)))) != {0.0}


def test_prefill_and_decode_scale_on_their_own() -> None:
    found, _ = plan(mode="disaggregated")
    assert found.schedule is not None
    assert isinstance(found.schedule.plan, Disaggregated)
    counts = {tuple(n[k] for n in found.schedule.workers.values()) for k in range(len(RATES))}
    assert len(counts) > 3
    assert found.schedule.workers["prefill"].min() >= 1  # also in the period without requests
    assert len({p / d for p, d in counts}) > 1


def test_the_day_costs_no_more_than_a_fleet_that_stays() -> None:
    for prices in ({}, PRICES, {"h100": 0.1, "l40s": 0.1}):
        found, _ = plan(prices=prices)
        assert found.usd <= found.usd_all_on_demand * (1 + 1e-9)
        assert found.usd <= found.usd_fixed * (1 + 1e-9)
    none, _ = plan(prices={})
    assert all(r.gpus == 0 for r in none.reserve.values())


@settings(max_examples=100)
@given(
    demand=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    reserved=st.floats(0, 5),
    on_demand=st.floats(0.01, 5),
    data=st.data(),
)
def test_the_reserve_is_the_cheapest_of_all_levels(
    demand: list[int], reserved: float, on_demand: float, data: st.DataObject
) -> None:
    hours = data.draw(st.lists(st.floats(0.1, 5), min_size=len(demand), max_size=len(demand)))

    def cost(level: int) -> float:
        return sum(
            h * (reserved * level + on_demand * max(d - level, 0)) for d, h in zip(demand, hours, strict=True)
        )

    level = reserve_level(np.array(demand, dtype=float), np.array(hours), reserved, on_demand)
    assert cost(level) <= min(cost(n) for n in range(max(demand) + 1)) + 1e-8


def test_reserved_is_what_runs_longer_than_the_ratio_of_prices() -> None:
    """16 accelerators run a quarter of the day, 8 half of it, 4 always: by hand."""
    demand, hours = np.array([4.0, 8.0, 8.0, 16.0, 4.0, 4.0, 4.0, 16.0]), np.ones(8)
    for ratio, level in ((0.1, 16), (0.24, 16), (0.26, 8), (0.49, 8), (0.51, 4), (0.99, 4), (1.01, 0)):
        assert reserve_level(demand, hours, ratio, 1.0) == level


def test_without_a_price_gpu_hours_are_compared() -> None:
    w = world((MODEL,), ("h20-3e",))
    q = question(MODEL, ("h20-3e",), isl=2000, osl=300, rate=40, tpot=0.1)
    found = plan_day(q, Day(hours=(12.0, 12.0), rates=(5.0, 40.0), reserved_prices={}), w)
    assert math.isnan(found.usd)
    assert 0 < found.gpu_hours < found.fixed.metrics.gpus * 24


# ------------------------------------------------------------------------ reading


def test_a_list_of_rates() -> None:
    assert listed_rates("5, 480/min,0", "--rates").rates == (5.0, 8.0, 0.0)
    assert listed_rates([1, "2"], "x").rates == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "rates", "hours"),
    [
        ("1\n2\n3\n", (1, 2, 3), None),
        ("0,1\n1,2\n", (1, 2), None),
        ("rate\n4\n\n# a remark\n5\n", (4, 5), None),
        ("hour,rate\n0,4\n6,5\n18,6\n", (4, 5, 6), (6, 12, 12)),
        ("window_start_s,total_rate,clients\n0,4,1\n600,5,1\n", (4, 5), (1 / 6, 1 / 6)),
    ],
)
def test_a_table_of_rates(tmp_path: Path, text: str, rates: tuple, hours: tuple | None) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    found = read_rates(path)
    assert found.rates == rates
    assert found.hours == (hours if hours is None else pytest.approx(hours))
    packed = tmp_path / "rates.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_rates(packed) == found


def test_one_series_of_several(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("workload,window_start_s,total_rate\na,0,1\na,600,2\nb,0,30\nb,600,40\n")
    assert read_rates(path, "b").rates == (30, 40)
    with pytest.raises(InputError, match=r"say which: --series a | b"):
        read_rates(path)
    with pytest.raises(InputError, match="there is no series 'c'"):
        read_rates(path, "c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rates are in it"),
        ("name,when\nx,1\n", "no column of rates"),
        ("rate\nfive\n", "rates.csv:2: 'five'"),
        ("rate\n-5\n", "rates.csv:2"),
        ("rate\n0\n0\n", "no period has a request"),
        ("hour,rate\n1,4\n1,5\n", "rates.csv:3: the period starts no later"),
        ("hour,rate\n1,4\nx,5\n", "rates.csv:3: 'x' is not a time"),
    ],
)
def test_a_bad_table_is_told_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_rates(path)
    assert words in str(caught.value)


def test_no_gzip(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv.gz"
    path.write_bytes(b"rate\n1\n")
    with pytest.raises(InputError, match="not in gzip format"):
        read_rates(path)


YAML = """\
model: llama-3.1-8b
hardware: h100
isl: 2k
osl: 256
ttft: 1s
tpot: 30ms
rates: [2, 5, 20, 8]
reserved_prices: {h100: 1.40}
"""


def ask(text: str, **more: object) -> AskedDay:
    return day_from({**day_values(parse_yaml(text, "day.yaml")), **flags(more)}, Catalog())


def test_a_day_in_yaml() -> None:
    found = ask(YAML)
    assert found.day == Day(hours=(6.0,) * 4, rates=(2, 5, 20, 8), reserved_prices={"h100": 1.4})
    assert found.asked.question.workload.rate == 20
    assert ask(YAML, rates="1,2", period="30min").day.hours == (0.5, 0.5)
    assert "h200" in ask(YAML, reserved_prices=["h200=2"]).asked.notes[0]


def test_a_day_in_yaml_may_name_a_table_beside_it(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("rate\n3\n9\n")
    path = tmp_path / "day.yaml"
    path.write_text(YAML.replace("[2, 5, 20, 8]", "rates.csv"))
    assert day_from(read_day(path), Catalog()).day.rates == (3, 9)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        ask(YAML.replace("[2, 5, 20, 8]", "[2, x]") + "rate: 3\nengine: nope\n", period="1 fortnight")
    for words in ("'rate': a day has rates", "'x'", "nope"):
        assert words in str(caught.value), words
    with pytest.raises(InputError, match="the rates are missing"):
        day_from(flags({"model": MODEL, "hardware": ["h100"], "isl": "2k", "osl": "1k"}), Catalog())


# ------------------------------------------------------------------------ printing

ARGS = [
    "day", "--model", MODEL, "--hardware", "h100", "--isl", "2k", "--osl", "256", "--ttft", "1s", "--tpot",
    "30ms",
]  # fmt: skip


def test_text_json_and_csv(capfd: pytest.CaptureFixture[str]) -> None:
    more = [*ARGS, "--rates", "2,5,60,20", "--reserved-price", "h100=1.4", "--price", "h100=3"]
    assert app.run(more) == 0
    text, err = capfd.readouterr()
    assert err == ""
    assert "h100 reserved and up to" in text.splitlines()[0]
    assert "By period" in text
    assert app.run([*more, "--format", "json"]) == 0
    data = json.loads(capfd.readouterr().out)
    valid("day", data)
    assert [p["rate_requests_per_s"] for p in data["periods"]] == [2, 5, 60, 20]
    assert data["costs"]["usd"] <= data["costs"]["fixed_fleet_usd"]
    reserve = data["reserve"]["h100"]
    for period in data["periods"]:
        assert period["on_demand_gpus"]["h100"] == max(period["gpus"]["h100"] - reserve["gpus"], 0)
    assert app.run([*more, "--format", "csv"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 5


def test_a_rate_that_nothing_serves_is_1(capfd: pytest.CaptureFixture[str]) -> None:
    args = [*ARGS, "--rates", "1,2000", "--max-gpus", "2"]
    assert app.run(args) == 1
    out = capfd.readouterr().out
    assert out.startswith("The highest rate, 2,000 req/s, cannot be served")
    assert "--max-gpus" in out
    assert app.run([*args, "--format", "json"]) == 1
    valid("day", json.loads(capfd.readouterr().out))


def test_a_long_series_is_cut_in_text_alone(capfd: pytest.CaptureFixture[str]) -> None:
    rates = ",".join(str(5 + k % 7) for k in range(100))
    assert app.run([*ARGS, "--rates", rates]) == 0
    text = capfd.readouterr().out
    assert "the first 48 of 100 periods" in text
    assert app.run([*ARGS, "--rates", rates, "--format", "csv"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 101


def test_a_flat_day_takes_nothing_on_demand_and_costs_what_a_fixed_fleet_does(capsys):
    asked = [
        "--model",
        "llama-3.1-8b",
        "--hardware",
        "h100",
        "--isl",
        "2k",
        "--osl",
        "256",
        "--tpot",
        "30ms",
        "--reserved-price",
        "h100=2",
    ]
    assert app.run(["day", "--rates", "4,4", *asked]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "1 h100 reserved, none on demand: $48.00 over 24 h, as much as a fixed fleet"
