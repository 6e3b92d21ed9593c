"""Collectives of a step: α–β laws of the size of their messages, evaluated once for equal ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
from pdplan.step.terms import Place, Term


def happens(sending: Sending) -> bool:
    """Whether any layout has the collective."""
    several = sending.ranks > 1
    return bool((several if sending.mask is None else several & sending.mask).any())


Law = Callable[[Load], list[Array]]
"""Seconds under a load of collectives of one kind over the same ranks, one of each size."""


def law_key(sending: Sending) -> tuple[object, ...]:
    """Equal for collectives of one law; arrays are taken as equal where they are one."""
    experts = sending.per_token, sending.group_limit, sending.deduplicate, id(sending.spread), sending.busiest
    return sending.exchange, id(sending.ranks), sending.quantised, *experts


def _size_key(sending: Sending) -> tuple[object, ...]:
    """As `law_key`, for collectives of one size: what is equal by chance is evaluated twice."""
    each = sending.bytes_each
    return sending.carried, id(each) if isinstance(each, np.ndarray) else each


class _Counted(NamedTuple):
    """How a collective counts in a step: times the seconds of its law, and what it waits for besides."""

    size: int
    """Which of the group's."""
    times: Array
    wait_s: Array | None


class Collectives:
    """Collectives of one law, each with its place in the step."""

    def __init__(self, members: Sequence[tuple[Place, Sending]], constants: Constants) -> None:
        self.places, self._sendings = zip(*members, strict=True)
        sizes = {_size_key(sending): sending for sending in self._sendings}
        number = {key: at for at, key in enumerate(sizes)}
        self._law = _law(list(sizes.values()), constants)
        self._counted = [
            _Counted(number[_size_key(sending)], *_times(sending, constants.engine))
            for sending in self._sendings
        ]

    def totals_s(self, load: Load) -> list[Array]:
        """Seconds of each in a step, over all layers."""
        each = self._law(load)
        return [
            own.times * each[own.size] if own.wait_s is None else own.times * each[own.size] + own.wait_s
            for own in self._counted
        ]

    def terms(self, load: Load) -> Iterator[Term]:
        """The same with what they are made of."""
        for place, sending, total in zip(self.places, self._sendings, self.totals_s(load), strict=True):
            message = sending.message(load)
            yield Term(name=message.name, total_s=total, network_s=total, source=message, place=place)


def _times(sending: Sending, engine: Engine) -> tuple[Array, Array | None]:
    """How often a collective's law counts, and what it waits for besides [s], over all layers."""
    layers = np.asarray(sending.layers if sending.mask is None else sending.mask * sending.layers)
    last = 0.0 if sending.exchange == "stage_hop" else engine.collective_wait_s
    if sending.uneven:
        last += engine.rank_wait_s
    waits = last_rank_wait_s(last, sending.ranks)
    if sending.exchange == "expert_exchange":
        waits = waits + engine.exchange_wait_s * (sending.ranks > 1)
    return layers, layers * waits if np.any(waits) else None


def _law(sizes: Sequence[Sending], constants: Constants) -> Law:
    """Of collectives that differ in their size alone."""
    first, links = sizes[0], constants.links
    if first.exchange == "expert_exchange":
        return _exchange_law(sizes, links)
    laws: list[Line | Collective]
    if first.exchange == "stage_hop":
        assert first.spread is not None
        laws = [stage_hops(first.ranks, first.spread, links)] * len(sizes)
    elif first.exchange == "all_gather":
        laws = [all_gather(first.ranks, links)] * len(sizes)
    else:
        habits = [habit_of(constants.engine, s.size_each, s.quantised) for s in sizes]
        laws = [all_reduce(first.ranks, links, habit) for habit in habits]
    return lambda load: [
        law.at(s.size_each * getattr(load, s.carried)) for law, s in zip(laws, sizes, strict=True)
    ]


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


def _exchange_law(sizes: Sequence[Sending], links: Links) -> Law:
    first = sizes[0]
    low, bulk = _exchange_lines(first, links)

    def seconds(load: Load) -> list[Array]:
        busiest = 1.0 if first.busiest is None else first.busiest(load)
        decoded = None if first.busiest is None else load.decoded * busiest
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
