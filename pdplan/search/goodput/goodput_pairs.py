"""The most requests/s that a prefill and a decode pool serve together within a budget.

Whether a budget serves some rate is what the search at a rate answers, exactly and as quickly for a
hundred thousand accelerators as for eight. So the highest rate is found from both sides: kinds of
workers that look good in fractions of workers are given the whole budget, split as serves most, and the
search is asked whether anything serves a millionth more. What it finds is given the whole budget
in turn, until it finds nothing: then no pair of pools serves more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World, default_bandwidth
from pdplan.plan import Disaggregated, Plan
from pdplan.question import Candidate, Question
from pdplan.search.goodput.rates import RELATIVE_TOLERANCE
from pdplan.search.goodput.splits import Pairs, Splits, splits_between
from pdplan.search.modes.disaggregated import search_disaggregated
from pdplan.search.objective import distinct
from pdplan.search.shares import share_of
from pdplan.search.space import Space
from pdplan.workload import MAX_RATE_PER_S

SEEDS = 6
"""Pairs of worker types of a pair of accelerators that are given the whole budget at first."""
LESS, SIZES = 0.85, 6
"""Alternatives are sought among pools of other sizes that serve such a share of the best: so many."""
STEP = 1.0 + 2 * RELATIVE_TOLERANCE
"""A rate is beaten by one this many times as high."""
PATIENCE = 3
"""Times that a little more is asked for before the search halves what is left between the bounds, too."""
TRICKLE_PER_S = 1e-4
"""Less than a request in three hours is none."""


def most_goodput_of_pairs(question: Question, world: World, space: Space, best: float) -> list[Candidate]:
    """Pairs of pools within the budget that serve more than `best`, that of the highest rate among them.

    Nothing where no pair serves more by RELATIVE_TOLERANCE.
    """
    search = _Pairs(question=question, world=world, space=space)
    return search.beyond(best)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Splits of one budget between prefill and decode, over all pairs of accelerators."""

    question: Question
    world: World
    space: Space

    def beyond(self, best: float) -> list[Candidate]:
        """Candidates that serve more than `best`, the highest rate of all among them."""
        pairs = self.by_accelerators()
        found: list[Candidate] = []
        known = best
        for pair, promising in pairs:
            # Where a rate is known already, the first question is whether anything serves more.
            if known == 0.0 and promising.highest > best * STEP:
                seeds = promising.ceilings > best * STEP
                found += pair.with_whole_budget(promising.senders[seeds], promising.receivers[seeds])
                best = _highest(found, best)
        high = min(max((promising.highest for _, promising in pairs), default=0.0), MAX_RATE_PER_S)
        questions = 0
        while (asked := max(best * STEP, TRICKLE_PER_S)) <= high:
            # The types that serve a little more may have much more to give, and many small steps take
            # long: after some of them, every other question halves what is left between the bounds.
            questions += 1
            if questions > PATIENCE and questions % 2:
                asked = float(np.sqrt(asked * high))
            more = self.serving(asked)
            if more:
                found += [*more, *self.grown([c.plan for c in more], pairs)]
                best = _highest(found, best)
            elif asked <= max(best * STEP, TRICKLE_PER_S):
                break  # nothing serves a little more: the best is the best
            else:
                high = asked
        if self.space.objective.thorough and best > known:
            found += self.grown([c.plan for c in self.of_many_sizes(best * LESS)], pairs)
        return [c for c in found if c.metrics.requests_per_s > known]

    def grown(self, plans: Iterable[Plan], pairs: Iterable[tuple[Splits, Pairs]]) -> list[Candidate]:
        """The worker types of plans with the whole budget."""
        found: list[Candidate] = []
        for pair, _ in pairs:
            mine = [plan for plan in plans if isinstance(plan, Disaggregated) and pair.has(plan)]
            found += pair.grown(mine) if mine else []
        return found

    def of_many_sizes(self, rate: float) -> tuple[Candidate, ...]:
        """Pairs of pools of different sizes that serve a rate with little of the budget."""
        objective = share_of(self.space.limits, self.space.objective)
        tried = sorted(self.serving(rate, thorough=True), key=lambda c: (objective.cost(c), repr(c.plan)))
        return distinct(tried, SIZES)

    def serving(self, rate: float, thorough: bool = False) -> list[Candidate]:
        """The pair of pools that serves a rate with the least share of the budget, and others on the way."""
        share = replace(share_of(self.space.limits, self.space.objective), thorough=thorough)
        asked = self.question.workload.at_rate(np.asarray(rate))
        return search_disaggregated(
            self.world, asked, self.question.slo, replace(self.space, objective=share)
        )

    def by_accelerators(self) -> list[tuple[Splits, Pairs]]:
        """Pairs of accelerators that a network joins, the most promising first, each with its best types."""
        found = [
            pair
            for p, d in ((p, d) for p in self.space.prefill for d in self.space.decode)
            if default_bandwidth(self.world, p, d) or self.world.network.bandwidth_bytes_per_s
            for pair in splits_between(self.question, self.world, self.space, p, d)
        ]
        bounded = [(pair, pair.best_pairs(SEEDS)) for pair in found]
        return sorted(bounded, key=lambda b: -b[1].highest)


def _highest(found: list[Candidate], best: float) -> float:
    return max([best, *(float(c.metrics.requests_per_s) for c in found)])
