"""One forward step of one worker: ops and messages become seconds.

Every term keeps what it is made of (compute, memory, network, overhead), so the
explanation reads the very numbers that the search used. What a layout alone decides is
prepared once: searches ask the same layouts for many loads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.efficiency import Engine
from pdplan.laws.overlap import HalfLayers, two_batch_time_s
from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load, Phases
from pdplan.ops import Block, Message, Op, Product, Sending, forward
from pdplan.setting import Setting, routing_of
from pdplan.step_kernels import PROMPT_MLA, One, Together, in_fp8_blocks, law_of
from pdplan.step_messages import Alike, alike, happens, law_key
from pdplan.terms import BINDING_TERMS, Term, Timed

__all__ = [
    "BINDING_TERMS",
    "PROMPT_MLA",
    "Overlapped",
    "Setting",
    "StepTime",
    "Term",
    "block_shares",
    "engine_shares",
    "half_layers",
    "in_fp8_blocks",
    "overlap_part",
    "routing_of",
    "step_time",
]

LAUNCHES = {"prefill_recurrence": 8.0, "indexer": 4.0}
"""Operations that one op stands for: a chunked scan (convolution, gates, norm, sums, products in and
between chunks, output; flash-linear-attention's chunk_gated_delta_rule), a sparse indexer (quantise,
score, select, gather)."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one forward step and the terms that they are the sum of."""

    totals_s: tuple[Array, ...]
    """Of each term, the engine's last."""
    write: Callable[[], tuple[Term, ...]]
    """Makes the terms: few ask for them."""
    operations: float
    """That the host starts: an op of each layer; some are several kernels."""
    blocks: tuple[Block, ...] = ()
    """What each term belongs to; the engine's term, the last one, to none."""
    stages: Array = field(default_factory=lambda: np.ones(()))
    """Of the worker's pipeline."""
    earlier_s: Array | None = None
    """The slowest stage before the last, where any layout has several."""
    last_s: Array | None = None
    """The last stage, with the LM head."""

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        return self.write()

    def slowest_s(self, after_s: ArrayLike = 0.0) -> Array:
        """What the slowest stage takes for its part, `after_s` more on the last one [s]."""
        if self.earlier_s is None or self.last_s is None:
            return self.total_s + after_s
        slowest = np.maximum(self.earlier_s, self.last_s + after_s)
        return np.where(self.stages > 1, slowest, self.total_s + after_s)

    def cycle_s(self, micro_batches: ArrayLike, after_s: ArrayLike = 0.0) -> Array:
        """From one step of a micro-batch to its next, when so many go round the stages [s].

        T = max(t + after, n · slowest stage): a stage works on one micro-batch at a time, and a
        micro-batch is in one stage at a time. One stage: t + after.
        """
        total = self.total_s + after_s
        if self.earlier_s is None:
            return np.asarray(total)
        return np.maximum(total, micro_batches * self.slowest_s(after_s))

    @cached_property
    def total_s(self) -> Array:
        total: Array = np.zeros(())
        for seconds in self.totals_s:
            total = total + seconds
        return total

    def without_terms(self) -> StepTime:
        """The same seconds, of no terms: those of all layouts of a search would fill its memory."""
        return replace(self, totals_s=(self.total_s,), write=tuple, blocks=())

    def part_s(self, name: str) -> Array:
        """Sum over terms of their compute, memory, network or overhead part."""
        total: Array = np.zeros(())
        for term in self.terms:
            total = total + getattr(term, f"{name}_s")
        return total


def step_time(setting: Setting, layout: Layout, load: Load) -> StepTime:
    """Seconds of one forward step, t = Σ_terms layers · t_term + step overhead.

    Shapes: `layout` and `load` fields broadcast; so does the result.
    """
    prepared = _prepared(setting, layout, load.phases)
    timed = [found for part in prepared.parts for found in part.times(load)]
    by_place = {
        place: seconds for one in timed for place, seconds in zip(one.places, one.totals_s, strict=True)
    }
    totals = [by_place[place] for place in range(len(prepared.blocks))]
    totals.append(_engine_s(setting, load))
    earlier = last = None
    if prepared.pipelines:
        earlier, last = _stage_times(setting, layout, totals, prepared.blocks, load)
    step = StepTime(
        totals_s=tuple(totals),
        write=lambda: _terms(timed, totals[-1]),
        operations=prepared.operations,
        blocks=prepared.blocks,
        stages=layout.pp,
        earlier_s=earlier,
        last_s=last,
    )
    return _in_two_batches(step, setting, layout, load) if setting.two_batch else step


def _terms(timed: list[Timed], engine_s: Array) -> tuple[Term, ...]:
    """All terms of a step in their order, from groups of them; the engine's is the last."""
    by_place = {place: one.term(i) for one in timed for i, place in enumerate(one.places)}
    return (*(by_place[place] for place in range(len(by_place))), _engine_term(engine_s))


