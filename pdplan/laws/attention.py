"""Attention: how many keys a query meets, and what that costs in FLOP and bytes.

One pair of functions serves every kind: full, sliding-window and sparse
attention differ only in how many cached entries a query reads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def mean_clipped_context(first: ArrayLike, last: ArrayLike, limit: float | None) -> Array:
    """Mean of min(context, limit) while context grows evenly from `first` to `last` [tokens].

    With a = first, b = last, w = limit:
      b ≤ w: (a + b)/2;   a ≥ w: w;   else: [(w² − a²)/2 + w·(b − w)] / (b − a).
    Decode time is linear in this quantity, so a whole answer needs one step, not OSL.

    >>> float(mean_clipped_context(0, 100, None))
    50.0
    >>> float(mean_clipped_context(0, 200, 100))
    75.0
    """
    a, b = np.broadcast_arrays(np.asarray(first, dtype=float), np.asarray(last, dtype=float))
    if limit is None:
        return np.asarray((a + b) / 2)
    w = float(limit)
    span = np.where(b > a, b - a, 1.0)
    with np.errstate(over="ignore"):  # beside the crossing: not taken
        crossing = ((w * w - a * a) / 2 + w * (b - w)) / span
    return np.asarray(np.where(b <= w, (a + b) / 2, np.where(a >= w, w, crossing)))


def causal_pairs(new: ArrayLike, past: ArrayLike, limit: ArrayLike | None = None) -> Array:
    """(query, key) pairs of `new` tokens after `past` ones under a causal mask.

    pairs = Σ_{i=1..new} min(past + i, limit); without a limit new·past + new·(new+1)/2.
    The limit is a sliding window or a sparse top-k. Arguments broadcast [tokens].
    Range: new ≥ 0, past ≥ 0, limit ≥ 1.

    >>> float(causal_pairs(4, 0))
    10.0
    >>> float(causal_pairs(4, 0, 2)), float(causal_pairs(3, 5, 2))
    (7.0, 6.0)
    """
    n, p = np.asarray(new, dtype=float), np.asarray(past, dtype=float)
    if limit is None:
        return np.asarray(n * p + n * (n + 1) / 2)
    w = np.minimum(limit, n + p)  # also makes an infinite limit the last context
    growing = np.clip(w - p, 0.0, n)  # queries that still see everything before them
    return np.asarray(growing * p + growing * (growing + 1) / 2 + (n - growing) * w)


def attention_flop(pairs: ArrayLike, heads: ArrayLike, qk_dim: float, v_dim: float) -> Array:
    """Arithmetic of scores and weighted values: FLOP = 2 · pairs · heads · (d_qk + d_v).

    Source: counting, 2 FLOP per multiply-add; FlashAttention recomputes nothing in the forward pass.

    >>> float(attention_flop(10, 2, 64, 64))
    5120.0
    """
    return np.asarray(
        2.0 * np.asarray(pairs, dtype=float) * np.asarray(heads, dtype=float) * (qk_dim + v_dim)
    )


def cache_read_bytes(
    sequences: ArrayLike, entries: ArrayLike, elements_per_entry: ArrayLike, bytes_per_element: float
) -> Array:
    """Bytes of cache a decode step reads: sequences · entries · elements · bytes.

    Each sequence reads its own entries once, whatever the number of queries per
    sequence (speculation verifies several in one pass) [bytes].

    >>> float(cache_read_bytes(2, 1000, 576, 2.0))
    2304000.0
    """
    read = np.asarray(sequences, dtype=float) * np.asarray(entries, dtype=float)
    return np.asarray(read * np.asarray(elements_per_entry, dtype=float) * bytes_per_element)
