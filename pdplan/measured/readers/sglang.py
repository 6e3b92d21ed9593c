"""`python -m sglang.bench_serving --output-file`: one JSON object a line, times in ms.

Fields as python/sglang/bench_serving.py writes them; newer versions add `server_info`, the server's own
arguments: model_path, tp_size, pp_size, dp_size, ep_size, enable_dp_attention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pdplan.measured.readers.result import Result, engine_in, number, per_request

NAME = "sglang.bench_serving"


def claims(data: Mapping[str, Any]) -> bool:
    return "total_output_tokens_retokenized" in data and "backend" in data


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    completed = number(data, "completed")
    rate = data.get("request_rate")
    total = number(data, "total_throughput")
    if math.isnan(total):
        total = number(data, "input_throughput") + number(data, "output_throughput")
    return [
        Result(
            where=where,
            format=NAME,
            stated={**engine_in(data.get("backend")), **_server(data.get("server_info"))},
            isl=per_request(number(data, "total_input_tokens"), completed),
            osl=per_request(number(data, "total_output_tokens"), completed),
            concurrency=number(data, "max_concurrency"),
            rate=math.inf if rate == "inf" else number(data, "request_rate"),
            completed=completed,
            duration_s=number(data, "duration"),
            ttft_mean_s=number(data, "mean_ttft_ms", scale=1e-3),
            ttft_median_s=number(data, "median_ttft_ms", scale=1e-3),
            tpot_mean_s=number(data, "mean_tpot_ms", "mean_itl_ms", "median_itl_ms", scale=1e-3),
            total_tok_per_s=total,
        )
    ]


def _server(info: Any) -> dict[str, Any]:
    """Facts that the server told of itself; attention-dp splits the tp ranks."""
    if not isinstance(info, Mapping):
        return {}
    found: dict[str, Any] = {}
    if info.get("model_path"):
        found["model"] = info["model_path"]
    ranks, dp = int(number({"n": 1} | dict(info), "tp_size", "n")), 1
    if number(info, "dp_size") > 1 and info.get("enable_dp_attention"):
        dp = int(number(info, "dp_size"))
    if "tp_size" in info:
        found |= {"tp": max(ranks // dp, 1), "dp": dp}
    for axis in ("pp", "ep"):
        if number(info, f"{axis}_size") >= 1:
            found[axis] = int(number(info, f"{axis}_size"))
    return found
