"""Dense matrix products: FLOP and bytes of y[m, n] = x[m, k] · W[k, n]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def gemm_flop(m: ArrayLike, k: ArrayLike, n: ArrayLike) -> Array:
    """Useful arithmetic of one product: FLOP = 2 · m · k · n.

    2 FLOP, one multiply and one add, per weight and row; what half-filled tiles add is
    `kernel.tile_filling`. Arguments broadcast. m rows (tokens), k inputs, n outputs [1].

    >>> float(gemm_flop(1, 4096, 4096))
    33554432.0
    """
    return np.asarray(
        2.0 * np.asarray(m, dtype=float) * np.asarray(k, dtype=float) * np.asarray(n, dtype=float)
    )


def gemm_bytes(
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    weight_bytes_per_element: float,
    activation_bytes_per_element: float = 2.0,
    activation_traffic: float = 1.0,
) -> Array:
    """Bytes moved by one product: the weights once, inputs and outputs as far as they leave the chip.

    bytes = k·n·w + traffic·m·(k + n)·a; w, a bytes per element; arguments broadcast.
    Holds while a row block of the output stays on chip (every shape of a forward step).

    >>> float(gemm_bytes(1, 4096, 4096, 2.0, activation_traffic=0.0))
    33554432.0
    """
    inputs, outputs = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    weights = inputs * outputs * weight_bytes_per_element
    activations = np.asarray(m, dtype=float) * (inputs + outputs)
    return np.asarray(weights + activation_traffic * activation_bytes_per_element * activations)
