"""The rounded roofline: how arithmetic and memory traffic share a kernel's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
"""Numbers of any shape; bool where a function says mask, float else."""


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """Constants of one kernel family on one accelerator, all measurable.

    The defaults are the ideal machine: data-sheet peaks, no overhead, a sharp
    ridge, activations that never leave the chip.
    """

    compute_efficiency: float = 1.0
    """Share of the peak FLOP/s that the largest kernels reach."""
    memory_efficiency: float = 1.0
    """Share of the data-sheet bandwidth that streaming kernels reach."""
    overhead_s: float = 0.0
    """Start, drain and launch gap of one kernel [s]."""
    exponent: float = float("inf")
    """p of the rounding: ∞ is the classical roofline, about 2 is what kernels show."""
    activation_traffic: float = 0.0
    """Share of the activation bytes that crosses to memory (0: all stays on chip)."""
    row_tile: float = 0.0
    """Rows a tile computes at once; a half-filled tile costs a whole one."""
    score_flop: float = 0.0
    """Attention: FLOP that the tensor units could do while one score passes the softmax."""
    depth_s: float = 0.0
    """Time one tile takes per element of the inner dimension k [s]: however few the
    tiles, a product walks k in sequence, and takes k times this at least."""
    input_traffic: float = 0.0
    """Passes over the input before the kernel proper, as a share of its 16-bit bytes:
    quantising x to FP8 reads it (1), writes and reads half of it (1/2 + 1/2), finding the
    largest value first reads it once more (1)."""


def rounded_roofline_time_s(
    compute_s: ArrayLike,
    memory_s: ArrayLike,
    exponent: float = float("inf"),
    overhead_s: float = 0.0,
    chain_s: ArrayLike | None = None,
) -> Array:
    """Time of a kernel whose arithmetic and memory traffic overlap in part.

    t = t0 + (t_compute^p + t_memory^p + t_chain^p)^(1/p) [s]; all arguments broadcast.
    p → ∞ gives t0 + max(t_compute, t_memory), the classical roofline.
    `chain_s` is what the kernel takes in sequence however many units it has, if anything.
    Source: Williams, Waterman, Patterson, CACM 52(4), 2009, for p → ∞; the finite
    p is a p-norm, fitted where `constants/kernels.json` says.

    >>> float(rounded_roofline_time_s(3.0, 4.0, exponent=2.0))
    5.0
    >>> float(rounded_roofline_time_s(3.0, 4.0, overhead_s=0.5))
    4.5
    """
    compute, memory = np.asarray(compute_s, dtype=float), np.asarray(memory_s, dtype=float)
    if np.isinf(exponent):
        longest = np.maximum(compute, memory)
        return np.asarray(overhead_s + (longest if chain_s is None else np.maximum(longest, chain_s)))
    if exponent == 2.0:  # the fitted value everywhere: a square root is ten times a power's speed
        squares = compute * compute + memory * memory
        if chain_s is not None:
            squares = squares + np.square(chain_s)
        return np.asarray(overhead_s + np.sqrt(squares))
    powers = compute**exponent + memory**exponent
    if chain_s is not None:
        powers = powers + np.asarray(chain_s, dtype=float) ** exponent
    return np.asarray(overhead_s + powers ** (1.0 / exponent))


def compute_time_s(flop: ArrayLike, peak_flop_per_s: ArrayLike, law: Roofline) -> Array:
    """Seconds of arithmetic alone: t = FLOP / (η_c · peak) [s].

    >>> float(compute_time_s(2e12, 1e15, Roofline(compute_efficiency=0.5)))
    0.004
    """
    return np.asarray(flop, dtype=float) / (law.compute_efficiency * np.asarray(peak_flop_per_s))


def memory_time_s(moved_bytes: ArrayLike, bandwidth_bytes_per_s: ArrayLike, law: Roofline) -> Array:
    """Seconds of memory traffic alone: t = bytes / (η_m · bandwidth) [s].

    >>> float(memory_time_s(4e9, 4e12, Roofline(memory_efficiency=0.8)))
    0.00125
    """
    return np.asarray(moved_bytes, dtype=float) / (law.memory_efficiency * np.asarray(bandwidth_bytes_per_s))
