"""Dense products, what stands between them, and the collectives of tensor parallelism."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stack import Stack
from pdplan.formats import Formats
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops.kinds import ACTIVATION_BYTES, SUM_BYTES, Product, Sending, Work

KERNELS = 4.0
"""Between the products of a layer: those whose starts the law of `elementwise` holds."""
NORMS = 2.0
"""Of them, those that add to the residual and normalise: each follows an all-reduce of its layer."""


def step_rows(load: Load) -> Work:
    """Rows of most products: the step's tokens."""
    return Work(rows=load.rows, inputs={"m": load.rows})


def output_rows(load: Load) -> Work:
    """Rows of the LM head."""
    return Work(rows=load.outputs, inputs={"m": load.outputs})


def product_counts(k: Array | float, n: Array | float, weight_bytes: float) -> Counts:
    """What one row takes of a product with a matrix of k · n, and what the matrix does."""
    return Counts(
        flop=2.0 * k * n,
        stored_bytes=k * n * weight_bytes,
        activation_bytes=(k + n) * ACTIVATION_BYTES,
        rows=1.0,
        depth=k,
        input_bytes=k * ACTIVATION_BYTES,
    )


def shards(matrix: Matrix, layout: Layout) -> Array:
    """Ranks of a tp group that share `matrix`; the others hold copies."""
    if matrix.split == "none":
        return np.ones_like(layout.tp)
    return layout.tp if matrix.max_shards is None else np.minimum(layout.tp, matrix.max_shards)


def products(matrices: Iterable[Matrix]) -> list[tuple[Matrix, ...]]:
    """Matrices by the products that engines run: those joined in one side by side, in their order.

    vLLM, SGLang and TensorRT-LLM all run q, k and v as one product, and the down-projections of MLA.

    >>> from dataclasses import replace
    >>> q = Matrix(name="q", rows=8, columns=8, part="attention", joined="qkv")
    >>> [[m.name for m in p] for p in products([q, replace(q, name="kv"), replace(q, name="o", joined="")])]
    [['q', 'kv'], ['o']]
    """
    found: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        found.setdefault(matrix.joined or f"{matrix.name} ({matrix.block})", []).append(matrix)
    return [tuple(together) for together in found.values()]


def joint_gemm(together: Sequence[Matrix], layers: float, formats: Formats, layout: Layout) -> Product:
    """One product of an input with several matrices side by side: N = N_1/s_1 + N_2/s_2 + … on a rank.

    Each has its own share: a rank of 16 has a sixteenth of the query heads and one of 8 KV heads whole.
    """
    first, *others = together
    if not others:
        return gemm(first, layers, formats, layout)
    if any((m.rows, m.part, m.split == "rows") != (first.rows, first.part, False) for m in together):
        raise ValueError(f"{first.joined}: joined matrices need one input, one format and whole rows")
    inputs: dict[str, Any] = {}
    k, n, sizes = float(first.rows), np.zeros(()), []
    for number, matrix in enumerate(together):
        width, sharing = (f"N_{number}", f"s_{number}") if number else ("N", "s")
        inputs |= {width: matrix.columns, sharing: shards(matrix, layout)}
        n = n + matrix.columns / inputs[sharing]
        sizes.append(f"{width}/{sharing}")
    columns = "+".join(sizes)
    return Product(
        name=f"{first.joined} projection",
        family="gemm",
        dtype=formats.arithmetic(first.part),
        layers=layers,
        work=step_rows,
        each=product_counts(k, n, formats.weight_bytes(first.part)),
        inputs={"K": first.rows, **inputs} | {"w": formats.weight_bytes(first.part), "a": ACTIVATION_BYTES},
        counted={
            "flop": f"2*m*K*({columns})",
            "stored_bytes": f"K*({columns})*w",
            "activation_bytes": f"m*(K+{columns})*a",
            "depth": "K",
            "input_bytes": "m*K*a",
        },
    )


