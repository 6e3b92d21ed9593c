"""What a user asks, and what pdplan answers: the types between commands and search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pdplan.compose import World
from pdplan.plan import Metrics, Overlap, Plan
from pdplan.workload import NO_SPECULATION, Slo, Speculation, Workload

Mode = Literal["any", "colocated", "disaggregated"]
Goal = Literal["cost", "gpus", "energy"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the search may choose beside accelerators and layouts; an empty one is not open."""

    precisions: tuple[str, ...] = ()
    kv_precisions: tuple[str, ...] = ()
    speculations: tuple[Speculation, ...] = ()
    chunk_tokens: tuple[int | None, ...] = ()

    def __bool__(self) -> bool:
        return any(len(open_) > 1 for open_ in vars(self).values())


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
    redundant_experts: int = 0
    overlap: Overlap = "none"
    """Both as in a plan."""
    chunk_tokens: int | None = None
    """Of prefill and colocated workers; None is the engine's default."""
    choices: Choices = Choices()
    """Values that stand in for precision, kv_precision, speculation and chunk_tokens, one after the other."""
    mode: Mode = "any"
    max_gpus: int | None = None
    """With a rate: an upper limit. Without one: the budget whose goodput is asked for."""
    max_usd_per_h: float | None = None
    """Likewise in dollars per hour."""
    max_gpus_per_worker: int | None = None
    objective: Goal = "cost"
    """What is to be least: $/h, accelerators, or their rated power; ties go to the cheaper."""
    spare_workers: int = 0
    """Workers of each pool that may be down while every limit still holds."""
    headroom: float = 0.0
    """Share of the planned capacity that is left free: sized for rate / (1 − headroom)."""
    alternatives: int = 4
    mix: bool | None = None
    """Pools of several kinds of workers: tried, not tried, or (None) tried where an inventory limits."""
    certify: bool = False
    """Also bound the cost of every mix of worker types, by integer programming."""

    @property
    def wants_goodput(self) -> bool:
        """No rate given: the most requests per second that the budget serves within the SLO."""
        return self.workload.rate is None

    @property
    def is_robust(self) -> bool:
        """Whether plans are sized for more than the rate on workers that are all up."""
        return self.spare_workers > 0 or self.headroom > 0

    @property
    def sizing_workload(self) -> Workload:
        """The workload that has to be served with the spare workers down."""
        if self.wants_goodput or not self.headroom:
            return self.workload
        return self.workload.at_rate(self.workload.rate / (1.0 - self.headroom))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan and what it does."""

    plan: Plan
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class OtherKind:
    """A plan that differs from the best in kind, and why it comes after it."""

    candidate: Candidate
    differs_in: tuple[str, ...]
    """mode, or the pool with accelerator or parallelism: "prefill accelerator"."""
    why: str
    """What it needs more, or what it has less, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Infeasible:
    """Why there is no answer, how near the nearest miss is, and what would help."""

    binding: str
    """The limit that binds, in a sentence."""
    nearest: Candidate | None
    """The deployment that misses by least, None where the model fits nowhere."""
    misses: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By limit (ttft_s, tpot_s, request_latency_s, gpus, usd_per_h): (found, allowed)."""
    relax: tuple[str, ...] = ()
    """Changes that make the question feasible, each on its own where possible."""
    relax_usd_per_h: tuple[float, ...] = ()
    """What the plan costs that each of them allows, cheapest first; empty where that was not worked out."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What the plan does in the cases that its spare workers and its headroom are for."""

    sizing_rate: float
    """Requests/s: the rate / (1 − headroom)."""
    with_failures: Metrics
    """At the rate itself, `spare_workers` of each pool down."""
    at_sizing_rate: Metrics
    """At the sizing rate, as many down: the case that the plan is sized for."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A lower bound that no mix of worker types can undercut, and how far above it the plan is."""

    lower_bound: float
    """In what the objective counts: $/h, accelerators (also where prices are unknown) or watts;
    infinite where no mix can serve the rate."""
    gap: float
    """(cost of the plan - bound) / bound: 0 proves that no mix is cheaper."""
    solver_gap: float
    """What the integer programme's solver left open itself."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """What came of trying pools of several kinds of workers."""

    lower_bound: float
    """No mix, and no plan of equal workers, costs less; in what the objective counts. NaN for goodput."""
    gap: float
    """(cost of the best plan - bound) / bound; for goodput (bound - its rate) / its rate."""
    equal_workers: Candidate | None
    """The best plan of equal workers in each pool, None where there is none."""
    most_requests_per_s: float | None = None
    """For goodput: no plan serves more of the budget."""
    of_few_formats: bool = False
    """Whether mixes were tried with some of the formats alone that the question leaves open."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The cheapest plan, what else there is, and what binds."""

    question: Question
    world: World
    best: Candidate | None
    compared_by: Goal = "cost"
    """What plans were ranked by: GPUs instead of cost where any accelerator has no price."""
    alternatives: tuple[Candidate, ...] = ()
    """The next best, each different in layout or accelerator, cheapest first."""
    best_other_mode: Candidate | None = None
    """The best disaggregated plan where the best is colocated, and the other way round."""
    best_other_kind: OtherKind | None = None
    """The best plan that differs in kind."""
    binding: str = ""
    """What keeps the best plan from being cheaper, in a sentence."""
    certificate: Certificate | None = None
    mixture: Mixture | None = None
    """Where mixes were tried."""
    robustness: Robustness | None = None
    """Of the best plan, where spare workers or headroom were asked for."""
    infeasible: Infeasible | None = None
    notes: tuple[str, ...] = ()
    layouts: int = 0
    """Layouts evaluated."""


def amount(goal: Goal, metrics: Metrics) -> float:
    """What a plan takes of the thing that is to be least: $/h, GPUs or kW."""
    return float({"cost": metrics.usd_per_h, "gpus": metrics.gpus, "energy": metrics.power_kw}[goal])
