"""The JSON names that other programs rely on: grown, never renamed."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

from pdplan import __version__
from pdplan.calibrated import Calibration
from pdplan.compose import World
from pdplan.evaluate import judged
from pdplan.plan import Metrics, Mixed, Plan, PoolPlan, Serving, role_of
from pdplan.question import Candidate, Choices, Infeasible, OtherKind, Question
from pdplan.report.contract_version import SCHEMA_VERSION
from pdplan.report.market import market_json
from pdplan.uncertainty import INTERVAL, error_bars, slo_of
from pdplan.units import format_money
from pdplan.workload import Slo, Workload

_RENAMED = {"parts", "problem"}


def header(catalog_sha256: str) -> dict[str, Any]:
    """What leads every JSON object."""
    return {"schema_version": SCHEMA_VERSION, "pdplan_version": __version__, "catalog_sha256": catalog_sha256}


def pool_json(pool: PoolPlan) -> dict[str, Any]:
    found = asdict(pool)
    if pool.chunk_tokens is None:
        del found["chunk_tokens"]
    return found


def roles_json(plan: Plan) -> dict[str, Any]:
    """Pools by role; one of several kinds of workers is a list, each with its share of the requests."""
    if not isinstance(plan, Mixed):
        return {name: pool_json(pool) for name, pool in plan.pools.items()}
    return {
        role: [{**pool_json(part.pool), "share": part.share} for part in parts]
        if len(parts) > 1
        else pool_json(parts[0].pool)
        for role, parts in plan.roles.items()
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """The `plan` object: a plan file once `workload` and `slo` are added.

    `max_batch` is null where memory alone sets it.
    """
    speculation = asdict(plan.speculation) if plan.speculation.drafted else None
    return {
        "model": plan.model,
        "precision": plan.precision,
        "mode": plan.mode,
        **roles_json(plan),
        "kv_precision": plan.kv_precision,
        "engine": plan.engine,
        "speculation": speculation,
        **exchange_json(plan),
    }


def exchange_json(plan: Serving | Question) -> dict[str, Any]:
    """How tokens are exchanged with experts, where it is not plainly."""
    found = {"redundant_experts": plan.redundant_experts, "overlap": plan.overlap}
    return {key: value for key, value in found.items() if value not in (0, "none")}


def metrics_json(metrics: Metrics) -> dict[str, Any]:
    """The `metrics` object: every field under its name, TTFT's parts by their own."""
    found = {f.name: getattr(metrics, f.name) for f in fields(metrics) if f.name not in _RENAMED}
    found["gpus"] = int(metrics.gpus)
    found["ttft_parts_s"] = {snake(name): value for name, value in metrics.parts.items()}
    found["problem"] = metrics.reason or None
    return found


def error_bars_json(
    plan: Plan, metrics: Metrics, calibration: Calibration | None = None, *, throughput: bool = False
) -> dict[str, Any]:
    """80 % intervals, by the name of the metric; of throughput and cost per token where they are results."""
    bars = error_bars(plan, metrics, calibration, throughput=throughput)
    return {"confidence": INTERVAL} | {name: {"low": bar.low, "high": bar.high} for name, bar in bars.items()}


