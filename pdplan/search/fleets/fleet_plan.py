"""What a fleet comes to: a plan for every deployment, the bill of all, or what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pdplan.compose import World, evaluate_plan, repriced
from pdplan.market import Bill, bill_of
from pdplan.plan import Plan
from pdplan.question import Candidate, Question
from pdplan.search.fleets.fleet import Bracket, Budgets, Shortage, Wanted, cheapest_fleet, least_shortage
from pdplan.search.recommend import recommend
from pdplan.search.robust import with_spare_workers
from pdplan.search.shortage import limited_hardware, unlimited


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A deployment of a fleet with its plan, spare workers included."""

    name: str
    question: Question
    world: World
    candidate: Candidate
    """Its cost is its accelerators at the fleet's mean price of each kind, idle ones included."""


@dataclass(frozen=True, kw_only=True)
class FleetInfeasible:
    """What binds, the nearest miss, and what would help."""

    binding: str
    nearest: tuple[Assigned, ...] = ()
    """The plans that miss by least; empty where some deployment has none at all."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """By deployment: why it has no plan with any number of accelerators."""
    misses: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By limit (inventory_NAME, usd_per_h, gpus): (found, allowed)."""
    relax: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FleetPlan:
    """The cheapest plans of all deployments together."""

    wanted: tuple[Wanted, ...]
    budgets: Budgets
    assigned: tuple[Assigned, ...]
    """Empty where there is no answer."""
    bill: Bill | None
    lower_bound: float = 0.0
    """No fleet costs less [$/h, or accelerators where a price is unknown]."""
    gap: float = 0.0
    """(cost - bound) / bound."""
    counts_gpus: bool = False
    """Ranked by accelerators for want of a price."""
    infeasible: FleetInfeasible | None = None

    @property
    def world(self) -> World:
        """Every accelerator of every deployment, with the market that they share."""
        first = self.wanted[0].world
        accelerators = {hw: a for each in self.wanted for hw, a in each.world.accelerators.items()}
        models = {name: m for each in self.wanted for name, m in each.world.models.items()}
        prices = {hw: p for each in self.wanted for hw, p in each.world.prices.items()}
        return replace(first, models=models, accelerators=accelerators, prices=prices)


def plan_fleet(wanted: Sequence[Wanted], budgets: Budgets | None = None) -> FleetPlan:
    """The cheapest fleet, proven as far as its gap says; or what binds and by how much."""
    asked, limits = tuple(wanted), budgets or Budgets()
    found = FleetPlan(
        wanted=asked,
        budgets=limits,
        assigned=(),
        bill=None,
        counts_gpus=any(np.isnan(each.world.price(hw)) for each in asked for hw in each.world.accelerators),
    )
    bracket = cheapest_fleet(asked, limits)
    if bracket is None:
        return replace(found, infeasible=_infeasible(found))
    assigned, bill = _assigned(found, bracket.plans)
    return replace(found, assigned=assigned, bill=bill, lower_bound=bracket.lower_bound, gap=bracket.gap)


# ------------------------------------------------------------------------ inside


def _assigned(fleet: FleetPlan, plans: Sequence[Plan]) -> tuple[tuple[Assigned, ...], Bill]:
    """Plans with their spare workers, at the fleet's prices, and the bill of all of them."""
    whole = [
        with_spare_workers(plan, each.question.spare_workers)
        for plan, each in zip(plans, fleet.wanted, strict=True)
    ]
    workers: dict[str, list[tuple[int, int]]] = {}
    for plan in whole:
        for pool in plan.pools.values():
            workers.setdefault(pool.hardware, []).append((pool.gpus_per_worker, pool.workers))
    world = fleet.world
    bill = bill_of(workers, {hw: world.tariff(hw) for hw in workers})
    mean = {
        hw: sum(line.usd_per_h for line in bill.lines if line.hardware == hw)
        / sum(size * count for size, count in many)
        for hw, many in workers.items()
    }
    found = []
    for plan, each in zip(whole, fleet.wanted, strict=True):
        usd = sum(pool.gpus * mean[pool.hardware] for pool in plan.pools.values())
        metrics = evaluate_plan(each.world, plan, each.question.workload, each.question.slo)
        candidate = Candidate(plan=plan, metrics=repriced(metrics, usd))
        found.append(Assigned(name=each.name, question=each.question, world=each.world, candidate=candidate))
    return tuple(found), bill


