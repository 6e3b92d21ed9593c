"""`pdplan recommend`."""

from typing import Annotated

import typer

from pdplan.cli.options import ALTERNATIVES, COMMON, GOAL, QUESTION, ROBUST, Flags, takes
from pdplan.cli.output import ANSWERED, NO, emit, working


@takes(*QUESTION, *GOAL, *ROBUST, *ALTERNATIVES, *COMMON)
def recommend(
    flags: Flags,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="YAML file of the same inputs; flags override it.", show_default=False
        ),
    ] = None,
    *,
    mix: Annotated[
        bool,
        typer.Option(
            "--mix",
            help="Also try pools of several kinds of workers (tried anyway where an inventory limits).",
            show_default=False,
        ),
    ] = False,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Also prove how much cheaper any mix of worker types could be (integer programme).",
            show_default=False,
        ),
    ] = False,
) -> int:
    """The cheapest deployment that meets the objectives, beside the best of the other mode.

    \b
    pdplan recommend --model deepseek-r1 --hardware h200 --isl 4k --osl 1k \\
        --rate 20 --ttft 2s --tpot 40ms
    """
    from dataclasses import replace

    from pdplan.inputs import Given, question_from, read_question
    from pdplan.inputs.questions import merged
    from pdplan.report.recommendation import recommendation_report
    from pdplan.search import recommend as search

    values = dict(merged(read_question(question) if question else {}, flags.given()))
    if mix:
        values["mix"] = Given(True, "--mix")
    asked = question_from(values, flags.catalog())
    with working("searching"):
        found = search(replace(asked.question, certify=certify), asked.world)
    emit(recommendation_report(found, catalog_sha256=asked.catalog_sha256, notes=asked.notes), flags.format)
    return ANSWERED if found.best else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="The cheapest deployment that meets the objectives.")(recommend)
