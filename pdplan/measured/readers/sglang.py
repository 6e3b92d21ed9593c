"""`python -m sglang.bench_serving --output-file`: one JSON object a line, times in ms.

Fields as python/sglang/bench_serving.py writes them; newer versions add `server_info`, the server's own
arguments: model_path, tp_size, pp_size, dp_size, ep_size, enable_dp_attention. Versions before 0.4.2 write
medians of TTFT and ITL and the mean of whole requests only: TPOT is what those leave per token, since the
median gap between tokens is shorter than the mean one wherever prefills come between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pdplan.measured.readers.result import Result, engine_in, number, per_request, tpot_of_requests

NAME = "sglang.bench_serving"


def claims(data: Mapping[str, Any]) -> bool:
    return "total_output_tokens_retokenized" in data and "backend" in data


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    completed = number(data, "completed")
    rate = data.get("request_rate")
    tokens = number(data, "total_input_tokens"), number(data, "total_output_tokens")
    osl = per_request(tokens[1], completed)
    duration = number(data, "duration")
    total = number(data, "total_throughput")
    if math.isnan(total) and duration > 0:
        total = sum(tokens) / duration
    latency = number(data, "mean_e2e_latency_ms", scale=1e-3)
    tpot = number(data, "mean_tpot_ms", scale=1e-3)
    if math.isnan(tpot):
        tpot = tpot_of_requests(latency, number(data, "mean_ttft_ms", "median_ttft_ms", scale=1e-3), osl)
    return [
        Result(
            where=where,
            format=NAME,
            stated={**engine_in(data.get("backend")), **_server(data.get("server_info"))},
            isl=per_request(tokens[0], completed),
            osl=osl,
            concurrency=number(data, "max_concurrency"),
            rate=math.inf if rate == "inf" else number(data, "request_rate"),
            completed=completed,
            duration_s=duration,
            ttft_mean_s=number(data, "mean_ttft_ms", scale=1e-3),
            ttft_median_s=number(data, "median_ttft_ms", scale=1e-3),
            tpot_mean_s=tpot if tpot > 0 else number(data, "mean_itl_ms", "median_itl_ms", scale=1e-3),
            latency_mean_s=latency,
            total_tok_per_s=total,
        )
    ]


def _server(info: Any) -> dict[str, Any]:
    """Facts that the server told of itself: attention-dp splits the tp ranks, dp alone copies the model."""
    if not isinstance(info, Mapping):
        return {}
    found: dict[str, Any] = {}
    if info.get("model_path"):
        found["model"] = info["model_path"]
    ranks, copies = number(info, "tp_size"), number(info, "dp_size")
    if ranks >= 1:
        dp = int(copies) if copies > 1 and info.get("enable_dp_attention") else 1
        found |= {"tp": max(int(ranks) // dp, 1), "dp": dp}
        if copies > 1 and dp == 1:
            found["workers"] = int(copies)
    for axis in ("pp", "ep"):
        if number(info, f"{axis}_size") >= 1:
            found[axis] = int(number(info, f"{axis}_size"))
    return found
