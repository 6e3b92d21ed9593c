"""What is asked of a deployment: lengths, traffic, objectives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from pdplan.errors import InputError

MAX_TOKENS = 10_000_000
MAX_RATE_PER_S = 1e7
MAX_CONCURRENCY = 1e9
MOST_REUSE = 0.999
"""Share of a prompt that the prefix cache may hold: the last token is always computed."""
CONFIDENCE_RANGE = (0.5, 0.99)
"""Beyond 99 % a handful of measured runs would decide."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """For how many steps a server keeps prompts waiting that it could take: numbers, or one for each run."""

    steps: Any = 0.0
    """On average, whatever else waits: it polls."""
    balanced_steps: Any = 0.0
    """At most, until each attention-dp rank has a prompt."""
    batched_steps: Any = 0.0
    """From the first one that waits, which others join meanwhile ..."""
    batched_tokens: Any = math.inf
    """... until so many tokens wait."""


NOT_HELD = Held()


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Requests: prompt and answer lengths, and how they arrive.

    Either `rate` (open loop, requests per second) or `concurrency` (closed loop,
    that many requests always in flight) is set, or neither when goodput is asked for.
    """

    isl: Any
    """Mean prompt length [tokens]: a number, or an array where many measured runs are predicted at once."""
    osl: Any
    """Mean answer length [tokens], likewise."""
    rate: Any = None
    """Number, or in the search an array: one rate for each deployment."""
    concurrency: Any = None
    """Number, or an array as above."""
    isl_cv: float = 0.0
    """Coefficient of variation of prompt lengths; 0 is fixed lengths."""
    osl_cv: float = 0.0
    arrival_cv: float = 1.0
    """Coefficient of variation of the gaps between arrivals; 1 is Poisson."""
    burst_share: Any = 0.0
    """Closed loop: share of all requests that arrive at once at the start (a benchmark that sends ten
    times its concurrency: 0.1); 0 is a loop long under way."""
    cold_start_s: Any = 0.0
    """Closed loop: what the requests of the opening burst wait besides, for kernels that compile when
    first used."""
    held: Any = NOT_HELD
    """How the server keeps prompts waiting that it could take: a `Held`."""
    step_tokens: Any = None
    """Prompt tokens that a step of the server holds; None: as many as the engine's default."""
    handover_s: Any = 0.0
    """Closed loop: what a prefill worker takes to send one prompt's cache where it sends one after another,
    by a transport slower than the network."""
    isl_spread: Any = 0.0
    """Closed loop of prompts whose lengths spread evenly: longest less shortest, over their mean."""
    convoy_prompts: Any = 0.0
    """Closed loop of answers that are all of one length: prompts that start together end together and
    come back together, so many of them where a step mixes prompts and decodes; 0: lengths differ."""
    prefix_reuse: float = 0.0
    """Share of prompt tokens whose KV cache is already there: not computed, still attended to."""

    def __post_init__(self) -> None:
        for name, length in (("isl", self.isl), ("osl", self.osl)):
            for end in (length.min(), length.max()) if isinstance(length, np.ndarray) else (length,):
                _require(name, end, 1, MAX_TOKENS, "tokens")
        if self.rate is not None and self.concurrency is not None:
            raise InputError("workload: give either rate or concurrency, not both")
        if isinstance(self.rate, int | float):
            _require("rate", self.rate, 1e-9, MAX_RATE_PER_S, "requests/s")
        if isinstance(self.concurrency, int | float):
            _require("concurrency", self.concurrency, 1, MAX_CONCURRENCY, "requests in flight")
        _require("isl_cv", self.isl_cv, 0, 10, "")
        _require("osl_cv", self.osl_cv, 0, 10, "")
        _require("arrival_cv", self.arrival_cv, 0, 10, "")
        if isinstance(self.burst_share, int | float):
            _require("burst_share", self.burst_share, 0, 1, "as a share of the requests")
        _require("prefix_reuse", self.prefix_reuse, 0, MOST_REUSE, "as a share of the prompt")

    @property
    def new_tokens(self) -> Any:
        """Prompt tokens that prefill computes."""
        new = self.isl * (1.0 - self.prefix_reuse)
        return np.maximum(new, 1.0) if isinstance(new, np.ndarray) else max(new, 1.0)

    @property
    def cached_tokens(self) -> Any:
        """Prompt tokens found in the prefix cache."""
        return self.isl - self.new_tokens

    @property
    def last_context(self) -> Any:
        """Context at the end of the answer that a running sequence is writing [tokens].

        Long answers run longer, so those that run are longer than the mean (length
        bias, E[x²]/E[x]): last = ISL + OSL·(1 + cv²), and the mean context in
        service is halfway there.
        """
        return self.isl + self.osl * (1.0 + self.osl_cv**2)

    def at_rate(self, rate: Any) -> Workload:
        return replace(self, rate=rate, concurrency=None)


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Objectives; None is no limit. Limits hold at `percentile` of requests, not for the mean."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    request_latency_s: float | None = None
    percentile: float = 0.9
    confidence: float | None = None
    """Chance that measured values keep the limits, too, as predictions err; None: the estimate keeps them."""
    ttft_factor: float = 1.0
    """Measured over predicted that the limits leave room for: L is kept where factor · TTFT ≤ L. Set by
    `pdplan.uncertainty.allowing_for_errors` from the confidence, for what the plan runs on."""
    tpot_factor: float = 1.0
    calibration: Any = field(default=None, compare=False, repr=False)
    """The user's own runs (a pdplan.calibrated.Calibration), whose errors the confidence is about, too."""

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s", "request_latency_s"):
            value = getattr(self, name)
            if value is not None:
                _require(name, value, 1e-6, 1e6, "seconds")
        _require("percentile", self.percentile, 0.5, 0.9999, "as a share, 'p90' or '90%'")
        if self.confidence is not None:
            _require("confidence", self.confidence, *CONFIDENCE_RANGE, "as a share, '90%' or 0.9")

    def with_room(self, *, ttft: float, tpot: float) -> Slo:
        """The same objectives, to be kept by predictions times these factors."""
        return replace(self, ttft_factor=ttft, tpot_factor=tpot)

    @property
    def z(self) -> float:
        """Standard normal quantile of the percentile."""
        return NormalDist().inv_cdf(self.percentile)


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Drafted tokens per step and the share of them that verification accepts."""

    drafted: int = 0
    acceptance: float = 0.7

    def __post_init__(self) -> None:
        _require("speculation drafted", self.drafted, 0, 16, "tokens")
        _require("speculation acceptance", self.acceptance, 0, 1, "as a share")


def _require(name: str, value: Any, low: float, high: float, unit: str) -> None:
    """Refuse what no deployment can have, with the range that would do."""
    tail = f" {unit}" if unit else ""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise InputError(f"{name}: {value!r} is not a number; expected {low:g} to {high:g}{tail}")
    if not low <= value <= high:
        raise InputError(f"{name}: {value:g} is out of range; expected {low:g} to {high:g}{tail}")


NO_SPECULATION = Speculation()
"""Every step yields one token."""
