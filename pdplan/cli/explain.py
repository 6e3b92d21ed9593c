"""`pdplan explain`."""

from typing import Annotated

import typer

from pdplan.cli.options import COMMON, CONCURRENCY, QUESTION, Flags, takes
from pdplan.cli.output import ANSWERED, NO, emit, write


@takes(*QUESTION, *CONCURRENCY, *COMMON)
def explain(
    flags: Flags,
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN",
            help="Plan file, or the JSON that recommend printed; without one, the flags ask for a plan.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """The derivation of a plan's metrics, line by line: formula, numbers, result, source."""
    from pdplan.explain import derive
    from pdplan.report.explanation import render

    if plan is not None:
        from pdplan.inputs import read_deployment

        found = read_deployment(plan, flags.catalog(), flags.given())
        write(render(derive(found.world, found.plan, found.workload, found.slo), flags.format))
        return ANSWERED
    from pdplan.inputs import question_from
    from pdplan.search import recommend

    asked = question_from(flags.given(), flags.catalog())
    answer = recommend(asked.question, asked.world)
    if answer.best is None:
        from pdplan.report.recommendation import recommendation_report

        emit(
            recommendation_report(answer, catalog_sha256=asked.catalog_sha256, notes=asked.notes),
            flags.format,
        )
        return NO
    workload = asked.question.workload.at_rate(answer.best.metrics.requests_per_s)
    write(render(derive(asked.world, answer.best.plan, workload, asked.question.slo), flags.format))
    return ANSWERED


def register(app: typer.Typer) -> None:
    app.command(short_help="The derivation of a plan, line by line.")(explain)
