"""What a report is made of: one value, which text, Markdown, CSV and JSON all show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["", "strong", "good", "bad", "faint"]


@dataclass(frozen=True)
class Cell:
    """A cell whose text has a meaning that colour may show; the text alone must do, too."""

    text: str
    style: Style = ""


@dataclass(frozen=True)
class Column:
    title: str
    align: Literal["left", "right"] = "left"
    wraps: bool = False
    """Whether its text may be broken into lines where the terminal is narrow."""
    optional: bool = False
    """Whether it may be left out where the terminal is still too narrow; the last one goes first."""
    joins: bool = False
    """Whether it may share one wrapping column with its neighbours that join, where that helps."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of equal columns under a heading."""

    title: str = ""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()
    """What columns mean, by their titles; told below of those that are shown."""


@dataclass(frozen=True)
class Headline:
    """The answer in one sentence."""

    text: str
    style: Style = "strong"


@dataclass(frozen=True)
class Paragraph:
    text: str
    title: str = ""
    style: Style = ""


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """Short remarks under a heading."""

    title: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Verbatim:
    """Lines that stay as they are: a plot of characters."""

    lines: tuple[str, ...]


Block = Headline | Paragraph | Table | Bullets | Verbatim


@dataclass(frozen=True, kw_only=True)
class Report:
    """Blocks for people, `data` for programs, `records` for spreadsheets."""

    blocks: tuple[Block, ...]
    data: Mapping[str, Any]
    """The one JSON object, keys in the order of printing."""
    records: tuple[Mapping[str, Any], ...] = field(default=())
    """Flat rows of equal keys for CSV."""


def table(title: str, columns: str, rows: list[tuple[Cell | str, ...]]) -> Table:
    """A table from a short note of its columns.

    ">" aligns right, "~" may wrap, "?" may be left out, "+" may join its neighbours.

    >>> table("", "name|>GPUs", [("h200", "8")]).columns[1]
    Column(title='GPUs', align='right', wraps=False, optional=False, joins=False)
    """
    heads = tuple(
        Column(name, "right" if ">" in marks else "left", "~" in marks, "?" in marks, "+" in marks)
        for marks, name in (_marks(c) for c in columns.split("|"))
    )
    return Table(title=title, columns=heads, rows=tuple(rows))


def _marks(column: str) -> tuple[str, str]:
    name = column.lstrip(">~?+")
    return column[: len(column) - len(name)], name


def text_of(cell: Cell | str) -> str:
    return cell.text if isinstance(cell, Cell) else cell
