"""One forward step as kernels and collectives."""

from __future__ import annotations

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.mixers.grouped_query import GroupedQuery
from pdplan.architecture.stack import Stack
from pdplan.formats import Formats
from pdplan.layout import Layout, Phases
from pdplan.ops.attention import mixer_kernels
from pdplan.ops.experts import expert_products, expert_sendings
from pdplan.ops.kinds import Forward, Routing
from pdplan.ops.products import (
    all_reduce,
    elementwise,
    gemm,
    head,
    logits_gather,
    norm_all_reduce,
    stage_hops,
)


def forward(
    stack: Stack,
    formats: Formats,
    layout: Layout,
    phases: Phases,
    routing: Routing,
    fused_ranks: float = 0.0,
) -> Forward:
    """Every kernel and collective of one forward step of one worker, before its load is known.

    A step runs all layers, stage after stage where there are pipeline stages, so
    pp appears only in its hops; the caller hands over the load of one micro-batch. Norms may be fused with
    all-reduces of decodes over up to `fused_ranks`; those of prompts are too large for such kernels.
    """
    found = Forward()
    hidden = stack.hidden_size
    dense = not any(isinstance(block, Experts) for block, _ in stack.feed_forwards)
    quantised = dense and formats.arithmetic("dense") in ("fp8", "fp4")
    for number, (mixer, count) in enumerate(stack.mixers):
        sendings = [all_reduce("attention all-reduce", count, hidden, layout, quantised=quantised)]
        if isinstance(mixer, GroupedQuery) and mixer.qk_norm_full:
            sendings.insert(0, norm_all_reduce(count, layout))
        found.add(("mixer", number), mixer_kernels(mixer, count, hidden, formats, layout, phases), sendings)
    for number, (block, count) in enumerate(stack.feed_forwards):
        if isinstance(block, Experts):
            kernels = expert_products(block, count, hidden, formats, layout, routing)
            sendings = expert_sendings(block, count, hidden, layout, phases, routing)
            found.add(("feed_forward", number), kernels, sendings)
        else:
            products = [gemm(m, count, formats, layout) for m in block.matrices(hidden)]
            summed = all_reduce("MLP all-reduce", count, hidden, layout, quantised=quantised)
            found.add(("feed_forward", number), products, [summed])
    if stack.projections:
        joint = Matrix(name="draft input", rows=2 * hidden, columns=hidden, part="dense")
        found.add(("layers", 0), [gemm(joint, stack.projections, formats, layout)])
    found.add(("layers", 0), [elementwise(stack, layout, 0.0 if phases.prefill else fused_ranks)])
    found.add(("last", 0), [head(stack, formats, layout)], [logits_gather(stack, layout)])
    found.add(("hop", 0), [], [stage_hops(stack, layout)])
    return found
