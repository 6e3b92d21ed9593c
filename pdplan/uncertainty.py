"""Error bars: how far measurements stood from predictions, by how well the ground was known.

The error of a prediction is a factor, measured / predicted, and errors.yaml holds the quantiles of
that factor for every ground that cross-validation could stand on:

    run             model, accelerator and engine all measured: errors of runs left out
    model           a model that took no part in the fit: errors with each model left out
    accelerator     an accelerator that did not, with kernel tables of its own or of a measured generation:
                    each accelerator left out
    no-tables       one of a generation that neither has: each maker's generations left out, its kernel tables
                    hidden
    engine          an engine that did not: each engine left out

Where several things are new at once, what they add to the errors is taken as independent: with d the distance
of a quantile from the median of `run` in the logarithm, d² = d_run² + Σ max(d_k² − d_run², 0), on each side.
Between the quantiles of the file, log q is linear in the standard normal quantile of the probability.

These are quantiles of plain runs. Errors of some classes of runs are so many times as wide, in the
logarithm (`classes` of the file; where several apply, the widest): runs that speculate, runs on accelerators
without kernel tables, and runs of which a pool is loaded to nine tenths or more of what it can do (LOADED).

Where a calibration covers model, accelerator and engine, the quantiles of its own left-out runs are mixed
in, as logarithms, by the number of runs: log q = (n·log q_own + m·log q)/(n + m), with m the number of own
runs that the shipped quantiles count as (constants/priors.yaml).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from pdplan.calibrated import Calibration, OwnSpread
from pdplan.documents.files import read_text, read_yaml
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics, Plan, Serving, role_of
from pdplan.workload import Slo

LEFT_OUT = {
    "run": "sweep",
    "model": "model",
    "accelerator": "accelerator",
    "no-tables": "generation and its kernel tables",
    "engine": "engine",
}
"""Kinds of cross-validation, and what of a run each leaves out of the fit."""
FITTED_RUNS = "fitted_runs.txt"
INTERVAL = 0.8
"""Share of the measurements that an error bar holds."""
LOADED = 0.9
"""From this share of what it can do on, a pool is loaded: a small error of its service becomes a large one of
the wait for it, for prompts or for slots."""
CLASSES = {
    "speculating": "of runs that speculate",
    "no-tables": "of accelerators without kernel tables",
    "loaded": "where a pool is loaded to 90 % or more",
}
"""Classes of runs whose errors are wider, and how to call them."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a prediction stands on: which of it was measured decides how wide its error is."""

    model: str
    hardware: str
    engine: str
    mode: str
    speculates: bool = False
    loaded: bool = False
    """A pool is predicted at LOADED or more. Plans of a search are not: see `slo_on`."""
    calibration: Calibration | None = None
    """The user's own runs, where predictions rest on them."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Which kinds of cross-validation speak for it, beside `run`."""
        document, found = _file(), []
        known = document["measured"]
        if self.model not in known["models"]:
            found.append("model")
        if self.hardware not in known["accelerators"]:
            near = self.hardware in document["with_tables"] or self.hardware in document["relatives"]
            found.append("accelerator" if near else "no-tables")
        if self.engine not in known["engines"]:
            found.append("engine")
        return tuple(found)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of runs that it is of."""
        of = (self.speculates, self.hardware not in _file()["with_tables"], self.loaded)
        return tuple(name for name, is_one in zip(CLASSES, of, strict=True) if is_one)


@dataclass(frozen=True, kw_only=True)
class ErrorBar:
    """Where 8 of 10 measurements would lie."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Factors on a prediction between which the measurements lay."""

    low: float
    high: float

    @property
    def inverse(self) -> Spread:
        """Of one over the quantity."""
        return Spread(low=1.0 / self.high, high=1.0 / self.low)

    def around(self, value: float) -> ErrorBar:
        return ErrorBar(low=float(value) * self.low, high=float(value) * self.high)


def error_factor(quantity: str, ground: Ground, probability: float) -> float:
    """The factor on a prediction that a share `probability` of the measurements stayed below.

    `quantity` is tpot, ttft or tok_per_s_per_gpu; probability between 0.01 and 0.99.
    """
    levels, logs = _log_quantiles(quantity, ground.mode, ground.unknown)
    plain = float(np.interp(NormalDist().inv_cdf(probability), levels, logs))
    shipped = float(np.exp(plain * widening(quantity, ground)))
    found = own_errors(quantity, ground)
    if found is None or ground.calibration is None:
        return shipped
    return mixed(found.at(probability), found.runs, shipped, ground.calibration.interval_runs)


