"""Every layout of a worker that a model's shape and an accelerator's wiring allow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pdplan.architecture.feed_forward import Dense, Experts
from pdplan.architecture.stack import Stack
from pdplan.layout import Layout

WORKER_SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 128, 144, 160, 192, 256, 288, 320)
"""Accelerators of one worker: up to a node, whole nodes, racks, and wide expert parallelism."""
PIPELINE_STAGES = (1, 2, 4, 8)
MOST_REDUNDANT = 0.25
"""Redundant experts for each expert: DeepSeek serves 256 with 32 of them on 144 ranks, 64 on 320."""
NODE = 8
"""Copies fill ranks up in multiples of this: wide expert parallelism alone needs them."""
DENSE_WORKER_LIMIT = 64
"""Without experts nothing is gained beyond this: attention-dp would only be more workers."""


def layouts(
    stack: Stack, domain_size: int, per_node: int, max_gpus: int | None = None, partial_ep: bool = True
) -> Layout:
    """All valid (tp, pp, dp, ep), as arrays in a fixed order.

    tp divides every kind of heads and MLP width and stays inside a scale-up domain;
    KV heads are split or copied evenly; dp > 1 only where experts are shared by the
    ranks; ep divides tp·dp and the number of experts, tp·dp/ep the experts' width (engines
    without `partial_ep` know all ranks or none); ep over all ranks may leave a remainder, which copies
    of the busiest experts fill (EP320 of 256 experts); a worker of more than a node is whole nodes.
    """
    found = [
        (tp, pp, dp, ep)
        for size in WORKER_SIZES
        if _size_allowed(stack, size, domain_size, per_node, max_gpus)
        for pp in PIPELINE_STAGES
        if size % pp == 0 and pp <= stack.layers
        for tp, dp in _splits(size // pp)
        if tp <= domain_size and (dp == 1 or stack.has_experts) and _tp_divides(stack, tp)
        for ep in _expert_splits(stack, tp * dp, partial_ep)
    ]
    columns = np.asarray(found, dtype=float).reshape(-1, 4).T
    return Layout(tp=columns[0], pp=columns[1], dp=columns[2], ep=columns[3])


def _size_allowed(stack: Stack, size: int, domain_size: int, per_node: int, max_gpus: int | None) -> bool:
    if max_gpus is not None and size > max_gpus:
        return False
    if not stack.has_experts and size > DENSE_WORKER_LIMIT:
        return False
    return size <= per_node or size % per_node == 0 or size <= domain_size


def _splits(size: int) -> Iterator[tuple[int, int]]:
    """tp·dp = size, tp a power of two."""
    tp = 1
    while tp <= size:
        if size % tp == 0:
            yield tp, size // tp
        tp *= 2


def _tp_divides(stack: Stack, tp: int) -> bool:
    for mixer, _ in stack.mixers:
        for core in mixer.cores():
            if core.heads % tp or (core.cache_shards % tp and tp % core.cache_shards):
                return False
        state = mixer.state()
        if state is not None and state.heads % tp:
            return False
    return all(
        block.intermediate_size % tp == 0 for block, _ in stack.feed_forwards if isinstance(block, Dense)
    )


def _expert_splits(stack: Stack, ranks: int, partial: bool) -> Iterator[int]:
    blocks = [block for block, _ in stack.feed_forwards if isinstance(block, Experts)]
    if not blocks:
        yield 1
        return
    for ep in range(1, ranks + 1) if partial else sorted({1, ranks}):
        if ranks % ep == 0 and all(
            _spreads(b.experts, ep, ranks) and b.intermediate_size % (ranks // ep) == 0 for b in blocks
        ):
            yield ep


def _spreads(experts: int, ep: int, ranks: int) -> bool:
    """Whether ranks share experts evenly, a few of them twice where all ranks take part."""
    copies = -(-experts // ep) * ep - experts
    filled = ep == ranks and ep % NODE == 0 and copies <= MOST_REDUNDANT * experts
    return copies == 0 or filled
