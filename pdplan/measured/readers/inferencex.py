"""InferenceX (InferenceMAX): agg_*.json of its utils/process_result.py, one object or a list, in seconds.

Version 1 has hw, tp, ep, dp_attention, conc; version 2 adds isl, osl, spec_decoding, disagg and, for
several nodes, prefill_tp, decode_tp, num_prefill_gpu and so on. The rows of its web interface hold the
same names, with `hardware` for hw, `spec_method` for spec_decoding, and the times under `metrics`.
Lengths are uniform in [0.8, 1] × nominal. Its raw results are those of `vllm bench serve`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pdplan.measured.readers.result import Result, date_of, engine_in, number

NAME = "inferencex"
LENGTH_SPREAD = 0.2


def claims(data: Mapping[str, Any]) -> bool:
    return "framework" in data and "conc" in data and bool({"hw", "hardware", "device"} & set(data))


def read(data: Mapping[str, Any], where: str) -> list[Result]:
    metrics = data.get("metrics")
    flat = {**data, **metrics} if isinstance(metrics, Mapping) else data
    stated = {**_model(flat), **_layout(flat)}
    gpus = _gpus(flat)
    return [
        Result(
            where=where,
            format=NAME,
            stated=stated,
            date=date_of(flat.get("date")),
            isl=number(flat, "isl"),
            osl=number(flat, "osl"),
            length_spread=LENGTH_SPREAD if number(flat, "isl") > 0 else 0.0,
            concurrency=number(flat, "conc"),
            rate=math.inf,
            ttft_mean_s=number(flat, "mean_ttft"),
            ttft_median_s=number(flat, "median_ttft"),
            tpot_mean_s=number(flat, "mean_tpot", "median_tpot"),
            total_tok_per_s=number(flat, "tput_per_gpu") * gpus,
        )
    ]


# ------------------------------------------------------------------------ inside


def _model(flat: Mapping[str, Any]) -> dict[str, Any]:
    hardware = str(flat.get("hw") or flat.get("hardware") or flat.get("device") or "")
    found = {
        "model": flat.get("model"),
        "hardware": re.split(r"[-_]", hardware.rpartition(":")[2])[0] or None,
        "precision": flat.get("precision"),
        **engine_in(flat.get("framework")),
    }
    speculation = str(flat.get("spec_decoding") or flat.get("spec_method") or flat.get("mtp") or "none")
    found["spec"] = "none" if speculation.casefold() in ("none", "false", "off", "") else "mtp"
    return {key: value for key, value in found.items() if value}


def _layout(flat: Mapping[str, Any]) -> dict[str, Any]:
    """tp, dp and ep of the pools; with attention-dp every GPU of a worker is its own attention rank."""
    if not _true(flat.get("disagg")):
        tp = number(flat, "tp")
        if math.isnan(tp):
            tp = number(flat, "decode_tp", "prefill_tp")
        if math.isnan(tp):
            return {}
        ep = number(flat, "ep", "decode_ep", "prefill_ep")
        attention = flat.get("dp_attention", flat.get("decode_dp_attention"))
        return {"mode": "colocated", **_axes("", tp, attention, ep, _at_least_one(number(flat, "pp")))}
    found: dict[str, Any] = {"mode": "disaggregated"}
    for role, prefix in (("prefill", "prefill_"), ("decode", "")):
        workers = _at_least_one(number(flat, f"{role}_num_workers"))
        pp = _at_least_one(number(flat, f"{role}_pp"))
        gpus = number(flat, f"num_{role}_gpu") / workers / pp
        tp = number(flat, f"{role}_tp")
        attention = flat.get(f"{role}_dp_attention")
        size = gpus if _true(attention) and gpus >= 1 else tp
        if size >= 1:
            found[f"{prefix}workers"] = workers
            found |= _axes(prefix, size, attention, number(flat, f"{role}_ep"), pp)
    return found


def _axes(prefix: str, size: float, attention: Any, ep: float, pp: int) -> dict[str, Any]:
    ranks = int(size)
    tp, dp = (1, ranks) if _true(attention) else (ranks, 1)
    return {f"{prefix}tp": tp, f"{prefix}pp": pp, f"{prefix}dp": dp, f"{prefix}ep": _at_least_one(ep)}


def _gpus(flat: Mapping[str, Any]) -> float:
    if _true(flat.get("disagg")):
        return number(flat, "num_prefill_gpu") + number(flat, "num_decode_gpu")
    tp = number(flat, "tp")
    if math.isnan(tp):
        return number(flat, "num_decode_gpu", "decode_tp")
    return tp * _at_least_one(number(flat, "pp"))


def _at_least_one(count: float) -> int:
    return int(count) if count >= 1 else 1


def _true(value: Any) -> bool:
    return value is True or str(value).casefold() == "true"
