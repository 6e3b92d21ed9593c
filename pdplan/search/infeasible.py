"""Why nothing works, how near the nearest miss is, and what to relax.

The answer is checked, not guessed: limits are loosened to what the fastest
layout reaches and the search runs again; what it finds is the nearest miss, and
the loosened limits are what to relax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pdplan.compose import World, build_setting
from pdplan.evaluate import judged, pool_memory
from pdplan.memory import request_cache_bytes
from pdplan.question import Infeasible, Question, Recommendation
from pdplan.search.workers.candidates import decode_choices, possible_layouts
from pdplan.serving.pools import Pool
from pdplan.uncertainty import slo_of, slo_on
from pdplan.units import format_bytes, format_count, format_duration, format_money
from pdplan.workload import Slo

if TYPE_CHECKING:
    from pdplan.search.space import Space

Search = Callable[[Question, World], Recommendation]

HEADROOM = 1.05
"""Limits are proposed this far above the fastest layout, which meets them only while idle."""
MAX_TIMES = 1e6
"""A limit loosened beyond this factor is given up."""
MAX_TTFT_S = 1e6
"""As is one loosened beyond any that could be asked for."""
MAX_SLOWER = 32.0
"""Layouts of one model differ by less than this in TPOT."""


def explain_infeasible(
    question: Question, world: World, every: Sequence[Space], search: Search
) -> Infeasible:
    """The binding limit, the nearest miss and verified ways out."""
    found = _explained(question, world, every, search)
    if question.slo.confidence is None:
        return found
    estimate = replace(question, slo=replace(question.slo, confidence=None), alternatives=0)
    if search(estimate, world).best is None:
        return found
    return replace(found, relax=(*found.relax, "no --confidence: there is a plan that holds at the estimate"))


def _explained(question: Question, world: World, every: Sequence[Space], search: Search) -> Infeasible:
    if not any(len(f) for space in every for f in space.fitting.values()):
        return _fits_nowhere(question, world, every)
    if question.wants_goodput and question.spare_workers:
        without = search(replace(question, spare_workers=0, alternatives=0), world)
        if without.best is not None:
            text = (
                f"{_budget_in_words(question)} do not hold {question.spare_workers} spare workers of "
                "each pool beside one that serves"
            )
            return Infeasible(binding=text, nearest=without.best, relax=("--spare 0",))
    loosened, binding = _loosen(question, every)
    if _has_budget(question) and not question.wants_goodput:
        unlimited = search(replace(loosened, max_gpus=None, max_usd_per_h=None), world)
        relax, needs = _over_budget(unlimited, question)
        if unlimited.best is not None and relax:
            text = f"the request rate needs {' and '.join(needs)} within the SLO; the budget is "
            text += _budget_in_words(question)
            served = search(
                replace(question, workload=replace(question.workload, rate=None), alternatives=0), world
            )
            if served.best is not None:
                relax.append(f"--rate {math.floor(served.best.metrics.requests_per_s * 1e3) / 1e3:g}")
            plain = replace(loosened, spare_workers=0, headroom=0.0, alternatives=0)
            if question.is_robust and search(plain, world).best is not None:
                relax.append("--spare 0 --headroom 0")
            return Infeasible(
                binding="; ".join([*binding, text]),
                nearest=unlimited.best,
                misses=_misses(unlimited, question),
                relax=(*_slo_flags(question, loosened), *relax),
            )
    # Does any TTFT do? If not, no queue is to blame: something cannot carry the load at all.
    if search(_boundless(loosened), world).best is None:
        free = replace(loosened, max_gpus=None, max_usd_per_h=None)
        if not question.wants_goodput and search(_boundless(free), world).best is not None:
            loosened = free  # too small a budget for any TTFT: both have to give way
        elif (slower := _slower(loosened, world, search)) is not None:
            loosened = slower
        else:
            words = "; ".join([*binding, *_overload(question, every)])
            ways = tuple(way for way in _OVERLOAD if way != "--mode any" or question.mode != "any")
            return Infeasible(binding=words, nearest=None, relax=ways)
    # Queues: loosen TTFT and latency until a pool of some size meets them.
    factor = 1.0
    while factor <= MAX_TIMES and factor * (loosened.slo.ttft_s or 0.0) <= MAX_TTFT_S:
        wider = replace(loosened, slo=_wider(loosened.slo, factor))
        answer = search(wider, world) if wider != question else None
        if answer is not None and answer.best is not None:
            wider, answer = _latency_kept(wider, answer, loosened.slo.request_latency_s, world, search)
            return Infeasible(
                binding="; ".join(binding) or _limit_in_words(answer, question),
                nearest=answer.best,
                misses=_misses(answer, question),
                relax=(*_slo_flags(question, wider), *_over_budget(answer, question)[0]),
            )
        factor *= 1.5
    return Infeasible(binding="; ".join(binding) or "no layout meets the limits", nearest=None)


def _boundless(question: Question) -> Question:
    """Without limits that a queue can break."""
    return replace(question, slo=replace(question.slo, ttft_s=None, request_latency_s=None))


def _wider(slo: Slo, factor: float) -> Slo:
    """Limits that a queue can break, so many times as wide."""
    if slo.ttft_s:
        slo = replace(slo, ttft_s=_nice(slo.ttft_s * factor))
    if slo.request_latency_s:
        slo = replace(slo, request_latency_s=_nice(slo.request_latency_s * factor))
    return slo


def _latency_kept(
    wider: Question, answer: Recommendation, latency_s: float | None, world: World, search: Search
) -> tuple[Question, Recommendation]:
    """Without the wider latency limit, where the wider TTFT alone does."""
    if not wider.slo.ttft_s or wider.slo.request_latency_s == latency_s:
        return wider, answer
    kept = replace(wider, slo=replace(wider.slo, request_latency_s=latency_s))
    again = search(kept, world)
    return (kept, again) if again.best is not None else (wider, answer)


def _slower(question: Question, world: World, search: Search) -> Question | None:
    """The question with a wider TPOT limit, where that lets anything work at all; else None.

    The fastest layout may be too large for the accelerators that there are.
    """
    if question.slo.tpot_s is None:
        return None
    factor = 1.25
    while factor <= MAX_SLOWER:
        slo = replace(question.slo, tpot_s=_nice(question.slo.tpot_s * factor))
        if search(_boundless(replace(question, slo=slo)), world).best is not None:
            return replace(question, slo=slo)
        factor *= 1.25
    return None


def _has_budget(question: Question) -> bool:
    return question.max_gpus is not None or question.max_usd_per_h is not None


def _over_budget(found: Recommendation, question: Question) -> tuple[list[str], list[str]]:
    """Flags that would allow a plan, and what it takes beyond the budget, in words."""
    flags: list[str] = []
    words: list[str] = []
    if found.best is None:
        return flags, words
    gpus, usd = int(found.best.metrics.gpus), float(found.best.metrics.usd_per_h)
    if question.max_gpus is not None and gpus > question.max_gpus:
        flags.append(f"--max-gpus {gpus}")
        words.append(counted_accelerators(gpus))
    if question.max_usd_per_h is not None and usd > question.max_usd_per_h:
        flags.append(f"--max-usd-per-h {math.ceil(usd * 100 - 1e-6) / 100:g}")
        words.append(f"{format_money(usd)}/h")
    return flags, words


def _budget_in_words(question: Question) -> str:
    """64 accelerators and $200.00/h."""
    words = []
    if question.max_gpus is not None:
        words.append(counted_accelerators(question.max_gpus))
    if question.max_usd_per_h is not None:
        words.append(f"{format_money(question.max_usd_per_h)}/h")
    return " and ".join(words)


_OVERLOAD = ("a faster --network", "a lower --rate", "--mode any")


def _overload(question: Question, every: Sequence[Space]) -> Iterator[str]:
    """What carries no load at all, whatever is allowed to take long: the network between the pools."""
    space = next((s for s in every if s.prefill), None)
    if space is None:
        yield "no layout of these accelerators can prefill the prompts at this rate"
        return
    setting = next(iter(space.prefill.values())).candidates.pool.setting
    size = float(request_cache_bytes(setting.stack, setting.formats, question.workload.isl))
    yield (
        f"KV transfer: {format_bytes(size)} a request at {float(question.workload.rate or 0):g} requests/s "
        "is more than the network between the pools carries"
    )


def _loosen(question: Question, every: Sequence[Space]) -> tuple[Question, list[str]]:
    """The question with every limit that no layout reaches at all set to what one does reach."""
    slo = question.slo
    words: list[str] = []
    fastest: dict[str, float] = {}
    for space, hardware, fitting in ((s, *item) for s in every for item in s.fitting.items()):
        for colocated in (False, True):
            if len(fitting) and (hardware in space.decode or not colocated):
                found = decode_choices(fitting, question.workload, None, colocated)
                pools = (hardware,) if colocated else (hardware, hardware)
                needed = slo_on(slo, space.serving, *pools).tpot_factor * float(found.fastest_tpot_s.min())
                fastest[hardware] = min(fastest.get(hardware, math.inf), needed)
    quickest = min(fastest.values())
    at = "" if slo.confidence is None else f" at {slo.confidence * 100:g} % confidence"
    if slo.tpot_s is not None and quickest * HEADROOM >= slo.tpot_s:
        words.append(
            f"TPOT: the fastest layout needs {format_duration(quickest)} per token with an idle batch{at}, "
            f"{format_duration(slo.tpot_s)} are allowed"
        )
        slo = replace(slo, tpot_s=_nice(quickest * HEADROOM))
    prefills = [
        slo_on(slo, space.serving, hw, hw).ttft_factor * float(c.service.time_s.min())
        for space in every
        for hw, c in space.prefill.items()
        if len(c)
    ]
    shortest = min(prefills, default=None)
    if shortest is not None and slo.ttft_s is not None and (shortest + quickest) * HEADROOM >= slo.ttft_s:
        words.append(
            f"TTFT: the fastest layout prefills a prompt in {format_duration(shortest)} without any "
            f"queue{at}, {format_duration(slo.ttft_s)} are allowed"
        )
        slo = replace(slo, ttft_s=_nice((shortest + quickest) * HEADROOM))
    least = (shortest or 0.0) + quickest * max(question.workload.osl - 1, 0)
    if slo.request_latency_s is not None and least * HEADROOM >= slo.request_latency_s:
        words.append(
            f"request latency: the fastest layout needs {format_duration(least)}{at}, "
            f"{format_duration(slo.request_latency_s)} are allowed"
        )
        slo = replace(slo, request_latency_s=_nice(least * HEADROOM))
    return replace(question, slo=slo), words


def _nice(seconds: float) -> float:
    """Rounded up to three digits, so that the proposed flag is short and still true."""
    digits = 2 - math.floor(math.log10(seconds))
    scale = 10.0**digits
    return math.ceil(seconds * scale - 1e-9) / scale


def _slo_flags(question: Question, loosened: Question) -> list[str]:
    flags = []
    for flag, name in (("--ttft", "ttft_s"), ("--tpot", "tpot_s"), ("--latency", "request_latency_s")):
        before, after = getattr(question.slo, name), getattr(loosened.slo, name)
        if before != after and after is not None:
            flags.append(f"{flag} {_in_words(after)}")
    return flags


def _in_words(seconds: float) -> str:
    """A duration as people type it: 174ms, 1.17s.

    >>> _in_words(0.174), _in_words(1.17)
    ('174ms', '1.17s')
    """
    return f"{seconds * 1e3:.6g}ms" if seconds < 1 else f"{seconds:.6g}s"


def _limit_in_words(nearest: Recommendation, question: Question) -> str:
    misses = _misses(nearest, question)
    names = {
        "ttft_s": "TTFT",
        "tpot_s": "TPOT",
        "request_latency_s": "request latency",
        "gpus": "accelerators",
        "usd_per_h": "cost",
    }
    return "; ".join(
        f"{names[key]}: the nearest plan needs {_quantity(key, found)}, {_quantity(key, allowed)} are allowed"
        for key, (found, allowed) in misses.items()
    )


def _quantity(key: str, value: float) -> str:
    if key == "usd_per_h":
        return f"{format_money(value)}/h"
    return format_count(value) if key == "gpus" else format_duration(value)


def _misses(nearest: Recommendation, question: Question) -> dict[str, tuple[float, float]]:
    """Limits that the nearest plan misses in the case that it is sized for: (found, allowed)."""
    assert nearest.best is not None
    slo = slo_of(nearest.best.plan, question.slo)
    metrics = nearest.robustness.at_sizing_rate if nearest.robustness else nearest.best.metrics
    pairs = {
        **{name: (value, getattr(slo, name)) for name, value in judged(metrics, slo).items()},
        "gpus": (nearest.best.metrics.gpus, question.max_gpus),
        "usd_per_h": (nearest.best.metrics.usd_per_h, question.max_usd_per_h),
    }
    return {k: (float(f), float(limit)) for k, (f, limit) in pairs.items() if limit is not None and f > limit}


def _fits_nowhere(question: Question, world: World, every: Sequence[Space]) -> Infeasible:
    """The model fits on no worker: say by how much the best layout misses, and what would change that."""
    best: tuple[float, str] | None = None
    weights_fit = False
    for space, hardware in ((s, hw) for s in every for hw in s.fitting):
        setting = build_setting(world, space.serving, hardware)
        most = min(question.max_gpus_per_worker or np.inf, space.limits.most_gpus(hardware))
        found = possible_layouts(world, setting, hardware, int(most) if np.isfinite(most) else None)
        shape = np.shape(found.tp)
        if not found.tp.size:
            continue
        pool = Pool(setting=setting, layout=found, workers=np.ones(shape), max_batch=np.ones(shape))
        budget = pool_memory(pool, question.workload)
        spare = np.broadcast_to(budget.cache, shape)
        weights_fit = weights_fit or bool(np.any(spare > 0))
        index = int(np.argmax(spare))
        need = budget.weights + budget.reserve + budget.sequence
        missing = float(np.broadcast_to(budget.sequence - budget.cache, shape)[index])
        gpus = counted_accelerators(int(found.gpus[index]))
        within = hardware
        if question.max_usd_per_h is not None:
            within = f"the {hardware} that {format_money(question.max_usd_per_h)}/h pays for"
        text = (
            f"{question.model} in {space.serving.precision} fits on no layout of {within}: "
            f"on {gpus} it needs "
            f"{format_bytes(float(np.broadcast_to(need, shape)[index]))} each "
            f"and finds {format_bytes(float(budget.usable))}"
        )
        if best is None or missing < best[0]:
            best = (missing, text)
    if question.max_usd_per_h is not None and all(
        s.limits.most_gpus(h) < 1 for s in every for h in s.fitting
    ):
        price = min(world.price(hardware) for space in every for hardware in space.fitting)
        return Infeasible(
            binding=f"{format_money(question.max_usd_per_h)}/h does not pay for one accelerator: "
            f"the cheapest costs {format_money(price)}/h",
            nearest=None,
            relax=(f"--max-usd-per-h {price:g}",),
        )
    text = best[1] if best else f"{question.model} can be laid out on none of the given accelerators"
    relax = ["an accelerator with more memory"]
    if question.max_gpus or question.max_gpus_per_worker:
        relax.insert(0, "more accelerators (--max-gpus, --max-gpus-per-worker)")
    if question.max_usd_per_h:
        relax.insert(0, "more money (--max-usd-per-h)")
    if question.precision not in ("fp4", "int4"):
        relax.append("a smaller --precision")
    if weights_fit:
        relax.append("a shorter --isl + --osl")
    return Infeasible(binding=text, nearest=None, relax=tuple(relax))


def counted_accelerators(count: int) -> str:
    """How many, in words.

    >>> counted_accelerators(1), counted_accelerators(8)
    ('1 accelerator', '8 accelerators')
    """
    return f"{count} accelerator{'' if count == 1 else 's'}"
