"""Counts of measured attention kernels: the formulas of `pdplan.ops`, on columns of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.attention import attention_flop, cache_read_bytes, causal_pairs
from pdplan.laws.roofline import Array

ACTIVATION_BYTES = 2.0  # queries, fresh keys and values, outputs travel in BF16, as in ops.py
SCORE_BYTES = 4.0  # the indexer writes its scores in FP32 and top-k reads them


@dataclass(frozen=True, kw_only=True)
class Core:
    """An attention core, one number or one a row: what a query and a cached entry are made of."""

    heads: Array
    kv_elements: Array
    """Of one cached entry, all heads of the rank."""
    qk_dim: Array
    v_dim: Array
    kv_bytes: ArrayLike = 2.0
    """Of one of these elements."""
    reach: ArrayLike = np.inf
    """Entries that a query meets at most."""


def decode_counts(batch: Array, entries: Array, core: Core, group: Array) -> dict[str, Array]:
    """Counts of a decode core as `ops._decode_core` makes them; `group` query heads share a cached head."""
    width = core.qk_dim + core.v_dim
    return {
        "flop": attention_flop(batch * entries, core.heads, 1.0, 0.0) * width,
        "stored_bytes": cache_read_bytes(batch, entries, core.kv_elements, 1.0) * core.kv_bytes,
        "activation_bytes": batch * core.heads * width * ACTIVATION_BYTES,
        "rows": group,
    }


def prefill_counts(batch: Array, new: Array, past: Array, core: Core) -> dict[str, Array]:
    """Counts of a prefill core as `ops._prefill_core` makes them."""
    pairs = batch * causal_pairs(new, past, core.reach)
    width = core.qk_dim + core.v_dim
    return {
        "flop": attention_flop(pairs, core.heads, 1.0, 0.0) * width,
        "stored_bytes": batch * past * core.kv_elements * core.kv_bytes,
        "activation_bytes": batch * new * core.heads * 2 * width * ACTIVATION_BYTES,
        "rows": batch * new * core.heads,
        "groups": np.ones_like(batch),
        "scores": pairs * core.heads,
    }


def indexer_counts(batch: Array, new: Array, past: Array, heads: float, dim: float) -> dict[str, Array]:
    """Counts of scores and top-k: every entry is read, every score is written in FP32."""
    pairs = batch * causal_pairs(new, past)
    return {
        "flop": 2.0 * pairs * heads * dim,
        "stored_bytes": batch * (past + new) * dim,
        "activation_bytes": SCORE_BYTES * pairs,
    }
