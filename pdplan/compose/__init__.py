"""The one composition point: (plan, workload, catalog) become metrics.

recommend, compare, check, explain and validate all come through here, so they cannot disagree.

world     everything that is given
settings  catalog entries become what formulas work on: settings, networks, pools
plans     metrics of a plan
bills     what it buys
"""

from pdplan.compose.bills import billed, mean_prices_usd_per_h, plan_bill, repriced
from pdplan.compose.plans import (
    economics,
    evaluate_plan,
    evaluate_pools,
    full_rate_requests_per_s,
    mixed_routes,
    plan_meets,
)
from pdplan.compose.settings import (
    KV_PRECISIONS,
    build_network,
    build_pool,
    build_setting,
    default_bandwidth,
    default_prompts,
    engine_case,
    kv_precision_for,
    with_copies,
)
from pdplan.compose.world import NetworkSpec, Variation, World

__all__ = [
    "KV_PRECISIONS",
    "NetworkSpec",
    "Variation",
    "World",
    "billed",
    "build_network",
    "build_pool",
    "build_setting",
    "default_bandwidth",
    "default_prompts",
    "economics",
    "engine_case",
    "evaluate_plan",
    "evaluate_pools",
    "full_rate_requests_per_s",
    "kv_precision_for",
    "mean_prices_usd_per_h",
    "mixed_routes",
    "plan_bill",
    "plan_meets",
    "repriced",
    "with_copies",
]
