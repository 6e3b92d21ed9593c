"""Open loops: requests come at random, and wait for prefill on workers that also decode.

Closed loops, as benchmarks drive a server, are pdplan/closed_loop.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.first_token import step_prompts
from pdplan.laws.roofline import Array
from pdplan.pools import MixedStep, Pool
from pdplan.queueing import erlang_c, mean_wait_s
from pdplan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Waiting for prefill in an open loop."""

    wait_s: Array
    """Mean, for prompts ahead and for those that join the own step, beyond half of the mean step [s]."""
    waits: Array
    """Share of arrivals that wait for other prompts."""
    known_s: Array
    """Of the step under way, what every arrival meets: half a step without prefill, where steps mix;
    what prompts add to that step is part of the wait that differs between arrivals [s]."""


def open_queue(pool: Pool, workload: Workload, step: MixedStep, rate: ArrayLike) -> Queue:
    """What `rate` requests/s that come at random wait for on a pool that also decodes.

    Where prompts run on their own they queue one after the other: W of G/G/c, work S_q each.
    Where steps mix prompts and decodes, all prompts that come during a step start in the next one,
    up to K, and end together. With λ = rate/servers, ρ = λ·t_extra, D the mean step and S the own one:
        W = W_q·S/S_q + t_extra·μ·h/(μ + h),  μ = λ·(D/2 + W_q·S/S_q)/(1 + ρ),  h = (K − 1)/2
    prompts ahead; and those that come after it, of which μ join its step while it waits, if there is room.
    For K → ∞ this is exact: of the step under way R = D/2 + ρ·t_extra/(2(1 − ρ²)) is left (steps last
    t + t_extra·A, with the A arrivals of the step before), as many come before as after the arrival, and
    W = R·(1 + 2ρ) − D/2. For K = 1 it is M/D/1. Those wait that come in a step with prompts:
        C = max(C_q, 1 − (1 − ρ)·e^(−λ·D))
    Agrees with a simulation that counts every step (tests/test_open_loop.py): mean TTFT within 8 %, its
    90th percentile within 20 %. Several servers are taken as if a request went to the one that is free next.
    """
    servers, arrivals = pool.servers, np.asarray(rate, dtype=float)
    work = step.prefill_work_s
    wait = mean_wait_s(servers, arrivals, work, workload.arrival_cv, workload.isl_cv)
    waits = erlang_c(servers, arrivals * work)
    if not pool.setting.constants.engine.mixes_prefill:
        return Queue(wait_s=wait, waits=waits, known_s=step.mean_s / 2.0)
    each = arrivals / servers
    busy = np.minimum(each * step.prefill_extra_s, 1.0)
    ahead = wait * step.prefill_service_s / work
    joining = each * (step.mean_s / 2.0 + ahead) / (1.0 + busy)
    room = (step_prompts(pool, workload) - 1.0) / 2.0
    beside = room * (1.0 - room / np.maximum(room + joining, 1e-12))
    return Queue(
        wait_s=ahead + step.prefill_extra_s * beside,
        waits=np.maximum(waits, 1.0 - (1.0 - busy) * np.exp(-each * step.mean_s)),
        known_s=step.plain_s / 2.0,
    )
