"""Collective communication: latency plus bytes over the slowest link that they cross.

Ranks fill a scale-up domain (NVLink, xGMI, ICI …) before they cross to the
scale-out network, so a group of n ranks spans ceil(n / domain) domains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


@dataclass(frozen=True, kw_only=True)
class Links:
    """The links of one accelerator and how well collectives use them. Defaults: ideal."""

    scale_up_bytes_per_s: float
    """Per accelerator and direction."""
    scale_out_bytes_per_s: float
    domain_size: int
    """Accelerators within one scale-up domain."""
    scale_up_efficiency: float = 1.0
    """Share of the scale-up link that rings reach."""
    scale_out_efficiency: float = 1.0
    """Share of the network link that collectives across domains reach."""
    direct_efficiency: float = 1.0
    """Share of the scale-up link that one kernel reading its peers' memory reaches."""
    local_share: float = 0.0
    """Passes over the message in own memory, in link time, beside those over the link."""
    contention: float = 0.0
    """Slow-down by each rank beyond two: 0 behind a switch, above 1 on a shared PCIe root."""
    scale_up_latency_s: float = 0.0
    """One barrier among peers inside a domain: a one-shot kernel takes one."""
    two_shot_rank_latency_s: float = 0.0
    """What a two-shot takes more to start for each rank: it waits for every rank's share of the sum."""
    ring_latency_s: float = 0.0
    """Start of a ring collective (NCCL, RCCL), or of one message to a peer."""
    ring_bulk_latency_s: float = 0.0
    """What a ring takes more to start at full bandwidth; until then it sends flags beside
    data at half of it (NCCL's LL and Simple protocols)."""
    hop_latency_s: float = 0.0
    """Each further rank of a ring."""
    scale_out_latency_s: float = 0.0
    """One message across the network, both ends included."""
    expert_latency_s: float = 0.0
    """One low-latency dispatch or combine."""
    expert_efficiency: float = 1.0
    """Share of the scale-up link that a low-latency dispatch or combine reaches."""
    bulk_expert_latency_s: float = 0.0
    """One high-throughput dispatch or combine: layout, notification, flags."""
    bulk_expert_efficiency: float = 1.0
    """Share of the scale-up link that a high-throughput dispatch or combine reaches."""
    switch_reduces: bool = False
    """Whether the switch of the domain adds up what passes through it (NVLink SHARP)."""
    switch_efficiency: float = 1.0
    """Share of the scale-up link that a reduction in the switch reaches."""
    switch_latency_s: float = 0.0
    """Start of a reduction in the switch, filling its pipeline included."""

    @property
    def up(self) -> float:
        return self.scale_up_bytes_per_s * self.scale_up_efficiency

    @property
    def direct(self) -> float:
        return self.scale_up_bytes_per_s * self.direct_efficiency

    @property
    def switch(self) -> float:
        return self.scale_up_bytes_per_s * self.switch_efficiency

    @property
    def out(self) -> float:
        return self.scale_out_bytes_per_s * self.scale_out_efficiency


class Line(NamedTuple):
    """Seconds of a message by its size, t = α + β·S, where α and β depend on ranks and links alone."""

    alpha_s: Array
    beta_s_per_byte: Array

    def at(self, message_bytes: ArrayLike) -> Array:
        return np.asarray(self.alpha_s + self.beta_s_per_byte * np.asarray(message_bytes, dtype=float))


class Ring(NamedTuple):
    """Seconds of a ring, t = α + min(2x, α_b + x), x = β·S: at half bandwidth, or later at full bandwidth."""

    alpha_s: Array
    beta_s_per_byte: Array
    bulk_s: float

    def at(self, message_bytes: ArrayLike) -> Array:
        streamed = self.beta_s_per_byte * np.asarray(message_bytes, dtype=float)
        return np.asarray(self.alpha_s + np.minimum(2.0 * streamed, self.bulk_s + streamed))


class Choice(NamedTuple):
    """Which all-reduce an engine takes by the size of the message, not by its time; arrays over ranks."""

    one_shot_bytes: Array
    """Up to here the engine's one-shot kernel, above it the fastest of the others,"""
    library_bytes: Array
    """and from here on the fastest of the library's."""


