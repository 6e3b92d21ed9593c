"""What to edit in a plan so that a breached limit is met; every suggestion has been evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pdplan.budget.measures import MEMORY
from pdplan.budget.result import Change, Deployment, Edit, Finding
from pdplan.budget.trial import Bench, needed_bytes
from pdplan.errors import InputError
from pdplan.plan import CACHE, WEIGHTS, Plan, PoolPlan

Judge = Callable[[Bench, Plan], list[Finding]]

MOST_WORKERS_FACTOR = 64
"""Nobody mends a deployment by a hundredfold of its workers; the search for a number stops here."""
BATCHES = tuple(2**i for i in range(13))
TENSOR_PARALLEL = (1, 2, 4, 8, 16)


def best_edit(bench: Bench, finding: Finding, judge: Judge) -> Edit | None:
    """The smallest edit of one line that meets the finding's limit, cheapest side effects first.

    An edit that meets every limit of the deployment comes before one that breaches
    another; then the cheaper one, then the one that changes fewer lines.
    """
    edits = [_edit(bench, plan, finding, judge) for plan in _candidates(bench, finding)]
    return min(edits, key=_rank, default=None)


def edit_for_all(bench: Bench, breached: list[Finding], judge: Judge) -> Edit | None:
    """One edit that meets every limit: a finding's own, else all workers' increases together."""
    single = [f.edit for f in breached if f.edit is not None]
    found = [e for e in single if e.meets_all]
    if not found and len(single) > 1:
        plan = bench.deployment.plan
        for edit in single:
            for change in edit.changes:
                role, _, name = change.field.partition(".")
                if name == "workers" and (change.new or 0) > plan.pools[role].workers:
                    plan = _with_pool(plan, role, replace(plan.pools[role], workers=change.new or 1))
        if plan != bench.deployment.plan:
            joint = _edit(bench, plan, breached[0], judge)
            found = [joint] if joint.meets_all else []
    return min(found, key=_rank, default=None)


def _rank(edit: Edit) -> tuple[float, ...]:
    grown = sum(abs((c.new or 0) - (c.old or 0)) for c in edit.changes)
    return (len(edit.breaches), edit.usd_per_h_delta, len(edit.changes), grown)


def _edit(bench: Bench, plan: Plan, finding: Finding, judge: Judge) -> Edit:
    before, after = bench.metrics(bench.deployment.plan), bench.metrics(plan)
    breaches = [f.limit.measure.key for f in judge(bench, plan) if f.status == "breached"]
    return Edit(
        changes=_changes(bench.deployment, plan),
        plan=plan,
        found=_found(bench, finding, plan) or 0.0,
        usd_per_h_delta=float(after.usd_per_h - before.usd_per_h),
        gpus_delta=float(after.gpus - before.gpus),
        breaches=tuple(dict.fromkeys(breaches)),
    )


def _changes(deployment: Deployment, plan: Plan) -> tuple[Change, ...]:
    changes = []
    for role, new in plan.pools.items():
        old = deployment.plan.pools[role]
        for name in ("workers", "tp", "ep", "max_batch"):
            if getattr(old, name) != getattr(new, name):
                field = f"{role}.{name}"
                spot = deployment.spot_of(field)
                changes.append(Change(field=field, old=getattr(old, name), new=getattr(new, name), spot=spot))
    return tuple(changes)


def _found(bench: Bench, finding: Finding, plan: Plan) -> float | None:
    if finding.limit.measure is MEMORY:
        return needed_bytes(bench.memory(plan)[1])
    return bench.value(finding.limit.measure, plan)


def _meets(bench: Bench, finding: Finding, plan: Plan) -> bool:
    if finding.limit.measure is MEMORY:
        return bench.metrics(plan).problem not in (WEIGHTS, CACHE)
    found = bench.value(finding.limit.measure, plan)
    return found is not None and finding.limit.kept_by(found)


def _candidates(bench: Bench, finding: Finding) -> Iterator[Plan]:
    """Edited plans that meet the finding's limit, the smallest change of each field."""
    deployment = bench.deployment
    for role, pool in deployment.plan.pools.items():
        for edited in (
            _more_workers(bench, finding, role, pool),
            _fewer_workers(bench, finding, role, pool),
            *_other_batches(bench, finding, role, pool),
        ):
            if edited is not None:
                yield edited
        for layout in _layouts(deployment, pool):
            plan = _with_pool(deployment.plan, role, layout)
            if _meets(bench, finding, plan):
                yield plan


def _more_workers(bench: Bench, finding: Finding, role: str, pool: PoolPlan) -> Plan | None:
    """The fewest workers above the present number that meet the limit."""

    def plan(workers: int) -> Plan:
        return _with_pool(bench.deployment.plan, role, replace(pool, workers=workers))

    low, high = pool.workers, pool.workers * MOST_WORKERS_FACTOR
    if finding.limit.measure is MEMORY or not _meets(bench, finding, plan(high)):
        return None
    step = 1
    while low + step < high and not _meets(bench, finding, plan(low + step)):
        low, step = low + step, step * 2
    high = min(low + step, high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _meets(bench, finding, plan(middle)) else (middle, high)
    return plan(high)


def _fewer_workers(bench: Bench, finding: Finding, role: str, pool: PoolPlan) -> Plan | None:
    """The most workers below the present number that meet the limit."""

    def plan(workers: int) -> Plan:
        return _with_pool(bench.deployment.plan, role, replace(pool, workers=workers))

    low, high = 1, pool.workers
    if finding.limit.measure is MEMORY or high == 1 or not _meets(bench, finding, plan(1)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _meets(bench, finding, plan(middle)) else (low, middle)
    return plan(low)


def _other_batches(bench: Bench, finding: Finding, role: str, pool: PoolPlan) -> Iterator[Plan]:
    """Batches nearest to the present one, above and below; and none stated, where one is."""
    if finding.limit.measure is MEMORY:
        return
    now = pool.max_batch or round(bench.metrics(bench.deployment.plan).max_batch[role])
    above = [b for b in BATCHES if b > now] if pool.max_batch else []
    for choices in (above, [b for b in reversed(BATCHES) if b < now]):
        for batch in choices:
            plan = _with_pool(bench.deployment.plan, role, replace(pool, max_batch=batch))
            if _meets(bench, finding, plan):
                yield plan
                break


def _layouts(deployment: Deployment, pool: PoolPlan) -> Iterator[PoolPlan]:
    """The same pool with another tp, the experts spread as widely as before relative to it."""
    from pdplan.architecture.stack import fold
    from pdplan.search.layouts import layouts

    accelerator = deployment.world.accelerator(pool.hardware)
    stack = fold(deployment.world.model(deployment.plan.model))
    allowed = layouts(
        stack,
        accelerator.scale_up_domain_size,
        accelerator.accelerators_per_node,
        max(TENSOR_PARALLEL) * pool.pp * pool.dp,
    )
    valid = {tuple(map(int, row)) for row in zip(allowed.tp, allowed.pp, allowed.dp, allowed.ep, strict=True)}
    for tp in TENSOR_PARALLEL:
        widths = {pool.ep, max(pool.ep * tp // pool.tp, 1)} if tp != pool.tp else set()
        for ep in sorted(widths):
            if (tp, pool.pp, pool.dp, ep) in valid:
                yield replace(pool, tp=tp, ep=ep)


def _with_pool(plan: Plan, role: str, pool: PoolPlan) -> Plan:
    if role not in plan.pools:
        raise InputError(f"the plan has no {role} pool")
    return replace(plan, **{role: pool})
