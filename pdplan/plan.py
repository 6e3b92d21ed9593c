"""What to deploy, and what it does: the two things that every command speaks of."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.workload import NO_SPECULATION, Speculation

Overlap = Literal["none", "two-batch"]
OVERLAPS: tuple[Overlap, ...] = ("none", "two-batch")


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """Equal workers of one role on one kind of accelerator."""

    hardware: str
    workers: int
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    max_batch: int | None = None
    """Sequences (prefill: prompts) a worker runs at once; None takes what memory holds."""
    chunk_tokens: int | None = None
    """Tokens of one forward step at most: prompts are cut into chunks of it; None is the engine's default."""

    @property
    def gpus_per_worker(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def gpus(self) -> int:
        return self.workers * self.gpus_per_worker

    @property
    def label(self) -> str:
        """The layout in a word: tp8, tp1·dp32·ep32."""
        parts = [f"tp{self.tp}"]
        parts += [
            f"{name}{value}"
            for name, value in (("pp", self.pp), ("dp", self.dp), ("ep", self.ep))
            if value > 1
        ]
        return "·".join(parts)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What both kinds of plan share: the model, its formats, the engine."""

    model: str
    precision: str
    kv_precision: str
    engine: str = "vllm"
    speculation: Speculation = NO_SPECULATION
    redundant_experts: int = 0
    """Copies of busy experts that every worker spread over expert-parallel ranks holds besides."""
    overlap: Overlap = "none"
    """two-batch: exchanges of half a batch run beside the kernels of the other half, where that is faster."""


@dataclass(frozen=True, kw_only=True)
class Colocated(Serving):
    """One pool serves both phases."""

    colocated: PoolPlan

    @property
    def mode(self) -> Literal["colocated"]:
        return "colocated"

    @property
    def pools(self) -> dict[str, PoolPlan]:
        return {"colocated": self.colocated}


@dataclass(frozen=True, kw_only=True)
class Disaggregated(Serving):
    """A prefill pool and a decode pool, the KV cache sent between them."""

    prefill: PoolPlan
    decode: PoolPlan

    @property
    def mode(self) -> Literal["disaggregated"]:
        return "disaggregated"

    @property
    def pools(self) -> dict[str, PoolPlan]:
        return {"prefill": self.prefill, "decode": self.decode}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of worker in a pool of several, and the share of the requests that it serves."""

    pool: PoolPlan
    share: float
    """What the router has to send it; the shares of a pool add up to 1."""


@dataclass(frozen=True, kw_only=True)
class Mixed(Serving):
    """Pools of which at least one has several kinds of workers: the parts of each role.

    Either `prefill` and `decode`, or `colocated`, is filled.
    """

    prefill: tuple[Part, ...] = ()
    decode: tuple[Part, ...] = ()
    colocated: tuple[Part, ...] = ()

    @property
    def mode(self) -> Literal["colocated", "disaggregated"]:
        return "colocated" if self.colocated else "disaggregated"

    @property
    def roles(self) -> dict[str, tuple[Part, ...]]:
        """The parts of every role that there is."""
        names = ("colocated",) if self.colocated else ("prefill", "decode")
        return {name: getattr(self, name) for name in names}

    @property
    def named_parts(self) -> dict[str, Part]:
        """Every part under its name: "prefill" where it is alone, else "prefill 1", "prefill 2"."""
        return {
            role if len(parts) == 1 else f"{role} {number}": part
            for role, parts in self.roles.items()
            for number, part in enumerate(parts, start=1)
        }

    @property
    def pools(self) -> dict[str, PoolPlan]:
        return {name: part.pool for name, part in self.named_parts.items()}


Equal = Colocated | Disaggregated
"""Plans of equal workers in each pool."""
Plan = Equal | Mixed


def role_of(name: str) -> str:
    """The role of a pool or of a part: prefill, decode or colocated.

    >>> role_of("prefill 2"), role_of("colocated")
    ('prefill', 'colocated')
    """
    return name.partition(" ")[0]


def plan_of(serving: Serving, **roles: tuple[Part, ...]) -> Plan:
    """The plan of these parts; of equal workers in each pool where every role has one part."""
    shared: dict[str, Any] = {f.name: getattr(serving, f.name) for f in fields(Serving)}
    if any(len(parts) != 1 for parts in roles.values()):
        parts: dict[str, Any] = dict(roles)
        return Mixed(**shared, **parts)
    pools: dict[str, Any] = {role: parts[0].pool for role, parts in roles.items()}
    return Colocated(**shared, **pools) if "colocated" in pools else Disaggregated(**shared, **pools)


def with_pool(plan: Plan, name: str, pool: PoolPlan) -> Plan:
    """The plan with another pool of this name; in a mix another kind of worker, its share as before."""
    if not isinstance(plan, Mixed):
        changed: dict[str, Any] = {name: pool}
        return replace(plan, **changed)
    role, _, number = name.partition(" ")
    parts = list(plan.roles[role])
    at = int(number or 1) - 1
    parts[at] = replace(parts[at], pool=pool)
    changed = {role: tuple(parts)}
    return replace(plan, **changed)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a deployment does under a workload. Fields are arrays in the search, floats in a report.

    Where a deployment cannot do what is asked, `problem` is the index of the reason in PROBLEMS
    (0: none) and the other numbers say what would happen up to that point.
    """

    requests_per_s: Any
    gpus: Any
    usd_per_h: Any
    usd_per_million_output_tokens: Any
    usd_per_million_tokens: Any
    total_tok_per_s_per_gpu: Any
    output_tok_per_s_per_gpu: Any
    tok_per_s_per_user: Any
    ttft_mean_s: Any
    ttft_p50_s: Any
    ttft_p90_s: Any
    ttft_p99_s: Any
    ttft_slo_s: Any
    """TTFT at the percentile of the SLO."""
    tpot_mean_s: Any
    tpot_p50_s: Any
    tpot_p90_s: Any
    tpot_p99_s: Any
    tpot_slo_s: Any
    request_latency_mean_s: Any
    request_latency_slo_s: Any
    kv_transfer_mean_s: Any
    power_kw: Any
    utilisation: dict[str, Any]
    """By pool: the busiest resource of the pool, as a share of what it can do."""
    running: dict[str, Any]
    """By pool: requests in service on each worker, on average."""
    max_batch: dict[str, Any]
    """By pool: requests a worker may run at once, as planned or as memory allows."""
    parts: dict[str, Any]
    """TTFT taken apart: queue, prefill, transfer, first decode step, request handling [s]."""
    problem: Any

    def at(self, index: Any) -> Metrics:
        """The metrics of one deployment out of an array of them, as plain numbers."""

        def pick(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: pick(v) for k, v in value.items()}
            array = np.asarray(value)
            return array.item(index) if array.ndim else array.item()

        return Metrics(**{name: pick(value) for name, value in vars(self).items()})

    @property
    def reason(self) -> str:
        return PROBLEMS[int(self.problem)]


PROBLEMS = (
    "",
    "the weights do not fit in memory",
    "not one request's KV cache fits in memory beside the weights",
    "the prefill pool cannot keep up with the request rate",
    "the decoding workers run short of slots (max_batch) at the request rate",
    "the KV transfer network cannot keep up with the request rate",
)
WEIGHTS, CACHE, PREFILL_RATE, DECODE_RATE, TRANSFER_RATE = range(1, len(PROBLEMS))


def first_problem(*found: tuple[Array, int]) -> Array:
    """Index of the first reason whose mask holds, 0 where none does."""
    shape = np.broadcast_shapes(*(np.shape(mask) for mask, _ in found))
    problem = np.zeros(shape, dtype=int)
    for mask, code in reversed(found):
        problem = np.where(mask, code, problem)
    return problem
