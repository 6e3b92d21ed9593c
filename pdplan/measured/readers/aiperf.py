"""genai-perf and its successor AIPerf: profile_export_genai_perf.json, profile_export_aiperf.json and .csv.

Fields as triton-inference-server/perf_analyzer (genai_perf/export_data) and ai-dynamo/aiperf
(aiperf/exporters) write them: each metric {unit, avg, p50, ...}; times in ms, throughput per second. The
inter-token latency is (latency − TTFT)/(tokens − 1) of a request: TPOT. A CSV has no settings: flags tell.
AIPerf adds what the server says of its prefix cache (usage_prompt_cache_read_tokens of usage_prompt_tokens).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from pdplan.measured.readers.result import NOT_SAID, Result, below, date_of, engine_in, number
from pdplan.workload import MOST_REUSE

NAME = "genai-perf / aiperf"
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6, "ns": 1e-9}


def claims(data: Mapping[str, Any]) -> bool:
    return isinstance(data.get("request_latency"), Mapping) and "request_throughput" in data


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    settings = data.get("input_config")
    given = settings if isinstance(settings, Mapping) else {}
    lengths = _metric(data, "input_sequence_length"), _metric(data, "output_sequence_length")
    total = _metric(data, "total_token_throughput")  # a CSV rounds requests/s to 0.01
    return [
        Result(
            where=where,
            format=NAME,
            stated=_stated(given),
            date=date_of(data.get("start_time")),
            isl=lengths[0],
            osl=lengths[1],
            concurrency=_load(given, "concurrency"),
            rate=_load(given, "request_rate"),
            prefix_reuse=_reuse(data, lengths[0]),
            completed=_metric(data, "request_count"),
            failed=_metric(data, "error_request_count"),
            duration_s=_seconds(data, "benchmark_duration", "avg", default="sec"),
            ttft_mean_s=_seconds(data, "time_to_first_token", "avg"),
            ttft_median_s=_seconds(data, "time_to_first_token", "p50"),
            tpot_mean_s=_seconds(data, "inter_token_latency", "avg"),
            latency_mean_s=_seconds(data, "request_latency", "avg"),
            total_tok_per_s=total if total > 0 else _metric(data, "request_throughput") * sum(lengths),
        )
    ]


def claims_csv(lines: list[str]) -> bool:
    return any(line.startswith("Metric,avg,min,max") for line in lines[:3])


def read_csv(text: str, where: str) -> list[Result]:
    """The CSV as the JSON that it stands for: rows such as `Time To First Token (ms),"1,146.31",...`."""
    data: dict[str, dict[str, Any]] = {}
    header: list[str] = []
    for row in csv.reader(io.StringIO(text)):
        if not row:
            continue
        if row[0] == "Metric":
            header = [name.casefold() for name in row[1:]]
            continue
        if not header or len(row) < 2:
            continue
        name, _, unit = row[0].rpartition(" (")
        key = (name or row[0]).casefold().replace(" ", "_")
        values = dict(zip(header, (_plain_number(cell) for cell in row[1:]), strict=False))
        values["avg"] = values.get("avg", values.get("value", NOT_SAID))
        data[key] = {**values, "unit": unit.rstrip(")") if name else ""}
    return read(data, where) if claims(data) else []


# ------------------------------------------------------------------------ inside


def _metric(data: Mapping[str, Any], name: str, stat: str = "avg") -> float:
    entry = data.get(name)
    return number(entry, stat) if isinstance(entry, Mapping) else number(data, name)


def _reuse(data: Mapping[str, Any], isl: float) -> float:
    """Tokens that the prefix cache held over all of the prompt; 0 where the server does not say."""
    prompt = _metric(data, "usage_prompt_tokens")
    prompt = prompt if prompt > 0 else isl
    held = _metric(data, "usage_prompt_cache_read_tokens")
    return min(max(held / prompt, 0.0), MOST_REUSE) if held > 0 and prompt > 0 else 0.0


def _seconds(data: Mapping[str, Any], name: str, stat: str, default: str = "ms") -> float:
    entry = data.get(name)
    if not isinstance(entry, Mapping):
        return NOT_SAID
    unit = str(entry.get("unit") or default)
    return _metric(data, name, stat) * _SECONDS.get(unit, _SECONDS[default])


def _stated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Model and engine, where the settings of either tool and version keep them."""
    endpoint = below(given, "endpoint")
    names = endpoint.get("model_names") or given.get("model_names") or given.get("model")
    names = names or below(given, "models").get("items") or below(given, "models").get("names")
    first = names[0] if isinstance(names, list) and names else names
    if isinstance(first, Mapping):
        first = first.get("name")
    found = {"model": first} if isinstance(first, str) else {}
    return {**found, **engine_in(given.get("backend"))}


def _load(given: Mapping[str, Any], name: str) -> float:
    """Concurrency or rate: of aiperf's load generator, of perf_analyzer's stimulus, or at the top."""
    stimulus = below(below(given, "perf_analyzer"), "stimulus")
    phases = given.get("phases")
    phase = phases[-1] if isinstance(phases, list) and phases and isinstance(phases[-1], Mapping) else {}
    places = (below(given, "loadgen"), stimulus, phase, given)
    for place in places:
        value = place.get(name, place.get("rate") if name == "request_rate" else None)
        found = number({name: value[0] if isinstance(value, list) and value else value}, name)
        if found > 0:
            return found
    return NOT_SAID


def _plain_number(cell: str) -> Any:
    """A cell such as "1,146.31" as a number."""
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return None
