"""What the requests on each route of a mixed plan see: one kind of worker in each pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pdplan.compose import World, economics, mixed_routes
from pdplan.evaluate import meets
from pdplan.plan import Metrics, Mixed, Plan
from pdplan.serving.mixture import mixing_of
from pdplan.workload import Slo, Workload


@dataclass(frozen=True, kw_only=True)
class RouteMetrics:
    """One kind of worker in each pool, and what they do for their requests."""

    names: Mapping[str, str]
    """Name of the kind by role: {"prefill": "prefill 2", "decode": "decode"}."""
    share: float
    """Of all requests."""
    metrics: Metrics
    """Latencies are those of these requests; dollars and GPUs those of the route's pools."""
    meets: bool
    """Whether these requests keep every limit by themselves."""

    @property
    def title(self) -> str:
        return " → ".join(self.names.values())


def routes_of(world: World, plan: Plan, workload: Workload, slo: Slo) -> tuple[RouteMetrics, ...]:
    """Every route of a mixed plan; nothing of a plan of equal workers in each pool."""
    if not isinstance(plan, Mixed):
        return ()
    routes = mixed_routes(world, plan, workload, slo)
    each = mixing_of(routes, workload, slo, economics(world, plan.pools)).each
    return tuple(
        RouteMetrics(names=r.names, share=float(r.weight), metrics=m.at(0), meets=bool(meets(m, slo)[0]))
        for r, m in zip(routes, each, strict=True)
    )
