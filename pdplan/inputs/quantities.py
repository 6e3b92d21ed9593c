"""Values with units become the types that formulas take; each error names its flag or line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdplan.calibrated import Calibration
from pdplan.compose import NetworkSpec
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.inputs.given import Findings, Given, Values
from pdplan.units import (
    format_duration,
    parse_bandwidth_bytes_per_s,
    parse_duration_s,
    parse_fraction,
    parse_money,
    parse_rate_per_s,
    parse_tokens,
)
from pdplan.workload import (
    CONFIDENCE_RANGE,
    MAX_CONCURRENCY,
    MAX_RATE_PER_S,
    MAX_TOKENS,
    MOST_REUSE,
    Slo,
    Speculation,
    Workload,
)

MAX_GPUS = 1_000_000
MAX_USD_PER_H = 1e9
MAX_SPARE = 1000
MAX_HEADROOM = 0.9
DEFAULT_PERCENTILE = 0.9
IDLE_TTFT_S = 300.0
IDLE_TPOT_S = 1.0
"""Limits beyond these are slips of the unit: no one waits so long for a token."""
TRANSPORTS = ("rdma", "tcp")
NETWORK_KEYS = ("bandwidth", "latency", "round_trip", "jitter", "loss", "transport")


def workload_from(values: Values, findings: Findings, *, needs_load: bool) -> Workload | None:
    """Lengths and traffic; None, and findings, where something is missing or wrong."""
    before = len(findings.messages)
    for key, example in (("isl", "4k"), ("osl", "1k")):
        if key not in values:
            findings.messages.append(
                f"{key} is missing; give one, e.g. --{key} {example} (or '{key}: {example}')"
            )
    if "rate" in values and "concurrency" in values:
        findings.say(values["concurrency"].where, "a rate is given, too; give either rate or concurrency")
    if needs_load and not {"rate", "concurrency"} & values.keys():
        findings.messages.append(
            "the load is missing; give requests per second, e.g. --rate 20, or requests in flight, "
            "e.g. --concurrency 64"
        )
    isl = _tokens(values, "isl", findings)
    osl = _tokens(values, "osl", findings)
    rate = _parsed(values, "rate", findings, _rate)
    concurrency = _number(values, "concurrency", findings, 1, MAX_CONCURRENCY, "requests in flight")
    spread = {
        key: found
        for key in ("isl_cv", "osl_cv", "arrival_cv")
        if (found := _number(values, key, findings, 0, 10, "(standard deviation over mean)")) is not None
    }
    reuse = _parsed(values, "prefix_reuse", findings, _reuse)
    if len(findings.messages) > before or isl is None or osl is None:
        return None
    return findings.attempt(
        Workload, isl=isl, osl=osl, rate=rate, concurrency=concurrency, prefix_reuse=reuse or 0.0, **spread
    )


def traffic_from(values: Values, key: str, findings: Findings) -> float | None:
    """One of isl, osl, rate, concurrency, prefix_reuse on its own."""
    if key == "prefix_reuse":
        share: float | None = _parsed(values, key, findings, _reuse)
        return share
    if key == "rate":
        found: float | None = _parsed(values, key, findings, _rate)
        return found
    if key == "concurrency":
        return _number(values, key, findings, 1, MAX_CONCURRENCY, "requests in flight")
    return _tokens(values, key, findings)


def slo_from(values: Values, findings: Findings, calibration: Calibration | None = None) -> Slo | None:
    """Objectives; none at all is no error here. A confidence is about a calibration's errors, too."""
    limits = {
        field: _parsed(values, key, findings, _objective)
        for key, field in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("latency", "request_latency_s"))
    }
    percentile = _parsed(values, "percentile", findings, _percentile)
    confidence = _parsed(values, "confidence", findings, _confidence)
    return findings.attempt(
        Slo,
        **limits,
        percentile=percentile or DEFAULT_PERCENTILE,
        confidence=confidence,
        calibration=calibration,
    )


def slo_notes(slo: Slo) -> list[str]:
    """Limits that bind nothing, as where milliseconds were written without their unit."""
    return [
        f"a {name} limit of {format_duration(limit)} binds nothing; write {limit:g}ms where milliseconds are "
        "meant, since a bare number is seconds"
        for name, limit, most in (("TTFT", slo.ttft_s, IDLE_TTFT_S), ("TPOT", slo.tpot_s, IDLE_TPOT_S))
        if limit is not None and limit > most
    ]


def count_from(
    values: Values, key: str, findings: Findings, low: int = 1, high: int = MAX_GPUS
) -> int | None:
    """A whole number such as --max-gpus."""
    found = _number(values, key, findings, low, high, "")
    if found is not None and found != int(found):
        findings.say(values[key].where, f"{found:g} is not a whole number; expected {low:,} to {high:,}")
        return None
    return None if found is None else int(found)


