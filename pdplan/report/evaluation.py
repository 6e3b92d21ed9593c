"""What `evaluate` says of a given deployment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pdplan.compose import plan_bill
from pdplan.plan import Metrics
from pdplan.question import Candidate
from pdplan.report.blocks import Block, Headline, Paragraph, Report
from pdplan.report.contract import (
    error_bars_json,
    header,
    metrics_json,
    pessimistic_json,
    plan_json,
    record,
    slo_json,
    workload_json,
    world_json,
)
from pdplan.report.market import bill_blocks, bill_json
from pdplan.report.mixture import routes_blocks, routes_json
from pdplan.report.parts import (
    confidence_blocks,
    error_bars_block,
    figures_table,
    notes_block,
    objectives_table,
    pools_table,
    ttft_paragraph,
)
from pdplan.report.words import cost_words, plan_words, serving_words, slo_words, workload_words
from pdplan.routes import routes_of
from pdplan.uncertainty import slo_of
from pdplan.units import format_rate

if TYPE_CHECKING:
    from pdplan.inputs import Deployment


def evaluation_report(deployment: Deployment, metrics: Metrics) -> Report:
    """The report of one plan's metrics."""
    plan, slo = deployment.plan, slo_of(deployment.plan, deployment.slo)
    throughput = deployment.workload.concurrency is not None
    routes = routes_of(deployment.world, plan, deployment.workload, slo)
    data = {
        **header(deployment.catalog_sha256),
        "inputs": {
            "workload": workload_json(deployment.workload),
            "slo": slo_json(slo),
            **world_json(deployment.world),
        },
        "plan": plan_json(plan),
        "metrics": metrics_json(metrics),
        **routes_json(routes),
        "bill": bill_json(plan_bill(deployment.world, plan)),
        "error_bars": error_bars_json(plan, metrics, deployment.world.calibration, throughput=throughput),
        **pessimistic_json(plan, metrics, slo),
        "notes": list(deployment.notes),
    }
    words = f"{plan_words(plan)}: {cost_words(metrics)}"
    bars = error_bars_block(plan, metrics, deployment.world.calibration, throughput=throughput)
    blocks: list[Block] = []
    if metrics.reason:
        blocks.append(Headline(f"This plan cannot do it: {metrics.reason}{_at_most(metrics)}", "bad"))
        blocks.append(Paragraph(words))
    else:
        blocks.append(Headline(f"{format_rate(metrics.requests_per_s)} with {words}"))
    blocks += [
        Paragraph(f"{serving_words(plan)}; for {workload_words(deployment.workload)}, {slo_words(slo)}"),
        pools_table(plan, metrics),
        objectives_table(metrics, slo),
        *routes_blocks(routes, slo),
        *confidence_blocks(plan, metrics, slo),
        *(() if metrics.reason else (bars,)),
        figures_table(metrics),
        ttft_paragraph(metrics),
        *bill_blocks(plan, deployment.world),
    ]
    blocks.append(notes_block(deployment.notes))
    return Report(blocks=tuple(blocks), data=data, records=(record(Candidate(plan=plan, metrics=metrics)),))


def _at_most(metrics: Metrics) -> str:
    """The rate that pools and network keep up with: beyond full batches their use grows with the rate."""
    used = max(metrics.utilisation.values(), default=0.0)
    if not (math.isfinite(used) and used > 1.0):
        return ""
    return f"; it keeps up with at most {format_rate(metrics.requests_per_s / used)}"
