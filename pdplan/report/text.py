"""A report for people in a terminal, or piped into a file: plain text, colour where it is wanted.

Without a width nothing is wrapped or cut: a pipe has no 80 columns. With one, the columns
that may wrap do, and a table that is still too wide is left as wide as it is.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

from pdplan.report.blocks import (
    Block,
    Bullets,
    Cell,
    Column,
    Headline,
    Paragraph,
    Report,
    Style,
    Table,
    Verbatim,
    text_of,
)

_CODES: dict[Style, str] = {"": "", "strong": "1", "good": "32", "bad": "31", "faint": "2"}
_GAP = "  "
_NARROWEST = 12


def render_text(report: Report, width: int | None = None, *, colour: bool = False) -> str:
    """The blocks of a report, one blank line between them."""
    paint = _Paint(colour)
    parts = ["\n".join(_block(block, width, paint)) for block in report.blocks]
    return "\n\n".join(p for p in parts if p) + "\n"


class _Paint:
    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, style: Style) -> str:
        if not (self._colour and style and text.strip()):
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def _block(block: Block, width: int | None, paint: _Paint) -> Iterator[str]:
    if isinstance(block, Headline):
        yield from (paint(line, block.style) for line in _wrapped(block.text, width))
    elif isinstance(block, Paragraph):
        if block.title:
            yield paint(block.title, "strong")
        yield from (paint(line, block.style) for line in _wrapped(block.text, width))
    elif isinstance(block, Bullets):
        if block.items:
            yield paint(block.title, "strong")
        for item in block.items:
            first, *more = _wrapped(item, width - 2 if width else None) or [""]
            yield f"- {first}"
            yield from (f"  {line}" for line in more)
    elif isinstance(block, Verbatim):
        yield from block.lines
    else:
        yield from _table(block, width, paint)


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return text.splitlines()
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]
    return lines


def _table(block: Table, width: int | None, paint: _Paint) -> Iterator[str]:
    if block.title:
        yield paint(block.title, "strong")
    if not block.rows:
        return
    widths = _widths(block, width)
    if any(c.title for c in block.columns):
        yield from _row([c.title for c in block.columns], block.columns, widths, paint, "faint")
    for row in block.rows:
        yield from _row(row, block.columns, widths, paint)


def _widths(block: Table, width: int | None) -> list[int]:
    """Natural widths; columns that may wrap give way until the table fits."""
    widths = [
        max([_length(c.title), *(_length(text_of(row[i])) for row in block.rows)])
        for i, c in enumerate(block.columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width if width else 0
    for i in sorted((i for i, c in enumerate(block.columns) if c.wraps), key=lambda i: -widths[i]):
        if excess > 0:
            cut = min(excess, max(widths[i] - _NARROWEST, 0))
            widths[i] -= cut
            excess -= cut
    return widths


def _row(
    cells: Sequence[Cell | str],
    columns: Sequence[Column],
    widths: list[int],
    paint: _Paint,
    style: Style = "",
) -> Iterator[str]:
    wrapped = [
        _wrapped(text_of(cell), widths[i]) if columns[i].wraps else [text_of(cell)]
        for i, cell in enumerate(cells)
    ]
    for line in range(max(len(w) for w in wrapped)):
        shown = []
        for i, cell in enumerate(cells):
            text = wrapped[i][line] if line < len(wrapped[i]) else ""
            space = " " * (widths[i] - _length(text))
            text_style = style or (cell.style if isinstance(cell, Cell) else "")
            painted = paint(text, text_style)
            shown.append(space + painted if columns[i].align == "right" else painted + space)
        yield _GAP.join(shown).rstrip()


def _length(text: str) -> int:
    """Columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
