"""What a plan cannot be: every contradiction with its model, its hardware or itself."""

from __future__ import annotations

from collections.abc import Iterator

from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import Model
from pdplan.catalog.accelerator import Accelerator
from pdplan.inputs.choices import LEAST_CHUNK, MOST_CHUNK
from pdplan.plan import PoolPlan

MAX_WORKERS = 1_000_000
MAX_RANKS = 4096
MAX_BATCH = 100_000_000
MOST_COPIES = 2


def pool_findings(pool: PoolPlan, model: Model, accelerator: Accelerator) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it), none where the pool can be built."""
    yield from _range_findings(pool)
    if any(size < 1 for size in (pool.tp, pool.pp, pool.dp, pool.ep)):
        return
    yield from _tp_findings(pool, model)
    layers = sum(group.count for group in model.layers)
    if pool.pp > layers:
        yield "pp", f"{pool.pp} stages for {layers} layers; expected at most {layers}"
    yield from _ep_findings(pool, model)
    if pool.gpus_per_worker > 1 and accelerator.scale_up is None and accelerator.scale_out is None:
        yield (
            "hardware",
            f"a worker of {pool.gpus_per_worker} {accelerator.name} needs a link between them, and the "
            "catalog has none; give workers of one, or add the link to the accelerator's file",
        )


def pool_notes(pool: PoolPlan, accelerator: Accelerator) -> Iterator[str]:
    """What is possible but most likely not meant."""
    domain = accelerator.scale_up_domain_size
    if pool.tp > domain:
        yield (
            f"tp{pool.tp} on {accelerator.name} leaves the scale-up domain of {domain}: "
            "every all-reduce crosses the slower network"
        )
    per_node = accelerator.accelerators_per_node
    if per_node < pool.gpus_per_worker <= MAX_RANKS and pool.gpus_per_worker % per_node:
        yield (
            f"a worker of {pool.gpus_per_worker} {accelerator.name} leaves a node of {per_node} partly empty"
        )


def _range_findings(pool: PoolPlan) -> Iterator[tuple[str, str]]:
    limits = {"workers": MAX_WORKERS, "tp": MAX_RANKS, "pp": MAX_RANKS, "dp": MAX_RANKS, "ep": MAX_RANKS}
    for key, high in limits.items():
        value = getattr(pool, key)
        if not 1 <= value <= high:
            yield key, f"{value} is out of range; expected 1 to {high:,}"
    if pool.chunk_tokens is not None and not LEAST_CHUNK <= pool.chunk_tokens <= MOST_CHUNK:
        yield (
            "chunk_tokens",
            f"{pool.chunk_tokens:,} is out of range; expected {LEAST_CHUNK} to {MOST_CHUNK:,} tokens",
        )
    if pool.max_batch is not None and not 1 <= pool.max_batch <= MAX_BATCH:
        yield "max_batch", f"{pool.max_batch} is out of range; expected 1 to {MAX_BATCH:,}"


def _tp_findings(pool: PoolPlan, model: Model) -> Iterator[tuple[str, str]]:
    cores = [core for group in model.layers if group.attention for core in group.attention.cores()]
    heads = sorted({core.heads for core in cores})
    for count in heads:
        if count % pool.tp:
            allowed = [str(n) for n in range(1, count + 1) if all(h % n == 0 for h in heads)]
            yield (
                "tp",
                f"{pool.tp} does not divide the {count} attention heads of {model.name}; "
                f"expected one of {', '.join(allowed)}",
            )
            return


def _ep_findings(pool: PoolPlan, model: Model) -> Iterator[tuple[str, str]]:
    experts = [g.feed_forward.experts for g in model.layers if isinstance(g.feed_forward, Experts)]
    ranks = pool.tp * pool.dp
    if not experts:
        if pool.ep > 1:
            yield "ep", f"{pool.ep}, but {model.name} has no experts; expected 1"
        if pool.dp > 1:
            yield (
                "dp",
                f"{pool.dp}, but {model.name} has no experts to share: use more workers instead; expected 1",
            )
        return
    if ranks % pool.ep:
        allowed = [str(n) for n in range(1, ranks + 1) if ranks % n == 0]
        yield "ep", f"{pool.ep} does not divide tp·dp = {ranks}; expected one of {', '.join(allowed)}"
    elif pool.ep > MOST_COPIES * min(experts):
        yield (
            "ep",
            f"{pool.ep} is more than {MOST_COPIES} times the {min(experts)} experts of {model.name}; "
            f"expected at most {MOST_COPIES * min(experts)}, with redundant copies of the busiest",
        )
