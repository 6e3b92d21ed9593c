"""What a search minimises, and what it found: shared by both modes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.plan import Metrics
from pdplan.question import Candidate
from pdplan.workload import Slo


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Unit price of an accelerator by name; accelerators themselves where a price is missing."""

    unit_price: dict[str, float]
    counts_gpus: bool
    node_size: dict[str, int]

    def cost(self, candidate: Candidate) -> float:
        return sum(p.gpus * self.unit_price[p.hardware] for p in candidate.plan.pools.values())


def tpot_limit_s(slo: Slo, osl: float) -> float | None:
    """The tighter of the TPOT limit and what the request latency leaves per token."""
    limits = [slo.tpot_s] if slo.tpot_s is not None else []
    if slo.request_latency_s is not None and osl > 1:
        limits.append(slo.request_latency_s / (osl - 1))
    return min(limits) if limits else None


def ttft_limit_s(slo: Slo, osl: float, tpot_slo_s: Array) -> Array:
    """What TTFT may take: its own limit, and what the request latency leaves after the answer."""
    limit = np.full(np.shape(tpot_slo_s), np.inf if slo.ttft_s is None else slo.ttft_s)
    if slo.request_latency_s is not None:
        limit = np.minimum(limit, slo.request_latency_s - tpot_slo_s * max(osl - 1, 0))
    return limit


def tightness(metrics: Metrics, slo: Slo) -> float:
    """The largest share of a limit that a plan uses: 1 is on the edge. Ties in cost go to the loosest."""
    shares = [
        found / limit
        for found, limit in (
            (metrics.ttft_slo_s, slo.ttft_s),
            (metrics.tpot_slo_s, slo.tpot_s),
            (metrics.request_latency_slo_s, slo.request_latency_s),
        )
        if limit
    ]
    return float(max(shares, default=0.0))


def intricacy(candidate: Candidate, objective: Objective) -> int:
    """How much out of the ordinary a plan asks for.

    Pipeline stages, experts over a part of the ranks, workers that span nodes (one
    failed node takes the whole worker down).
    """
    pools = candidate.plan.pools.values()
    return sum(
        (p.pp > 1) + (p.ep not in (1, p.tp * p.dp)) + (p.gpus_per_worker > objective.node_size[p.hardware])
        for p in pools
    )


def rank(candidates: Iterable[Candidate], objective: Objective, slo: Slo) -> list[Candidate]:
    """Cheapest first; equal cost: the plainest layout, then the most margin.

    The last key is the plan in words, so the order never depends on that of the input.
    """

    def key(c: Candidate) -> tuple[float, int, float, str]:
        return (
            round(objective.cost(c), 9),
            intricacy(c, objective),
            round(tightness(c.metrics, slo), 9),
            repr(c.plan),
        )

    return sorted(candidates, key=key)


def distinct(ranked: Iterable[Candidate], limit: int) -> tuple[Candidate, ...]:
    """The first of every kind of plan: mode, accelerators and worker sizes."""
    seen: set[tuple[object, ...]] = set()
    kept: list[Candidate] = []
    for candidate in ranked:
        plan = candidate.plan
        kind = (plan.mode, *((p.hardware, p.gpus_per_worker, p.dp > 1) for p in plan.pools.values()))
        if kind not in seen and len(kept) < limit:
            seen.add(kind)
            kept.append(candidate)
    return tuple(kept)
