"""What a question file and a plan file may hold. Errors are told by pdplan.documents.validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_STRICT = {"extra": "forbid"}

Quantity = str | float
"""A number, or text with a unit: 4000, "8k", "2s", "400Gbps"."""
Names = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SpeculationKeys:
    """Speculative decoding: tokens drafted a step, share of them accepted."""

    __pydantic_config__ = _STRICT
    drafted: int
    acceptance: Quantity | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkKeys:
    """The network between prefill and decode pools, per accelerator."""

    __pydantic_config__ = _STRICT
    bandwidth: str | None = None
    latency: Quantity | None = None
    round_trip: Quantity | None = None
    jitter: Quantity | None = None
    loss: Quantity | None = None
    transport: str | None = None


@dataclass(frozen=True, kw_only=True)
class LotKeys:
    """Accelerators of one kind at one price."""

    __pydantic_config__ = _STRICT
    count: Quantity = "any"
    kind: str | None = None
    provider: str | None = None
    price: Quantity | None = None


LotEntry = str | float | LotKeys


@dataclass(frozen=True, kw_only=True)
class MarketKeys:
    """Which prices count, what there is, in which units it is bought."""

    __pydantic_config__ = _STRICT
    inventory: dict[str, LotEntry | tuple[LotEntry, ...]] | None = None
    price_kind: str | None = None
    provider: str | None = None
    granularity: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkloadKeys:
    __pydantic_config__ = _STRICT
    isl: Quantity | None = None
    osl: Quantity | None = None
    rate: Quantity | None = None
    concurrency: Quantity | None = None
    isl_cv: float | None = None
    osl_cv: float | None = None
    arrival_cv: float | None = None
    prefix_reuse: Quantity | None = None


@dataclass(frozen=True, kw_only=True)
class SloKeys:
    __pydantic_config__ = _STRICT
    ttft: Quantity | None = None
    tpot: Quantity | None = None
    latency: Quantity | None = None
    percentile: Quantity | None = None
    confidence: Quantity | None = None


@dataclass(frozen=True, kw_only=True)
class QuestionKeys(WorkloadKeys, SloKeys, MarketKeys):
    """The flags of `pdplan recommend`, as keys."""

    __pydantic_config__ = _STRICT
    model: str | None = None
    hardware: Names | None = None
    prefill_hardware: Names | None = None
    decode_hardware: Names | None = None
    precision: Names | None = None
    kv_precision: Names | None = None
    engine: str | None = None
    mode: str | None = None
    max_gpus: float | None = None
    max_usd_per_h: Quantity | None = None
    max_gpus_per_worker: float | None = None
    alternatives: float | None = None
    objective: str | None = None
    spare: Quantity | None = None
    headroom: Quantity | None = None
    mix: bool | None = None
    network: str | NetworkKeys | None = None
    prices: dict[str, Quantity] | None = None
    calibration: str | None = None
    """A file that `pdplan calibrate` wrote, beside this one."""
    speculation: str | SpeculationKeys | None = None
    drafted: int | None = None
    acceptance: Quantity | None = None
    chunk_tokens: Quantity | None = None
    redundant_experts: int | None = None
    overlap: str | None = None


@dataclass(frozen=True, kw_only=True)
class PoolKeys:
    """One pool of a plan."""

    __pydantic_config__ = _STRICT
    hardware: str
    workers: int
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    max_batch: int | None = None
    chunk_tokens: int | None = None
    share: Quantity | None = None
    """Of the pool's requests, where it is one of several kinds of workers."""


Pools = PoolKeys | tuple[PoolKeys, ...]
"""Equal workers, or several kinds of them."""


@dataclass(frozen=True, kw_only=True)
class PlanKeys(MarketKeys):
    """A deployment: the `plan` object of the JSON output, its workload and its objectives."""

    __pydantic_config__ = _STRICT
    model: str
    precision: str | None = None
    kv_precision: str | None = None
    engine: str | None = None
    mode: Literal["disaggregated", "colocated"] | None = None
    prefill: Pools | None = None
    decode: Pools | None = None
    colocated: Pools | None = None
    speculation: SpeculationKeys | None = None
    redundant_experts: int | None = None
    overlap: str | None = None
    workload: WorkloadKeys | None = None
    slo: SloKeys | None = None
    network: str | NetworkKeys | None = None
    prices: dict[str, Quantity] | None = None
    calibration: str | None = None
    """A file that `pdplan calibrate` wrote, beside this one."""
