"""Blocks that reports of a plan share: pools, objectives, cost, TTFT taken apart."""

from __future__ import annotations

import math
from collections.abc import Callable

from pdplan.calibrated import Calibration
from pdplan.evaluate import judged
from pdplan.plan import Metrics, Mixed, Plan
from pdplan.printing import percentile_name
from pdplan.report.blocks import Bullets, Cell, Paragraph, Table, table
from pdplan.report.words import OBJECTIVES, per_cent
from pdplan.uncertainty import ErrorBar, error_bars
from pdplan.units import format_duration, format_money, format_rate
from pdplan.workload import Slo

_ROUNDED_AWAY = 5e-4


def pools_table(plan: Plan, metrics: Metrics) -> Table:
    """Who runs where, and how busy it is."""
    rows: list[tuple[Cell | str, ...]] = []
    chunked = any(pool.chunk_tokens for pool in plan.pools.values())
    mixed = isinstance(plan, Mixed)
    for name, pool in plan.pools.items():
        rows.append(
            (
                name,
                *([_share_words(plan, name)] if mixed else []),
                pool.hardware,
                f"{pool.workers:,}",
                pool.label,
                *([_count(pool.chunk_tokens)] if chunked else []),
                f"{pool.gpus:,}",
                _count(metrics.max_batch.get(name)),
                _count(metrics.running.get(name)),
                _busy(metrics.utilisation.get(name)),
            )
        )
    network = metrics.utilisation.get("network")
    if network is not None:
        blanks = [""] * (6 + mixed + chunked)
        rows.append(("network", *blanks, _busy(network)))
    chunk, requests = ">chunk|" if chunked else "", ">requests|" if mixed else ""
    columns = f"pool|{requests}accelerator|>workers|layout|{chunk}>GPUs|>?max batch|>?running|>busy"
    return table("Pools", columns, rows)


def _share_words(plan: Plan, name: str) -> str:
    """Of a part of a mixed pool, the share of the requests that the router has to send it."""
    return per_cent(plan.named_parts[name].share) if isinstance(plan, Mixed) else ""


def objectives_table(metrics: Metrics, slo: Slo) -> Table:
    """What was asked beside what was found, at the SLO's percentile."""
    at = percentile_name(slo.percentile)
    judged_values = judged(metrics, slo)
    rows: list[tuple[Cell | str, ...]] = []
    for title, limit_field, found_field, mean_field in OBJECTIVES:
        limit, found = getattr(slo, limit_field), judged_values[limit_field]
        expected = format_duration(getattr(metrics, found_field))
        rows.append(
            (
                title,
                format_duration(getattr(metrics, mean_field)),
                *((expected,) if slo.confidence is None else (expected, format_duration(found))),
                f"≤ {format_duration(limit)}" if limit is not None else "none",
                margin(found, limit) if limit is not None else "",
            )
        )
    pessimistic = "" if slo.confidence is None else f"|>{at} at {per_cent(slo.confidence)}"
    return table("Objectives", f"objective|>mean|>{at}{pessimistic}|>limit|margin", rows)


def error_bars_block(
    plan: Plan, metrics: Metrics, calibration: Calibration | None = None, *, throughput: bool = False
) -> Paragraph:
    """Where measurements would lie, in words; of throughput and cost where they are results."""
    bars = error_bars(plan, metrics, calibration, throughput=throughput)
    words = [f"mean TTFT {bar_words(bars['ttft_mean_s'])}", f"mean TPOT {bar_words(bars['tpot_mean_s'])}"]
    if throughput:
        rate, usd = bars["requests_per_s"], bars["usd_per_million_output_tokens"]
        words.append(f"{format_rate(rate.low)} to {format_rate(rate.high)}")
        if math.isfinite(usd.low):
            words.append(f"{bar_words(usd, format_money)} per million output tokens")
    return Paragraph(
        f"{', '.join(words)}: as far from the prediction as 8 of 10 measured closed-loop benchmarks were",
        title="Error bars",
    )