def candidate_json(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {"plan": plan_json(candidate.plan), "metrics": metrics_json(candidate.metrics)}


def other_kind_json(other: OtherKind | None) -> dict[str, Any] | None:
    """A plan and its metrics, in what it differs from the best, and why it comes after it."""
    if other is None:
        return None
    return {
        "plan": plan_json(other.candidate.plan),
        "metrics": metrics_json(other.candidate.metrics),
        "differs_in": list(other.differs_in),
        "why": other.why,
    }


def workload_json(workload: Workload) -> dict[str, Any]:
    return {
        "isl_tokens": workload.isl,
        "osl_tokens": workload.osl,
        "rate_requests_per_s": workload.rate,
        "concurrency_requests": workload.concurrency,
        "isl_cv": workload.isl_cv,
        "osl_cv": workload.osl_cv,
        "arrival_cv": workload.arrival_cv,
        "prefix_reuse": workload.prefix_reuse,
    }


def slo_json(slo: Slo) -> dict[str, Any]:
    """Objectives; `confidence` where one was asked for."""
    found = {
        "ttft_s": slo.ttft_s,
        "tpot_s": slo.tpot_s,
        "request_latency_s": slo.request_latency_s,
        "percentile": slo.percentile,
    }
    return found if slo.confidence is None else {**found, "confidence": slo.confidence}


def pessimistic_json(plan: Plan, metrics: Metrics, slo: Slo) -> dict[str, Any]:
    """Under `pessimistic_end` the latencies that limits were held against; nothing without a confidence."""
    if slo.confidence is None:
        return {}
    room = slo_of(plan, slo)
    return {
        "pessimistic_end": {
            "confidence": slo.confidence,
            "ttft_factor": room.ttft_factor,
            "tpot_factor": room.tpot_factor,
            **{name.replace("_s", "_slo_s"): value for name, value in judged(metrics, room).items()},
        }
    }


def world_json(world: World) -> dict[str, Any]:
    """Prices that were used, and the network as given; null where the catalog's own links serve."""
    own = world.calibration
    fitted = {"path": own.path, "sha256": own.sha256, "runs_used": own.keys.runs_used} if own else None
    return {
        "prices_usd_per_h": {name: world.price(name) for name in world.accelerators},
        "network": asdict(world.network),
        "market": market_json(world.market),
        **({"calibration": fitted} if fitted else {}),
    }


def question_json(question: Question, world: World) -> dict[str, Any]:
    """The `inputs` of recommend."""
    return {
        "model": question.model,
        "precision": question.precision,
        "kv_precision": question.kv_precision,
        "engine": question.engine,
        "mode": question.mode,
        "prefill_hardware": list(question.prefill_hardware),
        "decode_hardware": list(question.decode_hardware),
        "colocated_hardware": list(question.colocated_hardware),
        "workload": workload_json(question.workload),
        "slo": slo_json(question.slo),
        "max_gpus": question.max_gpus,
        "max_usd_per_h": question.max_usd_per_h,
        "max_gpus_per_worker": question.max_gpus_per_worker,
        "objective": question.objective,
        "spare_workers": question.spare_workers,
        "headroom": question.headroom,
        "speculation": asdict(question.speculation) if question.speculation.drafted else None,
        "chunk_tokens": question.chunk_tokens,
        **exchange_json(question),
        "choices": choices_json(question.choices),
        **world_json(world),
    }


def choices_json(choices: Choices) -> dict[str, Any] | None:
    """What the search chose among; null where the question left nothing open."""
    if not choices:
        return None
    return {
        "precision": list(choices.precisions),
        "kv_precision": list(choices.kv_precisions),
        "drafted": [s.drafted for s in choices.speculations],
        "chunk_tokens": list(choices.chunk_tokens),
    }


def infeasible_json(infeasible: Infeasible | None) -> dict[str, Any] | None:
    if infeasible is None:
        return None
    return {
        "binding": infeasible.binding,
        "nearest": candidate_json(infeasible.nearest),
        "misses": {
            name: {"found": found, "allowed": allowed} for name, (found, allowed) in infeasible.misses.items()
        },
        "relax": list(infeasible.relax),
        "relax_usd_per_h": [None if math.isnan(usd) else usd for usd in infeasible.relax_usd_per_h],
    }


def relax_words(infeasible: Infeasible) -> tuple[str, ...]:
    """What would help, each with the cost of the plan that it allows where that is known."""
    costs = infeasible.relax_usd_per_h
    if len(costs) != len(infeasible.relax):
        return infeasible.relax
    words = []
    for k, (flags, usd) in enumerate(zip(infeasible.relax, costs, strict=True)):
        cheapest = ", the cheapest of these" if k == 0 and len(costs) > 1 else ""
        words.append(flags if math.isnan(usd) else f"{flags} (a plan of {format_money(usd)}/h{cheapest})")
    return tuple(words)


def record(candidate: Candidate) -> dict[str, Any]:
    """A plan and its metrics as one flat row."""
    plan = plan_json(candidate.plan)
    pools = {
        role: _joined(plan.pop(role)) for role in dict.fromkeys(role_of(n) for n in candidate.plan.pools)
    }
    speculation = plan.pop("speculation")
    return {
        **plan,
        "drafted": speculation["drafted"] if speculation else 0,
        **{
            f"{name}_{key}": pools.get(name, {}).get(key)
            for name in ("prefill", "decode", "colocated")
            for key in ("hardware", "workers", "tp", "pp", "dp", "ep", "max_batch", "chunk_tokens")
        },
        **flat_metrics(candidate.metrics),
    }


def _joined(pool: Any) -> dict[str, Any]:
    """A pool as one row: of several kinds of workers, their values joined by a plus."""
    if not isinstance(pool, list):
        return dict(pool)
    return {key: "+".join(str(part[key]) for part in pool) for key in pool[0]}


def _by_role(values: dict[str, Any], role: str) -> Any:
    """Of several kinds of workers, the largest value."""
    return max((v for name, v in values.items() if role_of(name) == role), default=None)


def flat_metrics(metrics: Metrics) -> dict[str, Any]:
    """Metrics for a row: the same columns for every kind of plan."""
    found = metrics_json(metrics)
    for name in ("utilisation", "running", "max_batch", "ttft_parts_s"):
        found.pop(name)
    for pool in ("prefill", "decode", "network", "colocated"):
        found[f"utilisation_{pool}"] = _by_role(metrics.utilisation, pool)
    for pool in ("prefill", "decode", "colocated"):
        found[f"running_{pool}"] = _by_role(metrics.running, pool)
    return found


def snake(name: str) -> str:
    """
    >>> snake("wait for running step"), snake("KV transfer")
    ('wait_for_running_step', 'kv_transfer')
    """
    return name.casefold().replace(" ", "_")
