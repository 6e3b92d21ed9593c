"""Pools of several kinds of workers: each kind serves its share of the requests, metrics are those of all.

A request meets one kind of worker in each pool, at random by the shares, so latency is a mixture
of the kinds' distributions, and a Poisson stream split at random stays Poisson.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from pdplan.evaluate import PERCENTILES, Economics, Served, meets, metrics_of, peak_running
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics
from pdplan.serving.pools import pool_tpot_s
from pdplan.serving.queueing import normal_quantile
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
    return all(bool(np.all(meets(metrics, slo))) for metrics in metrics_by_route(routes, workload, slo))


def metrics_by_route(routes: Sequence[Route], workload: Workload, slo: Slo) -> list[Metrics]:
    """What each kind of worker does for its requests, as arrays; costs and watts are left out."""
    free = Economics(
        usd_per_gpu_h=dict.fromkeys(("prefill", "decode", "colocated"), 0.0),
        watt_per_gpu=dict.fromkeys(("prefill", "decode", "colocated"), 0.0),
    )
    return [metrics_of(route.served, workload, slo, free) for route in routes]


def mixed_metrics(routes: Sequence[Route], workload: Workload, slo: Slo, economics: Economics) -> Metrics:
    """Metrics of all requests over their routes: means weighted, percentiles those of the mixture.

    `economics` knows the parts by name. Values by pool stand under the parts' names.
    """
    mixing = mixing_of(routes, workload, slo, economics)
    weights, each = mixing.weights, mixing.each
    pools = {route.names[role]: pool for route in routes for role, pool in route.served.pools.items()}
    by_part: dict[str, dict[str, Array]] = {"utilisation": {}, "running": {}}
    for route in routes:
        for kind, found in by_part.items():
            for role, value in getattr(route.served, kind).items():
                name = route.names.get(role, role)
                found[name] = np.maximum(found.get(name, np.zeros(())), value)
    mean = {
        f.name: np.asarray(sum(w * getattr(m, f.name) for w, m in zip(weights, each, strict=True)))
        for f in fields(Metrics)
        if f.name in ("ttft_mean_s", "tpot_mean_s", "request_latency_mean_s", "kv_transfer_mean_s")
    }
    parts: dict[str, Array] = {}
    for weight, route in zip(weights, routes, strict=True):
        for name, value in route.served.parts.items():
            parts[name] = parts.get(name, np.zeros(())) + weight * value
    quantiles = {"slo": float(slo.percentile)} | {f"p{round(p * 100)}": p for p in PERCENTILES}
    at_percentiles = {
        f"{name}_{n}_s": np.asarray(mixing.crossing(name, p).value)
        for name in ("ttft", "tpot")
        for n, p in quantiles.items()
    }
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
        **at_percentiles,
        request_latency_slo_s=np.asarray(mixing.crossing("request_latency", slo.percentile).value),
        power_kw=watts / 1e3,
        utilisation=by_part["utilisation"],
        running=by_part["running"],
        max_batch={name: p.max_batch for name, p in pools.items()},
        parts=parts,
        problem=np.asarray(next((p for p in problems if p), 0)),
    )


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """What the routes do, each by itself: their metrics, and samples of their distributions."""

    weights: Array
    each: tuple[Metrics, ...]
    """By route; dollars and GPUs are those of its pools."""
    probabilities: Array
    """Where distributions are sampled."""
    samples: Mapping[str, tuple[Array, ...]]
    """Of ttft, tpot and request_latency [s]: by route, the values at `probabilities`."""

    def crossing(self, name: str, probability: float) -> Crossing:
        """Where the mixture of one latency stays below with `probability`."""
        return mixture_crossing(float(probability), self.weights, self.samples[name], self.probabilities)


def mixing_of(routes: Sequence[Route], workload: Workload, slo: Slo, economics: Economics) -> Mixing:
    """Metrics and samples of every route.

    A route's request latency is sampled with TTFT and TPOT at the same percentile: a request that
    waits long in prefill is taken to decode in a full batch, too.
    """
    probabilities = _probabilities(slo)
    ttft = tuple(_ttft_quantiles(route.served, probabilities) for route in routes)
    known: dict[str, Array] = {}
    for route in routes:  # routes that end in one pool decode alike
        name = route.names["colocated" if route.served.colocated else "decode"]
        if name not in known:
            known[name] = _tpot_quantiles(route.served, workload, probabilities)
    tpot = tuple(known[r.names["colocated" if r.served.colocated else "decode"]] for r in routes)
    steps = max(workload.osl - 1.0, 0.0)
    whole = tuple(first + steps * each for first, each in zip(ttft, tpot, strict=True))
    return Mixing(
        weights=np.array([route.weight for route in routes]),
        each=tuple(_alone(route, workload, slo, economics) for route in routes),
        probabilities=probabilities,
        samples={"ttft": ttft, "tpot": tpot, "request_latency": whole},
    )


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a mixture's distribution reaches a probability, and its shares at the samples around.

    Between two samples the distribution is a straight line, so that
    value = low + (p − Σ w·below_low) / (Σ w·below_high − Σ w·below_low) · (high − low);
    where it jumps past p at once (many requests take exactly that long), low = high = value.
    """

    value: float
    low: float
    high: float
    below_low: Array
    """By kind: the share of its requests that stay below `low`, and below `high`."""
    below_high: Array