class _Prepared(NamedTuple):
    """A step of certain layouts, whatever its load: kernels and collectives in groups."""

    parts: list[Together | One | Alike]
    blocks: tuple[Block, ...]
    """Of each term."""
    operations: float
    pipelines: bool
    """Whether any layout has several stages."""


@lru_cache(maxsize=32)
def _prepared(setting: Setting, layout: Layout, phases: Phases) -> _Prepared:
    constants = setting.constants
    reach = constants.links.domain_size if constants.engine.fused_norms else 0
    found = forward(setting.stack, setting.formats, layout, phases, routing_of(setting), reach)
    shape = np.broadcast_shapes(
        *(np.shape(x) for x in (layout.tp, layout.pp, layout.dp, layout.ep, layout.redundant))
    )
    parts: list[Together | One | Alike] = []
    together: dict[object, list[tuple[int, Product]]] = {}
    for place, kernel in enumerate(found.kernels):
        if isinstance(kernel, Product):
            alike_in = (kernel.family, kernel.dtype, kernel.work)
            together.setdefault(alike_in, []).append((place, kernel))
        else:
            parts.append(One(setting=setting, prompts=phases.prefill, place=place, kernel=kernel))
    for members in together.values():
        places, products = zip(*members, strict=True)
        law, rates = law_of(setting, products[0])
        parts.append(
            Together(
                setting=setting,
                prompts=phases.prefill,
                law=law,
                rates=rates,
                shape=shape,
                places=places,
                members=products,
            )
        )
    blocks = list(found.kernel_blocks)
    equal: dict[object, list[tuple[int, Sending]]] = {}
    for sending, block in zip(found.sendings, found.sending_blocks, strict=True):
        if happens(sending):
            equal.setdefault(law_key(sending), []).append((len(blocks), sending))
            blocks.append(block)
    parts += [alike(members, setting.constants) for members in equal.values()]
    return _Prepared(
        parts=parts,
        blocks=tuple(blocks),
        operations=sum(k.layers * LAUNCHES.get(k.family, 1.0) for k in found.kernels),
        pipelines=bool(np.any(layout.pp > 1)),
    )


@dataclass(frozen=True, kw_only=True)
class Overlapped:
    """What a two-batch overlap saves, as the source of its term."""

    half: StepTime
    """A step of one half of the batch."""
    share: float
    """Of all layers, those with experts."""
    taken: float
    """Share of the cores that exchanges hold."""


def half_layers(step: StepTime, share: float) -> HalfLayers:
    """A step's layers with experts, taken apart into what overlaps with what; `share` of all are such."""
    none: Array = np.zeros(())
    found = {"before": none, "experts": none, "dispatch": none, "combine": none}
    for term, block in zip(step.terms, step.blocks, strict=False):
        if (part := overlap_part(term, block, step)) is not None:
            weight = 1.0 if block[0] == "feed_forward" else share
            found[part] = found[part] + weight * term.total_s
    return HalfLayers(**found)


def overlap_part(term: Term, block: Block, step: StepTime) -> str | None:
    """Which field of HalfLayers a term counts to; None where it is not of a layer with experts."""
    source = term.source
    if isinstance(source, Message) and source.exchange == "expert_exchange":
        return "dispatch" if "dispatch" in source.name else "combine"
    if isinstance(source, Op) and source.family == "experts":
        return "experts"
    if block[0] in ("mixer", "layers"):
        return "before"
    pairs = zip(step.terms, step.blocks, strict=False)
    routed = any(isinstance(t.source, Op) and t.source.family == "experts" for t, b in pairs if b == block)
    return "before" if block[0] == "feed_forward" and routed else None


def _in_two_batches(step: StepTime, setting: Setting, layout: Layout, load: Load) -> StepTime:
    """The step with what halves of the batch save whose exchanges run beside each other's kernels.

    Where two halves take longer than the whole (weights are read twice, kernels start twice), in pipelines,
    and where no tokens are exchanged, nothing changes: engines have thresholds, too.
    """
    if not any(isinstance(t.source, Message) and t.source.exchange == "expert_exchange" for t in step.terms):
        return step
    stack = setting.stack
    routed = sum(count for block, count in stack.feed_forwards if isinstance(block, Experts))
    half = step_time(_in_turn(setting), layout, load.half)
    taken = setting.constants.engine.exchange_cores if load.has_prefill else 0.0
    source = Overlapped(half=half, share=routed / stack.layers, taken=taken)
    whole = half_layers(step, source.share)
    saved = whole.in_turn - two_batch_time_s(half_layers(half, source.share), source.taken)
    saved = np.where((whole.dispatch > 0) & (step.stages <= 1), np.maximum(saved, 0.0), 0.0)
    if not np.any(saved):
        return step
    none = np.zeros(())
    term = Term(
        name="two-batch overlap",
        total_s=-saved,
        compute_s=none,
        memory_s=none,
        network_s=-saved,
        overhead_s=none,
        source=source,
    )
    return replace(step, totals_s=(*step.totals_s, -saved), write=lambda: (*step.terms, term))


