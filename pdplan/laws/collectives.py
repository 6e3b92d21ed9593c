"""Collective communication: latency plus bytes over the slowest link that they cross.

Ranks fill a scale-up domain (NVLink, xGMI, ICI …) before they cross to the
scale-out network, so a group of n ranks spans ceil(n / domain) domains.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One barrier among peers inside a domain: a one-shot kernel takes one, a two-shot two."""
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


def all_reduce_time_s(message_bytes: ArrayLike, ranks: ArrayLike, links: Links) -> Array:
    """All-reduce of `message_bytes` held by each of `ranks` ranks [s].

    Inside a domain the fastest of (c = 1 + contention·(r−2))
      one-shot: α + c·(r−1)·S / bw_d           (every rank reads every other; small messages)
      two-shot: 2α + c·2(r−1)/r·S / bw_d       (each reduces a share, then all read it)
      ring:     α_r + 2(r−1)·h + min(2x, α_b + x),  x = c·(λ + 2(r−1)/r)·S / bw
      in-switch: α_s + (1 + 1/r)·S / bw_s      (r > 2, where the switch can add: a rank's message
                                               goes out once, and its share of the sum comes and goes)
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
    size = np.asarray(message_bytes, dtype=float)
    inside, domains = _spread(ranks, links.domain_size)
    once = _crowded(size, inside, links)
    shares = 2 * (inside - 1) / inside
    one_shot = links.scale_up_latency_s + (inside - 1) * once / links.direct
    two_shot = 2 * links.scale_up_latency_s + shares * once / links.direct
    ring = (
        links.ring_latency_s
        + 2 * (inside - 1) * links.hop_latency_s
        + _streamed((links.local_share + shares) * once / links.up, links)
    )
    across = (
        2 * (domains - 1) * links.scale_out_latency_s
        + 2 * (domains - 1) / domains * size / inside / links.out
    )
    fastest = np.minimum(np.minimum(one_shot, two_shot), ring)
    if links.switch_reduces:
        in_switch = links.switch_latency_s + (1 + 1 / inside) * size / links.switch
        fastest = np.where(inside > 2, np.minimum(fastest, in_switch), fastest)
    local = np.where(domains > 1, ring, fastest)
    return np.where(inside > 1, local, 0.0) + np.where(domains > 1, across, 0.0)


def all_gather_time_s(gathered_bytes: ArrayLike, ranks: ArrayLike, links: Links) -> Array:
    """All-gather to `gathered_bytes` on every rank; a reduce-scatter of as much costs the same [s].

    Half of a ring all-reduce: α_r + (r−1)·h + min(2x, α_b + x), x = c·(λ/2 + (r−1)/r)·S/bw,
    and over d domains (d−1)/d·S/inside over each scale-out link besides.

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> float(all_gather_time_s(8e9, 8, links))
    0.07
    """
    size = np.asarray(gathered_bytes, dtype=float)
    inside, domains = _spread(ranks, links.domain_size)
    local = (
        links.ring_latency_s
        + (inside - 1) * links.hop_latency_s
        + _streamed(
            (links.local_share / 2 + (inside - 1) / inside) * _crowded(size, inside, links) / links.up, links
        )
    )
    across = (domains - 1) * (links.scale_out_latency_s + size / domains / inside / links.out)
    return np.where(inside > 1, local, 0.0) + np.where(domains > 1, across, 0.0)


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Tokens on their way to the ranks of their experts, or back. All arrays broadcast."""

    tokens: ArrayLike
    """That one rank sends."""
    per_token: ArrayLike
    """Experts of a token."""
    bytes_per_token: ArrayLike
    """Of one copy."""
    ranks: ArrayLike
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
    sent = np.asarray(routed.tokens, dtype=float) * np.asarray(routed.bytes_per_token, dtype=float)
    sent = sent * routed.busiest
    up = copies_up * sent / (links.scale_up_bytes_per_s * efficiency)
    out = copies_out * sent / links.out
    latency = start + np.where(domains > 1, links.scale_out_latency_s, 0.0)
    return np.where(r > 1, latency + np.maximum(up, out), 0.0)


def _spread(ranks: ArrayLike, domain_size: ArrayLike) -> tuple[Array, Array]:
    """Ranks within a domain, and domains."""
    r = np.asarray(ranks, dtype=float)
    return np.minimum(r, domain_size), np.ceil(r / domain_size)


def _crowded(size: Array, inside: Array, links: Links) -> Array:
    """Bytes as they weigh on links that more than two ranks share."""
    return size * (1.0 + links.contention * np.maximum(inside - 2.0, 0.0))


def _streamed(seconds: Array, links: Links) -> Array:
    """Link time of a ring: at half bandwidth, or later at full bandwidth."""
    return np.minimum(2.0 * seconds, links.ring_bulk_latency_s + seconds)


def _distinct(places: Array, per_token: Array) -> Array:
    """Expected distinct ones of `places` that `per_token` uniform choices hit: n·(1 − (1−1/n)^k)."""
    return places * (1.0 - (1.0 - 1.0 / places) ** per_token)


def point_to_point_time_s(message_bytes: ArrayLike, crosses_domain: ArrayLike, links: Links) -> Array:
    """One message between neighbouring pipeline stages [s]: latency + bytes / link (NCCL send and receive).

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> float(point_to_point_time_s(1e9, False, links)), float(point_to_point_time_s(1e9, True, links))
    (0.01, 0.1)
    """
    size = np.asarray(message_bytes, dtype=float)
    return np.where(
        crosses_domain,
        links.scale_out_latency_s + size / links.out,
        links.ring_latency_s + size / links.up,
    )


def stage_hops_time_s(
    message_bytes: ArrayLike, stages: ArrayLike, gpus_per_stage: ArrayLike, links: Links
) -> Array:
    """A message through all stages of a pipeline [s]; stages fill a domain before they cross to the next.

    t = (pp − 1 − x)·t_up + x·t_out, with x = ceil(pp / max(floor(domain / stage), 1)) − 1 hops that
    leave a domain: a worker that straddles nodes pays for the slower link.

    >>> links = Links(scale_up_bytes_per_s=100e9, scale_out_bytes_per_s=10e9, domain_size=8)
    >>> [round(float(stage_hops_time_s(1e9, pp, 4, links)), 6) for pp in (1, 2, 4)]
    [0.0, 0.01, 0.12]
    """
    pp = np.asarray(stages, dtype=float)
    held = np.maximum(np.floor(links.domain_size / np.asarray(gpus_per_stage, dtype=float)), 1.0)
    out = np.ceil(pp / held) - 1.0
    return (pp - 1.0 - out) * point_to_point_time_s(
        message_bytes, False, links
    ) + out * point_to_point_time_s(message_bytes, True, links)