class Collective(NamedTuple):
    """The kernels that a collective may take among its ranks, of which the fastest counts."""

    ring: Ring
    shots: tuple[Line, Line] | None = None
    """The engine's own, one-shot and two-shot; infinite where they do not reach."""
    switch: Line | None = None
    """In the switch of the domain."""
    across: Line | None = None
    """Between domains, besides."""
    choice: Choice | None = None
    """Where the engine does not take the fastest."""

    def at(self, message_bytes: ArrayLike) -> Array:
        """Seconds of a message; arguments and ranks broadcast."""
        size = np.asarray(message_bytes, dtype=float)
        fastest = self.ring.at(size)
        if self.switch is not None:
            fastest = np.minimum(fastest, self.switch.at(size))
        if self.shots is not None:
            one, two = (line.at(size) for line in self.shots)
            if self.choice is None:
                fastest = np.minimum(fastest, np.minimum(one, two))
            else:
                own = np.where(size <= self.choice.one_shot_bytes, one, np.minimum(two, fastest))
                fastest = np.where(size < self.choice.library_bytes, own, fastest)
        return np.asarray(fastest if self.across is None else fastest + self.across.at(size))


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How an engine chooses between all-reduces of its own and the library's; see `Choice`."""

    one_shot_bytes: ArrayLike
    small_group_bytes: float
    """Message from which on up to four ranks (but not two) take the library's."""
    large_group_bytes: float
    """The same of more ranks."""


def all_reduce(ranks: ArrayLike, links: Links, habit: Habit | None = None) -> Collective:
    """`all_reduce_time_s` for certain ranks and links, and messages of any size."""
    inside, domains = _spread(ranks, links.domain_size)
    several, together = inside > 1, domains <= 1
    crowd = _crowding(inside, links)
    shares = 2 * (inside - 1) / inside

    def direct(alpha_s: ArrayLike, beta: Array, possible: Array = together) -> Line:
        """One rank costs nothing; the kernel does not reach across domains."""
        alpha = np.where(several, np.where(possible, alpha_s, np.inf), 0.0)
        return Line(alpha, np.where(several, beta, 0.0))

    barriers = links.scale_up_latency_s + inside * links.two_shot_rank_latency_s
    shots = (
        direct(links.scale_up_latency_s, (inside - 1) * crowd / links.direct),
        direct(barriers, shares * crowd / links.direct),
    )
    switch = None
    if links.switch_reduces:
        in_switch = (1 + 1 / inside) / links.switch
        switch = direct(links.switch_latency_s, in_switch, together & (inside > 2))
    choice = None
    if habit is not None:
        limit = np.where(inside > 4, habit.large_group_bytes, habit.small_group_bytes)
        limit = np.where(together, np.where(inside > 2, limit, np.inf), 0.0)
        choice = Choice(np.asarray(habit.one_shot_bytes), limit)
    return Collective(
        ring=Ring(
            links.ring_latency_s + 2 * (inside - 1) * links.hop_latency_s,
            (links.local_share + shares) * crowd / links.up,
            links.ring_bulk_latency_s,
        ),
        shots=shots,
        switch=switch,
        across=None
        if np.all(together)
        else Line(
            2 * (domains - 1) * links.scale_out_latency_s, 2 * (domains - 1) / domains / inside / links.out
        ),
        choice=choice,
    )


