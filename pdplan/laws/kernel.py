"""One kernel's time: counts through the rounded roofline, tiles filled up, inputs quantised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array, Roofline, compute_time_s, memory_time_s, rounded_roofline_time_s


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What one kernel does; None where something has no meaning."""

    flop: ArrayLike
    """Useful arithmetic, before tiles round it up."""
    stored_bytes: ArrayLike
    """Weights or cache: always cross the memory bus."""
    activation_bytes: ArrayLike = 0.0
    """Cross it as far as they do not stay on chip."""
    rows: ArrayLike | None = None
    """Rows of the product (tokens), see `tile_filling`."""
    groups: ArrayLike | None = None
    """Grouped product: matrices touched, each with its own half-filled tile."""
    depth: ArrayLike | None = None
    """Inner dimension, which a tile walks through in sequence."""
    scores: ArrayLike | None = None
    """(query, key, head) triples whose exponential attention takes."""
    input_bytes: ArrayLike | None = None
    """16-bit bytes of the input, for the quantisation pass."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the data sheet allows: arithmetic of the kernel's type, memory."""

    peak_flop_per_s: ArrayLike
    bandwidth_bytes_per_s: ArrayLike


class KernelTime(NamedTuple):
    """Seconds of one kernel and of its two parts alone."""

    total_s: Array
    compute_s: Array
    memory_s: Array


def tile_filling(rows: ArrayLike, groups: ArrayLike | None, row_tile: float) -> Array:
    """Rows computed over rows wanted, ≥ 1.

    dense:   max(rows, tile) / rows           (fewer rows than a tile cost a tile)
    grouped: max(rows + groups · tile/2, groups · tile) / rows
             (half a tile wasted per matrix on average, never less than one tile)

    >>> float(tile_filling(4, None, 16)), float(tile_filling(512, 64, 16))
    (4.0, 2.0)
    """
    r = np.maximum(np.asarray(rows, dtype=float), 1e-9)
    if groups is None:
        return np.asarray(np.maximum(r, row_tile) / r)
    half = np.asarray(groups, dtype=float) * (row_tile / 2.0)
    return np.asarray(np.maximum(r + half, 2.0 * half) / r)


def kernel_time(counts: Counts, rates: Rates, law: Roofline) -> KernelTime:
    """Seconds of one kernel from its counts; what step and calibration both call.

    t = t0 + t_in + (t_c^p + t_m^p + t_d^p)^(1/p),
    t_c = (FLOP + score FLOP · scores) · filling / (η_c · peak),  t_d = depth · d,
    t_m = (stored + traffic · activations) / (η_m · bandwidth),
    t_in = input traffic · input bytes / (η_m · bandwidth).

    All arrays broadcast. `compute_s` holds t_c alone, `memory_s` t_m + t_in.

    >>> h200 = Rates(peak_flop_per_s=1979e12, bandwidth_bytes_per_s=4.8e12)
    >>> float(kernel_time(Counts(flop=140e9, stored_bytes=70e9), h200, Roofline()).total_s)
    0.014583333333333334
    """
    work = np.asarray(counts.flop, dtype=float)
    if law.score_flop and counts.scores is not None:
        work = work + law.score_flop * np.asarray(counts.scores, dtype=float)
    if law.row_tile and counts.rows is not None:
        work = work * tile_filling(counts.rows, counts.groups, law.row_tile)
    moved = np.asarray(counts.stored_bytes, dtype=float)
    if law.activation_traffic:
        moved = moved + law.activation_traffic * np.asarray(counts.activation_bytes, dtype=float)
    compute = compute_time_s(work, rates.peak_flop_per_s, law)
    memory = memory_time_s(moved, rates.bandwidth_bytes_per_s, law)
    chain = (
        law.depth_s * np.asarray(counts.depth, dtype=float)
        if law.depth_s and counts.depth is not None
        else None
    )
    total = rounded_roofline_time_s(compute, memory, law.exponent, law.overhead_s, chain_s=chain)
    if law.input_traffic and counts.input_bytes is not None:
        passed = law.input_traffic * np.asarray(counts.input_bytes, dtype=float)
        before = memory_time_s(passed, rates.bandwidth_bytes_per_s, law)
        return KernelTime(total + before, compute, memory + before)
    return KernelTime(total, compute, memory)
