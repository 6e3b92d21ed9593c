"""The one entry of the search: a question in, the cheapest plan and its context out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pdplan.compose import World, kv_precision_for
from pdplan.plan import Serving
from pdplan.question import Candidate, OtherKind, Question, Recommendation
from pdplan.search.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
)
from pdplan.search.certificate import certify
from pdplan.search.colocated import search_colocated
from pdplan.search.disaggregated import search_disaggregated
from pdplan.search.goodput import most_goodput
from pdplan.search.infeasible import explain_infeasible
from pdplan.search.kinds import differences, second_kind
from pdplan.search.objective import HAIR, Objective, build_objective, distinct, rank, tpot_limit_s
from pdplan.search.reasons import binding_sentence, notes_for, why_after
from pdplan.search.robust import as_planned, robustness_of
from pdplan.search.shortage import also_short, explain_shortage, limited_hardware, unlimited
from pdplan.search.worker_types import WorkerTypes


@dataclass(frozen=True, kw_only=True)
class Space:
    """Everything the question allows, evaluated once: worker types by role and accelerator."""

    serving: Serving
    objective: Objective
    prefill: dict[str, PrefillChoices]
    decode: dict[str, DecodeChoices]
    colocated: dict[str, DecodeChoices]
    fitting: dict[str, Candidates]
    enumerated: int


def recommend(question: Question, world: World) -> Recommendation:
    """The cheapest deployment that meets the SLO, beside the best of the other mode.

    With a rate: least cost. Without: the highest rate that `max_gpus` serve within the SLO.
    Infeasible: what binds, the nearest miss, and what to relax.
    """
    from pdplan.search.mix import with_mixes  # it needs the space that is built here

    found = with_mixes(_recommend(question, world), world, _recommend)
    if found.best is not None:
        return found
    question = found.question
    shortage = explain_shortage(question, world, _recommend)
    if shortage is not None:
        return replace(found, infeasible=shortage)
    free = unlimited(world, limited_hardware(question, world))
    why = explain_infeasible(question, free, build_space(question, free), _recommend)
    return replace(found, infeasible=also_short(why, world))


def _recommend(question: Question, world: World) -> Recommendation:
    """The answer, or none, without asking why."""
    question = without_idle_limits(question)
    space = build_space(question, world)
    compared_by = (
        "gpus" if space.objective.counts_gpus and question.objective == "cost" else question.objective
    )
    ranked = ranked_plans(question, world, space)
    notes = notes_for(question, world, space.objective.counts_gpus)
    if not ranked:
        return Recommendation(
            question=question,
            world=world,
            best=None,
            compared_by=compared_by,
            notes=notes,
            layouts=space.enumerated,
        )
    best = ranked[0]  # without its spare workers: they are added last
    certificate = None
    if question.certify and not question.wants_goodput:
        certificate = certify(
            space.objective.cost(best),
            question.sizing_workload,
            space.prefill,
            space.decode,
            space.colocated,
            question.max_gpus,
            question.spare_workers,
        )
        if question.objective != "cost":
            bound = certificate.lower_bound / (1.0 + HAIR)
            certificate = replace(certificate, lower_bound=bound)
    others = [c for c in ranked[1:] if c.plan.mode != best.plan.mode]
    other_kind = second_kind(question, world, space, ranked)
    return Recommendation(
        question=question,
        world=world,
        best=as_planned(best, question, world),
        compared_by=compared_by,
        alternatives=tuple(
            as_planned(c, question, world) for c in distinct(ranked, question.alternatives + 1)[1:]
        ),
        best_other_mode=as_planned(others[0], question, world) if others else None,
        best_other_kind=_beside(best, other_kind, question, world, space.objective),
        binding=binding_sentence(best, question, space.objective),
        certificate=certificate,
        robustness=robustness_of(best, question, world),
        notes=notes,
        layouts=space.enumerated,
    )


def _beside(
    best: Candidate, other: Candidate | None, question: Question, world: World, objective: Objective
) -> OtherKind | None:
    if other is None:
        return None
    return OtherKind(
        candidate=as_planned(other, question, world),
        differs_in=differences(best.plan, other.plan),
        why=why_after(best, other, question, objective),
    )


def ranked_plans(question: Question, world: World, space: Space) -> list[Candidate]:
    """What the search finds in a space, best first, without spare workers.

    The first of each mode is the best of that mode; nothing where no plan keeps the limits.
    """
    if question.wants_goodput:
        found = most_goodput(question, world, space.serving, space.prefill, space.decode, space.colocated)
    else:
        found = _search(question, world, space)
    return best_first(found, question, space.objective)


def best_first(found: Iterable[Candidate], question: Question, objective: Objective) -> list[Candidate]:
    """Plans in the order of what the question asks for; equal ones: see `rank`."""
    if not question.wants_goodput:
        return rank(found, objective, question.slo)
    return sorted(
        found, key=lambda c: (-round(c.metrics.requests_per_s, 9), round(objective.cost(c), 9), repr(c.plan))
    )


def without_idle_limits(question: Question) -> Question:
    """An answer of one token has no time per token after the first: its TPOT limit says nothing."""
    if question.workload.osl > 1 or question.slo.tpot_s is None:
        return question
    return replace(question, slo=replace(question.slo, tpot_s=None))


def build_space(question: Question, world: World, types: WorkerTypes | None = None) -> Space:
    """Enumerate and evaluate the worker types of every role; `types` remembers those of other questions."""
    types = types or WorkerTypes()
    workload, slo = question.workload, question.slo
    serving = Serving(
        model=question.model,
        precision=question.precision,
        kv_precision=kv_precision_for(
            question.kv_precision, question.precision, question.engine, world.engines
        ),
        engine=question.engine,
        speculation=question.speculation,
    )
    # Sorted, so that the order in which accelerators are named changes nothing.
    senders, receivers, alone = (
        sorted(set(names))
        for names in (question.prefill_hardware, question.decode_hardware, question.colocated_hardware)
    )
    names = sorted({*senders, *receivers, *alone})
    objective = build_objective(question, world, names)
    limits = [g for g in (question.max_gpus, question.max_gpus_per_worker) if g is not None]
    largest = {hw: min([*limits, objective.tariffs[hw].most]) for hw in names}
    fitting = {
        hw: types.fitting(
            world, serving, hw, workload, int(largest[hw]) if math.isfinite(largest[hw]) else None
        )
        for hw in names
    }
    some = [hw for hw in names if len(fitting[hw])]
    price = objective.unit_price
    limit = tpot_limit_s(slo, workload.osl)
    disaggregated, colocated = question.mode != "colocated", question.mode != "disaggregated"
    prefill: dict[str, PrefillChoices] = {}
    decode: dict[str, DecodeChoices] = {}
    pools: dict[str, DecodeChoices] = {}
    if disaggregated:
        prefill = {hw: types.prefill(fitting[hw], workload).priced(price[hw]) for hw in senders if hw in some}
        decode = {
            hw: types.decode(fitting[hw], workload, limit, False).priced(price[hw])
            for hw in receivers
            if hw in some
        }
    if colocated:
        pools = {
            hw: types.decode(fitting[hw], workload, limit, True).priced(price[hw])
            for hw in alone
            if hw in some
        }
    return Space(
        serving=serving,
        objective=objective,
        prefill=prefill,
        decode=decode,
        colocated=pools,
        fitting=fitting,
        enumerated=sum(f.enumerated for f in fitting.values()) * (int(disaggregated) * 2 + int(colocated)),
    )


def _search(question: Question, world: World, space: Space) -> list[Candidate]:
    found: list[Candidate] = []
    workload = question.sizing_workload
    if space.prefill and space.decode:
        found += search_disaggregated(
            world,
            space.serving,
            workload,
            question.slo,
            space.prefill,
            space.decode,
            space.objective,
            question.max_gpus,
        )
    if space.colocated:
        found += search_colocated(
            world,
            space.serving,
            workload,
            question.slo,
            space.colocated,
            space.objective,
            question.max_gpus,
        )
    return found
