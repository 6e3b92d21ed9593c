"""What to edit in a plan so that a breached limit is met; every suggestion has been evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from pdplan.budget.measures import MEMORY
from pdplan.budget.result import Change, Deployment, Edit, Finding, Limit
from pdplan.budget.trial import Bench, breached_limits, needed_bytes
from pdplan.plan import CACHE, WEIGHTS, Mixed, Plan, PoolPlan, with_pool
from pdplan.split import split_anew

Meets = Callable[[Plan], bool]

MOST_WORKERS_FACTOR = 64
"""Nobody mends a deployment by a hundredfold of its workers; the search for a number stops here."""
SHARE_DIGITS = 3
"""As people write shares."""
BATCHES = tuple(2**i for i in range(13))
NEAR_BATCHES, FIRST_WORKERS = 3, (1, 2, 4, 8)
"""What a first of two changes is tried with: so many batches to either side, workers more."""
TENSOR_PARALLEL = (1, 2, 4, 8, 16)


def best_edit(bench: Bench, finding: Finding) -> Edit | None:
    """The edit that meets the finding's limit with the least side effects, None where none was found.

    One that meets every limit of the deployment comes before one that leaves or causes
    other breaches; then the cheaper one, then the one that changes less.
    """
    edits = [_edit(bench, plan, finding.limit) for plan in _candidates(bench, finding.limit)]
    return min(edits, key=_rank, default=None)


def edit_for_all(bench: Bench, breached: list[Finding]) -> Edit | None:
    """One edit that meets every limit: a finding's own, else more workers in several pools."""
    found = [f.edit for f in breached if f.edit is not None and f.edit.meets_all]
    if not found:
        plan = _more_workers(
            bench, lambda p: not breached_limits(bench, p), tuple(bench.deployment.plan.pools)
        )
        found = [_edit(bench, plan, breached[0].limit)] if plan else []
    return min(found, key=_rank, default=None)


def _rank(edit: Edit) -> tuple[float, ...]:
    grown = sum(abs((c.new or 0) - (c.old or 0)) for c in edit.changes)
    others = len(edit.still_breached) + 2 * len(edit.newly_breached)
    return (others, edit.usd_per_h_delta, len(edit.changes), grown)


def _edit(bench: Bench, plan: Plan, limit: Limit) -> Edit:
    before, after = bench.metrics(bench.deployment.plan), bench.metrics(plan)
    breached = {x.measure.key for x in breached_limits(bench, bench.deployment.plan)}
    left = list(dict.fromkeys(x.measure.key for x in breached_limits(bench, plan)))
    memory = limit.measure is MEMORY
    found = needed_bytes(bench.memory(plan)[1]) if memory else bench.value(limit.measure, plan)
    assert found is not None  # the edit meets a limit on it
    return Edit(
        changes=_changes(bench.deployment, plan),
        plan=plan,
        found=found,
        usd_per_h_delta=float(after.usd_per_h - before.usd_per_h),
        gpus_delta=float(after.gpus - before.gpus),
        still_breached=tuple(key for key in left if key in breached),
        newly_breached=tuple(key for key in left if key not in breached),
    )


def _changes(deployment: Deployment, plan: Plan) -> tuple[Change, ...]:
    changes = []
    for role, new in plan.pools.items():
        old = deployment.plan.pools[role]
        for name in ("workers", "tp", "pp", "dp", "ep", "max_batch"):
            if getattr(old, name) != getattr(new, name):
                field = f"{role}.{name}"
                spot = deployment.spot_of(field)
                changes.append(Change(field=field, old=getattr(old, name), new=getattr(new, name), spot=spot))
    before = deployment.plan
    if isinstance(before, Mixed) and isinstance(plan, Mixed) and not deployment.split_by_rate:
        pairs = zip(before.named_parts.items(), plan.named_parts.values(), strict=True)
        for (name, old_part), new_part in pairs:
            if old_part.share != new_part.share:
                field = f"{name}.share"
                spot = deployment.spot_of(field)
                changes.append(Change(field=field, old=old_part.share, new=new_part.share, spot=spot))
    return tuple(changes)


