"""The plans of one space, best first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pdplan.compose import World
from pdplan.question import Candidate, Question
from pdplan.search.modes.colocated import search_colocated
from pdplan.search.modes.disaggregated import search_disaggregated
from pdplan.search.objective import Objective, rank, rank_goodput
from pdplan.search.space import Space


def ranked_plans(question: Question, world: World, space: Space) -> list[Candidate]:
    """What the search finds in a space, best first, without spare workers.

    The first of each mode is the best of that mode; nothing where no plan keeps the limits.
    """
    return best_first(plans_of(question, world, space), question, space.objective)


def best_first(found: Iterable[Candidate], question: Question, objective: Objective) -> list[Candidate]:
    """Plans in the order of what the question asks for; equal ones: see `rank`."""
    if question.wants_goodput:
        return rank_goodput(found, objective, question.slo, question.choices)
    return rank(found, objective, question.slo, question.choices)


def without_idle_limits(question: Question) -> Question:
    """An answer of one token has no time per token after the first: its TPOT limit says nothing."""
    if question.workload.osl > 1 or question.slo.tpot_s is None:
        return question
    return replace(question, slo=replace(question.slo, tpot_s=None))


def plans_of(
    question: Question, world: World, space: Space, known: Sequence[Candidate] = ()
) -> list[Candidate]:
    """Candidates of one space; of those that cannot beat what is `known` of their mode, not all."""
    if question.wants_goodput:
        from pdplan.search.goodput.goodput import most_goodput

        return most_goodput(question, world, space, known)
    found: list[Candidate] = []
    workload, slo = question.sizing_workload, question.slo
    if space.prefill and space.decode:
        found += search_disaggregated(world, workload, slo, _below(space, known, "disaggregated"))
    if space.colocated:
        found += search_colocated(world, workload, slo, _below(space, known, "colocated"))
    return found


def _below(space: Space, known: Sequence[Candidate], mode: str) -> Space:
    """The space where plans dearer than the cheapest known of the mode are of no interest."""
    cheapest = min((space.objective.cost(c) for c in known if c.plan.mode == mode), default=np.inf)
    ceiling = min(space.objective.ceiling, cheapest)
    return replace(space, objective=replace(space.objective, ceiling=ceiling))