def widening(quantity: str, ground: Ground) -> float:
    """How many times as wide, in the logarithm, as those of plain runs the errors are; at least 1."""
    table = class_table(ground.mode, quantity)
    return max((float(table[name]) for name in ground.classes), default=1.0)


def class_table(mode: str, quantity: str) -> Mapping[str, float]:
    """How many times as wide as those of plain runs the errors of each class are."""
    table: Mapping[str, float] = _file()["classes"][mode][quantity]
    return table


def own_errors(quantity: str, ground: Ground) -> OwnSpread | None:
    """measured/predicted of the user's left-out runs, where they are of this ground."""
    own = ground.calibration
    if own is None or not own.covers(ground.model, ground.hardware, ground.engine):
        return None
    return own.spread(quantity, ground.mode)


def mixed(own: float, runs: float, shipped: float, shipped_runs: float) -> float:
    """Two quantiles as one, weighed by runs: exp((n·log own + m·log shipped)/(n + m)).

    >>> round(mixed(1.0, 10, 0.64, 10), 9)
    0.8
    """
    share = runs / (runs + shipped_runs)
    return float(own**share * shipped ** (1.0 - share))


def rows_behind(quantity: str, ground: Ground) -> dict[str, int]:
    """How many left-out runs the error of a prediction rests on, by what was left out with them."""
    table = _file()["quantiles"]
    found = own_errors(quantity, ground)
    own = {"own runs left out": found.runs} if found else {}
    return own | {
        f"runs with their {LEFT_OUT[kind]} left out": int(table[kind][ground.mode][quantity]["rows"])
        for kind in ("run", *ground.unknown)
    }


def spread(quantity: str, prefill: Ground, decode: Ground, share: float = INTERVAL) -> Spread:
    """The factors that hold the middle `share` of the measurements.

    TTFT errs as the ground that prefills is known, TPOT as the one that decodes is, throughput as the
    less known of both.
    """
    tail = (1.0 - share) / 2.0
    used = {"ttft": (prefill,), "tpot": (decode,)}.get(quantity, (prefill, decode))
    return Spread(
        low=min(error_factor(quantity, ground, tail) for ground in used),
        high=max(error_factor(quantity, ground, 1.0 - tail) for ground in used),
    )


def error_bars(
    plan: Plan, metrics: Metrics, calibration: Calibration | None = None, *, throughput: bool = False
) -> dict[str, ErrorBar]:
    """80 % intervals, by field of Metrics: mean TTFT and TPOT [s], and where `throughput` is a result.

    Requests/s and cost per token follow from throughput where that is an answer (a closed loop, or
    the most goodput); under a given rate they are as asked for.

    Validity: the runs were closed loops, whose queues are bounded; for an open loop near its capacity they
    are too narrow, although wider from LOADED on.
    """
    on = grounds(plan, calibration, is_loaded(metrics))
    found = {
        "ttft_mean_s": spread("ttft", *on).around(metrics.ttft_mean_s),
        "tpot_mean_s": spread("tpot", *on).around(metrics.tpot_mean_s),
    }
    if throughput:
        rate = spread("tok_per_s_per_gpu", *on)
        for name in ("requests_per_s", "total_tok_per_s_per_gpu", "output_tok_per_s_per_gpu"):
            found[name] = rate.around(getattr(metrics, name))
        for name in ("usd_per_million_output_tokens", "usd_per_million_tokens"):
            found[name] = rate.inverse.around(getattr(metrics, name))
    return found


def is_loaded(metrics: Metrics) -> bool:
    """Whether a pool, or the network, is predicted at LOADED or more of what it can do."""
    return max(metrics.utilisation.values()) >= LOADED


def grounds(
    plan: Plan, calibration: Calibration | None = None, loaded: bool = False
) -> tuple[Ground, Ground]:
    """What the predictions of TTFT and of TPOT stand on: the pool that prefills, the one that decodes.

    Of a pool of several kinds the accelerator whose errors are widest counts.
    """
    roles: dict[str, list[Ground]] = {}
    for name, pool in plan.pools.items():
        ground = Ground(
            model=plan.model,
            hardware=pool.hardware,
            engine=plan.engine,
            mode=plan.mode,
            speculates=plan.speculation.drafted > 0,
            loaded=loaded,
            calibration=calibration,
        )
        roles.setdefault(role_of(name), []).append(ground)
    first, last = next(iter(roles.values())), list(roles.values())[-1]
    return _least_known("ttft", first), _least_known("tpot", last)


def _least_known(quantity: str, some: list[Ground]) -> Ground:
    return max(some, key=lambda ground: error_factor(quantity, ground, 0.9))


# ------------------------------------------------------------------------ confidence


