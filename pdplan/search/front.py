"""The Pareto front of throughput per accelerator (or cost per token) against tokens/s of one user.

A request of OSL output tokens occupies accelerators. With worker types of g accelerators,
a prefill worker that takes μ_p requests/s, and a decode worker that holds b sequences at
TPOT(b), so that it finishes r_d = b / (OSL · TPOT(b)) requests/s:

    a_p = max(g_p/μ_p, ℓ·t_wire)      prefill GPU·s per request
    a_d = max(g_d/r_d, ℓ·t_wire)      decode GPU·s per request
    disaggregated:  tokens/s/GPU = OSL / (a_p + a_d),    at the ratio that matches the rates,
                    prefill workers per decode worker = (a_p/g_p) / (a_d/g_d)
    colocated:      tokens/s/GPU = OSL / (g/r) = b / (TPOT_mixed(b) · g)
    tokens/s/user = 1 / TPOT
    $ per million output tokens = (price_p·a_p + price_d·a_d) / 3600 / OSL · 10⁶

ℓ·t_wire is what one KV cache needs of the links, in link·s: neither pool has fewer accelerators
than its share of the network asks for. It is the formula of NVIDIA's rate-matching blog,
tokens/s/GPU = OutTok/s / (NumCtxGPU · GenReqRate/CtxReqRate + NumGenGPU), a request at a time.

Units: seconds, GPU·s and $ per request, tokens; batches are sequences per worker.
Validity: the limit of a large, saturated deployment: ratios of workers are fractions, batches
are held full and steady, no queues. TTFT is that of an idle prefill pool: request handling +
prefill + exposed KV transfer + first decode step (colocated: half a running step + prefill
beside the decodes). `recommend` turns a point into whole workers with room for queues.
Exact on its grid of batches: every fitting worker type, every number of prompts per batch.
Source: NVIDIA TensorRT-LLM, "Disaggregated Serving in TensorRT-LLM" (rate matching), 2025;
Little's law for r_d.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pdplan.compose import World
from pdplan.errors import NoPriceError
from pdplan.plan import Colocated, Disaggregated, Plan, Serving
from pdplan.question import Question
from pdplan.search.front_sets import HAIR, Saturated, saturated_sets, survivors
from pdplan.search.space import Space, spaces
from pdplan.units import format_duration
from pdplan.workload import Slo, Workload

MODES = ("disaggregated", "colocated")
MOST_DECODE_WORKERS, GOOD_ENOUGH = 64, 0.02
"""Whole workers: the fewest whose ratio wastes less than this share of accelerators."""


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """One non-dominated deployment, saturated."""

    plan: Plan
    """Whole workers near the exact ratio, max_batch as on the front: `evaluate` takes it."""
    tok_per_s_per_user: float
    output_tok_per_s_per_gpu: float
    total_tok_per_s_per_gpu: float
    usd_per_million_output_tokens: float
    """NaN where a price is unknown."""
    tpot_s: float
    ttft_s: float
    """Of a request that finds the prefill pool idle."""
    batch: int
    """Sequences that run on a decode (colocated) worker."""
    prefill_per_decode: float
    """Prefill workers for one decode worker, exact; NaN where colocated."""

    @property
    def mode(self) -> str:
        return self.plan.mode


@dataclass(frozen=True, kw_only=True)
class Front:
    """Non-dominated points, fastest for the user last."""

    question: Question
    world: World
    by_cost: bool
    points: tuple[FrontPoint, ...]
    """Over both modes: each is one of `modes`, too."""
    modes: dict[str, tuple[FrontPoint, ...]]
    """Of each mode alone."""
    reason: str = ""
    """Why there is no point."""
    notes: tuple[str, ...] = ()
    layouts: int = 0

    def value(self, point: FrontPoint) -> float:
        """What the front is of: output tokens/s/GPU, or $ per million of them."""
        return point.usd_per_million_output_tokens if self.by_cost else point.output_tok_per_s_per_gpu

    def best_at(self, mode: str, tok_per_s_per_user: float) -> float:
        """The best value of a mode for users who get at least so much; NaN where it has none."""
        fast = [p for p in self.modes[mode] if p.tok_per_s_per_user >= tok_per_s_per_user * (1 - HAIR)]
        values = [self.value(p) for p in fast]
        return (min(values) if self.by_cost else max(values)) if values else float("nan")


def pareto_front(question: Question, world: World, *, by_cost: bool = False) -> Front:
    """Both modes' non-dominated points under the question's limits (TTFT, TPOT, request latency).

    The rate plays no part: the front is that of a deployment as large as you like.
    Raises NoPriceError where `by_cost` meets an accelerator without a price.
    """
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    unpriced = [n for n in names if np.isnan(world.price(n))]
    if by_cost and unpriced:
        raise NoPriceError(
            *(f"{n} has no price in the catalog; give one with --price {n}=USD_PER_HOUR" for n in unpriced)
        )
    # Worker types without a limit on TPOT: the front has every TPOT.
    asked = replace(question, slo=Slo(), max_gpus=None, max_usd_per_h=None)
    weight = {n: world.price(n) if by_cost else 1.0 for n in names}
    sets: list[Saturated] = []
    servings: dict[int, Serving] = {}
    enumerated = 0
    for _, space in spaces(asked, world):
        some = list(saturated_sets(question, world, space, weight))
        sets += some
        servings.update((id(s), space.serving) for s in some)
        enumerated += space.enumerated
    kept = {mode: survivors([s for s in sets if s.mode == mode]) for mode in MODES}
    built = {
        (id(s), k): _point(s, k, servings[id(s)], question.workload, world)
        for rows in kept.values()
        for s, k in rows
    }
    points = tuple(built[id(s), k] for s, k in survivors(sets))
    return Front(
        question=question,
        world=world,
        by_cost=by_cost,
        points=points,
        modes={mode: tuple(built[id(s), k] for s, k in rows) for mode, rows in kept.items()},
        reason="" if points else _reason(question, space, sets),
        notes=_notes(question, world, weight, by_cost),
        layouts=enumerated,
    )


# ------------------------------------------------------------------------ inside


def _point(found: Saturated, k: int, serving: Serving, workload: Workload, world: World) -> FrontPoint:
    """One point in full, with whole workers near its ratio."""
    decode, batch = found.candidates, int(found.batch[k])
    kind = int(found.types[k])
    gpu_s = float(found.gpu_s[k])
    usd = world.price(decode.hardware) * gpu_s
    ratio = float("nan")
    plan: Plan
    if found.prefill is None or found.prefill_types is None or found.prefill_gpu_s is None:
        plan = Colocated(**vars(serving), colocated=decode.plan(kind, 1, batch))
        every = gpu_s
    else:
        prefill, i = found.prefill.candidates, int(found.prefill_types[k])
        own = float(found.prefill_gpu_s[k])
        size_p, size_d = float(prefill.pool.layout.gpus[i]), float(decode.pool.layout.gpus[kind])
        ratio = (own / size_p) / (gpu_s / size_d)
        x, y = whole_workers(ratio, size_p, size_d)
        plan = Disaggregated(
            **vars(serving),
            prefill=prefill.plan(i, x, int(prefill.pool.max_batch[i])),
            decode=decode.plan(kind, y, batch),
        )
        every = gpu_s + own
        usd += world.price(prefill.hardware) * own
    return FrontPoint(
        plan=plan,
        tok_per_s_per_user=float(1.0 / found.tpot_s[k]),
        output_tok_per_s_per_gpu=workload.osl / every,
        total_tok_per_s_per_gpu=(workload.isl + workload.osl) / every,
        usd_per_million_output_tokens=usd / 3600.0 / workload.osl * 1e6,
        tpot_s=float(found.tpot_s[k]),
        ttft_s=float(found.ttft_s[k]),
        batch=batch,
        prefill_per_decode=ratio,
    )


def whole_workers(ratio: float, prefill_gpus: float, decode_gpus: float) -> tuple[int, int]:
    """Few prefill and decode workers with at least `ratio` of the one to the other.

    The fewest that waste under GOOD_ENOUGH of the accelerators, or those that waste least.

    >>> whole_workers(0.5, 8, 8), whole_workers(1.3334, 8, 8), whole_workers(3.0, 1, 8)
    ((1, 2), (4, 3), (3, 1))
    """
    y = np.arange(1, MOST_DECODE_WORKERS + 1)
    x = np.maximum(np.ceil(ratio * y * (1 - 1e-3)), 1.0)
    waste = (x - ratio * y) * prefill_gpus / (ratio * y * prefill_gpus + y * decode_gpus)
    good = np.flatnonzero(waste <= GOOD_ENOUGH)
    k = int(good[0]) if good.size else int(np.argmin(waste))
    return int(x[k]), int(y[k])


# ------------------------------------------------------------------------ in words


def _reason(question: Question, space: Space, sets: list[Saturated]) -> str:
    """Why no point is left: nothing fits, no network, or the limit that nothing keeps."""
    slo, osl = question.slo, question.workload.osl
    if not any(len(f) for f in space.fitting.values()):
        return f"{question.model} in {question.precision} fits on no layout of {', '.join(space.fitting)}"
    if not sets:
        return "no network is known between these accelerators; give one with --network"
    for name, limit, fastest in (
        ("TPOT", slo.tpot_s, min(float(s.tpot_s.min()) for s in sets)),
        ("TTFT", slo.ttft_s, min(float(s.ttft_s.min()) for s in sets)),
        (
            "request latency",
            slo.request_latency_s,
            min(float((s.ttft_s + s.tpot_s * max(osl - 1, 0)).min()) for s in sets),
        ),
    ):
        if limit is not None and fastest > limit:
            return f"{name}: {format_duration(limit)} allowed, the fastest takes {format_duration(fastest)}"
    return "each limit can be kept, but not all at once"


def _notes(question: Question, world: World, weight: dict[str, float], by_cost: bool) -> tuple[str, ...]:
    notes: list[str] = []
    for name in weight:
        if not world.accelerator(name).released:
            notes.append(f"{name} is announced, not released: its numbers are promises")
    if len(weight) > 1 and not by_cost:
        notes.append("accelerators count alike whatever they cost; --cost compares them by price")
    if question.slo.ttft_s is None and question.slo.request_latency_s is None:
        notes.append("no TTFT limit: prefill is chosen for throughput alone")
    notes.append(
        "saturated, without queues, ratios of workers are fractions: `pdplan recommend` plans for both"
    )
    return tuple(notes)
