"""`pdplan models`."""

from pathlib import Path
from typing import Annotated

import typer

from pdplan.cli.completion import models
from pdplan.cli.options import COMMON, Flags, takes
from pdplan.cli.output import ANSWERED, emit, nothing_holds, say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
@takes(*COMMON)
def list_models(
    flags: Flags,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Only names that hold this text.", show_default=False)
    ] = "",
) -> int:
    """Every model of the catalogs. Exit code 1 if no name holds the text."""
    from pdplan.report.models import models_report

    catalog = flags.catalog()
    wanted = text.casefold()
    found = [
        m
        for m in catalog.models()
        if any(wanted in n.casefold() for n in (m.name, *m.hugging_face_ids, *m.aliases))
    ]
    say(f"warning: {problem}" for problem in catalog.problems)
    emit(models_report(found), flags.format)
    return ANSWERED if found else nothing_holds("model", text, [m.name for m in catalog.models()])


@app.command("show", short_help="One model: parameters, KV cache, weights, layers.")
@takes(*COMMON)
def show_model(
    flags: Flags,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name or Hugging Face id.", autocompletion=models)
    ],
) -> None:
    """One model: parameters, KV bytes per token, weight bytes by precision, layers."""
    from pdplan.report.models import model_report

    catalog = flags.catalog()
    found = catalog.model(name)
    emit(model_report(found, str(catalog.file_of(found))), flags.format)


@app.command("add", short_help="Add a model from its config.json.")
@takes(*COMMON)
def add_model(
    flags: Flags,
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="The model's config.json from Hugging Face.")
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name in the catalog. [default: the model's own]", show_default=False
        ),
    ] = None,
    hugging_face_id: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Its Hugging Face id.", show_default=False)
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Folder to write to. [default: the first --catalog, the first of $PDPLAN_CATALOG, "
            "~/.config/pdplan/catalog]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an entry of the same name.")] = False,
) -> None:
    """Add a model from its config.json to a catalog of your own."""
    from pdplan.catalog.add_model import add_from_config, target_folder
    from pdplan.report.models import model_report

    folder = target_folder(Path(directory) if directory else None, flags.folders)
    added = add_from_config(Path(config), folder, name=name, hugging_face_id=hugging_face_id, replace=force)
    say([f"wrote {added.path}", *added.remarks])
    emit(model_report(added.model, str(added.path)), flags.format)