def gemm(
    matrix: Matrix,
    layers: float,
    formats: Formats,
    layout: Layout,
    work: Callable[[Load], Work] = step_rows,
) -> Product:
    """One product y[m, n] = x[m, k] · W[k, n] of a rank, FLOP = 2 · m · k · n.

    bytes = k·n·w + traffic·m·(k + n)·a: weights once, inputs and outputs as far as they leave the chip
    (`traffic` is the law's); w, a bytes per element. k or n is the rank's share, m the rows of `work`.
    """
    sharing = shards(matrix, layout)
    k = matrix.rows / sharing if matrix.split == "rows" else float(matrix.rows)
    n = matrix.columns / sharing if matrix.split == "columns" else float(matrix.columns)
    return Product(
        name=f"{matrix.name} projection" if matrix.block == "attention" else f"{matrix.name} ({matrix.part})",
        family="gemm",
        dtype=formats.arithmetic(matrix.part),
        layers=layers,
        work=work,
        each=product_counts(k, n, formats.weight_bytes(matrix.part)),
        inputs={
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
    name: str,
    layers: float,
    hidden: int,
    layout: Layout,
    mask: Array | None = None,
    quantised: bool = False,
) -> Sending:
    return Sending(
        name=name,
        exchange="all_reduce",
        layers=layers,
        carried="rows",
        bytes_each=hidden * ACTIVATION_BYTES,
        ranks=layout.tp,
        mask=mask,
        quantised=quantised,
        inputs={"H": hidden, "a": ACTIVATION_BYTES},
        counted="m*H*a",
    )


def norm_all_reduce(layers: float, layout: Layout) -> Sending:
    """A norm over all heads of q and of k needs the sums of squares of the other ranks' heads."""
    return Sending(
        name="QK-norm all-reduce",
        exchange="all_reduce",
        layers=layers,
        carried="rows",
        bytes_each=2.0 * SUM_BYTES,
        ranks=layout.tp,
        inputs={"w": SUM_BYTES},
        counted="m*2*w",
    )


def elementwise(stack: Stack, layout: Layout, fused_ranks: float = 0.0) -> Product:
    """Norms, residuals, rotary and activation functions: passes over the activations.

    Per layer: two fused residual norms (2 reads and 2 writes of the hidden state
    each), the activation function (2 reads, 1 write of its width), and where there is
    attention, rotary embedding and the write to the cache (q, k and v read and written): four kernels. One
    more adds what shared experts give to the sum of the routed ones. Norms that are fused with all-reduces
    start no kernels: of groups of up to `fused_ranks`, which is as far as such kernels reach.
    """
    widths = sum(
        count * block.intermediate_size * (block.per_token if isinstance(block, Experts) else 1)
        for block, count in stack.feed_forwards
    )
    heads = sum(
        (
            count
            * (
                _shared(core.heads * core.qk_dim, core.heads, layout)
                + _shared(core.cached_elements, core.cache_shards, layout)
            )
            for mixer, count in stack.mixers
            for core in mixer.cores()[:1]
        ),
        start=np.zeros(()),
    )
    joined = sum(
        count
        for block, count in stack.feed_forwards
        if isinstance(block, Experts) and block.shared_intermediate_size and not block.latent_size
    )
    fused = np.where((layout.tp > 1) & (layout.tp <= fused_ranks), NORMS, 0.0)
    passes = 8.0 * stack.hidden_size + 3.0 * widths / stack.layers / layout.tp + 2.0 * heads / stack.layers
    return Product(
        name="norms, residuals, activations",
        family="elementwise",
        dtype="bf16",
        layers=stack.layers,
        work=step_rows,
        each=Counts(flop=0.0, stored_bytes=0.0, activation_bytes=passes * ACTIVATION_BYTES),
        starts=1.0 + (joined / stack.layers - fused) / KERNELS,
        inputs={
            "H": stack.hidden_size,
            "V": widths,
            "U": heads,
            "L": stack.layers,
            "tp": layout.tp,
            "a": ACTIVATION_BYTES,
        },
        counted={"activation_bytes": "m*(8*H+3*V/L/tp+2*U/L)*a"},
    )


def _shared(elements: float, most: int, layout: Layout) -> Array:
    """Elements per rank, where at most so many ranks share them."""
    return np.asarray(elements / np.minimum(layout.tp, most))


def head(stack: Stack, formats: Formats, layout: Layout) -> Product:
    matrix = Matrix(
        name="LM head", rows=stack.hidden_size, columns=stack.vocab_size, part="head", split="columns"
    )
    return gemm(matrix, 1, formats, layout, output_rows)


def logits_gather(stack: Stack, layout: Layout) -> Sending:
    return Sending(
        name="logits all-gather",
        exchange="all_gather",
        layers=1,
        carried="outputs",
        symbol="o",
        bytes_each=stack.vocab_size * ACTIVATION_BYTES,
        ranks=layout.tp,
        inputs={"V": stack.vocab_size, "a": ACTIVATION_BYTES},
        counted="o*V*a",
    )


def stage_hops(stack: Stack, layout: Layout) -> Sending:
    """The hidden state on its way through all stages of a pipeline."""
    return Sending(
        name="pipeline hops",
        exchange="stage_hop",
        layers=1,
        carried="tokens",
        bytes_each=stack.hidden_size * ACTIVATION_BYTES / layout.tp,
        ranks=layout.pp,
        spread=layout.tp * layout.dp,
        inputs={"H": stack.hidden_size, "a": ACTIVATION_BYTES, "tp": layout.tp},
        counted="m*H*a/tp",
    )
