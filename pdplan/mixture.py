"""Pools of several kinds of workers: each kind serves its share of the requests, metrics are those of all.

A request meets one kind of worker in each pool, at random by the shares, so latency is a mixture
of the kinds' distributions, and a Poisson stream split at random stays Poisson.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import NormalDist

import numpy as np

from pdplan.evaluate import PERCENTILES, Economics, Served, meets, metrics_of, peak_running
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics
from pdplan.pools import pool_tpot_s
from pdplan.workload import Slo, Workload

STEPS = 400
"""Points at which a kind's distribution is sampled."""
_TAIL = 1e-5


@dataclass(frozen=True, kw_only=True)
class Route:
    """One way of a request: a kind of worker in each pool, with what they do for it."""

    weight: float
    """Share of all requests."""
    names: Mapping[str, str]
    """Name of the part by role: {"prefill": "prefill 2", "decode": "decode"}."""
    served: Served
    """Arrays of one."""


def every_route_meets(routes: Sequence[Route], workload: Workload, slo: Slo) -> bool:
    """Whether the requests of every kind of worker keep the limits, not only those of all together."""
    free = Economics(
        usd_per_gpu_h=dict.fromkeys(("prefill", "decode", "colocated"), 0.0),
        watt_per_gpu=dict.fromkeys(("prefill", "decode", "colocated"), 0.0),
    )
    return all(bool(np.all(meets(metrics_of(r.served, workload, slo, free), slo))) for r in routes)


def mixed_metrics(routes: Sequence[Route], workload: Workload, slo: Slo, economics: Economics) -> Metrics:
    """Metrics of all requests over their routes: means weighted, percentiles those of the mixture.

    `economics` knows the parts by name. Values by pool stand under the parts' names.
    """
    weights = np.array([route.weight for route in routes])
    pools = {route.names[role]: pool for route in routes for role, pool in route.served.pools.items()}
    by_part: dict[str, dict[str, Array]] = {"utilisation": {}, "running": {}}
    for route in routes:
        for kind, found in by_part.items():
            for role, value in getattr(route.served, kind).items():
                name = route.names.get(role, role)
                found[name] = np.maximum(found.get(name, np.zeros(())), value)
    each = [_alone(route, workload, slo, economics) for route in routes]
    mean = {
        f.name: np.asarray(sum(w * getattr(m, f.name) for w, m in zip(weights, each, strict=True)))
        for f in fields(Metrics)
        if f.name in ("ttft_mean_s", "tpot_mean_s", "request_latency_mean_s", "kv_transfer_mean_s")
    }
    parts: dict[str, Array] = {}
    for weight, route in zip(weights, routes, strict=True):
        for name, value in route.served.parts.items():
            parts[name] = parts.get(name, np.zeros(())) + weight * value
    probabilities = _probabilities(slo)
    ttft = [_ttft_quantiles(route.served, probabilities) for route in routes]
    tpot = [_tpot_quantiles(route.served, workload, probabilities) for route in routes]
    quantiles = {"slo": float(slo.percentile)} | {f"p{round(p * 100)}": p for p in PERCENTILES}
    found_ttft = {n: mixture_quantile(p, weights, ttft, probabilities) for n, p in quantiles.items()}
    found_tpot = {n: mixture_quantile(p, weights, tpot, probabilities) for n, p in quantiles.items()}
    steps = max(workload.osl - 1.0, 0.0)
    rate = each[0].requests_per_s
    gpus = sum((p.gpus for p in pools.values()), start=np.zeros(()))
    usd_per_h = sum((p.gpus * economics.usd_per_gpu_h[n] for n, p in pools.items()), start=np.zeros(()))
    watts = sum((p.gpus * economics.watt_per_gpu[n] for n, p in pools.items()), start=np.zeros(()))
    tokens = workload.isl + workload.osl
    problems = [int(np.max(route.served.problem)) for route in routes]
    return replace(
        each[0],
        gpus=gpus,
        usd_per_h=usd_per_h,
        usd_per_million_output_tokens=usd_per_h / 3600.0 / (rate * workload.osl) * 1e6,
        usd_per_million_tokens=usd_per_h / 3600.0 / (rate * tokens) * 1e6,
        total_tok_per_s_per_gpu=rate * tokens / gpus,
        output_tok_per_s_per_gpu=rate * workload.osl / gpus,
        tok_per_s_per_user=1.0 / mean["tpot_mean_s"],
        **mean,
        **{f"ttft_{n}_s": value for n, value in found_ttft.items()},
        **{f"tpot_{n}_s": value for n, value in found_tpot.items()},
        request_latency_slo_s=_latency_slo(ttft, tpot, steps, weights, probabilities, slo),
        power_kw=watts / 1e3,
        utilisation=by_part["utilisation"],
        running=by_part["running"],
        max_batch={name: p.max_batch for name, p in pools.items()},
        parts=parts,
        problem=np.asarray(next((p for p in problems if p), 0)),
    )


