"""One kernel's time: counts through the rounded roofline, tiles filled up, inputs quantised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array, Roofline, compute_time_s, memory_time_s, rounded_roofline_time_s


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


def kernel_time(
    flop: ArrayLike,
    stored_bytes: ArrayLike,
    activation_bytes: ArrayLike,
    peak_flop_per_s: ArrayLike,
    bandwidth_bytes_per_s: ArrayLike,
    law: Roofline,
    *,
    rows: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    depth: ArrayLike | None = None,
    input_bytes: ArrayLike | None = None,
    scores: ArrayLike | None = None,
) -> KernelTime:
    """Seconds of one kernel from its counts; what step and calibration both call.

    t = t0 + t_in + (t_c^p + t_m^p + t_d^p)^(1/p),
    t_c = (FLOP + score FLOP · scores) · filling / (η_c · peak),  t_d = depth · d,
    t_m = (stored + traffic · activations) / (η_m · bandwidth),
    t_in = input traffic · input bytes / (η_m · bandwidth).

    rows, groups: see `tile_filling`. depth: inner dimension of the product [1]. input_bytes:
    16-bit bytes of its input, for the quantisation pass; scores: (query, key, head) triples whose
    exponential attention takes. None where these have no meaning.
    All arrays broadcast. `compute_s` holds t_c alone, `memory_s` t_m + t_in.

    >>> ideal = kernel_time(140e9, 70e9, 1e9, 1979e12, 4.8e12, Roofline())
    >>> float(ideal.total_s)
    0.014583333333333334
    """
    work = np.asarray(flop, dtype=float)
    if law.score_flop and scores is not None:
        work = work + law.score_flop * np.asarray(scores, dtype=float)
    if law.row_tile and rows is not None:
        work = work * tile_filling(rows, groups, law.row_tile)
    moved = np.asarray(stored_bytes, dtype=float)
    if law.activation_traffic:
        moved = moved + law.activation_traffic * np.asarray(activation_bytes, dtype=float)
    compute = compute_time_s(work, peak_flop_per_s, law)
    memory = memory_time_s(moved, bandwidth_bytes_per_s, law)
    chain = law.depth_s * np.asarray(depth, dtype=float) if law.depth_s and depth is not None else None
    total = rounded_roofline_time_s(compute, memory, law.exponent, law.overhead_s, chain_s=chain)
    if law.input_traffic and input_bytes is not None:
        passed = law.input_traffic * np.asarray(input_bytes, dtype=float)
        before = memory_time_s(passed, bandwidth_bytes_per_s, law)
        return KernelTime(total + before, compute, memory + before)
    return KernelTime(total, compute, memory)
