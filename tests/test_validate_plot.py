"""`pdplan validate`: its plots, and telling runs that were fitted from new ones."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED
from test_measured import table

from pdplan.cli.app import run as pdplan
from pdplan.measured.accuracy import Residuals
from pdplan.measured.intervals import is_fitted
from pdplan.measured.run import Run
from pdplan.measured.runs import read_runs
from pdplan.report.pictures.scatter import HEIGHT, OTHERS, WIDTH, Cloud, _figure, clouds, terminal_scatter

TRAIN = SHARED / "measured" / "train.csv"


def cloud(name: str, *points: tuple[float, float]) -> Cloud:
    measured, predicted = (np.array(values) for values in zip(*points, strict=True))
    return Cloud(name=name, measured=measured, predicted=predicted)


def runs_of(tmp_path: Path, *rows: dict[str, str]) -> list[Run]:
    return read_runs(table(tmp_path, *rows))


def exact(runs: list[Run], error: float = 0.0) -> Residuals:
    errors, counts = np.full(len(runs), error), np.ones(len(runs), dtype=bool)
    return Residuals(
        tpot=errors, ttft=errors, tok_per_s_per_gpu=errors, counts={"tpot": counts, "ttft": counts}
    )


# ------------------------------------------------------------------------ characters


def test_points_stand_where_the_logarithm_puts_them() -> None:
    # Axes from 1 to 100: 10 is half way along both.
    lines = terminal_scatter([cloud("a", (1.0, 1.0), (100.0, 100.0), (10.0, 1.0), (1.0, 10.0))], "TPOT")
    grid = [line.partition("|")[2] or line.partition("+")[2] for line in lines[1 : 1 + HEIGHT]]
    middle_column, middle_row = round((WIDTH - 1) / 2), HEIGHT - 1 - round((HEIGHT - 1) / 2)
    assert grid[-1][0] == grid[0][WIDTH - 1] == "o"
    assert grid[-1][middle_column] == "o"
    assert grid[middle_row][0] == "o"
    assert sum(row.count("o") for row in grid) == 4
    assert sum(row.count(".") for row in grid) == WIDTH - 2


def test_a_cell_shows_the_group_that_most_of_its_runs_belong_to() -> None:
    ends = ((1.0, 1.0), (100.0, 100.0))
    lines = terminal_scatter([cloud("a", *ends, (10.0, 50.0)), cloud("b", *[(10.0, 50.0)] * 2)], "TTFT")
    assert "o a   x b" in lines[0]
    assert sum(line.count("x") for line in lines[1:]) == 1


def test_groups_that_are_numbers_stand_by_size(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {"concurrency": "128"}, {"concurrency": "16"}, {"concurrency": "4"})
    found = clouds(runs, exact(runs), "tpot", lambda r: f"{r.concurrency:g}")
    assert [group.name for group in found] == ["4", "16", "128"]


def test_without_points_there_is_no_plot() -> None:
    assert terminal_scatter([], "TPOT") == ()


def test_a_prediction_far_off_is_drawn_at_the_edge() -> None:
    lines = terminal_scatter([cloud("a", (10.0, 10.0), (20.0, 1e9))], "TPOT")
    assert len(lines) == HEIGHT + 4
    assert "o" in lines[1]


def test_beyond_eight_groups_the_rest_are_others(tmp_path: Path) -> None:
    rows = [{"id": f"{n}-{k}", "concurrency": str(n)} for n in range(1, 12) for k in range(12 - n)]
    runs = runs_of(tmp_path, *rows)
    found = clouds(runs, exact(runs, 0.1), "tpot", lambda r: f"{r.concurrency:g}")
    assert [c.name for c in found] == ["1", "2", "3", "4", "5", "6", "7", OTHERS]
    assert sum(c.measured.size for c in found) == len(runs)
    assert found[0].predicted == pytest.approx(1.1 * found[0].measured)
    assert found[0].measured == pytest.approx([10.9] * 11)


# ------------------------------------------------------------------------ the command


def test_a_plot_of_characters_is_part_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path, {}, {"id": "b", "concurrency": "64", "tpot_mean_s": "0.02"})
    assert pdplan(["validate", str(path), "--plot", "-"]) == 0
    text = capsys.readouterr().out
    assert "predicted TPOT [ms]    o colocated" in text
    assert "measured TTFT [ms]" in text
    assert pdplan(["validate", str(path)]) == 0
    assert "predicted TPOT" not in capsys.readouterr().out


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'pdplan[plot]'")
@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!DOCTYPE")]
)
def test_pictures_are_what_their_ending_says_and_always_the_same(
    suffix: str, start: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path, {}, {"id": "b", "engine": "sglang", "concurrency": "64", "tpot_mean_s": "0.02"})
    drawn = []
    for name in ("one", "two"):
        picture = tmp_path / f"{name}.{suffix}"
        assert pdplan(["validate", str(path), "--by", "engine", "--plot", str(picture)]) == 0
        assert f"wrote {picture}" in capsys.readouterr().err
        drawn.append(picture.read_bytes())
    assert drawn[0].startswith(start)
    assert drawn[0] == drawn[1]
    if suffix == "html":
        assert b"<caption>Error of TPOT</caption>" in drawn[0]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'pdplan[plot]'")
@pytest.mark.parametrize("names", [("TPOT",), ("TPOT", "TTFT")])
def test_titles_fit_above_one_panel_and_two(names: tuple[str, ...], tmp_path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    table_of = runs_of(tmp_path, {}, {"id": "b", "tpot_mean_s": "0.02"})
    panels = {name: clouds(table_of, exact(table_of), name.lower(), lambda r: r.engine) for name in names}
    figure = _figure(panels, f"Predicted against measured {' and '.join(names)}, by prefill_hardware")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure._suptitle.get_window_extent(canvas.get_renderer())  # type: ignore[attr-defined]
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="pip install 'pdplan[plot]'")
def test_a_picture_of_nothing_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = table(tmp_path, {"tpot_mean_s": "", "ttft_mean_s": ""}), tmp_path / "errors.png"
    assert pdplan(["validate", str(path), "--plot", str(picture)]) == 2
    assert "nothing to draw: no run has both" in capsys.readouterr().err
    assert not picture.exists()


def test_where_nothing_can_be_drawn_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for plot, words in (("errors.pdf", ".png, .svg, .html"), ("/nowhere/errors.png", "no folder")):
        assert pdplan(["validate", str(tmp_path / "no-such-file.csv"), "--plot", plot]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: --plot: ")
        assert words in error


# ------------------------------------------------------------------------ fitted or new


def test_a_run_is_known_by_what_was_measured_not_by_its_name(tmp_path: Path) -> None:
    one, same, other = runs_of(tmp_path, {}, {"id": "b", "source": "x"}, {"id": "c", "tpot_mean_s": "0.011"})
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert replace(one, hardware="h100").fingerprint != one.fingerprint


def test_new_runs_are_told_as_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path, {"tpot_mean_s": "0.0123456"})
    assert pdplan(["validate", str(path), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["fitted_rows"] == 0
    assert data["inside_80_percent_interval_of_new_rows"] == data["inside_80_percent_interval"]
    assert pdplan(["validate", str(path)]) == 0
    assert "none of these runs took part in the fit" in capsys.readouterr().out


@pytest.mark.skipif(not TRAIN.exists(), reason="measured runs are not in this checkout")
def test_the_runs_that_were_fitted_are_known() -> None:
    assert is_fitted(read_runs(TRAIN)).all()
