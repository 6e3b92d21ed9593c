"""Print quantities for people: three significant digits unless a docstring says otherwise."""

from __future__ import annotations

import math

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(0.0188), format_duration(1.24), format_duration(0.9996), format_duration(7200)
    ('18.8 ms', '1.24 s', '1.00 s', '2.00 h')
    """
    scales = (
        (1e-9, "ns"),
        (1e-6, "µs"),
        (1e-3, "ms"),
        (1.0, "s"),
        (_MINUTE, "min"),
        (_HOUR, "h"),
        (_DAY, "d"),
    )
    starts = (0.0, 1e-6, 1e-3, 1.0, 100.0, 100 * _MINUTE, 48 * _HOUR)
    return _scaled(seconds, scales, starts, zero="0 s")


def format_bytes(count: float, *, binary: bool = False) -> str:
    """A size for people, decimal (GB) as data sheets have it, or binary (GiB).

    >>> format_bytes(141e9), format_bytes(70272), format_bytes(80 * 2**30, binary=True)
    ('141 GB', '70.3 kB', '80.0 GiB')
    """
    if binary:
        scales = tuple((1024.0**i, f"{p}B") for i, p in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi")))
    else:
        scales = tuple((1e3**i, f"{p}B") for i, p in enumerate(("", "k", "M", "G", "T", "P")))
    return _scaled(count, scales, (0.0, *(s for s, _ in scales[1:])), zero="0 B")


def format_si(value: float, unit: str) -> str:
    """A quantity with the SI prefix that leaves one to three digits before the point.

    >>> format_si(989e12, "FLOP/s"), format_si(4.8e12, "B/s"), format_si(671.03e9, "parameters")
    ('989 TFLOP/s', '4.80 TB/s', '671 Gparameters')
    """
    scales = tuple((1e3**i, f"{p}{unit}") for i, p in enumerate(("", "k", "M", "G", "T", "P", "E")))
    return _scaled(value, scales, (0.0, *(s for s, _ in scales[1:])), zero=f"0 {unit}")


def format_count(count: float) -> str:
    """A count in full, to the nearest whole one.

    >>> format_count(1234567), format_count(0)
    ('1,234,567', '0')
    """
    return _not_finite(count) or f"{round(count):,}"


def format_money(dollars: float) -> str:
    """US dollars: cents from one dollar on, three significant digits below.

    >>> format_money(1234.5), format_money(0.0276), format_money(-2.6), format_money(0)
    ('$1,234.50', '$0.0276', '-$2.60', '$0.00')
    """
    special = _not_finite(dollars)
    if special:
        return special
    size = abs(dollars)
    text = f"{size:,.2f}" if size >= 0.9995 or size == 0 else _significant(size, 3)
    return f"{'-' if dollars < 0 else ''}${text}"


def format_rate(per_s: float, unit: str = "req/s") -> str:
    """A rate for people.

    >>> format_rate(57.87), format_rate(12345.6, "tok/s")
    ('57.9 req/s', '12,346 tok/s')
    """
    return _not_finite(per_s) or f"{_significant(per_s, 3)} {unit}"


def format_percent(fraction: float, digits: int = 1) -> str:
    """A share in percent.

    >>> format_percent(0.9), format_percent(0.123456, 2)
    ('90.0%', '12.35%')
    """
    return _not_finite(fraction) or f"{fraction * 100:.{digits}f}%"


def _scaled(value: float, scales: tuple[tuple[float, str], ...], starts: tuple[float, ...], zero: str) -> str:
    """`value` in the last scale whose start it reaches once rounded: 999.6 ms is 1.00 s."""
    special = _not_finite(value)
    if special:
        return special
    size = abs(value)
    if size < scales[0][0] * 1e-3:  # a thousandth of the smallest unit is nothing to a person
        return zero
    chosen = 0
    for i, start in enumerate(starts):
        below = scales[max(i - 1, 0)][0]
        if float(_significant(size / below, 3).replace(",", "")) * below >= start * (1 - 1e-12):
            chosen = i
    factor, unit = scales[chosen]
    return f"{'-' if value < 0 else ''}{_significant(size / factor, 3)} {unit}"


def _significant(value: float, digits: int) -> str:
    """At least `digits` significant digits, never an exponent.

    >>> [_significant(x, 3) for x in (0.012345, 9.999, 42, 999.5, 123456)]
    ['0.0123', '10.0', '42.0', '1,000', '123,456']
    """
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def _not_finite(value: float) -> str:
    """What to print for a number that is none, else ""."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return ""


def percentile_name(percentile: float) -> str:
    """A percentile as keys and tables name it.

    >>> percentile_name(0.9), percentile_name(0.999)
    ('p90', 'p99.9')
    """
    return f"p{percentile * 100:.6g}"