def _candidates(bench: Bench, limit: Limit) -> Iterator[Plan]:
    """Edited plans that meet the limit and can do their work: the smallest change of each field."""
    deployment = bench.deployment
    before = deployment.plan

    def meets(plan: Plan) -> bool:
        problem = bench.metrics(plan).problem
        if limit.measure is MEMORY:
            return problem not in (WEIGHTS, CACHE)
        works = problem == 0 or (problem == bench.metrics(before).problem and problem not in (WEIGHTS, CACHE))
        return works and bench.keeps(limit, plan)

    wider = limit.measure is MEMORY
    single: list[Plan | None] = [] if wider else [_other_shares(bench)]
    for role, pool in before.pools.items():
        single += [_other_layout(bench, role, layout, meets) for layout in _layouts(deployment, pool, wider)]
        if limit.measure is not MEMORY:  # which no number of workers or requests can mend
            single.append(_more_workers(bench, meets, (role,)))
            single.append(_fewer_workers(bench, lambda p: bench.keeps(limit, p), role, pool))
            single += _other_batches(bench, meets, role, pool)
    found = [p for p in single if p is not None and meets(p)]
    if limit.measure is not MEMORY:
        if not found and (joint := _more_workers(bench, meets, tuple(before.pools))):
            found = [joint]
        found += _in_two_changes(bench, meets, found)
    yield from found


def _in_two_changes(bench: Bench, meets: Meets, single: list[Plan]) -> list[Plan]:
    """Two changes that meet every limit for less than any one that does; the second: more workers."""

    def usd_per_h(plan: Plan) -> float:
        return float(bench.metrics(plan).usd_per_h)

    def meets_all(plan: Plan) -> bool:
        return meets(plan) and not breached_limits(bench, plan)

    best = min((usd_per_h(plan) for plan in single if meets_all(plan)), default=np.inf)
    found: list[Plan] = []
    # Nothing is cheaper than what costs nothing.
    for first in _first_changes(bench) if best > usd_per_h(bench.deployment.plan) else ():
        for role, pool in first.pools.items():
            one_more = usd_per_h(_with_workers(bench, first, role, pool.workers + 1)) - usd_per_h(first)
            most = (best - usd_per_h(first)) / one_more if one_more > 0 else 0.0
            if most > 0:
                top = pool.workers + min(int(np.ceil(min(most, 1e6))) - 1, pool.workers * MOST_WORKERS_FACTOR)
                if more := _more_workers(bench, meets_all, (role,), first, top):
                    found.append(more)
                    best = usd_per_h(more)
    return found


def _first_changes(bench: Bench) -> Iterator[Plan]:
    """Another batch, another tp or a few more workers of a pool, whether or not that does."""
    plan = bench.deployment.plan
    for role, pool in plan.pools.items():
        batch = pool.max_batch or round(bench.metrics(plan).max_batch[role])
        above = [b for b in BATCHES if b > batch][:NEAR_BATCHES] if pool.max_batch else []
        below = [b for b in BATCHES if b < batch][-NEAR_BATCHES:]
        changed = [replace(pool, max_batch=b) for b in (*above, *below)]
        changed += _layouts(bench.deployment, pool, wider=False)
        changed += [replace(pool, workers=pool.workers + n) for n in FIRST_WORKERS]
        yield from (_with_pool(bench, plan, role, each) for each in changed)


def _more_workers(
    bench: Bench, meets: Meets, roles: tuple[str, ...], start: Plan | None = None, most: int | None = None
) -> Plan | None:
    """The fewest workers of these pools, none fewer than at the start, with which the plan meets its limits.

    Pools are brought down one after the other from many more: exact where each pool's
    number has a bound of its own, as prefill's has from TTFT and decode's from TPOT.
    """
    plan = start or bench.deployment.plan
    now = {role: plan.pools[role].workers for role in roles}
    for role in roles:
        plan = _with_workers(bench, plan, role, most or now[role] * MOST_WORKERS_FACTOR)
    if not meets(plan):
        return None
    for role in roles:
        # Galloping upwards first: the answer is usually near.
        low, step, top = now[role] - 1, 1, plan.pools[role].workers
        while low + step < top and not meets(_with_workers(bench, plan, role, low + step)):
            low, step = low + step, step * 2
        high = min(low + step, top)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if meets(_with_workers(bench, plan, role, middle)) else (middle, high)
        plan = _with_workers(bench, plan, role, high)
    return plan if plan != bench.deployment.plan else None


