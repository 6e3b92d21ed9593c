"""Every saturated deployment of each mode, as arrays: what the front of search.front is taken from.

The equations, their units and their validity stand in search.front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World, build_network, default_bandwidth
from pdplan.laws.kv_transfer import exposed_transfer_time_s, transfer_time_s
from pdplan.laws.roofline import Array
from pdplan.memory import request_cache_bytes
from pdplan.question import Question
from pdplan.search.objective import ttft_limit_s
from pdplan.search.space import Space
from pdplan.search.workers.candidates import Candidates, PrefillChoices
from pdplan.serving.first_token import first_token
from pdplan.serving.pools import decode_tpot_s, first_step_s, mixed_step
from pdplan.uncertainty import slo_on
from pdplan.workload import Slo, Workload

SMALL_BATCHES, STEPS_PER_OCTAVE = 16, 8
"""Sequences per server: every number up to the first, from there so many to each doubling."""
HAIR = 1e-9
"""Points that differ by less are one point; the plainer layout stays."""


@dataclass(frozen=True, kw_only=True)
class Saturated:
    """Saturated deployments of one mode and one choice of accelerators. Arrays of one length."""

    mode: str
    tpot_s: Array
    ttft_s: Array
    weighted: Array
    """Of a request: GPU·s, or price · GPU·s."""
    gpu_s: Array
    """Of the decode (colocated) pool."""
    batch: Array
    types: Array
    """Index of the decode (colocated) worker type."""
    candidates: Candidates
    allowed: Array
    """Within the limits."""
    prefill: PrefillChoices | None = None
    prefill_types: Array | None = None
    prefill_gpu_s: Array | None = None


def saturated_sets(
    question: Question, world: World, space: Space, weight: dict[str, float]
) -> Iterator[Saturated]:
    """Every choice of accelerators of both modes; `weight` is the price of each, or 1.

    Accelerators with no network between them are left out.
    """
    workload, serving = question.workload, space.serving
    for hardware, choices in space.colocated.items():
        slo = slo_on(question.slo, serving, hardware)
        yield _colocated(choices.candidates, workload, slo, weight[hardware])
    holders = {d: _holders(choices.candidates, workload) for d, choices in space.decode.items()}
    for p, prefill in space.prefill.items():
        for d, decode in holders.items():
            if len(prefill) and (default_bandwidth(world, p, d) or world.network.bandwidth_bytes_per_s):
                asked = replace(question, slo=slo_on(question.slo, serving, p, d))
                yield from _pairs(world, asked, (p, prefill), (d, decode), (weight[p], weight[d]))


def batches(candidates: Candidates) -> Array:
    """Running sequences per worker: whole numbers from one per server to what memory holds.

    Shape (grid, worker types). The grid does not depend on the accelerator.
    """
    most = np.floor(np.asarray(candidates.pool.max_batch, dtype=float) + HAIR)
    servers = candidates.pool.micro_batches_per_worker
    octaves = max(np.log2(np.max(most / servers) / SMALL_BATCHES), 0.0)
    larger = SMALL_BATCHES * 2 ** (np.arange(1, np.ceil(octaves * STEPS_PER_OCTAVE) + 1) / STEPS_PER_OCTAVE)
    each = np.concatenate([np.arange(1, SMALL_BATCHES + 1), np.round(larger)])
    return np.minimum(each[:, None] * servers, most)


def _colocated(candidates: Candidates, workload: Workload, slo: Slo, weight: float) -> Saturated:
    running = batches(candidates)
    pool = candidates.pool
    step = mixed_step(pool, workload, running)
    tpot = np.broadcast_to(step.tpot_s, running.shape)
    rate = running / (workload.osl * tpot)
    first = first_token(pool, workload, step, running)
    ttft = np.broadcast_to(first.other_s + first.service_s, running.shape)
    # The worker's steps must have room for the prompts' chunks, too.
    busy = rate * step.prefill_work_s / pool.servers_per_worker  # prompts share steps, as in a queue
    gpu_s = pool.layout.gpus / rate
    return Saturated(
        mode="colocated",
        tpot_s=tpot.ravel(),
        ttft_s=ttft.ravel(),
        weighted=(weight * gpu_s).ravel(),
        gpu_s=gpu_s.ravel(),
        batch=running.ravel(),
        types=np.broadcast_to(np.arange(len(candidates)), running.shape).ravel(),
        candidates=candidates,
        allowed=(ttft <= ttft_limit_s(slo, workload.osl, tpot)).ravel()
        & (tpot <= _tpot_budget(slo)).ravel()
        & np.broadcast_to(busy < 1, running.shape).ravel(),
    )


@dataclass(frozen=True, kw_only=True)
class _Holders:
    """Decode workers with a batch each: only those that no other of equal sending width beats."""

    candidates: Candidates
    width: Array
    """tp·pp: accelerators that hold one sequence's cache, and receive it."""
    types: Array
    batch: Array
    tpot_s: Array
    gpu_s: Array


