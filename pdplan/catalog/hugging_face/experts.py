"""Readers of mixtures of experts on grouped queries: Qwen2, OLMoE, Granite, ERNIE, Hunyuan."""

from __future__ import annotations

from typing import Any

from pdplan.catalog.hugging_face.blocks import Pair, dense, experts, grouped_query
from pdplan.catalog.hugging_face.fields import Fields
from pdplan.catalog.hugging_face.shape import Shape, depth_of, stepped_layers


def qwen2_moe(fields: Fields) -> Shape:
    """Qwen1.5-MoE and Qwen2-57B-A14B: biases on q, k and v, a gated shared expert."""
    mixer = grouped_query(fields, bias=True, output_bias=False)
    shared = fields.optional("shared_expert_intermediate_size")
    routed = experts(fields, shared_intermediate_size=shared, shared_gate=shared is not None)
    return Shape(layers=[(mixer, routed if s else dense(fields)) for s in stepped_layers(fields)])


def olmoe(fields: Fields) -> Shape:
    mixer = grouped_query(fields, qk_norm_full=True)
    return Shape(layers=[(mixer, experts(fields))] * depth_of(fields))


def granitemoe(fields: Fields) -> Shape:
    """Granite 3 MoE, the shared variant (granitemoeshared) too."""
    shared = fields.count("shared_intermediate_size") or None
    routed = experts(fields, shared_intermediate_size=shared)
    return Shape(layers=[(grouped_query(fields), routed)] * depth_of(fields))


def ernie4_5_moe(fields: Fields) -> Shape:
    """ERNIE 4.5: experts from one layer on to another, every n-th, a bias per expert."""
    each = fields.integer("moe_intermediate_size")
    routed = experts(
        fields,
        shared_intermediate_size=each * fields.count("moe_num_shared_experts") or None,
        router_bias=fields.flag("moe_use_aux_free", default=True),
    )
    depth = depth_of(fields)
    first, step = fields.count("moe_layer_start_index"), fields.integer("moe_layer_interval", default=1)
    unsaid = fields.values.get("moe_layer_end_index") in (-1, None)
    last = depth - 1 if unsaid else fields.count("moe_layer_end_index")
    mixer = grouped_query(fields)
    pairs: list[Pair] = [
        (mixer, routed if first <= i <= last and (i + 1) % step == 0 else dense(fields)) for i in range(depth)
    ]
    return Shape(layers=pairs, tie_embeddings=True)


def hunyuan_v1_moe(fields: Fields) -> Shape:
    """Hunyuan A13B: numbers that are a list hold one a layer."""
    mixer = grouped_query(fields, qk_norm=fields.flag("use_qk_norm"))

    def of_a_layer(values: dict[str, Any]) -> Pair:
        own = Fields(dict(fields.values) | values, fields.where)
        own.findings = fields.findings
        each = own.integer("moe_intermediate_size", "intermediate_size")
        return mixer, experts(
            own,
            shared_intermediate_size=each * own.count("num_shared_expert") or None,
        )

    depth = depth_of(fields)
    listed = {
        key: fields.series(key, depth)
        for key in ("moe_topk", "moe_intermediate_size", "num_shared_expert")
        if isinstance(fields.values.get(key), list)
    }
    if not all(listed.values()):
        return Shape(layers=[])
    pairs = [of_a_layer({key: values[i] for key, values in listed.items()}) for i in range(depth)]
    return Shape(layers=pairs, tie_embeddings=True)
