"""Rates over time: a list, or a table with a column of rates and perhaps one of times."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pdplan.documents.file_kinds import refuse_separators
from pdplan.documents.files import MAX_BYTES, decode, read_bytes
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.units import parse_rate_per_s
from pdplan.workload import MAX_RATE_PER_S

MAX_PERIODS = 10_000
RATE_COLUMNS = ("rate", "total_rate", "requests_per_s", "rate_requests_per_s")
TIME_COLUMNS = {"window_start_s": 1 / 3600, "start_s": 1 / 3600, "start_h": 1.0, "hour": 1.0}
"""Name, and hours in its unit."""
SERIES_COLUMNS = ("workload", "series")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Requests/s of periods; their lengths [h] where the table had times."""

    rates: tuple[float, ...]
    hours: tuple[float, ...] | None = None


def listed_rates(value: Any, where: str) -> Rates:
    """From 5,8,13 or a list; each may have a unit: 20, 1200/min.

    >>> listed_rates("5, 480/min", "--rates").rates
    (5.0, 8.0)
    """
    items = value.split(",") if isinstance(value, str) else value
    items = [items] if isinstance(items, int | float) else [i for i in items if str(i).strip()]
    return Rates(rates=_checked([(item, f"{where} {n}") for n, item in enumerate(items, 1)], where))


def read_rates(path: str | Path, series: str | None = None) -> Rates:
    """Rates of a CSV file, plain or gzipped: a bare column, or columns found by their names.

    `series` picks the rows of one of several workloads.
    """
    name = str(path)
    rows = [
        (number, row)
        for number, row in enumerate(csv.reader(io.StringIO(_text(path))), 1)
        if any(cell.strip() for cell in row) and not row[0].startswith("#")
    ]
    if not rows:
        raise InputError(f"{name}: no rates are in it; expected one a line, or a table with a column 'rate'")
    head = [cell.strip().casefold() for cell in rows[0][1]]
    if _is_number(head[-1]):
        return Rates(rates=_checked([(row[-1], f"{name}:{n}") for n, row in rows], name))
    del rows[0]
    rate_at = _column(head, RATE_COLUMNS)
    if rate_at is None:
        refuse_separators(head, name)
        raise InputError(f"{name}:1: no column of rates; name one of them {quoted_list(RATE_COLUMNS)}")
    rows = _of_series([r for r in rows if len(r[1]) > rate_at], _column(head, SERIES_COLUMNS), series, name)
    rates = _checked([(row[rate_at], f"{name}:{n}") for n, row in rows], name)
    time_at = _column(head, tuple(TIME_COLUMNS))
    if time_at is None or len(rates) < 2:
        return Rates(rates=rates)
    starts = [_start(row[time_at], f"{name}:{n}") * TIME_COLUMNS[head[time_at]] for n, row in rows]
    for (n, _), (before, after) in zip(rows[1:], pairwise(starts), strict=True):
        if after <= before:
            raise InputError(f"{name}:{n}: the period starts no later than the one before it; sort the rows")
    hours = [round(after - before, 9) for before, after in pairwise(starts)]
    return Rates(rates=rates, hours=(*hours, hours[-1]))


# ------------------------------------------------------------------------ inside


def _text(path: str | Path) -> str:
    content = read_bytes(path)
    if not str(path).endswith(".gz"):
        return decode(content, str(path))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{path}: the file is not in gzip format") from None
    if len(plain) > MAX_BYTES:
        raise InputError(f"{path}: it unpacks to more than {MAX_BYTES // 2**20} MiB; is this the right file?")
    return decode(plain, str(path))


def _checked(items: list[tuple[Any, str]], where: str) -> tuple[float, ...]:
    if len(items) > MAX_PERIODS:
        raise InputError(f"{where}: {len(items):,} periods are too many; expected up to {MAX_PERIODS:,}")
    rates: list[float] = []
    messages: list[str] = []
    for value, place in items:
        try:
            rate = parse_rate_per_s(value, name=place, allow_zero=True)
            if rate > MAX_RATE_PER_S:
                raise InputError(f"{place}: {rate:g} is out of range; expected up to {MAX_RATE_PER_S:g}")
            rates.append(rate)
        except InputError as problem:
            messages += problem.messages
    if messages:
        raise InputError(*messages[:5])
    if not any(rates):
        raise InputError(f"{where}: no period has a request; give at least one rate above 0")
    return tuple(rates)


def _of_series(
    rows: list[tuple[int, list[str]]], at: int | None, series: str | None, name: str
) -> list[tuple[int, list[str]]]:
    """The rows of one series; which, must be said where there are several."""
    if at is None:
        if series is not None:
            raise InputError(f"{name}:1: no column of series; name one of them {quoted_list(SERIES_COLUMNS)}")
        return rows
    known = list(dict.fromkeys(row[at] for _, row in rows))
    if series is None:
        if len(known) > 1:
            raise InputError(f"{name}: several series are in it; say which: --series {' | '.join(known)}")
        return rows
    if series not in known:
        close = nearest(series, known)
        hint = f"; did you mean {quoted_list(close)}?" if close else ""
        raise InputError(f"{name}: there is no series '{series}'{hint} (one of {', '.join(known)})")
    return [(n, row) for n, row in rows if row[at] == series]


def _column(head: list[str], names: tuple[str, ...]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)


def _is_number(text: str) -> bool:
    try:
        parse_rate_per_s(text, allow_zero=True)
    except InputError:
        return False
    return True


def _start(text: str, where: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = float("nan")
    if not 0 <= found < 1e12:
        raise InputError(f"{where}: '{text}' is not a time; expected a number, 0 or more")
    return found
