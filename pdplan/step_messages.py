"""Collectives of a step: α–β laws of the size of their messages, one evaluation for equal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pdplan.efficiency import Constants
from pdplan.laws.collectives import (
    Line,
    Links,
    Routed,
    all_gather,
    all_reduce,
    cheaper_exchange,
    expert_exchange,
    stage_hops,
)
from pdplan.laws.experts import busiest_exchange_factor
from pdplan.laws.roofline import Array
from pdplan.layout import Load
from pdplan.ops import Message, Sending
from pdplan.terms import Term, Timed


def happens(sending: Sending) -> bool:
    """Whether any layout has the collective."""
    several = np.asarray(sending.ranks) > 1
    return bool(np.any(several if sending.mask is None else several & sending.mask))


@dataclass(frozen=True, kw_only=True, eq=False)
class Alike:
    """Collectives of one law and one size, each with its place among the step's terms."""

    law: Callable[[Array], Array]
    """From bytes to seconds."""
    places: tuple[int, ...]
    members: tuple[Sending, ...]
    slower: tuple[Array, ...]
    """Times that the law's seconds count in a step."""
    waits_s: tuple[Array | None, ...]
    """What the collective waits for besides, over all layers."""

    def times(self, load: Load) -> Iterator[Timed]:
        first = self.members[0]
        each = self.law(first.size_each * getattr(load, first.carried))
        totals = [
            slower * each if wait is None else slower * each + wait
            for slower, wait in zip(self.slower, self.waits_s, strict=True)
        ]
        yield Timed(self.places, totals, lambda i: _term(self.members[i].message(load), totals[i]))


def alike(sendings: list[tuple[int, Sending]], constants: Constants) -> Alike:
    """Collectives of one law and size, by their places."""
    first = sendings[0][1]
    engine = constants.engine
    slower, waits = [], []
    for _, sending in sendings:
        ranks = np.asarray(sending.ranks)
        times = sending.layers if sending.mask is None else np.where(sending.mask, sending.layers, 0.0)
        slower.append(
            np.asarray(times * busiest_exchange_factor(engine.exchange_imbalance, ranks))
            if sending.uneven
            else np.asarray(times)
        )
        wait = 0.0 if sending.exchange == "stage_hop" else engine.collective_wait_s
        if sending.exchange == "expert_exchange":
            wait += engine.exchange_wait_s
        waits.append(np.where(ranks > 1, times * wait, 0.0) if wait else None)
    return Alike(
        law=_law(first, constants.links),
        places=tuple(place for place, _ in sendings),
        members=tuple(sending for _, sending in sendings),
        slower=tuple(slower),
        waits_s=tuple(waits),
    )


def _law(sending: Sending, links: Links) -> Callable[[Array], Array]:
    if sending.exchange == "all_reduce":
        return all_reduce(sending.ranks, links).at
    if sending.exchange == "all_gather":
        return all_gather(sending.ranks, links).at
    if sending.exchange == "stage_hop":
        assert sending.spread is not None
        return stage_hops(sending.ranks, sending.spread, links).at
    lines = _exchange_lines(sending, links)
    if len(lines) == 1:
        return lines[0].at
    low, bulk = lines
    return lambda size: cheaper_exchange(low.at(size), bulk.at(size))[0]


def _exchange_lines(message: Message | Sending, links: Links) -> tuple[Line, ...]:
    """The kernels that an exchange with experts may take: low-latency ones, where it may, and bulk ones."""
    assert message.spread is not None
    routed = Routed(
        per_token=message.per_token,
        ranks=message.ranks,
        group_limit=message.group_limit,
        ranks_per_domain=np.maximum(links.domain_size / np.asarray(message.spread), 1.0),
    )
    bulk = expert_exchange(routed, links)
    if message.deduplicate:
        return (bulk,)
    return expert_exchange(routed, links, deduplicate=False), bulk


def takes_bulk_kernels(message: Message, links: Links) -> Array:
    """Where an exchange with experts takes the high-throughput kernels."""
    assert message.tokens is not None
    lines = _exchange_lines(message, links)
    times = [line.at(message.tokens * message.message_bytes) for line in lines]
    return np.ones(np.shape(times[0]), dtype=bool) if message.deduplicate else cheaper_exchange(*times)[1]


def _term(message: Message, total: Array) -> Term:
    none = np.zeros(())
    return Term(
        name=message.name,
        total_s=total,
        compute_s=none,
        memory_s=none,
        network_s=total,
        overhead_s=none,
        source=message,
    )
