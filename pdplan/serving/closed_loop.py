"""Closed loops: a fixed number of requests always in flight, as benchmarks drive a server.

The rate is not given but follows: requests that do not decode are at prefill, and
Little's law ties both. An open loop has no use for this file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.kv_transfer import Network, exposed_transfer_time_s, transfer_links, transfer_time_s
from pdplan.laws.roofline import Array
from pdplan.memory import request_cache_bytes
from pdplan.roots import increasing_root
from pdplan.serving.first_token import FirstToken, first_token, step_prompts
from pdplan.serving.pools import (
    Pool,
    PrefillService,
    decode_tpot_s,
    first_step_s,
    mixed_step,
    prefill_service,
)
from pdplan.serving.trains import Steps, gated_prompt_s, step_under_way, train_prompts
from pdplan.workload import Workload


def opening_burst_s(
    servers: ArrayLike,
    prompt_s: ArrayLike,
    workload: Workload,
    together: ArrayLike = 1.0,
    later_s: ArrayLike = 0.0,
) -> Array:
    """What the requests that all arrive first add to the mean TTFT of a closed loop [s].

    With N requests over c servers, S seconds a prompt and k prompts a step, which end together, the
    burst's mean wait is S·((N/c + min(k, N/c))/2 − 1), and the cold start of the kernels comes on
    top; both weigh `burst_share`, and so does the wait of later requests that those of the burst do not
    have, `later_s`. Zero for open loops and for loops long under way.
    """
    if workload.concurrency is None or not np.any(workload.burst_share):
        return np.zeros(())
    each = np.asarray(workload.concurrency, dtype=float) / servers
    ahead = (each + np.minimum(together, each)) / 2.0 - 1.0
    wait = np.asarray(prompt_s, dtype=float) * np.maximum(ahead, 0.0)
    return np.asarray(workload.burst_share * (wait + workload.cold_start_s - np.asarray(later_s)))


def closed_colocated(pool: Pool, workload: Workload) -> tuple[Array, Array, Array]:
    """Rate, running per worker and mean wait of a closed loop over one pool.

    With N requests per worker, r of them decoding: throughput X = r/(OSL·TPOT(r)),
    the others are at prefill, N − r = X·R (Little). R follows from Schweitzer's
    approximation of mean-value analysis for c servers (Seidmann):
        R = S + S_q/c·Q·(N−1)/N,  Q = N − r − X·Z,
    with Z what delays a request without taking its server (its host's work, the step under way, being
    held back), S a prompt's own service and S_q what those ahead of it take of a server. Where answers are
    all of one length there is no such queue but convoys (`first_token.convoy_prompts`).
    Source: Lazowska et al., Quantitative System Performance, 1984, chapters 6 and 7.
    """
    assert workload.concurrency is not None
    each = np.broadcast_to(np.asarray(workload.concurrency, dtype=float) / pool.workers, _shape(pool))
    servers = pool.servers_per_worker

    def residence(running: Array) -> tuple[Array, Array, FirstToken]:
        step = mixed_step(pool, workload, running)
        rate = running / (workload.osl * step.tpot_s)
        first = first_token(pool, workload, step, running)
        queue = 0.0 if first.convoys else np.maximum(each - running - rate * first.other_s, 0.0)
        ahead = queue * np.maximum(each - 1, 0) / each
        return rate, first.service_s + step.prefill_work_s / servers * ahead, first

    def surplus(running: Array) -> Array:
        rate, at_prefill, first = residence(running)
        return rate * (at_prefill + first.other_s) - (each - running)

    limit = np.minimum(each, np.broadcast_to(pool.max_batch, each.shape))
    running = increasing_root(surplus, np.full(each.shape, 1e-6), limit)
    rate, _at_prefill, first = residence(running)
    # Slots may be short: then requests wait for one, and Little's law says how long.
    wait = np.maximum((each - running) / rate - first.other_s - first.service_s, 0.0)
    return rate * pool.workers, running, wait


def closed_disaggregated(
    prefill: Pool, decode: Pool, workload: Workload, network: Network, service: PrefillService
) -> tuple[Array, Array, Array]:
    """Rate, running per decode worker and mean wait for prefill of a closed loop over two pools.

    As above, with S_q from `shared_steps_s`. Ranks of attention-dp step together: a prompt waits for the
    step under way on others, half of it on average. Where a worker sends one cache after another, the queue
    is at the slower of its ranks and its sending. A loop that began with all its requests at once waits as
    `pdplan.serving.trains` says where the engine keeps their order.
    """
    assert workload.concurrency is not None
    total = np.broadcast_to(np.asarray(workload.concurrency, dtype=float), _shape(prefill, decode))
    servers = prefill.servers
    handling = service.handling_s
    size = request_cache_bytes(prefill.setting.stack, prefill.setting.formats, workload.isl)
    links = transfer_links(prefill.layout.tp, prefill.layout.pp, decode.layout.tp, decode.layout.pp)
    alone = transfer_time_s(size, links, network, prefill.setting.stack.layers)
    overlap = prefill.setting.constants.engine.transfer_overlap
    exposed = exposed_transfer_time_s(alone, service.time_s, prefill.setting.stack.layers, overlap)
    steps = steps_of(prefill, workload, service)
    step_s = service.interval_s / service.steps
    together = prefill.layout.dp > 1
    in_trains = bool(prefill.setting.constants.engine.keeps_order and np.any(workload.burst_share))

    def ahead_s(waiting: Array) -> Array:
        return shared_steps_s(waiting, steps.fixed_s, steps.alone_s, steps.most)

    def random_wait_s(rate: Array, queue: Array) -> Array:
        ahead = queue * np.maximum(total - 1, 0) / total
        sent = ahead / prefill.workers * workload.handover_s
        others = rate / prefill.workers * np.maximum(total - 1, 0) / total
        gate = together * step_under_way(others * service.interval_s) * step_s / 2.0
        return np.maximum(ahead_s(ahead / servers), sent) + gate

    def train_wait_s(away: Array) -> Array:
        waiting = train_prompts(total / servers, away, steps.full_prompt_s)
        gate = gated_prompt_s(total / servers, away, steps) - steps.alone_s
        sending = train_prompts(total / prefill.workers, away + service.time_s, workload.handover_s)
        return np.maximum(np.maximum(ahead_s(waiting), gate), sending * workload.handover_s)

    def residence(running: Array) -> tuple[Array, Array, Array]:
        tpot = decode_tpot_s(decode, workload, running)
        rate = decode.workers * running / (workload.osl * tpot)
        other = exposed + workload.handover_s + handling + first_step_s(decode, workload, running, tpot)
        if in_trains:
            wait = train_wait_s(workload.osl * tpot + other)
        else:
            wait = random_wait_s(rate, np.maximum(total - running * decode.workers - rate * other, 0.0))
        return rate, service.time_s + wait, other

    def surplus(running: Array) -> Array:
        rate, at_prefill, other = residence(running)
        return rate * (at_prefill + other) - (total - running * decode.workers)

    limit = np.minimum(total / decode.workers, np.broadcast_to(decode.max_batch, total.shape))
    running = increasing_root(surplus, np.full(total.shape, 1e-6), limit)
    rate, _at_prefill, other = residence(running)
    wait = np.maximum((total - running * decode.workers) / rate - other - service.time_s, 0.0)
    return rate, running, wait


def steps_of(prefill: Pool, workload: Workload, service: PrefillService) -> Steps:
    """How a prefill worker's steps grow with their prompts.

    They share steps where the workload says how many tokens a step of the server holds.
    """
    alone, ranks = service.interval_s / service.prompts, prefill.layout.dp
    if workload.step_tokens is None:
        # What is ahead takes its time, step by step.
        return Steps(fixed_s=np.zeros_like(alone), each_s=alone, most=np.ones(()), ranks=ranks)
    most = np.maximum(step_prompts(prefill, workload), service.prompts)
    full = prefill_service(replace(prefill, max_batch=most * prefill.micro_batches_per_worker), workload)
    each = (full.interval_s - service.interval_s) / np.maximum(most - service.prompts, 1.0)
    fixed = np.maximum(alone - each, 0.0)
    return Steps(fixed_s=fixed, each_s=alone - fixed, most=most, ranks=ranks)


def shared_steps_s(waiting: ArrayLike, fixed_s: ArrayLike, alone_s: ArrayLike, most: ArrayLike) -> Array:
    """What n prompts ahead take of a server whose step takes a + b·k for its k ≤ K prompts [s].

    b·n + a·(min(n, 1)/2 + max(n/K − 1, 0)): half of the step under way, and one more for each K beyond
    what fits the own step; a = `fixed_s`, a + b = `alone_s`, K = `most`.

    >>> [round(float(shared_steps_s(n, 0.03, 0.05, 4)), 4) for n in (0.5, 1, 4, 8)]
    [0.0175, 0.035, 0.095, 0.205]
    """
    n, fixed = np.asarray(waiting, dtype=float), np.asarray(fixed_s, dtype=float)
    steps = np.minimum(n, 1.0) / 2.0 + np.maximum(n / most - 1.0, 0.0)
    return np.asarray(n * (alone_s - fixed) + fixed * steps)


def _shape(*pools: Pool) -> tuple[int, ...]:
    shapes = [np.shape(x) for p in pools for x in (p.layout.tp, p.workers, p.max_batch)]
    return np.broadcast_shapes(*shapes)
