"""What a step consists of: kernels and collectives, as counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pdplan.laws.roofline import Array

Family = Literal[
    "gemm",
    "experts",
    "prefill_attention",
    "prefill_mla",
    "prefill_sparse",
    "decode_attention",
    "decode_mla",
    "decode_sparse",
    "indexer",
    "prefill_recurrence",
    "decode_recurrence",
    "elementwise",
]
Exchange = Literal["all_reduce", "all_gather", "expert_exchange", "stage_hop"]

ACTIVATION_BYTES = 2.0  # activations travel in BF16 between kernels in every engine
DISPATCH_BYTES = 1.0  # FP8 out, BF16 back: DeepEP's wire formats
COMBINE_BYTES = 2.0
SUM_BYTES = 4.0  # norms sum squares in FP32
SCORE_BYTES = 4.0  # the indexer writes FP32 scores, the top-k selection reads them


@dataclass(frozen=True, kw_only=True)
class Op:
    """One kernel: arithmetic, weight, cache and activation bytes of the busiest rank."""

    name: str
    family: Family
    dtype: str
    layers: float
    flop: Array
    """Useful arithmetic, before tiles round it up."""
    stored_bytes: Array
    """Weights or cache: always cross the memory bus."""
    activation_bytes: Array
    """Cross it as far as they do not stay on chip."""
    rows: Array | None = None
    """Rows of the product (tokens), for tile rounding; None where that has no meaning."""
    groups: Array | float | None = None
    """Grouped GEMM: matrices touched, each with its own half-filled tile."""
    depth: Array | float | None = None
    """Inner dimension that a tile walks through in sequence."""
    input_bytes: Array | None = None
    """16-bit bytes of the input, for the quantisation pass before the product."""
    starts: Array | float = 1.0
    """Starts that it pays, over those that its law holds: none where it runs beside a longer op."""
    scores: Array | None = None
    """Attention: (query, key, head) triples that pass the softmax."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that the counts were made of, by symbol, for `explain`."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """By field, the arithmetic over `inputs` that gave it: {"flop": "2*m*K*N/s"}."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One collective per layer."""

    name: str
    exchange: Exchange
    layers: float
    message_bytes: Array
    """all_reduce, all_gather, stage_hop: the whole message. expert_exchange: bytes per token copy."""
    ranks: Array
    tokens: Array | None = None
    per_token: int = 0
    group_limit: int | None = None
    """Nodes that one token's experts lie on at most."""
    deduplicate: bool = False
    """High-throughput kernels, which send a token once to a node (a step with prompts); else the cheaper of
    these and low-latency ones."""
    spread: Array | None = None
    """Accelerators that share one expert, or make up a stage, so that `ranks` lie that far apart."""
    mask: Array | None = None
    """Where the collective happens at all (layouts differ)."""
    uneven: bool = False
    """Carries the tokens of a step with decodes to experts or back: all ranks wait for the busiest one."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that `message_bytes` was made of, by symbol, for `explain`."""
    counted: str = ""
    """The arithmetic over `inputs` that gave `message_bytes`."""


Block = tuple[Literal["mixer", "feed_forward", "layers", "last", "hop"], int]
"""What an op or message belongs to: one of the stack's mixers or feed-forward blocks by its place there, all
layers alike, the last stage of a pipeline, or the way from a stage to the next."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Every op and message of one forward step, and the block that each belongs to."""

    ops: list[Op] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    op_blocks: list[Block] = field(default_factory=list)
    message_blocks: list[Block] = field(default_factory=list)

    def add(self, block: Block, ops: Iterable[Op], messages: Iterable[Message] = ()) -> None:
        for found, blocks, more in (
            (self.ops, self.op_blocks, ops),
            (self.messages, self.message_blocks, messages),
        ):
            found.extend(more)  # type: ignore[arg-type]
            blocks += [block] * (len(found) - len(blocks))


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How tokens get to experts, and how evenly they meet them: see constants/engines.yaml."""

    skew: float = 0.0
    dispatch_bytes: float = DISPATCH_BYTES
    """Of one element of a token that goes to an expert's rank."""
    combine_bytes: float = COMBINE_BYTES
    """Of one element of what comes back."""
    gathered: bool = False
    """All tokens go to all ranks, and sums come back (all-gather, reduce-scatter), not to their experts."""
    sums_prompts: bool = False
    """Those of prompts by an all-reduce each way: ranks write theirs into zeros, and all get every sum."""
