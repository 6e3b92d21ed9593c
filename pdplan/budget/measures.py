"""What a budget can limit: each measure's name in the file, unit, direction and how to write it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pdplan import units
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.printing import percentile_name

Bound = Literal["max", "min"]
Quantity = Literal["duration", "money", "count", "rate", "tokens rate", "share", "power", "bytes"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number of a deployment that may have a limit."""

    key: str
    """Its name in a budget file: ttft_p90."""
    field: str
    """Its name in JSON, which ends in the unit: ttft_p90_s."""
    bound: Bound
    """What a bare number means: at most, or at least."""
    quantity: Quantity
    percentile: float | None = None
    """Of a latency at a percentile; None is the mean, or no latency."""

    @property
    def base(self) -> str:
        """The latency that a percentile is taken of: ttft."""
        return re.sub(r"_(mean|p[\d.]+)$", "", self.key)

    @property
    def is_latency(self) -> bool:
        return self.base in LATENCIES

    def parse(self, value: str | float, name: str) -> float:
        """A limit as a file holds it; raises InputError."""
        return _PARSE[self.quantity](value, name)

    def show(self, value: float) -> str:
        """For people."""
        return _SHOW[self.quantity](value)

    def write(self, value: float) -> str:
        """As one writes it in a budget file; reads back as the same value."""
        return _WRITE[self.quantity](value)

    def passing_limit(self, found: float, bound: Bound) -> float:
        """The limit of three significant digits that `found` just keeps."""
        if not math.isfinite(found) or found == 0:
            return found
        scale = 1.0 if self.quantity == "count" else 10.0 ** (math.floor(math.log10(abs(found))) - 2)
        steps = found / scale
        whole = math.ceil(steps * (1 - 1e-12)) if bound == "max" else math.floor(steps * (1 + 1e-12))
        # Dividing by a power of ten is exact where multiplying by its inverse is not.
        return whole * scale if scale >= 1 else whole / round(1 / scale)


def _number(value: str | float, name: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("kW").removesuffix("tok/s").replace(",", ""))
        except ValueError:
            raise InputError(f"{name}: '{value}' is not a number; write for example 120 or 0.5") from None
    if isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise InputError(f"{name}: {value!r} is not a finite number of zero or more")
    return float(value)


def _plain(value: float) -> str:
    """Twelve significant digits, no trailing zeros."""
    return f"{value:.12g}"


def _write_duration(seconds: float) -> str:
    return f"{seconds:.12g}s" if seconds >= 1 else f"{seconds * 1e3:.12g}ms"


_PARSE: dict[str, Callable[[str | float, str], float]] = {
    "duration": lambda v, name: units.parse_duration_s(v, name=name),
    "money": lambda v, name: units.parse_money(v, name=name),
    "count": _number,
    "rate": lambda v, name: units.parse_rate_per_s(v, name=name),
    "tokens rate": _number,
    "share": lambda v, name: units.parse_fraction(v, name=name),
    "power": _number,
    "bytes": lambda v, name: units.parse_bytes(v, name=name),
}
_SHOW: dict[str, Callable[[float], str]] = {
    "duration": units.format_duration,
    "money": units.format_money,
    "count": units.format_count,
    "rate": units.format_rate,
    "tokens rate": lambda v: units.format_rate(v, "tok/s"),
    "share": units.format_percent,
    "power": lambda v: units.format_rate(v, "kW"),
    "bytes": lambda v: units.format_bytes(v, binary=True),
}
_WRITE: dict[str, Callable[[float], str]] = {
    "duration": _write_duration,
    "money": _plain,
    "count": _plain,
    "rate": _plain,
    "tokens rate": _plain,
    "share": lambda v: f"{v * 100:.12g}%",
    "power": _plain,
    "bytes": lambda v: f"{_plain(v / 2**30)}GiB",
}

LATENCIES = ("ttft", "tpot", "request_latency")


def _measure(key: str, bound: Bound, quantity: Quantity, field: str = "") -> Measure:
    return Measure(key=key, field=field or key, bound=bound, quantity=quantity)


