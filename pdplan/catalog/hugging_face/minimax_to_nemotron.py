"""Readers of MiniMax, GLM-4, MiMo, Step, Gemma and Nemotron configs."""

from __future__ import annotations

from collections.abc import Callable

from pdplan.catalog.hugging_face.blocks import (
    Block,
    Pair,
    block,
    dense,
    draft,
    experts,
    grouped_query,
    head_dim,
    shared_width,
)
from pdplan.catalog.hugging_face.fields import Fields
from pdplan.catalog.hugging_face.shape import Shape, depth_of, layer_kinds, sparse_layers


def minimax_m2(fields: Fields) -> Shape:
    full = fields.text("qk_norm_type") == "per_layer"
    normed = fields.flag("use_qk_norm")
    mixer = grouped_query(fields, qk_norm=normed and not full, qk_norm_full=normed and full)
    routed = experts(
        fields,
        shared_intermediate_size=fields.count("shared_intermediate_size") or None,
        router_bias=fields.flag("use_routing_bias"),
    )
    modules = fields.count("num_mtp_modules") if fields.flag("use_mtp") else 0
    found = draft([(mixer, routed)], modules, "config.json: use_mtp, num_mtp_modules")
    return Shape(layers=[(mixer, routed)] * depth_of(fields), draft=found)


def minimax_m3(fields: Fields) -> Shape:
    """MiniMax M3: block-sparse attention and experts after the first dense layers."""
    depth = depth_of(fields)
    sparse = fields.section("sparse_attention_config")
    blocks = {
        "index_heads": sparse.integer("sparse_num_index_heads"),
        "index_dim": sparse.integer("sparse_index_dim"),
        "block_size": sparse.integer("sparse_block_size"),
        "top_k_blocks": sparse.integer("sparse_topk_blocks"),
    }
    routed = experts(
        fields,
        shared_intermediate_size=fields.count("shared_intermediate_size") or None,
        router_bias=fields.flag("use_routing_bias"),
    )
    plain_mlp = dense(fields, "dense_intermediate_size")
    chosen = sparse.series("sparse_attention_freq", depth)
    pairs = [
        (grouped_query(fields, qk_norm=True, sparse=blocks if b else None), routed if s else plain_mlp)
        for b, s in zip(chosen, sparse_layers(fields), strict=False)
    ]
    found = draft(
        pairs[-1:], fields.count("num_nextn_predict_layers"), "config.json: num_nextn_predict_layers"
    )
    return Shape(layers=pairs, draft=found)


def glm4_moe(fields: Fields) -> Shape:
    """GLM-4.5 to 4.7: grouped queries, biases on q, k and v, a shared expert."""
    mixer = grouped_query(fields, output_bias=False, qk_norm=fields.flag("use_qk_norm"))
    routed = experts(fields, shared_intermediate_size=shared_width(fields), router_bias=True)
    pairs = [(mixer, routed if s else dense(fields)) for s in sparse_layers(fields)]
    found = draft(
        [(mixer, routed)], fields.count("num_nextn_predict_layers"), "config.json: num_nextn_predict_layers"
    )
    return Shape(layers=pairs, draft=found)


def mimo_v2(fields: Fields) -> Shape:
    """MiMo V2: windowed layers with their own head counts between global ones."""
    depth = depth_of(fields)
    far = grouped_query(
        fields, v_head_dim=fields.optional("v_head_dim"), sinks=fields.flag("add_full_attention_sink_bias")
    )
    near = block(
        "gqa",
        heads=fields.integer("swa_num_attention_heads"),
        kv_heads=fields.integer("swa_num_key_value_heads"),
        head_dim=fields.integer("swa_head_dim"),
        v_head_dim=fields.optional("swa_v_head_dim"),
        window=fields.integer("sliding_window_size", "sliding_window"),
        bias=fields.flag("attention_bias"),
        sinks=fields.flag("add_swa_attention_sink_bias"),
    )
    routed = experts(
        fields,
        shared_intermediate_size=shared_width(fields),
        router_bias=fields.text("topk_method") == "noaux_tc",
    )
    windowed = fields.series("hybrid_layer_pattern", depth)
    pairs = [
        (near if w else far, routed if s else dense(fields))
        for w, s in zip(windowed, sparse_layers(fields), strict=False)
    ]
    return Shape(layers=pairs)


def step3(fields: Fields) -> Shape:
    """Step 3.5 and 3.7: windowed layers, possibly with more heads (attention_other_setting)."""
    gate = fields.flag("use_head_wise_attn_gate")
    groups = fields.optional("num_attention_groups", "num_key_value_heads")
    far = grouped_query(fields, kv_heads=groups, qk_norm=True, head_gate=gate)
    near = far | {"window": fields.integer("sliding_window")}
    if "attention_other_setting" in fields:
        other = fields.section("attention_other_setting")
        near |= {
            "heads": other.integer("num_attention_heads"),
            "kv_heads": other.integer("num_attention_groups", default=near["kv_heads"]),
        }
    routed = experts(
        fields,
        experts=fields.integer("num_experts", "moe_num_experts"),
        per_token=fields.integer("num_experts_per_tok", "moe_top_k"),
        shared_intermediate_size=fields.integer("share_expert_dim", "share_expert_dims"),
        router_bias=fields.flag("use_moe_router_bias"),
    )
    mixers = layer_kinds(fields, {"full_attention": far, "sliding_attention": near})
    pairs = [(m, routed if s else dense(fields)) for m, s in zip(mixers, sparse_layers(fields), strict=False)]
    found = draft(
        [(near, dense(fields))],
        fields.count("num_nextn_predict_layers"),
        "config.json: num_nextn_predict_layers",
    )
    return Shape(layers=pairs, draft=found)


