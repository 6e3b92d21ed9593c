"""What a step consists of: kernels and collectives, as counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array
from pdplan.layout import Load

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
class _Operation:
    """What is known of a kernel whatever its load."""

    name: str
    family: Family
    dtype: str
    layers: float
    starts: Array | float = 1.0
    """Starts that it pays, over those that its law holds: none where it runs beside a longer op."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that the counts were made of, by symbol, for `explain`."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """By field of `Counts`, the arithmetic over `inputs` that gave it: {"flop": "2*m*K*N/s"}."""


@dataclass(frozen=True, kw_only=True)
class Op(_Operation, Counts):
    """One kernel of a step and its counts, of the busiest rank."""


@dataclass(frozen=True, kw_only=True)
class _Collective:
    """What is known of a collective whatever its load; there is one in each layer."""

    name: str
    exchange: Exchange
    layers: float
    ranks: Array
    per_token: int = 0
    """Experts of a token."""
    group_limit: int | None = None
    """Nodes that one token's experts lie on at most."""
    deduplicate: bool = False
    """High-throughput kernels, which send a token once to a node: a step with prompts."""
    spread: Array | None = None
    """Accelerators that share one expert, or make up a stage, so that `ranks` lie that far apart."""
    mask: Array | None = None
    """Where the collective happens at all (layouts differ)."""
    uneven: bool = False
    """Carries the tokens of a step with decodes to experts or back: all ranks wait for the last one."""
    quantised: bool = False
    """Of an all-reduce: whether its kernel may quantise the sum besides, for the products that read it."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that the size was made of, by symbol, for `explain`."""
    counted: str = ""
    """The arithmetic over `inputs` that gave the size."""


@dataclass(frozen=True, kw_only=True)
class Message(_Collective):
    """One collective of a step."""

    message_bytes: Array
    """all_reduce, all_gather, stage_hop: the whole message. expert_exchange: bytes per token copy."""
    tokens: Array | None = None
    decode_tokens: Array | None = None
    """Of `tokens`, those of running answers; None where there are none. Alone they take low-latency kernels,
    the ones that a graph can hold, and beside prompts no less than alone."""
    busiest: Array | float = 1.0
    """What the busiest rank is sent, over the mean."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step gives products to do: arrays over layouts and loads."""

    rows: Array
    groups: Array | None = None
    """Matrices touched, of a grouped product."""
    passed: Array | None = None
    """Rows of the input that are quantised; None: as many as are multiplied."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The numbers that these were made of, by symbol."""

    def counts(self, each: Counts) -> Counts:
        """What so much work takes, from what one row and one matrix take: flop = rows · flop of a row."""
        passed = self.rows if self.passed is None else self.passed
        return Counts(
            flop=self.rows * each.flop,
            stored_bytes=each.stored_bytes if self.groups is None else self.groups * each.stored_bytes,
            activation_bytes=self.rows * each.activation_bytes,
            rows=None if each.rows is None else self.rows,
            groups=self.groups,
            depth=each.depth,
            input_bytes=None if each.input_bytes is None else passed * each.input_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class Product(_Operation):
    """A kernel whose counts grow with the rows of its work: what one row takes, which the layout decides."""

    work: Callable[[Load], Work]
    """Of a step; products of one function have their work in common."""
    each: Counts
    """FLOP and bytes of one row, stored bytes of one matrix; `rows` is 1, or None where no tile is filled."""

    def op(self, load: Load) -> Op:
        """The kernel of one step, with the numbers that its counts were made of."""
        work = self.work(load)
        known = _shared(self, _Operation) | {"inputs": {**work.inputs, **self.inputs}}
        return Op(**known, **_shared(work.counts(self.each), Counts))


def _shared(one: object, kind: type) -> dict[str, Any]:
    """Fields that an object has of one of its kinds."""
    return {each.name: getattr(one, each.name) for each in fields(kind)}


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel whose counts each load makes anew: attention, recurrent states."""

    family: Family
    dtype: str
    layers: float
    op: Callable[[Load], Op]


@dataclass(frozen=True, kw_only=True)
class Sending(_Collective):
    """A collective whose messages grow with a step's tokens: what one of them takes."""

    carried: Literal["rows", "tokens", "outputs"]
    """What of the load it carries."""
    bytes_each: Array | float
    symbol: str = "m"
    """Of what it carries, in `counted`."""
    shared: Array | float = 1.0
    """Ranks that send a share each of what is carried to experts."""
    busiest: Callable[[Load], Array] | None = None
    """What the busiest rank is sent over the mean, in a step with running answers."""

    @cached_property
    def size_each(self) -> Array:
        """Bytes that one rank sends for each of what is carried: α–β laws are linear in them."""
        return np.asarray(self.bytes_each / self.shared)

    def message(self, load: Load) -> Message:
        """The collective of one step, with the numbers that its size was made of."""
        carried = getattr(load, self.carried)
        routed = self.exchange == "expert_exchange"
        known = _shared(self, _Collective) | {"inputs": {self.symbol: carried, **self.inputs}}
        return Message(
            **known,
            message_bytes=np.asarray(self.bytes_each if routed else carried * self.bytes_each),
            tokens=carried / self.shared if routed else None,
            decode_tokens=None if self.busiest is None else load.decoded / self.shared,
            busiest=1.0 if self.busiest is None else self.busiest(load),
        )


Block = tuple[Literal["mixer", "feed_forward", "layers", "last", "hop"], int]
"""What an op or message belongs to: one of the stack's mixers or feed-forward blocks by its place there, all
layers alike, the last stage of a pipeline, or the way from a stage to the next."""


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Every kernel and collective of one forward step, and the block that each belongs to."""

    kernels: list[tuple[Block, Product | Kernel]] = field(default_factory=list)
    sendings: list[tuple[Block, Sending]] = field(default_factory=list)

    def add(
        self, block: Block, kernels: Iterable[Product | Kernel], sendings: Iterable[Sending] = ()
    ) -> None:
        self.kernels.extend((block, kernel) for kernel in kernels)
        self.sendings.extend((block, sending) for sending in sendings)


@dataclass(frozen=True, kw_only=True)
class Routing:
    """How tokens get to experts, and how evenly they meet them: see constants/engines.yaml."""

    skew: float = 0.0
    drift: float = 0.0
    """Of the popularities' spread, what their copies do not follow."""
    dispatch_bytes: float = DISPATCH_BYTES
    """Of one element of a token that goes to an expert's rank."""
    combine_bytes: float = COMBINE_BYTES
    """Of one element of what comes back."""
    gathered: bool = False
    """All tokens go to all ranks, and sums come back (all-gather, reduce-scatter), not to their experts."""
    sums_prompts: bool = False
    """Those of prompts by an all-reduce each way: ranks write theirs into zeros, and all get every sum."""
