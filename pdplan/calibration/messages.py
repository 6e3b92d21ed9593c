"""Measured messages, and the fit of the constants of `Links` to them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import NEAR, held_out, rounded, span
from pdplan.documents.files import read_yaml
from pdplan.laws.collectives import Links
from pdplan.laws.roofline import Array

CATALOG = Path(__file__).parents[2] / "hardware_catalog"
PCIE = ("l40s", "rtx-pro-6000", "arc-pro-b60")
"""Accelerators whose ranks share PCIe roots."""

BOUNDS: dict[str, tuple[float, float]] = {
    "scale_up_efficiency": (0.02, 1.0),
    "scale_out_efficiency": (0.02, 1.0),
    "direct_efficiency": (0.02, 1.0),
    "local_share": (0.0, 2.0),
    "contention": (0.0, 5.0),
    "scale_up_latency_s": (1e-7, 1e-3),
    "two_shot_rank_latency_s": (1e-8, 1e-4),
    "ring_latency_s": (1e-7, 1e-3),
    "ring_bulk_latency_s": (1e-7, 1e-3),
    "hop_latency_s": (1e-8, 1e-4),
    "scale_out_latency_s": (1e-7, 1e-3),
    "expert_latency_s": (1e-7, 1e-3),
    "expert_efficiency": (0.02, 1.0),
    "bulk_expert_latency_s": (1e-7, 1e-3),
    "bulk_expert_efficiency": (0.02, 1.0),
    "switch_efficiency": (0.02, 1.0),
    "switch_latency_s": (1e-6, 1e-3),
}
START = {
    "scale_up_efficiency": 0.8,
    "scale_out_efficiency": 0.85,
    "direct_efficiency": 0.6,
    "local_share": 0.3,
    "contention": 0.0,
    "scale_up_latency_s": 4e-6,
    "two_shot_rank_latency_s": 1e-6,
    "ring_latency_s": 8e-6,
    "ring_bulk_latency_s": 1e-5,
    "hop_latency_s": 1e-6,
    "scale_out_latency_s": 1.5e-5,
    "expert_latency_s": 2e-5,
    "expert_efficiency": 0.5,
    "bulk_expert_latency_s": 3.5e-5,
    "bulk_expert_efficiency": 0.5,
    "switch_efficiency": 0.6,
    "switch_latency_s": 5e-5,
}
STARTS: tuple[dict[str, float], ...] = (
    START,
    {
        **START,
        "scale_up_efficiency": 0.999,
        "direct_efficiency": 0.5,
        "local_share": 0.7,
        "ring_bulk_latency_s": 2e-5,
        "switch_efficiency": 0.55,
        "switch_latency_s": 1e-4,
    },
)
"""Which algorithm is the fastest changes at a few sizes only, so that there are several minima."""
OWN_STARTS: tuple[dict[str, float], ...] = tuple(
    {**START, "scale_up_latency_s": start, "two_shot_rank_latency_s": rank, "switch_latency_s": 1.5e-5}
    for start in (3e-6, 7e-6)
    for rank in (1e-6, 2.5e-6)
)
"""The same of an engine's own kernels: where rings are faster at all sizes, nothing tells their constants."""
RING = (
    "scale_up_efficiency",
    "direct_efficiency",
    "local_share",
    "scale_up_latency_s",
    "two_shot_rank_latency_s",
    "ring_latency_s",
    "ring_bulk_latency_s",
    "hop_latency_s",
)
LOW_LATENCY = ("expert_latency_s", "expert_efficiency")
SWITCH = ("switch_efficiency", "switch_latency_s")
SHOTS = ("scale_up_latency_s", "two_shot_rank_latency_s", "direct_efficiency")
"""Of all-reduce kernels that are an engine's own."""
BULK = ("bulk_expert_latency_s", "bulk_expert_efficiency")


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Measured messages of one kind on one accelerator; `predict` gives the law's seconds."""

    kind: str
    accelerator: str
    seconds: Array
    size: Array
    ranks: Array
    engine: NDArray[Any]
    predict: Callable[[Links], Array]

    def where(self, chosen: NDArray[np.bool_]) -> Messages:
        """The messages that a mask chooses."""
        return dataclasses.replace(
            self,
            seconds=self.seconds[chosen],
            size=self.size[chosen],
            ranks=self.ranks[chosen],
            engine=self.engine[chosen],
            predict=lambda links: self.predict(links)[chosen],
        )


@functools.cache
def ideal_links(accelerator: str) -> Links:
    """The data-sheet links of an accelerator."""
    data = read_yaml(CATALOG / f"{accelerator}.yaml").data
    up = data["scale_up"]
    out = data.get("scale_out")
    return Links(
        scale_up_bytes_per_s=float(up["bandwidth_bytes_per_s"]["value"]),
        scale_out_bytes_per_s=float(out["bandwidth_bytes_per_s"]["value"]) if out else float("nan"),
        domain_size=int(up["domain_size"]["value"]),
        switch_reduces=bool(up.get("reduces_in_switch", False)),
    )


def node_size(accelerator: str) -> int:
    """Accelerators of one kind in a node."""
    return int(read_yaml(CATALOG / f"{accelerator}.yaml").data["accelerators_per_node"])


