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
    pdplan validate runs.csv --by model,hardware --output predictions.csv
    """
    from pdplan.calibrated import read_calibration
    from pdplan.files import write_atomic
    from pdplan.measured.predict import predict
    from pdplan.measured.runs import read_runs
    from pdplan.report.validation import predictions_csv, validation_report

    catalog = flags.catalog()
    table = read_runs(Path(runs))
    own = read_calibration(flags.values["calibration"]) if flags.values.get("calibration") else None
    by = [name.strip() for name in (flags.values.get("by") or "").split(",") if name.strip()]
    with working("predicting"):
        found = predict(table, catalog, own.document if own else None)
    report = validation_report(table, found, by, catalog.digest(), own)
    if flags.values.get("output"):
        path = Path(flags.values["output"])
        write_atomic(path, predictions_csv(table, found))
        say([f"wrote {path}"])
    emit(report, flags.format)
    return ANSWERED if not all(found.reasons) else NO


def register(app: typer.Typer) -> None:
    app.command(short_help="Predict measured runs and say how far off the predictions are.")(validate)
