"""How many workers of given types each rate of a series asks for, all rates in one array call.

Prefill and decode workers are counted on their own for every rate: the same
inversion of `evaluate` as in the search, over one worker type and many rates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pdplan.compose import World, build_network, build_pool, economics
from pdplan.evaluate import evaluate_colocated, evaluate_disaggregated
from pdplan.laws.roofline import Array
from pdplan.plan import Colocated, Disaggregated, Equal, Metrics, Mixed, Plan
from pdplan.question import Question
from pdplan.search.days.mixed_schedule import schedule_mix
from pdplan.search.days.series import Schedule, with_workers
from pdplan.search.limits import Limits
from pdplan.search.modes.colocated import evaluate_workers
from pdplan.search.modes.pairs import (
    PairProblem,
    SizedDecode,
    decode_of,
    extra_decode_workers,
    least_prefill_workers,
    size_decode,
)
from pdplan.search.objective import Objective, serves, tpot_limit_s, ttft_limit_s
from pdplan.search.workers.candidates import (
    Candidates,
    DecodeChoices,
    PrefillChoices,
    batch_to_configure,
    decode_choices,
    workers_for_rate,
)
from pdplan.search.workers.whole import least_whole
from pdplan.serving.pools import Pool, prefill_service, solve_running
from pdplan.uncertainty import slo_of
from pdplan.workload import Workload


def schedule(plan: Plan, question: Question, world: World, objective: Objective, rates: Array) -> Schedule:
    """Least workers of the plan's types for each of `rates`; the plan itself carries the highest."""
    if isinstance(plan, Mixed):
        return schedule_mix(plan, question, world, objective, rates)
    question = replace(question, slo=slo_of(plan, question.slo))
    sizing = question.workload.at_rate(rates / (1.0 - question.headroom))
    if isinstance(plan, Colocated):
        found, batch = _colocated(plan, question, world, objective, sizing)
    else:
        found, batch = _disaggregated(plan, question, world, objective, sizing)
    workers = {name: n + question.spare_workers for name, n in found.items()}
    role = "colocated" if isinstance(plan, Colocated) else "decode"
    most = {name: int(n.max()) for name, n in workers.items()}
    whole = with_workers(plan, most, {role: batch})
    metrics = _metrics(whole, workers, question, world, rates)
    return Schedule(plan=whole, workers=workers, metrics=tuple(metrics.at(k) for k in range(len(rates))))


# ------------------------------------------------------------------------ inside

Found = tuple[dict[str, Array], int]
"""Workers that have to be up, by pool and rate; the max_batch of the decoding pool."""


def _type(plan: Plan, role: str, question: Question, world: World, objective: Objective) -> Candidates:
    """One worker type as candidates of length one; a decoding one with the batch that memory holds."""
    pool = plan.pools[role]
    asked = replace(pool, workers=1, max_batch=pool.max_batch if role == "prefill" else None)
    built = build_pool(world, plan, asked, role, question.workload)
    price = objective.unit_price[pool.hardware]
    return Candidates(hardware=pool.hardware, pool=built, unit_cost=built.layout.gpus * price, enumerated=1)


def _decoding(plan: Plan, role: str, question: Question, world: World, objective: Objective) -> DecodeChoices:
    limit = tpot_limit_s(question.slo, question.workload.osl)
    fitting = _type(plan, role, question, world, objective)
    return decode_choices(fitting, question.workload, limit, role == "colocated")


def _colocated(
    plan: Colocated, question: Question, world: World, objective: Objective, sizing: Workload
) -> Found:
    money = economics(world, plan.pools)
    rates = np.asarray(sizing.rate)
    choices = _decoding(plan, "colocated", question, world, objective).take(np.zeros(len(rates), dtype=int))

    def good(cases: Array, workers: Array) -> Array:
        at = sizing.at_rate(rates[cases])
        return evaluate_workers(choices.take(cases), workers, at, question.slo, money)[1]

    low = workers_for_rate(choices, rates, sizing, question.slo)
    high = np.maximum(low, plan.colocated.workers - question.spare_workers)
    workers = least_whole(good, low, high)
    batch = evaluate_workers(choices, workers, sizing, question.slo, money)[2]
    return {"colocated": workers}, int(batch.max())