def _infeasible(fleet: FleetPlan) -> FleetInfeasible:
    """Deployments that work nowhere, else accelerators that are missing, else budgets that are short."""
    failing = {}
    relax: dict[str, tuple[str, ...]] = {}
    for each in fleet.wanted:
        alone = replace(each.question, mix=False, alternatives=0)
        free = unlimited(each.world, limited_hardware(each.question, each.world))
        answer = recommend(alone, free)
        if answer.best is None and answer.infeasible is not None:
            failing[each.name] = answer.infeasible.binding
            relax[each.name] = answer.infeasible.relax
    if failing:
        return FleetInfeasible(
            binding="; ".join(f"{name}: {why}" for name, why in failing.items()),
            failing=failing,
            relax=tuple(f"{name}: {change}" for name, many in relax.items() for change in many),
        )
    short = least_shortage(fleet.wanted, fleet.budgets)
    if short is not None and short.missing:
        return _short_inventory(fleet, short)
    free_of_budgets = Budgets(time_limit_s=fleet.budgets.time_limit_s)
    bracket = cheapest_fleet(fleet.wanted, free_of_budgets)
    if bracket is None:
        return FleetInfeasible(
            binding="no plans were found within the time limit", relax=("a longer time_limit",)
        )
    return _short_budget(fleet, bracket)


def _short_inventory(fleet: FleetPlan, short: Shortage) -> FleetInfeasible:
    world = fleet.world
    there = {hw: sum(lot.gpus for lot in world.lots(hw)) for hw in short.missing}
    assigned, _ = _assigned(fleet, short.plans)
    words = [
        f"{count:,} more {hw} than the {there[hw]:,.0f} there are" for hw, count in short.missing.items()
    ]
    return FleetInfeasible(
        binding=f"inventory: all deployments together need {' and '.join(words)}",
        nearest=assigned,
        misses={f"inventory_{hw}": (there[hw] + count, there[hw]) for hw, count in short.missing.items()},
        relax=(
            "inventory: "
            + ", ".join(f"{hw}: {there[hw] + count:.0f}" for hw, count in short.missing.items()),
        ),
    )


def _short_budget(fleet: FleetPlan, bracket: Bracket) -> FleetInfeasible:
    assigned, bill = _assigned(fleet, bracket.plans)
    gpus = float(sum(each.candidate.metrics.gpus for each in assigned))
    limits = fleet.budgets
    misses: dict[str, tuple[float, float]] = {}
    words, relax = [], []
    if bill.usd_per_h > limits.max_usd_per_h:
        misses["usd_per_h"] = (bill.usd_per_h, limits.max_usd_per_h)
        words.append(
            f"the cheapest plans cost ${bill.usd_per_h:,.2f}/h, ${limits.max_usd_per_h:,.2f} are allowed"
        )
        relax.append(f"max_usd_per_h: {np.ceil(bill.usd_per_h * 100) / 100:.2f}")
    if gpus > limits.max_gpus:
        misses["gpus"] = (gpus, limits.max_gpus)
        words.append(f"the plans take {gpus:,.0f} accelerators, {limits.max_gpus:,.0f} are allowed")
        relax.append(f"max_gpus: {gpus:.0f}")
    over = [
        each
        for each in assigned
        if each.question.max_gpus and each.candidate.metrics.gpus > each.question.max_gpus
    ]
    for each in over:
        words.append(
            f"{each.name} takes {each.candidate.metrics.gpus:,.0f}, {each.question.max_gpus:,} are allowed"
        )
    return FleetInfeasible(
        binding="; ".join(words) or "budgets and inventory cannot be kept together",
        nearest=assigned,
        misses=misses,
        relax=tuple([" with ".join(relax)] if relax else []),
    )
