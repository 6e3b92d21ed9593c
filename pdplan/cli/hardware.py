"""`pdplan hardware`."""

from typing import Annotated

import typer

from pdplan.cli.completion import accelerators
from pdplan.cli.options import COMMON, Flag, Flags, takes
from pdplan.cli.output import ANSWERED, emit, nothing_holds, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

FILTER = (Flag("vendor", "Only this vendor's (NVIDIA, AMD, Google, ...).", "NAME"),)


@app.command("list")
@takes(*FILTER, *COMMON)
def list_hardware(
    flags: Flags,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only names that hold this text.", show_default=False)
    ] = "",
) -> int:
    """Every accelerator of the catalogs. Exit code 1 if no name holds the text."""
    from pdplan.errors import UnknownNameError
    from pdplan.report.hardware import accelerators_report

    catalog = flags.catalog()
    found = catalog.accelerators()
    vendor = flags.values.get("vendor")
    if vendor:
        vendors = {a.vendor for a in found}
        if vendor.casefold() not in {v.casefold() for v in vendors}:
            raise UnknownNameError("vendor", vendor, vendors, f"(known: {', '.join(sorted(vendors))})")
        found = [a for a in found if a.vendor.casefold() == vendor.casefold()]
    wanted = text.casefold()
    found = [a for a in found if any(wanted in n.casefold() for n in (a.name, a.full_name, *a.aliases))]
    say(f"warning: {problem}" for problem in catalog.problems)
    emit(accelerators_report(found), flags.format)
    return ANSWERED if found else nothing_holds("accelerator", text, [a.name for a in catalog.accelerators()])


@app.command("show")
@takes(*COMMON)
def show_hardware(
    flags: Flags,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or alias.", autocompletion=accelerators)],
) -> None:
    """One accelerator: every number with its unit, source and date."""
    from pdplan.report.hardware import accelerator_report

    catalog = flags.catalog()
    found = catalog.accelerator(name)
    emit(accelerator_report(found, str(catalog.file_of(found))), flags.format)
