"""Pools of several kinds of workers, where that pays: beside or instead of what the plain search found.

Without limits a mix rarely wins: the kind of worker that is cheapest per request is cheapest for all
of them, but for the last few. With an inventory the cheapest kind runs out, and a mix is
the rule. So mixes are tried where an inventory keeps the plain search from a cheaper plan, and
where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pdplan.compose import World, evaluate_plan
from pdplan.plan import Mixed
from pdplan.question import Candidate, Mixture, Question, Recommendation
from pdplan.search.fleet import Budgets, Wanted, cheapest_fleet
from pdplan.search.objective import HAIR, build_objective
from pdplan.search.reasons import binding_sentence
from pdplan.search.robust import as_planned, robustness_of, with_spare_workers
from pdplan.search.shortage import limited_hardware, unlimited

Search = Callable[[Question, World], Recommendation]


def with_mixes(found: Recommendation, world: World, search: Search) -> Recommendation:
    """The answer with the cheapest mix in place of its best plan, where that is cheaper."""
    question = found.question
    if question.wants_goodput or question.mix is False:
        return found
    if question.choices:  # every combination of formats would be a programme of its own
        note = "mixes of workers are not tried where formats are open: ask again with those chosen"
        return replace(found, notes=(*found.notes, note)) if question.mix else found
    if not _worth_it(found, world, search):
        return found
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    objective = build_objective(question, world, names)
    bracket = cheapest_fleet(
        [Wanted(name="", question=question, world=world)],
        Budgets(max_usd_per_h=np.inf if question.max_usd_per_h is None else question.max_usd_per_h),
    )
    if bracket is None:
        return found
    equal = found.best
    hair = 1.0 if question.objective == "cost" else 1.0 + HAIR
    known = objective.cost(_sized(equal, question)) if equal else np.inf
    cost = min(bracket.cost, known)
    mixture = Mixture(
        lower_bound=min(bracket.lower_bound, cost) / hair,
        gap=max(cost / bracket.lower_bound - 1.0, 0.0) if bracket.lower_bound > 0 else 0.0,
        equal_workers=equal,
    )
    if bracket.cost >= known * (1 - 1e-9):
        return replace(found, mixture=mixture)
    plan = bracket.plans[0]
    metrics = evaluate_plan(world, plan, question.sizing_workload, question.slo)
    best = Candidate(plan=plan, metrics=metrics)
    rest = found.alternatives if equal is None else (equal, *found.alternatives)[: question.alternatives]
    other = found.best_other_mode
    if equal is not None and equal.plan.mode != plan.mode:
        other = equal
    elif equal is None or other is None or other.plan.mode == plan.mode:
        other = other if other is not None and other.plan.mode != plan.mode else None
    return replace(
        found,
        best=as_planned(best, question, world),
        alternatives=rest,
        best_other_mode=other,
        best_other_kind=None,
        binding=binding_sentence(best, question, objective),
        certificate=None,
        robustness=robustness_of(best, question, world),
        infeasible=None,
        mixture=mixture,
    )


# ------------------------------------------------------------------------ inside


def _worth_it(found: Recommendation, world: World, search: Search) -> bool:
    """Whether mixes were asked for, or an inventory limits."""
    question = found.question
    if question.mix:
        return True
    limited = limited_hardware(question, world)
    if not limited:
        return False
    if found.best is None:
        return True
    free = search(replace(question, alternatives=0, certify=False), unlimited(world, limited)).best
    return free is not None and free.plan != found.best.plan


def _sized(candidate: Candidate, question: Question) -> Candidate:
    """A plan without its spare workers, which the objective adds itself."""
    assert not isinstance(candidate.plan, Mixed)
    return replace(candidate, plan=with_spare_workers(candidate.plan, -question.spare_workers))
