"""The model in numbers: parameters, what a token meets, cache and weight bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import BYTES_PER_ELEMENT
from pdplan.architecture.parameters import (
    kv_bytes_per_token,
    matrix_parameters_per_token,
    parameters_active,
    parameters_total,
    streamed_weight_bytes,
    vector_parameters,
    weight_bytes,
)
from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.case import Case
from pdplan.explain.sources import COUNTED


@dataclass(frozen=True, kw_only=True)
class ModelNumbers:
    """Lines that later sections put in."""

    matrices_per_token: Quantity
    head: Quantity
    streamed_bytes: Quantity
    kv_bytes_per_token: Quantity


@dataclass(frozen=True)
class _MatrixLine:
    """One kind of matrix: all of it, what a token does not meet, and its bytes per element."""

    all: Quantity
    idle: Quantity | None
    width: Quantity


def write_model(b: Builder, case: Case) -> ModelNumbers:
    """Section 1."""
    sources = case.sources[case.decoding]
    model, formats = case.world.model(case.plan.model), sources.setting.formats
    b.section(
        "model",
        "The model in numbers",
        "Everything is counted from the matrices of its layers, so FLOP and bytes agree with them.",
    )
    kinds = _matrices(b, case)
    idle = [k.idle for k in kinds if k.idle is not None]
    matrices = b.total(
        "P_m", "matrix parameters of all layers", [k.all for k in kinds], "parameters", prefix="P"
    )
    hidden, vocabulary = (
        sources.model(model.hidden_size, "elements"),
        sources.model(model.vocab_size, "tokens"),
    )
    vectors = Quantity(float(vector_parameters(model)), "parameters", COUNTED)
    tables = Quantity(
        1.0 if model.tie_embeddings else 2.0,
        "",
        "embedding and head are one table" if model.tie_embeddings else "embedding and head",
    )
    used = {"P_m": matrices, "P_v": vectors, "N_t": tables, "V": vocabulary, "H": hidden}
    expression = "P_m+P_v+N_t*V*H+H"
    if model.other_parameters:
        expression, used = (
            f"{expression}+P_o",
            used | {"P_o": sources.model(model.other_parameters, "parameters")},
        )
    total = b.line(
        "P",
        "parameters: matrices, vectors, tables, last norm",
        expression,
        used,
        "parameters",
        value=parameters_total(model),
    )
    met = matrices
    if idle:
        rest = b.total(
            "P_i", "matrix parameters of experts that a token does not visit", idle, "parameters", prefix="P"
        )
        met = b.line(
            "P_t",
            "matrix parameters of the layers that a token meets",
            "P_m-P_i",
            {"P_m": matrices, "P_i": rest},
            "parameters",
            value=matrix_parameters_per_token(model)[0],
        )
    _write_active(b, case, total, met, vectors)
    head = b.line(
        "P_h",
        "LM head, once per generated token",
        "H*V",
        {"H": hidden, "V": vocabulary},
        "parameters",
        value=matrix_parameters_per_token(model)[1],
    )
    cache = _write_cache(b, case)
    _write_weights(b, case, kinds, vectors)
    streamed = [(k.all if k.idle is None else _met(b, k), k.width) for k in kinds]
    used = {f"P_{i}": p for i, (p, _) in enumerate(streamed, 1)} | {
        f"w_{i}": w for i, (_, w) in enumerate(streamed, 1)
    }
    expression = "+".join(f"P_{i}*w_{i}" for i in range(1, len(streamed) + 1)) + "+P_h*w_h"
    used |= {
        "P_h": head,
        "w_h": Quantity(formats.weight_bytes("head"), "B", f"head stored as {formats.checkpoint.head}"),
    }
    read = b.line(
        "W_s",
        "weight bytes that a decode step of one sequence reads",
        expression,
        used,
        "B",
        value=streamed_weight_bytes(model, formats.checkpoint),
        note="no norms, no embedding table",
    )
    return ModelNumbers(matrices_per_token=met, head=head, streamed_bytes=read, kv_bytes_per_token=cache)


def _matrices(b: Builder, case: Case) -> list[_MatrixLine]:
    sources = case.sources[case.decoding]
    stack, formats = sources.setting.stack, sources.setting.formats
    found = []
    for block, count in (*stack.mixers, *stack.feed_forwards):
        experts = block.expert_matrices(stack.hidden_size) if isinstance(block, Experts) else ()
        for matrix in (*block.matrices(stack.hidden_size), *experts):
            used = {
                "L": sources.model(count, "layers"),
                "K": sources.model(matrix.rows, "elements"),
                "N": sources.model(matrix.columns, "elements"),
            }
            group, idle = f"{matrix.name} ({matrix.block})", None
            expression = "L*K*N"
            if isinstance(block, Experts) and matrix.part == "experts":
                both = {
                    "E": sources.model(block.experts, "experts"),
                    "k": sources.model(block.per_token, "experts"),
                }
                idle = b.line(
                    "P_i",
                    "in experts that a token does not visit",
                    "L*(E-k)*K*N",
                    used | both,
                    "parameters",
                    group=group,
                    detail=True,
                )
                expression, used = "L*E*K*N", used | {"E": both["E"]}
            everything = b.line("P", "parameters", expression, used, "parameters", group=group, detail=True)
            stored = formats.storage(matrix.part)
            found.append(
                _MatrixLine(
                    everything,
                    idle,
                    Quantity(BYTES_PER_ELEMENT[stored], "B", f"{matrix.block} stored as {stored}"),
                )
            )
    return found


def _met(b: Builder, kind: _MatrixLine) -> Quantity:
    assert kind.idle is not None
    return b.line(
        "P_t",
        "expert parameters that a token meets",
        "P-P_i",
        {"P": kind.all, "P_i": kind.idle},
        "parameters",
        detail=True,
    )


def _write_active(b: Builder, case: Case, total: Quantity, met: Quantity, vectors: Quantity) -> None:
    """Active parameters as the publisher counts them."""
    model, sources = case.world.model(case.plan.model), case.sources[case.decoding]
    counts = model.published.active_counts if model.published else "all"
    value = parameters_active(model, counts)
    if value == total.value:
        b.note("Every parameter is active for every token.")
        return
    tables = {
        "all": 1.0 if model.tie_embeddings else 2.0,
        "without_embedding": 1.0,
        "without_embedding_and_head": 0.0,
    }
    idle_vectors = sum(
        layer.count * (f.experts - f.per_token) * f.expert_vector_parameters(model.hidden_size)
        for layer in model.layers
        if isinstance(f := layer.feed_forward, Experts)
    )
    used = {
        "P_t": met,
        "P_v": Quantity(
            vectors.value - idle_vectors, "parameters", f"{COUNTED}, those of idle experts left out"
        ),
        "N_t": Quantity(tables[counts], "", f"tables that the publisher counts as active: {counts}"),
        "V": sources.model(model.vocab_size, "tokens"),
        "H": sources.model(model.hidden_size, "elements"),
    }
    b.line(
        "P_a",
        "active parameters, as the publisher counts",
        "P_t+P_v+N_t*V*H+H",
        used,
        "parameters",
        value=value,
    )


def _write_cache(b: Builder, case: Case) -> Quantity:
    sources = case.sources[case.decoding]
    stack, formats = sources.setting.stack, sources.setting.formats
    used: dict[str, Quantity] = {}
    parts: list[str] = []
    for mixer, count in stack.mixers:
        for core in mixer.cores():
            i = len(parts) + 1
            used[f"L_{i}"] = sources.model(count, "layers")
            used[f"e_{i}"] = sources.model(core.cached_elements, "elements")
            over = ""
            if core.compression != 1:
                over, used[f"c_{i}"] = f"/c_{i}", sources.model(core.compression, "tokens")
            parts.append(f"L_{i}*e_{i}{over}")
    if not parts:
        return b.given("kv_t", 0.0, "B/token", "no layer keeps a cache per token")
    width = Quantity(formats.kv_bytes, "B", f"KV cache kept as {formats.kv}")
    return b.line(
        "kv_t",
        "KV cache bytes per token (inside every window)",
        f"({'+'.join(parts)})*kv",
        used | {"kv": width},
        "B/token",
        value=kv_bytes_per_token(case.world.model(case.plan.model), formats.kv_bytes),
    )


def _write_weights(b: Builder, case: Case, kinds: list[_MatrixLine], vectors: Quantity) -> None:
    sources = case.sources[case.decoding]
    model, formats = case.world.model(case.plan.model), sources.setting.formats
    used = {f"P_{i}": k.all for i, k in enumerate(kinds, 1)} | {
        f"w_{i}": k.width for i, k in enumerate(kinds, 1)
    }
    expression = "+".join(f"P_{i}*w_{i}" for i in range(1, len(kinds) + 1)) + "+w_v*(P_v+H+P_o)+V*H*w_e"
    used |= {
        "w_v": Quantity(2.0, "B", "norms, biases and the vision tower stay in 16 bit"),
        "P_v": vectors,
        "H": sources.model(model.hidden_size, "elements"),
        "P_o": sources.model(model.other_parameters, "parameters"),
        "V": sources.model(model.vocab_size, "tokens"),
        "w_e": Quantity(
            formats.weight_bytes("embedding"), "B", f"embedding stored as {formats.checkpoint.embedding}"
        ),
    }
    if not model.tie_embeddings:
        expression += "+V*H*w_h"
        used["w_h"] = Quantity(formats.weight_bytes("head"), "B", f"head stored as {formats.checkpoint.head}")
    b.line(
        "W",
        "weight bytes of the checkpoint",
        expression,
        used,
        "B",
        value=weight_bytes(model, formats.checkpoint),
    )
