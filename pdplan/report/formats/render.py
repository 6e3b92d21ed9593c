"""The one place where a format name becomes text."""

from __future__ import annotations

from pdplan.report.blocks import Report

FORMATS = ("text", "json", "markdown", "csv")


def render(report: Report, format: str = "text", *, width: int | None = None, colour: bool = False) -> str:
    """The report in one of FORMATS; `width` and `colour` are for text only."""
    if format == "json":
        from pdplan.report.formats.machine import render_json

        return render_json(report)
    if format == "csv":
        from pdplan.report.formats.machine import render_csv

        return render_csv(report)
    if format == "markdown":
        from pdplan.report.formats.markdown import render_markdown

        return render_markdown(report)
    from pdplan.report.formats.text import render_text

    return render_text(report, width, colour=colour)
