"""The map of where disaggregation pays: ratios over ISL, OSL and TPOT limit, as tables and a picture.

    python benchmarks/modes/map.py docs/modes-map.md docs/modes-map.svg

Every cell is what `pdplan compare --modes` says for 64 accelerators. Needs pdplan[plot].
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import matplotlib
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from pdplan.catalog.store import Catalog
from pdplan.inputs.given import given
from pdplan.modes import Contest, Modes, compare_modes
from pdplan.report.formats.render import render
from pdplan.report.modes import modes_report, ratio_words

LENGTHS = {"isl": ["256", "1k", "4k", "16k"], "osl": ["64", "256", "1k", "4k"]}
CASES = {
    "llama-3.1-70b": {"hardware": ["h100"], "tpot": ["15ms", "30ms", "60ms", "120ms"]},
    "deepseek-r1": {"hardware": ["h200"], "tpot": ["15ms", "30ms", "60ms", "120ms"]},
}
DARK = 1.4
"""Shades on which black text is hard to read."""
COMMON = {"max_gpus": "64", "ttft": "4s"}


def run(model: str, case: dict[str, list[str]]) -> Modes:
    """All cells of one model."""
    return compare_modes({}, given({"model": [model], **LENGTHS, **case, **COMMON}), Catalog([]))


def draw(maps: dict[str, Modes], path: Path) -> None:
    """Panels of ISL against OSL, one row a model, one column a TPOT limit; the ratio as colour and text."""
    matplotlib.rcParams.update({"svg.hashsalt": "pdplan", "font.size": 9})
    limits = [list(dict.fromkeys(c.slo.tpot_s for c in m.contests)) for m in maps.values()]
    figure = Figure(figsize=(3.1 * len(limits[0]), 2.9 * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), len(limits[0]), squeeze=False)
    norm = TwoSlopeNorm(vmin=math.log2(0.5), vcenter=0.0, vmax=math.log2(6.0))
    for row, (model, found) in enumerate(maps.items()):
        for column, limit in enumerate(limits[row]):
            cells = [c for c in found.contests if c.slo.tpot_s == limit]
            _panel(axes[row][column], cells, norm)
            axes[row][column].set_title(f"{model}, TPOT ≤ {limit * 1e3:.0f} ms")
    figure.suptitle("Requests served disaggregated over colocated, 64 accelerators, TTFT ≤ 4 s (p90)")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes, cells: list[Contest], norm: TwoSlopeNorm) -> None:  # type: ignore[no-untyped-def]
    isl, osl = (list(dict.fromkeys(getattr(c.workload, axis) for c in cells)) for axis in ("isl", "osl"))
    by = {(c.workload.isl, c.workload.osl): c for c in cells}
    shades = [[_shade(by[i, o].ratio) for o in osl] for i in isl]
    axes.imshow(shades, cmap="PuOr", norm=norm, aspect="auto", origin="lower")
    for y, i in enumerate(isl):
        for x, o in enumerate(osl):
            words = ratio_words(by[i, o].ratio).replace(" ", "\n")
            dark = abs(_shade(by[i, o].ratio)) > DARK
            axes.text(x, y, words, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(osl)), [f"{o:,.0f}" for o in osl])
    axes.set_yticks(range(len(isl)), [f"{i:,.0f}" for i in isl])
    axes.set_xlabel("tokens out")
    axes.set_ylabel("tokens in")


def _shade(ratio: float) -> float:
    if math.isnan(ratio):
        return math.nan
    return math.log2(min(max(ratio, 0.5), 6.0))


def main() -> None:
    """Write the tables as Markdown and the picture."""
    tables, picture = (Path(text) for text in sys.argv[1:3])
    maps = {model: run(model, case) for model, case in CASES.items()}
    pages = [f"## {model}\n\n{render(modes_report(found), 'markdown')}" for model, found in maps.items()]
    tables.write_text(
        "# Where disaggregation pays: the map\n\n"
        "Written by `python benchmarks/modes/map.py docs/modes-map.md docs/modes-map.svg`; "
        "[modes.md](modes.md) says how to read it.\n\n" + "\n".join(pages),
        encoding="utf-8",
    )
    draw(maps, picture)


if __name__ == "__main__":
    main()