def mixture_crossing(
    probability: float, weights: Array, quantiles: Sequence[Array], probabilities: Array
) -> Crossing:
    """Where the mixture stays below with `probability`: Σ w_k F_k(t) = p.

    `quantiles[k]` are the k-th distribution's at `probabilities`, which hold `probability` itself,
    so that equal distributions give back their own quantile. Infinite where any sample is.
    """
    samples = np.maximum.accumulate(np.stack([np.asarray(q, dtype=float) for q in quantiles]), axis=1)
    if not np.all(np.isfinite(samples)):
        unknown = np.full(len(samples), np.nan)
        return Crossing(value=np.inf, low=np.inf, high=np.inf, below_low=unknown, below_high=unknown)
    own = samples[:, int(np.argmin(np.abs(probabilities - probability)))]
    values = np.unique(samples[(samples >= own.min()) & (samples <= own.max())])
    reached = np.stack([_shares_below(values, row, probabilities, "right") for row in samples])
    before = np.stack([_shares_below(values, row, probabilities, "left") for row in samples])
    at = int(np.argmax(weights @ reached >= probability - 1e-12))
    high = float(values[at])
    share = float(weights @ before[:, at])
    if at == 0 or share < probability - 1e-12:
        return Crossing(value=high, low=high, high=high, below_low=before[:, at], below_high=reached[:, at])
    low, start = float(values[at - 1]), float(weights @ reached[:, at - 1])
    value = low + (probability - start) / (share - start) * (high - low)
    return Crossing(value=value, low=low, high=high, below_low=reached[:, at - 1], below_high=before[:, at])


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
    return np.asarray(served.ttft.quantile_s(probabilities))


def _tpot_quantiles(served: Served, workload: Workload, probabilities: Array) -> Array:
    """TPOT at the batches that percentiles of the time stay below."""
    pool = served.decoding
    running = np.maximum(peak_running(pool, served.decoding_running, normal_quantile(probabilities)), 0.0)
    return np.asarray(pool_tpot_s(pool, workload, running, served.colocated))


def _shares_below(
    values: Array, samples: Array, probabilities: Array, side: Literal["left", "right"]
) -> Array:
    """Shares of a sampled distribution below (right: at most) `values`, linear between samples."""
    above = np.searchsorted(samples, values, side=side)
    at = np.clip(above, 1, len(samples) - 1)
    low, high = samples[at - 1], samples[at]
    share = np.where(high > low, (values - low) / np.where(high > low, high - low, 1.0), 0.0)
    inside = probabilities[at - 1] + share * (probabilities[at] - probabilities[at - 1])
    return np.where(above == 0, 0.0, np.where(above == len(samples), 1.0, inside))
