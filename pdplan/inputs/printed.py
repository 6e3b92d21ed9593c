"""What pdplan printed as JSON is read back as a plan file: the names lose their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pdplan.documents.files import Document
from pdplan.documents.yaml_events import Place
from pdplan.errors import InputError

PRINTED_NAMES = {
    "isl_tokens": "isl",
    "osl_tokens": "osl",
    "rate_requests_per_s": "rate",
    "concurrency_requests": "concurrency",
    "ttft_s": "ttft",
    "tpot_s": "tpot",
    "request_latency_s": "latency",
}
"""Key of the JSON output -> key of files, where they differ."""

PRINTED_NETWORK = {
    "bandwidth_bytes_per_s": ("bandwidth", "B/s"),
    "latency_s": ("latency", "s"),
    "round_trip_s": ("round_trip", "s"),
    "jitter_s": ("jitter", "s"),
    "loss": ("loss", ""),
    "transport": ("transport", ""),
}
_INPUT_GROUPS = ("workload", "slo")


def from_printed(document: Document) -> Document:
    """The plan file that a JSON output of recommend or evaluate amounts to."""
    data = document.data
    plan, inputs = data.get("plan"), data.get("inputs")
    if not isinstance(plan, dict) or not isinstance(inputs, dict):
        why = (
            "holds no plan (the question was infeasible)"
            if plan is None
            else "is no output of recommend or evaluate"
        )
        raise InputError(f"{document.where()}: this JSON {why}; give a plan file")
    top = document.place or Place(1, 1, {})
    none = Place(top.line, top.column, {})
    inputs_place = top.children.get("inputs", none)
    found: dict[str, Any] = dict(plan)
    children = dict(top.children.get("plan", none).children)
    for group in _INPUT_GROUPS:
        if isinstance(inputs.get(group), dict):
            found[group] = {PRINTED_NAMES.get(k, k): v for k, v in inputs[group].items() if v is not None}
            place = inputs_place.children.get(group, none)
            children[group] = place._replace(
                children={PRINTED_NAMES.get(k, k): v for k, v in place.children.items()}
            )
    _take_goodput(found, data.get("metrics"))
    if isinstance(inputs.get("prices_usd_per_h"), dict):
        found["prices"] = {k: v for k, v in inputs["prices_usd_per_h"].items() if v is not None}
        children["prices"] = inputs_place.children.get("prices_usd_per_h", none)
    found.update(_market(inputs.get("market")))
    calibration = inputs.get("calibration")
    if isinstance(calibration, dict):
        found["calibration"] = calibration.get("path")
        children["calibration"] = inputs_place.children.get("calibration", none)
    network = inputs.get("network")
    if isinstance(network, dict):
        found["network"] = _network(network)
        children["network"] = inputs_place.children.get("network", none)
    return replace(document, data=found, place=top._replace(children=children))


def _market(printed: Any) -> dict[str, Any]:
    """Inventory and granularity; kind and provider of prices have become the prices printed beside."""
    if not isinstance(printed, Mapping):
        return {}
    found: dict[str, Any] = {"granularity": printed.get("granularity")}
    inventory = printed.get("inventory")
    if isinstance(inventory, Mapping) and inventory:
        found["inventory"] = {
            name: [
                {
                    "count": "any" if lot.get("gpus") is None else lot["gpus"],
                    **{k: lot[k] for k in ("kind", "provider") if lot.get(k) is not None},
                    **({} if lot.get("usd_per_gpu_h") is None else {"price": lot["usd_per_gpu_h"]}),
                }
                for lot in lots
            ]
            for name, lots in inventory.items()
        }
    return found


def _take_goodput(found: dict[str, Any], metrics: Any) -> None:
    """Where the question was for the most goodput, the plan's load is what was found."""
    workload = found.get("workload")
    if (
        isinstance(workload, dict)
        and not {"rate", "concurrency"} & workload.keys()
        and isinstance(metrics, dict)
    ):
        workload["rate"] = metrics.get("requests_per_s")


def _network(printed: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in printed.items():
        name, unit = PRINTED_NETWORK.get(key, (key, ""))
        if value is not None:
            found[name] = f"{value!r}{unit}" if unit and isinstance(value, int | float) else value
    return found