def all_reduce_time_s(
    message_bytes: ArrayLike, ranks: ArrayLike, links: Links, habit: Habit | None = None
) -> Array:
    """All-reduce of `message_bytes` held by each of `ranks` ranks [s].

    Inside a domain the fastest of (c = 1 + contention·(r−2))
      one-shot: α + c·(r−1)·S / bw_d           (every rank reads every other; small messages)
      two-shot: α + α_2·r + c·2(r−1)/r·S / bw_d  (each reduces a share, then all read it)
      ring:     α_r + 2(r−1)·h + min(2x, α_b + x),  x = c·(λ + 2(r−1)/r)·S / bw
      in-switch: α_s + (1 + 1/r)·S / bw_s      (r > 2, where the switch can add: a rank's message
                                               goes out once, and its share of the sum comes and goes)
    An engine with a habit takes the one-shot up to a size, then the fastest of the others, and from another
    size on the faster of ring and switch, whatever else would be.
    Across d domains: reduce-scatter inside, ring of the S/r shares between domains over
    the scale-out link, all-gather inside. One rank costs nothing. Arguments broadcast.
    Source: Patarasuk & Yuan, J. Parallel Distrib. Comput. 69, 2009 (ring); one- and two-shot
    are the custom kernels of TensorRT-LLM and vLLM; the hierarchy is NCCL's tree of rings; in-switch
    is NCCL's NVLS (multimem load-reduce and store), which it takes for large messages.

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> float(all_reduce_time_s(8e9, 8, links))
    0.14
    >>> float(all_reduce_time_s(8e9, 1, links))
    0.0
    """
    return all_reduce(ranks, links, habit).at(message_bytes)


def all_gather(ranks: ArrayLike, links: Links) -> Collective:
    """`all_gather_time_s` for certain ranks and links, and messages of any size."""
    inside, domains = _spread(ranks, links.domain_size)
    several = inside > 1
    beta = (links.local_share / 2 + (inside - 1) / inside) * _crowding(inside, links) / links.up
    return Collective(
        ring=Ring(
            np.where(several, links.ring_latency_s + (inside - 1) * links.hop_latency_s, 0.0),
            np.where(several, beta, 0.0),
            links.ring_bulk_latency_s,
        ),
        across=None
        if np.all(domains <= 1)
        else Line((domains - 1) * links.scale_out_latency_s, (domains - 1) / domains / inside / links.out),
    )


def all_gather_time_s(gathered_bytes: ArrayLike, ranks: ArrayLike, links: Links) -> Array:
    """All-gather to `gathered_bytes` on every rank; a reduce-scatter of as much costs the same [s].

    Half of a ring all-reduce: α_r + (r−1)·h + min(2x, α_b + x), x = c·(λ/2 + (r−1)/r)·S/bw,
    and over d domains (d−1)/d·S/inside over each scale-out link besides.

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> float(all_gather_time_s(8e9, 8, links))
    0.07
    """
    return all_gather(ranks, links).at(gathered_bytes)


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Tokens on their way to the ranks of their experts, or back. All arrays broadcast."""

    per_token: ArrayLike
    """Experts of a token."""
    ranks: ArrayLike
    tokens: ArrayLike = 1.0
    """That one rank sends."""
    bytes_per_token: ArrayLike = 1.0
    """Of one copy."""
    group_limit: int | None = None
    """Domains that a token's experts lie in at most."""
    ranks_per_domain: ArrayLike | None = None
    """The domain size, unless the ranks are spaced out (each expert shared by several accelerators)."""
    busiest: ArrayLike = 1.0
    """What the busiest rank is sent, over the mean: the exchange ends with it."""


def expert_exchange_time_s(routed: Routed, links: Links, deduplicate: bool = True) -> Array:
    """Dispatch (or combine) of an expert-parallel layer: all-to-all of routed tokens [s].

    t = α + f·max(bytes_up / bw_up, bytes_out / bw_out), for each rank, with d domains of i ranks and f
    the load of the busiest rank over the mean:
      low-latency kernels (deduplicate=False; decode) send every copy to its rank:
        bytes_out = T·k·(1 − 1/d)·b,  bytes_up = T·k·(i−1)/(i·d)·b
      high-throughput kernels (deduplicate=True; prefill) send a token once to a domain, and
      once to a rank there; with g = min(d, group_limit) domains that a token may reach:
        bytes_out = T·(d−1)/d·g·(1 − (1−1/g)^k)·b,  bytes_up = T·(i−1)/i·r·(1 − (1−1/r)^k)·b
    One rank costs nothing.
    Source: DeepEP (docs/legacy.md): low-latency and normal kernels.

    >>> h800 = Links(scale_up_bytes_per_s=200e9, scale_out_bytes_per_s=50e9, domain_size=8,
    ...              expert_efficiency=0.8, expert_latency_s=37e-6)
    >>> sent = Routed(tokens=128, per_token=8, bytes_per_token=7168, ranks=8)
    >>> round(float(expert_exchange_time_s(sent, h800, deduplicate=False)) * 1e6)  # DeepEP: 77 us
    77
    """
    sent = np.asarray(routed.tokens, dtype=float) * np.asarray(routed.bytes_per_token, dtype=float)
    return expert_exchange(routed, links, deduplicate).at(sent * routed.busiest)


