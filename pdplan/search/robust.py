"""Plans that outlast failures and peaks: the search counts the workers that serve, this adds the rest.

The search sizes every pool for the rate / (1 − headroom) with the workers that are left
when `spare_workers` of each pool are down, and counts the spare ones in the cost. What it
finds becomes the plan here: all workers up, at the rate that was asked for.
"""

from __future__ import annotations

from dataclasses import replace

from pdplan.compose import World, billed, evaluate_plan
from pdplan.plan import Plan, with_pool
from pdplan.question import Candidate, Question, Robustness
from pdplan.workload import Workload

QUEUE_ROOM = 0.01
"""Of the most goodput without a limit on TTFT, where prefill is what binds: prompts of a worker then wait for
fifty others (M/D/1: S/(2·room)), not for millions."""


def with_spare_workers(plan: Plan, spare: int) -> Plan:
    """The plan with `spare` more workers in each pool, of each kind (fewer, where negative)."""
    for name, pool in plan.pools.items():
        plan = with_pool(plan, name, replace(pool, workers=pool.workers + spare))
    return plan


def as_planned(sized: Candidate, question: Question, world: World) -> Candidate:
    """A candidate of the search with its spare workers, and what it does with all of them up.

    Evaluated on its own, as `pdplan evaluate` does: to the last digit the same.
    """
    plan = with_spare_workers(sized.plan, question.spare_workers)
    asked = _asked(sized, question)
    return Candidate(plan=plan, metrics=evaluate_plan(world, plan, asked, question.slo))


def as_found(sized: Candidate, question: Question, world: World) -> Candidate:
    """`as_planned`, by the search's own metrics where these are of the plan itself, but for rounding."""
    if question.is_robust or _room(sized, question):
        return as_planned(sized, question, world)
    return Candidate(plan=sized.plan, metrics=billed(sized.metrics, world, sized.plan))


def robustness_of(sized: Candidate, question: Question, world: World) -> Robustness | None:
    """What is left of a plan when workers fail, and when the headroom is used up, too."""
    if not question.is_robust:
        return None
    return Robustness(
        sizing_rate=float(sized.metrics.requests_per_s),
        with_failures=evaluate_plan(world, sized.plan, _asked(sized, question), question.slo),
        at_sizing_rate=sized.metrics,
    )


def _asked(sized: Candidate, question: Question) -> Workload:
    """The workload as asked for; where goodput is asked for, at the rate that leaves the headroom."""
    if question.wants_goodput:
        return question.workload.at_rate(sized.metrics.requests_per_s * (1.0 - _room(sized, question)))
    return question.workload


def _room(sized: Candidate, question: Question) -> float:
    """Share of the goodput that is not planned for: the headroom, or what lets an endless queue end.

    Without a limit on TTFT or the whole request prefill may be loaded until its queue grows for ever.
    """
    slo, parts = question.slo, sized.metrics.parts
    if not question.wants_goodput or slo.ttft_s is not None or slo.request_latency_s is not None:
        return question.headroom
    endless = parts["wait for prefill"] > parts["prefill"] / (2.0 * QUEUE_ROOM)
    return max(question.headroom, QUEUE_ROOM) if endless else question.headroom
