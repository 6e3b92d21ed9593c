"""A derivation for people: every line with its formula, the numbers put in, and the result.

Without a width nothing is wrapped: a pipe has no 80 columns. With one, long formulas break
before an equals sign or between terms and go on below it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pdplan.explain.arithmetic import formula, pretty_name
from pdplan.explain.derivation import Derivation, Line, Section, StepTable
from pdplan.report.blocks import Report, Table
from pdplan.report.explanation_tables import DROPPED_FIRST, TERM_COLUMNS, answer_table, terms_table
from pdplan.report.formats.text import render_text, wrapped_words
from pdplan.report.printed_numbers import References, numbers_of, result_text

_MARGIN = 7
"""Columns of the line numbers."""
_BOLD, _FAINT, _RED = "1", "2", "31"


class _Page:
    """Width and colour, and the sources cited so far."""

    def __init__(self, width: int | None, colour: bool) -> None:
        self.width = max(width, 40) if width else None
        self.colour = colour
        self.references = References()

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text.strip() else text

    def wrapped(self, text: str, indent: str = "", hang: str | None = None) -> list[str]:
        after = indent if hang is None else hang
        if self.width is None:
            return [f"{indent}{text}"]
        return wrapped_words(text, self.width, indent, after)


def render_derivation(
    derivation: Derivation, width: int | None = None, *, colour: bool = False, notes: tuple[str, ...] = ()
) -> str:
    """The derivation as text, its sources listed at the end."""
    page = _Page(width, colour)
    lines = [page.paint(x, _BOLD) for x in page.wrapped(derivation.title)]
    if derivation.problem:
        lines += [page.paint(x, _RED) for x in page.wrapped(f"This plan cannot do it: {derivation.problem}")]
    lines += ["", *_rendered(answer_table(derivation)), ""]
    lines += [
        page.paint(x, _FAINT)
        for x in page.wrapped(
            "After each input stands where it comes from: a line above, or a source [n] listed at the end."
        )
    ]
    for section in derivation.sections:
        lines += ["", *_section(section, page)]
    for title, items in (("Sources", page.references.items()), ("Notes", notes)):
        if items:
            lines += ["", page.paint(title, _BOLD)]
            for item in items:
                lines += page.wrapped(" ".join(item.split()), hang="     ")
    return "\n".join(lines) + "\n"


def _section(section: Section, page: _Page) -> Iterator[str]:
    yield page.paint(f"{section.number} {section.title}", _BOLD)
    yield from page.wrapped(section.intro)
    for x in section.given:
        stated = f"{pretty_name(x.name)} = {result_text(x.value, x.unit)}"
        yield f"{'':{_MARGIN}}{stated}  {page.references.mark(x.source)}"
    for step in section.tables:
        yield ""
        yield from _table(step, page)
    group = None
    for line in section.lines:
        if line.group != group:
            yield ""
            if line.group:
                yield page.paint(line.group, _BOLD)
            group = line.group
        yield from _line(line, page)
    for note in section.notes:
        yield from page.wrapped(note)


def _line(line: Line, page: _Page) -> Iterator[str]:
    binds = f" [{line.binding}]" if line.binding else ""
    note = f" ({line.note})" if line.note else ""
    margin = " " * _MARGIN
    words = f"{line.id:<{_MARGIN}}{line.name}{binds}{note}"
    cited = page.references.inputs(line)
    if cited and (page.width is None or len(words) + 4 + len(cited) <= page.width):
        yield f"{words}  {page.paint(f'← {cited}', _FAINT)}"
    else:
        yield from page.wrapped(words, hang=margin)
        for row in page.wrapped(f"← {cited}", margin, f"{margin}  ") if cited else ():
            yield page.paint(row, _FAINT)
    parts = [
        f"{pretty_name(line.symbol)} = {formula(line.expression)}",
        f"= {numbers_of(line)}",
        f"= {result_text(line.value, line.unit)}",
    ]
    yield from _equation(parts, margin, page)


def _equation(parts: list[str], margin: str, page: _Page) -> Iterator[str]:
    """Parts on one line where they fit, else each below the other."""
    whole = margin + " ".join(parts)
    if page.width is None or len(whole) <= page.width:
        yield whole
        return
    for i, part in enumerate(parts):
        yield from page.wrapped(part, margin + "  " * bool(i), margin + "    ")


def _table(step: StepTable, page: _Page) -> list[str]:
    """The step's table with as many columns as fit."""
    columns = [c for c in TERM_COLUMNS if not _empty(c, step)]
    text = _rendered(terms_table(step, page.references, tuple(columns)))
    for name in DROPPED_FIRST:
        if page.width is None or max(map(len, text)) <= page.width:
            break
        if name in columns:
            columns.remove(name)
            text = _rendered(terms_table(step, page.references, tuple(columns)))
    if page.colour:
        text = render_text(
            _report(terms_table(step, page.references, tuple(columns))), colour=True
        ).splitlines()
    return text


def _rendered(table: Table) -> list[str]:
    return render_text(_report(table)).splitlines()


def _report(table: Table) -> Report:
    return Report(blocks=(table,), data={})


def _empty(column: str, step: StepTable) -> bool:
    kind = column.lstrip(">")
    return kind in ("network", "overhead") and not any(getattr(row, f"{kind}_s") for row in step.rows)
