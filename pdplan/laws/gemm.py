"""Dense matrix products: FLOP and bytes of y[m, n] = x[m, k] · W[k, n]."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def gemm_flop(m: ArrayLike, k: ArrayLike, n: ArrayLike, row_tile: float = 0.0) -> Array:
    """Arithmetic of one product: FLOP = 2 · max(m, tile) · k · n.

    2 FLOP, one multiply and one add, per weight and row. Tensor units work on
    tiles of rows, so fewer rows than a tile cost the whole tile.
    Arguments broadcast. m rows (tokens), k inputs, n outputs [1].

    >>> float(gemm_flop(1, 4096, 4096))
    33554432.0
    """
    return np.asarray(2.0 * np.maximum(m, row_tile) * k * n)


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
    weights = np.asarray(k, dtype=float) * n * weight_bytes_per_element
    activations = np.asarray(m, dtype=float) * (np.asarray(k, dtype=float) + n)
    return weights + activation_traffic * activation_bytes_per_element * activations
