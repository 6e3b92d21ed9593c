"""One forward step of one worker: kernels and collectives become seconds.

What a layout alone decides is prepared once, since searches ask the same layouts for many loads: kernels and
collectives of one law form a group, which turns a load into the seconds of all its members. The terms that
the explanation reads come from the same groups, with all that they are made of.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.layout import Layout, Load, Phases
from pdplan.ops import Product, Sending, forward
from pdplan.step.kernels import KernelGroup, OneKernel, pace_of, side_by_side
from pdplan.step.messages import Collectives, happens, law_key
from pdplan.step.overlap import expert_layers, in_two_batches, turn_of
from pdplan.step.setting import Setting, routing_of
from pdplan.step.stages import stage_times
from pdplan.step.terms import Place, StepTime, Term

LAUNCHES = {"prefill_recurrence": 8.0, "indexer": 4.0}
"""Operations that one op stands for: a chunked scan (convolution, gates, norm, sums, products in and
between chunks, output; flash-linear-attention's chunk_gated_delta_rule), a sparse indexer (quantise,
score, select, gather)."""


def step_time(setting: Setting, layout: Layout, load: Load) -> StepTime:
    """Seconds of one forward step, t = Σ_terms layers · t_term + step overhead.

    Shapes: `layout` and `load` fields broadcast; so does the result.
    """
    step = _in_turn(setting, layout, load)
    if step.turns is None:
        return step
    return in_two_batches(step, _in_turn(setting, layout, load.half), setting, load)


def _in_turn(setting: Setting, layout: Layout, load: Load) -> StepTime:
    """A step whose kernels and collectives all run one after the other."""
    prepared = _prepared(setting, layout, load.phases)
    timed = [
        each for group in prepared.groups for each in zip(group.places, group.totals_s(load), strict=True)
    ]
    timed.sort(key=lambda each: each[0].number)  # a sum's last digit hangs on its order, not on groups
    earlier, last = stage_times(setting, layout, load, timed) if prepared.pipelines else (None, None)
    return StepTime(
        total_s=sum((seconds for _, seconds in timed), start=np.zeros(())) + _engine_s(setting, load),
        write=lambda: _terms(setting, layout, load),
        operations=prepared.operations,
        stages=layout.pp,
        earlier_s=earlier,
        last_s=last,
        turns=expert_layers(setting.stack, timed) if prepared.exchanges and setting.two_batch else None,
    )


def _terms(setting: Setting, layout: Layout, load: Load) -> tuple[Term, ...]:
    """All terms of a step in their order; the engine's is the last."""
    found = {
        place.number: term
        for group in _prepared(setting, layout, load.phases).groups
        for place, term in zip(group.places, group.terms(load), strict=True)
    }
    engine_s = _engine_s(setting, load)
    engine = Term(name="engine overhead", total_s=engine_s, overhead_s=engine_s)
    return (*(found[number] for number in range(len(found))), engine)


def _engine_s(setting: Setting, load: Load) -> Array:
    """What the engine adds: scheduling and launch per step and layer, sampling per sequence."""
    engine = setting.constants.engine
    # Each attention-dp rank has a scheduler of its own.
    fixed = engine.step_overhead_s + setting.stack.layers * engine.layer_overhead_s
    return np.asarray(fixed + engine.sequence_overhead_s * load.sampled)


class _Prepared(NamedTuple):
    """A step of certain layouts, whatever its load."""

    groups: list[KernelGroup | Collectives]
    operations: float
    pipelines: bool
    """Whether any layout has several stages."""
    exchanges: bool
    """Whether any sends tokens to experts."""


@lru_cache(maxsize=32)
def _prepared(setting: Setting, layout: Layout, phases: Phases) -> _Prepared:
    constants = setting.constants
    reach = constants.links.domain_size if constants.engine.fused_norms else 0
    found = forward(setting.stack, setting.formats, layout, phases, routing_of(setting), reach)
    sendings = [(block, sending) for block, sending in found.sendings if happens(sending)]
    routed = {block for block, kernel in found.kernels if kernel.family == "experts"}
    groups: list[KernelGroup | Collectives] = []
    products: dict[object, list[tuple[Place, Product]]] = {}
    collectives: dict[object, list[tuple[Place, Sending]]] = {}
    for number, (block, member) in enumerate([*found.kernels, *sendings]):
        place = Place(number, block, turn_of(member, block, block in routed))
        if isinstance(member, Sending):
            collectives.setdefault(law_key(member), []).append((place, member))
        elif isinstance(member, Product):
            products.setdefault((member.family, member.dtype, member.work), []).append((place, member))
        else:
            groups.append(OneKernel(pace=pace_of(setting, member, phases), places=(place,), kernel=member))
    for together in products.values():
        pace = pace_of(setting, together[0][1], phases)
        groups.append(side_by_side(pace, together, layout.shape))
    groups += [Collectives(together, setting.constants) for together in collectives.values()]
    return _Prepared(
        groups=groups,
        operations=sum(k.layers * LAUNCHES.get(k.family, 1.0) for _, k in found.kernels),
        pipelines=bool(np.any(layout.pp > 1)),
        exchanges=any(sending.exchange == "expert_exchange" for _, sending in sendings),
    )
