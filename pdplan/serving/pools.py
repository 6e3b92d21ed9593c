"""Pools: what a forward step means for a pool of equal workers, in rates and latencies.

A `Pool` names the workers; the functions answer for arrays of pools at once:

    prefill_service        seconds that one prompt (or batch) occupies a server
    decode_step            seconds per output token at a given number of running sequences
    mixed_step             the same where prefills share the worker
    solve_running          Little's law: how many sequences run at a given rate

A *server* is what prompts queue for: an attention-dp rank, with all its pipeline stages. A rank's running
sequences are spread over as many *micro-batches* as it has stages, which go round them one behind the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from pdplan.efficiency import Engine
from pdplan.laws.roofline import Array
from pdplan.laws.speculation import tokens_per_step
from pdplan.layout import Layout, decode_load, mixed_load, prefill_load
from pdplan.roots import increasing_root
from pdplan.serving.trains import rank_lag
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
    padded_batch: ArrayLike = 0.0
    """Sequences of a rank that the only graph of a decode step was captured for; 0 where there are many."""

    @property
    def servers_per_worker(self) -> Array:
        return np.asarray(self.layout.dp)

    @property
    def micro_batches_per_worker(self) -> Array:
        """Groups of sequences that step together."""
        return np.asarray(self.layout.dp) * self.layout.pp

    def busy_stages(self, running: ArrayLike) -> Array:
        """Micro-batches of a rank that hold a sequence, when `running` of them are on the worker."""
        each = np.asarray(running, dtype=float) / self.layout.dp
        return np.minimum(np.maximum(each, 1.0), self.layout.pp)

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
    interval_s: Array
    """From the start of a batch to that of the next one behind it: as long as the slowest stage takes."""
    prompts: Array
    """Prompts per server in a batch."""
    steps: Array
    """Forward steps that a batch takes (chunks)."""
    step: StepTime
    """One of those steps, with its terms."""
    handling_s: Array
    """What the host does for one prompt, beside the steps of others."""
    lag: Array
    """Share of its time by which the rank with the longest prompts is behind the mean rank."""

    @property
    def rate_per_server(self) -> Array:
        return self.prompts / self.interval_s

    def offered(self, rate: ArrayLike) -> Array:
        """Servers busy on average at `rate` prompts/s [erlang]."""
        return np.asarray(rate, dtype=float) * self.interval_s / self.prompts


def prefill_service(pool: Pool, workload: Workload) -> PrefillService:
    """Time of a batch of prompts on a prefill worker.

    A batch of b prompts per server is cut into n = ceil(b·new/max step tokens) equal
    chunks; later chunks attend to earlier ones, so a mean chunk has (new − chunk)/2
    tokens before it, which makes Σ pairs exact.  With s the slowest stage of a step, t = t_step + (n − 1)·s:
    chunks follow each other through the stages, and the next batch n·s behind. One stage: t = n · t_step.
    Ranks of attention-dp wait for the one with the longest prompts (`rank_lag`).
    """
    prompts = np.maximum(np.asarray(pool.max_batch, dtype=float) / pool.micro_batches_per_worker, 1.0)
    steps, chunk, past = _chunks(prompts, workload, pool.setting.constants.engine.max_step_tokens)
    step = step_time(pool.setting, pool.layout, prefill_load(prompts, chunk, past))
    lag = np.zeros(())
    if np.any(workload.isl_spread):
        lag = rank_lag(pool.layout.dp, prompts, workload.isl_spread) * step.own_share
    interval = steps * step.slowest_s() * (1.0 + lag)
    service = _through(step, interval)
    return PrefillService(
        time_s=service,
        interval_s=interval,
        prompts=prompts,
        steps=steps,
        step=step,
        handling_s=handling_s(pool.setting.constants.engine, workload, steps * step.operations, service),
        lag=lag,
    )


def _through(step: StepTime, slots_s: Array) -> Array:
    """Time of steps that follow each other through a pipeline, from what they take of its slowest stage."""
    return slots_s if step.earlier_s is None else slots_s + (step.total_s - step.slowest_s())


def handling_s(engine: Engine, workload: Workload, operations: ArrayLike, service_s: ArrayLike) -> Array:
    """Host time of one request before its first token: t_r + t_tok·ISL + max(t_op·operations − S, 0) [s].

    Engines that run prompts outside of graphs start every operation of the prompt's steps one by one,
    while those that were started run: what is left is how far the host falls behind the kernels, `service_s`.
    It delays the request; the steps of others go on.
    """
    fixed = engine.request_overhead_s + engine.token_overhead_s * workload.isl
    behind = engine.operation_launch_s * np.asarray(operations, dtype=float) - np.asarray(service_s)
    return np.asarray(fixed + np.maximum(behind, 0.0))


def _chunks(prompts: Array, workload: Workload, step_tokens: float) -> tuple[Array, Array, Array]:
    """Steps per batch, new tokens per prompt and step, mean cached tokens before them."""
    new = workload.new_tokens
    steps = np.ceil(prompts * new / step_tokens - 1e-9)
    chunk = new / steps
    return steps, chunk, workload.cached_tokens + (new - chunk) / 2.0


def decode_step(pool: Pool, workload: Workload, running: ArrayLike) -> StepTime:
    """One decode step with `running` sequences on each worker, their context averaged over the answer."""
    sequences = np.asarray(running, dtype=float) / pool.micro_batches_per_worker
    queries = 1.0 + pool.speculation.drafted
    load = decode_load(sequences, workload.isl, workload.last_context, queries, pool.padded_batch)
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
    """Tokens that each other sequence of a busy decode worker gets while a request is handed over: h·E.

    Of a worker that drafts, s·h·E: its steps are longer, and a share s of them does.
    """
    speculation, engine = pool.speculation, pool.setting.constants.engine
    each = tokens_per_step(speculation.drafted, speculation.acceptance)
    share = engine.drafting_handover_share if speculation.drafted else 1.0
    return float(engine.handover_steps * share * each)


def draft_step_s(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Seconds a step spends on drafting: each drafted token runs the draft layers and the LM head once."""
    step = draft_step(pool, workload, running)
    return np.zeros(()) if step is None else pool.speculation.drafted * step.total_s


