"""Blocks shared by the families of `families`: plain dicts in the schema of pdplan.architecture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pdplan.catalog.hugging_face.fields import Fields

Block = dict[str, Any]
Pair = tuple[Block | None, Block | None]
"""Mixer and feed-forward block of one layer."""


def block(kind: str, **values: Any) -> Block:
    """A block without its defaults: None and False are left out."""
    return {"kind": kind} | {
        key: value for key, value in values.items() if value is not None and value is not False
    }


def run_lengths(pairs: Iterable[Pair]) -> list[Block]:
    """Equal neighbours become one group with a count.

    >>> run_lengths([({"kind": "gqa"}, None), ({"kind": "gqa"}, None)])
    [{'count': 2, 'attention': {'kind': 'gqa'}}]
    """
    groups: list[Block] = []
    for mixer, feed_forward in pairs:
        found = {"attention": mixer, "feed_forward": feed_forward}
        layer = {key: value for key, value in found.items() if value is not None}
        if groups and {k: v for k, v in groups[-1].items() if k != "count"} == layer:
            groups[-1]["count"] += 1
        else:
            groups.append({"count": 1} | layer)
    return groups


def head_dim(fields: Fields) -> int:
    """What config.json says; hidden / heads only where it says nothing (Llama 3, Mixtral)."""
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    return fields.integer("head_dim", "attention_head_dim", default=max(1, hidden // heads))


def grouped_query(fields: Fields, **more: Any) -> Block:
    heads = fields.integer("num_attention_heads")
    values = {
        "heads": heads,
        "kv_heads": fields.integer("num_key_value_heads", default=heads),
        "head_dim": head_dim(fields),
        "bias": fields.flag("attention_bias"),
        "output_bias": fields.flag("attention_bias"),
    }
    chosen = values | more
    if chosen["heads"] % chosen["kv_heads"]:
        fields.fault(f"{chosen['heads']} query heads cannot share {chosen['kv_heads']} KV heads evenly")
    return block("gqa", **chosen)


def latent(fields: Fields, **more: Any) -> Block:
    values = {
        "heads": fields.integer("num_attention_heads"),
        "q_lora_rank": fields.optional("q_lora_rank"),
        "kv_lora_rank": fields.integer("kv_lora_rank"),
        "qk_nope_head_dim": fields.integer("qk_nope_head_dim"),
        "qk_rope_head_dim": fields.integer("qk_rope_head_dim"),
        "v_head_dim": fields.integer("v_head_dim"),
    }
    return block("mla", **(values | more))


def indexer(fields: Fields, shared: bool = False) -> Block:
    values: Block = {
        "heads": fields.integer("index_n_heads"),
        "head_dim": fields.integer("index_head_dim"),
        "top_k": fields.integer("index_topk"),
    }
    return values | ({"shared": True} if shared else {})


def dense(fields: Fields, *keys: str, **more: Any) -> Block:
    return block("dense", intermediate_size=fields.integer(*(keys or ("intermediate_size",))), **more)


_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_k", "moe_topk")


def experts(fields: Fields, **more: Any) -> Block:
    """Routed experts under any of the names that families give the same three numbers."""
    values = {
        "experts": fields.integer("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts"),
        "per_token": fields.integer(*_PER_TOKEN),
        "routed_groups": fields.optional("topk_group") if fields.integer("n_group", default=1) > 1 else None,
        "intermediate_size": fields.integer("moe_intermediate_size", "intermediate_size"),
    }
    chosen = values | more
    if chosen["per_token"] > chosen["experts"]:
        fields.fault(f"{chosen['per_token']} experts per token, but {chosen['experts']} experts in all")
    return block("experts", **chosen)


def shared_width(fields: Fields) -> int | None:
    """Width of all shared experts together, None without."""
    number = fields.count("n_shared_experts", "num_shared_experts")
    return number * fields.integer("moe_intermediate_size") if number else None


def draft(pairs: Sequence[Pair], modules: int, source: str) -> Block | None:
    if not modules:
        return None
    found: Block = {"modules": modules} if modules > 1 else {}
    return found | {"layers": run_lengths([*pairs] * modules), "source": source}
