"""What came of trying pools of several kinds of workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pdplan.plan import Mixed
from pdplan.printing import percentile_name
from pdplan.question import Candidate, Mixture, Recommendation, amount
from pdplan.report.blocks import Block, Cell, table
from pdplan.report.contract import candidate_json
from pdplan.report.words import GOALS, cost_words, counted, goal_of, per_cent, plan_words
from pdplan.routes import RouteMetrics
from pdplan.units import format_duration, format_money, format_percent, format_rate
from pdplan.workload import Slo

PROVEN = 1e-6
"""A gap below this is one of rounding."""


def mixture_json(mixture: Mixture | None) -> dict[str, Any] | None:
    """The `mixture`: null where no mixes were tried."""
    if mixture is None:
        return None
    most = mixture.most_requests_per_s
    return {
        "lower_bound": mixture.lower_bound,
        **({} if most is None else {"most_requests_per_s": most}),
        "gap": mixture.gap,
        "equal_workers": candidate_json(mixture.equal_workers),
    }


def routes_json(routes: Sequence[RouteMetrics]) -> dict[str, Any]:
    """Under `routes` what the requests on each route see; nothing of a plan of equal workers."""
    if not routes:
        return {}
    return {
        "routes": [
            {
                "kinds": dict(route.names),
                "share": route.share,
                **{name: getattr(route.metrics, name) for name in ROUTE_METRICS},
                "meets": route.meets,
                "problem": route.metrics.reason or None,
            }
            for route in routes
        ]
    }


ROUTE_METRICS = (
    "ttft_mean_s",
    "ttft_slo_s",
    "tpot_mean_s",
    "tpot_slo_s",
    "request_latency_mean_s",
    "request_latency_slo_s",
    "kv_transfer_mean_s",
)
"""Fields of Metrics that are a route's own."""


def routes_blocks(routes: Sequence[RouteMetrics], slo: Slo) -> list[Block]:
    """A table of the routes, since what all requests together see may hide a slow one."""
    if not routes:
        return []
    at = percentile_name(slo.percentile)
    rows: list[tuple[Cell | str, ...]] = [
        (
            route.title,
            per_cent(route.share),
            format_duration(route.metrics.ttft_mean_s),
            format_duration(route.metrics.ttft_slo_s),
            format_duration(route.metrics.tpot_mean_s),
            format_duration(route.metrics.tpot_slo_s),
            _verdict(route),
        )
        for route in routes
    ]
    columns = f"route|>requests|>?TTFT mean|>TTFT {at}|>?TPOT mean|>TPOT {at}|limits"
    return [table("Requests by kind of worker", columns, rows)]


def _verdict(route: RouteMetrics) -> Cell:
    if route.metrics.problem:
        return Cell("overrun", "bad")
    return Cell("met", "good") if route.meets else Cell("missed", "bad")


def mixture_words(found: Recommendation) -> str:
    """Whether a mix won, by how much, and how near the plan is to the least possible."""
    mixture, best = found.mixture, found.best
    assert mixture is not None
    assert best is not None
    if mixture.most_requests_per_s is not None:
        return _goodput_words(mixture, best)
    goal = goal_of(found.compared_by, best.metrics)
    if not isinstance(best.plan, Mixed):
        words = "mixes of kinds of workers were tried; none is cheaper than equal workers in each pool"
    elif mixture.equal_workers is None:
        words = "no plan of equal workers in each pool does it within the inventory; this mix does"
    else:
        equal = mixture.equal_workers
        ratio = amount(goal, equal.metrics) / amount(goal, best.metrics)
        words = (
            f"equal workers in each pool, {plan_words(equal.plan)}, take {cost_words(equal.metrics)}: "
            f"{ratio:.2f} times the {GOALS[goal]}"
        )
    bound = f"{format_money(mixture.lower_bound)}/h"
    if goal == "gpus":
        bound = counted(math.ceil(mixture.lower_bound - 1e-6), "GPU")
    elif goal == "energy":
        bound = f"{mixture.lower_bound / 1e3:,.1f} kW"
    none = "no plan in these formats takes less" if mixture.of_few_formats else "no plan takes less"
    if mixture.gap < PROVEN:
        return f"{words}; {none} (integer programme, gap 0)"
    return f"{words}; {none} than {bound}, {format_percent(mixture.gap, 2)} below this one"


def _goodput_words(mixture: Mixture, best: Candidate) -> str:
    """Whether a mix serves more of the budget, and how near that is to the most possible."""
    equal, most = mixture.equal_workers, mixture.most_requests_per_s
    assert equal is not None
    assert most is not None
    words = "mixes of kinds of workers were tried; none serves more than equal workers in each pool"
    if isinstance(best.plan, Mixed):
        ratio = best.metrics.requests_per_s / equal.metrics.requests_per_s
        words = (
            f"equal workers in each pool, {plan_words(equal.plan)}, serve "
            f"{format_rate(equal.metrics.requests_per_s)}: this mix {ratio:.2f} times as many"
        )
    none = "no plan in these formats serves" if mixture.of_few_formats else "no plan serves"
    return f"{words}; {none} more than {format_rate(most)}, {format_percent(mixture.gap, 2)} above this one"
