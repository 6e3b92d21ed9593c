"""Sending a prompt's KV cache from a prefill worker to a decode worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


@dataclass(frozen=True, kw_only=True)
class Network:
    """What lies between the two pools, per accelerator. Defaults: ideal."""

    bandwidth_bytes_per_s: float
    """Of one accelerator's link (NIC), per direction."""
    efficiency: float = 1.0
    """Share of the line rate that large transfers reach."""
    latency_s: float = 0.0
    """Handshake and first byte of one transfer."""
    layer_latency_s: float = 0.0
    """Descriptors and completions of one layer's blocks, which go out as messages of their own."""
    round_trip_s: float = 0.0
    jitter_s: float = 0.0
    """Standard deviation of the latency; adds to its tail."""
    loss: float = 0.0
    """Share of packets lost."""
    transport: Literal["rdma", "tcp"] = "rdma"
    packet_bytes: float = 4096.0
    """RDMA path MTU, or the TCP segment."""


def goodput_bytes_per_s(network: Network) -> Array:
    """What one link delivers once losses are repeated [bytes/s].

    rdma (go-back-N: a loss repeats the window W = bandwidth·RTT/packet):
        g = bw·η·(1 − p) / (1 − p + p·W)
    tcp (loss halves the window): g = min(bw·η, packet/RTT · sqrt(3/2) / sqrt(p))
    No loss: bw·η.
    Sources: Bertsekas & Gallager, Data Networks, 1992, section 2.4 (go-back-N);
    Mathis et al., ACM CCR 27(3), 1997 (TCP).

    >>> float(goodput_bytes_per_s(Network(bandwidth_bytes_per_s=50e9, efficiency=0.8)))
    40000000000.0
    """
    line = network.bandwidth_bytes_per_s * network.efficiency
    p, rtt = network.loss, max(network.round_trip_s, 1e-9)
    if p <= 0.0:
        return np.asarray(line)
    if network.transport == "rdma":
        window = max(network.bandwidth_bytes_per_s * rtt / network.packet_bytes, 1.0)
        return np.asarray(line * (1.0 - p) / (1.0 - p + p * window))
    return np.asarray(min(line, network.packet_bytes / rtt * np.sqrt(1.5 / p)))


def transfer_links(
    prefill_tp: ArrayLike, prefill_pp: ArrayLike, decode_tp: ArrayLike, decode_pp: ArrayLike
) -> Array:
    """Links that carry one sequence's cache side by side.

    Each side's tp·pp accelerators hold (or, where replicated, can send) a share;
    the side with fewer of them is the neck: min(tp_p·pp_p, tp_d·pp_d).

    >>> float(transfer_links(8, 1, 4, 1))
    4.0
    """
    return np.minimum(
        np.asarray(prefill_tp, dtype=float) * prefill_pp, np.asarray(decode_tp, dtype=float) * decode_pp
    )


def transfer_time_s(
    cache_bytes: ArrayLike, links: ArrayLike, network: Network, layers: ArrayLike = 0.0
) -> Array:
    """One prompt's cache over `links` links in parallel [s].

    t = latency + layers · layer latency + bytes / (links · goodput); arguments broadcast.
    Holds for one transfer at a time; `utilisation` tells when links queue.

    >>> net = Network(bandwidth_bytes_per_s=50e9)
    >>> float(transfer_time_s(4e9, 8, net))
    0.01
    """
    start = network.latency_s + np.asarray(layers, dtype=float) * network.layer_latency_s
    return start + np.asarray(cache_bytes, dtype=float) / (
        np.asarray(links, dtype=float) * goodput_bytes_per_s(network)
    )


def exposed_transfer_time_s(
    transfer_s: ArrayLike, prefill_s: ArrayLike, layers: int, overlap: float
) -> Array:
    """What a request waits for when layers are sent while later ones still compute [s].

    With full overlap the last layer's share remains, and whatever outlasts prefill:
        t_exposed = max(t/L, t − t_prefill·(L−1)/L);
    `overlap` from 0 (sent after prefill) to 1 (layer by layer) interpolates.

    >>> float(exposed_transfer_time_s(0.03, 0.3, 30, 1.0)), float(exposed_transfer_time_s(0.03, 0.3, 30, 0.0))
    (0.001, 0.03)
    """
    t, p = np.asarray(transfer_s, dtype=float), np.asarray(prefill_s, dtype=float)
    streamed = np.maximum(t / layers, t - p * (layers - 1) / layers)
    return overlap * streamed + (1.0 - overlap) * t
