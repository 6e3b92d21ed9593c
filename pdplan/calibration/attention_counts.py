"""Counts of measured attention kernels: the formulas of `pdplan.ops`, on columns of a table."""

from __future__ import annotations

import numpy as np

from pdplan.laws.attention import attention_flop, cache_read_bytes, causal_pairs
from pdplan.laws.roofline import Array

ACTIVATION_BYTES = 2.0  # queries, fresh keys and values, outputs travel in BF16, as in ops.py
SCORE_BYTES = 4.0  # the indexer writes its scores in FP32 and top-k reads them


def decode_counts(
    batch: Array,
    heads: Array,
    kv_elements: Array,
    entries: Array,
    qk_dim: Array,
    v_dim: Array,
    group: Array,
    kv_bytes: Array,
) -> dict[str, Array]:
    """Counts of a decode core as `ops._decode_core` makes them; `group` query heads share a cached head."""
    return {
        "flop": attention_flop(batch * entries, heads, 1.0, 0.0) * (qk_dim + v_dim),
        "stored_bytes": cache_read_bytes(batch, entries, kv_elements, 1.0) * kv_bytes,
        "activation_bytes": batch * heads * (qk_dim + v_dim) * ACTIVATION_BYTES,
        "rows": group,
    }


def prefill_counts(
    batch: Array,
    new: Array,
    past: Array,
    heads: Array,
    kv_elements: Array,
    qk_dim: Array,
    v_dim: Array,
    reach: Array,
    kv_bytes: Array,
) -> dict[str, Array]:
    """Counts of a prefill core as `ops._prefill_core` makes them."""
    pairs = batch * causal_pairs(new, past, reach)
    return {
        "flop": attention_flop(pairs, heads, 1.0, 0.0) * (qk_dim + v_dim),
        "stored_bytes": batch * past * kv_elements * kv_bytes,
        "activation_bytes": batch * new * heads * 2 * (qk_dim + v_dim) * ACTIVATION_BYTES,
        "rows": batch * new * heads,
        "groups": np.ones_like(batch),
        "scores": pairs * heads,
    }


def indexer_counts(batch: Array, new: Array, past: Array, heads: float, dim: float) -> dict[str, Array]:
    """Counts of scores and top-k: every entry is read, every score is written in FP32."""
    pairs = batch * causal_pairs(new, past)
    return {
        "flop": 2.0 * pairs * heads * dim,
        "stored_bytes": batch * (past + new) * dim,
        "activation_bytes": SCORE_BYTES * pairs,
    }
