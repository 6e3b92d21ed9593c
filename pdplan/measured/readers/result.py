"""What one benchmark of a result file says, whatever tool wrote it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NOT_SAID = math.nan


@dataclass(frozen=True, kw_only=True)
class Result:
    """One benchmark: latencies in seconds, lengths in tokens; NaN, or no key, where the file does not say."""

    where: str
    """File, and the line or the number of the benchmark in it where there are several."""
    format: str
    stated: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the deployment, by the keys of the flags: model, hardware, engine, tp and so on."""
    date: str = ""
    isl: float = NOT_SAID
    osl: float = NOT_SAID
    length_spread: float = 0.0
    """Lengths are uniform in [1 − spread, 1] × isl, osl; 0 where those are means."""
    concurrency: float = NOT_SAID
    """Most requests in flight."""
    rate: float = NOT_SAID
    """Offered requests per second; inf where all came at once, or as fast as the concurrency allowed."""
    arrival_cv: float = 1.0
    prefix_reuse: float = 0.0
    """Share of the prompts' tokens that the server read from its prefix cache."""
    completed: float = NOT_SAID
    failed: float = NOT_SAID
    """Requests without an answer."""
    duration_s: float = NOT_SAID
    ttft_mean_s: float = NOT_SAID
    ttft_median_s: float = NOT_SAID
    tpot_mean_s: float = NOT_SAID
    latency_mean_s: float = NOT_SAID
    """Of whole requests."""
    total_tok_per_s: float = NOT_SAID


def number(data: Mapping[str, Any], *keys: str, scale: float = 1.0) -> float:
    """The first of the keys that holds a number, times `scale`; NaN where none does.

    >>> number({"mean_ttft_ms": 250, "p99_ttft_ms": None}, "p99_ttft_ms", "mean_ttft_ms", scale=1e-3)
    0.25
    """
    for key in keys:
        value = data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
            return float(value) * scale
    return NOT_SAID


def below(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key, empty where there is none."""
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def date_of(text: Any) -> str:
    """A date as 2026-03-01, out of 20260301-120000 or an ISO time; "" where there is none.

    >>> date_of("20260301-120000"), date_of("2026-03-01T12:00:00"), date_of(None)
    ('2026-03-01', '2026-03-01', '')
    """
    digits = str(text or "")[:10].replace("-", "")
    if len(digits) < 8 or not digits[:8].isdigit():
        return ""
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"


def per_request(total: float, completed: float) -> float:
    """Mean of a sum over requests; NaN without requests."""
    return total / completed if completed > 0 else NOT_SAID


def tpot_of_requests(latency_s: float, ttft_s: float, osl: float) -> float:
    """TPOT that a whole request's mean latency leaves after its first token; NaN where there is none.

    >>> tpot_of_requests(10.4, 0.4, 501)
    0.02
    """
    found = (latency_s - ttft_s) / (osl - 1.0) if osl > 1.0 else NOT_SAID
    return found if found > 0 else NOT_SAID


ENGINES = {"vllm": "vllm", "sglang": "sglang", "trt": "trtllm", "tensorrt": "trtllm", "atom": "atom"}


def engine_in(text: Any) -> dict[str, str]:
    """The engine that a backend or framework names, as a fact; none where it only names a protocol.

    >>> engine_in("dynamo-trt"), engine_in("sglang-oai"), engine_in("openai-chat")
    ({'engine': 'trtllm'}, {'engine': 'sglang'}, {})
    """
    name = str(text or "").casefold()
    return next(({"engine": engine} for word, engine in ENGINES.items() if word in name), {})
