"""Results become runs: what a file does not say of its deployment comes from flags or a listing.

A listing is a YAML file: `runs:` with entries that name a file (or several, * as in a shell) and
any of the facts that the flags give. An entry's facts win over flags, flags over the result file's own.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from pdplan.architecture.model import Model
from pdplan.calibrated import LeftOut, SourceFile
from pdplan.catalog.store import Catalog
from pdplan.errors import InputError
from pdplan.files import Document, parse_yaml
from pdplan.inputs.consistency import pool_findings
from pdplan.inputs.given import Findings, Given, Values, given_in
from pdplan.inputs.names import precision_from
from pdplan.inputs.quantities import choice, count_from, traffic_from
from pdplan.inputs.schemas import Quantity
from pdplan.measured.readers import (
    TABLE,
    Content,
    is_listing,
    is_table,
    read_content,
    read_results,
)
from pdplan.measured.readers.result import Result
from pdplan.measured.run import Run
from pdplan.measured.runs import parse_runs
from pdplan.plan import PoolPlan
from pdplan.validation import validate

STRICT = {"extra": "forbid"}
MODES = ("colocated", "disaggregated")
SPECULATIONS = ("none", "mtp")
AXES = ("workers", "tp", "pp", "dp", "ep")
MOST = 100_000
SUFFIXES = (".json", ".jsonl", ".csv")
"""Result files in a folder; its YAML files may be anything."""
MOST_FAILED = 0.05
"""Share of requests without an answer beyond which a run's load was not what it says."""
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


@dataclass(frozen=True, kw_only=True)
class EntryKeys(FactKeys):
    """An entry of a listing."""

    __pydantic_config__ = STRICT
    file: str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ListingKeys:
    """A listing of result files."""

    __pydantic_config__ = STRICT
    runs: tuple[EntryKeys, ...]
    schema_version: Literal[1] = 1


@dataclass(frozen=True, kw_only=True)
class OwnRuns:
    """Runs that were read, those that cannot be used, and the files."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]
    sources: tuple[SourceFile, ...]

    def without(self, left_out: Sequence[LeftOut]) -> OwnRuns:
        """The same, less runs that cannot be used after all."""
        names = {entry.run for entry in left_out}
        kept = tuple(run for run in self.runs if run.id not in names)
        return replace(self, runs=kept, left_out=(*self.left_out, *left_out))


def read_own_runs(paths: Sequence[str], facts: Values, catalog: Catalog) -> OwnRuns:
    """All runs of result files, tables and listings; raises InputError with everything that is wrong."""
    findings = Findings()
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    sources: list[SourceFile] = []
    for content, values in _files(paths, facts, findings):
        found = findings.attempt(_of_file, content, values, catalog)
        if found is None:
            continue
        runs += found[1]
        left_out += found[2]
        count = len(found[1])
        sources.append(SourceFile(file=content.path, sha256=content.sha256, format=found[0], runs=count))
    findings.messages = _together(findings.messages) + _same_file(sources)
    findings.check()
    return OwnRuns(runs=tuple(runs), left_out=tuple(left_out), sources=tuple(sources))


# ------------------------------------------------------------------------ files


def _files(paths: Sequence[str], facts: Values, findings: Findings) -> Iterator[tuple[Content, Values]]:
    for path in _inside(paths, findings):
        content = findings.attempt(read_content, path)
        if content is None:
            continue
        if not is_listing(content):
            yield content, facts
            continue
        document = findings.attempt(parse_yaml, content.text, content.path)
        keys = findings.attempt(validate, ListingKeys, document) if document else None
        if document is None or keys is None:
            continue
        for i, entry in enumerate(keys.runs):
            yield from _listed(document, i, entry, facts, findings)


def _inside(paths: Sequence[str], findings: Findings) -> Iterator[str]:
    """Files as they are; of a folder, the result files in it."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        found = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES))
        if not found:
            findings.messages.append(f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}")
        yield from (os.path.join(path, name) for name in found)


def _listed(
    document: Document, index: int, entry: EntryKeys, facts: Values, findings: Findings
) -> Iterator[tuple[Content, Values]]:
    at = ("runs", index)
    own = given_in(document, {k: v for k, v in asdict(entry).items() if v is not None and k != "file"}, at)
    names = (entry.file,) if isinstance(entry.file, str) else entry.file
    for name in names:
        pattern = os.path.join(os.path.dirname(document.path), name)
        found = sorted(glob.glob(pattern)) if glob.has_magic(name) else [pattern]
        if not found:
            findings.say(document.where((*at, "file")), f"no file is called like '{name}'")
        for path in found:
            content = findings.attempt(read_content, os.path.normpath(path))
            if content is not None:
                yield content, {**facts, **own}


def _together(messages: Sequence[str]) -> list[str]:
    """One line for what is wrong with many results alike.

    >>> _together(["a.json: x does not say the tp; y", "b.json: x does not say the tp; y", "c: z"])
    ['a.json and 1 more: x does not say the tp; y', 'c: z']
    """
    found: dict[str, list[str]] = {}
    for message in messages:
        head, _, tail = message.partition(": ")
        found.setdefault(tail or message, []).append(head)
    lines = []
    for text, all_heads in found.items():
        heads = list(dict.fromkeys(all_heads))  # a flag speaks once for all files
        more = f" and {len(heads) - 1:,} more" if len(heads) > 1 else ""
        lines.append(text if heads[0] == text else f"{heads[0]}{more}: {text}")
    return lines


def _same_file(sources: Sequence[SourceFile]) -> list[str]:
    seen: dict[str, str] = {}
    messages = []
    for source in sources:
        if source.sha256 in seen:
            messages.append(f"{source.file}: the same content as {seen[source.sha256]}; give it once")
        seen.setdefault(source.sha256, source.file)
    return messages


def _of_file(content: Content, facts: Values, catalog: Catalog) -> tuple[str, list[Run], list[LeftOut]]:
    """Format, runs, and runs left out of one file."""
    if is_table(content):
        if facts:
            given = next(iter(facts.values())).where
            raise InputError(f"{content.path}: a table says itself what ran; leave {given} out")
        runs = parse_runs(content.text, content.path, catalog)
        return TABLE, *_usable([(run, "") for run in runs])
    results = read_results(content)
    failed = [LeftOut(run=r.where, reason=reason) for r in results if (reason := _failed(r))]
    findings = Findings()
    made = [findings.attempt(_run, result, facts, catalog) for result in results if not _failed(result)]
    findings.check()
    runs, left_out = _usable([found for found in made if found is not None])
    return results[0].format, runs, failed + left_out


def _failed(result: Result) -> str:
    """Why a benchmark says nothing of its server's speed; "" where it does."""
    asked = result.completed + (0.0 if math.isnan(result.failed) else result.failed)
    if result.completed == 0 or result.failed > MOST_FAILED * asked:
        return (
            f"{asked - result.completed:,.0f} of {asked:,.0f} requests failed"
            if asked
            else "no request was sent"
        )
    return ""


def _usable(pairs: Sequence[tuple[Run, str]]) -> tuple[list[Run], list[LeftOut]]:
    """Runs that say something, and why others do not."""
    runs, left_out = [], []
    for run, problem in pairs:
        reason = problem or (
            "" if run.counts_for_tpot else "its TPOT is not in (0, 0.3 s): no serving result"
        )
        if reason:
            left_out.append(LeftOut(run=run.id, reason=reason))
        else:
            runs.append(run)
    return runs, left_out


# ------------------------------------------------------------------------ one result


def _run(result: Result, facts: Values, catalog: Catalog) -> tuple[Run, str]:
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
