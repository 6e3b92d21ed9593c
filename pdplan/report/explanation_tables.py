"""Tables of a derivation, for its text and for Markdown: the answer, and the terms of a step."""

from __future__ import annotations

from pdplan.explain.derivation import Derivation, StepTable
from pdplan.report.blocks import Cell, Table, table
from pdplan.report.printed_numbers import References, result_text


def answer_table(derivation: Derivation) -> Table:
    """What comes out, and on which line."""
    rows: list[tuple[Cell | str, ...]] = [
        (_ANSWERS.get(x.name, x.name), result_text(x.value, x.unit, 4), x.line or "")
        for x in derivation.answer
    ]
    return table("", "result|>value|line", rows)


_ANSWERS = {
    "ttft_mean_s": "TTFT, mean",
    "ttft_slo_s": "TTFT at the percentile",
    "tpot_mean_s": "TPOT, mean",
    "tpot_slo_s": "TPOT at the percentile",
    "request_latency_mean_s": "request latency, mean",
    "request_latency_slo_s": "request latency at the percentile",
    "gpus": "GPUs",
    "total_tok_per_s_per_gpu": "tokens per GPU",
    "output_tok_per_s_per_gpu": "output tokens per GPU",
    "tok_per_s_per_user": "tokens that one user sees",
    "usd_per_h": "cost per hour",
    "usd_per_million_output_tokens": "cost per million output tokens",
    "usd_per_million_tokens": "cost per million tokens",
    "power_kw": "power",
}


def terms_table(step: StepTable, references: References, columns: tuple[str, ...] = ()) -> Table:
    """A step's terms; `columns` narrows them to those named."""
    chosen = columns or TERM_COLUMNS
    rows: list[tuple[Cell | str, ...]] = []
    for row in step.rows:
        cells = {
            "term": row.name,
            ">layers": f"{row.layers:g}",
            ">rows": "" if row.rows is None else f"{row.rows:,.4g}" if row.rows < 1e4 else f"{row.rows:,.0f}",
            ">FLOP/layer": result_text(row.flop, "FLOP", 4) if row.flop else "",
            ">bytes/layer": result_text(row.moved_bytes, "B", 4) if row.moved_bytes else "",
            **{
                f">{kind}": result_text(getattr(row, f"{kind}_s"), "s", 4)
                if getattr(row, f"{kind}_s")
                else ""
                for kind in ("compute", "memory", "network", "overhead")
            },
            ">time": result_text(row.total_s, "s", 4),
            ">share": f"{row.total_s / step.total_s:.1%}",
            "binds": row.binding,
            "from": references.mark(row.constants),
        }
        rows.append(tuple(cells[c] for c in chosen))
    total = {"term": "sum", ">time": result_text(step.total_s, "s", 4)}
    rows.append(tuple(Cell(total.get(c, ""), "strong") for c in chosen))
    return table(step.title, "|".join(chosen), rows)


TERM_COLUMNS = (
    "term",
    ">layers",
    ">rows",
    ">FLOP/layer",
    ">bytes/layer",
    ">compute",
    ">memory",
    ">network",
    ">overhead",
    ">time",
    ">share",
    "binds",
    "from",
)
DROPPED_FIRST = (">rows", ">share", ">FLOP/layer", ">bytes/layer", ">overhead", "from", ">layers", ">network")
"""Columns of a step's table that a narrow terminal goes without, in this order."""
