"""Mixtures of experts: grouped products, and the tokens that travel to them and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

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
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load, Phases
from pdplan.ops.kinds import ACTIVATION_BYTES, Product, Routing, Sending, Work
from pdplan.ops.products import all_reduce, gemm


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutedRows:
    """What experts of a block have to do in a step, on the busiest rank: called with the step's load."""

    block: Experts
    layout: Layout
    routing: Routing

    @cached_property
    def slots(self) -> Array:
        return expert_slots(self.block.experts, self.layout.redundant, self.layout.ep)

    def busiest(self, assignments: Array) -> Array:
        """Load of the busiest rank over the mean: copies even it out where they were asked for.

        Those that only fill ranks up (EP72 of 256 experts) are of any experts: without a balancer's counts
        an engine does not know the busiest.
        """
        experts, layout, routing = self.block.experts, self.layout, self.routing
        load = RoutedLoad(ranks=layout.ep, assignments=assignments, experts=experts, skew=routing.skew)
        return balanced_rank_factor(load, np.where(layout.redundant > 0, self.slots, experts), routing.drift)

    def busiest_of_decodes(self, load: Load) -> Array:
        """The same of running answers alone: prompts' exchanges are as even as tables time them, and make
        those of decodes no more even."""
        return self.busiest(load.decoded * self.layout.dp * self.block.per_token)

    def __call__(self, load: Load) -> Work:
        block, layout, skew = self.block, self.layout, self.routing.skew
        tokens = load.tokens  # what pads a graph goes to no expert
        everyone = tokens * layout.dp  # every attention rank's tokens meet the same experts
        assignments = everyone * block.per_token
        factor = self.busiest(assignments)
        touched = expected_touched_experts(everyone, block.experts, block.per_token, skew)
        # Copies are touched as their experts are.
        touched_here = busiest_rank_touched(layout.ep, touched * self.slots / block.experts, self.slots)
        rows = assignments / layout.ep * factor
        # Quantising and sorting the input happens once, before the first product; without
        # attention-dp every rank passes over all copies and keeps its own experts'.
        passed = np.where(layout.dp > 1, rows, assignments)
        return Work(
            rows=rows,
            groups=touched_here,
            passed=passed,
            inputs={
                "m": tokens,
                "dp": layout.dp,
                "T": everyone,
                "k": block.per_token,
                "E": block.experts,
                "A": assignments,
                "ep": layout.ep,
                "skew": skew,
                "drift": self.routing.drift,
                "R_e": layout.redundant,
                "S": self.slots,
                "f": factor,
                "X": touched,
                "Y": touched_here,
                "R": rows,
                "R_in": passed,
            },
        )


def expert_products(
    block: Experts, layers: float, hidden: int, formats: Formats, layout: Layout, routing: Routing
) -> Iterator[Product]:
    for matrix in block.matrices(hidden):
        product = gemm(matrix, layers, formats, layout)
        # Shared experts run on a second stream beside the routed ones, or as one more of them.
        beside = matrix.part == "shared" and not block.latent_size
        yield replace(product, starts=0.0, each=replace(product.each, depth=None)) if beside else product
    work = RoutedRows(block=block, layout=layout, routing=routing)
    for matrix in block.expert_matrices(hidden):
        k, n = float(matrix.rows), float(matrix.columns)
        share = k * n / layout.expert_tp
        columns = matrix.split == "columns"
        yield Product(
            name=f"{matrix.name} (experts)",
            family="experts",
            dtype=formats.arithmetic("experts"),
            layers=layers,
            work=work,
            each=Counts(
                flop=2.0 * share,
                stored_bytes=share * formats.weight_bytes("experts"),
                activation_bytes=(k + n / layout.expert_tp if columns else k / layout.expert_tp + n)
                * ACTIVATION_BYTES,
                rows=1.0,
                input_bytes=k * ACTIVATION_BYTES if columns else None,
            ),
            inputs={
                "K": matrix.rows,
                "N": matrix.columns,
                "s": layout.expert_tp,
                "w": formats.weight_bytes("experts"),
                "a": ACTIVATION_BYTES,
            },
            counted={
                "flop": "2*R*K*N/s",
                "stored_bytes": "Y*K*N/s*w",
                "activation_bytes": "R*(K+N/s)*a" if columns else "R*(K/s+N)*a",
                "input_bytes": "R_in*K*a",
            },
        )


