"""Dense products, what stands between them, and the collectives of tensor parallelism."""

from __future__ import annotations

import numpy as np

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stack import Stack
from pdplan.formats import Formats
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops.kinds import ACTIVATION_BYTES, SUM_BYTES, Message, Op


def shards(matrix: Matrix, layout: Layout) -> Array:
    """Ranks of a tp group that share `matrix`; the others hold copies."""
    if matrix.split == "none":
        return np.ones_like(layout.tp)
    return layout.tp if matrix.max_shards is None else np.minimum(layout.tp, matrix.max_shards)


def gemm(matrix: Matrix, layers: float, formats: Formats, layout: Layout, rows: Array) -> Op:
    sharing = shards(matrix, layout)
    k = matrix.rows / sharing if matrix.split == "rows" else float(matrix.rows)
    n = matrix.columns / sharing if matrix.split == "columns" else float(matrix.columns)
    return Op(
        name=f"{matrix.name} projection" if matrix.part == "attention" else f"{matrix.name} ({matrix.part})",
        family="gemm",
        dtype=formats.arithmetic(matrix.part),
        layers=layers,
        flop=2.0 * rows * k * n,
        stored_bytes=np.asarray(k * n * formats.weight_bytes(matrix.part)),
        activation_bytes=rows * (k + n) * ACTIVATION_BYTES,
        rows=rows,
        depth=k,
        input_bytes=rows * k * ACTIVATION_BYTES,
        inputs={
            "m": rows,
            "K": matrix.rows,
            "N": matrix.columns,
            "s": sharing,
            "w": formats.weight_bytes(matrix.part),
            "a": ACTIVATION_BYTES,
        },
        counted={
            "flop": "2*m*K*N/s",
            "stored_bytes": "K*N/s*w",
            "activation_bytes": {"columns": "m*(K+N/s)*a", "rows": "m*(K/s+N)*a", "none": "m*(K+N)*a"}[
                matrix.split
            ],
            "depth": "K/s" if matrix.split == "rows" else "K",
            "input_bytes": "m*K/s*a" if matrix.split == "rows" else "m*K*a",
        },
    )


def all_reduce(
    name: str, layers: float, tokens: Array, hidden: int, layout: Layout, mask: Array | None = None
) -> Message:
    return Message(
        name=name,
        exchange="all_reduce",
        layers=layers,
        message_bytes=tokens * hidden * ACTIVATION_BYTES,
        ranks=layout.tp,
        mask=mask,
        inputs={"m": tokens, "H": hidden, "a": ACTIVATION_BYTES},
        counted="m*H*a",
    )


def norm_all_reduce(layers: float, tokens: Array, layout: Layout) -> Message:
    """A norm over all heads of q and of k needs the sums of squares of the other ranks' heads."""
    return Message(
        name="QK-norm all-reduce",
        exchange="all_reduce",
        layers=layers,
        message_bytes=tokens * 2.0 * SUM_BYTES,
        ranks=layout.tp,
        inputs={"m": tokens, "w": SUM_BYTES},
        counted="m*2*w",
    )


def elementwise(stack: Stack, layout: Layout, tokens: Array) -> Op:
    """Norms, residuals, rotary and activation functions: passes over the activations.

    Per layer: two fused residual norms (2 reads and 2 writes of the hidden state
    each), and the activation function (2 reads, 1 write of its width).
    """
    widths = sum(
        count * block.intermediate_size * (block.per_token if isinstance(block, Experts) else 1)
        for block, count in stack.feed_forwards
    )
    passes = 8.0 * stack.hidden_size + 3.0 * widths / stack.layers / layout.tp
    return Op(
        name="norms, residuals, activations",
        family="elementwise",
        dtype="bf16",
        layers=stack.layers,
        flop=np.zeros(()),
        stored_bytes=np.zeros(()),
        activation_bytes=tokens * passes * ACTIVATION_BYTES,
        inputs={
            "m": tokens,
            "H": stack.hidden_size,
            "V": widths,
            "L": stack.layers,
            "tp": layout.tp,
            "a": ACTIVATION_BYTES,
        },
        counted={"activation_bytes": "m*(8*H+3*V/L/tp)*a"},
    )


def head_ops(stack: Stack, formats: Formats, layout: Layout, load: Load) -> list[Op]:
    head = Matrix(
        name="LM head", rows=stack.hidden_size, columns=stack.vocab_size, part="head", split="columns"
    )
    return [gemm(head, 1, formats, layout, load.outputs)]


def logits_message(stack: Stack, layout: Layout, load: Load) -> Message:
    return Message(
        name="logits all-gather",
        exchange="all_gather",
        layers=1,
        message_bytes=load.outputs * stack.vocab_size * ACTIVATION_BYTES,
        ranks=layout.tp,
        inputs={"o": load.outputs, "V": stack.vocab_size, "a": ACTIVATION_BYTES},
        counted="o*V*a",
    )


def hops_message(stack: Stack, layout: Layout, load: Load) -> Message:
    """The hidden state on its way through all stages of a pipeline."""
    return Message(
        name="pipeline hops",
        exchange="stage_hop",
        layers=1,
        message_bytes=load.tokens * stack.hidden_size * ACTIVATION_BYTES / layout.tp,
        ranks=layout.pp,
        spread=layout.tp * layout.dp,
        inputs={"m": load.tokens, "H": stack.hidden_size, "a": ACTIVATION_BYTES, "tp": layout.tp},
        counted="m*H*a/tp",
    )
