"""What `front` says: the curve of each mode, the points of the best of both, who is ahead and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pdplan.plan import Plan
from pdplan.report.blocks import Block, Cell, Headline, Paragraph, Report, Table, Verbatim, table
from pdplan.report.contract import header, plan_json, question_json
from pdplan.report.parts import notes_block
from pdplan.report.pictures.plots import Curve, draw
from pdplan.report.words import (
    OBJECTIVES,
    counted,
    engine_title,
    exchange_words,
    formats_words,
    short_plan,
    workload_words,
)
from pdplan.search.front import MODES, Front, FrontPoint
from pdplan.units import format_duration, format_money, format_rate

X_TITLE = "tokens/s per user (1/TPOT)"
MARKS = {"disaggregated": "o", "colocated": "x"}


def front_report(
    found: Front, *, catalog_sha256: str = "", notes: tuple[str, ...] = (), shown: int = 16
) -> Report:
    """The report of a front; its table holds `shown` points, JSON and CSV all."""
    everything = tuple(dict.fromkeys((*notes, *found.notes)))
    best = {id(p) for p in found.points}
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "inputs": question_json(found.question, found.world),
        "front_of": "usd_per_million_output_tokens" if found.by_cost else "output_tok_per_s_per_gpu",
        "points": [_point_json(p) for p in found.points],
        "modes": {mode: [_point_json(p) for p in found.modes[mode]] for mode in MODES},
        "most_ahead": {mode: _lead_json(found, mode) for mode in MODES},
        "reason": found.reason or None,
        "layouts": found.layouts,
        "notes": list(everything),
    }
    records = tuple(_record(p, id(p) in best) for mode in MODES for p in found.modes[mode])
    blocks: list[Block] = [_headline(found), Paragraph(_asked(found))]
    if found.points:
        blocks += [
            Verbatim(terminal_plot(found)),
            Paragraph(lead_words(found), title="Who is ahead"),
            _table(found, shown),
        ]
    return Report(blocks=(*blocks, notes_block(everything)), data=data, records=records)


def y_title(found: Front) -> str:
    return "dollars per million output tokens" if found.by_cost else "output tokens/s per GPU"


def terminal_plot(found: Front) -> tuple[str, ...]:
    """Both modes' curves in plain characters."""
    curves = [
        Curve(mode, MARKS[mode], tuple((p.tok_per_s_per_user, found.value(p)) for p in found.modes[mode]))
        for mode in MODES
    ]
    return draw(curves, X_TITLE, y_title(found), log_y=found.by_cost)


def subject_words(found: Front) -> str:
    """deepseek-r1 in fp8 on h200."""
    question = found.question
    roles = (question.prefill_hardware, question.decode_hardware, question.colocated_hardware)
    if len(set(roles)) == 1:
        where = " or ".join(roles[0])
    else:
        names = [" or ".join(role) for role in roles]
        where = f"{names[0]} for prefill, {names[1]} for decode, {names[2]} colocated"
    formats = " or ".join(question.choices.precisions) or question.precision
    return f"{question.model} in {formats} on {where}"


def limits_words(found: Front) -> str:
    """TTFT ≤ 2.00 s, with the prefill pool idle; nothing where there is no limit."""
    slo = found.question.slo
    limits = [
        f"{title} ≤ {format_duration(limit)}"
        for title, field, _, _ in OBJECTIVES
        if (limit := getattr(slo, field)) is not None
    ]
    return f"{' and '.join(limits)} without queues" if limits else ""


def ahead(found: Front, mode: str) -> tuple[float, float] | None:
    """By how many times a mode is most ahead of the other, and at which tokens/s/user; None where nowhere."""
    other = next(m for m in MODES if m != mode)
    found_best: tuple[float, float] | None = None
    for x in sorted({p.tok_per_s_per_user for m in MODES for p in found.modes[m]}):
        ratio = found.best_at(mode, x) / found.best_at(other, x)
        ratio = 1 / ratio if found.by_cost else ratio
        if ratio > 1 + 1e-9 and (found_best is None or ratio > found_best[0]):
            found_best = (ratio, x)
    return found_best


def lead_words(found: Front) -> str:
    """Disaggregated by up to 2.20 times, at 41.0 tok/s/user; colocated nowhere."""
    alone = [mode for mode in MODES if found.modes[mode]]
    if len(alone) == 1:
        return f"{alone[0]} alone: no other plan was asked for, or none keeps the limits"
    words = []
    for mode in MODES:
        lead = ahead(found, mode)
        if lead is None:
            words.append(f"{mode} nowhere")
        else:
            words.append(
                f"{mode} by up to {lead[0]:.2f} times, at {format_rate(lead[1], 'tok/s')} for each user"
            )
    reach = {mode: found.modes[mode][-1].tok_per_s_per_user for mode in MODES}
    further = max(MODES, key=lambda mode: reach[mode])
    if reach[further] > 1.005 * min(reach.values()):
        words.append(f"beyond {format_rate(min(reach.values()), 'tok/s')} there is only the {further} front")
    return "; ".join(words)