@lru_cache(maxsize=32)
def _in_turn(setting: Setting) -> Setting:
    return replace(setting, two_batch=False)


def block_shares(everything: Stage, stage: Stage, stages: int) -> dict[Block, float]:
    """Of each block's time over all layers, what one stage takes.

    Layers by how many of each kind it has; the head is the last stage's; every other stage sends once.
    """
    shares: dict[Block, float] = {
        ("layers", 0): stage.layers / everything.layers,
        ("last", 0): float(stage.last),
        ("hop", 0): 0.0 if stage.last else 1.0 / max(stages - 1, 1),
    }
    for number, (own, count) in enumerate(zip(stage.mixers, everything.mixers, strict=True)):
        shares["mixer", number] = own / count
    for number, (own, count) in enumerate(zip(stage.feed_forwards, everything.feed_forwards, strict=True)):
        shares["feed_forward", number] = own / count
    return shares


def engine_shares(engine: Engine, stage: Stage, stages: int) -> tuple[float, float]:
    """What a stage takes of a step's overhead [s], and of that of each sequence [s]: the last one samples.

    What a step costs the host is taken as even over the stages.
    """
    fixed = engine.step_overhead_s / stages + stage.layers * engine.layer_overhead_s
    return fixed, engine.sequence_overhead_s * stage.last


def _stage_times(
    setting: Setting, layout: Layout, totals_s: list[Array], blocks: tuple[Block, ...], load: Load
) -> tuple[Array, Array]:
    """Seconds of the slowest stage before the last, and of the last."""
    totals: dict[Block, Array] = {}
    for seconds, block in zip(totals_s, blocks, strict=False):
        totals[block] = totals[block] + seconds if block in totals else seconds
    stack, engine = setting.stack, setting.constants.engine
    sizes, at = layout.pipelines
    found: list[Array] = []
    for row in _stage_rows(whole(stack), stack.order, sizes):
        fixed, sequence = np.array([engine_shares(engine, *stage) for stage in row.stages]).T
        time = fixed[at]
        if np.any(sequence):
            time = time + sequence[at] * np.asarray(load.sampled)
        for alike_blocks, share in row.shares:
            here = [totals[block] for block in alike_blocks if block in totals]
            if here:
                time = time + share[at] * sum(here[1:], start=here[0])
        found.append(time)
    *earlier, last = found
    slowest = earlier[0]
    for other in earlier[1:]:
        slowest = np.maximum(slowest, other)
    return slowest, last


class _StageRow(NamedTuple):
    """A stage of each of some pipelines, and what it takes of blocks that are dealt out alike."""

    stages: list[tuple[Stage, int]]
    shares: list[tuple[list[Block], Array]]


@lru_cache(maxsize=64)
def _stage_rows(
    everything: Stage, order: tuple[tuple[int, int], ...], sizes: tuple[int, ...]
) -> list[_StageRow]:
    """Stages that may be the slowest of pipelines of these sizes, side by side; the last row, last stages."""
    by_size = [sorted(stages_of(order, everything, size), key=lambda s: s.last) for size in sizes]
    most = max(len(stages) for stages in by_size)
    rows = []
    for number in range(most):
        # A pipeline of fewer kinds of stages repeats its first.
        some = [(s[max(number - most + len(s), 0)], size) for s, size in zip(by_size, sizes, strict=True)]
        each = [block_shares(everything, stage, size) for stage, size in some]
        alike: dict[tuple[float, ...], list[Block]] = {}
        for block in each[0]:
            alike.setdefault(tuple(share[block] for share in each), []).append(block)
        rows.append(
            _StageRow(some, [(blocks, np.array(share)) for share, blocks in alike.items() if any(share)])
        )
    return rows


def _engine_s(setting: Setting, load: Load) -> Array:
    """What the engine adds: scheduling and launch per step and layer, sampling per sequence."""
    engine = setting.constants.engine
    # Each attention-dp rank has a scheduler of its own.
    fixed = engine.step_overhead_s + setting.stack.layers * engine.layer_overhead_s
    return np.asarray(fixed + engine.sequence_overhead_s * load.sampled)


def _engine_term(seconds: Array) -> Term:
    none = np.zeros(())
    return Term(
        name="engine overhead",
        total_s=seconds,
        compute_s=none,
        memory_s=none,
        network_s=none,
        overhead_s=seconds,
    )
