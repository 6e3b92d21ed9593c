"""Measured dispatch and combine of expert-parallel layers: tables, and published figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.messages import CATALOG, Messages
from pdplan.calibration.tables import Tables
from pdplan.documents.files import read_yaml
from pdplan.laws.collectives import Routed, expert_exchange_time_s
from pdplan.laws.roofline import Array

_DISPATCH, _COMBINE = 1.0, 2.0  # bytes per element on the wire, as in ops.py
_SMS = 20.0  # DeepEP's default number of SMs for its high-throughput kernels


def exchange(kind: str, accelerator: str, seconds: Array, routed: Routed) -> Messages:
    """Measured dispatch or combine: by low-latency kernels, or by high-throughput ones ("bulk")."""
    return Messages(
        kind=kind,
        accelerator=accelerator,
        seconds=seconds,
        size=np.asarray(routed.tokens) * np.asarray(routed.bytes_per_token),
        ranks=np.asarray(routed.ranks),
        engine=np.full(len(seconds), kind),
        predict=lambda links: expert_exchange_time_s(routed, links, kind == "bulk"),
    )


def deepep_tables(tables: Tables, accelerator: str) -> Iterator[Messages]:
    """SGLang's bench of DeepEP on one node: the kernels alone."""
    data = read_yaml(CATALOG / f"{accelerator}.yaml").data
    ranks = float(data["accelerators_per_node"])
    for op, kind, columns in (
        (
            "wideep_deepep_ll",
            "low_latency",
            (("dispatch_avg_t_us", _DISPATCH), ("combine_avg_t_us", _COMBINE)),
        ),
        (
            "wideep_deepep_normal",
            "bulk",
            (("dispatch_transmit_us", _DISPATCH), ("combine_transmit_us", _COMBINE)),
        ),
    ):
        rows = tables.read(accelerator, op)
        if not rows:
            continue
        keep = (rows["num_topk"] >= 4) & (rows["num_experts"] >= 64)
        if kind == "bulk":
            keep &= (rows["dispatch_sms"] == _SMS) & (rows["combine_sms"] == _SMS)
        for column, element in columns:
            good = keep & np.isfinite(rows[column]) & (rows[column] > 0)
            tokens, k, hidden = (rows[name][good] for name in ("num_token", "num_topk", "hidden_size"))
            width, everyone = hidden * element, np.full(len(k), ranks)
            sent = Routed(tokens=tokens, per_token=k, bytes_per_token=width, ranks=everyone)
            yield exchange(kind, accelerator, rows[column][good] * 1e-6, sent)


def nvlink_all_to_all(tables: Tables, accelerator: str) -> Iterator[Messages]:
    """TensorRT-LLM's all-to-all inside an NVL72 domain, 2 to 64 ranks."""
    rows = tables.read(accelerator, "trtllm_alltoall")
    if not rows:
        return
    for op, element in (
        ("alltoall_dispatch", {"fp8": 1.0, "bfloat16": 2.0}),
        ("alltoall_combine", {"bfloat16": 2.0}),
    ):
        for dtype, width in element.items():
            at = (rows["op_name"] == op) & (rows["moe_dtype"] == dtype)
            sent = Routed(
                tokens=rows["num_tokens"][at],
                per_token=rows["topk"][at],
                bytes_per_token=rows["hidden_size"][at] * width,
                ranks=rows["moe_ep_size"][at],
            )
            yield exchange("low_latency", accelerator, rows["latency_s"][at], sent)


DEEPEP_DOMAIN = 8.0  # accelerators per H800 node
DEEPSEEK_NODES = 4  # DeepSeek-V3 routes a token to at most four nodes


def deepep_samples(tables: Tables) -> Iterator[Messages]:
    """DeepEP's own figures on H800: low latency by time, high throughput by bandwidth.

    Their bandwidth counts a token once per rank it reaches (NVLink-bound) or once per
    node it reaches, its own included (RDMA-bound); the time follows from it.
    """
    rows = tables.read_csv("facts/expert_all_to_all.csv")
    text = {k: np.asarray(rows[k], dtype=str) for k in ("lib", "kernel", "op", "bottleneck")}
    latency, bandwidth = _floats(rows["latency_us"]) * 1e-6, _floats(rows["bandwidth_GBps"]) * 1e9
    element = np.where(text["op"] == "dispatch", _DISPATCH, _COMBINE)
    tokens, width, ranks, k = (_floats(rows[c]) for c in ("tokens_per_rank", "hidden", "ep", "topk"))
    width = width * element
    v1 = text["lib"] == "DeepEP V1"
    low = v1 & np.isfinite(latency)
    sent = Routed(tokens=tokens[low], per_token=k[low], bytes_per_token=width[low], ranks=ranks[low])
    yield exchange("low_latency", "h800", latency[low], sent)
    nodes = np.minimum(np.ceil(ranks / DEEPEP_DOMAIN), DEEPSEEK_NODES)
    places = np.where(text["bottleneck"] == "NVLink", ranks, nodes)
    seconds = tokens * width * places * (1.0 - (1.0 - 1.0 / places) ** k) / bandwidth
    bulk = v1 & ~np.isfinite(latency)
    sent = Routed(tokens=tokens[bulk], per_token=k[bulk], bytes_per_token=width[bulk], ranks=ranks[bulk])
    yield exchange("bulk", "h800", seconds[bulk], replace(sent, group_limit=DEEPSEEK_NODES))


def cann_samples(tables: Tables) -> Iterator[Messages]:
    """Fused dispatch and combine on Ascend 910C, by the CloudMatrix384 paper."""
    rows = tables.read_csv("facts/expert_all_to_all.csv")
    at = np.char.startswith(np.asarray(rows["lib"], dtype=str), "CANN")
    latency, tokens, hidden, ranks, k = (
        _floats(rows[c])[at] for c in ("latency_us", "tokens_per_rank", "hidden", "ep", "topk")
    )
    element = np.where(np.asarray(rows["op"], dtype=str)[at] == "dispatch", _DISPATCH, _COMBINE)
    sent = Routed(tokens=tokens, per_token=k, bytes_per_token=hidden * element, ranks=ranks)
    yield exchange("low_latency", "ascend-910c", latency * 1e-6, sent)


def _floats(values: NDArray[Any]) -> Array:
    return np.array([float(v) if str(v) not in ("", "nan") else np.nan for v in values.tolist()])