_FIXED = {
    m.key: m
    for m in (
        _measure("usd_per_h", "max", "money"),
        _measure("usd_per_million_output_tokens", "max", "money"),
        _measure("usd_per_million_tokens", "max", "money"),
        _measure("gpus", "max", "count"),
        _measure("power_kw", "max", "power"),
        _measure("requests_per_s", "min", "rate", "capacity_requests_per_s"),
        _measure("goodput_requests_per_s", "min", "rate"),
        _measure("total_tok_per_s_per_gpu", "min", "tokens rate"),
        _measure("output_tok_per_s_per_gpu", "min", "tokens rate"),
        _measure("tok_per_s_per_user", "min", "tokens rate"),
        _measure("kv_transfer_mean", "max", "duration", "kv_transfer_mean_s"),
        _measure("utilisation", "max", "share"),
        _measure("prefill_utilisation", "max", "share"),
        _measure("decode_utilisation", "max", "share"),
        _measure("network_utilisation", "max", "share"),
        _measure("kv_cache", "max", "share", "kv_cache_share"),
    )
}
MEMORY = _measure("memory", "max", "bytes", "memory_bytes_per_gpu")
"""Found only where a model does not fit: what it needs beside what there is."""

TOTALS = ("usd_per_h", "gpus", "power_kw")
"""What adds up over deployments."""

_LATENCY_KEY = re.compile(r"(?P<base>ttft|tpot|request_latency)(?:_(?P<at>mean|p\d{2}(?:\.\d{1,2})?))?")

DESCRIPTIONS = {
    "usd_per_h": "what the accelerators cost [$/h]",
    "usd_per_million_output_tokens": "cost per million output tokens [$]",
    "usd_per_million_tokens": "cost per million tokens, input and output [$]",
    "gpus": "accelerators of all pools",
    "power_kw": "power of the accelerators [kW]",
    "ttft_*": "time to first token: _mean, _p50 to _p99.99; plain `ttft` is at the deployment's percentile",
    "tpot_*": "time per output token, likewise",
    "request_latency_*": "TTFT + TPOT · (OSL − 1), likewise",
    "kv_transfer_mean": "time of a request's KV transfer, wait for the network counted",
    "requests_per_s": "the highest rate that it can keep up with; under a concurrency, the rate it serves",
    "goodput_requests_per_s": "the highest rate at which every latency limit of the deployment still holds",
    "total_tok_per_s_per_gpu": "input and output tokens per second and accelerator",
    "output_tok_per_s_per_gpu": "output tokens per second and accelerator",
    "tok_per_s_per_user": "output tokens per second that one request sees: 1 / mean TPOT",
    "utilisation": "of the busiest pool or network; also prefill_, decode_ and network_utilisation",
    "kv_cache": "share of the KV cache that running requests fill on average, at full length",
}
"""For documentation and --help."""


def find_measure(key: str, percentile: float) -> Measure:
    """The measure of a key in a budget file; plain `ttft` is taken at `percentile`.

    >>> find_measure("ttft", 0.9).field, find_measure("tpot_p95", 0.9).percentile
    ('ttft_p90_s', 0.95)
    >>> find_measure("tfft_p90", 0.9)
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: unknown limit 'tfft_p90'; did you mean 'ttft_p90', 'ttft_p99' or 'ttft_p95'?
    """
    if key in _FIXED:
        return _FIXED[key]
    match = _LATENCY_KEY.fullmatch(key)
    at = None
    if match:
        at = match["at"] or percentile_name(percentile)
        share = None if at == "mean" else round(float(at[1:]) / 100, 6)
        if share is None or 0.5 <= share <= 0.9999:
            name = f"{match['base']}_{at}"
            return Measure(key=name, field=f"{name}_s", bound="max", quantity="duration", percentile=share)
        raise InputError(f"'{key}': percentiles go from p50 to p99.99")
    percentiles = ("mean", "p50", "p90", "p95", "p99")
    known = [*_FIXED, *LATENCIES, *(f"{base}_{p}" for base in LATENCIES for p in percentiles)]
    close = nearest(key, known)
    hint = f"did you mean {quoted_list(close)}?" if close else f"known are {', '.join(DESCRIPTIONS)}"
    raise InputError(f"unknown limit '{key}'; {hint}")
