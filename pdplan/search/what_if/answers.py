"""Answers to many questions that differ a little from one: the least of what is counted, no alternatives.

The same spaces and the same search as `recommend`, told to stop at the optimum, with worker
types and what plans do remembered from one question to the next. Of pools of several kinds of
workers: mixed_answers.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

import numpy as np

from pdplan.compose import World, evaluate_plan
from pdplan.errors import InputError
from pdplan.laws.roofline import Array
from pdplan.plan import Metrics, Mixed, Plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.fleets.certificate import Types, colocated_rates, decode_rates, prefill_rates
from pdplan.search.holding import Judged, candidate_of, excess_of_many, judged
from pdplan.search.kinds import Kind, kind_of, of_kind, of_mode
from pdplan.search.objective import build_objective, ttft_limit_s
from pdplan.search.ranked import ranked_plans, without_idle_limits
from pdplan.search.robust import as_planned
from pdplan.search.space import Space, build_space, with_formats_of
from pdplan.search.workers.worker_types import WorkerTypes
from pdplan.workload import Slo, Workload

Counted = Literal["cost", "gpus", "energy", "goodput"]
FIELDS: Mapping[Counted, str] = {
    "cost": "usd_per_h",
    "gpus": "gpus",
    "energy": "power_kw",
    "goodput": "requests_per_s",
}
"""What an answer is judged by, and the field of Metrics that has it."""
EQUAL = 1e-9
"""Amounts within this share are the same."""
AS_GOOD, BETTER = 1 + 4 * EQUAL, 1 - 2 * EQUAL
"""Ceilings of a search, times a cost, for plans of the same cost to be found, or only cheaper ones."""


def counted_in(found: Recommendation) -> Counted:
    """What the plans of an answer were ranked by."""
    return "goodput" if found.question.wants_goodput else found.compared_by


def to_vary(found: Recommendation) -> tuple[Recommendation, Candidate]:
    """The answer that is varied, in the formats of its plan, and that plan. InputError without a plan."""
    if found.best is None:
        reason = found.infeasible.binding if found.infeasible else "no layout meets the limits"
        raise InputError(f"there is no plan to vary: {reason}; relax the question first")
    return replace(found, question=with_formats_of(found.best.plan, found.question)), found.best


def amount_of(metrics: Metrics, counted: Counted) -> float:
    """$/h, accelerators, kW or requests/s."""
    return float(getattr(metrics, FIELDS[counted]))


def better(a: float, b: float, counted: Counted) -> bool:
    """Whether amount `a` is truly better than `b`; NaN (no plan) is never better and never kept."""
    if a != a:
        return False
    if b != b:
        return True
    return a > b * (1 + EQUAL) if counted == "goodput" else a < b * (1 - EQUAL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best plan to one question."""

    best: Candidate | None
    """Without spare workers; None where no plan keeps the limits."""
    of_kind: Candidate | None
    """The best of the kind that was asked about; it is `best` where no other is better."""
    fractional: float
    """The amount if workers could be bought in fractions and nobody ever queued; NaN where there is none."""