def _fewer_workers(bench: Bench, meets: Meets, role: str, pool: PoolPlan) -> Plan | None:
    """The most workers below the present number that meet the limit."""
    plan = bench.deployment.plan
    low, high = 1, pool.workers
    if high == 1 or not meets(_with_workers(bench, plan, role, 1)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if meets(_with_workers(bench, plan, role, middle)) else (low, middle)
    return _with_workers(bench, plan, role, low)


def _other_batches(bench: Bench, meets: Meets, role: str, pool: PoolPlan) -> list[Plan | None]:
    """The nearest batches that meet the limit: below the present one, and above it where one is stated."""
    plan = bench.deployment.plan
    now = pool.max_batch or round(bench.metrics(plan).max_batch[role])
    above = [b for b in BATCHES if b > now] if pool.max_batch else []
    below = [b for b in reversed(BATCHES) if b < now]
    edited = [
        [_with_pool(bench, plan, role, replace(pool, max_batch=b)) for b in bs] for bs in (above, below)
    ]
    return [next((p for p in plans if meets(p)), None) for plans in edited]


def _other_layout(bench: Bench, role: str, layout: PoolPlan, meets: Meets) -> Plan | None:
    plan = _with_pool(bench, bench.deployment.plan, role, layout)
    return plan if meets(plan) else None


def _other_shares(bench: Bench) -> Plan | None:
    """Of a mix with stated shares, its requests split by what each kind of worker serves."""
    own = bench.deployment
    if not isinstance(own.plan, Mixed) or own.split_by_rate:
        return None
    return split_anew(own.world, own.plan, own.workload, own.slo, digits=SHARE_DIGITS)


def _layouts(deployment: Deployment, pool: PoolPlan, wider: bool) -> Iterator[PoolPlan]:
    """The same pool with another tp, also with more stages and ranks where `wider`; experts spread alike."""
    from pdplan.architecture.stack import fold
    from pdplan.search.workers.layouts import layouts

    accelerator = deployment.world.accelerator(pool.hardware)
    more = (1, 2, 4) if wider else (1,)
    allowed = layouts(
        fold(deployment.world.model(deployment.plan.model)),
        accelerator.scale_up_domain_size,
        accelerator.accelerators_per_node,
        max(TENSOR_PARALLEL) * pool.pp * pool.dp * max(more),
    )
    valid = {tuple(map(int, row)) for row in zip(allowed.tp, allowed.pp, allowed.dp, allowed.ep, strict=True)}
    for tp, stages, ranks in product(TENSOR_PARALLEL, more, more):
        pp, dp = pool.pp * stages, pool.dp * ranks
        for ep in sorted({pool.ep, max(pool.ep * tp * dp // (pool.tp * pool.dp), 1)}):
            if (tp, pp, dp) != (pool.tp, pool.pp, pool.dp) and (tp, pp, dp, ep) in valid:
                yield replace(pool, tp=tp, pp=pp, dp=dp, ep=ep)


def _with_workers(bench: Bench, plan: Plan, role: str, workers: int) -> Plan:
    return _with_pool(bench, plan, role, replace(plan.pools[role], workers=workers))


def _with_pool(bench: Bench, plan: Plan, role: str, pool: PoolPlan) -> Plan:
    """The edited plan; requests without stated shares are split anew, as reading the edited file would."""
    changed, own = with_pool(plan, role, pool), bench.deployment
    if own.split_by_rate and isinstance(changed, Mixed):
        return split_anew(own.world, changed, own.workload, own.slo)
    return changed
