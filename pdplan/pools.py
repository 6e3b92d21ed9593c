"""Pools: what a forward step means for a pool of equal workers, in rates and latencies.

A `Pool` names the workers; the functions answer for arrays of pools at once:

    prefill_service        seconds that one prompt (or batch) occupies a server
    decode_step            seconds per output token at a given number of running sequences
    mixed_step             the same where prefills share the worker
    solve_running          Little's law: how many sequences run at a given rate

A *server* is what one prompt occupies: an attention-dp rank, or a pipeline stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pdplan.efficiency import Engine
from pdplan.laws.roofline import Array
from pdplan.laws.speculation import tokens_per_step
from pdplan.layout import Layout, decode_load, mixed_load, prefill_load
from pdplan.roots import increasing_root
from pdplan.step import Setting, StepTime, step_time
from pdplan.workload import NO_SPECULATION, Speculation, Workload


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Equal workers of one role: arrays over layouts, one setting."""

    setting: Setting
    layout: Layout
    workers: Array
    max_batch: Array
    """Sequences a worker runs at once (prompts, for a prefill pool)."""
    speculation: Speculation = NO_SPECULATION
    share: ArrayLike = 1.0
    """Of the requests that come to the role: less than 1 where other workers serve the rest."""

    @property
    def servers_per_worker(self) -> Array:
        return np.asarray(self.layout.dp) * self.layout.pp

    @property
    def servers(self) -> Array:
        return self.workers * self.servers_per_worker

    @property
    def gpus(self) -> Array:
        return self.workers * self.layout.gpus


@dataclass(frozen=True, kw_only=True)
class PrefillService:
    """How one server works through prompts."""

    time_s: Array
    """From the start of a batch of prompts to its end."""
    prompts: Array
    """Prompts per server in a batch."""
    steps: Array
    """Forward steps that a batch takes (chunks)."""
    step: StepTime
    """One of those steps, with its terms."""
    handling_s: Array
    """What the host does for one prompt, beside the steps of others."""

    @property
    def rate_per_server(self) -> Array:
        return self.prompts / self.time_s


def prefill_service(pool: Pool, workload: Workload) -> PrefillService:
    """Time of a batch of prompts on a prefill worker.

    A batch of b prompts per server is cut into n = ceil(b·new/max step tokens) equal
    chunks; later chunks attend to earlier ones, so a mean chunk has (new − chunk)/2
    tokens before it, which makes Σ pairs exact.  t = n · t_step.
    """
    prompts = np.maximum(np.asarray(pool.max_batch, dtype=float) / pool.servers_per_worker, 1.0)
    steps, chunk, past = _chunks(prompts, workload, pool.setting.constants.engine.max_step_tokens)
    step = step_time(pool.setting, pool.layout, prefill_load(prompts, chunk, past))
    return PrefillService(
        time_s=steps * step.total_s,
        prompts=prompts,
        steps=steps,
        step=step,
        handling_s=handling_s(pool.setting.constants.engine, workload, steps * step.operations),
    )


def handling_s(engine: Engine, workload: Workload, operations: ArrayLike) -> Array:
    """Host time of one request before its first token: t_r + t_tok·ISL + t_op·operations [s].

    Engines that run prompts outside of graphs start every operation of the prompt's step one by one.
    It delays the request; the steps of others go on.
    """
    fixed = engine.request_overhead_s + engine.token_overhead_s * workload.isl
    return np.asarray(fixed + engine.operation_launch_s * np.asarray(operations, dtype=float))


def _chunks(prompts: Array, workload: Workload, step_tokens: float) -> tuple[Array, Array, Array]:
    """Steps per batch, new tokens per prompt and step, mean cached tokens before them."""
    new = workload.new_tokens
    steps = np.ceil(prompts * new / step_tokens - 1e-9)
    chunk = new / steps
    return steps, chunk, workload.cached_tokens + (new - chunk) / 2.0


def decode_step(pool: Pool, workload: Workload, running: ArrayLike) -> StepTime:
    """One decode step with `running` sequences on each worker, their context averaged over the answer."""
    sequences = np.asarray(running, dtype=float) / pool.servers_per_worker
    load = decode_load(sequences, workload.isl, workload.last_context, 1.0 + pool.speculation.drafted)
    return step_time(pool.setting, pool.layout, load)


def first_step_s(pool: Pool, workload: Workload, running: ArrayLike, tpot_s: ArrayLike) -> Array:
    """From a prompt's cache at a decode worker to its first token there [s], hand-over included.

    TPOT · (1 + h·E·busy): a decode worker looks after new requests between steps, which give E tokens each,
    so each message of the hand-over waits for one if any of N other sequences runs. Plans are made for busy
    workers; a closed loop may leave them idle, and then 1 − e^−N of them are busy (Poisson).
    """
    idle = 0.0 if workload.concurrency is None else np.exp(-np.asarray(running, dtype=float))
    return np.asarray(np.asarray(tpot_s) * (1.0 + handover_tokens(pool) * (1.0 - idle)))


def handover_tokens(pool: Pool) -> float:
    """Tokens that each other sequence of a busy decode worker gets while a request is handed over: h·E."""
    speculation = pool.speculation
    each = tokens_per_step(speculation.drafted, speculation.acceptance)
    return float(pool.setting.constants.engine.handover_steps * each)