class Answers:
    """Asks the search for the optimum only, beside the optimum of one kind of plan."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        mode, _ = kind
        self._modes = (mode, "colocated" if mode == "disaggregated" else "disaggregated")
        self._types = WorkerTypes()
        self._metrics: dict[Hashable, tuple[Metrics, World]] = {}
        self.asked = 0
        """Searches so far."""

    def judged(self, plan: Plan, question: Question, world: World) -> Judged:
        """What a plan, sized without spare workers, does for a question at a rate."""
        return judged(plan, question, world, self._evaluate)

    def excess(self, plan: Plan, question: Question, world: World) -> float:
        """How far it is beyond its limits, or within them where negative: a logarithm."""
        if isinstance(plan, Mixed):  # what a mix does as a whole takes longer to tell
            return float(excess_of_many(plan, question, world)[0])
        return self.judged(plan, question, world).excess

    def holding(self, plan: Plan, question: Question, world: World) -> Candidate | None:
        """The plan, sized without spare workers, where it keeps every limit of a question at a rate."""
        return candidate_of(plan, question, world, self._evaluate)

    def _evaluate(self, world: World, plan: Plan, workload: Workload, slo: Slo) -> Metrics:
        """`evaluate_plan`, remembered: no limit on latency changes what a plan does."""
        key = (plan, id(world), workload, slo.percentile)
        if key not in self._metrics:  # the world is kept, so that no other takes its id
            self._metrics[key] = evaluate_plan(world, plan, workload, slo), world
        return self._metrics[key][0]

    def answer(self, question: Question, world: World, known: Candidate | None = None) -> Answer:
        """The optimum, that of the kind beside it: other kinds, and the other mode, have to be better.

        `known`: a plan of the kind (without spare workers) that keeps the limits here.
        """
        question = self._next(question)
        best, spaces = self._of_modes(question, world, known)
        same, space = best, spaces[0]
        if best is None or kind_of(best.plan) != self._kind:
            same = self._better(question, world, of_kind(space, self._kind), known)
        if best and same and not _wins(best, same, question, space):
            best = same
        return Answer(best=best, of_kind=same, fractional=self._fractional(spaces, question))

    def optimum(self, question: Question, world: World, known: Candidate | None = None) -> Candidate | None:
        """The best plan alone; the mode of the kind wins where both are equal.

        `known`: a plan (without spare workers) that keeps the limits here; it is returned where no other is
        better and it is of the mode that would win.
        """
        return self._of_modes(self._next(question), world, known)[0]

    def of_kind_or(self, best: Candidate, question: Question, world: World) -> Candidate:
        """The best plan of the kind asked about where that is as good as the best of all, else the latter."""
        if kind_of(best.plan) == self._kind:
            return best
        question = self._next(question)
        mode, pools = self._kind
        ceiling = np.inf if question.wants_goodput else cost_of(best, question, world) * AS_GOOD
        names = {f"{role}_hardware": (hardware,) for role, (hardware, _) in pools}
        alone = replace(question, **names)  # type: ignore[arg-type]
        space = of_kind(self._space(alone, world, mode, ceiling), self._kind)
        same = self._least(question, world, space, ceiling)
        return best if same is None or _wins(best, same, question, space) else same

    def of_mode(self, question: Question, world: World, mode: str) -> Candidate | None:
        """The best plan of one mode."""
        question = self._next(question)
        return self._better(question, world, self._space(question, world, mode), None)

    def within(self, question: Question, world: World, ceiling: float) -> Candidate | None:
        """A plan of at most such a cost, as the objective counts it; None where there is none."""
        question = self._next(question)
        for mode in self._modes:
            space = self._space(question, world, mode, ceiling)
            found = self._least(question, world, space, ceiling)  # bounded by it, what is found may be above
            if found and space.objective.cost(found) <= ceiling:
                return found
        return None

    def _next(self, question: Question) -> Question:
        self.asked += 1
        return without_idle_limits(question)

    def _space(self, question: Question, world: World, mode: str, ceiling: float = np.inf) -> Space:
        """The worker types of one mode; of another than was asked for there are none."""
        alone = question if question.mode != "any" else replace(question, mode=mode)  # type: ignore[arg-type]
        return of_mode(build_space(alone, world, self._types, ceiling), mode)

    def _of_modes(
        self, question: Question, world: World, known: Candidate | None = None
    ) -> tuple[Candidate | None, list[Space]]:
        """The best plan, and the worker types of each mode: of the second, and where a plan is known, those
        that could be better."""
        spaces: list[Space] = []
        for mode in self._modes:
            ceiling = np.inf
            if known and not (question.wants_goodput or question.spare_workers):
                ceiling = cost_of(known, question, world)
            spaces.append(self._space(question, world, mode, ceiling))
            preferred = known is not None and known.plan.mode != mode == self._modes[0]
            known = self._better(question, world, spaces[-1], known, preferred)
        return known, spaces

    def _better(
        self,
        question: Question,
        world: World,
        space: Space,
        known: Candidate | None,
        preferred: bool = False,
    ) -> Candidate | None:
        """The best plan of a space if it is better than a known one, else that; or `preferred` if as good."""
        ceiling, beyond = np.inf, 0.0
        if known and question.wants_goodput:
            beyond = float(known.metrics.requests_per_s)
        elif known:
            ceiling = space.objective.cost(known) * (AS_GOOD if preferred else BETTER)
        found = self._least(question, world, space, ceiling, beyond)
        if found is None or known is None:
            return found or known
        if preferred:
            return known if _wins(known, found, question, space) else found
        return found if _wins(found, known, question, space) else known

    @staticmethod
    def _fractional(spaces: Sequence[Space], question: Question) -> float:
        """The best amount in fractions over the modes."""
        amounts = [amount for s in spaces if not isnan(amount := fractional_amount(s, question))]
        return (max if question.wants_goodput else min)(amounts, default=float("nan"))

    @staticmethod
    def _least(
        question: Question, world: World, space: Space, ceiling: float = np.inf, beyond: float = 0.0
    ) -> Candidate | None:
        """The best plan of a space, unless it costs more than a ceiling or serves no more than `beyond`."""
        objective = replace(space.objective, thorough=False, ceiling=ceiling, beyond=beyond)
        return next(iter(ranked_plans(question, world, replace(space, objective=objective))), None)


def planned(sized: Candidate | None, question: Question, world: World) -> Candidate | None:
    """A candidate with its spare workers and its bill; without either it is what the search evaluated."""
    if sized is None:
        return None
    plain = all(world.tariff(pool.hardware).is_plain for pool in sized.plan.pools.values())
    if plain and not question.is_robust:
        return sized
    return as_planned(sized, question, world)


def cost_of(candidate: Candidate, question: Question, world: World) -> float:
    """What the objective of a question counts for a candidate without spare workers."""
    names = {pool.hardware for pool in candidate.plan.pools.values()}
    choices = {*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware}
    return build_objective(question, world, sorted(names | choices)).cost(candidate)


def _wins(candidate: Candidate, over: Candidate, question: Question, space: Space) -> bool:
    if question.wants_goodput:
        return better(candidate.metrics.requests_per_s, over.metrics.requests_per_s, "goodput")
    return better(space.objective.cost(candidate), space.objective.cost(over), "cost")


def fractional_amount(space: Space, question: Question) -> float:
    """The best amount with workers in fractions and no queues: a bound that moves without steps.

    min_i c_i/μ_i + min_j c_j/r_j per request/s for two pools, min_k c_k/r_k for one, times the
    rate; for goodput the accelerators over the least accelerators per request/s, or the dollars over the
    least dollars, whichever is less. μ and r are what a worker serves without queues and fluctuations,
    within the TPOT limit; prefill types that miss the TTFT limit without any queue are left out. $/h,
    accelerators or W as the objective counts.
    """
    if question.wants_goodput:
        prices, limits = space.limits.dollars.unit_price, space.limits
        most = [
            limit / _least_per_request(space, question, each)
            for limit, each in (
                (limits.gpus, dict.fromkeys(prices, 1.0)),
                (limits.usd_per_h, prices),
            )
            if np.isfinite(limit)
        ]
        found = min(most, default=np.nan)
        return float(found * (1.0 - question.headroom)) if found > 0 else float("nan")
    lowest = _least_per_request(space, question, space.objective.unit_price)
    if not np.isfinite(lowest):
        return float("nan")
    amount = lowest * float(question.sizing_workload.rate)
    return amount / 1e3 if question.objective == "energy" else amount


def _least_per_request(space: Space, question: Question, unit: Mapping[str, float]) -> float:
    """What a request/s takes at least of something of which an accelerator takes `unit`; perhaps infinite."""
    workload, slo = question.workload, question.slo

    def least(types: Types, allowed: Array | bool = True) -> float:
        amounts = np.where(
            np.broadcast_to(allowed, types.rate.shape), types.gpus * unit[types.hardware], np.inf
        )
        return float(np.min(amounts / np.maximum(types.rate, 1e-300), initial=np.inf))

    senders = [
        least(prefill_rates(c), c.service.time_s <= ttft_limit_s(slo, workload.osl, c.service.time_s * 0))
        for c in space.prefill.values()
        if len(c)
    ]
    receivers = [least(decode_rates(c)) for c in space.decode.values() if len(c)]
    each = [least(colocated_rates(c, workload)) for c in space.colocated.values() if len(c)]
    if senders and receivers:
        each.append(min(senders) + min(receivers))
    return min(each, default=np.inf)