def expert_sendings(
    block: Experts, layers: float, hidden: int, layout: Layout, phases: Phases, routing: Routing
) -> list[Sending]:
    """Experts inside one tp group need the all-reduce only; attention-dp sends tokens to experts and back."""
    sendings = [all_reduce("experts all-reduce", layers, hidden, layout, mask=~(layout.dp > 1))]
    tokens = _Travel(
        block=block,
        layers=layers,
        width=block.latent_size or hidden,
        layout=layout,
        phases=phases,
        routing=routing,
    )
    if not routing.gathered:
        both = "tokens all-gather and reduce-scatter"
        return [
            *sendings,
            tokens.exchanged("expert dispatch", routing.dispatch_bytes),
            tokens.exchanged("expert combine", routing.combine_bytes),
            replace(tokens.gathered(both, ACTIVATION_BYTES, layout.expert_tp, layout.ep), layers=2 * layers),
        ]
    everyone = layout.tp * layout.dp
    if routing.sums_prompts and phases.prefill:
        summed = tokens.gathered("tokens all-reduce", ACTIVATION_BYTES, everyone)
        return [*sendings, replace(summed, exchange="all_reduce", layers=2 * layers)]
    # Tokens travel as their products read them if that is four bits, else as they are.
    gathered = routing.dispatch_bytes if routing.dispatch_bytes < 1 else ACTIVATION_BYTES
    return [
        *sendings,
        tokens.gathered("tokens all-gather", gathered, everyone),
        tokens.gathered("tokens reduce-scatter", ACTIVATION_BYTES, everyone),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Travel:
    """Tokens of attention-dp ranks on their way to the experts of a block, and back."""

    block: Experts
    layers: float
    width: int
    """Elements of a token."""
    layout: Layout
    phases: Phases
    routing: Routing

    @cached_property
    def routed(self) -> RoutedRows:
        return RoutedRows(block=self.block, layout=self.layout, routing=self.routing)

    @cached_property
    def busiest(self) -> Callable[[Load], Array] | None:
        return self.routed.busiest_of_decodes if self.phases.decode else None

    def exchanged(self, name: str, element_bytes: float) -> Sending:
        """Each token to the ranks of its experts."""
        layout = self.layout
        return Sending(
            name=name,
            exchange="expert_exchange",
            layers=self.layers,
            carried="tokens",
            bytes_each=self.width * element_bytes,
            ranks=layout.ep,
            shared=layout.tp,  # each tp rank sends its share of the rank's tokens
            per_token=self.block.per_token,
            group_limit=self.block.routed_groups,
            deduplicate=self.phases.prefill,
            spread=layout.expert_tp,
            mask=(layout.dp > 1) & (layout.ep > 1),
            busiest=self.busiest,
            uneven=self.phases.decode,
            inputs={
                "tp": layout.tp,
                "H": self.width,
                "w": element_bytes,
                "E": self.block.experts,
                "S": self.routed.slots,
                "R_e": layout.redundant,
            },
            counted="H*w",
        )

    def gathered(
        self, name: str, element_bytes: float, ranks: Array, holders: Array | None = None
    ) -> Sending:
        """All tokens of a worker, over `ranks` that share the experts of one of `holders` groups."""
        groups = np.ones(()) if holders is None else holders
        return Sending(
            name=name,
            exchange="all_gather",
            layers=self.layers,
            carried="rows",
            bytes_each=self.layout.dp * self.width * element_bytes / groups,
            ranks=ranks,
            mask=(self.layout.dp > 1) & (ranks > 1),
            uneven=self.phases.decode,
            inputs={"dp": self.layout.dp, "H": self.width, "a": element_bytes, "ep": groups},
            counted="m*dp*H*a/ep",
        )
