"""Large fleets: which kinds of workers are worth following at all, by the prices of what is scarce.

For thousands of accelerators queues and whole workers hardly count. A linear programme in fractions
of workers, at the rates that no worker exceeds, bounds the fleet from below and prices every
accelerator, its scarcity included. At these prices deployments no longer compete: each keeps the
ways, and the kinds of workers in them, that come close to its cheapest; what they do within the
limits is worked out for those alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pdplan.market import Tariff
from pdplan.search.fleets.certificate import Bound, Types, least_cost, wants_of
from pdplan.search.fleets.ways import Deployment
from pdplan.search.space import Space
from pdplan.search.workers.candidates import DecodeChoices, PrefillChoices

MANY, LARGE_GPUS = 3, 200.0
"""Deployments, and accelerators of each on average, from which on a fleet is large."""
WAY, KIND = 1.05, 1.02
"""Ways and kinds of workers within such a factor of the cheapest are kept: queues differ by less."""
KINDS = 8
"""So many kinds of workers of a role on one accelerator are kept at most, the cheapest per request."""


def bound_of(
    deployments: Sequence[Deployment],
    tariffs: Mapping[str, Tariff],
    max_gpus: float,
    max_usd_per_h: float,
    missing: bool = False,
) -> Bound | None:
    """The linear programme's bound of a large fleet; None of a small one, where it says little."""
    wants = [
        wants_of(d.space, d.workload, float(d.question.max_gpus or np.inf), d.question.spare_workers)
        for d in deployments
    ]
    least = sum(
        min(
            (
                sum(each.rate * min(float(np.min(t.gpus / t.rate)) for t in role) for role in way.values())
                for way in each.ways
            ),
            default=0.0,
        )
        for each in wants
    )
    if len(wants) < MANY or least < LARGE_GPUS * len(wants):
        return None
    return least_cost(
        wants, tariffs, max_gpus=max_gpus, max_usd_per_h=max_usd_per_h, whole=False, missing=missing
    )


def keep_promising(deployment: Deployment, prices: Mapping[str, float]) -> None:
    """Drop the worker types of a deployment that are too dear at these prices to be part of a good plan."""
    space = deployment.space
    wants = wants_of(space, deployment.workload)
    ways = {
        tuple(way): sum(min(float(np.min(_per_request(t, prices))) for t in many) for many in way.values())
        for way in wants.ways
    }
    kept: dict[str, Any] = {role: {} for role in ("prefill", "decode", "colocated")}
    for way in wants.ways:
        if ways[tuple(way)] > WAY * min(ways.values()):
            continue
        for role, many in way.items():
            least = min(float(np.min(_per_request(t, prices))) for t in many)
            for types in many:
                each = _per_request(types, prices)
                order = np.argsort(each, kind="stable")[:KINDS]
                index = np.sort(order[each[order] <= KIND * least])
                if len(index):
                    kept[role][types.hardware] = _choices(space, role)[types.hardware].take(index)
    deployment.space = replace(space, **kept)


# ------------------------------------------------------------------------ inside


def _per_request(types: Types, prices: Mapping[str, float]) -> Any:
    return prices[types.hardware] * types.gpus / np.maximum(types.rate, 1e-300)


def _choices(space: Space, role: str) -> Mapping[str, PrefillChoices | DecodeChoices]:
    found: Mapping[str, PrefillChoices | DecodeChoices] = getattr(space, role)
    return found
