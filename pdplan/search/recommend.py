"""The one entry of the search: a question in, the cheapest plan and its context out.

What only some questions need is imported where they need it: a cold start is half imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pdplan.compose import World
from pdplan.plan import Plan
from pdplan.question import Candidate, Certificate, OtherKind, Question, Recommendation
from pdplan.search.kinds import differences, kind_of, second_kind
from pdplan.search.objective import HAIR, Objective, distinct
from pdplan.search.ranked import best_first, plans_of, without_idle_limits
from pdplan.search.reasons import binding_sentence, notes_for, plan_notes, why_after
from pdplan.search.robust import as_found, as_planned, robustness_of
from pdplan.search.space import Space, spaces
from pdplan.workload import MAX_RATE_PER_S


def recommend(question: Question, world: World) -> Recommendation:
    """The cheapest deployment that meets the SLO, beside the best of the other mode.

    With a rate: least cost. Without: the highest rate that the budget serves within the SLO.
    Infeasible: what binds, the nearest miss, and what to relax.
    """
    found = answer_of(question, world)
    if question.mix or (question.mix is None and world.market.limited):
        from pdplan.search.fleets.mix import with_mixes

        found = with_mixes(found, world, answer_of)
    if found.best is not None:
        return found
    from pdplan.search.infeasible import explain_infeasible
    from pdplan.search.shortage import also_short, explain_shortage, limited_hardware, unlimited

    question = found.question
    shortage = explain_shortage(question, world, answer_of)
    if shortage is not None:
        return replace(found, infeasible=shortage)
    free = unlimited(world, limited_hardware(question, world))
    every = tuple(space for _, space in spaces(question, free))
    why = explain_infeasible(question, free, every, answer_of)
    return replace(found, infeasible=also_short(why, world))


def answer_of(question: Question, world: World) -> Recommendation:
    """The answer, or none, without asking why."""
    question = without_idle_limits(question)
    found: list[Candidate] = []
    every: list[Space] = []
    for _, space in spaces(question, world):
        found += plans_of(question, world, space, found)
        every.append(space)
    objective = every[0].objective
    ranked = best_first(found, question, objective)
    answer = Recommendation(
        question=question,
        world=world,
        best=None,
        compared_by="gpus" if objective.counts_gpus and question.objective == "cost" else question.objective,
        notes=notes_for(question, world, objective.counts_gpus),
        layouts=sum(space.enumerated for space in every),
    )
    if not ranked:
        return answer
    best = ranked[0]  # without its spare workers: they are added last
    others = [c for c in ranked[1:] if c.plan.mode != best.plan.mode]
    kinds = (second_kind(question, world, space, ranked) for space in every)
    other_kind = best_first([c for c in kinds if c is not None], question, objective)
    known: dict[tuple[Plan, float], Candidate] = {}

    def planned(candidate: Candidate) -> Candidate:
        """As planned; a plan that stands in several places of the answer is evaluated once."""
        key = (candidate.plan, float(candidate.metrics.requests_per_s))
        if key not in known:
            known[key] = as_found(candidate, question, world)
        return known[key]

    return replace(
        answer,
        best=as_planned(best, question, world),
        notes=(*answer.notes, *plan_notes(best.plan, world), *_capped(best, question)),
        alternatives=tuple(planned(c) for c in distinct(ranked, question.alternatives + 1)[1:]),
        best_other_mode=planned(others[0]) if others else None,
        best_other_kind=_beside(best, other_kind[0], planned, question, objective) if other_kind else None,
        binding=binding_sentence(best, question, objective),
        certificate=_certificate(best, question, every),
        robustness=robustness_of(best, question, world),
    )


def _capped(best: Candidate, question: Question) -> Iterator[str]:
    if question.wants_goodput and best.metrics.requests_per_s >= MAX_RATE_PER_S * (1 - 1e-6):
        yield f"no rate above {MAX_RATE_PER_S:,.0f} requests/s is planned for; the budget may serve more"


def _beside(
    best: Candidate,
    other: Candidate,
    planned: Callable[[Candidate], Candidate],
    question: Question,
    objective: Objective,
) -> OtherKind:
    return OtherKind(
        candidate=planned(other),
        differs_in=differences(kind_of(best.plan), kind_of(other.plan)),
        why=why_after(best, other, question, objective),
    )


def _certificate(best: Candidate, question: Question, every: Sequence[Space]) -> Certificate | None:
    """The lowest bound over the variants of the question: a plan has the formats of one."""
    if not question.certify or question.wants_goodput:
        return None
    from pdplan.search.fleets.certificate import certify

    lowest = min(
        (
            certify(
                space.objective.cost(best),
                question.sizing_workload,
                space,
                question.max_gpus or np.inf,
                question.spare_workers,
            )
            for space in every
        ),
        key=lambda found: found.lower_bound,
    )
    if question.objective != "cost":
        return replace(lowest, lower_bound=lowest.lower_bound / (1.0 + HAIR))
    return lowest
