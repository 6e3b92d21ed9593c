"""GuideLLM: benchmarks.json, .yaml or .csv, a list of benchmarks at several loads.

Fields as guidellm/benchmark/schemas (0.4 and later) and benchmark.py (0.2, 0.3) define them: metrics by
status {successful: {mean, median, ...}}; times in ms; the load is `config.strategy` (in 0.2 and 0.3
`args.strategy`): concurrent (streams), constant or poisson (rate), synchronous, throughput.
`time_per_output_token_ms` counts the first token, `inter_token_latency_ms` does not: that is TPOT.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pdplan.measured.readers.result import NOT_SAID, Result, below, number

NAME = "guidellm"


def claims(data: Mapping[str, Any]) -> bool:
    many = data.get("benchmarks")
    first = many[0] if isinstance(many, list) and many else {}
    return isinstance(first, Mapping) and "metrics" in first


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    return [
        _result(benchmark, f"{where}: benchmark {i}", below(data, "args"))
        for i, benchmark in enumerate(data["benchmarks"], 1)
        if isinstance(benchmark, Mapping)
    ]


def claims_csv(lines: list[str]) -> bool:
    """Version 0.4 and later: three header rows, groups such as `Run Info` in the first."""
    return bool(lines) and lines[0].startswith("Run Info,")


def read_csv(text: str, where: str) -> list[Result]:
    """Rows of the CSV; a column is named by its group, its field and its unit."""
    rows = list(csv.reader(io.StringIO(text)))
    if len(rows) < 4:
        return []
    names = [" / ".join(part for part in parts if part) for parts in zip(*rows[:3], strict=False)]
    return [_row(dict(zip(names, row, strict=False)), f"{where}:{n}") for n, row in enumerate(rows[3:], 4)]


# ------------------------------------------------------------------------ inside


def _result(benchmark: Mapping[str, Any], where: str, arguments: Mapping[str, Any]) -> Result:
    config = below(benchmark, "config") or below(benchmark, "args")
    strategy, metrics = below(config, "strategy"), below(benchmark, "metrics")
    model = below(config, "backend").get("model") or below(arguments, "backend_kwargs").get("model")
    model = model or arguments.get("model") or arguments.get("processor")
    clock = below(benchmark, "scheduler_metrics")
    started, duration = number(benchmark, "start_time"), number(benchmark, "duration")
    if math.isnan(started):
        started = number(clock, "start_time")
    if math.isnan(duration):
        duration = number(clock, "measure_end_time") - number(clock, "measure_start_time")
    totals = below(metrics, "request_totals") or below(benchmark, "request_totals")
    concurrency, rate, arrival_cv = _load(strategy, _mean(metrics, "request_concurrency"))
    return Result(
        where=where,
        format=NAME,
        stated={"model": model} if isinstance(model, str) else {},
        date=datetime.fromtimestamp(started, UTC).date().isoformat() if started > 1e9 else "",
        isl=_mean(metrics, "prompt_token_count"),
        osl=_mean(metrics, "output_token_count"),
        concurrency=concurrency,
        rate=rate,
        arrival_cv=arrival_cv,
        completed=number(totals, "successful"),
        failed=number(totals, "errored"),
        duration_s=duration,
        ttft_mean_s=_mean(metrics, "time_to_first_token_ms", 1e-3),
        ttft_median_s=_mean(metrics, "time_to_first_token_ms", 1e-3, "median"),
        tpot_mean_s=_mean(metrics, "inter_token_latency_ms", 1e-3),
        latency_mean_s=_mean(metrics, "request_latency"),
        total_tok_per_s=_mean(metrics, "tokens_per_second"),
    )


def _load(strategy: Mapping[str, Any], seen: float) -> tuple[float, float, float]:
    """(concurrency, rate, variation of gaps) of a strategy; `seen` is the mean concurrency measured."""
    kind = str(strategy.get("type_") or strategy.get("kind") or "")
    if kind == "synchronous":
        return 1.0, math.inf, 1.0
    if kind in ("constant", "poisson", "async"):
        return NOT_SAID, number(strategy, "rate"), 0.0 if kind == "constant" else 1.0
    streams = number(strategy, "streams", "max_concurrency")
    if kind == "throughput":
        return (streams if not math.isnan(streams) else seen), math.inf, 1.0
    return streams, math.inf, 1.0


def _mean(metrics: Mapping[str, Any], name: str, scale: float = 1.0, stat: str = "mean") -> float:
    found = below(below(metrics, name), "successful")
    value = number(found, stat, scale=scale)
    if math.isnan(value) and stat == "mean" and number(found, "count") > 0:
        return number(found, "total_sum", scale=scale) / number(found, "count")
    return value


def _row(row: Mapping[str, str], where: str) -> Result:
    """A row of the CSV; its profile and backend are JSON in a cell."""

    def cell(group: str, *words: str) -> float:
        for name, text in row.items():
            if name.startswith(group) and all(word in name for word in words):
                try:
                    return float(text)
                except ValueError:
                    return NOT_SAID
        return NOT_SAID

    backend, profile = (_json(row.get(f"Run Info / {name}", "")) for name in ("Backend", "Profile"))
    kind = row.get("Benchmark / Strategy", "")
    streams = profile.get("streams")
    index = cell("Run Info / Run Index")
    seen = cell("Server Throughput", "Successful", "Concurrency", "Mean")
    listed = streams if isinstance(streams, list) else []
    at = int(index) if index == index and index < len(listed) else None
    strategy = {"type_": kind, "streams": listed[at] if at is not None else round(seen) if seen > 0 else None}
    strategy["rate"] = cell("Server Throughput", "Successful", "Requests/Sec", "Mean")
    concurrency, rate, arrival_cv = _load(strategy, seen)
    model = backend.get("model")
    return Result(
        where=where,
        format=NAME,
        stated={"model": model} if isinstance(model, str) else {},
        date=row.get("Timings / Start Time", "")[:10],
        isl=cell("Token Metrics", "Successful", "Input Tokens", "Mean"),
        osl=cell("Token Metrics", "Successful", "Output Tokens", "Mean"),
        concurrency=concurrency,
        rate=rate,
        arrival_cv=arrival_cv,
        completed=cell("Request Counts", "Successful"),
        duration_s=cell("Timings", "Duration"),
        ttft_mean_s=cell("Time to First Token", "Successful", "Mean") * 1e-3,
        ttft_median_s=cell("Time to First Token", "Successful", "Median") * 1e-3,
        tpot_mean_s=cell("Inter Token Latency", "Successful", "Mean") * 1e-3,
        total_tok_per_s=cell("Token Throughput", "Successful", "Total", "Mean"),
    )


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
