"""`pdplan fleet`."""

from typing import Annotated

import typer

from pdplan.cli.options import COMMON, MARKET, PRICES, Flag, Flags, takes
from pdplan.cli.output import ANSWERED, NO, emit, working

BUDGETS = (
    Flag("max_gpus", "Most accelerators of all deployments together.", "N"),
    Flag("max_usd_per_h", "Most dollars an hour of all deployments together.", "USD"),
    Flag("time_limit", "Longest processor time to look for cheaper plans (20s). [default: 20s]", "TIME"),
)


@takes(*MARKET, *PRICES, *BUDGETS, *COMMON)
def fleet(
    flags: Flags,
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML: deployments, and what they share.")],
) -> int:
    """Several deployments that share accelerators: which of them each one gets, at least cost together.

    \b
    pdplan fleet examples/fleet.yaml
    """
    from pdplan.inputs.fleets import read_fleet
    from pdplan.report.fleet import fleet_report
    from pdplan.search.fleets.fleet_plan import plan_fleet

    asked = read_fleet(file, flags.catalog(), flags.given())
    with working("searching"):
        found = plan_fleet(asked.wanted, asked.budgets)
    emit(fleet_report(found, catalog_sha256=asked.catalog_sha256, notes=asked.notes), flags.format)
    return ANSWERED if found.assigned else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="Several deployments that share accelerators, at least cost together.")(fleet)
