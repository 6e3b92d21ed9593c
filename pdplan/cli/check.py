"""`pdplan check`."""

from typing import TYPE_CHECKING, Annotated

import typer

from pdplan.cli.options import CALIBRATION, CATALOG, CONFIDENCE, Flags, format_from, takes
from pdplan.cli.output import ANSWERED, NO, emit, write
from pdplan.errors import InputError, quoted_list

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pdplan.budget.baseline import Difference
    from pdplan.budget.result import Check
FORMATS = ("text", "json", "markdown", "csv", "github", "junit")
SUFFIXES = {".txt": "text", ".json": "json", ".md": "markdown", ".csv": "csv", ".xml": "junit"}


@takes(CONFIDENCE, *CALIBRATION, *CATALOG)
def check(
    flags: Flags,
    budget: Annotated[str, typer.Argument(metavar="BUDGET", help="Budget file in YAML.")] = "budget.yaml",
    *,
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="text, json, markdown, csv, github (annotations) or junit.")
    ] = "text",
    save: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Write the answer to a file, too (.json, .md, .csv, .txt, .xml for JUnit); repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Show what changed since this JSON of an earlier check."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="BUDGET", help="Show what differs from another budget file.")
    ] = None,
) -> int:
    """Deployments against their limits, for CI: exit code 0 all met, 1 breached, 2 bad input."""
    chosen = format_from(format, FORMATS)
    files = {path: _format_of_file(path) for path in save or ()}
    if baseline is not None and against is not None:
        raise InputError("--baseline and --against are given; give one of them")

    from pdplan.budget.judge import check_budget
    from pdplan.budget.read import read_budget
    from pdplan.documents.files import refuse_to_overwrite, write_atomic

    for path in files:
        refuse_to_overwrite(path, [file for file in (budget, baseline, against) if file], "--save")
    catalog = flags.catalog()
    result = check_budget(read_budget(budget, catalog, flags.given()))
    changes = _changes(result, baseline, against, flags)
    for path, name in files.items():
        write_atomic(path, _rendered(result, changes, name))
    if chosen in ("github", "junit"):
        write(_rendered(result, changes, chosen))
    else:
        from pdplan.report.check import check_report

        emit(check_report(result, changes), chosen)
    return NO if result.breaches else ANSWERED


def register(app: typer.Typer) -> None:
    app.command(short_help="Deployments against their limits, for CI.")(check)


# ------------------------------------------------------------------------ inside


def _format_of_file(path: str) -> str:
    suffix = path[path.rfind(".") :].casefold() if "." in path else ""
    if suffix not in SUFFIXES:
        raise InputError(f"--save: '{path}' does not say its format; end it in {quoted_list(SUFFIXES)}")
    return SUFFIXES[suffix]


def _rendered(result: "Check", changes: "Difference | None", format: str) -> str:
    if format in ("github", "junit"):
        from pdplan.report.formats.check_ci import render_github, render_junit

        return render_github(result) if format == "github" else render_junit(result)
    from pdplan.report.check import check_report
    from pdplan.report.formats.render import render

    return render(check_report(result, changes), format)


def _changes(result: "Check", baseline: str | None, against: str | None, flags: Flags) -> "Difference | None":
    if baseline is None and against is None:
        return None
    from pdplan.budget.baseline import difference, read_baseline
    from pdplan.report.check import check_json

    old: Mapping[str, Any]
    if baseline is not None:
        old = read_baseline(baseline)
    else:
        from pdplan.budget.judge import check_budget
        from pdplan.budget.read import read_budget

        other = read_budget(against or "", flags.catalog(), flags.given())
        old = check_json(check_budget(other, suggest=False))
    return difference(old, check_json(result), baseline or against or "")
