"""What `day` says: the day's cost first, then who runs when."""

from __future__ import annotations

import itertools
from typing import Any

from pdplan.plan import Metrics
from pdplan.printing import percentile_name
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Table, table
from pdplan.report.contract import (
    candidate_json,
    header,
    infeasible_json,
    plan_json,
    question_json,
    relax_words,
)
from pdplan.report.parts import notes_block
from pdplan.report.recommendation import wanted_words
from pdplan.report.words import counted, per_cent, plan_words, serving_words
from pdplan.search.days.day import DayPlan
from pdplan.search.days.series import Schedule
from pdplan.units import format_duration, format_money, format_rate

MAX_ROWS = 48
"""Periods shown as text; CSV and JSON hold all."""
STEADY = (
    "every period is taken as steady: the time that a worker takes to start, and requests that wait "
    "through a change, are not counted"
)


def day_report(found: DayPlan, *, catalog_sha256: str = "", notes: tuple[str, ...] = ()) -> Report:
    """The report of a day, or of why its highest rate cannot be served."""
    everything = tuple(dict.fromkeys((*notes, *found.peak.notes, STEADY)))
    schedule = found.schedule
    periods = _periods(found, schedule) if schedule else []
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "inputs": {
            **question_json(found.question, found.world),
            "rates_requests_per_s": list(found.day.rates),
            "period_hours": list(found.day.hours),
            "reserved_prices_usd_per_h": dict(found.day.reserved_prices),
        },
        "plan": plan_json(schedule.plan) if schedule else None,
        "periods": periods,
        "reserve": _reserve_json(found),
        "costs": _costs_json(found) if schedule else None,
        "fixed_fleet": candidate_json(found.peak.best),
        "infeasible": infeasible_json(found.peak.infeasible),
        "notes": list(everything),
    }
    blocks = _answer(found, schedule) if schedule else _no_answer(found)
    return Report(blocks=(*blocks, notes_block(everything)), data=data, records=tuple(periods))


# ------------------------------------------------------------------------ inside


def _answer(found: DayPlan, schedule: Schedule) -> list[Block]:
    question, count = found.question, len(found.day.rates)
    blocks: list[Block] = [
        Headline(_headline(found)),
        Paragraph(f"{serving_words(schedule.plan)}; at the highest rate {wanted_words(question)}"),
        _pools_table(schedule),
        _periods_table(found, schedule),
    ]
    if count > MAX_ROWS:
        text = f"the first {MAX_ROWS} of {count:,} periods; --format csv has all of them"
        blocks.append(Paragraph(text))
    if found.usd == found.usd:
        blocks.append(_costs_table(found))
    blocks.append(
        Paragraph(
            f"the fixed fleet is the cheapest plan for {format_rate(found.day.peak)}: "
            f"{plan_words(found.fixed.plan)}",
            title="Compared with",
        )
    )
    return blocks


ROUNDED_AWAY = 0.0005
"""A share that is printed as 0.0%."""


def _headline(found: DayPlan) -> str:
    parts = []
    for name, reserve in found.reserve.items():
        beyond = int(reserve.on_demand.max())
        if reserve.gpus:
            more = f" and up to {beyond:,} on demand" if beyond else ", none on demand"
            parts.append(f"{reserve.gpus:,} {name} reserved{more}")
        else:
            parts.append(f"up to {beyond:,} {name} on demand")
    span = f"{found.day.total_h:g} h"
    words = "; ".join(parts)
    if found.usd != found.usd:
        fixed = found.fixed.metrics.gpus * found.day.total_h
        less = per_cent(1 - found.gpu_hours / fixed)
        return f"{words}: {found.gpu_hours:,.0f} GPU-hours over {span}, {less} less than a fixed fleet"
    saved = 1 - found.usd / found.usd_fixed
    if abs(saved) < ROUNDED_AWAY:
        return f"{words}: ${found.usd:,.2f} over {span}, as much as a fixed fleet"
    if saved >= 0:
        return f"{words}: ${found.usd:,.2f} over {span}, {per_cent(saved)} less than a fixed fleet"
    return f"{words}: ${found.usd:,.2f} over {span}; a fixed fleet costs {per_cent(-saved)} less"


def _pools_table(schedule: Schedule) -> Table:
    rows: list[tuple[Cell | str, ...]] = [
        (
            name,
            pool.hardware,
            pool.label,
            f"{pool.gpus_per_worker:,}",
            f"{pool.max_batch:,}" if pool.max_batch else "n/a",
            f"{schedule.workers[name].min():,.0f}",
            f"{schedule.workers[name].max():,.0f}",
        )
        for name, pool in schedule.plan.pools.items()
    ]
    return table("Workers", "pool|accelerator|layout|>GPUs each|>max batch|>least|>most", rows)


