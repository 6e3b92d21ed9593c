"""The chart of a sensitivity as a picture: PNG, SVG or HTML. Needs matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pdplan.report.breakeven import break_even_blocks
from pdplan.report.pictures.drawing import FAINT, INK, RULE, write_picture
from pdplan.report.pictures.fronts import COLOURS
from pdplan.report.sensitivity import amount_title, amount_words, quantity_words, sensitivity_blocks
from pdplan.report.words import short_plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pdplan.report.why import Why
    from pdplan.search.what_if.sensitivity import Sensitivity

LESS, MORE = COLOURS["disaggregated"], COLOURS["colocated"]


def draw_sensitivity(why: Why, path: Path) -> None:
    """Draw into a file; its ending says in which format. InputError where it cannot be written."""
    found = why.sensitivity
    blocks = sensitivity_blocks(found)
    blocks += break_even_blocks(why.break_even)
    write_picture(path, lambda: _figure(found), _title(found), blocks)


# ------------------------------------------------------------------------ inside


def _figure(found: Sensitivity) -> Figure:
    from matplotlib.figure import Figure

    swings = found.swings
    figure = Figure(figsize=(9, 1.7 + 0.3 * len(swings)), layout="constrained")
    axes = figure.add_subplot()
    finite = [a for s in swings for a in (s.low.amount, s.high.amount) if not math.isnan(a)]
    low, high = min([found.amount, *finite]), max([found.amount, *finite])
    room = (high - low or found.amount) * 0.16
    edge = low - room if found.counted == "goodput" else high + room
    for row, swing in enumerate(swings):
        for end, colour in ((swing.low, LESS), (swing.high, MORE)):
            gone = math.isnan(end.amount)
            reach = edge if gone else end.amount
            axes.barh(
                row,
                reach - found.amount,
                left=found.amount,
                height=0.62,
                color=colour,
                alpha=0.35 if gone else 1.0,
                hatch="///" if gone else None,
                edgecolor="white" if gone else "none",
                zorder=2,
            )
            # The change that fractions of workers would see, on the scale of whole ones.
            fractional = found.amount * end.fractional / found.fractional
            axes.plot(
                [fractional], [row], marker="d", markersize=4.5, color=colour, zorder=4, mec=INK, mew=0.6
            )
            if gone:
                axes.annotate(
                    "no plan",
                    (edge, row),
                    fontsize=8,
                    color=INK,
                    va="center",
                    ha="right",
                    xytext=(-3, 0),
                    textcoords="offset points",
                    zorder=5,
                )
    axes.axvline(found.amount, color=INK, linewidth=1.0, zorder=3)
    axes.set_yticks(range(len(swings)))
    axes.set_yticklabels([f"{s.input.title}  {quantity_words(s.input.value, s.input.unit)}" for s in swings])
    axes.invert_yaxis()
    axes.set_xlabel(amount_title(found.counted))
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(_title(found), loc="left", fontsize=12, fontweight="bold", pad=26)
    axes.annotate(
        f"{short_plan(found.base.plan)}; diamonds: the same change with workers in fractions",
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 10),
        textcoords="offset points",
        fontsize=8.5,
        color=FAINT,
    )
    share = f"{found.change:.0%}"
    from matplotlib.patches import Patch

    axes.legend(
        handles=[Patch(color=LESS, label=f"{share} less"), Patch(color=MORE, label=f"{share} more")],
        frameon=False,
        loc="lower right",
        fontsize=9,
    )
    return figure


def _title(found: Sensitivity) -> str:
    amount = amount_words(found.amount, found.counted)
    return f"{found.question.model}: {amount}, and with each input {found.change:.0%} less or more"
