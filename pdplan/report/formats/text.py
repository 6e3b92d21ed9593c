"""A report for people in a terminal, or piped into a file: plain text, colour where it is wanted.

Without a width nothing is wrapped or cut: a pipe has no 80 columns. With one, the columns
that may wrap do, and some are left out.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

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
_ARROW = " → "
_IN_ADDRESS = re.compile(r"(?<=[^/:]/)(?=[^/])")
"""Behind the slashes of an address or a path."""
_WORD = 25
"""The longest part of a plan that is kept in one line."""


_GLUED = re.compile(
    r"(?<=[≤≥]) (?=[\d.$∞])"
    r"|(?<=[\d∞]) (?=(?:[munµ]?s|[kMGTP]?i?B|k?W|GPUs?|tok|tokens|req|requests|times|%|×)(?![^\W\d_]))"
)
"""The blank between a number and its unit, or its sign: not where a line ends."""
_NO_BREAK = "\N{NO-BREAK SPACE}"


def render_text(report: Report, width: int | None = None, *, colour: bool = False) -> str:
    """The blocks of a report, one blank line between them."""
    paint = _Paint(colour)
    parts = ["\n".join(_block(block, width, paint)) for block in report.blocks]
    text = "\n\n".join(p for p in parts if p)
    return f"{text}\n" if text else ""


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
        lines += wrapped_words(line, max(width, _NARROWEST)) or [""]
    return lines


def wrapped_words(text: str, width: int, first: str = "", after: str = "") -> list[str]:
    """Lines of a width, behind an indent; a number and its unit stay on one line.

    >>> wrapped_words("TTFT ≤ 1.00 s and TPOT ≤ 50.0 ms at p90", 29)
    ['TTFT ≤ 1.00 s and TPOT', '≤ 50.0 ms at p90']
    """
    lines = textwrap.wrap(
        _GLUED.sub(_NO_BREAK, text),
        width,
        initial_indent=first,
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _table(block: Table, width: int | None, paint: _Paint) -> Iterator[str]:
    if block.title:
        yield paint(block.title, "strong")
    if not block.rows:
        return
    block, left_out = fitted(block, width)
    widths = _widths(block, width)
    if any(c.title for c in block.columns):
        yield from _row([c.title for c in block.columns], block.columns, widths, paint, "faint")
    for row in block.rows:
        yield from _row(row, block.columns, widths, paint)
    shown = [c.title for c in block.columns]
    if told := [f"{title}: {words}" for title, words in block.legend if title in shown]:
        yield from ("", *_wrapped("\n".join(told), width))
    if left_out:
        words = f"(no room for {', '.join(left_out)}: widen the terminal, or pipe)"
        yield from (paint(line, "faint") for line in _wrapped(words, width))


def fitted(block: Table, width: int | None) -> tuple[Table, list[str]]:
    """The table as the width allows, and the titles left out.

    Columns are broken first, then left out, then joined; what is too wide even so is as narrow as it gets.
    """
    if width is None or _needed(block) <= width:
        return block, []
    left_out: list[str] = []
    for table in (block, _joined(block)):
        left_out = []
        for i in reversed([i for i, c in enumerate(table.columns) if c.optional]):
            if _needed(table) <= width:
                break
            left_out.insert(0, table.columns[i].title)
            table = _without(table, i)
        if _needed(table) <= width:
            break
    return table, left_out


def _needed(block: Table) -> int:
    """The least width: columns that may wrap give way as far as they can."""
    return sum(_widths(block, 1)) + len(_GAP) * (len(block.columns) - 1)


def _without(block: Table, column: int) -> Table:
    def rest(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*row[:column], *row[column + 1 :])

    return replace(block, columns=rest(block.columns), rows=tuple(rest(row) for row in block.rows))


def _joined(block: Table) -> Table:
    """The leading columns that join as one that wraps."""
    count = next((i for i, c in enumerate(block.columns) if not c.joins), len(block.columns))
    if count < 2:
        return block
    head = Column(", ".join(c.title for c in block.columns[:count]), wraps=True)
    rows = tuple((", ".join(text_of(c) for c in row[:count]), *row[count:]) for row in block.rows)
    return replace(block, columns=(head, *block.columns[count:]), rows=rows)


def _widths(block: Table, width: int | None) -> list[int]:
    """Natural widths; columns that may wrap give way until the table fits."""
    widths = [
        max([_length(c.title), *(_length(text_of(row[i])) for row in block.rows)])
        for i, c in enumerate(block.columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width if width else 0
    for i in sorted((i for i, c in enumerate(block.columns) if c.wraps), key=lambda i: -widths[i]):
        if excess > 0:
            cut = min(excess, max(widths[i] - max(_NARROWEST, _longest_word(block, i)), 0))
            widths[i] -= cut
            excess -= cut
            if cut:  # lines break at words: what they do not need goes back
                lines = (x for row in block.rows for x in _cell_lines(text_of(row[i]), widths[i]))
                title = _cell_lines(block.columns[i].title, widths[i])
                needed = max((_length(line) for line in (*title, *lines)), default=0)
                excess -= max(widths[i] - needed, 0)
                widths[i] = min(widths[i], needed)
    return widths


def _longest_word(block: Table, column: int) -> int:
    """Of a column's texts; what stands beside an arrow counts as one word while it is short."""
    texts = (block.columns[column].title, *(text_of(row[column]) for row in block.rows))
    return max((_length(word) for text in texts for word in _words(text)), default=0)


def _words(text: str) -> list[str]:
    """What stays on one line of a cell: words, sides of an arrow, parts of an address.

    >>> _words("see https://docs.example.org/a-long-way/to-the-page.html")
    ['see', 'https://docs.example.org/', 'a-long-way/', 'to-the-page.html']
    """
    parts = _at_arrows(text)
    if len(parts) > 1 and max(map(_length, parts)) <= _WORD:
        return parts
    return [
        part
        for word in _GLUED.sub(_NO_BREAK, text).split(" ")
        for part in (_IN_ADDRESS.split(word) if len(word) > _WORD else [word])
    ]


def _at_arrows(text: str) -> list[str]:
    """
    >>> _at_arrows("3 × h200 tp1 → 1 × h200 tp4")
    ['3 × h200 tp1 →', '1 × h200 tp4']
    """
    return text.replace(_ARROW, _ARROW.rstrip() + "\n").split("\n")


def _cell_lines(text: str, width: int) -> list[str]:
    if _length(text) <= width:
        return [text]
    lines = (line for part in _at_arrows(text) for line in _wrapped(part, width))
    return [piece for line in lines for piece in _cut_address(line, width)]


def _cut_address(line: str, width: int) -> Iterator[str]:
    """A line that is one long address, cut behind slashes."""
    while _length(line) > width and (cut := [m.end() for m in _IN_ADDRESS.finditer(line, 0, width + 1)]):
        yield line[: cut[-1]]
        line = line[cut[-1] :]
    yield line


def _row(
    cells: Sequence[Cell | str],
    columns: Sequence[Column],
    widths: list[int],
    paint: _Paint,
    style: Style = "",
) -> Iterator[str]:
    wrapped = [
        _cell_lines(text_of(cell), widths[i]) if columns[i].wraps else [text_of(cell)]
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