def _periods_table(found: DayPlan, schedule: Schedule) -> Table:
    at = percentile_name(found.question.slo.percentile)
    pools, hardware = list(schedule.plan.pools), list(found.reserve)
    starts = itertools.accumulate(found.day.hours, initial=0.0)
    rows: list[tuple[Cell | str, ...]] = []
    for k, (start, metrics) in enumerate(zip(starts, schedule.metrics, strict=False)):
        if k == MAX_ROWS:
            break
        rows.append(
            (
                _clock(start),
                format_rate(found.day.rates[k]),
                *(f"{schedule.workers[name][k]:,.0f}" for name in pools),
                *(f"{schedule.gpus(hw)[k]:,.0f}" for hw in hardware),
                *(f"{found.reserve[hw].on_demand[k]:,.0f}" for hw in hardware),
                format_duration(metrics.ttft_slo_s),
                format_duration(metrics.tpot_slo_s),
                per_cent(max(metrics.utilisation.values())),
            )
        )
    heads = [f">{name}" for name in (*pools, *hardware)] + [
        ">on demand" if len(hardware) == 1 else f">{hw} on demand" for hw in hardware
    ]
    columns = "|".join(["from", ">requests", *heads, f">TTFT {at}", f">TPOT {at}", ">busiest"])
    return table("By period", columns, rows)


def _costs_table(found: DayPlan) -> Table:
    total = found.day.total_h
    rows: list[tuple[Cell | str, ...]] = []
    for name, reserve in found.reserve.items():
        price = found.day.reserved_prices.get(name)
        if price is not None:
            what = f"{counted(reserve.gpus, name, name)} at {format_money(price)}/h, all the time"
            rows.append((f"{name} reserved", f"${reserve.usd_reserved:,.2f}", what))
        hours = float(reserve.on_demand @ found.day.hours)
        what = f"{hours:,.0f} GPU-hours at {format_money(found.world.price(name))}/h"
        rows.append((f"{name} on demand", f"${reserve.usd_on_demand:,.2f}", what))
    rows.append(("this day", f"${found.usd:,.2f}", f"{format_money(found.usd / total)}/h on average"))
    others = [
        ("the same on demand only", found.usd_all_on_demand),
        ("fixed fleet on demand", found.usd_fixed_on_demand),
    ]
    if found.usd_fixed < found.usd_fixed_on_demand * (1 - 1e-9):
        others.append(("fixed fleet reserved", found.usd_fixed))
    rows += [(what, f"${usd:,.2f}", f"{usd / found.usd:.2f} times this day") for what, usd in others]
    return table("Costs", "|>|", rows)


def _no_answer(found: DayPlan) -> list[Block]:
    infeasible = found.peak.infeasible
    binding = infeasible.binding if infeasible else "no layout meets the limits"
    return [
        Headline(f"The highest rate, {format_rate(found.day.peak)}, cannot be served: {binding}", "bad"),
        Bullets(title="What would help", items=relax_words(infeasible) if infeasible else ()),
    ]


def _periods(found: DayPlan, schedule: Schedule) -> list[dict[str, Any]]:
    starts = itertools.accumulate(found.day.hours, initial=0.0)
    return [
        {
            "start_h": round(start, 9),
            "hours": found.day.hours[k],
            "rate_requests_per_s": found.day.rates[k],
            "workers": {name: int(n[k]) for name, n in schedule.workers.items()},
            **({"shares": shares} if (shares := schedule.shares_at(k)) else {}),
            "gpus": {hw: int(schedule.gpus(hw)[k]) for hw in found.reserve},
            "on_demand_gpus": {hw: int(r.on_demand[k]) for hw, r in found.reserve.items()},
            **_metrics_json(metrics),
        }
        for k, (start, metrics) in enumerate(zip(starts, schedule.metrics, strict=False))
    ]


def _metrics_json(metrics: Metrics) -> dict[str, Any]:
    return {
        "usd_per_h_on_demand": metrics.usd_per_h,
        "ttft_slo_s": metrics.ttft_slo_s,
        "tpot_slo_s": metrics.tpot_slo_s,
        "request_latency_slo_s": metrics.request_latency_slo_s,
        "utilisation": metrics.utilisation,
    }


def _reserve_json(found: DayPlan) -> dict[str, Any]:
    return {
        name: {
            "gpus": reserve.gpus,
            "most_on_demand_gpus": int(reserve.on_demand.max()),
            "reserved_usd": reserve.usd_reserved,
            "on_demand_usd": reserve.usd_on_demand,
        }
        for name, reserve in found.reserve.items()
    }


def _costs_json(found: DayPlan) -> dict[str, float]:
    return {
        "hours": found.day.total_h,
        "usd": found.usd,
        "all_on_demand_usd": found.usd_all_on_demand,
        "fixed_fleet_usd": found.usd_fixed,
        "fixed_fleet_on_demand_usd": found.usd_fixed_on_demand,
        "gpu_hours": found.gpu_hours,
        "fixed_fleet_gpu_hours": found.fixed.metrics.gpus * found.day.total_h,
    }


def _clock(hours: float) -> str:
    """
    >>> _clock(7.5), _clock(49)
    ('07:30', '2 d 01:00')
    """
    days, minutes = divmod(round(hours * 60), 24 * 60)
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{days} d {clock}" if days else clock
