"""What `compare` says: one row each, cheapest first."""

from __future__ import annotations

import math
from typing import Any

from pdplan.comparison import Comparison, Row
from pdplan.evaluate import judged
from pdplan.plan import Metrics
from pdplan.printing import percentile_name
from pdplan.question import Candidate
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, table
from pdplan.report.contract import (
    candidate_json,
    error_bars_json,
    header,
    pessimistic_json,
    record,
    slo_json,
    workload_json,
    world_json,
)
from pdplan.report.parts import bar_words, notes_block
from pdplan.report.words import (
    OBJECTIVES,
    cost_words,
    counted,
    engine_title,
    exchange_words,
    formats_words,
    hourly,
    per_cent,
    plan_words,
    short_plan,
    slo_words,
    workload_words,
)
from pdplan.uncertainty import ErrorBar, error_bars, slo_of
from pdplan.units import format_duration, format_money, format_rate


def comparison_report(found: Comparison) -> Report:
    """The report of a comparison."""
    data: dict[str, Any] = {
        **header(found.catalog_sha256),
        "inputs": {
            "workload": workload_json(found.workload),
            "slo": slo_json(found.slo),
            **world_json(found.world),
        },
        "rows": [_row_json(row, found) for row in found.rows],
        "notes": list(found.notes),
    }
    blocks: tuple[Block, ...] = (
        _headline(found),
        Paragraph(_asked(found)),
        _table(found),
        *_confidence(found),
        _error_bars(found),
        Bullets(title="Why not", items=_reasons(found)),
        notes_block(found.notes),
    )
    return Report(blocks=blocks, data=data, records=tuple(_record(row, found) for row in found.rows))


# ------------------------------------------------------------------------ inside


def _headline(found: Comparison) -> Headline:
    best = found.best
    if best is None:
        return Headline(f"None of {counted(len(found.rows), 'row')} meets the objectives", "bad")
    words = f"{plan_words(best.plan)}: {cost_words(best.metrics)}"
    if found.by_goodput:
        return Headline(f"Most: {format_rate(best.metrics.requests_per_s)} with {words}")
    return Headline(f"Cheapest: {words}")


def _asked(found: Comparison) -> str:
    """What all rows share: the model and how it is served, the workload, the objectives."""
    label, keys = found.rows[0].label, _telling(found)
    shared = [label[key] for key in ("model",) if key in label and key not in keys]
    if "precision" in label and "precision" not in keys and not found.open_formats:
        shared.append(f"in {label['precision']}")
    served = [" ".join(shared)] if shared else []
    if "engine" in label and "engine" not in keys:
        served.append(engine_title(label["engine"]))
    plans = {exchange_words(row.answer.plan) for row in found.rows if row.answer}
    shared_exchange = plans.pop() if len(plans) == 1 else ""
    lead = f"{', '.join(served)}{shared_exchange}; " if served else ""
    return f"{lead}for {workload_words(found.workload)}, {slo_words(found.slo)}"


def _table(found: Comparison) -> Block:
    keys, open_ = _telling(found), found.open_formats
    at = percentile_name(found.slo.percentile)
    rows: list[tuple[Cell | str, ...]] = []
    for row in found.rows:
        label = tuple(row.label[key] for key in keys)
        if row.answer is None:
            rows.append((*label, *([""] if open_ else []), Cell("none", "bad"), "", "", "", "", "", ""))
            continue
        metrics = row.answer.metrics
        plan = short_plan(row.answer.plan)
        rows.append(
            (
                *label,
                *([formats_words(row.answer.plan)] if open_ else []),
                plan if row.meets else Cell(plan, "bad"),
                f"{metrics.gpus:,.0f}",
                format_rate(metrics.requests_per_s) if found.by_goodput else hourly(metrics),
                _ratio_text(row.answer, found),
                format_money(metrics.usd_per_million_output_tokens),
                format_duration(metrics.ttft_slo_s),
                format_duration(metrics.tpot_slo_s),
            )
        )
    columns = [*(f"+{key}" for key in keys), *(["+~formats"] if open_ else []), "~plan", ">GPUs"]
    columns += [">requests" if found.by_goodput else ">cost", ">?vs best", ">?$/M output"]
    columns += [f">TTFT {at}", f">TPOT {at}"]
    return table("", "|".join(columns), rows)


def _bars(row: Row, found: Comparison) -> dict[str, ErrorBar]:
    """The error bars of a row's answer."""
    assert row.answer is not None
    answer, own = row.answer, found.world.calibration
    return error_bars(answer.plan, answer.metrics, own, throughput=row.throughput)


