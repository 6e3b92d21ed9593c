"""Judge a budget: every limit of every deployment, and what would mend the breaches."""

from __future__ import annotations

import math
from dataclasses import replace

from pdplan.budget.edits import best_edit, edit_for_all
from pdplan.budget.measures import MEMORY, TOTALS
from pdplan.budget.result import Budget, Check, Deployment, DeploymentCheck, Edit, Finding, Limit
from pdplan.budget.trial import Bench, limits_of, needed_bytes
from pdplan.errors import InputError, NoPriceError
from pdplan.plan import CACHE, PROBLEMS, WEIGHTS, Plan


def check_budget(budget: Budget, *, suggest: bool = True) -> Check:
    """Evaluate every deployment and compare it with its limits; `suggest` looks for edits that mend breaches.

    Raises NoPriceError where a cost is limited but an accelerator has no price.
    """
    _require_prices(budget)
    checked = tuple(check_deployment(d, suggest=suggest) for d in budget.deployments)
    totals = {key: sum(float(getattr(c.metrics, key)) for c in checked) for key in TOTALS}
    return Check(
        path=budget.path,
        deployments=checked,
        total=tuple(_total(limit, totals, checked) for limit in budget.total),
        totals=totals,
        catalog_sha256=budget.catalog_sha256,
    )


def check_deployment(deployment: Deployment, *, suggest: bool = True) -> DeploymentCheck:
    """One deployment beside its limits."""
    bench = Bench(deployment)
    plan = deployment.plan
    findings = judge(bench, plan)
    breached = [f for f in findings if f.status == "breached"]
    fix = None
    if suggest and breached:
        findings = [_with_edit(f, best_edit(bench, f)) if f in breached else f for f in findings]
        fix = edit_for_all(bench, [f for f in findings if f.status == "breached"])
    limited = any(limit.measure.is_latency for limit in deployment.limits)
    feasible = bench.metrics(plan).problem not in (WEIGHTS, CACHE)
    return DeploymentCheck(
        deployment=deployment,
        metrics=bench.metrics(plan),
        goodput_requests_per_s=(bench.goodput(plan) if feasible else 0.0) if limited else None,
        findings=tuple(findings),
        fix=fix,
    )


def judge(bench: Bench, plan: Plan) -> list[Finding]:
    """Findings for every limit of the deployment, and for what keeps the plan from working at all."""
    name = bench.deployment.name
    reason = PROBLEMS[bench.metrics(plan).problem]
    found: list[Finding] = []
    for limit in limits_of(bench, plan):
        if limit.measure is MEMORY:
            role, memory = bench.memory(plan)
            why = f"{reason} of {plan.pools[role].hardware} ({role} pool)"
            needed = needed_bytes(memory)
            found.append(Finding(deployment=name, limit=limit, status="breached", found=needed, reason=why))
            continue
        value = bench.value(limit.measure, plan)
        if value is None or math.isnan(value):
            found.append(
                Finding(deployment=name, limit=limit, status="not judged", found=None, reason=reason)
            )
            continue
        met = limit.kept_by(value)
        why = "" if met or limit.measure.key in TOTALS else reason
        estimate = bench.estimate(limit.measure, plan)
        found.append(
            Finding(
                deployment=name,
                limit=limit,
                status="met" if met else "breached",
                found=value,
                reason=why,
                expected=None if estimate == value else estimate,
                bar=bench.bar(limit.measure, plan),
            )
        )
    return found


def _with_edit(finding: Finding, edit: Edit | None) -> Finding:
    return finding if edit is None else replace(finding, edit=edit, edit_spot=edit.changes[0].spot)


def _total(limit: Limit, totals: dict[str, float], checked: tuple[DeploymentCheck, ...]) -> Finding:
    """A limit on the sum over deployments; the reason names the largest."""
    key = limit.measure.key
    largest = max(checked, key=lambda c: float(getattr(c.metrics, key)))
    share = limit.measure.show(float(getattr(largest.metrics, key)))
    kept = limit.kept_by(totals[key])
    return Finding(
        deployment="total",
        limit=limit,
        status="met" if kept else "breached",
        found=totals[key],
        reason="" if kept else f"'{largest.deployment.name}' is the largest with {share}",
    )


def _require_prices(budget: Budget) -> None:
    messages: dict[str, None] = {}
    for d in budget.deployments:
        limits = [x for x in (*d.limits, *budget.total) if x.measure.quantity == "money"]
        for pool in d.plan.pools.values() if limits else ():
            if math.isnan(d.world.price(pool.hardware)):
                messages[
                    f"{limits[0].spot}: '{limits[0].measure.key}' is limited, but no price is known for "
                    f"{pool.hardware}; add one, e.g. prices: {{{pool.hardware}: 2.60}}"
                ] = None
    if messages:
        raise NoPriceError(*messages)
    if not budget.deployments:
        raise InputError(f"{budget.path}: there is no deployment to check")
