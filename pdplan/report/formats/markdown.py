"""A report for a pull request or a wiki: GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pdplan.report.blocks import Block, Bullets, Headline, Paragraph, Report, Table, Verbatim, text_of

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~])")


def render_markdown(report: Report) -> str:
    """The blocks of a report; nothing that they hold is read as markup."""
    return "\n\n".join(p for p in ("\n".join(_block(b)) for b in report.blocks) if p) + "\n"


def escaped(text: str) -> str:
    r"""
    >>> print(escaped("a_b | [tp4]"))
    a\_b \| \[tp4\]
    """
    return _SPECIAL.sub(r"\\\1", text)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Headline):
        yield f"**{escaped(block.text)}**"
    elif isinstance(block, Paragraph):
        if block.title:
            yield f"### {escaped(block.title)}\n"
        yield "  \n".join(escaped(line) for line in block.text.splitlines())
    elif isinstance(block, Bullets):
        if block.items:
            yield f"### {escaped(block.title)}\n"
        for item in block.items:
            yield f"- {escaped(item)}"
    elif isinstance(block, Verbatim):
        yield from ("```text", *block.lines, "```")
    else:
        yield from _table(block)


def _table(block: Table) -> Iterator[str]:
    if block.title:
        yield f"### {escaped(block.title)}\n"
    if not block.rows:
        return
    yield "| " + " | ".join(escaped(c.title) or " " for c in block.columns) + " |"
    yield "|" + "|".join("---:" if c.align == "right" else "---" for c in block.columns) + "|"
    for row in block.rows:
        yield "| " + " | ".join(escaped(text_of(cell)) for cell in row) + " |"
    if block.legend:
        yield ""
        yield "  \n".join(escaped(f"{title}: {words}") for title, words in block.legend)