def _free(samples: Sequence[Messages]) -> tuple[str, ...]:
    """The constants that these measurements tell something about."""
    kinds = {s.kind for s in samples}
    crosses = any(np.any(s.ranks > ideal_links(s.accelerator).domain_size) for s in samples)
    free: tuple[str, ...] = ()
    if "all_reduce" in kinds:
        free += RING + (("contention",) if all(s.accelerator in PCIE for s in samples) else ())
        # The library adds up in the switch above four ranks, where that sends less than a ring; whether
        # it was timed there, its all-gathers tell.
        library = [s for s in samples if s.kind == "all_gather" and ideal_links(s.accelerator).switch_reduces]
        free += SWITCH if any(np.any(s.ranks > 4) for s in library) else ()
    free += LOW_LATENCY if "low_latency" in kinds else ()
    if "bulk" in kinds:
        few_tokens = any(np.any(s.size < 1e6) for s in samples if s.kind == "bulk")
        free += BULK if few_tokens else ("bulk_expert_efficiency",)
    return free + (("scale_out_efficiency", "scale_out_latency_s") if crosses else ())


def links_entry(
    samples: Sequence[Messages],
    source: str,
    known: Mapping[str, float] | None = None,
    own: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Fit all kinds of message together, each kind of each accelerator weighing the same.

    `known` constants stay as they are; so do, at their start values, those that the
    measurements tell nothing about. `own`: of an engine's kernels, when all others are known.
    """
    samples = [s for s in samples if len(s.seconds)]
    if not samples:
        return {}
    free = own or tuple(k for k in _free(samples) if k not in (known or {}))
    starts = OWN_STARTS if own else STARTS
    told = {k: v for k, v in START.items() if k != "contention"} | dict(known or {})
    fixed = {k: v for k, v in told.items() if k not in free}
    measured = np.concatenate([s.seconds for s in samples])
    weight = np.concatenate([np.full(len(s.seconds), len(s.seconds) ** -0.5) for s in samples])
    weight = weight / np.sqrt(np.mean(weight**2))
    held = held_out(np.concatenate([s.size * 31.0 + s.ranks for s in samples]))

    def sheet(accelerator: str) -> Links:
        links = ideal_links(accelerator)
        switched = SWITCH[0] in (*free, *(known or ()))
        return links if switched else dataclasses.replace(links, switch_reduces=False)

    def model(constants: dict[str, float]) -> Array:
        return np.concatenate(
            [s.predict(dataclasses.replace(sheet(s.accelerator), **constants)) for s in samples]  # type: ignore[arg-type]
        )

    def errors(constants: dict[str, float]) -> Array:
        return np.asarray(np.abs(model(constants) / measured - 1.0))

    enough = np.sum(~held) > 2 * len(free)
    without = _minimise(model, measured, starts, free, fixed, weight * ~held if enough else weight)
    constants = {k: _tidy(k, v) for k, v in _minimise(model, measured, starts, free, fixed, weight).items()}
    error, blind = errors(constants), errors(without)[held]
    by_kind = {
        f"{kind}_median_error": rounded(float(np.median(error[_of(samples, kind)])))
        for kind in sorted({s.kind for s in samples})
    }
    return {
        **{k: constants[k] for k in free},
        "rows": len(measured),
        "median_error": rounded(float(np.median(error))),
        "p90_error": rounded(float(np.percentile(error, 90))),
        **({"held_out_median_error": rounded(float(np.median(blind)))} if enough and blind.size else {}),
        **by_kind,
        "shapes": f"ranks {span(np.concatenate([s.ranks for s in samples]))}, "
        f"bytes {span(np.concatenate([s.size for s in samples]))}",
        "source": source,
    }


def own_kernels(samples: Sequence[Messages], common: Mapping[str, float], in_switch: bool) -> dict[str, Any]:
    """Constants of the all-reduces that are an engine's own, and their fit; none where `common` ones do.

    The library's stay. An engine may add in the switch by kernels of its own, which start sooner than those.
    """
    known = {k: v for k, v in common.items() if k in BOUNDS}
    free = SHOTS + (SWITCH if in_switch and SWITCH[0] in known else ())
    entry = links_entry(samples, "", {k: v for k, v in known.items() if k not in free}, free)
    missed = links_entry(samples, "", known)["median_error"]
    if missed <= NEAR.difference or entry["median_error"] > NEAR.gain * missed:
        return {}
    return {k: v for k, v in entry.items() if k in (*free, *_FIT)}


_FIT = ("rows", "median_error", "p90_error", "held_out_median_error")


def _of(samples: Sequence[Messages], kind: str) -> NDArray[np.bool_]:
    return np.concatenate([np.full(len(s.seconds), s.kind == kind) for s in samples])


def _minimise(
    model: Callable[[dict[str, float]], Array],
    measured: Array,
    starts: Sequence[Mapping[str, float]],
    free: Sequence[str],
    fixed: Mapping[str, float],
    weight: Array,
) -> dict[str, float]:
    """Soft-L1 of log(predicted / measured), as `fit.fit_roofline`; the best of several starts."""
    from scipy.optimize import least_squares

    used = weight > 0
    log = np.array([BOUNDS[k][0] > 0 for k in free])
    low, high = (np.array([BOUNDS[k][i] for k in free]) for i in (0, 1))

    def values(x: NDArray[np.float64]) -> dict[str, float]:
        plain = np.where(log, np.exp(np.where(log, x, 0.0)), x)
        return dict(zip(free, plain.tolist(), strict=True))

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((np.log(model({**fixed, **values(x)}) / measured) * weight)[used])

    def scaled(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(log, np.log(np.maximum(v, 1e-300)), v)

    lower, upper = scaled(low), scaled(high)
    margin = 1e-6 * (upper - lower)

    def found_from(first: Mapping[str, float]) -> Any:
        start = np.clip(scaled(np.array([first[k] for k in free])), lower + margin, upper - margin)
        return least_squares(
            residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.1, x_scale="jac", max_nfev=300
        )

    found = min((found_from(first) for first in starts), key=lambda x: float(x.cost))
    return {**fixed, **values(found.x)}


def _tidy(name: str, value: float) -> float:
    """Four digits; a share of 1e-13 is none."""
    return rounded(value) if BOUNDS[name][0] > 0 else round(value, 4)