def draft_step_s(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Seconds a step spends on drafting: each drafted token runs the draft layers and the LM head once."""
    step = draft_step(pool, workload, running)
    return np.zeros(()) if step is None else pool.speculation.drafted * step.total_s


def draft_step(pool: Pool, workload: Workload, running: ArrayLike) -> StepTime | None:
    """Drafting one token for every running sequence, None where nothing is drafted."""
    small = draft_setting(pool)
    if small is None:
        return None
    sequences = np.asarray(running, dtype=float) / pool.servers_per_worker
    return step_time(small, pool.layout, decode_load(sequences, workload.isl, workload.last_context))


def draft_setting(pool: Pool) -> Setting | None:
    """The draft layers in place of the model, None where nothing is drafted."""
    setting = pool.setting
    if not pool.speculation.drafted or setting.draft is None:
        return None
    # The engine's overhead is paid once, with the verify step.
    engine = replace(setting.constants.engine, step_overhead_s=0.0, sequence_overhead_s=0.0)
    return replace(setting, stack=setting.draft, constants=replace(setting.constants, engine=engine))


def decode_tpot_s(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Time per output token of a pure decode pool: (verify step + drafts) / tokens per step [s]."""
    step = decode_step(pool, workload, running).total_s + draft_step_s(pool, workload, running)
    return step / tokens_per_step(pool.speculation.drafted, pool.speculation.acceptance)


@dataclass(frozen=True, kw_only=True)
class MixedStep:
    """A colocated worker at a given number of running sequences."""

    tpot_s: Array
    decode_s: Array
    """The step without any prefill."""
    plain_s: Array
    """That step and its drafts: from one plain step to the next."""
    mean_s: Array
    """A step on average, prefills counted: TPOT times the tokens of a step."""
    prefill_extra_s: Array
    """What one prompt per server adds to the worker's steps, altogether."""
    prefill_service_s: Array
    """How long that prompt takes beside the running decodes."""
    prefill_work_s: Array
    """What it takes of its server in a queue: prompts that wait together share steps."""
    steps: Array
    """Chunks that the prompt is cut into."""
    decode: StepTime
    """The step without any prefill, with its terms."""
    prefill: StepTime
    """A step with one chunk: beside the decodes where the engine mixes them, alone where not."""
    handling_s: Array
    """What the host does for one prompt, beside the steps of others."""


def mixed_step(pool: Pool, workload: Workload, running: ArrayLike) -> MixedStep:
    """TPOT where prefills share the worker with decodes.

    Each output token's step shares its worker with the prefills of others:
        TPOT = t_decode/E + (running/OSL)/servers · t_extra
    since running/OSL prompts start per token. Engines that mix chunks into decode
    steps pay only for the added tokens (the weights are read anyway):
        t_extra = n · [t_step(decode + chunk) − t_step(decode)];
    engines that run prefills on their own pay for whole steps.
    In a queue a prompt takes t_work = t_extra + n · t_step(decode)/K, K = floor(step tokens/new
    tokens): the decodes' own step is shared by all prompts that a mixed step holds.
    """
    engine = pool.setting.constants.engine
    load = decode_load(
        np.asarray(running, dtype=float) / pool.servers_per_worker,
        workload.isl,
        workload.last_context,
        1.0 + pool.speculation.drafted,
    )
    plain = step_time(pool.setting, pool.layout, load)
    decode = plain.total_s
    prompts = np.ones(())
    steps, chunk, past = _chunks(prompts, workload, engine.max_step_tokens)
    prefill = prefill_load(prompts, chunk, past)
    if engine.mixes_prefill:
        chunked = step_time(pool.setting, pool.layout, mixed_load(load, prefill))
        extra, service = steps * (chunked.total_s - decode), steps * chunked.total_s
        together = max(engine.max_step_tokens // workload.new_tokens, 1.0)
        work = extra + steps * decode / together
    else:
        chunked = step_time(pool.setting, pool.layout, prefill)
        extra = service = work = steps * chunked.total_s
    per_token = tokens_per_step(pool.speculation.drafted, pool.speculation.acceptance)
    plain_s = decode + draft_step_s(pool, workload, running)
    share = np.asarray(running, dtype=float) / workload.osl / pool.servers_per_worker
    tpot = plain_s / per_token + share * extra
    return MixedStep(
        tpot_s=tpot,
        decode_s=np.asarray(decode),
        plain_s=np.asarray(plain_s),
        mean_s=per_token * tpot,
        prefill_extra_s=np.asarray(extra),
        prefill_service_s=np.asarray(service),
        prefill_work_s=np.asarray(work),
        steps=steps,
        decode=plain,
        prefill=chunked,
        handling_s=handling_s(engine, workload, steps * chunked.operations),
    )


def pool_tpot_s(pool: Pool, workload: Workload, running: ArrayLike, colocated: bool) -> Array:
    """TPOT of either kind of pool at `running` sequences per worker."""
    if colocated:
        return mixed_step(pool, workload, running).tpot_s
    return decode_tpot_s(pool, workload, running)


def solve_running(pool: Pool, workload: Workload, rate: ArrayLike, colocated: bool) -> Array:
    """Sequences running on each worker at `rate` requests/s over the pool.

    Little's law: running = rate/workers · OSL · TPOT(running). Returns max_batch
    where even that many cannot keep up (the caller compares rates).
    """
    shape = np.broadcast_shapes(
        np.shape(pool.layout.tp), np.shape(pool.workers), np.shape(rate), np.shape(pool.max_batch)
    )
    arrivals = np.broadcast_to(np.asarray(rate, dtype=float) * workload.osl / pool.workers, shape)
    high = np.broadcast_to(np.asarray(pool.max_batch, dtype=float), shape)

    def surplus(running: Array) -> Array:
        return running - arrivals * pool_tpot_s(pool, workload, running, colocated)

    return increasing_root(surplus, np.zeros(shape), high)
