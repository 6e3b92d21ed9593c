"""How a mixed pool's requests are split where nothing says so: by what each kind of worker serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pdplan.compose import World, full_rate_requests_per_s
from pdplan.plan import Mixed, Part, PoolPlan, Serving, plan_of
from pdplan.workload import Slo, Workload

DIGITS = 9
"""Digits of a share: more than a router knows, fewer than JSON prints."""


def split_by_rate(
    world: World, serving: Serving, role: str, kinds: Sequence[PoolPlan], workload: Workload, slo: Slo
) -> tuple[Part, ...]:
    """Kinds of workers of one role, requests split in proportion to what each serves with full batches."""
    rates = [full_rate_requests_per_s(world, serving, kind, role, workload, slo) for kind in kinds]
    return tuple(Part(pool=kind, share=share) for kind, share in zip(kinds, proportional(rates), strict=True))


def proportional(rates: Sequence[float], digits: int = DIGITS) -> tuple[float, ...]:
    """Shares in proportion to rates, rounded so that what is printed of them is all of them.

    >>> proportional([2.0, 1.0])
    (0.666666667, 0.333333333)
    """
    *first, _ = (round(rate / sum(rates), digits) for rate in rates)
    return (*first, round(1.0 - sum(first), digits))


def split_anew(world: World, plan: Mixed, workload: Workload, slo: Slo, digits: int = DIGITS) -> Mixed:
    """The plan with every pool's requests split by what its kinds of workers serve now."""
    roles: dict[str, Any] = {}
    for role, parts in plan.roles.items():
        split = split_by_rate(world, plan, role, [part.pool for part in parts], workload, slo)
        shares = proportional([part.share for part in split], digits)
        roles[role] = tuple(
            Part(pool=part.pool, share=share) for part, share in zip(parts, shares, strict=True)
        )
    found = plan_of(plan, **roles)
    assert isinstance(found, Mixed)
    return found
