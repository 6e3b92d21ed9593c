"""What a check finds: the types between judging and rendering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pdplan.budget.measures import MEMORY, Bound, Measure
from pdplan.compose import World
from pdplan.plan import Metrics, Plan
from pdplan.uncertainty import ErrorBar
from pdplan.workload import Slo, Workload

Status = Literal["met", "breached", "not judged"]

TOLERANCE = 1e-9
"""A limit of 83.2 is kept by 83.20000000000002: rounding is no breach."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A key in a file."""

    path: str
    line: int | None = None
    column: int | None = None
    key: str = ""

    def __str__(self) -> str:
        place = "".join(f":{n}" for n in (self.line, self.column) if n is not None)
        return f"{self.path}{place}"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A line of the budget."""

    measure: Measure
    bound: Bound
    value: float
    spot: Spot

    def kept_by(self, found: float) -> bool:
        """NaN keeps no limit."""
        slack = TOLERANCE * abs(self.value)
        return found <= self.value + slack if self.bound == "max" else found >= self.value - slack


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One entry of a budget file, read and resolved."""

    name: str
    plan: Plan
    workload: Workload
    slo: Slo
    """Its percentile is the one of plain `ttft`; its limits are among `limits` too."""
    world: World
    limits: tuple[Limit, ...]
    spot: Spot
    spots: dict[str, Spot] = field(default_factory=dict)
    """By field (decode.workers, workload.rate): the line to edit."""
    notes: tuple[str, ...] = ()
    split_by_rate: bool = False
    """Whether kinds of workers share their pool's requests by what each serves, no shares being stated."""

    def spot_of(self, name: str) -> Spot:
        """The line of a field, else of its nearest parent that is written down."""
        while name:
            if name in self.spots:
                return self.spots[name]
            name = name.rpartition(".")[0]
        return self.spots.get("", self.spot)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A budget file, read and resolved."""

    path: str
    deployments: tuple[Deployment, ...]
    total: tuple[Limit, ...] = ()
    catalog_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field of a plan, edited; None stands for a key that is not there."""

    field: str
    old: float | None
    """Whole but for a share."""
    new: float | None
    spot: Spot

    def __str__(self) -> str:
        old, new = self.old or "not set", self.new or "remove it"
        return f"{self.field}: {old} → {new}"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Changes to a plan, and what the plan then does: evaluated, not guessed."""

    changes: tuple[Change, ...]
    plan: Plan
    found: float
    """The measure of the finding, after the edit."""
    usd_per_h_delta: float
    gpus_delta: float
    still_breached: tuple[str, ...]
    """Other limits of the deployment that the edit leaves breached."""
    newly_breached: tuple[str, ...]
    """Limits that were met before the edit."""

    @property
    def meets_all(self) -> bool:
        return not self.still_breached and not self.newly_breached


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A limit and what was found."""

    deployment: str
    limit: Limit
    status: Status
    found: float | None
    """None where the deployment cannot do the work, so that the number would mean nothing."""
    reason: str = ""
    """Why it cannot, or what the number is made of."""
    expected: float | None = None
    """The estimate, where `found` is its pessimistic end at the confidence that was asked for."""
    bar: ErrorBar | None = None
    """Where 8 of 10 measurements would lie, where measured runs tell."""
    edit: Edit | None = None
    edit_spot: Spot | None = None

    @property
    def pessimistic(self) -> float | None:
        """The end of the 80 % interval that is nearer to a breach."""
        if self.bar is None:
            return None
        return self.bar.high if self.limit.bound == "max" else self.bar.low

    @property
    def at_risk(self) -> bool:
        """Met as found, and not at the pessimistic end of the 80 % interval: said, and no breach."""
        return (
            self.status == "met" and self.pessimistic is not None and not self.limit.kept_by(self.pessimistic)
        )

    @property
    def over_by(self) -> float | None:
        """How far beyond the limit, in the measure's unit; negative is margin."""
        if self.found is None:
            return None
        by = self.found - self.limit.value
        return by if self.limit.bound == "max" else -by

    @property
    def over_by_share(self) -> float | None:
        """The same as a share of the limit; None for a limit of zero."""
        by = self.over_by
        return by / self.limit.value if by is not None and self.limit.value else None

    @property
    def passing_limit(self) -> float | None:
        """The limit, rounded, that would pass; None where no limit mends it."""
        if not self.found or self.status != "breached" or self.limit.measure is MEMORY:
            return None
        passing = self.limit.measure.passing_limit(self.found, self.limit.bound)
        return None if self.limit.measure.quantity == "share" and passing > 1 else passing


@dataclass(frozen=True, kw_only=True)
class DeploymentCheck:
    """What one deployment does, beside its limits."""

    deployment: Deployment
    metrics: Metrics
    goodput_requests_per_s: float | None
    findings: tuple[Finding, ...]
    fix: Edit | None = None
    """One edit that meets every limit at once, where one was found."""

    @property
    def breaches(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.status == "breached")


@dataclass(frozen=True, kw_only=True)
class Check:
    """The answer of `pdplan check`."""

    path: str
    deployments: tuple[DeploymentCheck, ...]
    total: tuple[Finding, ...] = ()
    totals: dict[str, float] = field(default_factory=dict)
    catalog_sha256: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*(f for d in self.deployments for f in d.findings), *self.total)

    @property
    def breaches(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.status == "breached")

    @property
    def at_risk(self) -> tuple[Finding, ...]:
        """Limits that hold at the estimate and not at the pessimistic end."""
        return tuple(f for f in self.findings if f.at_risk)
