"""CSV text into rows with their line; what is wrong with the table itself is told with how to mend it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from pdplan.errors import InputError, nearest
from pdplan.documents.file_kinds import mistaken_text, refuse_separators

HINT = "see docs/measured-runs.md for the table"


class RowError(ValueError):
    """A row that is not as wide as the header."""


def table_rows(
    text: str, path: str, required: Sequence[str]
) -> Iterator[tuple[int, dict[str, str] | RowError]]:
    """Rows by their line, as dictionaries, or what is wrong with one; InputError where the header is wrong.

    Lines may end in any of the three ways.
    """
    reader = csv.reader(io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n")), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check(header, text, path, required)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                yield (
                    reader.line_num,
                    RowError(f"{len(cells)} cells, and {len(header)} columns in the header"),
                )
            else:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as problem:
        raise InputError(f"{path}:{reader.line_num or 1}: no CSV: {problem}; is a quote left open?") from None


def _check(header: Sequence[str], text: str, path: str, required: Sequence[str]) -> None:
    if not text.strip():
        raise InputError(f"{path}: the file is empty; {HINT}")
    if text.lstrip().startswith(("{", "[")):
        raise InputError(
            f"{path}: this is JSON, and a CSV table is expected ({HINT}); `pdplan calibrate` reads the "
            "result files of benchmark tools"
        )
    missing = [name for name in required if name not in header]
    if len(missing) == len(required):
        refuse_separators(header, path)
    if len(missing) == len(required):
        mistaken = mistaken_text(text, path, "runs")
        if mistaken:
            raise InputError(f"{path}:1: {mistaken}")
        raise InputError(
            f"{path}:1: this is no header of a table of runs (columns {', '.join(required)}); {HINT}"
        )
    if missing:
        hints = [
            f"'{m}'" + (f" (is it '{near[0]}'?)" if (near := nearest(m, header)) else "") for m in missing
        ]
        raise InputError(f"{path}:1: missing column {', '.join(hints)}; {HINT}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path}:1: the column {', '.join(repr(name) for name in twice)} stands twice")
