"""The cheapest pair of a prefill and a decode pool, exactly.

Decode workers are counted first: their number depends on the rate and the TPOT
limit alone. Prefill workers depend on the decode pool through the first decode
step and the KV transfer, so pairs are tried in the order of a lower bound of
their cost (prefill counted as if both were free) until no bound is below the
best pair found. Decode workers beyond the least, which shorten the first step a
little, are counted exactly, too (search.extra).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World, build_network, default_bandwidth
from pdplan.evaluate import (
    Economics,
    evaluate_disaggregated,
)
from pdplan.laws.roofline import Array
from pdplan.plan import Disaggregated
from pdplan.question import Candidate
from pdplan.search.limits import Limits
from pdplan.search.modes.pairs import (
    PairProblem,
    SizedDecode,
    extra_decode_workers,
    least_prefill,
    least_prefill_workers,
    sized_types,
    with_extra,
    workers_of,
)
from pdplan.search.objective import Objective, Workers, serves, ttft_limit_s
from pdplan.search.space import Space
from pdplan.search.workers.candidates import (
    DecodeChoices,
    PrefillChoices,
    batch_to_configure,
    least_workers,
)
from pdplan.serving.pools import solve_running
from pdplan.uncertainty import slo_on
from pdplan.workload import Slo, Workload

BLOCK = 128
"""Pairs sized in one array call."""
FIRST_PAIRS = 4096
"""Bounds sorted at once; more follow if these do not settle it."""
TIES = 4
"""Blocks tried beyond the first optimum, for pairs of equal cost with more margin."""
EQUAL = 1 + 1e-9
"""Costs within such a factor are the same."""
NEARLY, OTHER_PAIRS = 1.25, 3
"""Accelerator pairs within this factor of the best are searched too, so many at most: the alternatives."""


@dataclass(frozen=True, kw_only=True)
class BoundedPrefill:
    """Prefill worker types with a number of workers that no decode pool can undercut."""

    choices: PrefillChoices
    workers: Array
    cost: Array


def bound_prefill(
    problem: PairProblem, prefill: PrefillChoices, decodes: Iterable[SizedDecode]
) -> BoundedPrefill:
    """Least prefill workers if transfers were free and the first step that of an idle decode worker."""
    pools = [d for d in decodes if len(d.choices)]
    if not pools:
        nothing = np.zeros(0, dtype=int)
        return BoundedPrefill(choices=prefill.take(nothing), workers=np.zeros(0), cost=np.zeros(0))
    fastest = min(float(d.choices.fastest_tpot_s.min()) for d in pools)
    first = min(float(d.choices.fastest_tpot_s.min()) * d.choices.first_steps for d in pools)
    osl, hardware = problem.workload.osl, prefill.candidates.hardware
    slos = [slo_on(problem.slo, problem.serving, hardware, d.hardware) for d in pools]
    loosest = max(float(ttft_limit_s(slo, osl, np.asarray(fastest))) for slo in slos)
    bound = least_prefill_workers(problem, prefill, None, np.asarray(first), np.asarray(loosest))
    possible = np.flatnonzero(np.isfinite(bound))
    prefill, bound = prefill.take(possible), bound[possible]
    candidates = prefill.candidates
    cost = problem.objective.pool_cost(candidates.hardware, candidates.pool.layout.gpus, bound)
    there = np.flatnonzero(np.isfinite(cost))
    return BoundedPrefill(choices=prefill.take(there), workers=bound[there], cost=cost[there])


def cheapest_pairs(
    problem: PairProblem, prefill: BoundedPrefill, decode: SizedDecode, incumbent: float
) -> tuple[list[Candidate], float]:
    """Feasible pairs in the order of cost, and the cheapest cost known: `incumbent` or below."""
    found: list[Candidate] = []
    best, blocks_after = incumbent, 0
    bounds = _pair_bounds(problem.objective, prefill, decode, problem.limits)
    for i, j in _by_bound(bounds, prefill, decode):
        lowest = float(bounds[i, j].min())
        if lowest > best * (1 + 1e-9) or lowest == np.inf:
            break
        if best < np.inf and lowest >= best * (1 - 1e-9):
            blocks_after += 1
            if blocks_after > (TIES if problem.objective.thorough else 0):
                break
        block = _size_block(problem, prefill.choices.take(i), prefill.workers[i], decode.take(j), best)
        found += block
        best = min([best, *(problem.objective.cost(c) for c in block)])
    return found, best


def _pair_bounds(
    objective: Objective, prefill: BoundedPrefill, decode: SizedDecode, limits: Limits | None
) -> Array:
    """The least that every pair can cost, prefill types by decode types; infinite beyond what there is."""
    sending, receiving = prefill.choices.candidates, decode.choices.candidates
    senders = Workers(sending.hardware, sending.pool.layout.gpus[:, None], prefill.workers[:, None])
    receivers = Workers(receiving.hardware, receiving.pool.layout.gpus, decode.workers)
    bounds = objective.pair_cost(senders, receivers)
    if limits is None or not limits.bind:
        return bounds
    return np.where(limits.allow_pair(senders, receivers), bounds, np.inf)


def _by_bound(bounds: Array, prefill: BoundedPrefill, decode: SizedDecode) -> Iterator[tuple[Array, Array]]:
    """Pairs in blocks, cheapest bound first; equal bounds: quicker pairs first."""
    # A hair of each pair's latency orders ties without changing any order of cost.
    time_s = prefill.choices.service.time_s
    hair_p = 1e-9 * prefill.cost * time_s / time_s.max()
    hair_d = 1e-9 * decode.cost * decode.tpot_mean_s / decode.tpot_mean_s.max()
    keys = (bounds + np.add.outer(hair_p, hair_d)).ravel()
    width, done = len(decode.cost), 0
    while done < keys.size:
        upto = min(max(done * 4, FIRST_PAIRS), keys.size)
        chosen = np.argpartition(keys, upto - 1)[:upto] if upto < keys.size else np.arange(keys.size)
        order = chosen[np.lexsort((chosen, keys[chosen]))][done:]
        for start in range(0, len(order), BLOCK):
            part = order[start : start + BLOCK]
            yield part // width, part % width
        done = upto


def _size_block(
    problem: PairProblem, prefill: PrefillChoices, least: Array, decode: SizedDecode, best: float
) -> list[Candidate]:
    """Size a block of pairs and evaluate those that work."""
    limit = ttft_limit_s(problem.slo, problem.workload.osl, decode.tpot_slo_s)
    workers = least_prefill_workers(problem, prefill, decode.pool, decode.first_step_s, limit)
    found = _candidates(problem, prefill, workers, decode)
    best = min([best, *(problem.objective.cost(c) for c in found)])
    extra = extra_decode_workers(problem, prefill, workers, decode, least, best, EQUAL)
    index = np.flatnonzero(extra)
    if len(index):
        more, part = with_extra(problem, decode.take(index), extra[index]), prefill.take(index)
        limit = ttft_limit_s(problem.slo, problem.workload.osl, more.tpot_slo_s)
        again = least_prefill_workers(problem, part, more.pool, more.first_step_s, limit)
        found += _candidates(problem, part, again, more)
    return found


def _candidates(
    problem: PairProblem, prefill: PrefillChoices, workers: Array, decode: SizedDecode
) -> list[Candidate]:
    """Evaluate sized pairs in one call and keep those that meet everything."""
    senders = workers_of(prefill.candidates, np.where(np.isfinite(workers), workers, 0.0))
    receivers = workers_of(decode.choices.candidates, decode.workers)
    allowed = np.isfinite(workers) & problem.limits.allow_pair(senders, receivers)
    if not problem.objective.is_plain:
        allowed &= np.isfinite(problem.objective.pair_cost(senders, receivers))
    index = np.flatnonzero(allowed)
    if not len(index):
        return []
    prefill, decode, workers = prefill.take(index), decode.take(index), workers[index]
    prefill_pool = prefill.candidates.with_workers(workers)
    running = decode.running
    if problem.slo.tpot_factor != 1.0:  # as many run as at a rate so much higher, should steps take longer
        slower = problem.rate * problem.slo.tpot_factor
        running = solve_running(decode.pool, problem.workload, slower, colocated=False)
    batch = batch_to_configure(decode.pool, running, decode.choices.limit, problem.slo)
    decode_pool = replace(decode.pool, max_batch=batch)
    metrics = evaluate_disaggregated(
        prefill_pool,
        decode_pool,
        problem.workload,
        problem.slo,
        problem.network,
        problem.economics,
        decode.running,
    )
    good = np.flatnonzero(np.broadcast_to(serves(metrics, problem.slo), np.shape(workers)))
    senders = Workers(prefill.candidates.hardware, prefill.candidates.pool.layout.gpus, workers)
    receiving = decode.choices.candidates
    receivers = Workers(receiving.hardware, receiving.pool.layout.gpus, decode.workers)
    good = problem.objective.worth_keeping(good, problem.objective.pair_cost(senders, receivers))
    shared = vars(problem.serving)
    return [
        Candidate(
            plan=Disaggregated(
                **shared,
                prefill=prefill.candidates.plan(k, int(workers[k]), int(prefill_pool.max_batch[k])),
                decode=decode.choices.candidates.plan(k, int(decode.workers[k]), int(batch[k])),
            ),
            metrics=metrics.at(k),
        )
        for k in good
    ]


def search_disaggregated(world: World, workload: Workload, slo: Slo, space: Space) -> list[Candidate]:
    """Candidates over all pairs of accelerators.

    The cheapest of all is certainly among them, unless it costs more than the objective's ceiling.
    """
    assert workload.rate is not None
    objective = space.objective
    prefills, decodes = _below_ceiling(space, workload.rate, slo)
    spare = objective.spare_workers
    sized = {
        hw: sized_types(space.types, choices, workload, slo_on(slo, space.serving, hw, hw), spare)
        for hw, choices in decodes.items()
        if len(choices)
    }
    if not objective.is_plain:
        sized = {hw: _within_inventory(d, objective) for hw, d in sized.items()}

    def problem(p: str, d: str) -> PairProblem:
        return PairProblem(
            serving=space.serving,
            workload=workload,
            slo=slo_on(slo, space.serving, p, d),
            network=build_network(world, p, d),
            economics=Economics(
                usd_per_gpu_h={"prefill": world.price(p), "decode": world.price(d)},
                watt_per_gpu={"prefill": world.watts(p), "decode": world.watts(d)},
            ),
            objective=objective,
            limits=space.limits,
        )

    joined = [
        (p, d)
        for p in prefills
        for d in sized
        if default_bandwidth(world, p, d) or world.network.bandwidth_bytes_per_s
    ]
    bounded = {
        p: bound_prefill(problem(p, next(d for q, d in joined if q == p)), prefills[p], sized.values())
        for p in dict.fromkeys(p for p, _ in joined)
        if len(prefills[p])
    }
    possible = [(p, d) for p, d in joined if p in bounded and len(bounded[p].choices) and len(sized[d].cost)]
    # The pair of the lowest bound first: a low incumbent early saves most of the work.
    bounds = sorted((_least_bound(objective, bounded[p], sized[d]), p, d) for p, d in possible)
    found: list[Candidate] = []
    incumbent = objective.ceiling
    others = 0
    for bound, p, d in bounds:
        if bound == np.inf:
            break
        if bound <= incumbent * (1 + 1e-9):
            pairs, incumbent = cheapest_pairs(problem(p, d), bounded[p], sized[d], incumbent)
        elif objective.thorough and bound <= incumbent * NEARLY and others < OTHER_PAIRS:
            others += 1  # cannot be the best, may be the next best
            pairs, _ = cheapest_pairs(problem(p, d), bounded[p], sized[d], np.inf)
        else:
            break
        found += pairs
    return found


def _below_ceiling(
    space: Space, rate: float | Array, slo: Slo
) -> tuple[dict[str, PrefillChoices], dict[str, DecodeChoices]]:
    """The worker types of which as few as can possibly do cost no more than the ceiling.

    Without queues and fluctuation this takes no evaluation; most types of the dearer mode end here.
    """
    objective, ceiling = space.objective, space.objective.ceiling * (1 + 1e-9)
    soft = objective.thorough and not objective.firm  # the next best may cost more than what is known
    if soft or not np.isfinite(ceiling):
        return space.prefill, space.decode
    sent = {
        hw: objective.pool_cost(hw, c.candidates.pool.layout.gpus, least_prefill(c, rate))
        for hw, c in space.prefill.items()
    }
    received = {
        hw: objective.pool_cost(
            hw, c.candidates.pool.layout.gpus, least_workers(c, rate, slo_on(slo, space.serving, hw, hw))
        )
        for hw, c in space.decode.items()
    }
    # Pools that share nodes may cost less together than apart, but no less than one of them.
    apart = float(objective.adds_up)
    least_p, least_d = (
        apart * min((float(c.min(initial=np.inf)) for c in costs.values()), default=np.inf)
        for costs in (sent, received)
    )
    return (
        {hw: c.take(np.flatnonzero(sent[hw] + least_d <= ceiling)) for hw, c in space.prefill.items()},
        {hw: c.take(np.flatnonzero(received[hw] + least_p <= ceiling)) for hw, c in space.decode.items()},
    )


def _within_inventory(sized: SizedDecode, objective: Objective) -> SizedDecode:
    """Worker types of which there are enough, at what they cost by the tariff."""
    candidates = sized.choices.candidates
    cost = objective.pool_cost(candidates.hardware, candidates.pool.layout.gpus, sized.workers)
    return replace(sized, cost=cost).take(np.flatnonzero(np.isfinite(cost)))


def _least_bound(objective: Objective, prefill: BoundedPrefill, decode: SizedDecode) -> float:
    """The least that any pair can cost."""
    if objective.is_plain:
        return float(prefill.cost.min()) + float(decode.cost.min())
    return float(_pair_bounds(objective, prefill, decode, None).min())