def allowing_for_errors(slo: Slo, prefill: Ground, decode: Ground) -> Slo:
    """The objectives with the room that their confidence asks for; the same where none is asked.

    The factor is the one-sided quantile of measured/predicted at the confidence, at least 1: limits
    hold at the estimate, too.
    """
    if slo.confidence is None:
        return slo
    return slo.with_room(
        ttft=max(error_factor("ttft", prefill, slo.confidence), 1.0),
        tpot=max(error_factor("tpot", decode, slo.confidence), 1.0),
    )


def slo_of(plan: Plan, slo: Slo) -> Slo:
    """The objectives as a plan has to keep them: see `allowing_for_errors`."""
    return slo if slo.confidence is None else allowing_for_errors(slo, *grounds(plan, slo.calibration))


def tightened(slo: Slo, serving: Serving, hardware: Collection[str]) -> Slo:
    """Limits that hold any plan on these accelerators to the confidence: divided by the widest factors.

    Stricter than `slo_on` where modes and accelerators are not known alike.
    """
    if slo.confidence is None:
        return slo
    some = [
        Ground(
            model=serving.model,
            hardware=name,
            engine=serving.engine,
            mode=mode,
            speculates=serving.speculation.drafted > 0,
            calibration=slo.calibration,
        )
        for name in hardware
        for mode in ("colocated", "disaggregated")
    ]
    ttft, tpot = (
        max(1.0, *(error_factor(q, ground, slo.confidence) for ground in some)) for q in ("ttft", "tpot")
    )
    whole = max(ttft, tpot)
    return replace(
        slo,
        ttft_s=None if slo.ttft_s is None else slo.ttft_s / ttft,
        tpot_s=None if slo.tpot_s is None else slo.tpot_s / tpot,
        request_latency_s=None if slo.request_latency_s is None else slo.request_latency_s / whole,
        confidence=None,
    )


def slo_on(slo: Slo, serving: Serving, *hardware: str) -> Slo:
    """The objectives as plans on these accelerators have to keep them: one that serves both phases, or
    one for prefill and one for decode.

    Factors are those of pools that are not LOADED: how loaded a pool is depends on the plan, and one factor
    for all keeps the order of plans.
    """
    mode = "colocated" if len(hardware) == 1 else "disaggregated"
    first, last = (
        Ground(
            model=serving.model,
            hardware=name,
            engine=serving.engine,
            mode=mode,
            speculates=serving.speculation.drafted > 0,
            calibration=slo.calibration,
        )
        for name in (hardware[0], hardware[-1])
    )
    return allowing_for_errors(slo, first, last)


# ------------------------------------------------------------------------ inside


@functools.cache
def _log_quantiles(quantity: str, mode: str, unknown: tuple[str, ...]) -> tuple[Array, Array]:
    """Standard normal quantiles of the levels, and log factors at them, widened by what is unknown."""
    document = _file()
    levels = np.array(document["levels"])
    base = _logs(document, "run", mode, quantity)
    middle = int(np.searchsorted(levels, 0.5))
    side = np.sign(levels - 0.5)
    known = np.abs(base - base[middle])
    square = known**2
    for kind in unknown:
        off = side * (_logs(document, kind, mode, quantity) - base[middle])
        square += np.maximum(np.maximum(off, 0.0) ** 2 - known**2, 0.0)
    wide = base[middle] + side * np.sqrt(square)
    # Quantiles of several kinds may cross each other: they never fall.
    wide[middle:] = np.maximum.accumulate(wide[middle:])
    wide[: middle + 1] = np.minimum.accumulate(wide[: middle + 1][::-1])[::-1]
    return np.array([NormalDist().inv_cdf(float(p)) for p in levels]), wide


def _logs(document: Mapping[str, Any], kind: str, mode: str, quantity: str) -> Array:
    return np.log(np.array(document["quantiles"][kind][mode][quantity]["factors"]))


@functools.cache
def fitted_runs() -> frozenset[str]:
    """Fingerprints of the runs that constants and error bars were fitted to."""
    text = read_text(CONSTANTS_DIRECTORY / FITTED_RUNS)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return frozenset(mark for line in lines for mark in line.split())


def left_out(kind: str, mode: str, quantity: str) -> Mapping[str, Any]:
    """What cross-validation found in one cell: rows, groups, median_error, and of several groups what their
    intervals held and how wide they were."""
    cell: Mapping[str, Any] = _file()["quantiles"][kind][mode][quantity]
    return cell


@functools.cache
def _file() -> Mapping[str, Any]:
    return dict(read_yaml(CONSTANTS_DIRECTORY / "errors.yaml").data)