def gemma4(fields: Fields) -> Shape:
    """Gemma 4: five windowed layers to one global with wider heads whose values are its keys.

    The mixture's variant has a dense MLP beside the experts, counted as shared expert.
    """
    near = grouped_query(fields, qk_norm=True, window=fields.integer("sliding_window"))
    far = grouped_query(
        fields,
        kv_heads=fields.integer("num_global_key_value_heads", "num_key_value_heads"),
        head_dim=fields.integer("global_head_dim", "head_dim"),
        key_is_value=fields.flag("attention_k_eq_v"),
        qk_norm=True,
    )
    mixture = fields.flag("enable_moe_block")
    if mixture:
        feed_forward = experts(fields, shared_intermediate_size=fields.integer("intermediate_size"))
    else:
        feed_forward = dense(fields)
    mixers = layer_kinds(fields, {"full_attention": far, "sliding_attention": near})
    pairs: list[Pair] = [(mixer, feed_forward) for mixer in mixers]
    return Shape(layers=pairs, norms_per_layer=7 if mixture else 4, tie_embeddings=True)


_NEMOTRON_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}


def nemotron_h(fields: Fields) -> Shape:
    """Nemotron-H and Nemotron 3: each layer is one block: Mamba-2, attention, MLP or experts."""
    blocks: dict[str, Callable[[Fields], Pair]] = {
        "mamba": lambda f: (_mamba(f), None),
        "attention": lambda f: (grouped_query(f), None),
        "mlp": lambda f: (None, dense(f, matrices_per_mlp=2)),
        "moe": lambda f: (None, _nemotron_experts(f)),
    }
    if "hybrid_override_pattern" in fields:
        kinds = [_NEMOTRON_LETTERS.get(c, c) for c in fields.text("hybrid_override_pattern")]
    else:
        kinds = fields.series("layers_block_type")
    drafted = fields.values.get("mtp_layers_block_type") or [
        _NEMOTRON_LETTERS.get(c, c) for c in fields.text("mtp_hybrid_override_pattern")
    ]
    for strange in sorted({str(kind) for kind in [*kinds, *drafted] if kind not in blocks}):
        fields.fault(f"layer pattern has {strange!r}; known are M (mamba), * (attention), E (moe), - (mlp)")
    if fields.findings:
        return Shape(layers=[])
    modules = fields.count("num_nextn_predict_layers")
    found = draft(
        [blocks[kind](fields) for kind in drafted], modules, "config.json: num_nextn_predict_layers"
    )
    return Shape(layers=[blocks[kind](fields) for kind in kinds], draft=found, norms_per_layer=1)


def _mamba(fields: Fields) -> Block:
    return block(
        "mamba2",
        heads=fields.integer("mamba_num_heads"),
        head_dim=fields.integer("mamba_head_dim"),
        state_size=fields.integer("ssm_state_size"),
        groups=fields.integer("n_groups"),
        conv_kernel=fields.integer("conv_kernel"),
        chunk_size=fields.integer("chunk_size"),
        state_bytes_per_element=4.0 if fields.text("mamba_ssm_cache_dtype", "float32") == "float32" else 2.0,
    )


def _nemotron_experts(fields: Fields) -> Block:
    number = fields.count("n_shared_experts")
    return experts(
        fields,
        matrices_per_mlp=2,
        shared_intermediate_size=number * fields.integer("moe_shared_expert_intermediate_size")
        if number
        else None,
        latent_size=fields.optional("moe_latent_size"),
        router_bias=True,
    )


def nemotron_nas(fields: Fields) -> Shape:
    """Llama-Nemotron Super/Ultra: a searched width per layer, attention left out of some."""
    pairs: list[Pair] = []
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    for spec in fields.series("block_configs", depth_of(fields)):
        attention, feed_forward = spec.get("attention") or {}, spec.get("ffn") or {}
        group = attention.get("n_heads_in_group")
        mixer = None
        if not attention.get("no_op") and group:
            mixer = block("gqa", heads=heads, kv_heads=max(1, heads // group), head_dim=head_dim(fields))
        mlp = None
        if not feed_forward.get("no_op") and feed_forward.get("ffn_mult"):
            mlp = block("dense", intermediate_size=_rounded_width(feed_forward["ffn_mult"], hidden))
        pairs.append((mixer, mlp))
    return Shape(layers=pairs)


def _rounded_width(multiplier: float, hidden: int) -> int:
    """DeciLM's rule: two thirds of 2·multiplier·hidden, up to a multiple of 256.

    >>> _rounded_width(5.25, 8192)
    28672
    """
    wide = int(2 * multiplier * hidden / 3)
    return wide if wide % 256 == 0 else wide + 256 - wide % 256
