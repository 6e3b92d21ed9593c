"""In words: what binds the best plan, and what its reader should know."""

from __future__ import annotations

import math

from pdplan.compose import World
from pdplan.question import Candidate, Question
from pdplan.search.objective import Objective
from pdplan.units import format_duration, format_percent


def binding_sentence(best: Candidate, question: Question, objective: Objective) -> str:
    """What keeps the plan from being cheaper: the limit that it uses most of, per pool."""
    metrics, slo = best.metrics, question.slo
    where = f"p{slo.percentile * 100:g}"
    shares: list[tuple[float, str]] = []
    for name, found, limit in (
        ("TTFT", metrics.ttft_slo_s, slo.ttft_s),
        ("TPOT", metrics.tpot_slo_s, slo.tpot_s),
        ("request latency", metrics.request_latency_slo_s, slo.request_latency_s),
    ):
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
        return f"no limit binds: this is the smallest deployment that holds the model ({text})"
    return text


def notes_for(question: Question, world: World, counts_gpus: bool) -> tuple[str, ...]:
    """Caveats that travel with the answer."""
    names = dict.fromkeys(
        (*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware)
    )
    notes: list[str] = []
    for name in names:
        accelerator = world.accelerator(name)
        if not accelerator.released:
            notes.append(f"{name} is announced, not released: its numbers are promises")
        elif accelerator.confidence == "low":
            notes.append(f"{name}: catalog numbers of low confidence (pdplan hardware show {name})")
        if math.isnan(world.price(name)):
            notes.append(f"{name} has no price in the catalog; give one with --price {name}=USD_PER_HOUR")
        if accelerator.scale_out is None and world.network.bandwidth_bytes_per_s is None:
            notes.append(f"{name} has no network in the catalog: not disaggregated; give one with --network")
    if counts_gpus:
        notes.append("a price is missing, so plans are ranked by number of accelerators")
    if question.slo.ttft_s is None:
        notes.append("no TTFT limit: prefill is sized to keep up, its queue may be long")
    if question.slo.tpot_s is None and question.slo.request_latency_s is None:
        notes.append("no TPOT limit: decode batches are as large as memory allows")
    return tuple(notes)
