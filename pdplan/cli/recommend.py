"""`pdplan recommend`."""

from typing import Annotated

import typer

from pdplan.cli.options import ALTERNATIVES, COMMON, GOAL, MIX, QUESTION, ROBUST, Flag, Flags, takes, with_mix
from pdplan.cli.output import ANSWERED, NO, emit, say, working

OWN = (
    Flag(
        "sensitivity_plot",
        "Also draw the sensitivity into a file: .png, .svg or .html (pip install 'pdplan[plot]').",
        "FILE",
    ),
)


@takes(*QUESTION, *GOAL, *ROBUST, *ALTERNATIVES, *OWN, *COMMON)
def recommend(
    flags: Flags,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="YAML file of the same inputs; flags override it.", show_default=False
        ),
    ] = None,
    *,
    mix: MIX = False,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify",
            help="Also prove how much cheaper any mix of worker types could be (integer programme).",
            show_default=False,
        ),
    ] = False,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Also: what each input moves when it is 20% less or more, and break-even points.",
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

    from pdplan.inputs import question_from, read_question
    from pdplan.inputs.given import Findings
    from pdplan.inputs.questions import merged
    from pdplan.report.recommendation import recommendation_report
    from pdplan.search import recommend as search

    own = flags.given()
    findings = Findings()
    path = None
    if "sensitivity_plot" in own:
        from pdplan.report.pictures.drawing import picture_path

        given = own["sensitivity_plot"]
        path = findings.attempt(picture_path, str(given.value), given.where)
    findings.check()
    own = with_mix(flags.given("sensitivity_plot"), mix)
    values = merged(read_question(question) if question else {}, own)
    asked = question_from(values, flags.catalog())
    with working("searching"):
        found = search(replace(asked.question, certify=certify), asked.world)
    why = None
    if found.best and (sensitivity or path):
        from pdplan.errors import InputError
        from pdplan.report.why import Why
        from pdplan.search.what_if.why import explore

        try:
            with working("varying inputs"):
                moves, turns = explore(found)
            why = Why(sensitivity=moves, break_even=turns)
        except InputError as problem:  # the answer stands
            say(problem.messages)
    emit(
        recommendation_report(found, catalog_sha256=asked.catalog_sha256, notes=asked.notes, why=why),
        flags.format,
    )
    if why is not None and path is not None:
        from pdplan.report.pictures.tornado_picture import draw_sensitivity

        draw_sensitivity(why, path)
        say([f"wrote {path}"])
    return ANSWERED if found.best else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="The cheapest deployment that meets the objectives.")(recommend)