def spread_points(
    points: tuple[FrontPoint, ...], count: int, *, evenly: Callable[[float], float] = math.log
) -> list[FrontPoint]:
    """At most `count` points, both ends among them, evenly spaced in tokens/s/user, or in a scale of it."""
    if len(points) <= count:
        return list(points)
    xs = [evenly(p.tok_per_s_per_user) for p in points]
    wanted = [xs[0] + (xs[-1] - xs[0]) * i / (count - 1) for i in range(count)]
    nearest = (min(range(len(xs)), key=lambda k: abs(xs[k] - x)) for x in wanted)
    return [points[k] for k in sorted(set(nearest))]


# ------------------------------------------------------------------------ inside


def _headline(found: Front) -> Headline:
    if not found.points:
        return Headline(f"No front: {found.reason}", "bad")
    slow, fast = found.points[0], found.points[-1]
    return Headline(
        f"From {_value_words(found, slow)} at {format_rate(slow.tok_per_s_per_user, 'tok/s')} for each user "
        f"to {_value_words(found, fast)} at {format_rate(fast.tok_per_s_per_user, 'tok/s')}"
    )


def _value_words(found: Front, point: FrontPoint) -> str:
    if found.by_cost:
        return f"{format_money(found.value(point))} per million output tokens"
    return f"{format_rate(found.value(point), 'output tok/s')} per GPU"


def _asked(found: Front) -> str:
    question = found.question
    words = f"{subject_words(found)}, {engine_title(question.engine)}; {workload_words(question.workload)}"
    if question.speculation.drafted:
        words += f", {counted(question.speculation.drafted, 'token')} drafted a step"
    words += exchange_words(question)
    limits = limits_words(found)
    if limits:
        words += f"; {limits}"
    return words


def _table(found: Front, shown: int) -> Table:
    rows: list[tuple[Cell | str, ...]] = []
    open_ = bool(found.question.choices)
    for point in spread_points(found.points, shown):
        other = next(m for m in MODES if m != point.mode)
        ratio = found.value(point) / found.best_at(other, point.tok_per_s_per_user)
        ratio = 1 / ratio if found.by_cost else ratio
        rows.append(
            (
                f"{format_rate(point.tok_per_s_per_user, '').strip()}",
                format_duration(point.tpot_s),
                f"{format_rate(point.output_tok_per_s_per_gpu, '').strip()}",
                format_money(point.usd_per_million_output_tokens),
                point.mode,
                short_plan(point.plan) + (f" in {formats_words(point.plan)}" if open_ else ""),
                "" if math.isnan(point.prefill_per_decode) else f"{point.prefill_per_decode:.2f}",
                f"{point.batch:,}",
                format_duration(point.ttft_s),
                "" if math.isnan(ratio) else f"{ratio:.2f}×",
            )
        )
    title = f"{counted(len(rows), 'point')} of {len(found.points)}"
    columns = ">tok/s/user|>TPOT|>tok/s/GPU|>?$/M output|mode|~plan|>?P per D|>?batch|>?TTFT|>?vs other mode"
    return table(title, columns, rows)


def _lead_json(found: Front, mode: str) -> dict[str, float] | None:
    lead = ahead(found, mode)
    return None if lead is None else {"ratio": lead[0], "tok_per_s_per_user": lead[1]}


def _numbers(point: FrontPoint) -> dict[str, Any]:
    return {
        "tok_per_s_per_user": point.tok_per_s_per_user,
        "output_tok_per_s_per_gpu": point.output_tok_per_s_per_gpu,
        "total_tok_per_s_per_gpu": point.total_tok_per_s_per_gpu,
        "usd_per_million_output_tokens": point.usd_per_million_output_tokens,
        "tpot_s": point.tpot_s,
        "ttft_s": point.ttft_s,
        "batch": point.batch,
        "prefill_workers_per_decode_worker": point.prefill_per_decode,
    }


def _point_json(point: FrontPoint) -> dict[str, Any]:
    return {**_numbers(point), "plan": plan_json(point.plan)}


def _record(point: FrontPoint, on_front: bool) -> dict[str, Any]:
    return {"on_front": on_front, "mode": point.mode, **_numbers(point), **_pools(point.plan)}


def _pools(plan: Plan) -> dict[str, Any]:
    """The same columns for every kind of plan."""
    pools = {name: asdict(pool) for name, pool in plan.pools.items()}
    return {
        f"{name}_{key}": pools.get(name, {}).get(key)
        for name in ("prefill", "decode", "colocated")
        for key in ("hardware", "workers", "tp", "pp", "dp", "ep", "max_batch")
    }
