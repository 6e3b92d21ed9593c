"""`pdplan evaluate`."""

from typing import Annotated

import typer

from pdplan.cli.options import (
    COMMON,
    CONCURRENCY,
    LENGTHS,
    MARKET,
    OBJECTIVES,
    RATE,
    TRAFFIC,
    WORLD,
    Flags,
    takes,
)
from pdplan.cli.output import ANSWERED, NO, emit


@takes(*LENGTHS, *RATE, *CONCURRENCY, *TRAFFIC, *OBJECTIVES, *WORLD, *MARKET, *COMMON)
def evaluate(
    flags: Flags,
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="Plan file in YAML, or the JSON that recommend printed.")
    ],
) -> int:
    """The metrics of a given deployment, no search; flags override the file's workload and objectives.

    Exit code 1 if the deployment cannot carry the load at all.
    """
    from pdplan.compose import evaluate_plan
    from pdplan.inputs import read_deployment
    from pdplan.report.evaluation import evaluation_report

    found = read_deployment(plan, flags.catalog(), flags.given())
    metrics = evaluate_plan(found.world, found.plan, found.workload, found.slo)
    emit(evaluation_report(found, metrics), flags.format)
    return NO if metrics.reason else ANSWERED


def register(app: typer.Typer) -> None:
    app.command(short_help="The metrics of a given deployment, no search.")(evaluate)