def _holders(candidates: Candidates, workload: Workload) -> _Holders:
    running = batches(candidates)
    tpot = np.broadcast_to(decode_tpot_s(candidates.pool, workload, running), running.shape)
    gpu_s = (candidates.pool.layout.gpus * workload.osl * tpot / running).ravel()
    layout = candidates.pool.layout
    types = np.broadcast_to(np.arange(len(candidates)), running.shape).ravel()
    width = np.asarray(layout.tp * layout.pp)[types]
    flat = tpot.ravel()
    keep = np.concatenate([_best(np.flatnonzero(width == w), flat, gpu_s) for w in np.unique(width)])
    return _Holders(
        candidates=candidates,
        width=width[keep],
        types=types[keep],
        batch=running.ravel()[keep],
        tpot_s=flat[keep],
        gpu_s=gpu_s[keep],
    )


def _pairs(
    world: World,
    question: Question,
    prefill_of: tuple[str, PrefillChoices],
    decode_of: tuple[str, _Holders],
    weights: tuple[float, float],
) -> Iterator[Saturated]:
    """The best prefill for every decode worker and batch, for each width of the two sides.

    Widths fix the links of a transfer; then a prefill that is neither quicker nor
    lighter than another is never the better one, and the lightest of those that are
    quick enough is found by one search in a sorted row.
    """
    (p, prefill), (d, decode) = prefill_of, decode_of
    workload, slo = question.workload, question.slo
    network = build_network(world, p, d)
    pool = prefill.candidates.pool
    width = np.asarray(pool.layout.tp * pool.layout.pp)
    gpu_s = pool.layout.gpus / (prefill.service.rate_per_server * pool.servers_per_worker)
    handling = np.broadcast_to(prefill.service.handling_s, np.shape(prefill.service.time_s))
    setting, service = pool.setting, prefill.service
    layers, overlap = setting.stack.layers, setting.constants.engine.transfer_overlap
    cache = request_cache_bytes(setting.stack, setting.formats, workload.isl)
    bare = replace(network, latency_s=0.0, layer_latency_s=0.0)
    for sending in np.unique(width):
        types = _best(np.flatnonzero(width == sending), service.time_s, gpu_s)
        neck = np.minimum(decode.width, sending)
        for links in np.unique(neck):
            rows = np.flatnonzero(neck == links)
            alone = transfer_time_s(cache, links, network, layers)
            floor = float(links * transfer_time_s(cache, links, bare))
            exposed = exposed_transfer_time_s(alone, service.time_s[types], layers, overlap)
            fixed = handling[types] + service.time_s[types] + exposed
            tpot = decode.tpot_s[rows]
            first = first_step_s(decode.candidates.pool, workload, decode.batch[rows], tpot)
            budget = ttft_limit_s(slo, workload.osl, tpot) - first
            weighted = weights[0] * np.maximum(gpu_s[types], floor)
            chosen = _lightest_within(fixed, weighted, budget)
            decode_gpu_s = np.maximum(decode.gpu_s[rows], floor)
            yield Saturated(
                mode="disaggregated",
                tpot_s=tpot,
                ttft_s=fixed[chosen] + first,
                weighted=weighted[chosen] + weights[1] * decode_gpu_s,
                gpu_s=decode_gpu_s,
                batch=decode.batch[rows],
                types=decode.types[rows],
                candidates=decode.candidates,
                prefill=prefill,
                prefill_types=types[chosen],
                prefill_gpu_s=np.maximum(gpu_s[types], floor)[chosen],
                allowed=(fixed[chosen] <= budget) & (tpot <= _tpot_budget(slo)),
            )


def _lightest_within(time_s: Array, weight: Array, budget_s: Array) -> Array:
    """For each budget, the index of the least weight whose time keeps it; where none does, the quickest."""
    order = np.lexsort((weight, time_s))
    lightest = np.minimum.accumulate(weight[order])
    # Where the minimum last fell, it stands.
    fell = np.concatenate([[True], lightest[1:] < lightest[:-1]])
    first = np.maximum.accumulate(np.where(fell, np.arange(order.size), 0))
    position = np.searchsorted(time_s[order], budget_s, side="right") - 1
    return order[first[np.maximum(position, 0)]]


def _tpot_budget(slo: Slo) -> float:
    return np.inf if slo.tpot_s is None else slo.tpot_s / slo.tpot_factor


def _best(index: Array, time_s: Array, weight: Array) -> Array:
    """Those of `index` that no other beats in both, by time."""
    return index[non_dominated(time_s[index], weight[index])]


def non_dominated(time_s: Array, weight: Array) -> Array:
    """Indices, by time, where no other point is both as quick and as light.

    >>> non_dominated(np.array([1.0, 2.0, 3.0, 2.0]), np.array([9.0, 5.0, 5.0, 6.0]))
    array([0, 1])
    """
    order = np.lexsort((np.arange(time_s.size), weight, time_s))
    lightest = np.minimum.accumulate(weight[order])
    before = np.concatenate([[np.inf], lightest[:-1]])
    return order[weight[order] < before * (1 - HAIR)]


def survivors(sets: list[Saturated]) -> list[tuple[Saturated, int]]:
    """Non-dominated points over all sets, slowest for the user first."""
    rows = [np.flatnonzero(s.allowed) for s in sets]
    if not sum(r.size for r in rows):
        return []
    owner = np.concatenate([np.full(r.size, i) for i, r in enumerate(rows)])
    index = np.concatenate(rows)
    tpot = np.concatenate([s.tpot_s[r] for s, r in zip(sets, rows, strict=True)])
    weight = np.concatenate([s.weighted[r] for s, r in zip(sets, rows, strict=True)])
    kept = non_dominated(tpot, weight)[::-1]
    return [(sets[owner[k]], int(index[k])) for k in kept]
