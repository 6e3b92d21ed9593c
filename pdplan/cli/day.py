"""`pdplan day`."""

from typing import Annotated

import typer

from pdplan.cli.options import (
    COMMON,
    EXPERTS,
    GOAL,
    HARDWARE,
    LENGTHS,
    MARKET,
    MIX,
    MODE,
    MODEL,
    OBJECTIVES,
    ROBUST,
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

RATES = (
    Flag("rates", "Requests per second of each period, e.g. 5,8,13,8.", "RATES"),
    Flag("period", "Length of a period. [default: the day in equal parts; a table's own times]", "TIME"),
    Flag("series", "Which workload, where a table holds several.", "NAME"),
    Flag(
        "reserved_prices",
        "Dollars per reserved accelerator and hour, used or not, e.g. h200=1.90; repeatable.",
        "NAME=USD",
        True,
        "--reserved-price",
    ),
)


@takes(
    *RATES, *MODEL, *HARDWARE, *LENGTHS, *SIZES, *TRAFFIC, *OBJECTIVES, *MODE, *WORLD, *MARKET, *SPECULATION,
    *EXPERTS, *GOAL, *ROBUST, *COMMON,
)  # fmt: skip
def day(
    flags: Flags,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="CSV of rates, or YAML of the same inputs; flags override it.",
            show_default=False,
        ),
    ] = None,
    *,
    mix: MIX = False,
) -> int:
    """Rates that vary: how many workers run when, what to reserve and what to rent on demand.

    \b
    pdplan day --rates 4,3,3,6,14,20,24,22,18,16,12,7 --reserved-price h200=1.90 \\
        --model deepseek-r1 --hardware h200 --isl 4k --osl 1k --ttft 2s --tpot 40ms
    """
    from pdplan.inputs.days import day_from, read_day
    from pdplan.inputs.questions import merged
    from pdplan.report.day import day_report
    from pdplan.search.days.day import plan_day

    found = day_from(merged(read_day(file) if file else {}, with_mix(flags.given(), mix)), flags.catalog())
    asked = found.asked
    with working("searching"):
        plan = plan_day(asked.question, found.day, asked.world)
    emit(day_report(plan, catalog_sha256=asked.catalog_sha256, notes=asked.notes), flags.format)
    return ANSWERED if plan.schedule else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="Rates over a day: workers by the hour, reserved and on demand.")(day)
