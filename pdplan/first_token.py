"""From a request to its first token on a worker that decodes as well, the queue before it left out.

    TTFT = request handling + wait for running step + held back + wait for prefill + prefill

The open loop of a plan has neither held prompts nor convoys; both are ways in which published
benchmarks ran (pdplan/constants/benchmark_servers.yaml). Its queue is pdplan/open_loop.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array
from pdplan.pools import MixedStep, Pool
from pdplan.workload import Workload

TRAIN = 0.38
"""How a convoy's wait grows with the logarithm of the convoys on a worker: within 15 % of a simulated
loop of 1 to 32 convoys (tests/test_first_token.py)."""


@dataclass(frozen=True, kw_only=True)
class FirstToken:
    """What a request meets besides the queue [s]."""

    handling_s: Array
    running_step_s: Array
    """The step under way when it comes."""
    held_s: Array
    service_s: Array
    """From the start of its first step to the end of its last, prompts that share them included."""
    convoys: bool
    """Whether the service contains the wait for prompts ahead."""

    @property
    def other_s(self) -> Array:
        """All but the service."""
        return self.handling_s + self.running_step_s + self.held_s


def first_token(pool: Pool, workload: Workload, step: MixedStep, running: ArrayLike) -> FirstToken:
    """What comes before the first token at `running` sequences on each worker.

    A request that comes at random meets half a step (D/2); in a closed loop, where an answer's end
    sends it, the step after that one has just begun: a whole step, if another request runs. Held
    back for h steps, a prompt shares its own step with those that came meanwhile:
    1 + min(h · running/OSL, K − 1) prompts, with K = floor(step tokens / new tokens).
    """
    closed = workload.concurrency is not None
    share = np.asarray(running, dtype=float) / pool.micro_batches_per_worker / workload.osl
    held = np.asarray(workload.held_steps, dtype=float)
    together = 1.0 + np.minimum(held * share, step_prompts(pool, workload) - 1.0)
    service = step.prefill_service_s + (together - 1.0) * step.prefill_extra_s
    convoys = closed and bool(np.any(workload.convoy_prompts))
    running_step = step.mean_s / 2.0
    if closed:
        each = np.asarray(workload.concurrency, dtype=float) / pool.servers
        running_step = np.clip(each - 1.0, 0.0, 1.0) * (step.tpot_s / step.busy_stages)
    if convoys:
        service = step.prefill_service_s + step.prefill_work_s * (convoy_prompts(pool, workload, each) - 1.0)
    return FirstToken(
        handling_s=step.handling_s,
        running_step_s=running_step,
        held_s=held * step.tpot_s,
        service_s=service,
        convoys=convoys,
    )


def step_prompts(pool: Pool, workload: Workload) -> Array:
    """Prompts that one step of the server holds, at least one."""
    tokens = workload.step_tokens
    tokens = pool.setting.constants.engine.max_step_tokens if tokens is None else tokens
    return np.maximum(np.floor(np.asarray(tokens, dtype=float) / workload.new_tokens), 1.0)


def convoy_prompts(pool: Pool, workload: Workload, each: ArrayLike) -> Array:
    """Prompts whose work a request waits for, its own included, where answers are all of one length.

    Requests that start in one step end in one step and come back in one. Where a step mixes prompts
    and decodes, k = min(`convoy_prompts`, n) of the n of a server do, and convoys run into one another:
        k·(1 + 0.38·ln(n/k))
    Where prompts go first and alone, decodes wait until all prompts are through, so all n are one
    convoy, whose prompts wait for (n + 1)/2 on average.

    >>> from types import SimpleNamespace as N
    >>> alone = N(setting=N(constants=N(engine=N(mixes_prefill=0.0))))
    >>> float(convoy_prompts(alone, N(convoy_prompts=2.0), 64.0))
    32.5
    """
    n = np.maximum(np.asarray(each, dtype=float), 1.0)
    if not pool.setting.constants.engine.mixes_prefill:
        return (n + 1.0) / 2.0
    k = np.minimum(np.asarray(workload.convoy_prompts, dtype=float), n)
    return k * (1.0 + TRAIN * np.log(n / k))
