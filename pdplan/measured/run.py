"""One measured run, and what is known of how its servers were started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from pdplan.plan import PoolPlan


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run. NaN where something was not published."""

    id: str
    source: str
    date: str
    model: str
    hardware: str
    engine: str
    engine_version: str
    precision: str
    mode: str
    spec: str
    isl: float
    osl: float
    length_spread: float
    concurrency: float
    """Requests in flight, a closed loop; NaN where requests came at a rate."""
    decode: PoolPlan
    """The pool of a colocated run, the decode pool of a disaggregated one."""
    prefill: PoolPlan | None
    ttft_mean_s: float
    ttft_median_s: float
    tpot_mean_s: float
    gpus: int
    total_tok_per_s_per_gpu: float
    rate: float = math.nan
    """Requests per second, an open loop; NaN for closed ones."""
    arrival_cv: float = 1.0
    """Of an open loop: coefficient of variation of the gaps between arrivals."""
    prefix_reuse: float = 0.0
    """Share of prompt tokens that the prefix cache held."""
    kv_precision: str = "auto"
    drafted: int = 0
    """Tokens drafted a step; 0, where the run speculates, takes what engines.yaml says of such runs."""
    settings: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """How its servers were started, as far as known; None: not looked up yet."""
    listed: tuple[tuple[int, ...] | None, ...] = ()
    """Sizes of both pools as published, where those that ran differ; () where they do not."""

    build: str = ""
    """Of the engine, where it was another than today's: a block of engines.yaml's `builds`."""

    @property
    def speculates(self) -> bool:
        """Labelled so, or known to draft tokens."""
        return self.spec != "none" or self.drafted > 0

    @property
    def open_loop(self) -> bool:
        return not math.isnan(self.rate)

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits of what was measured, and where: the same under another id or source."""
        sizes = self.listed or sizes_of(self.decode, self.prefill)
        what = (self.model, self.hardware, self.engine, self.precision, self.mode, self.spec, *sizes)
        numbers = (self.isl, self.osl, self.concurrency, self.tpot_mean_s, self.ttft_s)
        return f"{crc32(repr((what, numbers)).encode()):08x}"

    @property
    def mean_isl(self) -> float:
        """Lengths are uniform in [1 − spread, 1] × nominal."""
        return self.isl * (1.0 - self.length_spread / 2.0)

    @property
    def mean_osl(self) -> float:
        return self.osl * (1.0 - self.length_spread / 2.0)

    @property
    def ttft_s(self) -> float:
        """The mean where it is published, else the median."""
        return self.ttft_median_s if math.isnan(self.ttft_mean_s) else self.ttft_mean_s

    @property
    def counts_for_tpot(self) -> bool:
        """A TPOT outside (0, 0.3 s) is no serving result."""
        return 0.0 < self.tpot_mean_s < 0.3

    @property
    def saturated_prefill(self) -> bool:
        """Disaggregated, with a TTFT over 5 s: prefill is the limit, throughput counts and TTFT does not."""
        return self.prefill is not None and self.ttft_s > 5.0

    @property
    def measured_tok_per_s_per_gpu(self) -> float:
        """Published, or by the closed loop: concurrency·(ISL+OSL)/(TTFT + TPOT·(OSL−1))/GPUs.

        An open loop serves what comes, which says nothing about a prediction: NaN.
        """
        if self.open_loop:
            return math.nan
        if not math.isnan(self.total_tok_per_s_per_gpu):
            return self.total_tok_per_s_per_gpu
        latency = self.ttft_s + self.tpot_mean_s * (self.mean_osl - 1)
        return self.concurrency * (self.mean_isl + self.mean_osl) / latency / self.gpus


def sizes_of(*pools: PoolPlan | None) -> tuple[tuple[int, ...] | None, ...]:
    """Workers, tp, pp, dp and ep of pools; None where there is none."""
    return tuple((p.workers, p.tp, p.pp, p.dp, p.ep) if p else None for p in pools)
