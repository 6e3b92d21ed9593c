"""What `fleet` says: what all deployments cost together, each one's plan, what is used of what there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pdplan.plan import Metrics
from pdplan.printing import percentile_name
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Table, table
from pdplan.report.contract import (
    candidate_json,
    error_bars_json,
    header,
    question_json,
    record,
    world_json,
)
from pdplan.report.market import bill_json, bill_table, there_words
from pdplan.report.mixture import PROVEN
from pdplan.report.parts import margin, notes_block
from pdplan.report.words import (
    counted,
    hourly,
    per_cent,
    short_plan,
    slo_words,
    workload_words,
)
from pdplan.search.fleets.fleet_plan import Assigned, FleetInfeasible, FleetPlan
from pdplan.units import format_duration, format_money, format_percent

WIDE_GAP = 0.01
"""From this gap on the reader is told that more time may help."""

_TITLES = {"usd_per_h": "cost", "gpus": "GPUs"}


def fleet_report(found: FleetPlan, *, catalog_sha256: str = "", notes: tuple[str, ...] = ()) -> Report:
    """The report of a fleet, or of why there is none."""
    world = found.world
    everything = tuple(dict.fromkeys((*notes, *_own_notes(found))))
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "inputs": {
            "deployments": {w.name: question_json(w.question, w.world) for w in found.wanted},
            "max_gpus": _limit(found.budgets.max_gpus),
            "max_usd_per_h": _limit(found.budgets.max_usd_per_h),
            "time_limit_s": found.budgets.time_limit_s,
            **world_json(world),
        },
        "deployments": [_assigned_json(each) for each in found.assigned],
        "bill": bill_json(found.bill) if found.bill else None,
        "stock": _stock_json(found),
        "usd_per_h": found.bill.usd_per_h if found.bill else None,
        "gpus": found.bill.gpus if found.bill else None,
        "lower_bound": found.lower_bound if found.assigned else None,
        "gap": found.gap if found.assigned else None,
        "infeasible": _infeasible_json(found.infeasible),
        "notes": list(everything),
    }
    blocks = _answer(found) if found.bill else _no_answer(found, found.infeasible)
    shown = found.assigned or (found.infeasible.nearest if found.infeasible else ())
    kind = "answer" if found.assigned else "nearest_miss"
    records = tuple({"answer": kind, "deployment": each.name, **record(each.candidate)} for each in shown)
    return Report(blocks=(*blocks, notes_block(everything)), data=data, records=records)


# ------------------------------------------------------------------------ inside


def _answer(found: FleetPlan) -> list[Block]:
    bill = found.bill
    assert bill is not None
    used = sum(each.candidate.metrics.gpus for each in found.assigned)
    words = f"{counted(len(found.assigned), 'deployment')} on {counted(used, 'GPU')}"
    if not found.counts_gpus:
        words += f": {format_money(bill.usd_per_h)}/h, ${bill.usd_per_h * 730:,.0f} a month"
    return [
        Headline(words),
        _deployments_table(found.assigned),
        _objectives_table(found.assigned),
        _stock_table(found),
        *bill_table(bill, found.world),
        Paragraph(_proof_words(found), title="How good"),
    ]


def _deployments_table(assigned: Sequence[Assigned]) -> Table:
    rows: list[tuple[Cell | str, ...]] = [
        (
            each.name,
            each.question.model,
            short_plan(each.candidate.plan),
            f"{each.candidate.metrics.gpus:,.0f}",
            hourly(each.candidate.metrics),
            _busiest(each.candidate.metrics),
        )
        for each in assigned
    ]
    return table("Deployments", "deployment|model|~plan|>GPUs|>cost|>busiest", rows)


def _objectives_table(assigned: Sequence[Assigned]) -> Table:
    """Of every deployment what was asked, and what it does."""
    rows: list[tuple[Cell | str, ...]] = []
    for each in assigned:
        metrics, slo = each.candidate.metrics, each.question.slo
        margins = [
            margin(found, limit)
            for found, limit in (
                (metrics.ttft_slo_s, slo.ttft_s),
                (metrics.tpot_slo_s, slo.tpot_s),
                (metrics.request_latency_slo_s, slo.request_latency_s),
            )
            if limit is not None
        ]
        late = next((m for m in margins if m.style == "bad"), None)
        rows.append(
            (
                each.name,
                workload_words(each.question.workload),
                slo_words(slo),
                f"{format_duration(metrics.ttft_slo_s)} {percentile_name(slo.percentile)}",
                format_duration(metrics.tpot_slo_s),
                late or Cell("met" if margins else "", "good"),
            )
        )
    return table("Objectives", "deployment|~requests|~objectives|>TTFT|>TPOT|met", rows)


def _stock_table(found: FleetPlan) -> Table:
    rows: list[tuple[Cell | str, ...]] = [
        (
            entry["hardware"],
            f"{entry['gpus']:,.0f}" if math.isfinite(entry["gpus"]) else "any",
            f"{entry['used']:,}",
            f"{entry['left']:,.0f}" if math.isfinite(entry["left"]) else "",
        )
        for entry in _stock_json(found)
    ]
    return table("Stock", "accelerator|>there|>taken|>left", rows)


def _stock_json(found: FleetPlan) -> list[dict[str, Any]]:
    """Of every accelerator how many there are, how many are taken, how many stay."""
    world, bill = found.world, found.bill
    entries = []
    for hardware in sorted(world.accelerators):
        there = float(sum(lot.gpus for lot in world.lots(hardware)))
        used = sum(line.gpus for line in bill.lines if line.hardware == hardware) if bill else 0
        entries.append({"hardware": hardware, "gpus": there, "used": used, "left": there - used})
    return entries


def _proof_words(found: FleetPlan) -> str:
    if found.gap < PROVEN:
        return "no plans of these deployments cost less together (integer programme, gap 0)"
    bound = f"{found.lower_bound:,.0f} GPUs" if found.counts_gpus else f"{format_money(found.lower_bound)}/h"
    return (
        f"no plans of these deployments take less than {bound} together: these are at most "
        f"{format_percent(found.gap, 2)} above the least"
        + ("; a longer --time-limit may bring them down" if found.gap > WIDE_GAP else "")
    )


def _no_answer(found: FleetPlan, infeasible: FleetInfeasible | None) -> list[Block]:
    assert infeasible is not None
    blocks: list[Block] = [
        Headline(f"No plans for {counted(len(found.wanted), 'deployment')}: {infeasible.binding}", "bad")
    ]
    if infeasible.nearest:
        blocks.append(Paragraph("these plans miss by least", title="The nearest miss"))
        blocks.append(_deployments_table(infeasible.nearest))
    if infeasible.misses:
        rows: list[tuple[Cell | str, ...]] = [
            (
                _TITLES.get(name, name.replace("inventory_", "inventory of ")),
                _quantity(name, needed),
                _quantity(name, allowed),
                margin(needed, allowed),
            )
            for name, (needed, allowed) in infeasible.misses.items()
        ]
        blocks.append(table("By how much", "limit|>found|>allowed|margin", rows))
    blocks.append(Bullets(title="What would help", items=infeasible.relax))
    return blocks


def _quantity(name: str, value: float) -> str:
    return f"{format_money(value)}/h" if name == "usd_per_h" else f"{value:,.0f}"


def _own_notes(found: FleetPlan) -> list[str]:
    if found.counts_gpus:
        return ["a price is missing, so the fewest accelerators are sought instead of the least cost"]
    world = found.world
    lots = {hw: world.lots(hw) for hw in sorted(world.accelerators)}
    dated = [
        f"{hw} {format_money(lot.usd_per_h)} ({lot.label}, {lot.date}; {there_words(lot)} there)"
        for hw, many in lots.items()
        for lot in many
        if lot.date
    ]
    return [f"catalog prices: {', '.join(dated)}"] if dated else []


def _busiest(metrics: Metrics) -> str:
    name, used = max(metrics.utilisation.items(), key=lambda item: float(item[1]))
    return f"{name} {per_cent(used)}"


def _assigned_json(each: Assigned) -> dict[str, Any]:
    candidate = each.candidate
    return {
        "name": each.name,
        **(candidate_json(candidate) or {}),
        "error_bars": error_bars_json(candidate.plan, candidate.metrics),
    }


def _infeasible_json(infeasible: FleetInfeasible | None) -> dict[str, Any] | None:
    if infeasible is None:
        return None
    return {
        "binding": infeasible.binding,
        "nearest": [_assigned_json(each) for each in infeasible.nearest],
        "failing": dict(infeasible.failing),
        "misses": {
            name: {"found": found, "allowed": allowed} for name, (found, allowed) in infeasible.misses.items()
        },
        "relax": list(infeasible.relax),
    }


def _limit(value: float) -> float | None:
    return value if math.isfinite(value) else None
