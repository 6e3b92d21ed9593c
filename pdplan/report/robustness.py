"""What a plan with spare workers or headroom does when they are needed."""

from __future__ import annotations

from typing import Any

from pdplan.plan import Metrics
from pdplan.printing import percentile_name
from pdplan.question import Question, Recommendation
from pdplan.report.blocks import Block, Cell, table
from pdplan.report.contract import metrics_json
from pdplan.report.words import counted, per_cent
from pdplan.units import format_duration, format_percent, format_rate


def robust_words(question: Question) -> str:
    """; sized for 25.0 req/s (20% headroom) with 1 worker of each pool down."""
    if not question.is_robust:
        return ""
    rate = question.sizing_workload.rate
    words = "; sized for " + (format_rate(rate) if rate is not None else "the rate")
    if question.headroom:
        words += f" ({format_percent(question.headroom)} headroom)"
    return words + (f" with {_down(question)}" if question.spare_workers else "")


def robustness_json(found: Recommendation) -> dict[str, Any] | None:
    """The `robustness` object: null where neither spare workers nor headroom were asked for."""
    robust = found.robustness
    if robust is None:
        return None
    return {
        "spare_workers": found.question.spare_workers,
        "headroom": found.question.headroom,
        "sizing_rate_requests_per_s": robust.sizing_rate,
        "with_failures": metrics_json(robust.with_failures),
        "at_sizing_rate": metrics_json(robust.at_sizing_rate),
    }


def robustness_blocks(found: Recommendation) -> list[Block]:
    """The plan with all its workers, with the spare ones down, and with the headroom used up."""
    robust, best, question = found.robustness, found.best, found.question
    if robust is None or best is None:
        return []
    states: list[tuple[str, Metrics]] = [("all workers up", best.metrics)]
    down = _down(question) if question.spare_workers else "all workers up"
    if question.spare_workers:
        states.append((down, robust.with_failures))
    if question.headroom:
        states.append((f"{down}, headroom used up", robust.at_sizing_rate))
    at = percentile_name(question.slo.percentile)
    rows: list[tuple[Cell | str, ...]] = [
        (
            state,
            format_rate(metrics.requests_per_s),
            format_duration(metrics.ttft_slo_s),
            format_duration(metrics.tpot_slo_s),
            " ".join(f"{pool} {per_cent(used)}" for pool, used in metrics.utilisation.items()),
        )
        for state, metrics in states
    ]
    return [table("Robustness", f"~state|>requests|>TTFT {at}|>TPOT {at}|~busy", rows)]


def _down(question: Question) -> str:
    return f"{counted(question.spare_workers, 'worker')} of each pool down"
