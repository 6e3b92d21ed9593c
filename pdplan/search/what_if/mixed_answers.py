"""Answers to questions whose plans may have several kinds of workers in a pool, asked as `recommend` does.

A mix is found by integer programmes, so such an answer takes as long as a recommendation.
"""

from __future__ import annotations

from dataclasses import replace

from pdplan.compose import World, evaluate_plan
from pdplan.question import Candidate, Question, Recommendation
from pdplan.search.fleets.mix import with_mixes
from pdplan.search.kinds import SEVERAL, kind_of, of_kind
from pdplan.search.robust import with_spare_workers
from pdplan.search.shortage import limited_hardware
from pdplan.search.what_if.answers import AS_GOOD, Answer, Answers, cost_of, planned


def answers_for(found: Recommendation) -> Answers:
    """What asks questions that differ a little from one that has an answer: mixed where mixes are tried."""
    assert found.best is not None
    question, kind = found.question, kind_of(found.best.plan)
    limited = question.mix is None and limited_hardware(question, found.world)
    return MixedAnswers(kind) if question.mix or limited else Answers(kind)


class MixedAnswers(Answers):
    """The optimum among plans of equal and of mixed workers. What is known of other plans spares nothing."""

    def answer(self, question: Question, world: World, known: Candidate | None = None) -> Answer:
        best = self.optimum(question, world)
        same = self._of_kind(best, question, world)
        if best and same and not self._wins_over(best, same, question, world):
            best = same
        spaces = [self._space(question, world, mode) for mode in self._modes]
        return Answer(best=best, of_kind=same, fractional=self._fractional(spaces, question))

    def optimum(self, question: Question, world: World, known: Candidate | None = None) -> Candidate | None:
        best = self._optimum(question, world)
        mode = self._modes[0]
        if best is None or question.mode != "any" or best.plan.mode == mode:
            return best
        same = self._optimum(replace(question, mode=mode), world)  # type: ignore[arg-type]
        return best if same is None or self._wins_over(best, same, question, world) else same

    def of_kind_or(self, best: Candidate, question: Question, world: World) -> Candidate:
        same = self._of_kind(best, question, world)
        return best if same is None or self._wins_over(best, same, question, world) else same

    def of_mode(self, question: Question, world: World, mode: str) -> Candidate | None:
        return self.optimum(replace(question, mode=mode), world)  # type: ignore[arg-type]

    def within(self, question: Question, world: World, ceiling: float) -> Candidate | None:
        best = self.optimum(question, world)
        return best if best and cost_of(best, question, world) <= ceiling else None

    def _optimum(self, question: Question, world: World) -> Candidate | None:
        question = self._next(question)
        best = with_mixes(self._of_equal_workers(question, world), world, self._of_equal_workers).best
        return _sized(best, question, world) if best else None

    def _of_equal_workers(self, question: Question, world: World) -> Recommendation:
        """The best plan of equal workers, as far as mixes are concerned."""
        best, _ = self._of_modes(question, world)
        return Recommendation(question=question, world=world, best=planned(best, question, world))

    def _of_kind(self, best: Candidate | None, question: Question, world: World) -> Candidate | None:
        """The best plan of the kind; of a mix, the best of the mode on the accelerators of each role."""
        if best is None or kind_of(best.plan) == self._kind:
            return best
        mode, pools = self._kind
        if all(family != SEVERAL for _, (_, family) in pools):
            return self._least(question, world, of_kind(self._space(question, world, mode), self._kind))
        if question.mode not in ("any", mode):
            return None
        names = {f"{role}_hardware": tuple(hardware.split("+")) for role, (hardware, _) in pools}
        return self.optimum(replace(question, mode=mode, **names), world)  # type: ignore[arg-type]

    def _wins_over(self, best: Candidate, same: Candidate, question: Question, world: World) -> bool:
        if question.wants_goodput:
            return best.metrics.requests_per_s > same.metrics.requests_per_s * (1 + RATE)
        return cost_of(best, question, world) * AS_GOOD < cost_of(same, question, world)


RATE = 2e-3
"""Rates of mixes closer than this are the same: the programme finds them no closer."""


def _sized(planned: Candidate, question: Question, world: World) -> Candidate:
    """A plan without its spare workers, at the rate that they are sized for."""
    if not question.is_robust:
        return planned
    plan, workload = with_spare_workers(planned.plan, -question.spare_workers), question.sizing_workload
    if question.wants_goodput:
        workload = workload.at_rate(planned.metrics.requests_per_s / (1.0 - question.headroom))
    return Candidate(plan=plan, metrics=evaluate_plan(world, plan, workload, question.slo))
