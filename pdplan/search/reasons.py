"""In words: what binds the best plan, and what its reader should know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pdplan.architecture.feed_forward import Experts
from pdplan.compose import World
from pdplan.evaluate import judged
from pdplan.plan import Plan
from pdplan.question import Candidate, Question
from pdplan.search.objective import Objective, intricacy, limit_shares
from pdplan.uncertainty import slo_of
from pdplan.units import format_duration, format_money, format_percent


def binding_sentence(best: Candidate, question: Question, objective: Objective) -> str:
    """What keeps the plan from being cheaper: the limit that it uses most of, per pool."""
    metrics, slo = best.metrics, slo_of(best.plan, question.slo)
    where = f"p{slo.percentile * 100:g}"
    if slo.confidence is not None:
        where += f" at {slo.confidence * 100:g} % confidence"
    shares: list[tuple[float, str]] = []
    values = judged(metrics, slo)
    for name, field in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("request latency", "request_latency_s")):
        found, limit = values[field], getattr(slo, field)
        if limit:
            text = f"{name} {where} {format_duration(found)} of {format_duration(limit)} allowed"
            shares.append((found / limit, text))
    for pool, used in metrics.utilisation.items():
        shares.append(
            (used, f"{pool} {'links' if pool == 'network' else 'pool'} at {format_percent(used)} of capacity")
        )
    shares.sort(key=lambda s: -s[0])
    share, text = shares[0]
    if share < 0.6 and all(p.workers == 1 for p in best.plan.pools.values()):
        return f"no limit binds: one worker of each pool is the least there is ({text})"
    return text


def why_after(best: Candidate, other: Candidate, question: Question, objective: Objective) -> str:
    """Why a plan comes after the best: what it needs more, and what binds it; else its margin."""
    binds = binding_sentence(other, question, objective)
    if question.wants_goodput:
        return binds
    if objective.cost(other) <= objective.cost(best) * (1 + 1e-9):
        return _why_equal(best, other, question, objective)
    needs = []
    if best.plan.mode == other.plan.mode:
        for role, pool in other.plan.pools.items():
            mine = best.plan.pools[role]
            if (pool.hardware, pool.gpus) != (mine.hardware, mine.gpus):
                needs.append(
                    f"{role} takes {pool.gpus:,} {pool.hardware} instead of {mine.gpus:,} {mine.hardware}"
                )
    else:
        counts = [_accelerators(plan) for plan in (other.plan, best.plan)]
        needs.append(f"it takes {counts[0]} instead of {counts[1]}")
    return "; ".join([*needs, binds])


def _accelerators(plan: Plan) -> str:
    """8 h20 and 16 h100: of each kind, whatever the role."""
    count: dict[str, int] = {}
    for pool in plan.pools.values():
        count[pool.hardware] = count.get(pool.hardware, 0) + pool.gpus
    return " and ".join(f"{gpus:,} {hardware}" for hardware, gpus in count.items())


def _why_equal(best: Candidate, other: Candidate, question: Question, objective: Objective) -> str:
    """What decides between plans of equal cost, as `rank` does."""
    here, there = (
        max(limit_shares(c.metrics, slo_of(c.plan, question.slo)), default=0.0) for c in (best, other)
    )
    if there > here:
        return (
            f"as cheap with less margin: {format_percent(there)} of its tightest limit used, "
            f"{format_percent(here)} here"
        )
    if intricacy(other, objective) > intricacy(best, objective):
        return "as cheap, and less plain: pipeline stages, partly spread experts or workers over nodes"
    return "as cheap, and no better in its margins"


def notes_for(question: Question, world: World, counts_gpus: bool) -> tuple[str, ...]:
    """Caveats that travel with the answer."""
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    notes = [note for name in names for note in _hardware_notes(name, world)]
    if counts_gpus:
        notes.append("a price is missing, so plans are ranked by number of accelerators")
    else:
        notes += price_notes(names, world)
    slo = question.slo
    if slo.ttft_s is None:
        notes.append(_no_ttft_limit(question))
    if question.workload.osl <= 1:
        notes.append("one output token: there is no time per token after it, a TPOT limit does not apply")
    elif slo.tpot_s is None and slo.request_latency_s is None:
        notes.append("no TPOT limit: decode batches are as large as memory allows")
    return tuple(notes)


def plan_notes(plan: Plan, world: World) -> tuple[str, ...]:
    """What a plan asks of its engine beyond the layout: redundant experts."""
    groups = world.model(plan.model).layers
    experts = {g.feed_forward.experts for g in groups if isinstance(g.feed_forward, Experts)}
    found: list[str] = []
    for role, pool in plan.pools.items():
        copies = sorted({-(-count // pool.ep) * pool.ep - count for count in experts} - {0})
        if copies:
            many = " or ".join(str(c) for c in copies)
            found.append(
                f"{role}: ep{pool.ep} does not divide the {max(experts)} experts; {many} of them run twice "
                "(redundant experts, EPLB)"
            )
    return tuple(found)


def _no_ttft_limit(question: Question) -> str:
    free = question.workload.rate is None and question.workload.concurrency is None
    if free and not question.headroom and question.slo.request_latency_s is None:
        return (
            "no TTFT limit: where prefill is what binds, 1% of what it could do is left free, so that its "
            "queue ends; give --ttft, or leave more room with --headroom 10%"
        )
    return "no TTFT limit: prefill is sized to keep up, its queue may be long"


def _hardware_notes(name: str, world: World) -> Iterator[str]:
    accelerator = world.accelerator(name)
    if not accelerator.released:
        yield f"{name} is announced, not released: its numbers are promises"
    elif accelerator.confidence == "low":
        yield f"{name}: catalog numbers of low confidence (pdplan hardware show {name})"
    if math.isnan(world.price(name)):
        yield f"{name} has no price in the catalog; give one with --price {name}=USD_PER_HOUR"
    if accelerator.scale_out is None and world.network.bandwidth_bytes_per_s is None:
        yield f"{name} has no network in the catalog: not disaggregated; give one with --network"


def price_notes(names: Iterable[str], world: World) -> Iterator[str]:
    """Where prices come from; list prices of different sellers are not one market."""
    lots = [(name, lot) for name in names if (lot := world.lots(name)[0]).date]
    if not lots:
        return
    words = [
        f"{name} {format_money(lot.usd_per_h)} ({lot.kind}, {lot.provider}, {lot.date})" for name, lot in lots
    ]
    kinds = len({lot.kind for _, lot in lots})
    title = "catalog price" if len(lots) == 1 else "catalog prices"
    if kinds > 1:
        title = f"catalog prices of {kinds} kinds, which compare but roughly"
    yield f"{title}: {', '.join(words)}; your own with --price"
