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
from pdplan.ops.kinds import Message, Op, Routing
from pdplan.ops.products import all_reduce, edge_messages, elementwise, gemm, head_ops, norm_all_reduce


def forward_ops(
    stack: Stack, formats: Formats, layout: Layout, load: Load, routing: Routing
) -> tuple[list[Op], list[Message]]:
    """Every op and message of one forward step of one worker.

    A step runs all layers, stage after stage where there are pipeline stages, so
    pp appears only in its hops; the caller hands over the load of one micro-batch.
    """
    ops: list[Op] = []
    messages: list[Message] = []
    hidden, tokens = stack.hidden_size, load.tokens
    for mixer, count in stack.mixers:
        ops += mixer_ops(mixer, count, hidden, formats, layout, load)
        if isinstance(mixer, GroupedQuery) and mixer.qk_norm_full:
            messages.append(norm_all_reduce(count, tokens, layout))
        messages.append(all_reduce("attention all-reduce", count, tokens, hidden, layout))
    for block, count in stack.feed_forwards:
        if isinstance(block, Experts):
            ops += expert_ops(block, count, hidden, formats, layout, tokens, routing)
            messages += expert_messages(block, count, hidden, layout, load, routing)
        else:
            ops += [gemm(m, count, formats, layout, tokens) for m in block.matrices(hidden)]
            messages.append(all_reduce("MLP all-reduce", count, tokens, hidden, layout))
    if stack.projections:
        joint = Matrix(name="draft input", rows=2 * hidden, columns=hidden, part="dense")
        ops.append(gemm(joint, stack.projections, formats, layout, tokens))
    ops.append(elementwise(stack, layout, tokens))
    ops += head_ops(stack, formats, layout, load)
    messages += edge_messages(stack, layout, load)
    return ops, messages
