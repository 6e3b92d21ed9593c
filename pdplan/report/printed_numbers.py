"""Numbers of a derivation as printed: enough digits that each line can be recomputed from what it shows."""

from __future__ import annotations

import math

from pdplan.explain.arithmetic import evaluate, pretty_name, substituted
from pdplan.explain.derivation import Line
from pdplan.units import format_count

RESULT_DIGITS = 5
"""Significant digits of a result."""
INPUT_DIGITS = (8, 10, 12, 17)
"""Significant digits of what is put in: the fewest that give the printed result."""

_SCALES = {
    "s": ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")),
    "B": ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"), (1e15, "PB")),
    "B/s": ((1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s")),
    "FLOP": ((1.0, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP")),
    "FLOP/s": ((1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e15, "PFLOP/s")),
}
_WHOLE = 1e15
"""Up to here a float holds every whole number."""


def result_text(value: float | None, unit: str, digits: int = RESULT_DIGITS) -> str:
    """A value with its unit, scaled; whole bytes and counts in full as well.

    >>> result_text(0.0000020347, "s"), result_text(15009316864.0, "B"), result_text(0.25, "")
    ('2.0347 µs', '15,009,316,864 B', '0.25')
    >>> result_text(15009316864.0, "B", 4), result_text(8030261248.0, "parameters")
    ('15.01 GB', '8,030,261,248 parameters')
    >>> result_text(1, "GPUs"), result_text(1, "GPUs", 4), result_text(1, "tokens/s"), result_text(1, "s")
    ('1 GPU', '1 GPU', '1 token/s', '1 s')
    """
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if (
        value == int(value)
        and abs(value) < _WHOLE
        and digits == RESULT_DIGITS
        and unit not in ("s", "B/s", "FLOP/s")
    ):
        return f"{format_count(value)} {_of_one(unit) if value == 1 else unit}".rstrip()
    scales = _SCALES.get(unit)
    if scales is None or value == 0:
        return f"{_plain(value, digits)} {_of_one(unit) if value == 1 else unit}".rstrip()
    size = float(f"{abs(value):.{digits}g}")
    factor, name = next(((f, n) for f, n in reversed(scales) if size >= f * (1 - 1e-12)), scales[0])
    return f"{_plain(value / factor, digits)} {name}"


def _of_one(unit: str) -> str:
    """The unit of one of a thing.

    >>> _of_one("entries"), _of_one("requests/s"), _of_one("B/s"), _of_one("times")
    ('entry', 'request/s', 'B/s', 'times')
    """
    many, per, rest = unit.partition("/")
    if len(many) > 3 and many.endswith("s") and many != "times":
        many = f"{many[:-3]}y" if many.endswith("ies") else many[:-1]
    return f"{many}{per}{rest}"


def input_text(value: float, digits: int = INPUT_DIGITS[0]) -> str:
    """A number as it is put in: whole numbers in full, others with `digits` significant digits.

    >>> input_text(15009316864.0), input_text(3.35e12), input_text(0.7), input_text(1 / 3)
    ('15009316864', '3.35e12', '0.7', '0.33333333')
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else "n/a"
    short = _power(f"{value:.4g}")
    if value == int(value) and abs(value) < _WHOLE:
        whole = str(int(value))
        return short if abs(value) >= 1e6 and float(short) == value else whole
    return _power(f"{value:.{digits}g}")


def numbers_of(line: Line) -> str:
    """The formula of a line with its numbers put in, with as many digits as its printed result needs."""
    wanted = result_text(line.value, line.unit)
    for digits in INPUT_DIGITS:
        texts = {x.name: input_text(x.value, digits) for x in line.inputs}
        if not all(math.isfinite(x.value) for x in line.inputs):
            break
        found = evaluate(line.expression, {name: float(text) for name, text in texts.items()})
        if result_text(found, line.unit) == wanted:
            break
    return substituted(line.expression, texts)


class References:
    """Sources get numbers in the order in which they are first cited."""

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}

    def mark(self, source: str) -> str:
        """[3] for a document, 4.2 for a line."""
        if source.startswith("line "):
            return source.removeprefix("line ")
        return f"[{self._marks.setdefault(source, len(self._marks) + 1)}]"

    def inputs(self, line: Line) -> str:
        """Where each input of a line comes from: F 5.1, η_c [3]."""
        return ", ".join(f"{pretty_name(x.name)} {self.mark(x.source)}" for x in line.inputs)

    def items(self) -> tuple[str, ...]:
        return tuple(f"[{number}] {source}" for source, number in self._marks.items())


def _plain(value: float, digits: int) -> str:
    text = f"{value:,.{digits}g}"
    if "e" in text and 10**digits <= abs(value) < 1e8:
        return format_count(value)
    return _power(text)


def _power(text: str) -> str:
    """1e+09 as 1e9."""
    head, e, tail = text.partition("e")
    return f"{head}e{int(tail)}" if e else text
