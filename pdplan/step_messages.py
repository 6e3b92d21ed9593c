"""Collectives of a step: α–β laws of the size of their messages, evaluated once for equal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pdplan.efficiency import Constants, Engine
from pdplan.laws.collectives import (
    Collective,
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
from pdplan.terms import Place, Term


def happens(sending: Sending) -> bool:
    """Whether any layout has the collective."""
    several = sending.ranks > 1
    return bool((several if sending.mask is None else several & sending.mask).any())


Law = Callable[[Load], Callable[[Sending], Array]]
"""What a load makes of collectives of one kind over the same ranks: seconds by their size."""


def law_key(sending: Sending) -> tuple[object, ...]:
    """Equal for collectives of one law; arrays are taken as equal where they are one."""
    experts = sending.per_token, sending.group_limit, sending.deduplicate, id(sending.spread), sending.busiest
    return sending.exchange, id(sending.ranks), *experts


def _size_key(sending: Sending) -> tuple[object, ...]:
    """As `law_key`, for collectives of one size: what is equal by chance is evaluated twice."""
    each = sending.bytes_each
    return sending.carried, id(each) if isinstance(each, np.ndarray) else each


class _Member(NamedTuple):
    """A collective, how often the seconds of its law count, and what it waits for besides."""

    sending: Sending
    size: object
    times: Array
    wait_s: Array | None


class Collectives:
    """Collectives of one law, each with its place in the step."""

    def __init__(self, members: Sequence[tuple[Place, Sending]], constants: Constants) -> None:
        self.places = tuple(place for place, _ in members)
        self._law = _law(members[0][1], constants.links)
        self._members = [_Member(s, _size_key(s), *_times(s, constants.engine)) for _, s in members]
        self._sizes = {member.size: member.sending for member in self._members}

    def totals_s(self, load: Load) -> list[Array]:
        """Seconds of each in a step, over all layers."""
        seconds_of = self._law(load)
        each = {size: seconds_of(sending) for size, sending in self._sizes.items()}
        return [
            m.times * each[m.size] if m.wait_s is None else m.times * each[m.size] + m.wait_s
            for m in self._members
        ]

    def terms(self, load: Load) -> Iterator[Term]:
        """The same with what they are made of."""
        for place, member, total in zip(self.places, self._members, self.totals_s(load), strict=True):
            name, message = member.sending.name, member.sending.message(load)
            yield Term(name=name, total_s=total, network_s=total, source=message, place=place)


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


def _law(sending: Sending, links: Links) -> Law:
    if sending.exchange == "expert_exchange":
        return _exchange_law(sending, links)
    if sending.exchange == "stage_hop":
        assert sending.spread is not None
        law: Line | Collective = stage_hops(sending.ranks, sending.spread, links)
    else:
        law = (all_reduce if sending.exchange == "all_reduce" else all_gather)(sending.ranks, links)
    return lambda load: lambda s: law.at(s.size_each * getattr(load, s.carried))


def _exchange_law(sending: Sending, links: Links) -> Law:
    low, bulk = _exchange_lines(sending, links)

    def of_load(load: Load) -> Callable[[Sending], Array]:
        busiest = 1.0 if sending.busiest is None else sending.busiest(load)
        decoded = None if sending.busiest is None else load.decoded * busiest
        carried = load.tokens * busiest

        def seconds(s: Sending) -> Array:
            alone = None if decoded is None else s.size_each * decoded
            return _exchange_s(low, bulk, alone, s.size_each * carried)[0]

        return seconds

    return of_load


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
