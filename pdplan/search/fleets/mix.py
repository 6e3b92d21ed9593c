"""Pools of several kinds of workers, where that pays: beside or instead of what the plain search found.

Without limits a mix rarely wins: the kind of worker that is cheapest per request is cheapest for all
of them, but for the last few. With an inventory the cheapest kind runs out, and a mix is
the rule. So mixes are tried where an inventory keeps the plain search from a cheaper plan, and
where they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from pdplan.compose import World, evaluate_plan
from pdplan.plan import Mixed
from pdplan.question import Candidate, Mixture, Question, Recommendation
from pdplan.search.fleets.fleet import Bracket, Budgets, Wanted, cheapest_fleet
from pdplan.search.fleets.goodput_mix import most_goodput_of_mix
from pdplan.search.objective import HAIR, Objective, build_objective
from pdplan.search.reasons import binding_sentence
from pdplan.search.robust import as_planned, robustness_of, with_spare_workers
from pdplan.search.shortage import limited_hardware, unlimited
from pdplan.search.space import variants, with_formats_of

EQUAL_RATE = 1e-4
"""A mix that serves no more than this beyond equal workers is not worth its second kind of worker."""
MOST_FORMATS = 6
"""Combinations of formats with which mixes are tried: each takes as long as a mix alone."""

Search = Callable[[Question, World], Recommendation]


def with_mixes(found: Recommendation, world: World, search: Search) -> Recommendation:
    """The answer with the cheapest mix in place of its best plan, where that is cheaper."""
    question = found.question
    if question.mix is False or not _worth_it(found, world, search):
        return found
    if question.wants_goodput:
        return _with_most(found, world)
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    objective = build_objective(question, world, names)
    formats, note = _formats(found)
    bracket = _cheapest(formats, world, question)
    if bracket is None:
        return found
    found = replace(found, notes=(*found.notes, *note))
    equal = found.best
    hair = 1.0 if question.objective == "cost" else 1.0 + HAIR
    known = objective.cost(_sized(equal, question)) if equal else np.inf
    cost = min(bracket.cost, known)
    mixture = Mixture(
        lower_bound=min(bracket.lower_bound, cost) / hair,
        gap=max(cost / bracket.lower_bound - 1.0, 0.0) if bracket.lower_bound > 0 else 0.0,
        equal_workers=equal,
        of_few_formats=bool(note),
    )
    if bracket.cost >= known * (1 - 1e-9):
        return replace(found, mixture=mixture)
    plan = bracket.plans[0]
    metrics = evaluate_plan(world, plan, question.sizing_workload, question.slo)
    return _instead(found, Candidate(plan=plan, metrics=metrics), mixture, objective)


# ------------------------------------------------------------------------ inside


def _with_most(found: Recommendation, world: World) -> Recommendation:
    """The answer with the mix that serves the most requests of the budget, where that is more."""
    question, equal = found.question, found.best
    if equal is None:  # what no single worker serves a mix does not either
        return found
    formats, note = _formats(found)
    known = float(equal.metrics.requests_per_s) / (1.0 - question.headroom)
    most = [m for q in formats if (m := most_goodput_of_mix(q, world, known)) is not None]
    if not most:
        return found
    found = replace(found, notes=(*found.notes, *note))
    best = max(most, key=lambda m: m.requests_per_s)
    rate, bound = max(best.requests_per_s, known), max(known, *(m.bound for m in most))
    mixture = Mixture(
        lower_bound=float("nan"),
        most_requests_per_s=bound * (1.0 - question.headroom),
        gap=bound / rate - 1.0,
        equal_workers=equal,
        of_few_formats=bool(note),
    )
    if best.requests_per_s <= known * (1 + EQUAL_RATE):
        return replace(found, mixture=mixture)
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    at_rate = question.workload.at_rate(best.requests_per_s)
    metrics = evaluate_plan(world, best.plan, at_rate, question.slo)
    objective = build_objective(question, world, names)
    return _instead(found, Candidate(plan=best.plan, metrics=metrics), mixture, objective)


def _instead(
    found: Recommendation, best: Candidate, mixture: Mixture, objective: Objective
) -> Recommendation:
    """The answer with a mix, sized without spare workers, in place of its best plan: that is the next."""
    question, world, plan, equal = found.question, found.world, best.plan, mixture.equal_workers
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


def _formats(found: Recommendation) -> tuple[list[Question], tuple[str, ...]]:
    """The question in every combination of formats that it leaves open, each a programme of its own; of too
    many only the one of the best plan of equal workers, and a note of it."""
    every = list(variants(found.question))
    if len(every) <= MOST_FORMATS:
        return every, ()
    own = with_formats_of(found.best.plan, found.question) if found.best else every[0]
    what = "those of the best plan of equal workers" if found.best else "the first that were named"
    note = (
        f"mixes of workers were tried with one combination of formats of {len(every)}, {what}; with up to "
        f"{MOST_FORMATS} all are tried"
    )
    return [own], (note,)


def _cheapest(formats: Sequence[Question], world: World, question: Question) -> Bracket | None:
    """The cheapest mix over the formats; no mix of any of them costs less than its bound."""
    budgets = Budgets(max_usd_per_h=np.inf if question.max_usd_per_h is None else question.max_usd_per_h)
    brackets = [cheapest_fleet([Wanted(name="", question=q, world=world)], budgets) for q in formats]
    known = [bracket for bracket in brackets if bracket is not None]
    if not known:
        return None
    best = min(known, key=lambda bracket: bracket.cost)
    return replace(best, lower_bound=min(bracket.lower_bound for bracket in known))


def _worth_it(found: Recommendation, world: World, search: Search) -> bool:
    """Whether mixes were asked for, or an inventory limits."""
    question = found.question
    if question.mix:
        return True
    limited = limited_hardware(question, world)
    if not limited:
        return False
    if found.best is None or question.wants_goodput:
        return True
    free = search(replace(question, alternatives=0, certify=False), unlimited(world, limited)).best
    return free is not None and _cost(free, question, world) < _cost(found.best, question, world) * (1 - 1e-9)


def _cost(candidate: Candidate, question: Question, world: World) -> float:
    """What the objective counts for a planned candidate where there is as much as it takes."""
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    free = unlimited(world, limited_hardware(question, world))
    return build_objective(question, free, names).cost(_sized(candidate, question))


def _sized(candidate: Candidate, question: Question) -> Candidate:
    """A plan without its spare workers, which the objective adds itself."""
    assert not isinstance(candidate.plan, Mixed)
    return replace(candidate, plan=with_spare_workers(candidate.plan, -question.spare_workers))
