"""`pdplan front`."""

from typing import Annotated

import typer

from pdplan.cli.options import COMMON, QUESTION, Flag, Flags, takes
from pdplan.cli.output import ANSWERED, NO, emit, say, working

NO_PART = frozenset(
    {
        *("rate", "concurrency", "max_gpus", "max_usd_per_h", "isl_cv", "osl_cv", "arrival_cv", "percentile"),
        *("objective", "spare", "headroom", "alternatives"),
    }
)
"""What a saturated deployment of any size does not depend on."""
SHOWN = 16
OWN = (
    Flag("points", f"How many points the table shows (JSON and CSV have all). [default: {SHOWN}]", "N"),
    Flag("output", "Also draw it into a file: .png, .svg or .html (pip install 'pdplan[plot]').", "FILE"),
)


@takes(*(flag for flag in QUESTION if flag.key not in NO_PART), *OWN, *COMMON)
def front(
    flags: Flags,
    question: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="YAML file of the same inputs; flags override it.", show_default=False
        ),
    ] = None,
    *,
    cost: Annotated[
        bool,
        typer.Option(
            "--cost",
            help="Dollars per million output tokens instead of tokens/s per accelerator.",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Tokens/s per accelerator against tokens/s of one user: the best of both modes, no rate needed.

    \b
    pdplan front --model deepseek-r1 --hardware h200 --isl 4k --osl 1k --ttft 2s
    """
    from pdplan.inputs import question_from, read_question
    from pdplan.inputs.given import Findings
    from pdplan.inputs.quantities import count_from
    from pdplan.inputs.questions import merged
    from pdplan.report.front import front_report
    from pdplan.report.pictures.drawing import picture_path
    from pdplan.report.pictures.fronts import draw_front
    from pdplan.search.front import pareto_front

    values = merged(read_question(question) if question else {}, flags.given("points", "output"))
    findings = Findings()
    own = flags.given()
    shown = count_from(own, "points", findings, 2, 1000) or SHOWN
    path = (
        findings.attempt(picture_path, str(own["output"].value), own["output"].where)
        if "output" in own
        else None
    )
    findings.check()
    asked = question_from(
        {key: value for key, value in values.items() if key not in NO_PART}, flags.catalog(), needs_load=False
    )
    with working("searching"):
        found = pareto_front(asked.question, asked.world, by_cost=cost)
    emit(
        front_report(found, catalog_sha256=asked.catalog_sha256, notes=asked.notes, shown=shown), flags.format
    )
    if not found.points:
        return NO
    if path is not None:
        draw_front(found, path)
        say([f"wrote {path}"])
    return ANSWERED


def register(app: typer.Typer) -> None:
    app.command(short_help="Throughput against speed for one user: the Pareto front.")(front)
