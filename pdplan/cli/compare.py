"""`pdplan compare`."""

from dataclasses import replace
from typing import Annotated

import typer

from pdplan.cli.options import (
    COMMON,
    CONCURRENCY,
    EXPERTS,
    LENGTHS,
    MARKET,
    MIX,
    OBJECTIVES,
    RATE,
    SIZES,
    SPECULATION,
    TRAFFIC,
    WORLD,
    Flag,
    Flags,
    takes,
    with_mix,
)
from pdplan.cli.output import ANSWERED, NO, emit, working

VARIED = (
    Flag("model", "Model; repeat it for one row each.", "NAME", many=True),
    Flag(
        "hardware",
        "Accelerator; repeat it for one row each; commas give a row the choice.",
        "NAME",
        many=True,
    ),
    Flag(
        "mode",
        "disaggregated, colocated or any; repeat it for one row each. [default: any]",
        "MODE",
        many=True,
    ),
    Flag("precision", "Weights; repeat it for one row each.", "NAME", many=True),
    Flag("engine", "Engine; repeat it for one row each. [default: vllm]", "NAME", many=True),
    Flag("kv_precision", "KV cache of every row: auto, bf16, fp8. [default: auto]", "NAME"),
)


GRID = tuple(
    replace(flag, many=True, help=f"{flag.help} With --modes, repeat it for a map.")
    if flag.key in ("isl", "osl", "tpot")
    else flag
    for flag in (*LENGTHS, *OBJECTIVES)
)


@takes(
    *VARIED,
    *GRID,
    *RATE,
    *CONCURRENCY,
    *SIZES,
    *TRAFFIC,
    *WORLD,
    *MARKET,
    *SPECULATION,
    *EXPERTS,
    *COMMON,
)
def compare(
    flags: Flags,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Plan files to evaluate, one row each; or one question file whose inputs the flags vary.",
            show_default=False,
        ),
    ] = None,
    *,
    mix: MIX = False,
    modes: Annotated[
        bool,
        typer.Option(
            "--modes",
            help="Disaggregated against colocated: how many times the requests for the same means.",
            show_default=False,
        ),
    ] = False,
) -> int:
    """Plans, models, accelerators or modes side by side for one workload, cheapest first.

    \b
    pdplan compare --model llama-3.3-70b --hardware h200 --hardware mi300x \\
        --isl 4k --osl 1k --rate 20
    """
    from pdplan.comparison import compare_files, compare_questions
    from pdplan.errors import InputError
    from pdplan.inputs.questions import is_question_file, read_question
    from pdplan.modes import compare_modes, plain
    from pdplan.report.comparison import comparison_report
    from pdplan.report.modes import modes_report

    catalog, given = flags.catalog(), with_mix(flags.given(), mix)
    plans = bool(files) and not (len(files) == 1 and is_question_file(files[0]))  # type: ignore[index,arg-type]
    if modes:
        if plans:
            raise InputError(
                "--modes searches a plan for each mode; give a question file or flags, no plan files"
            )
        with working("searching"):
            contests = compare_modes(read_question(files[0]) if files else {}, given, catalog)
        emit(modes_report(contests), flags.format)
        return ANSWERED if any(c.verdict != "none" for c in contests.contests) else NO
    given = plain(given)
    if files and plans:
        found = compare_files(files, given, catalog)
    else:
        found = compare_questions(read_question(files[0]) if files else {}, given, catalog)
    emit(comparison_report(found), flags.format)
    return ANSWERED if any(row.answer for row in found.rows) else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="Plans, models, accelerators or modes side by side.")(compare)
