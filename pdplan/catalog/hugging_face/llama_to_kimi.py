"""Readers of Llama, Mistral, Qwen, gpt-oss, DeepSeek and Kimi configs."""

from __future__ import annotations

from pdplan.catalog.hugging_face.blocks import (
    Block,
    Pair,
    block,
    dense,
    draft,
    experts,
    grouped_query,
    indexer,
    latent,
    shared_width,
)
from pdplan.catalog.hugging_face.fields import Fields
from pdplan.catalog.hugging_face.shape import (
    Shape,
    depth_of,
    layer_kinds,
    sparse_layers,
    stepped_layers,
    window_of,
    windowed_layers,
)


def plain(fields: Fields) -> Shape:
    """Llama, Mistral, and any decoder with the standard keys."""
    window, feed_forward = window_of(fields), dense(fields, bias=fields.flag("mlp_bias"))
    wide, narrow = grouped_query(fields), grouped_query(fields, window=window)
    return Shape(
        layers=[(narrow if short else wide, feed_forward) for short in windowed_layers(fields, window)]
    )


def qwen2(fields: Fields) -> Shape:
    """Qwen2/2.5 and MiMo-7B: biases on q, k and v whatever the config says."""
    mixer = grouped_query(fields, bias=True, output_bias=False, window=_qwen_window(fields))
    pair = (mixer, dense(fields))
    modules = fields.count("num_nextn_predict_layers")
    return Shape(
        layers=[pair] * depth_of(fields),
        draft=draft([pair], modules, "config.json: num_nextn_predict_layers"),
    )


def _qwen_window(fields: Fields) -> int | None:
    return fields.optional("sliding_window") if fields.flag("use_sliding_window") else None


def qwen3(fields: Fields) -> Shape:
    mixer = grouped_query(fields, qk_norm=True, window=_qwen_window(fields))
    return Shape(layers=[(mixer, dense(fields))] * depth_of(fields))


def qwen3_moe(fields: Fields) -> Shape:
    mixer = grouped_query(fields, qk_norm=True, window=_qwen_window(fields))
    routed = experts(fields)
    return Shape(layers=[(mixer, routed if s else dense(fields)) for s in stepped_layers(fields)])


def mixtral(fields: Fields) -> Shape:
    mixer = grouped_query(fields, window=window_of(fields))
    return Shape(layers=[(mixer, experts(fields))] * depth_of(fields))


def qwen3_5(fields: Fields) -> Shape:
    """Qwen3-Next, 3.5 and 3.6: three gated DeltaNet layers to one gated attention layer."""
    full = grouped_query(fields, qk_norm=True, output_gate=fields.flag("attn_output_gate", default=True))
    linear = block(
        "gated_linear",
        key_heads=fields.integer("linear_num_key_heads"),
        value_heads=fields.integer("linear_num_value_heads"),
        key_head_dim=fields.integer("linear_key_head_dim"),
        value_head_dim=fields.integer("linear_value_head_dim"),
        conv_kernel=fields.integer("linear_conv_kernel_dim"),
        state_bytes_per_element=4.0 if fields.text("mamba_ssm_dtype", "float32") == "float32" else 2.0,
    )
    if "num_experts" in fields:
        shared = fields.optional("shared_expert_intermediate_size")
        feed_forward = experts(fields, shared_intermediate_size=shared, shared_gate=shared is not None)
    else:
        feed_forward = dense(fields)
    kinds = layer_kinds(
        fields, {"full_attention": full, "linear_attention": linear}, "full_attention_interval"
    )
    modules = fields.count("mtp_num_hidden_layers")
    return Shape(
        layers=[(mixer, feed_forward) for mixer in kinds],
        draft=draft([(full, feed_forward)], modules, "config.json: mtp_num_hidden_layers"),
    )


def gpt_oss(fields: Fields) -> Shape:
    def attention(window: int | None) -> Block:
        return grouped_query(fields, bias=True, output_bias=True, sinks=True, window=window)

    kinds = {
        "full_attention": attention(None),
        "sliding_attention": attention(fields.integer("sliding_window")),
    }
    routed = experts(fields, bias=True, router_bias=True)
    return Shape(layers=[(mixer, routed) for mixer in layer_kinds(fields, kinds)])