def _disaggregated(
    plan: Disaggregated, question: Question, world: World, objective: Objective, sizing: Workload
) -> Found:
    """For every rate the least cost over all numbers of decode workers."""
    rates = np.asarray(sizing.rate)
    same = np.zeros(len(rates), dtype=int)
    slo = question.slo
    sending = _type(plan, "prefill", question, world, objective).take(same)
    service = prefill_service(sending.pool, sizing)
    service = replace(
        service,
        time_s=np.broadcast_to(service.time_s, same.shape),
        prompts=np.broadcast_to(service.prompts, same.shape),
    )
    prefill = PrefillChoices(candidates=sending, service=service)
    choices = _decoding(plan, "decode", question, world, objective).take(same)
    problem = PairProblem(
        serving=plan,
        workload=sizing,
        slo=slo,
        network=build_network(world, plan.prefill.hardware, plan.decode.hardware),
        economics=economics(world, plan.pools),
        objective=objective,
        limits=Limits(dollars=objective),
    )
    decode, senders = _least_pair(problem, prefill, size_decode(choices, rates, sizing, slo))
    running = solve_running(decode.pool, sizing, rates * slo.tpot_factor, colocated=False)
    batch = batch_to_configure(decode.pool, running, choices.limit, slo)
    known = np.isfinite(senders)
    metrics = evaluate_disaggregated(
        sending.with_workers(np.where(known, senders, 1.0)),
        replace(decode.pool, max_batch=batch),
        sizing,
        slo,
        problem.network,
        problem.economics,
    )
    known = known & serves(metrics, slo)
    # Where nothing smaller serves, the workers of the highest rate do.
    spare = question.spare_workers
    workers = {
        "prefill": np.where(known, senders, plan.prefill.workers - spare),
        "decode": np.where(known, decode.workers, plan.decode.workers - spare),
    }
    return workers, max(int(batch[known].max(initial=1)), plan.decode.max_batch or 1)


def _least_pair(
    problem: PairProblem, prefill: PrefillChoices, decode: SizedDecode
) -> tuple[SizedDecode, Array]:
    """The cheapest numbers of decode and prefill workers, one case a rate."""

    def senders(decode: SizedDecode) -> Array:
        limit = ttft_limit_s(problem.slo, problem.workload.osl, decode.tpot_slo_s)
        return least_prefill_workers(problem, prefill, decode.pool, decode.first_step_s, limit)

    workers = senders(decode)
    extra = extra_decode_workers(problem, prefill, workers, decode, np.ones(len(workers)))
    if not extra.any():
        return decode, workers
    more = decode_of(decode.choices, decode.workers + extra, problem.rate, problem.workload, problem.slo)
    return more, senders(more)


def _metrics(
    plan: Equal, workers: dict[str, Array], question: Question, world: World, rates: Array
) -> Metrics:
    """Metrics of the plan at every rate, with its own workers at each."""
    asked, money = question.workload.at_rate(rates), economics(world, plan.pools)
    same = np.zeros(len(rates), dtype=int)
    pools: dict[str, Pool] = {}
    for name, pool in plan.pools.items():
        one = build_pool(world, plan, pool, name, question.workload)
        layout, batch = one.layout[same], one.max_batch[same]
        pools[name] = replace(one, layout=layout, max_batch=batch, workers=workers[name])
    if isinstance(plan, Colocated):
        return evaluate_colocated(pools["colocated"], asked, question.slo, money)
    network = build_network(world, plan.prefill.hardware, plan.decode.hardware)
    return evaluate_disaggregated(pools["prefill"], pools["decode"], asked, question.slo, network, money)
