"""How one worker lays a model out, and what one of its forward steps has to do.

Both are structs of arrays: a field may be given as a number or an array, and all fields
broadcast. A single deployment is an array of one; the search fills them with
every layout that the model's shape allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.laws.roofline import Array


def _array(value: ArrayLike) -> Array:
    return np.asarray(value, dtype=float)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """tp, pp, dp, ep of a worker: tp·pp·dp accelerators, experts spread over ep of a stage's tp·dp.

    Equal where all numbers are: searches come to the same workers on several ways.
    """

    tp: Any = 1
    pp: Any = 1
    dp: Any = 1
    ep: Any = 1
    redundant: Any = 0
    """Copies of busy experts that the ep ranks hold besides, at least."""

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "dp", "ep", "redundant"):
            object.__setattr__(self, name, _array(getattr(self, name)))

    @cached_property
    def _content(self) -> tuple[object, ...]:
        return tuple((x.shape, x.tobytes()) for x in (self.tp, self.pp, self.dp, self.ep, self.redundant))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Layout) and self._content == other._content)

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of arrays with a number for each layout."""
        return np.broadcast_shapes(*(x.shape for x in (self.tp, self.pp, self.dp, self.ep, self.redundant)))

    @cached_property
    def gpus(self) -> Array:
        """Accelerators of one worker."""
        return _array(self.tp * self.pp * self.dp)

    @cached_property
    def expert_tp(self) -> Array:
        """Ranks that share the matrices of one expert: tp·dp / ep."""
        return _array(self.tp * self.dp / self.ep)

    @cached_property
    def pipelines(self) -> tuple[tuple[int, ...], Array]:
        """Numbers of stages that any layout has, and which of them each has."""
        sizes, at = np.unique(self.pp, return_inverse=True)
        return tuple(sizes.astype(int).tolist()), at.reshape(np.shape(self.pp))

    @cached_property
    def last_stage(self) -> Layout:
        """The accelerators of one stage as a worker of their own."""
        return replace(self, pp=np.ones_like(self.pp))

    def __getitem__(self, index: Any) -> Layout:
        tp, pp, dp, ep, redundant = np.broadcast_arrays(self.tp, self.pp, self.dp, self.ep, self.redundant)
        return Layout(tp=tp[index], pp=pp[index], dp=dp[index], ep=ep[index], redundant=redundant[index])


class Phases(NamedTuple):
    """Which kinds of sequences a step works on."""

    decode: bool
    prefill: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """Work of one forward step, for each attention-data-parallel rank.

    Decode: `decode_sequences` sequences verify `queries` tokens each, over a
    context that grows from `context_first` to `context_last` while the answer is
    written (times are means over that growth). Prefill: `prefill_sequences` prompts
    add `prefill_tokens` new tokens each to `prefill_past` cached ones. A step with
    both is a mixed step of chunked prefill.
    """

    decode_sequences: ArrayLike = 0.0
    queries: float = 1.0
    context_first: ArrayLike = 0.0
    context_last: ArrayLike = 0.0
    prefill_sequences: ArrayLike = 0.0
    prefill_tokens: ArrayLike = 0.0
    prefill_past: ArrayLike = 0.0
    has_decode: bool = True
    has_prefill: bool = False
    padded_sequences: ArrayLike = 0.0
    """Decoding sequences that the step's graph was captured for: with fewer, its products run on as many."""

    @property
    def phases(self) -> Phases:
        return Phases(self.has_decode, self.has_prefill)

    @cached_property
    def tokens(self) -> Array:
        """Tokens of the step: what attention cores and experts see."""
        return self.decoded + _array(self.prefill_sequences) * self.prefill_tokens

    @cached_property
    def decoded(self) -> Array:
        """Of these, tokens of running answers, drafted ones included."""
        return _array(self.decode_sequences) * self.queries

    @property
    def half(self) -> Load:
        """One of two halves of the batch: half as many sequences and prompts, or half of one prompt."""
        return replace(
            self,
            decode_sequences=_array(self.decode_sequences) / 2,
            prefill_sequences=_array(self.prefill_sequences) / 2,
            padded_sequences=_array(self.padded_sequences) / 2,
        )

    @cached_property
    def rows(self) -> Array:
        """Rows of every other product: the tokens, or what the graph was captured for if that is more."""
        padding = np.maximum(_array(self.padded_sequences) - self.decode_sequences, 0.0)
        return self.tokens + padding * self.queries

    @cached_property
    def sequences(self) -> Array:
        """Requests that the step works on."""
        return _array(self.decode_sequences) + _array(self.prefill_sequences)

    @cached_property
    def sampled(self) -> Array:
        """Tokens that are sampled or verified: each query of a sequence, the last one of a prompt."""
        return _array(self.decode_sequences) * self.queries + _array(self.prefill_sequences)

    @cached_property
    def outputs(self) -> Array:
        """Rows of the LM head: every decoded token, the last one of a prompt."""
        decoded = np.maximum(_array(self.padded_sequences), self.decode_sequences)
        return decoded * self.queries + _array(self.prefill_sequences)


def decode_load(
    sequences: ArrayLike,
    first: ArrayLike,
    last: ArrayLike,
    queries: float = 1.0,
    padded: ArrayLike = 0.0,
) -> Load:
    """A pure decode step of `sequences` sequences a rank, in a graph for at least `padded` of them."""
    return Load(
        decode_sequences=sequences,
        queries=queries,
        context_first=first,
        context_last=last,
        padded_sequences=padded,
    )


def prefill_load(sequences: ArrayLike, tokens: ArrayLike, past: ArrayLike = 0.0) -> Load:
    """A pure prefill step of `sequences` prompts a rank."""
    return Load(
        prefill_sequences=sequences,
        prefill_tokens=tokens,
        prefill_past=past,
        has_decode=False,
        has_prefill=True,
    )


def mixed_load(decode: Load, prefill: Load) -> Load:
    """Decodes and a chunk of prompt in one step."""
    return Load(
        decode_sequences=decode.decode_sequences,
        queries=decode.queries,
        context_first=decode.context_first,
        context_last=decode.context_last,
        prefill_sequences=prefill.prefill_sequences,
        prefill_tokens=prefill.prefill_tokens,
        prefill_past=prefill.prefill_past,
        has_decode=True,
        has_prefill=True,
    )
