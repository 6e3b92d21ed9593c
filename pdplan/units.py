"""Parse quantities, and print them (pdplan/printing.py); nothing else.

Every `parse_*` takes what a flag or a YAML value holds (text, or a bare number in
a stated default unit), returns a float in the base unit that its name ends in,
and raises `InputError` saying what was given, what is expected, and an example.
`name` is the flag or field that the value came from; it leads the message.

| quantity  | bare number means | multiples                                           |
|-----------|-------------------|-----------------------------------------------------|
| tokens    | tokens            | k = 1024, M = 1024²: "8k" is 8192, as in benchmarks |
| requests  | per second        | k = 1000, M = 10⁶: "5M/day"                         |
| bytes     | bytes             | GB = 10⁹, GiB = 2³⁰                                 |
| bandwidth | refused           | Gbps = 10⁹ bits, GB/s = 10⁹ bytes; case matters     |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real

from pdplan.errors import InputError, nearest, quoted_list
from pdplan.printing import (
    format_bytes,
    format_count,
    format_duration,
    format_money,
    format_percent,
    format_rate,
    format_si,
)

__all__ = [
    "format_bytes",
    "format_count",
    "format_duration",
    "format_money",
    "format_percent",
    "format_rate",
    "format_si",
    "is_unit",
    "parse_bandwidth_bytes_per_s",
    "parse_bytes",
    "parse_duration_s",
    "parse_fraction",
    "parse_money",
    "parse_rate_per_s",
    "parse_tokens",
]

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0

_NUMBER = re.compile(
    r"(?P<number>[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?P<rest>.*)",
    re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    """How one kind of quantity is spelled, and which values make sense."""

    noun: str
    units: Mapping[str, float]
    default_unit: str | None
    maximum: float
    maximum_text: str
    example: str
    fold_case: bool = True
    confusable: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Spellings that could mean several units: refused, with the choice."""

    def factor(self, unit: str) -> float | None:
        if unit in self.units:
            return self.units[unit]
        if self.fold_case and unit not in self.confusable:
            folded = unit.casefold()
            return next((f for u, f in self.units.items() if u.casefold() == folded), None)
        return None

    def close_to(self, unit: str) -> tuple[str, ...]:
        folded = unit.casefold()
        return self.confusable.get(folded) or nearest(folded, [u for u in self.units if u])


def _with_prefixes(ends: Mapping[str, float], prefixes: Mapping[str, float]) -> dict[str, float]:
    return {p + e: f * g for e, f in ends.items() for p, g in prefixes.items()}


_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}

