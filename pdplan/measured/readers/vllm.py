"""`vllm bench serve --save-result` (and benchmark_serving.py before it): one JSON object, times in ms.

Fields as vllm/benchmarks/serve.py writes them (vLLM 0.6 to 0.20); `--append-result` adds one object a line.
InferenceX's raw results are the same, written by a copy of that script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pdplan.measured.readers.result import Result, date_of, engine_in, number, per_request

NAME = "vllm bench serve"


def claims(data: Mapping[str, Any]) -> bool:
    return "model_id" in data and "total_token_throughput" in data


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    completed = number(data, "completed")
    rate = data.get("request_rate")
    burstiness = number(data, "burstiness")
    stated: dict[str, Any] = {"model": data["model_id"], **engine_in(data.get("backend"))}
    if number(data, "spec_decode_num_drafts") > 0:
        drafts, tokens = number(data, "spec_decode_num_drafts"), number(data, "spec_decode_draft_tokens")
        stated["drafted"] = round(tokens / drafts)
    return [
        Result(
            where=where,
            format=NAME,
            stated=stated,
            date=date_of(data.get("date")),
            isl=per_request(number(data, "total_input_tokens"), completed),
            osl=per_request(number(data, "total_output_tokens"), completed),
            concurrency=number(data, "max_concurrency"),
            rate=math.inf if rate == "inf" else number(data, "request_rate"),
            # Gaps are gamma distributed with this shape.
            arrival_cv=burstiness**-0.5 if burstiness > 0 else 1.0,
            completed=completed,
            failed=_failed(data, completed),
            duration_s=number(data, "duration"),
            ttft_mean_s=number(data, "mean_ttft_ms", scale=1e-3),
            ttft_median_s=number(data, "median_ttft_ms", scale=1e-3),
            tpot_mean_s=number(data, "mean_tpot_ms", "median_tpot_ms", scale=1e-3),
            latency_mean_s=number(data, "mean_e2el_ms", scale=1e-3),
            total_tok_per_s=number(data, "total_token_throughput"),
        )
    ]


def _failed(data: Mapping[str, Any], completed: float) -> float:
    """Early versions do not count them."""
    found = number(data, "failed")
    return number(data, "num_prompts") - completed if math.isnan(found) else found
