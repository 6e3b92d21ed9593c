"""One result of a benchmark becomes a run, with the facts that flags or a listing add."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from pdplan.architecture.model import Model
from pdplan.catalog.store import Catalog
from pdplan.errors import InputError
from pdplan.inputs.consistency import pool_findings
from pdplan.inputs.given import Findings, Given, Values
from pdplan.inputs.names import precision_from
from pdplan.inputs.quantities import choice, count_from, traffic_from
from pdplan.inputs.schemas import Quantity
from pdplan.measured.readers.result import Result
from pdplan.measured.run import Run
from pdplan.plan import PoolPlan

STRICT = {"extra": "forbid"}
MODES = ("colocated", "disaggregated")
SPECULATIONS = ("none", "mtp")
AXES = ("workers", "tp", "pp", "dp", "ep")
MOST = 100_000
STEADY = 3.0
"""Arrivals at a rate must last this many request latencies for the run to be a steady one."""


@dataclass(frozen=True, kw_only=True)
class FactKeys:
    """What ran, by the keys of the flags; a worker has tp·pp·dp accelerators."""

    __pydantic_config__ = STRICT
    model: str | None = None
    hardware: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    mode: Literal["colocated", "disaggregated"] | None = None
    spec: Literal["none", "mtp"] | None = None
    drafted: float | None = None
    workers: float | None = None
    tp: float | None = None
    pp: float | None = None
    dp: float | None = None
    ep: float | None = None
    prefill_hardware: str | None = None
    prefill_workers: float | None = None
    prefill_tp: float | None = None
    prefill_pp: float | None = None
    prefill_dp: float | None = None
    prefill_ep: float | None = None
    isl: Quantity | None = None
    osl: Quantity | None = None
    concurrency: Quantity | None = None
    rate: Quantity | None = None
    prefix_reuse: Quantity | None = None


FACTS = tuple(f.name for f in fields(FactKeys))


def run_of(result: Result, facts: Values, catalog: Catalog) -> tuple[Run, str]:
    """The run of a result, and why it cannot be used ("" where it can)."""
    findings = Findings()
    own = {k: Given(v, f"{result.where}: its {k}") for k, v in result.stated.items() if k in FACTS}
    values: dict[str, Given] = {**own, **facts}
    model = _model(values, result, catalog, findings)
    mode = "colocated"
    if "mode" in values:
        mode = choice(values["mode"], MODES, findings) or mode
    elif any(key.startswith("prefill_") for key in values):
        mode = "disaggregated"
    decode = _pool("", values, result, model, catalog, findings)
    prefill = _pool("prefill_", values, result, model, catalog, findings) if mode == "disaggregated" else None
    engine = _engine(values, result, findings)
    precision = precision_from(values, model, findings) if model else ""
    lengths = {key: traffic_from(values, key, findings) for key in ("isl", "osl")}
    found = {key: lengths[key] or getattr(result, key) for key in ("isl", "osl")}
    for key, value in found.items():
        if math.isnan(value):
            findings.messages.append(_missing(result, key, "1024"))
    load = _load(result, values, found["osl"], findings)
    reuse = traffic_from(values, "prefix_reuse", findings)
    findings.check()
    assert model is not None
    assert decode is not None
    gpus = decode.gpus + (prefill.gpus if prefill else 0)
    spec = choice(values["spec"], SPECULATIONS, findings) if "spec" in values else None
    drafted = count_from(values, "drafted", findings, 0, 16) or 0
    findings.check()
    run = Run(
        id=result.where,
        source=result.format,
        date=result.date,
        model=model.name,
        hardware=decode.hardware,
        engine=engine,
        engine_version=_text(values, "engine_version"),
        precision=precision,
        kv_precision=_text(values, "kv_precision") or "auto",
        mode=mode,
        spec=spec or ("mtp" if drafted else "none"),
        drafted=drafted,
        isl=found["isl"],
        osl=found["osl"],
        length_spread=0.0 if lengths["isl"] or lengths["osl"] else result.length_spread,
        concurrency=load.concurrency,
        rate=load.rate,
        arrival_cv=result.arrival_cv,
        prefix_reuse=result.prefix_reuse if reuse is None else reuse,
        decode=decode,
        prefill=prefill,
        ttft_mean_s=_positive(result.ttft_mean_s) if load.steady else math.nan,
        ttft_median_s=_positive(result.ttft_median_s) if load.steady else math.nan,
        tpot_mean_s=result.tpot_mean_s,
        gpus=gpus,
        total_tok_per_s_per_gpu=_positive(result.total_tok_per_s) / gpus,
    )
    return run, load.problem


@dataclass(frozen=True, kw_only=True)
class _Load:
    concurrency: float = math.nan
    rate: float = math.nan
    steady: bool = True
    """Whether TTFT is that of a steady state."""
    problem: str = ""


def _load(result: Result, values: Values, osl: float, findings: Findings) -> _Load:
    """A closed loop at its concurrency, an open one at its rate, or what Little's law says was in flight.

    Where all requests came at once without a limit, or arrivals ended before the first answers did, no
    state was steady: TPOT is then held against the mean number in flight, completed·latency/duration, and
    TTFT, which is mostly the queue's, against nothing.
    """
    given_concurrency = traffic_from(values, "concurrency", findings)
    given_rate = traffic_from(values, "rate", findings)
    if given_concurrency and given_rate:
        findings.say(values["concurrency"].where, "a rate is given, too; give either rate or concurrency")
    if given_concurrency or given_rate:
        return _Load(concurrency=given_concurrency or math.nan, rate=given_rate or math.nan)
    concurrency, rate = result.concurrency, result.rate
    # A limit that fewer requests than it could ever reach is none.
    limited = concurrency >= 1 and not result.completed < concurrency
    if limited and not math.isfinite(rate):
        return _Load(concurrency=concurrency)
    latency = result.latency_mean_s
    if math.isnan(latency):
        latency = result.ttft_mean_s + result.tpot_mean_s * (osl - 1.0)
    in_flight = result.completed * latency / result.duration_s if result.duration_s > 0 else math.nan
    if math.isfinite(rate) and rate > 0:
        arriving = result.completed / rate
        unhindered = result.completed / (result.completed / rate + latency)
        served = result.completed / result.duration_s if result.duration_s > 0 else math.nan
        if math.isnan(served) or math.isnan(arriving):
            return _Load(rate=rate)
        if served >= 0.85 * unhindered and arriving >= STEADY * latency:
            return _Load(rate=rate)
        if limited and in_flight >= 0.8 * concurrency:
            return _Load(concurrency=concurrency)
    if in_flight >= 1.0:
        return _Load(concurrency=in_flight, steady=False)
    if math.isnan(in_flight) or (math.isnan(rate) and math.isnan(concurrency)):
        findings.messages.append(_missing(result, "concurrency", "64", "or --rate"))
        return _Load()
    return _Load(concurrency=1.0, problem="too few requests to tell how many were in flight")


def _model(values: Values, result: Result, catalog: Catalog, findings: Findings) -> Model | None:
    if "model" not in values:
        findings.messages.append(_missing(result, "model", "llama-3.3-70b"))
        return None
    given = values["model"]
    try:
        return catalog.model(str(given.value))
    except InputError as problem:
        mend = "; say which model of the catalog it is: --model NAME" if given.where.endswith("model") else ""
        own = given.where.startswith(result.where)
        findings.messages += [f"{given.where}: {m}{mend if own else ''}" for m in problem.messages]
        return None


def _pool(
    prefix: str, values: Values, result: Result, model: Model | None, catalog: Catalog, findings: Findings
) -> PoolPlan | None:
    """The pool that the facts with this prefix describe."""
    key = "prefill_hardware" if prefix and "prefill_hardware" in values else "hardware"
    accelerator = None
    if key in values:
        accelerator = findings.attempt_at(values[key].where, catalog.accelerator, str(values[key].value))
    elif not prefix:
        findings.messages.append(_missing(result, "hardware", "h100"))
    if f"{prefix}tp" not in values:
        findings.messages.append(_missing(result, f"{prefix}tp", "8"))
    sizes = {axis: count_from(values, f"{prefix}{axis}", findings, 1, MOST) or 1 for axis in AXES}
    if accelerator is None or f"{prefix}tp" not in values:
        return None
    pool = PoolPlan(hardware=accelerator.name, **sizes)
    if model is not None:
        for axis, message in pool_findings(pool, model, accelerator):
            given = values.get(f"{prefix}{axis}")
            findings.say(given.where if given else result.where, message)
    return pool


def _engine(values: Values, result: Result, findings: Findings) -> str:
    """Any name: an engine that has no constants starts from the generic ones."""
    name = _text(values, "engine").casefold()
    if not name:
        findings.messages.append(_missing(result, "engine", "vllm"))
    return name


def _missing(result: Result, key: str, example: str, more: str = "") -> str:
    flag = "--" + key.replace("_", "-")
    return (
        f"{result.where}: {result.format} does not say the {key.replace('_', ' ')}; "
        f"give it, e.g. {flag} {example}{f' ({more})' if more else ''}, or in a listing of runs"
    )


def _positive(measured: float) -> float:
    return measured if measured > 0 else math.nan


def _text(values: Values, key: str) -> str:
    return str(values[key].value).strip() if key in values else ""
