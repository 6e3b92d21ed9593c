"""Mixtures of experts: grouped products, and the tokens that travel to them and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pdplan.architecture.feed_forward import Experts
from pdplan.formats import Formats
from pdplan.laws.experts import (
    RoutedLoad,
    balanced_rank_factor,
    busiest_rank_touched,
    expected_touched_experts,
    expert_slots,
)
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load
from pdplan.ops.kinds import ACTIVATION_BYTES, Exchange, Message, Op, Routing
from pdplan.ops.products import all_reduce, gemm


def expert_ops(
    block: Experts,
    layers: float,
    hidden: int,
    formats: Formats,
    layout: Layout,
    load: Load,
    routing: Routing,
) -> Iterator[Op]:
    for matrix in block.matrices(hidden):
        op = gemm(matrix, layers, formats, layout, load.rows)
        # Shared experts run on a second stream beside the routed ones, or as one more of them.
        yield replace(op, starts=0.0, depth=None) if matrix.part == "shared" and not block.latent_size else op
    tokens = load.tokens  # what pads a graph goes to no expert
    everyone = tokens * layout.dp  # every attention rank's tokens meet the same experts
    assignments = everyone * block.per_token
    factor = _busiest(block, layout, assignments, routing)
    slots = expert_slots(block.experts, layout.redundant, layout.ep)
    touched = expected_touched_experts(everyone, block.experts, block.per_token, routing.skew)
    # Copies are touched as their experts are.
    touched_here = busiest_rank_touched(layout.ep, touched * slots / block.experts, slots)
    rows = assignments / layout.ep * factor
    # Quantising and sorting the input happens once, before the first product; without
    # attention-dp every rank passes over all copies and keeps its own experts'.
    passed = np.where(layout.dp > 1, rows, assignments)
    for matrix in block.expert_matrices(hidden):
        k, n = float(matrix.rows), float(matrix.columns)
        share = k * n / layout.expert_tp
        yield Op(
            name=f"{matrix.name} (experts)",
            family="experts",
            dtype=formats.arithmetic("experts"),
            layers=layers,
            flop=2.0 * rows * share,
            stored_bytes=touched_here * share * formats.weight_bytes("experts"),
            activation_bytes=rows
            * np.where(matrix.split == "columns", k + n / layout.expert_tp, k / layout.expert_tp + n)
            * ACTIVATION_BYTES,
            rows=rows,
            groups=touched_here,
            input_bytes=passed * k * ACTIVATION_BYTES if matrix.split == "columns" else None,
            inputs={
                "m": tokens,
                "dp": layout.dp,
                "T": everyone,
                "k": block.per_token,
                "E": block.experts,
                "A": assignments,
                "ep": layout.ep,
                "skew": routing.skew,
                "drift": routing.drift,
                "R_e": layout.redundant,
                "S": slots,
                "f": factor,
                "X": touched,
                "Y": touched_here,
                "R": rows,
                "R_in": passed,
                "K": matrix.rows,
                "N": matrix.columns,
                "s": layout.expert_tp,
                "w": formats.weight_bytes("experts"),
                "a": ACTIVATION_BYTES,
            },
            counted={
                "flop": "2*R*K*N/s",
                "stored_bytes": "Y*K*N/s*w",
                "activation_bytes": "R*(K+N/s)*a" if matrix.split == "columns" else "R*(K/s+N)*a",
                "input_bytes": "R_in*K*a",
            },
        )


def _busiest(block: Experts, layout: Layout, assignments: Array, routing: Routing) -> Array:
    """Load of the busiest rank over the mean: copies even it out where they were asked for.

    Those that only fill ranks up (EP72 of 256 experts) are of any experts: without a balancer's counts
    an engine does not know the busiest.
    """
    load = RoutedLoad(ranks=layout.ep, assignments=assignments, experts=block.experts, skew=routing.skew)
    slots = expert_slots(block.experts, layout.redundant, layout.ep)
    slots = np.where(layout.redundant > 0, slots, block.experts)
    return balanced_rank_factor(load, slots, routing.drift)


def expert_messages(
    block: Experts, layers: float, hidden: int, layout: Layout, load: Load, routing: Routing
) -> list[Message]:
    """Experts inside one tp group need the all-reduce only; attention-dp sends tokens to experts and back."""
    tokens = load.tokens
    spread = layout.dp > 1
    # Prompts' exchanges are as even as tables time them, and make those of decodes no more even.
    assignments = load.decoded * layout.dp * block.per_token
    busiest = _busiest(block, layout, assignments, routing)
    exchanged = spread & (layout.ep > 1) & (not routing.gathered)
    width = block.latent_size or hidden

    def exchange(name: str, element_bytes: float) -> Message:
        return Message(
            name=name,
            exchange="expert_exchange",
            layers=layers,
            message_bytes=np.asarray(width * element_bytes),
            ranks=layout.ep,
            tokens=tokens / layout.tp,  # each tp rank sends its share of the rank's tokens
            per_token=block.per_token,
            group_limit=block.routed_groups,
            deduplicate=load.has_prefill,
            spread=layout.expert_tp,
            mask=exchanged,
            decode_tokens=load.decoded / layout.tp if load.has_decode else None,
            busiest=busiest if load.has_decode else 1.0,
            uneven=load.has_decode,
            inputs={
                "m": tokens,
                "tp": layout.tp,
                "H": width,
                "w": element_bytes,
                "E": block.experts,
                "S": expert_slots(block.experts, layout.redundant, layout.ep),
                "R_e": layout.redundant,
            },
            counted="H*w",
        )

    def gathering(
        name: str,
        times: float,
        ranks: Array,
        element_bytes: float,
        holders: Array,
        by: Exchange = "all_gather",
    ) -> Message:
        """All tokens of a worker, over `ranks` that share the experts of one of `holders` groups."""
        return Message(
            name=name,
            exchange=by,
            layers=times * layers,
            message_bytes=load.rows * layout.dp * width * element_bytes / holders,
            ranks=ranks,
            mask=spread & (ranks > 1),
            uneven=load.has_decode,
            inputs={"m": load.rows, "dp": layout.dp, "H": width, "a": element_bytes, "ep": holders},
            counted="m*dp*H*a/ep",
        )

    messages = [all_reduce("experts all-reduce", layers, load.rows, hidden, layout, mask=~spread)]
    if routing.gathered:
        everyone, one = layout.tp * layout.dp, np.ones(())
        # Tokens travel as their products read them if that is four bits, else as they are.
        gathered = routing.dispatch_bytes if routing.dispatch_bytes < 1 else ACTIVATION_BYTES
        if routing.sums_prompts and load.has_prefill:
            return [
                *messages,
                gathering("tokens all-reduce", 2, everyone, ACTIVATION_BYTES, one, "all_reduce"),
            ]
        return [
            *messages,
            gathering("tokens all-gather", 1, everyone, gathered, one),
            gathering("tokens reduce-scatter", 1, everyone, ACTIVATION_BYTES, one),
        ]
    return [
        *messages,
        exchange("expert dispatch", routing.dispatch_bytes),
        exchange("expert combine", routing.combine_bytes),
        gathering("tokens all-gather and reduce-scatter", 2, layout.expert_tp, ACTIVATION_BYTES, layout.ep),
    ]