def llama4(fields: Fields) -> Shape:
    """Llama 4: three layers of chunked attention to one global, MoE every n-th layer."""
    near = grouped_query(fields, window=fields.integer("attention_chunk_size"))
    far = grouped_query(fields)
    width = fields.integer("intermediate_size")
    routed = experts(fields, intermediate_size=width, shared_intermediate_size=width)
    plain_mlp = dense(fields, "intermediate_size_mlp")
    step = fields.integer("interleave_moe_layer_step")
    pairs: list[Pair] = []
    for index in range(depth_of(fields)):
        mixer = far if (index + 1) % 4 == 0 else near
        pairs.append((mixer, routed if (index + 1) % step == 0 else plain_mlp))
    note = "attention in chunks of 8192 is counted as a window: a query then sees up to twice as many keys"
    return Shape(layers=pairs, notes=[note])


def deepseek(fields: Fields) -> Shape:
    """DeepSeek V2, V3 and R1, Kimi K2, GLM-5: MLA, dense layers first, then experts.

    With index_topk (DeepSeek V3.2, GLM-5) the attention is sparse; indexer_types
    says which layers reuse the choice of an earlier one (GLM-5.2).
    """
    depth = depth_of(fields)
    sparse = "index_topk" in fields
    types = fields.series("indexer_types", depth) if "indexer_types" in fields else ["full"] * depth
    mixers = [
        latent(fields, indexer=indexer(fields, shared=t == "shared") if sparse else None) for t in types
    ]
    routed = experts(
        fields,
        shared_intermediate_size=shared_width(fields),
        router_bias=fields.text("topk_method") == "noaux_tc",
    )
    layers = [
        (mixer, routed if s else dense(fields))
        for mixer, s in zip(mixers, sparse_layers(fields), strict=False)
    ]
    own = latent(fields, indexer=indexer(fields) if sparse else None)
    modules = fields.count("num_nextn_predict_layers")
    return Shape(
        layers=layers, draft=draft([(own, routed)], modules, "config.json: num_nextn_predict_layers")
    )


def deepseek_v4(fields: Fields) -> Shape:
    """DeepSeek V4: compressed sparse (4), heavily compressed (128) or window-only (0) attention."""
    depth = depth_of(fields)
    modules = fields.count("num_nextn_predict_layers")
    ratios = fields.series("compress_ratios", depth + modules)

    def mixer(ratio: int) -> Block:
        return block(
            "csa",
            heads=fields.integer("num_attention_heads"),
            head_dim=fields.integer("head_dim"),
            q_lora_rank=fields.integer("q_lora_rank"),
            o_groups=fields.integer("o_groups"),
            o_lora_rank=fields.integer("o_lora_rank"),
            window=fields.integer("sliding_window"),
            compress_ratio=ratio or None,
            indexer=indexer(fields) if ratio == 4 else None,
        )

    routed = experts(
        fields,
        shared_intermediate_size=shared_width(fields),
        router_bias=fields.text("topk_method") == "noaux_tc",
    )
    pairs = [(mixer(ratio), routed) for ratio in ratios]
    found = draft(pairs[depth : depth + 1], modules, "config.json: num_nextn_predict_layers, compress_ratios")
    notes = ["hyper-connections (hc_mult) add under 0.1 % of parameters and are not counted"]
    return Shape(layers=pairs[:depth], draft=found, notes=notes)


def kimi_linear(fields: Fields) -> Shape:
    """Kimi Linear and K3: Kimi delta attention with MLA in between; experts in a latent space."""
    linear = fields.section("linear_attn_config")
    heads, width = linear.integer("num_heads"), linear.integer("head_dim")
    delta = block(
        "gated_linear",
        key_heads=heads,
        value_heads=heads,
        key_head_dim=width,
        value_head_dim=width,
        conv_kernel=linear.integer("short_conv_kernel_size"),
        channel_decay=True,
        gate_rank=None if linear.flag("use_full_rank_gate") else width,
    )
    full = latent(fields, output_gate=fields.flag("mla_use_output_gate"))
    routed = experts(
        fields,
        shared_intermediate_size=shared_width(fields),
        latent_size=fields.optional("routed_expert_hidden_size"),
        router_bias=True,
    )
    attended = set(linear.series("full_attn_layers"))  # counted from 1
    pairs = [
        (full if index + 1 in attended else delta, routed if sparse else dense(fields))
        for index, sparse in enumerate(sparse_layers(fields))
    ]
    return Shape(layers=pairs)
