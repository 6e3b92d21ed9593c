"""What a user asks, and what pdplan answers: the types between commands and search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pdplan.compose import World
from pdplan.plan import Metrics, Plan
from pdplan.workload import NO_SPECULATION, Slo, Speculation, Workload

Mode = Literal["any", "colocated", "disaggregated"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A model, a traffic, objectives and a choice of accelerators."""

    model: str
    workload: Workload
    slo: Slo
    prefill_hardware: tuple[str, ...]
    decode_hardware: tuple[str, ...]
    colocated_hardware: tuple[str, ...]
    precision: str
    kv_precision: str = "auto"
    engine: str = "vllm"
    speculation: Speculation = NO_SPECULATION
    mode: Mode = "any"
    max_gpus: int | None = None
    """With a rate: an upper limit. Without one: the budget whose goodput is asked for."""
    max_gpus_per_worker: int | None = None
    alternatives: int = 4
    certify: bool = False
    """Also bound the cost of every mix of worker types, by integer programming."""

    @property
    def wants_goodput(self) -> bool:
        """No rate given: the most requests per second that `max_gpus` serve within the SLO."""
        return self.workload.rate is None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan and what it does."""

    plan: Plan
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Infeasible:
    """Why there is no answer, how near the nearest miss is, and what would help."""

    binding: str
    """The limit that binds, in a sentence."""
    nearest: Candidate | None
    """The deployment that misses by least, None where the model fits nowhere."""
    misses: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By limit (ttft_s, tpot_s, request_latency_s, gpus): (found, allowed)."""
    relax: tuple[str, ...] = ()
    """Changes that make the question feasible, each on its own where possible."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A lower bound that no mix of worker types can undercut, and how far above it the plan is."""

    lower_bound: float
    """$/h, or accelerators where prices are unknown; infinite where no mix can serve the rate."""
    gap: float
    """(cost of the plan - bound) / bound: 0 proves that no mix is cheaper."""
    solver_gap: float
    """What the integer programme's solver left open itself."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The cheapest plan, what else there is, and what binds."""

    question: Question
    world: World
    best: Candidate | None
    alternatives: tuple[Candidate, ...] = ()
    """The next best, each different in layout or accelerator, cheapest first."""
    best_other_mode: Candidate | None = None
    """The best disaggregated plan where the best is colocated, and the other way round."""
    binding: str = ""
    """What keeps the best plan from being cheaper, in a sentence."""
    certificate: Certificate | None = None
    infeasible: Infeasible | None = None
    notes: tuple[str, ...] = ()
    layouts: int = 0
    """Layouts evaluated."""
