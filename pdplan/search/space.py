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
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    objective = build_objective(question, world, names)
    roles = _Roles(
        question=question,
        world=world,
        types=types,
        serving=serving,
        objective=objective,
        limits=limits_of(question, world, names, objective),
    )
    fitting = {hardware: roles.fitting(hardware, serving) for hardware in names}
    disaggregated, colocated = question.mode != "colocated", question.mode != "disaggregated"
    prefill = roles.senders() if disaggregated else {}
    beside = _least_prefill_cost(question, objective, prefill) if np.isfinite(ceiling) else 0.0
    return Space(
        serving=serving,
        objective=objective,
        limits=roles.limits,
        prefill=prefill,
        decode=roles.receivers(fitting, ceiling - beside) if disaggregated else {},
        colocated=roles.alone(ceiling) if colocated else {},
        fitting=fitting,
        types=types,
        enumerated=sum(f.enumerated for f in fitting.values()) * (int(disaggregated) * 2 + int(colocated)),
    )


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """Worker types by accelerator, for each role of a question."""

    question: Question
    world: World
    types: WorkerTypes
    serving: Serving
    objective: Objective
    limits: Limits

    def fitting(self, hardware: str, serving: Serving, chunk_tokens: int | None = None) -> Candidates:
        """What fits of an accelerator, whatever its role."""
        most = min(self.question.max_gpus_per_worker or np.inf, self.limits.most_gpus(hardware))
        own = WorkerLimits(max_gpus=int(most) if np.isfinite(most) else None, chunk_tokens=chunk_tokens)
        return self.types.fitting(self.world, serving, hardware, self.question.workload, own)

    def senders(self) -> dict[str, PrefillChoices]:
        # Prefill workers draft nothing: what drafting takes of memory is not theirs.
        plain = replace(self.serving, speculation=NO_SPECULATION)
        found = {}
        for hardware in sorted(set(self.question.prefill_hardware)):
            if len(fitting := self.fitting(hardware, plain, self.question.chunk_tokens)):
                choices = self.types.prefill(fitting, self.question.workload)
                found[hardware] = choices.priced(self.objective.unit_price[hardware])
        return found

    def receivers(self, fitting: Mapping[str, Candidates], ceiling: float) -> dict[str, DecodeChoices]:
        found = {}
        for hardware in sorted(set(self.question.decode_hardware)):
            if len(fitting[hardware]):
                # What prefills has no part in the error of TPOT.
                slo = slo_on(self.question.slo, self.serving, hardware, hardware)
                found[hardware] = self._decoding(fitting[hardware], slo, False, ceiling)
        return found

    def alone(self, ceiling: float) -> dict[str, DecodeChoices]:
        """Of colocated pools."""
        found = {}
        for hardware in sorted(set(self.question.colocated_hardware)):
            if len(fitting := self.fitting(hardware, self.serving, self.question.chunk_tokens)):
                slo = slo_on(self.question.slo, self.serving, hardware)
                found[hardware] = self._decoding(fitting, slo, True, ceiling)
        return found

    def _decoding(self, fitting: Candidates, slo: Slo, colocated: bool, ceiling: float) -> DecodeChoices:
        workload = self.question.workload
        needed = _needed(self.question, self.objective, fitting, slo, ceiling)
        limit_s = tpot_limit_s(slo, workload.osl)
        choices = self.types.decode(fitting, workload, limit_s, colocated, needed)
        return choices.priced(self.objective.unit_price[fitting.hardware])


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
