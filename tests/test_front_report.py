"""The front's reports: golden texts of a front made by hand, its plot of characters, its pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan.report.formats.render import FORMATS, render
from pdplan.report.front import ahead, front_report, lead_words, spread_points
from pdplan.report.pictures.plots import Curve, draw, ticks
from pdplan.search.front import Front, FrontPoint
from tests import made_up
from tests.test_report import SUFFIX, same_version, valid


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
    from pdplan.report.pictures.fronts import draw_front

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
