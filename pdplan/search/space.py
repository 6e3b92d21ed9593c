"""Everything a question allows, evaluated once: worker types by role and accelerator.

A question may leave formats open (precision, KV precision, speculation, chunk size). Both pools
of a plan share the model's formats, since one hands its cache to the other, so every
combination is a question of its own, and the search takes the best over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from pdplan.compose import World, kv_precision_for
from pdplan.laws.roofline import Array
from pdplan.plan import Plan, Serving
from pdplan.question import Choices, Question
from pdplan.search.limits import Limits, limits_of
from pdplan.search.modes.pairs import least_prefill
from pdplan.search.objective import Objective, build_objective, tpot_limit_s
from pdplan.search.workers.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
    WorkerLimits,
)
from pdplan.search.workers.worker_types import WorkerTypes
from pdplan.uncertainty import slo_on
from pdplan.workload import NO_SPECULATION, Slo


@dataclass(frozen=True, kw_only=True)
class Space:
    """Worker types of one combination of formats, by role and accelerator."""

    serving: Serving
    objective: Objective
    prefill: dict[str, PrefillChoices]
    decode: dict[str, DecodeChoices]
    colocated: dict[str, DecodeChoices]
    limits: Limits
    fitting: dict[str, Candidates]
    """Of every accelerator, whatever its role, with the engine's own chunk size."""
    enumerated: int
    types: WorkerTypes = field(default_factory=WorkerTypes)
    """What other questions have evaluated already."""


def variants(question: Question) -> Iterator[Question]:
    """The question once for every combination of what it leaves open, chunk sizes innermost."""
    open_ = question.choices
    for precision, kv_precision, speculation, chunk_tokens in product(
        open_.precisions or (question.precision,),
        open_.kv_precisions or (question.kv_precision,),
        open_.speculations or (question.speculation,),
        open_.chunk_tokens or (question.chunk_tokens,),
    ):
        yield replace(
            question,
            precision=precision,
            kv_precision=kv_precision,
            speculation=speculation,
            chunk_tokens=chunk_tokens,
            choices=Choices(),
        )


def spaces(question: Question, world: World) -> Iterator[tuple[Question, Space]]:
    """Each variant of the question with its worker types; what variants have in common is evaluated once."""
    types = WorkerTypes()
    for variant in variants(question):
        yield variant, build_space(variant, world, types)


def build_space(
    question: Question, world: World, types: WorkerTypes | None = None, ceiling: float = np.inf
) -> Space:
    """Enumerate and evaluate the worker types of every role; `types` remembers those of other questions.

    Decode and colocated types of which a whole pool costs more than `ceiling` may be left out.
    """
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
        redundant_experts=question.redundant_experts,
        overlap=question.overlap,
    )
    # Sorted, so that the order in which accelerators are named changes nothing.
    senders, receivers, alone = (
        sorted(set(names))
        for names in (question.prefill_hardware, question.decode_hardware, question.colocated_hardware)
    )
    names = sorted({*senders, *receivers, *alone})
    objective = build_objective(question, world, names)
    price = objective.unit_price
    limits = limits_of(question, world, names, objective)

    def fit(hardware: str, serving: Serving = serving, chunk_tokens: int | None = None) -> Candidates:
        most = min(question.max_gpus_per_worker or np.inf, limits.most_gpus(hardware))
        own = WorkerLimits(max_gpus=int(most) if np.isfinite(most) else None, chunk_tokens=chunk_tokens)
        return types.fitting(world, serving, hardware, workload, own)

    fitting = {hw: fit(hw) for hw in names}
    disaggregated, colocated = question.mode != "colocated", question.mode != "disaggregated"
    prefill: dict[str, PrefillChoices] = {}
    decode: dict[str, DecodeChoices] = {}
    pools: dict[str, DecodeChoices] = {}
    if disaggregated:
        # Prefill workers draft nothing: what drafting takes of memory is not theirs.
        plain = replace(serving, speculation=NO_SPECULATION)
        sending = {hw: fit(hw, plain, question.chunk_tokens) for hw in senders}
        prefill = {
            hw: types.prefill(found, workload).priced(price[hw])
            for hw, found in sending.items()
            if len(found)
        }
        beside = _least_prefill_cost(question, objective, prefill) if np.isfinite(ceiling) else 0.0
        # What prefills has no part in the error of TPOT.
        limits_s = {hw: tpot_limit_s(slo_on(slo, serving, hw, hw), workload.osl) for hw in receivers}
        decode = {
            hw: types.decode(
                fitting[hw],
                workload,
                limits_s[hw],
                False,
                _needed(question, objective, fitting[hw], slo_on(slo, serving, hw, hw), ceiling - beside),
            ).priced(price[hw])
            for hw in receivers
            if len(fitting[hw])
        }
    if colocated:
        mixing = {hw: fit(hw, serving, question.chunk_tokens) for hw in alone}
        limits_s = {hw: tpot_limit_s(slo_on(slo, serving, hw), workload.osl) for hw in alone}
        pools = {
            hw: types.decode(
                found,
                workload,
                limits_s[hw],
                True,
                _needed(question, objective, found, slo_on(slo, serving, hw), ceiling),
            ).priced(price[hw])
            for hw, found in mixing.items()
            if len(found)
        }
    return Space(
        serving=serving,
        objective=objective,
        limits=limits,
        prefill=prefill,
        decode=decode,
        colocated=pools,
        fitting=fitting,
        types=types,
        enumerated=sum(f.enumerated for f in fitting.values()) * (int(disaggregated) * 2 + int(colocated)),
    )


def _needed(
    question: Question, objective: Objective, found: Candidates, slo: Slo, ceiling: float
) -> Array | None:
    """Requests/s that a worker of each type has to serve for a pool of them to cost no more than a ceiling.

    Whole workers share the rate. None where that says nothing: without a rate, or where the cost is not
    price times number.
    """
    if question.wants_goodput or not objective.is_plain or not np.isfinite(ceiling):
        return None
    each = found.pool.layout.gpus * objective.unit_price[found.hardware]
    workers = np.floor(ceiling * (1 + 1e-9) / each) - objective.spare_workers
    rate = float(question.sizing_workload.rate) * slo.tpot_factor
    return np.where(workers > 0, rate / np.where(workers > 0, workers, 1.0), np.inf)


def _least_prefill_cost(
    question: Question, objective: Objective, prefill: Mapping[str, PrefillChoices]
) -> float:
    """What no prefill pool undercuts at the rate, by its capacity alone; 0 where a ceiling says nothing."""
    if question.wants_goodput or not objective.is_plain:
        return 0.0
    rate = float(question.sizing_workload.rate)
    costs = [
        objective.pool_cost(hw, found.candidates.pool.layout.gpus, least_prefill(found, rate))
        for hw, found in prefill.items()
    ]
    return min((float(cost.min(initial=np.inf)) for cost in costs), default=np.inf)


def with_formats_of(plan: Plan, question: Question) -> Question:
    """The question with formats and chunk size as a plan has them, where it left them open."""
    if not question.choices:
        return question
    return replace(
        question,
        precision=plan.precision,
        kv_precision=plan.kv_precision,
        speculation=plan.speculation,
        chunk_tokens=next(iter(plan.pools.values())).chunk_tokens,
        choices=Choices(),
    )
