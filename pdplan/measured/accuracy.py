"""How far predictions stand from measured runs: the protocol's errors, coverage and choice regret."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.measured.predict import Predictions
from pdplan.measured.run import Run

TPOT_LIMITS_S = (0.010, 0.015, 0.020, 0.030, 0.050, 0.080)
CHOICE_RUNS = 8
"""Runs that a group must have for a choice among them to mean something."""
MISS = 1.05
"""A pick may miss the TPOT limit by this factor unpunished."""


@dataclass(frozen=True, kw_only=True)
class ErrorSummary:
    """|predicted/measured − 1| over the rows that count, and how many of them were predicted at all."""

    rows: int
    coverage: float
    median: float
    mean: float
    p90: float
    signed: float
    """Median of predicted/measured − 1."""


@dataclass(frozen=True, kw_only=True)
class Residuals:
    """predicted/measured − 1 by quantity, one number per run; NaN where a run does not count."""

    tpot: Array
    ttft: Array
    tok_per_s_per_gpu: Array
    counts: dict[str, Array]
    """By quantity: the runs that count, predicted or not."""


QUANTITIES = ("tpot", "ttft", "tok_per_s_per_gpu")


def residuals(runs: Sequence[Run], predictions: Predictions) -> Residuals:
    """Errors by the protocol: TPOT in (0, 0.3 s); TTFT where not saturated, mean against mean
    (median against median where only that is published); tokens/s/GPU published or by the closed loop."""
    tpot = np.array([r.tpot_mean_s if r.counts_for_tpot else np.nan for r in runs])
    mean = np.array([np.nan if r.saturated_prefill else r.ttft_mean_s for r in runs])
    median = np.array([np.nan if r.saturated_prefill else r.ttft_median_s for r in runs])
    rate = np.array([r.measured_tok_per_s_per_gpu if r.counts_for_tpot else np.nan for r in runs])
    by_median = np.isnan(mean)
    ttft = np.where(by_median, median, mean)
    predicted_ttft = np.where(by_median, predictions.ttft_median_s, predictions.ttft_mean_s)
    return Residuals(
        tpot=predictions.tpot_mean_s / tpot - 1.0,
        ttft=predicted_ttft / ttft - 1.0,
        tok_per_s_per_gpu=predictions.total_tok_per_s_per_gpu / rate - 1.0,
        counts={"tpot": ~np.isnan(tpot), "ttft": ~np.isnan(ttft), "tok_per_s_per_gpu": ~np.isnan(rate)},
    )


def summarise(errors: Array, counts: Array) -> ErrorSummary:
    """Summary over the rows that count; NaN errors are rows that could not be predicted.

    >>> s = summarise(np.array([0.1, -0.3, np.nan]), np.array([True, True, True]))
    >>> s.rows, round(s.coverage, 2), round(s.median, 2), round(s.signed, 2)
    (3, 0.67, 0.2, -0.1)
    """
    found = errors[counts & np.isfinite(errors)]
    rows = int(np.count_nonzero(counts))
    if not found.size:
        nothing = float("nan")
        return ErrorSummary(
            rows=rows, coverage=0.0, median=nothing, mean=nothing, p90=nothing, signed=nothing
        )
    size = np.abs(found)
    return ErrorSummary(
        rows=rows,
        coverage=found.size / rows,
        median=float(np.median(size)),
        mean=float(np.mean(size)),
        p90=float(np.quantile(size, 0.9)),
        signed=float(np.median(found)),
    )


def summaries(
    runs: Sequence[Run], found: Residuals, key: Callable[[Run], Any]
) -> dict[Any, dict[str, ErrorSummary]]:
    """Summaries of every quantity by `key` of the runs, in the keys' order: numbers by size."""
    keys = [key(run) for run in runs]
    table = {}
    for name in sorted(set(keys), key=natural_order):
        inside = np.array([k == name for k in keys])
        table[name] = {q: summarise(getattr(found, q), found.counts[q] & inside) for q in QUANTITIES}
    return table


def natural_order(key: Any) -> list[tuple[bool, float, str]]:
    """An order of keys and tuples of keys in which 16 stands before 128.

    >>> sorted([("b", "128"), ("a", "8"), ("b", "16"), ("b", "")], key=natural_order)
    [('a', '8'), ('b', '16'), ('b', '128'), ('b', '')]
    """
    order = []
    for part in key if isinstance(key, tuple) else (key,):
        text = str(part)
        number = float(text) if text.replace(".", "", 1).isdigit() else math.inf
        order.append((number == math.inf, number, text))
    return order


@dataclass(frozen=True, kw_only=True)
class Regret:
    """Share of the best measured tokens/s/GPU that the prediction's picks leave on the table."""

    choices: int
    median: float
    mean: float


def choice_regret(runs: Sequence[Run], predictions: Predictions) -> Regret:
    """Regret of choosing by prediction, by the protocol.

    Among eight or more runs of one (model, accelerator, precision, spec, ISL, OSL), for each TPOT limit:
    the run predicted best in tokens/s/GPU within the limit (the fastest predicted one where none is
    within it) against the best measured one within it; a pick whose measured TPOT misses the limit by
    over 5 % is scaled down by limit/TPOT.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, run in enumerate(runs):
        if run.counts_for_tpot and not np.isnan(run.measured_tok_per_s_per_gpu):
            key = (run.model, run.hardware, run.precision, run.spec, run.isl, run.osl)
            groups.setdefault(key, []).append(i)
    lost = []
    for index in groups.values():
        if len(index) < CHOICE_RUNS:
            continue
        tpot = np.array([runs[i].tpot_mean_s for i in index])
        rate = np.array([runs[i].measured_tok_per_s_per_gpu for i in index])
        guess_tpot, guess_rate = predictions.tpot_mean_s[index], predictions.total_tok_per_s_per_gpu[index]
        for limit in TPOT_LIMITS_S:
            within = tpot <= limit
            if not within.any():
                continue
            guess = np.where(guess_tpot <= limit, guess_rate, -np.inf)
            guess = np.where(np.isnan(guess), -np.inf, guess)
            fastest = np.where(np.isnan(guess_tpot), np.inf, guess_tpot)
            pick = int(np.argmax(guess)) if np.isfinite(guess).any() else int(np.argmin(fastest))
            got = rate[pick] * (limit / tpot[pick] if tpot[pick] > MISS * limit else 1.0)
            lost.append(max(1.0 - got / np.max(rate[within]), 0.0))
    if not lost:
        return Regret(choices=0, median=float("nan"), mean=float("nan"))
    return Regret(choices=len(lost), median=float(np.median(lost)), mean=float(np.mean(lost)))
