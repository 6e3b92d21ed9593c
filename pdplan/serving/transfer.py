"""The KV cache of a request on its way from a prefill to a decode worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.kv_transfer import Network, exposed_transfer_time_s, transfer_links, transfer_time_s
from pdplan.laws.roofline import Array
from pdplan.memory import request_cache_bytes
from pdplan.serving.pools import Pool
from pdplan.serving.queueing import mean_wait_s
from pdplan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One request's KV cache on its way."""

    bytes: Array
    links: Array
    alone_s: Array
    """Time of the transfer itself."""
    wait_s: Array
    exposed_s: Array
    """What a request waits for, transfers queued before it and overlap with prefill counted."""
    utilisation: Array


def kv_transfer(
    prefill: Pool, decode: Pool, workload: Workload, network: Network, rate: ArrayLike, prefill_s: ArrayLike
) -> Transfer:
    """Transfer of one request's cache between the pools at `rate` requests/s."""
    setting = prefill.setting
    size = request_cache_bytes(setting.stack, setting.formats, workload.isl)
    links = transfer_links(prefill.layout.tp, prefill.layout.pp, decode.layout.tp, decode.layout.pp)
    alone = transfer_time_s(size, links, network, prefill.setting.stack.layers)
    # Transfers share the links of whichever pool has fewer of them for its share of the requests.
    crowded = np.asarray(prefill.gpus) * decode.share <= np.asarray(decode.gpus) * prefill.share
    lanes = np.maximum(np.floor(np.where(crowded, prefill.gpus, decode.gpus) / links), 1.0)
    sent = np.asarray(rate) * np.where(crowded, prefill.share, decode.share)
    wire = transfer_time_s(size, links, replace(network, latency_s=0.0, layer_latency_s=0.0))
    wait = mean_wait_s(lanes, sent, wire, workload.arrival_cv, 0.0)
    overlap = setting.constants.engine.transfer_overlap
    exposed = exposed_transfer_time_s(alone, prefill_s, setting.stack.layers, overlap) + wait
    return Transfer(
        bytes=size,
        links=links,
        alone_s=alone,
        wait_s=wait,
        exposed_s=exposed,
        utilisation=sent * wire / lanes,
    )