_TOKENS = _Quantity(
    noun="a number of tokens",
    units={
        p + e: f
        for p, f in {"": 1.0, "k": 1024.0, "Ki": 1024.0, "M": 1024.0**2, "Mi": 1024.0**2}.items()
        for e in ("", " tokens", "tokens", " token", "tok")
    },
    default_unit="",
    maximum=1e8,
    maximum_text="100,000,000 tokens",
    example="4000 or 8k (k = 1024, so 8192)",
)
_DURATION = _Quantity(
    noun="a duration",
    units={
        "s": 1.0,
        "ms": 1e-3,
        "us": 1e-6,
        "µs": 1e-6,
        "μs": 1e-6,
        "ns": 1e-9,
        **dict.fromkeys(("sec", "secs", "second", "seconds"), 1.0),
        **dict.fromkeys(("msec", "milliseconds"), 1e-3),
        **dict.fromkeys(("min", "minute", "minutes"), _MINUTE),
        "h": _HOUR,
        "hr": _HOUR,
        "hours": _HOUR,
        "d": _DAY,
        "days": _DAY,
    },
    default_unit="s",
    maximum=366 * _DAY,
    maximum_text="366 days",
    example="30ms, 2s or 1.5min",
    confusable={"m": ("ms", "min"), "M": ("ms", "min")},
)
_BANDWIDTH = _Quantity(
    noun="a bandwidth",
    units={
        **_with_prefixes({"bps": 1 / 8, "b/s": 1 / 8, "bit/s": 1 / 8, "B/s": 1.0, "Bps": 1.0}, _DECIMAL),
        **_with_prefixes({"B/s": 1.0}, _BINARY),
    },
    default_unit=None,
    maximum=1e18,
    maximum_text="1,000 PB/s",
    example="400Gbps (gigabits) or 50GB/s (gigabytes)",
    fold_case=False,
    confusable={
        spelling: (f"{p}bps", f"{p}B/s")
        for p in "KMGTP"
        for x in (p, p.lower())
        for spelling in (f"{x}", f"{x}b", f"{x}bs", f"{x}bps", f"{x}b/s")
    },
)
_BYTES = _Quantity(
    noun="a size in bytes",
    units={
        **_with_prefixes({"B": 1.0, "": 1.0}, _DECIMAL),
        **_with_prefixes({"B": 1.0, "": 1.0}, _BINARY),
        "bytes": 1.0,
    },
    default_unit="B",
    maximum=1e18,
    maximum_text="1,000 PB",
    example="80GB or 80GiB",
)
_RATE = _Quantity(
    noun="a rate",
    units=_with_prefixes(
        {
            what + per: seconds
            for per, seconds in {
                "/s": 1.0,
                "/sec": 1.0,
                "/second": 1.0,
                "/min": 1 / _MINUTE,
                "/minute": 1 / _MINUTE,
                "/h": 1 / _HOUR,
                "/hr": 1 / _HOUR,
                "/hour": 1 / _HOUR,
                "/d": 1 / _DAY,
                "/day": 1 / _DAY,
            }.items()
            for what in ("", "req", " req", "requests", " requests")
        }
        | {
            "": 1.0,
            "rps": 1.0,
            "qps": 1.0,
            "rpm": 1 / _MINUTE,
            " rps": 1.0,
            " qps": 1.0,
            " rpm": 1 / _MINUTE,
        },
        {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    ),
    default_unit="",
    maximum=1e7,
    maximum_text="10,000,000 per second",
    example="20, 20/s, 1200/min or 5M/day",
)
_MONEY = _Quantity(
    noun="an amount of US dollars",
    units={"": 1.0, "USD": 1.0, "$": 1.0, "/h": 1.0, "USD/h": 1.0, "$/h": 1.0},
    default_unit="",
    maximum=1e9,
    maximum_text="$1,000,000,000",
    example="2.60 or $2.60",
)


def parse_tokens(value: str | float, *, name: str = "", allow_zero: bool = False) -> int:
    """Tokens, a whole number; k = 1024 and M = 1024², at most 100 million.

    >>> parse_tokens("8k"), parse_tokens("4000"), parse_tokens("128k"), parse_tokens(512)
    (8192, 4000, 131072, 512)
    >>> parse_tokens("8x", name="--isl")
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: --isl: '8x' is not a number of tokens: unknown unit 'x'; write for example 4000 or 8k (k = 1024, so 8192)
    """  # noqa: E501
    found = _parse(value, _TOKENS, name, None, allow_zero)
    if found != int(found):
        raise _wrong(value, _TOKENS, name, f"that is {found:g} tokens, expected a whole number")
    return int(found)


def parse_duration_s(
    value: str | float, *, name: str = "", default_unit: str = "s", allow_zero: bool = False
) -> float:
    """A duration [s]; a bare number is in `default_unit`; at most 366 days.

    >>> parse_duration_s("30ms"), parse_duration_s("2s"), parse_duration_s("1.5min")
    (0.03, 2.0, 90.0)
    >>> parse_duration_s(30, default_unit="ms")
    0.03
    >>> parse_duration_s("5m", name="--ttft")
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: --ttft: '5m' is not a duration: unknown unit 'm', did you mean 'ms' or 'min'? Write for example 30ms, 2s or 1.5min
    """  # noqa: E501
    return _parse(value, _DURATION, name, default_unit, allow_zero)


def parse_bandwidth_bytes_per_s(
    value: str | float, *, name: str = "", default_unit: str | None = None, allow_zero: bool = False
) -> float:
    """A bandwidth [byte/s]; b is a bit, B a byte; a unit is needed; at most 1,000 PB/s.

    >>> parse_bandwidth_bytes_per_s("400Gbps"), parse_bandwidth_bytes_per_s("50GB/s")
    (50000000000.0, 50000000000.0)
    >>> parse_bandwidth_bytes_per_s("50 GiB/s")
    53687091200.0
    >>> parse_bandwidth_bytes_per_s("400gbs")
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: '400gbs' is not a bandwidth: unknown unit 'gbs', did you mean 'Gbps' or 'GB/s'? Write for example 400Gbps (gigabits) or 50GB/s (gigabytes)
    """  # noqa: E501
    return _parse(value, _BANDWIDTH, name, default_unit, allow_zero)


def parse_bytes(
    value: str | float, *, name: str = "", default_unit: str = "B", allow_zero: bool = False
) -> float:
    """A size [byte]: GB = 10⁹, GiB = 2³⁰; at most 1,000 PB.

    >>> parse_bytes("80GB"), parse_bytes("80GiB")
    (80000000000.0, 85899345920.0)
    """
    return _parse(value, _BYTES, name, default_unit, allow_zero)


def parse_rate_per_s(value: str | float, *, name: str = "", allow_zero: bool = False) -> float:
    """A rate [1/s]; a bare number is per second, k = 1000; at most ten million per second.

    >>> parse_rate_per_s("20"), parse_rate_per_s("1200/min"), parse_rate_per_s("20 req/s")
    (20.0, 20.0, 20.0)
    >>> round(parse_rate_per_s("5M/day"), 6)
    57.87037
    """
    return _parse(value, _RATE, name, None, allow_zero)


def parse_money(value: str | float, *, name: str = "", allow_zero: bool = True) -> float:
    """US dollars, with or without "$" and "/h"; at most a billion; zero is a price.

    >>> parse_money("2.60"), parse_money("$2.60"), parse_money("$1,234.50")
    (2.6, 2.6, 1234.5)
    """
    if isinstance(value, str) and value.strip().startswith("$"):
        stripped = value.strip()[1:]
        if not stripped.strip().startswith(("-", "+")):
            return _parse(stripped, _MONEY, name, None, allow_zero, given=value)
    return _parse(value, _MONEY, name, None, allow_zero)


_FRACTION = _Quantity(
    noun="a share between 0 and 1",
    units={"": 1.0, "%": 0.01},
    default_unit="",
    maximum=1.0,
    maximum_text="100%",
    example="90%, 0.9 or p90",
)


def parse_fraction(
    value: str | float, *, name: str = "", allow_zero: bool = True, allow_one: bool = True
) -> float:
    """A share or percentile, between 0 and 1: "90%", "0.9" or "p90".

    A bare number above 1 is refused: "90" could mean 90 % or a slip of the key.

    >>> parse_fraction("90%"), parse_fraction("0.9"), parse_fraction("p99"), parse_fraction("p99.9")
    (0.9, 0.9, 0.99, 0.999)
    >>> parse_fraction("90", name="--attainment")
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: --attainment: '90' is not a share between 0 and 1: it is above the maximum of 100%, did you mean '90%'? Write for example 90%, 0.9 or p90
    """  # noqa: E501
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and re.fullmatch(r"[pP]\d+(\.\d+)?", text):
        found = _parse(f"{text[1:]}%", _FRACTION, name, None, allow_zero, given=value)
    else:
        found = _parse(value, _FRACTION, name, None, allow_zero)
    if found == 1 and not allow_one:
        raise _wrong(value, _FRACTION, name, "it must be below 100%")
    return round(found, 15)  # 99.9 % is 0.999, not 0.9990000000000001


def is_unit(word: str) -> bool:
    """Whether a word is a unit, or one of the near misses that are refused with the choice.

    >>> is_unit("ms"), is_unit("Gbps"), is_unit("req/s"), is_unit("m"), is_unit("plan")
    (True, True, True, True, False)
    """
    quantities = (_DURATION, _TOKENS, _RATE, _BANDWIDTH, _BYTES, _MONEY, _FRACTION)
    text = word.strip()
    return bool(text) and any(q.factor(text) is not None or text in q.confusable for q in quantities)


def _parse(
    value: object,
    quantity: _Quantity,
    name: str,
    default_unit: str | None,
    allow_zero: bool,
    given: object = None,
) -> float:
    """The value in the base unit, or an InputError; `given` is what the user wrote, if `value` is not."""
    given = value if given is None else given
    if isinstance(value, bool) or not isinstance(value, str | Real):
        raise _wrong(given, quantity, name, "expected a number with a unit")
    unit = ""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise _wrong(given, quantity, name, "it is empty")
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise _wrong(given, quantity, name, "it does not start with a number")
        digits, unit = match["number"], match["rest"]
        if re.match(r"[\d.,_]", unit):
            raise _wrong(
                given, quantity, name, "the number is malformed (decimals take a point, thousands a comma)"
            )
        number = float(digits.replace(",", "").replace("_", ""))
    else:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    number_factor = _factor(unit, given, quantity, name, default_unit)
    found = number * number_factor if number_factor >= 1 else number / (1 / number_factor)
    if math.isnan(found):
        raise _wrong(given, quantity, name, "it is not a finite number")
    if found < 0:
        raise _wrong(given, quantity, name, "it must not be negative")
    if found == 0 and not allow_zero:
        raise _wrong(given, quantity, name, "it must be more than zero")
    if found > quantity.maximum:
        hint = ""
        if quantity is _FRACTION and not unit and found <= 100:
            hint = f"did you mean '{number:g}%'?"
        raise _wrong(given, quantity, name, f"it is above the maximum of {quantity.maximum_text}", hint)
    return found


def _factor(unit: str, given: object, quantity: _Quantity, name: str, default_unit: str | None) -> float:
    """What one `unit` is worth in the base unit."""
    bare = not unit.strip()
    spelled = (default_unit or quantity.default_unit) if bare else unit.strip()
    if spelled is None:
        raise _wrong(given, quantity, name, "it has no unit")
    factor = quantity.factor(spelled)
    if factor is None and not bare:
        factor = quantity.factor(unit.rstrip())  # units that are words may stand after a blank
    if factor is not None:
        return factor
    if "," in spelled:
        raise _wrong(
            given, quantity, name, "it is a list; give one value, and where several may be, repeat the flag"
        )
    close = quantity.close_to(spelled)
    hint = f"did you mean {quoted_list(close)}?" if close else ""
    raise _wrong(given, quantity, name, f"unknown unit '{spelled}'", hint)


def _wrong(given: object, quantity: _Quantity, name: str, why: str, hint: str = "") -> InputError:
    where = f"{name}: " if name else ""
    shown = f"'{given}'" if isinstance(given, str) else repr(given)
    if len(shown) > 80:
        shown = f"{shown[:76]}...{shown[-1]}"
    mend = f", {hint} Write" if hint else "; write"
    return InputError(f"{where}{shown} is not {quantity.noun}: {why}{mend} for example {quantity.example}")
