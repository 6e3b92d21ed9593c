"""Fronts as pictures: PNG, SVG, or one HTML page with the SVG and the table inside. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdplan.report.front import X_TITLE, front_report, limits_words, spread_points, subject_words, y_title
from pdplan.report.pictures.drawing import FAINT, RULE, write_picture
from pdplan.report.pictures.plots import log_ticks
from pdplan.report.words import engine_title, workload_words
from pdplan.search.front import MODES, Front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"disaggregated": "#0072B2", "colocated": "#D55E00"}
"""Okabe and Ito's blue and vermilion: told apart by the colour-blind, too."""
LABELLED = 6
"""Points whose layout is written beside them."""


def draw_front(found: Front, path: Path) -> None:
    """Draw a front into a file; its ending says in which format. InputError where it cannot be written."""
    title = f"{subject_words(found)}: {y_title(found)} against {X_TITLE}"
    write_picture(path, lambda: _figure(found), title, front_report(found).blocks)


# ------------------------------------------------------------------------ inside


def _figure(found: Front) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.add_subplot()
    best = {id(p) for p in found.points}
    for mode in MODES:
        points = found.modes[mode]
        if not points:
            continue
        xs, ys = [p.tok_per_s_per_user for p in points], [found.value(p) for p in points]
        colour = COLOURS[mode]
        axes.plot(xs, ys, color=colour, linewidth=1.6, zorder=2)
        axes.scatter(
            xs,
            ys,
            s=16,
            zorder=3,
            linewidths=1.1,
            edgecolors=colour,
            facecolors=[colour if id(p) in best else "white" for p in points],
            label=mode,
        )
    axes.set_xlabel(X_TITLE)
    axes.set_ylabel(y_title(found))
    axes.set_xlim(0, 1.03 * max(p.tok_per_s_per_user for p in found.points))
    if found.by_cost:
        values = [found.value(p) for points in found.modes.values() for p in points]
        marks = log_ticks(min(values), max(values))
        axes.set_yscale("log")
        axes.set_ylim(min(values) / 1.35, max(values) * 1.1)
        axes.set_yticks([m for m in marks if min(values) / 1.35 <= m <= max(values) * 1.1])
        axes.set_yticks([], minor=True)
        axes.yaxis.set_major_formatter(StrMethodFormatter("${x:,g}"))
    else:
        axes.set_ylim(0, 1.06 * max(found.value(p) for p in found.points))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _write_layouts(axes, found)
    what = "Cost" if found.by_cost else "Throughput"
    title = f"{what} against speed for one user: {subject_words(found)}"
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=26)
    axes.annotate(
        _subtitle(found),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 10),
        textcoords="offset points",
        fontsize=8.5,
        color=FAINT,
    )
    axes.legend(frameon=False, loc="upper left" if found.by_cost else "upper right", fontsize=10)
    return figure


def _write_layouts(axes: Any, found: Front) -> None:
    """The layout of a few points of the front, each once, on its empty side: above throughput, below cost."""
    right = found.points[-1].tok_per_s_per_user
    names = {pool.hardware for p in found.points for pool in p.plan.pools.values()}
    written: set[str] = set()
    for point in spread_points(found.points, LABELLED, evenly=float):
        at_edge = point.tok_per_s_per_user > (0.93 if found.by_cost else 0.8) * right
        layouts = [
            pool.label if len(names) == 1 else f"{pool.hardware} {pool.label}"
            for pool in point.plan.pools.values()
        ]
        words = " → ".join(layouts)
        if words in written:
            continue
        written.add(words)
        sideways = -8 if at_edge and found.by_cost else 4
        axes.annotate(
            words,
            (point.tok_per_s_per_user, found.value(point)),
            xytext=(sideways, -14 if found.by_cost else 8),
            textcoords="offset points",
            horizontalalignment="right" if at_edge else "left",
            fontsize=7.5,
            color=FAINT,
        )


def _subtitle(found: Front) -> str:
    question = found.question
    parts = [workload_words(question.workload), engine_title(question.engine), limits_words(found)]
    return " · ".join(part for part in (*parts, "saturated; filled: best of both modes") if part)