def spare_from(values: Values, findings: Findings) -> int:
    """Spare workers of each pool: 1, or "n+1"."""
    if "spare" not in values:
        return 0
    given = values["spare"]
    text = str(given.value).strip().casefold().replace(" ", "").removeprefix("n+")
    found = count_from({"spare": Given(text, given.where)}, "spare", findings, 0, MAX_SPARE)
    return found or 0


def budget_from(values: Values, findings: Findings) -> float | None:
    """Dollars per hour that a plan may cost: 200, "$200"."""
    if "max_usd_per_h" not in values:
        return None
    given = values["max_usd_per_h"]
    found: float | None = findings.attempt(parse_money, given.value, name=given.where, allow_zero=False)
    if found is not None and found > MAX_USD_PER_H:
        findings.say(
            given.where, f"${found:,.0f} is out of range; expected up to ${MAX_USD_PER_H:,.0f} per hour"
        )
        return None
    return found


def headroom_from(values: Values, findings: Findings) -> float:
    """Share of the planned capacity that is left free: 20%, 0.2."""
    found: float | None = _parsed(values, "headroom", findings, _headroom)
    return found or 0.0


def speculation_from(values: Values, findings: Findings, measured_acceptance: float) -> Speculation:
    """From `speculation: {drafted, acceptance}`, or the flags --drafted and --acceptance.

    Without an acceptance that of measured runs holds, the user's own where a calibration has them.
    """
    values = {**_nested(values, "speculation"), **values}
    drafted = count_from(values, "drafted", findings, 0, 16)
    acceptance = _parsed(values, "acceptance", findings, lambda v, n: parse_fraction(v, name=n))
    if acceptance is not None and not drafted:
        findings.say(values["acceptance"].where, "no token is drafted; give --drafted, too, e.g. --drafted 1")
    if not drafted:
        return Speculation()
    return Speculation(drafted=drafted, acceptance=measured_acceptance if acceptance is None else acceptance)


def network_from(values: Values, findings: Findings) -> NetworkSpec:
    """From "400Gbps", "bandwidth=400Gbps,latency=5us,loss=1e-4,transport=tcp", or a mapping."""
    if "network" not in values:
        return NetworkSpec()
    whole = values["network"]
    if not isinstance(whole.value, Mapping):
        parts = {key: Given(text, f"{whole.where} {key}") for key, text in _network_parts(whole, findings)}
    else:
        parts = dict(_nested(values, "network"))
        for strange in sorted(str(key) for key in parts if key not in NETWORK_KEYS):
            findings.say(whole.where, _unknown_network_key(strange))
    found: dict[str, Any] = {
        "bandwidth_bytes_per_s": _parsed(
            parts, "bandwidth", findings, lambda v, n: parse_bandwidth_bytes_per_s(v, name=n)
        )
    }
    for key in ("latency", "round_trip", "jitter"):
        found[f"{key}_s"] = _parsed(
            parts, key, findings, lambda v, n: parse_duration_s(v, name=n, allow_zero=True)
        )
    found["loss"] = _parsed(parts, "loss", findings, _loss)
    if "transport" in parts:
        found["transport"] = choice(parts["transport"], TRANSPORTS, findings)
    return NetworkSpec(**{k: v for k, v in found.items() if v is not None})


def prices_from(values: Values, findings: Findings) -> dict[str, tuple[float, str]]:
    """By name as given: dollars per hour, and where it stands."""
    if "prices" not in values:
        return {}
    entry = values["prices"]
    found: dict[str, tuple[float, str]] = {}
    for name, text, where in price_items(entry, findings):
        price = findings.attempt(parse_money, text, name=where, allow_zero=False)
        if price is None:
            continue
        if price > 1000:
            findings.say(
                where, f"${price:,.2f} per accelerator and hour is out of range; expected up to $1,000"
            )
        elif name in found:
            findings.say(entry.where, f"the price of '{name}' is given twice; keep one")
        else:
            found[name] = (price, where)
    return found


def choice(given: Given, known: tuple[str, ...], findings: Findings) -> str | None:
    """One of a few words, in any case."""
    text = str(given.value).strip().casefold()
    if text in known:
        return text
    close = nearest(text, known)
    hint = f"; did you mean {quoted_list(close)}?" if close else ""
    findings.say(given.where, f"'{given.value}' is not known{hint} (one of {', '.join(known)})")
    return None


# ------------------------------------------------------------------------ inside


def _parsed(values: Values, key: str, findings: Findings, parse: Any) -> Any:
    if key not in values:
        return None
    return findings.attempt(parse, values[key].value, values[key].where)


