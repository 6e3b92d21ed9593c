"""From a request to its first token on a worker that decodes as well, the queue before it left out.

    TTFT = request handling + wait for running step + held back + wait for prefill + prefill

The open loop of a plan has neither held prompts nor convoys; both are ways in which published
benchmarks ran (pdplan/constants/benchmark_servers.yaml). Its queue is pdplan/serving/open_loop.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array
from pdplan.laws.speculation import tokens_per_step
from pdplan.serving.pools import MixedStep, Pool
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
    1 + min(h · E · running/OSL, K − 1) prompts, with K = floor(step tokens / new tokens) and E tokens a step.
    """
    closed = workload.concurrency is not None
    share = prompts_per_step(pool, workload, running)
    held = held_steps(pool, workload, running)
    together = 1.0 + np.minimum(held * share, step_prompts(pool, workload) - 1.0)
    service = step.prefill_service_s + (together - 1.0) * step.prefill_extra_s
    convoys = closed and bool(np.any(workload.convoy_prompts))
    running_step = step.mean_s / 2.0
    if closed:
        each = np.asarray(workload.concurrency, dtype=float) / pool.servers
        running_step = np.clip(each - 1.0, 0.0, 1.0) * step.mean_s
    if convoys:
        service = step.prefill_service_s + step.prefill_work_s * (convoy_prompts(pool, workload, each) - 1.0)
    return FirstToken(
        handling_s=step.handling_s,
        running_step_s=running_step,
        held_s=held * step.mean_s,
        service_s=service,
        convoys=convoys,
    )


def prompts_per_step(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Prompts that come to a rank during one of its steps, E tokens each: E · running/OSL."""
    each = np.asarray(running, dtype=float) / pool.micro_batches_per_worker
    speculation = pool.speculation
    return np.asarray(each / workload.osl * tokens_per_step(speculation.drafted, speculation.acceptance))


def held_steps(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Steps that pass, on average, before a waiting prompt is taken: polling, balancing and batching.

    With g steps between two prompts of a rank:

    - Attention-dp ranks that take prompts only once each of them has one, or after U steps:
      1/√(1/a² + 1/b²) with a = 1.5·g, b = 0.95·U if a step holds one prompt (those left behind wait for
      the next round), a = g, b = U/2 if it holds all that came. Within 35 % of ranks simulated step by
      step through ten rounds of a benchmark (tests/test_first_token.py).
    - Prompts that wait U steps from the first one's coming, or until m of them wait: the first waits
      w = min(U, (m − 1)·g), the n = w/g that join it half as long, and the m-th not at all:
      w·(1 + min(n, m − 2)/2)/(1 + n).
    """
    held = workload.held
    gap = 1.0 / np.maximum(prompts_per_step(pool, workload, running), 1e-9)
    alone = step_prompts(pool, workload) < 2.0
    coming, limit = np.where(alone, 1.5, 1.0) * gap, np.where(alone, 0.95, 0.5) * held.balanced_steps
    balanced = np.where(pool.layout.dp > 1, coming * limit / np.hypot(coming, limit), 0.0)
    joining = np.maximum(np.ceil(held.batched_tokens / workload.new_tokens) - 1.0, 0.0)
    first = np.minimum(held.batched_steps, joining * gap)
    joined = first / gap
    batched = first * (1.0 + np.minimum(joined, np.maximum(joining - 1.0, 0.0)) / 2.0) / (1.0 + joined)
    return np.asarray(held.steps + balanced + batched)


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
