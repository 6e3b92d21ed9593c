"""Collectives of a step: α–β laws of the size of their messages, evaluated once for equal ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pdplan.efficiency import Constants, Engine
from pdplan.laws.collectives import (
    Collective,
    Habit,
    Line,
    Links,
    Routed,
    all_gather,
    all_reduce,
    expert_exchange,
    stage_hops,
)
from pdplan.laws.experts import last_rank_wait_s
from pdplan.laws.roofline import Array
from pdplan.layout import Load
from pdplan.ops import Message, Sending
from pdplan.terms import Term, Timed


def happens(sending: Sending) -> bool:
    """Whether any layout has the collective."""
    several = sending.ranks > 1
    return bool((several if sending.mask is None else several & sending.mask).any())


Law = Callable[[Sequence[Sending], Load], list[Array]]
"""Seconds of collectives under a load, of one kind over the same ranks."""


class _Counted(NamedTuple):
    """How a collective counts in a step: times the seconds of its law, and what it waits for besides."""

    size: int
    """Which of the group's."""
    times: Array
    wait_s: Array | None


def law_key(sending: Sending) -> tuple[object, ...]:
    """Equal for collectives of one law; arrays are taken as equal where they are one."""
    experts = sending.per_token, sending.group_limit, sending.deduplicate, id(sending.spread), sending.busiest
    return sending.exchange, id(sending.ranks), sending.quantised, *experts


@dataclass(frozen=True, kw_only=True, eq=False)
class Alike:
    """Collectives of one law, each with its place among the step's terms."""

    law: Law
    places: tuple[int, ...]
    members: tuple[Sending, ...]
    sizes: tuple[Sending, ...]
    """One of each size."""
    counted: tuple[_Counted, ...]

    def times(self, load: Load) -> Iterator[Timed]:
        seconds = self.law(self.sizes, load)
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
    sizes: dict[object, Sending] = {}
    counted = []
    for sending in members:
        each = sending.bytes_each
        # As in `law_key`: what is equal by chance is evaluated twice.
        key = (sending.carried, id(each) if isinstance(each, np.ndarray) else each)
        sizes.setdefault(key, sending)
        times, wait = _times(sending, constants.engine)
        counted.append(_Counted(list(sizes).index(key), times, wait))
    return Alike(
        law=_law(members[0], constants),
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
    waits = wait * (sending.ranks > 1)
    if sending.uneven and engine.rank_wait_s:
        waits = waits + last_rank_wait_s(engine.rank_wait_s, sending.ranks)
    return layers, layers * waits if np.any(waits) else None


def _law(sending: Sending, constants: Constants) -> Law:
    links = constants.links
    if sending.exchange == "expert_exchange":
        return _exchange_law(sending, links)
    if sending.exchange == "stage_hop":
        assert sending.spread is not None
        law: Line | Collective = stage_hops(sending.ranks, sending.spread, links)
    elif sending.exchange == "all_gather":
        law = all_gather(sending.ranks, links)
    elif constants.engine.one_shot_tokens:
        return lambda sizes, load: [_chosen(s, constants).at(_bytes(s, load)) for s in sizes]
    else:
        law = all_reduce(sending.ranks, links)
    return lambda sizes, load: [law.at(_bytes(s, load)) for s in sizes]


def _bytes(sending: Sending, load: Load) -> Array:
    return np.asarray(sending.size_each * getattr(load, sending.carried))


def _chosen(sending: Sending, constants: Constants) -> Collective:
    """All-reduces by the habit of an engine that chooses them by tokens and bytes."""
    return all_reduce(
        sending.ranks, constants.links, habit_of(constants.engine, sending.size_each, sending.quantised)
    )


def habit_of(engine: Engine, token_bytes: Array, quantised: bool) -> Habit | None:
    """How an engine chooses an all-reduce of so many bytes a token; None where it takes the fastest."""
    if not engine.one_shot_tokens:
        return None
    small, large = engine.small_group_library_bytes, engine.large_group_library_bytes
    return Habit(
        one_shot_bytes=engine.one_shot_tokens * token_bytes,
        small_group_bytes=math.inf if quantised else small,
        large_group_bytes=math.inf if quantised else large,
    )


def _exchange_law(sending: Sending, links: Links) -> Law:
    low, bulk = _exchange_lines(sending, links)

    def seconds(sizes: Sequence[Sending], load: Load) -> list[Array]:
        busiest = 1.0 if sending.busiest is None else sending.busiest(load)
        decoded = None if sending.busiest is None else load.decoded * busiest
        carried = load.tokens * busiest
        return [
            _exchange_s(low, bulk, None if decoded is None else s.size_each * decoded, s.size_each * carried)[
                0
            ]
            for s in sizes
        ]

    return seconds


def _exchange_lines(message: Message | Sending, links: Links) -> tuple[Line, Line | None]:
    """Low-latency kernels of an exchange with experts, and the bulk ones of a step with prompts."""
    assert message.spread is not None
    routed = Routed(
        per_token=message.per_token,
        ranks=message.ranks,
        group_limit=message.group_limit,
        ranks_per_domain=np.maximum(links.domain_size / np.asarray(message.spread), 1.0),
    )
    low = expert_exchange(routed, links, deduplicate=False)
    return low, expert_exchange(routed, links) if message.deduplicate else None


def _exchange_s(
    low: Line, bulk: Line | None, decoded_bytes: Array | None, sent_bytes: Array
) -> tuple[Array, Array]:
    """Seconds of one exchange with experts, and where it takes the high-throughput kernels.

    Decodes alone take low-latency kernels, the ones that a graph can hold; a step with prompts
    high-throughput ones, but no less than its decodes alone: a prompt that joins makes no step cheaper.
    """
    alone: Array = np.zeros(()) if decoded_bytes is None else low.at(decoded_bytes)
    if bulk is None:
        return alone, np.zeros(np.shape(alone), dtype=bool)
    together = bulk.at(sent_bytes)
    return np.maximum(together, alone), together >= alone


def takes_bulk_kernels(message: Message, links: Links) -> Array:
    """Where an exchange with experts takes the high-throughput kernels."""
    assert message.tokens is not None
    each = message.message_bytes * message.busiest
    decoded = None if message.decode_tokens is None else message.decode_tokens * each
    return _exchange_s(*_exchange_lines(message, links), decoded, message.tokens * each)[1]


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
