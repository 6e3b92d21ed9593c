"""Plans that differ in kind: in mode, in an accelerator, or in how a pool's workers are parallel.

Tensor-parallel workers of four and of eight accelerators are one kind; whoever can run one
can run the other. Pipeline stages and attention-dp ask for another way of serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pdplan.compose import World
from pdplan.laws.roofline import Array
from pdplan.layout import Layout
from pdplan.plan import Mixed, Plan, PoolPlan
from pdplan.question import Candidate, Question
from pdplan.search.ranked import best_first, ranked_plans
from pdplan.search.space import Space
from pdplan.search.workers.candidates import DecodeChoices, PrefillChoices

FAMILIES = ("tensor parallel", "pipeline", "attention-dp", "pipeline with attention-dp")
"""Of a worker, by pp > 1 and dp > 1. A worker of one accelerator is tensor parallel over one."""

SEVERAL = "several kinds"
"""In place of a family, where a pool has several kinds of workers; their accelerators: h100+l40s."""
PoolKind = tuple[str, str]
"""Accelerator and family."""
Kind = tuple[str, tuple[tuple[str, PoolKind], ...]]
"""Mode, and the kind of each pool by its role."""


def pool_kind(pool: PoolPlan) -> PoolKind:
    """
    >>> pool_kind(PoolPlan(hardware="h200", workers=2, tp=2, dp=16, ep=32))
    ('h200', 'attention-dp')
    """
    return pool.hardware, FAMILIES[(pool.pp > 1) + 2 * (pool.dp > 1)]


def kind_of(plan: Plan) -> Kind:
    """What has to be the same for two plans to be of one kind; of a mix the accelerators of each role."""
    if isinstance(plan, Mixed):
        names = {role: sorted({part.pool.hardware for part in parts}) for role, parts in plan.roles.items()}
        return plan.mode, tuple((role, ("+".join(each), SEVERAL)) for role, each in names.items())
    return plan.mode, tuple((role, pool_kind(pool)) for role, pool in plan.pools.items())


def differences(kind: Kind, other: Kind) -> tuple[str, ...]:
    """In what two kinds differ: mode, accelerator, parallelism; the last two with their pool.

    Workers of several kinds are parallel in several ways: of a mix the accelerators count.
    """
    (mode, pools), (other_mode, other_pools) = kind, other
    if mode != other_mode:
        return ("mode",)
    return tuple(
        f"{role} {what}"
        for (role, here), (_, there) in zip(pools, other_pools, strict=True)
        for what, a, b in zip(("accelerator", "parallelism"), here, there, strict=True)
        if a != b and (what == "accelerator" or SEVERAL not in (a, b))
    )


def of_kind(space: Space, kind: Kind) -> Space:
    """The plans of one kind alone."""
    _, pools = kind
    roles: dict[str, Any] = {role: {} for role in ("prefill", "decode", "colocated")}
    for role, pool in pools:
        roles[role] = _kept(getattr(space, role), pool, True)
    return replace(space, prefill=roles["prefill"], decode=roles["decode"], colocated=roles["colocated"])


def not_of_kind(space: Space, kind: Kind) -> tuple[Space, ...]:
    """Spaces that hold, together, every plan of the same mode and another kind."""
    mode, pools = kind
    alone = of_mode(space, mode)
    found = []
    for role, pool in pools:
        rest: Any = {role: _kept(getattr(space, role), pool, False)}
        found.append(replace(alone, **rest))
    return tuple(found)


def of_mode(space: Space, mode: str) -> Space:
    """The plans of one mode alone."""
    if mode == "colocated":
        return replace(space, prefill={}, decode={})
    return replace(space, colocated={})


def second_kind(
    question: Question, world: World, space: Space, ranked: Sequence[Candidate]
) -> Candidate | None:
    """The best plan that differs in kind from `ranked[0]`; None where there is none.

    `ranked` is what the search found, with the best of the other mode. Exact: what is better than the
    first of another kind in it is searched for, each pool in turn without its kind.
    """
    best, kind = ranked[0], kind_of(ranked[0].plan)
    known = next((c for c in ranked if kind_of(c.plan) != kind), None)
    ceiling, beyond = np.inf, 0.0
    if known is not None and question.wants_goodput:
        beyond = float(known.metrics.requests_per_s)
    elif known is not None:
        ceiling = space.objective.cost(known)
        if ceiling <= space.objective.cost(best) * (1 + 1e-9):
            return known
    objective = replace(space.objective, thorough=False, ceiling=ceiling, beyond=beyond)
    quick = replace(space, objective=objective)
    found = [known] if known else []
    for part in not_of_kind(quick, kind):
        found += ranked_plans(question, world, part)[:1]
    return next(iter(best_first(found, question, space.objective)), None)


def _kept(choices: Mapping[str, Any], pool: PoolKind, wanted: bool) -> dict[str, Any]:
    """Worker types by accelerator, those of a kind alone or all but those."""
    hardware, family = pool
    kept: dict[str, Any] = {}
    for name, types in choices.items():
        if name != hardware:
            if not wanted:
                kept[name] = types
            continue
        rest = _take(types, (_families(types) == FAMILIES.index(family)) == wanted)
        if len(rest):
            kept[name] = rest
    return kept


def _take(types: PrefillChoices | DecodeChoices, mask: Array) -> PrefillChoices | DecodeChoices:
    return types.take(np.flatnonzero(mask))


def _families(types: PrefillChoices | DecodeChoices) -> Array:
    layout: Layout = types.candidates.pool.layout
    return np.asarray((layout.pp > 1) + 2 * (layout.dp > 1))
