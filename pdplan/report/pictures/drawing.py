"""What all pictures share: their look, where they may be written; PNG, SVG, one-page HTML by matplotlib."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdplan.errors import InputError
from pdplan.report.blocks import Block, Cell, Table, text_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".html")
INK, FAINT, RULE = "#222222", "#666666", "#e4e4e4"
STYLE: Any = {  # matplotlib's own type lists every key there is
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10,
    "svg.hashsalt": "pdplan",  # the same input, the same bytes
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
}


def picture_path(text: str, where: str = "--output") -> Path:
    """The file to draw into; InputError, before any work, where that cannot be."""
    path = Path(text)
    if path.suffix.casefold() not in SUFFIXES:
        raise InputError(
            f"{where}: '{text}' ends in none of {', '.join(SUFFIXES)}; the ending says what to draw"
        )
    if not path.parent.is_dir():
        raise InputError(f"{where}: there is no folder '{path.parent}' to write '{path.name}' into")
    if find_spec("matplotlib") is None:
        raise InputError(f"{where}: pictures need matplotlib; pip install 'pdplan[plot]'")
    return path


def write_picture(path: Path, figure: Callable[[], Figure], title: str, blocks: Sequence[Block]) -> None:
    """Write a figure into a file, whose ending says in which format; HTML holds the tables of `blocks`, too.

    `figure` draws it: the look has to be set before. InputError where the file cannot be written.
    """
    kind = path.suffix.casefold().lstrip(".")
    try:
        if kind == "html":
            path.write_bytes(_page(_drawn(figure, "svg").decode(), title, blocks).encode())
        else:
            path.write_bytes(_drawn(figure, kind))
    except OSError as problem:
        raise InputError(f"{path}: cannot be written: {problem.strerror}") from None


# ------------------------------------------------------------------------ inside


def _drawn(figure: Callable[[], Figure], kind: str) -> bytes:
    import matplotlib

    out = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": "pdplan"}
    with matplotlib.rc_context(STYLE):
        figure().savefig(out, format=kind, dpi=160, metadata=metadata)
    return out.getvalue()


def _page(svg: str, title: str, blocks: Sequence[Block]) -> str:
    """One page that needs nothing else: the picture, its numbers beneath."""
    svg = svg[svg.index("<svg") :]
    opening, end, rest = svg.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)  # as wide as the page
    return _PAGE.format(
        title=html.escape(title),
        svg=opening + end + rest,
        table="\n".join(_html_table(b) for b in blocks if isinstance(b, Table)),
    )


def _html_table(block: Table) -> str:
    def row(kind: str, cells: Sequence[Cell | str]) -> str:
        pairs = zip(block.columns, cells, strict=True)
        inside = "".join(f'<{kind} class="{c.align}">{html.escape(text_of(x))}</{kind}>' for c, x in pairs)
        return f"<tr>{inside}</tr>"

    lines = [row("th", [c.title for c in block.columns]), *(row("td", cells) for cells in block.rows)]
    return "\n".join(["<table>", f"<caption>{html.escape(block.title)}</caption>", *lines, "</table>"])


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; margin-top: 1.5em; font-variant-numeric: tabular-nums }}
caption {{ text-align: left; font-weight: bold }}
th, td {{ padding: 3px 10px; border-bottom: 1px solid #e4e4e4; white-space: nowrap }}
th {{ color: #666; font-weight: normal }}
.left {{ text-align: left }}
.right {{ text-align: right }}
</style>
</head>
<body>
{svg}
{table}
</body>
</html>
"""
