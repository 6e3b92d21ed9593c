"""Predicted against measured, of every run: in plain characters, and as PNG, SVG or HTML."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdplan.errors import InputError
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import Residuals, natural_order
from pdplan.measured.run import Run
from pdplan.report.blocks import Block
from pdplan.report.pictures.plots import framed, log_ticks, tick_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = "ox*#@%&="
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's, told apart by the colour-blind, too; the last, grey, is for all others."""
OTHERS = "others"
BAND = 1.25
"""Dashed lines: a quarter too high, a quarter too low."""
WIDTH, HEIGHT = 64, 26


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The runs of one group: measured and predicted, milliseconds."""

    name: str
    measured: Array
    predicted: Array


def clouds(runs: Sequence[Run], found: Residuals, quantity: str, key: Callable[[Run], Any]) -> list[Cloud]:
    """Of the runs that count and were predicted, one cloud a value of `key`: the most common seven by
    name, all others together."""
    errors = getattr(found, quantity)
    used = [int(i) for i in np.flatnonzero(found.counts[quantity] & np.isfinite(errors))]
    names = [str(key(runs[i])) or "none" for i in used]
    most = [name for name, _ in Counter(names).most_common()]
    kept = sorted(most if len(most) <= len(MARKS) else most[: len(MARKS) - 1], key=natural_order)
    labels = np.array([name if name in kept else OTHERS for name in names])
    measured = np.array([_measured_s(runs[i], quantity) * 1e3 for i in used])
    predicted = measured * (1.0 + errors[used])
    return [
        Cloud(name=name, measured=measured[labels == name], predicted=predicted[labels == name])
        for name in (*kept, OTHERS)
        if np.any(labels == name)
    ]


def terminal_scatter(groups: Sequence[Cloud], title: str) -> tuple[str, ...]:
    """Predicted against measured in characters, both logarithmic; a cell shows its most common group.

    Dots are the identity, where nothing else stands.
    """
    if not groups:
        return ()
    low, high, ticks = _range(groups)

    def place(value: float, cells: int) -> int:
        return round(math.log(value / low) / math.log(high / low) * (cells - 1))

    cells: dict[tuple[int, int], Counter[str]] = {}
    for mark, cloud in zip(MARKS, groups, strict=False):
        for x, y in zip(cloud.measured, cloud.predicted, strict=True):
            at = (HEIGHT - 1 - place(min(max(y, low), high), HEIGHT), place(x, WIDTH))
            cells.setdefault(at, Counter())[mark] += 1
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    for c in range(WIDTH):
        grid[HEIGHT - 1 - round(c / (WIDTH - 1) * (HEIGHT - 1))][c] = "."
    for (r, c), counter in cells.items():
        grid[r][c] = counter.most_common(1)[0][0]
    legend = "   ".join(f"{mark} {cloud.name}" for mark, cloud in zip(MARKS, groups, strict=False))
    down = {HEIGHT - 1 - place(t, HEIGHT): tick_text(t) for t in ticks}
    across = {place(t, WIDTH): tick_text(t) for t in ticks}
    heading = f"predicted {title} [ms]    {legend}"
    return framed(grid, heading, down, across, f"measured {title} [ms]")


def draw_scatters(
    panels: Mapping[str, Sequence[Cloud]], path: Path, by: str, blocks: Sequence[Block]
) -> None:
    """Draw one panel a title into a file; its ending says in which format. InputError where it cannot be."""
    from pdplan.report.pictures.drawing import write_picture

    shown = {name: groups for name, groups in panels.items() if groups}
    if not shown:
        raise InputError(
            f"{path}: nothing to draw: no run has both a measurement that counts and a prediction"
        )
    title = f"Predicted against measured {' and '.join(shown)}, by {by}"
    write_picture(path, lambda: _figure(shown, title), title, blocks)


# ------------------------------------------------------------------------ inside


def _measured_s(run: Run, quantity: str) -> float:
    return run.tpot_mean_s if quantity == "tpot" else run.ttft_s


def _range(groups: Sequence[Cloud]) -> tuple[float, float, list[float]]:
    """One range for both axes, that of the ticks. A prediction a hundred times off is drawn at the edge."""
    measured = np.concatenate([g.measured for g in groups])
    predicted = np.concatenate([g.predicted for g in groups])
    low = max(float(min(measured.min(), predicted.min())), float(measured.min()) / 100)
    high = min(float(max(measured.max(), predicted.max())), float(measured.max()) * 100)
    ticks = log_ticks(low, high)
    return ticks[0], ticks[-1], ticks


def _figure(shown: Mapping[str, Sequence[Cloud]], title: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from pdplan.report.pictures.drawing import FAINT, RULE

    figure = Figure(figsize=(5.4 * len(shown), 5.6), layout="constrained")
    names = list(dict.fromkeys(g.name for groups in shown.values() for g in groups))
    colours = dict(zip(names, COLOURS, strict=False)) | {OTHERS: COLOURS[-1]}
    for i, (name, groups) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), i + 1)
        low, high, ticks = _range(groups)
        for factor, style in ((1.0, "-"), (BAND, "--"), (1 / BAND, "--")):
            axes.plot([low, high], [low * factor, high * factor], style, color=FAINT, linewidth=0.9, zorder=2)
        for group in groups:
            axes.scatter(
                group.measured,
                np.clip(group.predicted, low, high),
                s=9,
                linewidths=0,
                alpha=0.6,
                color=colours[group.name],
                zorder=3,
                label=f"{group.name} ({group.measured.size:,})",
            )
        for axis, scale, limits in (
            (axes.xaxis, axes.set_xscale, axes.set_xlim),
            (axes.yaxis, axes.set_yscale, axes.set_ylim),
        ):
            scale("log")
            limits(low, high)
            axis.set_ticks(ticks)
            axis.set_major_formatter(FuncFormatter(lambda x, _: tick_text(x)))
            axis.set_minor_formatter(NullFormatter())
        axes.set_aspect("equal")
        axes.set_xlabel(f"measured {name} [ms]")
        axes.set_ylabel(f"predicted {name} [ms]")
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", fontsize=8, markerscale=2)
    dashed = f"dashed: {BAND - 1:.0%} too high, {1 - 1 / BAND:.0%} too low".replace("%", " %")
    between = "; " if len(shown) > 1 else "\n"  # one panel is narrower than the line
    figure.suptitle(f"{title}{between}{dashed}", fontsize=11, fontweight="bold")
    return figure