def mixture_quantile(
    probability: float, weights: Array, quantiles: Sequence[Array], probabilities: Array
) -> Array:
    """The value that the mixture stays below with `probability`: Σ w_k F_k(t) = p.

    `quantiles[k]` are the k-th distribution's at `probabilities`, which hold `probability` itself,
    so that equal distributions give back their own quantile.

    >>> p = np.array([0.0, 0.5, 0.9, 1.0])
    >>> float(mixture_quantile(0.9, np.array([0.5, 0.5]), [np.full(4, 1.0), np.full(4, 3.0)], p))
    3.0
    """
    values = np.stack([np.asarray(q, dtype=float) for q in quantiles])
    if not np.all(np.isfinite(values)):
        return np.asarray(np.inf)
    at = int(np.argmin(np.abs(probabilities - probability)))
    low, high = float(values[:, at].min()), float(values[:, at].max())

    def below(value: float) -> float:
        shares = [_probability_below(value, row, probabilities) for row in values]
        return float(np.dot(weights, shares))

    if below(low) >= probability - 1e-12:
        return np.asarray(low)
    for _ in range(60):
        middle = (low + high) / 2
        if below(middle) >= probability - 1e-12:
            high = middle
        else:
            low = middle
    return np.asarray(high)


# ------------------------------------------------------------------------ inside


def _alone(route: Route, workload: Workload, slo: Slo, economics: Economics) -> Metrics:
    """What this route's requests see; its dollars and GPUs are those of its pools."""
    by_role = Economics(
        usd_per_gpu_h={role: economics.usd_per_gpu_h[name] for role, name in route.names.items()},
        watt_per_gpu={role: economics.watt_per_gpu[name] for role, name in route.names.items()},
    )
    return metrics_of(route.served, workload, slo, by_role)


def _probabilities(slo: Slo) -> Array:
    """Where distributions are sampled: evenly, closer in the tail, and at every percentile told."""
    even = np.linspace(_TAIL, 1.0 - 1.0 / STEPS, STEPS)
    tail = 1.0 - np.geomspace(1.0 / STEPS, _TAIL, STEPS // 10)
    return np.unique(np.concatenate([even, tail, [*PERCENTILES, float(slo.percentile)]]))


def _ttft_quantiles(served: Served, probabilities: Array) -> Array:
    return np.array([float(np.max(served.ttft.quantile_s(float(p)))) for p in probabilities])


def _tpot_quantiles(served: Served, workload: Workload, probabilities: Array) -> Array:
    """TPOT at the batches that percentiles of the time stay below."""
    normal = NormalDist()
    z = np.array([normal.inv_cdf(float(p)) for p in probabilities])
    pool = served.decoding
    running = np.maximum(peak_running(pool, served.decoding_running, z), 0.0)
    return np.asarray(pool_tpot_s(pool, workload, running, served.colocated))


def _latency_slo(
    ttft: Sequence[Array],
    tpot: Sequence[Array],
    steps: float,
    weights: Array,
    probabilities: Array,
    slo: Slo,
) -> Array:
    """Request latency at the SLO's percentile: each route's TTFT and TPOT at theirs, then the mixture."""
    both = [first + steps * each for first, each in zip(ttft, tpot, strict=True)]
    return mixture_quantile(float(slo.percentile), weights, both, probabilities)


def _probability_below(value: float, quantiles: Array, probabilities: Array) -> float:
    """F(value) of a sampled distribution, linear between samples; atoms count in full."""
    above = int(np.searchsorted(quantiles, value, side="right"))
    if above == 0:
        return 0.0
    if above == len(quantiles):
        return 1.0
    low, high = quantiles[above - 1], quantiles[above]
    share = (value - low) / (high - low)
    return float(probabilities[above - 1] + share * (probabilities[above] - probabilities[above - 1]))
