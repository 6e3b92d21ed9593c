"""`pdplan catalog`."""

from pathlib import Path
from typing import Annotated

import typer

from pdplan.cli.options import CATALOG, Flags, takes
from pdplan.cli.output import ANSWERED, BAD_INPUT, say, write

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("validate", short_help="Check every catalog file, all errors at once.")
@takes(*CATALOG)
def validate(
    flags: Flags,
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DIR", help="Folders to check beside the shipped catalogs.", show_default=False
        ),
    ] = None,
) -> int:
    """Check every catalog file: all errors at once, with file:line:column. Exit code 2 if there are any."""
    from pdplan.catalog.store import Catalog

    catalog = Catalog([*(Path(f) for f in folders or ()), *flags.folders])
    messages = catalog.check()
    if messages:
        say([*(f"error: {m}" for m in messages), f"{len(messages)} to mend"])
        return BAD_INPUT
    say(f"warning: {folder}: no catalog file (.yaml) is in this folder" for folder in catalog.empty_folders())
    models, accelerators = catalog.models(), catalog.accelerators()
    write(f"all well: {len(models)} models, {len(accelerators)} accelerators\n")
    return ANSWERED


@app.command("path", short_help="The folders that are searched, in order.")
@takes(*CATALOG)
def path(flags: Flags) -> None:
    """The folders that are searched, in this order."""
    from pdplan.catalog.store import Catalog, shipped_folder

    folders = [*Catalog(flags.folders).folders, shipped_folder("accelerator"), shipped_folder("model")]
    write("".join(f"{folder}\n" for folder in folders))