def expert_exchange(routed: Routed, links: Links, deduplicate: bool = True) -> Line:
    """`expert_exchange_time_s` by f·T·b, the bytes of the busiest rank's tokens [B], each counted once."""
    r, k = np.asarray(routed.ranks, dtype=float), np.asarray(routed.per_token, dtype=float)
    own = routed.ranks_per_domain
    inside, domains = _spread(r, links.domain_size if own is None else own)
    remote = 1.0 - 1.0 / domains
    if deduplicate:
        reached = domains if routed.group_limit is None else np.minimum(domains, routed.group_limit)
        copies_out = remote * _distinct(reached, k)
        copies_up = (1.0 - 1.0 / inside) * _distinct(r, k)
        efficiency, start = links.bulk_expert_efficiency, links.bulk_expert_latency_s
    else:  # what crosses the network arrives at its rank directly
        copies_out = k * remote
        copies_up = k * (1.0 - 1.0 / inside) / domains
        efficiency, start = links.expert_efficiency, links.expert_latency_s
    slower = np.maximum(copies_up / (links.scale_up_bytes_per_s * efficiency), copies_out / links.out)
    latency = start + np.where(domains > 1, links.scale_out_latency_s, 0.0)
    return Line(np.where(r > 1, latency, 0.0), np.where(r > 1, slower, 0.0))


def _spread(ranks: ArrayLike, domain_size: ArrayLike) -> tuple[Array, Array]:
    """Ranks within a domain, and domains."""
    r = np.asarray(ranks, dtype=float)
    return np.minimum(r, domain_size), np.ceil(r / domain_size)


def _crowding(inside: Array, links: Links) -> Array:
    """How much more a byte weighs on links that more than two ranks share."""
    return 1.0 + links.contention * np.maximum(inside - 2.0, 0.0)


def _distinct(places: Array, per_token: Array) -> Array:
    """Expected distinct ones of `places` that `per_token` uniform choices hit: n·(1 − (1−1/n)^k)."""
    return places * (1.0 - (1.0 - 1.0 / places) ** per_token)


def stage_hops_time_s(
    message_bytes: ArrayLike, stages: ArrayLike, gpus_per_stage: ArrayLike, links: Links
) -> Array:
    """A message through all stages of a pipeline [s]; stages fill a domain before they cross to the next.

    t = (pp − 1 − x)·(α_r + S/bw) + x·(α_o + S/bw_o), sends and receives between neighbours, of which
    x = ceil(pp / max(floor(domain / stage), 1)) − 1
    leave a domain: a worker that straddles nodes pays for the slower link.

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> [round(float(stage_hops_time_s(1e9, pp, 4, links)), 6) for pp in (1, 2, 4)]
    [0.0, 0.01, 0.12]
    """
    return stage_hops(stages, gpus_per_stage, links).at(message_bytes)


def stage_hops(stages: ArrayLike, gpus_per_stage: ArrayLike, links: Links) -> Line:
    """`stage_hops_time_s` by the size of the message."""
    pp = np.asarray(stages, dtype=float)
    held = np.maximum(np.floor(links.domain_size / np.asarray(gpus_per_stage, dtype=float)), 1.0)
    out = np.ceil(pp / held) - 1.0
    up = pp - 1.0 - out
    return Line(up * links.ring_latency_s + out * links.scale_out_latency_s, up / links.up + out / links.out)