def draft_step(pool: Pool, workload: Workload, running: ArrayLike) -> StepTime | None:
    """Drafting one token for every running sequence, None where nothing is drafted."""
    small = draft_setting(pool)
    if small is None:
        return None
    sequences = np.asarray(running, dtype=float) / pool.micro_batches_per_worker
    # The last stage of a pipeline drafts.
    layout = pool.layout.last_stage
    load = decode_load(sequences, workload.isl, workload.last_context, padded=pool.padded_batch)
    return step_time(small, layout, load)


def draft_setting(pool: Pool) -> Setting | None:
    """The draft layers in place of the model, None where nothing is drafted."""
    return _draft_setting(pool.setting) if pool.speculation.drafted else None


@lru_cache(maxsize=32)
def _draft_setting(setting: Setting) -> Setting | None:
    if setting.draft is None:
        return None
    # The engine's overhead is paid once, with the verify step.
    engine = replace(setting.constants.engine, step_overhead_s=0.0, sequence_overhead_s=0.0)
    return replace(
        setting,
        stack=setting.draft,
        formats=setting.formats.of_draft,
        constants=replace(setting.constants, engine=engine),
    )


def decode_tpot_s(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Time per output token of a pure decode pool: (verify step + drafts) / tokens per step [s].

    Of a pipeline with n busy micro-batches: n · the slowest stage, if that is longer.
    """
    drafts = draft_step_s(pool, workload, running)
    step = decode_step(pool, workload, running).cycle_s(pool.busy_stages(running), drafts)
    return step / tokens_per_step(pool.speculation.drafted, pool.speculation.acceptance)


@dataclass(frozen=True, kw_only=True)
class MixedStep:
    """A colocated worker at a given number of running sequences."""

    tpot_s: Array
    plain_s: Array
    """From the start of one step without any prefill to the next, drafts included: TPOT·E/n.

    Of n micro-batches; in an open loop a pipeline is taken as full, n = pp: by those that happen to run, a
    first request would wait longer for the step under way than one of many."""
    mean_s: Array
    """The same on average, prefills counted."""
    prefill_extra_s: Array
    """What one prompt adds to the steps of its micro-batch, altogether."""
    prefill_service_s: Array
    """How long that prompt takes beside the running decodes."""
    prefill_slot_s: Array
    """What its steps take of the server: of the slowest stage."""
    prefill_slot_extra_s: Array
    """Of that, what they take more than steps without it would."""
    prefill_work_s: Array
    """What it takes of its server in a queue: prompts that wait together share steps."""
    busy_stages: Array
    """Micro-batches that go round the stages: TPOT is so many times what lies between two of their steps."""
    steps: Array
    """Chunks that the prompt is cut into."""
    prompts: Array
    """Prompts that a mixed step holds: more than one where answers are shorter than the batch."""
    decode: StepTime
    """The step without any prefill, with its terms."""
    prefill: StepTime
    """A step with one chunk: beside the decodes where the engine mixes them, alone where not."""
    handling_s: Array
    """What the host does for one prompt, beside the steps of others."""


def mixed_step(pool: Pool, workload: Workload, running: ArrayLike) -> MixedStep:
    """TPOT where prefills share the worker with decodes.

    Each output token's step shares its worker with the prefills of others:
        TPOT = t_decode/E + (running/OSL)/(dp·pp) · t_extra
    since running/OSL prompts start per token. Engines that mix chunks into decode
    steps pay only for the added tokens (the weights are read anyway):
        t_extra = n/k · [t_step(decode + k chunks) − t_step(decode)],
    with k = running/(OSL·dp·pp) prompts in each step, at least one and at most K = floor(step tokens/new
    tokens); engines that run prefills on their own pay for whole steps. Where a convoy comes to those
    (`in_convoy`), t_decode is of all its sequences, and a server's c of them see (c − 1)/2 prompts.
    In a queue a prompt takes t_work = t_extra + n · t_step(decode)/K: the decodes' own step is shared by
    all prompts that a mixed step holds.
    In a pipeline t_step is what a micro-batch's round takes, and in the queue what the slowest stage does.
    """
    engine = pool.setting.constants.engine
    running = decoding_together(pool, workload, running)
    load = decode_load(
        running / pool.micro_batches_per_worker,
        workload.isl,
        workload.last_context,
        1.0 + pool.speculation.drafted,
    )
    plain = step_time(pool.setting, pool.layout, load)
    around, drafts = pool.busy_stages(running), draft_step_s(pool, workload, running)
    round_s = plain.cycle_s(around, drafts)
    share = running / workload.osl / pool.micro_batches_per_worker
    together = np.maximum(engine.max_step_tokens // workload.new_tokens, 1.0)
    prompts = np.clip(share, 1.0, together) if engine.mixes_prefill else np.ones(())
    steps, chunk, past = _chunks(np.ones(()), workload, engine.max_step_tokens)
    prefill = prefill_load(prompts, chunk, past)
    if engine.mixes_prefill:
        chunked = step_time(pool.setting, pool.layout, mixed_load(load, prefill))
        extra = steps * (chunked.cycle_s(around, drafts) - round_s) / prompts
        slot = steps * chunked.slowest_s()
        slot_extra = (slot - steps * plain.slowest_s()) / prompts
        work = slot_extra + steps * plain.slowest_s() / together
    else:
        chunked = step_time(pool.setting, pool.layout, prefill)
        extra = steps * chunked.cycle_s(pool.layout.pp)
        slot = slot_extra = work = steps * chunked.slowest_s()
    per_token = tokens_per_step(pool.speculation.drafted, pool.speculation.acceptance)
    tpot = round_s / per_token + prompts_beside(pool, workload, running) / workload.osl * extra
    service = _through(chunked, slot)
    between = around if workload.concurrency is not None else pool.layout.pp
    return MixedStep(
        tpot_s=tpot,
        plain_s=np.asarray(round_s / between),
        mean_s=per_token * tpot / between,
        prefill_extra_s=np.asarray(extra),
        prefill_service_s=service,
        prefill_slot_s=np.asarray(slot),
        prefill_slot_extra_s=np.asarray(slot_extra),
        prefill_work_s=np.asarray(work),
        busy_stages=around,
        steps=steps,
        prompts=prompts,
        decode=plain,
        prefill=chunked,
        handling_s=handling_s(engine, workload, steps * chunked.operations, service),
    )


def in_convoy(pool: Pool, workload: Workload) -> Array:
    """Where all requests of a server start and end together, their prompts before their answers.

    In a closed loop whose answers are all of one length, requests that start together end together. Where
    prompts go first and alone, no token is decoded until the last of them is through: all are one convoy.
    """
    mixes = bool(pool.setting.constants.engine.mixes_prefill)
    return (np.asarray(workload.convoy_prompts) > 0) & (workload.concurrency is not None and not mixes)


def decoding_together(pool: Pool, workload: Workload, running: ArrayLike) -> Array:
    """Sequences of a worker in one decode step: `running`, or a whole convoy, as far as there are slots."""
    each = np.asarray(running, dtype=float)
    if workload.concurrency is None:
        return each
    convoy = np.minimum(np.asarray(workload.concurrency, dtype=float) / pool.workers, pool.max_batch)
    return np.where(in_convoy(pool, workload), convoy, each)


def prompts_beside(pool: Pool, workload: Workload, together: ArrayLike) -> Array:
    """Prompts of others that a server takes in while one of its c sequences is answered.

    As many as run, c; of a convoy (c − 1)/2, since all come before the first decode step: the first prompt
    waits for all others to be through, the last for none.
    """
    each = np.asarray(together, dtype=float) / pool.micro_batches_per_worker
    return np.where(in_convoy(pool, workload), np.maximum(each - 1.0, 0.0) / 2.0, each)


def pool_tpot_s(pool: Pool, workload: Workload, running: ArrayLike, colocated: bool) -> Array:
    """TPOT of either kind of pool at `running` sequences per worker."""
    if colocated:
        return mixed_step(pool, workload, running).tpot_s
    return decode_tpot_s(pool, workload, running)


def solve_running(
    pool: Pool,
    workload: Workload,
    rate: ArrayLike,
    colocated: bool,
    tpots_s: tuple[Array, Array] | None = None,
) -> Array:
    """Sequences running on each worker at `rate` requests/s over the pool.

    Little's law: running = rate/workers · OSL · TPOT(running). Returns max_batch
    where even that many cannot keep up (the caller compares rates).
    `tpots_s`: TPOT of next to none running and of max_batch, where they are known.
    """
    shape = np.broadcast_shapes(
        np.shape(pool.layout.tp), np.shape(pool.workers), np.shape(rate), np.shape(pool.max_batch)
    )
    arrivals = np.broadcast_to(np.asarray(rate, dtype=float) * workload.osl / pool.workers, shape)
    high = np.broadcast_to(np.asarray(pool.max_batch, dtype=float), shape)

    def surplus(running: Array) -> Array:
        return running - arrivals * pool_tpot_s(pool, workload, running, colocated)

    ends = None
    if tpots_s is not None:
        ends = tuple(n - arrivals * tpot for n, tpot in zip((0.0, high), tpots_s, strict=True))
    return increasing_root(surplus, np.zeros(shape), high, ends=ends)
