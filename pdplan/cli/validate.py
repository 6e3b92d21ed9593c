"""`pdplan validate`."""

from pathlib import Path
from typing import Annotated

import typer

from pdplan.cli.options import CALIBRATION, COMMON, Flag, Flags, takes
from pdplan.cli.output import ANSWERED, NO, emit, say, working

OWN = (
    Flag(
        "by", "Columns to group by: model, hardware, engine, precision, spec, ... [default: mode]", "COLUMNS"
    ),
    Flag(
        "plot",
        "Draw predicted against measured TPOT and TTFT, coloured by the first column of --by: .png, .svg or "
        ".html (pip install 'pdplan[plot]'), or - for plain characters.",
        "FILE",
    ),
    Flag("output", "Also write each run's prediction with its 80 % interval into a CSV file.", "FILE"),
)


@takes(*OWN, *CALIBRATION, *COMMON)
def validate(
    flags: Flags,
    runs: Annotated[
        str,
        typer.Argument(metavar="RUNS", help="Measured runs in CSV; docs/measured-runs.md has the columns."),
    ],
) -> int:
    """Predict measured runs and say how far off the predictions are.

    Exit code 1 if not one run could be predicted.

    \b
    pdplan validate runs.csv --by model,hardware --output predictions.csv --plot errors.png
    """
    from pdplan.calibrated import read_calibration
    from pdplan.documents.files import refuse_to_overwrite, write_atomic
    from pdplan.measured.predict import predict
    from pdplan.measured.runs import read_runs
    from pdplan.report.validation import columns_from, predictions_csv, validation_report

    output = flags.values.get("output")
    if output:
        refuse_to_overwrite(output, [runs, flags.values.get("calibration") or runs], "--output")
    by, plot = columns_from(flags.values.get("by")), flags.values.get("plot")
    picture = None
    if plot and plot != "-":
        from pdplan.report.pictures.drawing import picture_path

        picture = picture_path(plot, "--plot")
    catalog = flags.catalog()
    table = read_runs(Path(runs), catalog)
    own = read_calibration(flags.values["calibration"]) if flags.values.get("calibration") else None
    with working("predicting"):
        found = predict(table, catalog, own.document if own else None)
    report = validation_report(table, found, by, catalog.digest(), own, plotted=plot == "-")
    if picture:
        from pdplan.measured.accuracy import residuals
        from pdplan.report.pictures.scatter import draw_scatters
        from pdplan.report.validation import scatter_panels

        draw_scatters(scatter_panels(table, residuals(table, found), by[0]), picture, by[0], report.blocks)
        say([f"wrote {picture}"])
    if output:
        path = Path(output)
        write_atomic(path, predictions_csv(table, found, own))
        say([f"wrote {path}"])
    emit(report, flags.format)
    return ANSWERED if found.missed < len(table) else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="Predict measured runs and say how far off the predictions are.")(validate)
