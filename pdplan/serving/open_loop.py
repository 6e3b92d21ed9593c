"""Open loops: requests come at random, and wait for prefill on workers that also decode.

Closed loops, as benchmarks drive a server, are pdplan/serving/closed_loop.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array
from pdplan.serving.first_token import FirstToken, step_prompts
from pdplan.serving.latency import Latency
from pdplan.serving.pools import MixedStep, Pool
from pdplan.serving.queueing import mean_wait_s
from pdplan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Waiting for prefill in an open loop."""

    wait_s: Array
    """Mean, for prompts ahead and for those that join the own step, beyond half of the mean step [s]."""
    waits: Array
    """Share of arrivals that wait for other prompts."""
    phase_s: Array
    """The step that every arrival meets at random, between its end and its start: one without prefill, where
    steps mix; what prompts add to it is part of the wait that some arrivals have [s]."""


def spread_at_server(arrival_cv: float, servers: ArrayLike) -> Array:
    """Coefficient of variation of the gaps between arrivals at one of several servers that also decode.

    A router sends a request where the fewest are; it counts the many that decode, which says little of
    where prompts wait. Arrivals at one of c servers lie between a random share of all of them
    (c_i² = c_a²/c + 1 − 1/c) and every c-th one (c_a²/c): c_i² = c_a²/c + (1 − 1/c)/2, the mean of both.

    >>> float(spread_at_server(1.0, 1)), round(float(spread_at_server(1.0, 8)), 3)
    (1.0, 0.75)
    """
    c = np.asarray(servers, dtype=float)
    return np.sqrt(arrival_cv**2 / c + (1.0 - 1.0 / c) / 2.0)


def open_ttft(queue: Queue, first: FirstToken, workload: Workload) -> Latency:
    """TTFT behind that queue: what every request meets of the step under way is no part of the wait."""
    return Latency(
        waits=queue.waits,
        wait_s=queue.wait_s + (first.running_step_s - queue.phase_s / 2.0),
        service_s=first.service_s,
        service_cv=workload.isl_cv,
        fixed_s=first.other_s - first.running_step_s,
        phase_s=queue.phase_s,
    )


def open_queue(pool: Pool, workload: Workload, step: MixedStep, rate: ArrayLike) -> Queue:
    """What `rate` requests/s that come at random wait for on a pool that also decodes.

    Each server has a queue of its own, see `spread_at_server`. Where prompts run on their own they queue one
    after the other: W of G/G/1, work S_q each.
    Where steps mix prompts and decodes, all prompts that come during a step start in the next one,
    up to K, and end together. With λ = rate/servers, ρ = λ·t_extra, D the mean step and S the own one:
        W = W_q·S/S_q + t_extra·μ·h/(μ + h),  μ = c_i²·λ·(D/2 + W_q·S/S_q)/(1 + ρ),  h = (K − 1)/2
    prompts ahead; and those that come after it, of which μ join its step while it waits, if there is room
    (after one arrival the router sends the next elsewhere, the more so the smaller c_i).
    For K → ∞ this is exact: of the step under way R = D/2 + ρ·t_extra/(2(1 − ρ²)) is left (steps last
    t + t_extra·A, with the A arrivals of the step before), as many come before as after the arrival, and
    W = R·(1 + 2ρ) − D/2. For K = 1 it is M/D/1. Those wait that come in a step with prompts:
        C = max(C_q, 1 − (1 − ρ)·e^(−λ·D))
    Agrees with a simulation that counts every step (tests/test_open_loop.py): mean TTFT within 8 %, its
    90th percentile within 20 %; of several servers up to half load 15 %, and 20 % short to 50 % long.
    """
    servers, work = pool.servers, step.prefill_work_s
    each = np.asarray(rate, dtype=float) / servers
    gaps = spread_at_server(workload.arrival_cv, servers)
    wait = mean_wait_s(1.0, each, work, gaps, workload.isl_cv)
    waits = np.minimum(each * work, 1.0)
    if not pool.setting.constants.engine.mixes_prefill:
        return Queue(wait_s=wait, waits=waits, phase_s=step.mean_s)
    busy = np.minimum(each * step.prefill_slot_extra_s, 1.0)
    ahead = wait * step.prefill_slot_s / work
    joining = gaps**2 * each * (step.mean_s / 2.0 + ahead) / (1.0 + busy)
    room = (step_prompts(pool, workload) - 1.0) / 2.0
    beside = room * (1.0 - room / np.maximum(room + joining, 1e-12))
    return Queue(
        wait_s=ahead + step.prefill_extra_s * beside,
        waits=np.maximum(waits, 1.0 - (1.0 - busy) * np.exp(-each * step.mean_s)),
        phase_s=step.plain_s,
    )
