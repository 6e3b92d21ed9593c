"""One forward step as ops and messages."""

from __future__ import annotations

from pdplan.architecture.counts import Matrix
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.mixers.grouped_query import GroupedQuery
from pdplan.architecture.stack import Stack
from pdplan.formats import Formats
from pdplan.layout import Layout, Load
from pdplan.ops.attention import mixer_ops
from pdplan.ops.experts import expert_messages, expert_ops
from pdplan.ops.kinds import Forward, Routing
from pdplan.ops.products import (
    all_reduce,
    elementwise,
    gemm,
    head_ops,
    hops_message,
    logits_message,
    norm_all_reduce,
)


def forward_ops(stack: Stack, formats: Formats, layout: Layout, load: Load, routing: Routing) -> Forward:
    """Every op and message of one forward step of one worker.

    A step runs all layers, stage after stage where there are pipeline stages, so
    pp appears only in its hops; the caller hands over the load of one micro-batch.
    """
    found = Forward()
    hidden, rows = stack.hidden_size, load.rows
    for number, (mixer, count) in enumerate(stack.mixers):
        messages = [all_reduce("attention all-reduce", count, rows, hidden, layout)]
        if isinstance(mixer, GroupedQuery) and mixer.qk_norm_full:
            messages.insert(0, norm_all_reduce(count, rows, layout))
        found.add(("mixer", number), mixer_ops(mixer, count, hidden, formats, layout, load), messages)
    for number, (block, count) in enumerate(stack.feed_forwards):
        if isinstance(block, Experts):
            ops = expert_ops(block, count, hidden, formats, layout, load, routing)
            messages = expert_messages(block, count, hidden, layout, load, routing)
            found.add(("feed_forward", number), ops, messages)
        else:
            products = [gemm(m, count, formats, layout, rows) for m in block.matrices(hidden)]
            message = all_reduce("MLP all-reduce", count, rows, hidden, layout)
            found.add(("feed_forward", number), products, [message])
    if stack.projections:
        joint = Matrix(name="draft input", rows=2 * hidden, columns=hidden, part="dense")
        found.add(("layers", 0), [gemm(joint, stack.projections, formats, layout, rows)])
    found.add(("layers", 0), [elementwise(stack, layout, rows)])
    found.add(("last", 0), head_ops(stack, formats, layout, load), [logits_message(stack, layout, load)])
    found.add(("hop", 0), [], [hops_message(stack, layout, load)])
    return found
