"""Collectives of a step: α–β laws of the size of their messages, evaluated once for equal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pdplan.efficiency import Constants, Engine
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
    several = sending.ranks > 1
    return bool((several if sending.mask is None else several & sending.mask).any())


class _Counted(NamedTuple):
    """How a collective counts in a step: times the seconds of its law, and what it waits for besides."""

    size: int
    """Which of the group's."""
    times: Array
    wait_s: Array | None


def law_key(sending: Sending) -> tuple[object, ...]:
    """Equal for collectives of one law; arrays are taken as equal where they are one."""
    experts = sending.per_token, sending.group_limit, sending.deduplicate, id(sending.spread)
    return sending.exchange, id(sending.ranks), *experts


@dataclass(frozen=True, kw_only=True, eq=False)
class Alike:
    """Collectives of one law, each with its place among the step's terms."""

    law: Callable[[Array], Array]
    """From bytes to seconds."""
    places: tuple[int, ...]
    members: tuple[Sending, ...]
    sizes: tuple[tuple[str, Array], ...]
    """What of a load they carry, and bytes of each of that: equal ones once."""
    counted: tuple[_Counted, ...]

    def times(self, load: Load) -> Iterator[Timed]:
        seconds = [self.law(size * getattr(load, carried)) for carried, size in self.sizes]
        totals = [
            own.times * seconds[own.size]
            if own.wait_s is None
            else own.times * seconds[own.size] + own.wait_s
            for own in self.counted
        ]
        yield Timed(self.places, totals, lambda i: _term(self.members[i].message(load), totals[i]))


def alike(sendings: list[tuple[int, Sending]], constants: Constants) -> Alike:
    """Collectives of one law, by their places."""
    members = tuple(sending for _, sending in sendings)
    sizes: dict[object, tuple[str, Array]] = {}
    counted = []
    for sending in members:
        each = sending.bytes_each
        # As in `law_key`: what is equal by chance is evaluated twice.
        key = (sending.carried, id(each) if isinstance(each, np.ndarray) else each)
        sizes.setdefault(key, (sending.carried, sending.size_each))
        times, wait = _times(sending, constants.engine)
        counted.append(_Counted(list(sizes).index(key), times, wait))
    return Alike(
        law=_law(members[0], constants.links),
        places=tuple(place for place, _ in sendings),
        members=members,
        sizes=tuple(sizes.values()),
        counted=tuple(counted),
    )


def _times(sending: Sending, engine: Engine) -> tuple[Array, Array | None]:
    """How often a collective's law counts, and what it waits for besides [s], over all layers."""
    layers = np.asarray(sending.layers if sending.mask is None else sending.mask * sending.layers)
    wait = 0.0 if sending.exchange == "stage_hop" else engine.collective_wait_s
    if sending.exchange == "expert_exchange":
        wait += engine.exchange_wait_s
    uneven = busiest_exchange_factor(engine.exchange_imbalance, sending.ranks) if sending.uneven else 1.0
    return layers * uneven, layers * (sending.ranks > 1) * wait if wait else None


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