def _tokens(values: Values, key: str, findings: Findings) -> int | None:
    found: int | None = _parsed(values, key, findings, lambda v, n: parse_tokens(v, name=n))
    if found is not None and found > MAX_TOKENS:
        findings.say(values[key].where, f"{found:,} is out of range; expected 1 to {MAX_TOKENS:,} tokens")
        return None
    return found


def _number(values: Values, key: str, findings: Findings, low: float, high: float, unit: str) -> float | None:
    """A bare number inside a range."""
    if key not in values:
        return None
    given = values[key]
    tail = f" {unit}" if unit else ""
    expected = f"expected {low:,g} to {high:,.10g}{tail}"
    try:
        if isinstance(given.value, bool):
            raise ValueError
        found = float(str(given.value).replace(",", "").replace("_", ""))
    except ValueError:
        findings.say(given.where, f"'{given.value}' is not a number; {expected}")
        return None
    if not low <= found <= high:  # NaN is in no range
        findings.say(given.where, f"{given.value} is out of range; {expected}")
        return None
    return found


def _rate(value: Any, name: str) -> float:
    found = parse_rate_per_s(value, name=name)
    if not 1e-9 <= found <= MAX_RATE_PER_S:
        raise InputError(
            f"{name}: {found:g} is out of range; expected 1e-9 to {MAX_RATE_PER_S:,.0f} requests/s"
        )
    return found


def _reuse(value: Any, name: str) -> float:
    found = parse_fraction(value, name=name)
    if found > MOST_REUSE:
        raise InputError(
            f"{name}: {value} is out of range; expected 0 to {MOST_REUSE:g} as a share of the prompt"
        )
    return found


def _headroom(value: Any, name: str) -> float:
    found = parse_fraction(value, name=name)
    if found > MAX_HEADROOM:
        raise InputError(
            f"{name}: {value} is out of range; expected 0 to {MAX_HEADROOM:.0%} of the planned capacity"
        )
    return found


def _loss(value: Any, name: str) -> float:
    return parse_fraction(value, name=name, allow_one=False)


def _objective(value: Any, name: str) -> float:
    found = parse_duration_s(value, name=name)
    if not 1e-6 <= found <= 1e6:
        raise InputError(f"{name}: {value} is out of range; expected 1us to 1e6 s")
    return found


def _percentile(value: Any, name: str) -> float:
    found = parse_fraction(value, name=name)
    if not 0.5 <= found <= 0.9999:
        raise InputError(f"{name}: {value} is out of range; expected p50 to p99.99 (0.5 to 0.9999)")
    return found


def _confidence(value: Any, name: str) -> float:
    found = parse_fraction(value, name=name)
    low, high = CONFIDENCE_RANGE
    if not low <= found <= high:
        raise InputError(
            f"{name}: {value} is out of range; expected {low:.0%} to {high:.0%} (the nearest is "
            f"{min(max(found, low), high):.0%}): measured runs say nothing about rarer errors"
        )
    return found


def _nested(values: Values, key: str) -> dict[str, Given]:
    """The members of a mapping that was given under `key`, each with its own place."""
    entry = values.get(key)
    if entry is None or not isinstance(entry.value, Mapping):
        return {}
    return {
        name: value if isinstance(value, Given) else Given(value, f"{entry.where} {name}")
        for name, value in entry.value.items()
        if value is not None
    }


def _network_parts(whole: Given, findings: Findings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for part in str(whole.value).split(","):
        key, equals, text = part.partition("=")
        if not equals:
            found.append(("bandwidth", part))
        elif key.strip() in NETWORK_KEYS:
            found.append((key.strip(), text.strip()))
        else:
            findings.say(whole.where, _unknown_network_key(key.strip()))
    return found


def _unknown_network_key(key: str) -> str:
    close = nearest(key, NETWORK_KEYS)
    hint = f"did you mean {quoted_list(close)}?" if close else f"the keys are {', '.join(NETWORK_KEYS)}"
    return f"unknown key '{key}'; {hint}"


def price_items(entry: Given, findings: Findings) -> list[tuple[str, Any, str]]:
    """(name, price, where) out of a mapping, or out of texts such as h200=2.60."""
    if isinstance(entry.value, Mapping):
        return [(str(name), g.value, g.where) for name, g in _nested({"prices": entry}, "prices").items()]
    texts = list(entry.value) if isinstance(entry.value, list | tuple) else [entry.value]
    found: list[tuple[str, Any, str]] = []
    for text in (t for many in texts for t in str(many).split(",")):
        name, equals, price = text.partition("=")
        if not equals or not name.strip() or not price.strip():
            findings.say(entry.where, f"'{text}' is not a price; write NAME=DOLLARS per hour, e.g. h200=2.60")
            continue
        found.append((name.strip(), price, f"{entry.where} {name.strip()}"))
    return found