def _error_bars(found: Comparison) -> Block:
    """Of every answer where 8 of 10 measurements would lie: means, and throughput where that is a result."""
    keys = _telling(found)
    throughput = any(row.throughput for row in found.rows)
    rows: list[tuple[Cell | str, ...]] = []
    for row in found.rows:
        if row.answer is None:
            continue
        bars = _bars(row, found)
        rest: tuple[str, ...] = ()
        if throughput:
            rate, usd = bars.get("requests_per_s"), bars.get("usd_per_million_output_tokens")
            priced = usd is not None and not math.isnan(usd.low)
            rest = (
                bar_words(rate, format_rate) if rate else "as asked for",
                bar_words(usd, format_money) if usd and priced else "",
            )
        ends = (bar_words(bars["ttft_mean_s"]), bar_words(bars["tpot_mean_s"]))
        rows.append((*(row.label[key] for key in keys), *ends, *rest))
    columns = [*(f"+{key}" for key in keys), ">mean TTFT", ">mean TPOT"]
    columns += [">requests", ">?$/M output"] if throughput else []
    title = "Error bars: where 8 of 10 measured closed-loop benchmarks would lie"
    return table(title, "|".join(columns), rows)


def _confidence(found: Comparison) -> tuple[Block, ...]:
    """What confidence the rows were held to, and what that left of each limit."""
    slo = found.slo
    if slo.confidence is None:
        return ()
    sure, keys, words = per_cent(slo.confidence), _telling(found), []
    for row in found.rows:
        if row.answer is None:
            continue
        values = judged(row.answer.metrics, slo_of(row.answer.plan, slo))
        parts = [
            f"{title} {format_duration(getattr(row.answer.metrics, field))} expected, "
            f"{format_duration(values[limit])} at {sure}"
            for title, limit, field, _ in OBJECTIVES
            if getattr(slo, limit) is not None
        ]
        words.append(f"{', '.join(row.label[key] for key in keys)}: {'; '.join(parts)}")
    return (Bullets(title=f"Held to the pessimistic end, {sure} confidence", items=tuple(words)),)


def _reasons(found: Comparison) -> tuple[str, ...]:
    """What keeps rows from an answer, or from its objectives."""
    keys = _telling(found)
    return tuple(
        f"{', '.join(row.label[key] for key in keys)}: {row.reason}" for row in found.rows if row.reason
    )


def _telling(found: Comparison) -> list[str]:
    """The labels that differ between rows; at least one."""
    keys = list(found.rows[0].label)
    return [key for key in keys if len({row.label[key] for row in found.rows}) > 1] or keys[:1]


def ratio(answer: Candidate, found: Comparison) -> float:
    """Cost over that of the cheapest row that meets the objectives; or requests over the most."""
    best = found.best
    if best is None:
        return math.nan
    if found.by_goodput:
        return _share(answer.metrics.requests_per_s, best.metrics.requests_per_s)
    return _share(_amount(answer.metrics), _amount(best.metrics))


def _amount(metrics: Metrics) -> float:
    return float(metrics.usd_per_h)


def _share(found: float, base: float) -> float:
    return found / base if base else math.nan


def _ratio_text(answer: Candidate, found: Comparison) -> str:
    value = ratio(answer, found)
    return "n/a" if math.isnan(value) else f"{value:.2f}×"


def _row_json(row: Row, found: Comparison) -> dict[str, Any]:
    answer = candidate_json(row.answer) or {"plan": None, "metrics": None}
    bars: dict[str, Any] = {"error_bars": None}
    if row.answer:
        plan, metrics = row.answer.plan, row.answer.metrics
        bars["error_bars"] = error_bars_json(
            plan, metrics, found.world.calibration, throughput=row.throughput
        )
        bars |= pessimistic_json(plan, metrics, found.slo)
    return {
        **row.label,
        **answer,
        **bars,
        "ratio_to_best": ratio(row.answer, found) if row.answer else None,
        "meets_objectives": row.meets,
        "reason": row.reason or None,
    }


def _record(row: Row, found: Comparison) -> dict[str, Any]:
    found_ratio = ratio(row.answer, found) if row.answer else None
    plan = record(row.answer) if row.answer else {}
    label = {f"asked_{key}": value for key, value in row.label.items()}
    return {
        **label,
        "ratio_to_best": found_ratio,
        "meets_objectives": row.meets,
        "reason": row.reason,
        **plan,
        **_flat_bars(row, found),
    }


def _flat_bars(row: Row, found: Comparison) -> dict[str, float | None]:
    """Columns of the 80 % intervals: the same for every row."""
    names = ("ttft_mean_s", "tpot_mean_s", "requests_per_s", "usd_per_million_output_tokens")
    bars = _bars(row, found) if row.answer else {}
    ends: dict[str, float | None] = {}
    for name in names:
        bar = bars.get(name)
        ends[f"low_{name}"] = bar.low if bar else None
        ends[f"high_{name}"] = bar.high if bar else None
    return ends
