"""Time to first token as a distribution: a queue, a service, and what is the same for every request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array
from pdplan.serving.pools import PrefillService
from pdplan.serving.queueing import erlang_c, mean_wait_s, normal_quantile, response_quantile_s
from pdplan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A queue's wait, a service and what is the same for every request."""

    waits: Array
    """Share of the requests that wait."""
    wait_s: Array
    """Mean over all of them."""
    service_s: Array
    service_cv: float
    fixed_s: Array
    phase_s: Array = field(default_factory=lambda: np.zeros(()))
    """Length of the step that a request meets at random: it waits for what is left of it."""
    burst_s: Array = field(default_factory=lambda: np.zeros(()))
    """What an opening burst adds to the mean (it is no part of the steady distribution)."""
    even: bool = False
    """Whether waits spread evenly: those of a loop whose requests all began at once, which come in trains."""
    jitter_s: float = 0.0
    """Standard deviation of the network's latency: adds z·jitter to the tail, nothing to the mean."""

    @property
    def mean_s(self) -> Array:
        return self.wait_s + self.phase_s / 2.0 + self.service_s + self.fixed_s + self.burst_s

    def quantile_s(self, probability: ArrayLike) -> Array:
        """The time that a share `probability` of the requests stays below [s].

        Waits that spread evenly go up to twice their mean, times the share C that waits.
        """
        if self.even:
            share = 2.0 * np.asarray(probability, dtype=float) * self.waits
            return np.asarray(self.fixed_s + self.service_s + share * self.wait_s)
        late = np.maximum(normal_quantile(probability), 0.0) * self.jitter_s if self.jitter_s else 0.0
        met = response_quantile_s(
            probability, self.waits, self.wait_s, self.service_s, self.service_cv, self.phase_s
        )
        return self.fixed_s + late + met


def prefill_latency(
    servers: ArrayLike,
    service: PrefillService,
    rate: ArrayLike,
    workload: Workload,
    fixed_s: Array,
    jitter_s: float = 0.0,
) -> Latency:
    """Behind the queue of a prefill pool in an open loop: G/G/c, batches of prompts arrive together."""
    arrivals = np.asarray(rate, dtype=float) / service.prompts
    waits = erlang_c(servers, service.offered(rate))
    return Latency(
        waits=waits,
        wait_s=mean_wait_s(
            servers, arrivals, service.interval_s, workload.arrival_cv, workload.isl_cv, waits
        ),
        service_s=service.time_s,
        service_cv=workload.isl_cv,
        fixed_s=fixed_s,
        jitter_s=jitter_s,
    )
