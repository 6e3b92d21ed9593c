"""The reports of a sensitivity made by hand, its chart and pictures, and the command line."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from pdplan.cli import app
from pdplan.report.formats.render import FORMATS, render
from pdplan.report.pictures.tornado import Bar, draw_bars
from pdplan.report.recommendation import recommendation_report
from pdplan.report.sensitivity import quantity_words
from pdplan.report.why import Why
from pdplan.search.what_if.breakeven import BreakEven, Looked, Turn
from pdplan.search.what_if.sensitivity import End, Sensitivity, Swing
from pdplan.search.what_if.varied import VariedInput
from tests import made_up
from tests.test_report import SUFFIX, same_version, valid


def varied(key: str, title: str, value: float, unit: str, harder: int) -> VariedInput:
    return VariedInput(
        key=key, title=title, value=value, unit=unit, harder=harder, put=lambda q, w, value: (q, w)
    )


RATE = varied("rate", "request rate", 20.0, "requests_per_s", 1)
TPOT = varied("tpot", "TPOT limit", 0.04, "s", -1)
TTFT = varied("ttft", "TTFT limit", 2.0, "s", -1)
PRICE = varied("price.h200", "h200 price", 3.59, "usd_per_h", 0)


def end(value: float, amount: float, fractional: float, best=made_up.DISAGGREGATED, kept=None) -> End:
    if math.isnan(amount):
        best = None
    return End(value=value, best=best, amount=amount, fractional=fractional, amount_of_kind=kept or amount)


def why() -> Why:
    nan = math.nan
    swings = (
        Swing(input=TPOT, low=end(0.032, nan, nan), high=end(0.048, 143.6, 100.0), holds_to=0.0399),
        Swing(
            input=RATE,
            low=end(16.0, 114.88, 88.0),
            high=end(24.0, 201.04, 132.0, made_up.COLOCATED, 229.76),
            holds_to=21.5,
        ),
        Swing(input=PRICE, low=end(2.872, 114.88, 88.0), high=end(4.308, 172.32, 132.0), holds_to=None),
        Swing(input=TTFT, low=end(1.6, 143.6, 110.0), high=end(2.4, 143.6, 110.0), holds_to=0.0),
    )
    moves = Sensitivity(
        question=made_up.question(),
        world=made_up.world(),
        base=made_up.DISAGGREGATED,
        counted="cost",
        change=0.2,
        amount=143.6,
        fractional=110.0,
        swings=swings,
        searches=9,
    )
    both = {"below": made_up.COLOCATED, "above": made_up.DISAGGREGATED}
    turns = BreakEven(
        question=moves.question,
        world=moves.world,
        base=moves.base,
        counted="cost",
        modes=frozenset({"colocated", "disaggregated"}),
        turns=(
            Turn(input=RATE, value=6.1, what="mode", **both),
            Turn(input=RATE, value=22.0, what="cost", below=made_up.DISAGGREGATED, above=made_up.COLOCATED),
            Turn(input=TPOT, value=0.012, what="feasible", below=None, above=made_up.DISAGGREGATED),
            Turn(input=TPOT, value=0.03, what="feasible", mode="colocated", below=made_up.DISAGGREGATED,
                 above=made_up.COLOCATED),
            Turn(input=PRICE, value=1.1, what="use", **both),
        ),
        looked=(Looked(input=RATE, low=2.5, high=160.0), Looked(input=TPOT, low=0.01, high=0.16)),
        searches=80,
    )  # fmt: skip
    return Why(sensitivity=moves, break_even=turns)


def report():
    return recommendation_report(made_up.recommendation(), catalog_sha256=made_up.DIGEST, why=why())


@pytest.mark.parametrize("format", FORMATS)
def test_golden(format, golden):
    golden(f"sensitivity.{SUFFIX[format]}", same_version(render(report(), format)))


@pytest.mark.parametrize("width", [80, 160])
def test_golden_on_a_terminal(width, golden):
    golden(f"sensitivity-{width}.txt", render(report(), "text", width=width))


def test_the_json_keeps_its_schema():
    data = json.loads(render(report(), "json"))
    valid("recommend", data)
    low = data["sensitivity"]["inputs"][0]["low"]
    assert (low["amount"], low["plan"]) == (None, None)


def test_the_csv_has_a_row_for_each_end_and_each_side():
    rows = list(csv.DictReader(io.StringIO(render(report(), "csv"))))
    ends = [r for r in rows if r["answer"] == "sensitivity"]
    assert len(ends) == 8
    assert [r["input_change"] for r in ends[:2]] == ["-0.2", "0.2"]
    assert [r["usd_per_h"] for r in ends[:2]] == ["", "143.6"]
    assert len([r for r in rows if r["answer"].startswith("break_even_")]) == 10


# ------------------------------------------------------------------------ the chart


def test_bars_reach_as_far_as_their_amounts():
    lines = draw_bars([Bar("a", 0.0, 100.0), Bar("b", 50.0, 75.0), Bar("c", 75.0, 50.0)], 50.0, width=41)
    a, b, c = (line[3:] for line in lines[1:])
    assert a == "-" * 20 + "|" + "+" * 20
    assert b == " " * 20 + "|" + "+" * 10
    assert c == " " * 20 + "|" + "-" * 10


def test_ends_on_one_side_are_drawn_over_each_other():
    line = draw_bars([Bar("a", 60.0, 70.0), Bar("b", 0.0, 100.0)], 50.0, width=11)[1]
    assert line == "a       |#+".replace("a       ", "a  " + " " * 5)


def test_no_plan_reaches_the_worse_edge():
    bars = [Bar("limit", None, 8.0), Bar("rate", 5.0, 15.0)]
    assert draw_bars(bars, 10.0)[1].endswith("->")
    left = draw_bars([Bar("limit", None, 12.0), Bar("rate", 5.0, 15.0)], 10.0, worse_right=False)
    assert left[1].startswith("limit  <-")
    assert draw_bars([Bar("limit", None, 10.0)], 10.0)[1].endswith("->")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (6.1, "requests_per_s", "6.10 req/s"),
        (0.3, "share", "30.0%"),
        (4096, "tokens", "4,096"),
        (1.1, "usd_per_h", "$1.10/h"),
        (989e12, "flop_per_s", "989 TFLOP/s"),
        (80e9, "bytes", "80.0 GB"),
    ],
)
def test_values_are_printed_in_their_units(value, unit, words):
    assert quantity_words(value, unit) == words


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_pictures_are_drawn_and_the_same_every_time(suffix, tmp_path):
    pytest.importorskip("matplotlib")
    from pdplan.report.pictures.tornado_picture import draw_sensitivity

    paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for path in paths:
        draw_sensitivity(why(), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!DOCTYPE"}[suffix])
    if suffix != ".png":
        for text in (b"request rate", b"no plan"):
            assert text in first or suffix == ".svg"


# ------------------------------------------------------------------------ the command


ASKED = [
    *("recommend", "--model", "llama-3.1-8b", "--hardware", "h100", "--isl", "1k", "--osl", "64"),
    *("--rate", "3", "--max-gpus-per-worker", "1"),
]


@pytest.fixture
def pdp(capfd):
    def run(*args):
        code = app.run([*ASKED, *(str(a) for a in args)])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def test_the_command_says_it(pdp, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "chart.svg"
    code, out, err = pdp("--sensitivity-plot", path, "--format", "json")
    assert (code, err) == (0, f"wrote {path}\n")
    data = json.loads(out)
    valid("recommend", data)
    assert {"rate", "isl", "osl", "price.h100", "memory_bandwidth.h100"} <= {
        swing["input"] for swing in data["sensitivity"]["inputs"]
    }
    assert data["break_even"]["looked_at"]
    assert path.stat().st_size > 1000


def test_without_the_flag_nothing_is_varied(pdp):
    data = json.loads(pdp("--format", "json")[1])
    assert data["sensitivity"] is None
    assert data["break_even"] is None


def test_an_infeasible_question_has_nothing_to_vary(pdp):
    code, out, err = pdp("--sensitivity", "--tpot", "10us")
    assert (code, err) == (1, "")
    assert "Sensitivity" not in out


def test_a_picture_of_another_kind_is_refused_before_any_work(pdp):
    code, out, err = pdp("--sensitivity-plot", "chart.gif")
    assert (code, out) == (2, "")
    assert "--sensitivity-plot: 'chart.gif' ends in none of .png, .svg, .html" in err


def test_what_moves_nothing_is_said_in_words():
    moves = why().sensitivity
    still = replace(moves, swings=moves.swings[3:])
    nowhere = replace(why().break_even, turns=())
    report = recommendation_report(made_up.recommendation(), why=Why(sensitivity=still, break_even=nowhere))
    text = render(report, "text")
    assert "no input moves dollars per hour when it alone is 20% less or more" in text
    assert "none: looked for at" in text
