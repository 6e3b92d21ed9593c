"""The search turned round: the most requests/s that a number of accelerators, or dollars, serve.

A pool alone that spends the budget is bounded from above by its TPOT limit and memory; types are
tried best bound first until no bound is above the best rate found. Two pools: goodput_pairs.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pdplan.compose import World
from pdplan.evaluate import Economics
from pdplan.laws.roofline import Array
from pdplan.plan import Colocated
from pdplan.question import Candidate, Question
from pdplan.search.goodput.goodput_pairs import most_goodput_of_pairs
from pdplan.search.goodput.rates import RELATIVE_TOLERANCE, SHY, highest_rate
from pdplan.search.modes.colocated import evaluate_workers, metrics_at, search_colocated, served_at
from pdplan.search.modes.disaggregated import search_disaggregated
from pdplan.search.space import Space
from pdplan.search.workers.candidates import DecodeChoices, largest_rate, most_running
from pdplan.uncertainty import slo_on
from pdplan.workload import MAX_RATE_PER_S

BLOCK = 96
"""Deployments whose rate is searched for in one array call."""
FLOOR = 0.5
"""What serves less than this share of the best is no alternative to it."""


def most_goodput(
    question: Question, world: World, space: Space, known: Sequence[Candidate] = ()
) -> list[Candidate]:
    """Candidates of both modes within the budget, the highest rate of each mode among them.

    To RELATIVE_TOLERANCE, by proof. What is `known` of other formats need not be reached: who cannot
    beat its mode's best, or serves no more than the objective's `beyond`, is left out. Of plans that
    serve as much as the best of a mode the cheapest is among them.
    """
    found: list[Candidate] = []

    def best(mode: str) -> float:
        rates = [c.metrics.requests_per_s for c in (*known, *found) if c.plan.mode == mode]
        return float(max(rates, default=space.objective.beyond))

    for choices in space.colocated.values():
        found += _colocated(question, world, space, choices, best("colocated"))
    if space.prefill and space.decode:
        found += most_goodput_of_pairs(question, world, space, best("disaggregated"))
    return found + [
        c for mode in ("colocated", "disaggregated") for c in _as_good(found, mode, question, world, space)
    ]


def _as_good(
    found: Sequence[Candidate], mode: str, question: Question, world: World, space: Space
) -> list[Candidate]:
    """What serves the highest rate of a mode at no more cost: all of the budget may not be needed for it,
    and of plans that are as good the plainest is to come first."""
    best = max(
        (c for c in found if c.plan.mode == mode), key=lambda c: float(c.metrics.requests_per_s), default=None
    )
    if best is None or not space.objective.thorough:
        return []
    asked = question.workload.at_rate(np.asarray(best.metrics.requests_per_s))
    objective = replace(space.objective, ceiling=space.objective.cost(best), firm=True)
    search = search_colocated if mode == "colocated" else search_disaggregated
    return search(world, asked, question.slo, replace(space, objective=objective))


# ------------------------------------------------------------------------ one pool


def _colocated(
    question: Question, world: World, space: Space, choices: DecodeChoices, best: float
) -> list[Candidate]:
    workload, hardware = question.workload, choices.candidates.hardware
    slo = slo_on(question.slo, space.serving, hardware)
    money = Economics(
        usd_per_gpu_h={"colocated": world.price(hardware)}, watt_per_gpu={"colocated": world.watts(hardware)}
    )
    # Spare workers take accelerators and serve nothing.
    workers = space.limits.most_workers(hardware, choices.candidates.pool.layout.gpus)
    usable = np.flatnonzero(workers >= 1)
    choices, workers = choices.take(usable), workers[usable]
    if not len(choices):
        return []
    bound = np.minimum(largest_rate(choices, workers, workload, slo) * (1 - 1e-9), MAX_RATE_PER_S)
    order = np.argsort(-bound, kind="stable")
    found: list[Candidate] = []
    for start in range(0, len(order), BLOCK):
        index = order[start : start + BLOCK]
        if bound[index[0]] <= best * (1 + RELATIVE_TOLERANCE):
            break
        part, count = choices.take(index), workers[index]

        def beyond(running: Array, which: Array, part: DecodeChoices = part, count: Array = count) -> Array:
            return served_at(part.take(which), count[which], running, workload, slo).beyond

        most = most_running(part, count, bound[index], workload, slo)
        # By how many run: a rate follows from that directly, and it from a rate by solving.
        running = SHY * highest_rate(beyond, most)
        rate = count * served_at(part, count, np.maximum(running, 1e-9), workload, slo).each
        kept = (running > 0) & (rate >= FLOOR * rate.max(where=running > 0, initial=best))
        some = np.flatnonzero(kept)
        part, count, running, rate = part.take(some), count[some], running[some], rate[some]
        asked = workload.at_rate(rate)
        if slo.tpot_factor == 1.0:
            metrics, good, batch = metrics_at(part, count, running, asked, slo, money)
        else:
            metrics, good, batch = evaluate_workers(part, count, asked, slo, money)
        found += [
            Candidate(
                plan=Colocated(
                    **vars(space.serving), colocated=part.candidates.plan(k, int(count[k]), int(batch[k]))
                ),
                metrics=metrics.at(k),
            )
            for k in np.flatnonzero(good)
        ]
        best = max([best, *rate[good]])
    return found