def bar_words(bar: ErrorBar, show: Callable[[float], str] = format_duration) -> str:
    """331 ms to 2.29 s."""
    return f"{show(bar.low)} to {show(bar.high)}"


def confidence_blocks(plan: Plan, metrics: Metrics, slo: Slo) -> tuple[Paragraph, ...]:
    """What sizing to the pessimistic end did; nothing where no confidence was asked for."""
    if slo.confidence is None:
        return ()
    at, values = percentile_name(slo.percentile), judged(metrics, slo)
    parts = [
        f"{title} {at} {format_duration(getattr(metrics, found_field))} expected, "
        f"{format_duration(values[limit_field])} at {per_cent(slo.confidence)}"
        for title, limit_field, found_field, _ in OBJECTIVES
        if getattr(slo, limit_field) is not None
    ]
    if not parts:
        words = "no limit is set, so there is nothing to be confident of"
    else:
        words = (
            f"held to the pessimistic end: {'; '.join(parts)}. Of measured runs like this one, "
            f"{per_cent(slo.confidence)} stayed below {slo.ttft_factor:.2f} times the predicted TTFT and "
            f"{slo.tpot_factor:.2f} times the predicted TPOT"
        )
    return (Paragraph(words, title="Confidence"),)


def margin(found: float, limit: float) -> Cell:
    """How far a value is from its limit, and on which side."""
    if not math.isfinite(found):
        return Cell("missed", "bad")
    share = found / limit - 1
    if found > limit:
        # A miss that rounds to nothing is still a miss.
        near = f"missed by {max(share, _ROUNDED_AWAY):.1%}"
        return Cell(near if share < 10 else f"missed, {found / limit:,.0f} times the limit", "bad")
    return Cell("met exactly" if -share < _ROUNDED_AWAY else f"met, {per_cent(-share)} below", "good")


def figures_table(metrics: Metrics) -> Table:
    """Throughput and cost."""
    works = not metrics.reason
    rows: list[tuple[Cell | str, ...]] = [
        ("requests", format_rate(metrics.requests_per_s), "" if works else "asked for, not served")
    ]
    if works:
        rows.append(
            (
                "tokens per GPU",
                format_rate(metrics.total_tok_per_s_per_gpu, "tok/s"),
                f"{format_rate(metrics.output_tok_per_s_per_gpu, 'tok/s')} of them output",
            )
        )
    rows.append(("one user reads", format_rate(metrics.tok_per_s_per_user, "tok/s"), ""))
    if math.isfinite(metrics.usd_per_h):
        month = f"${metrics.usd_per_h * 730:,.0f} a month"
        rows.append(("cost", f"{format_money(metrics.usd_per_h)}/h", month))
    if math.isfinite(metrics.usd_per_h) and works:
        rows.append(
            (
                "per million tokens",
                format_money(metrics.usd_per_million_output_tokens),
                f"by output tokens; {format_money(metrics.usd_per_million_tokens)} by all tokens",
            )
        )
    if metrics.kv_transfer_mean_s:
        rows.append(
            (
                "KV transfer",
                format_duration(metrics.kv_transfer_mean_s),
                "a request, its wait for links included",
            )
        )
    if math.isfinite(metrics.power_kw):
        rows.append(("power", f"{metrics.power_kw:,.1f} kW", "accelerators at their rated power"))
    return table("Figures", "|>|", rows)


def ttft_paragraph(metrics: Metrics) -> Paragraph:
    """The mean TTFT as a sum."""
    parts = [f"{name} {format_duration(value)}" for name, value in metrics.parts.items()]
    words = f"mean TTFT {format_duration(metrics.ttft_mean_s)} = {' + '.join(parts)}"
    return Paragraph(words, title="Where TTFT goes")


def notes_block(*groups: tuple[str, ...]) -> Bullets:
    return Bullets(title="Notes", items=tuple(dict.fromkeys(note for group in groups for note in group)))


def _count(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _busy(value: float | None) -> Cell | str:
    if value is None:
        return ""
    return Cell(per_cent(value), "bad" if value > 1 else "")
