"""What `explain` says: a derivation as text, Markdown, JSON or CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pdplan.explain.arithmetic import formula, pretty_name
from pdplan.explain.derivation import Derivation, Line, Section
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, table
from pdplan.report.contract import header, plan_json, slo_json, workload_json, world_json
from pdplan.report.explanation_tables import answer_table, terms_table
from pdplan.report.formats.render import render
from pdplan.report.printed_numbers import References, numbers_of, result_text

if TYPE_CHECKING:
    from pdplan.compose import World
    from pdplan.plan import Plan
    from pdplan.workload import Slo, Workload


def explanation_inputs(
    plan: Plan, workload: Workload, slo: Slo, world: World, catalog_sha256: str
) -> dict[str, Any]:
    """What leads the JSON object: who computed what from which catalog."""
    return {
        **header(catalog_sha256),
        "inputs": {
            "workload": workload_json(workload),
            "slo": slo_json(slo),
            **world_json(world),
            "ideal": world.ideal,
        },
        "plan": plan_json(plan),
    }


def render_explanation(
    derivation: Derivation,
    head: Mapping[str, Any],
    format: str = "text",
    *,
    width: int | None = None,
    colour: bool = False,
    notes: tuple[str, ...] = (),
) -> str:
    """The derivation in one of the formats of `pdplan.report.formats.render`; `head` leads the JSON."""
    if format == "text":
        from pdplan.report.explanation_text import render_derivation

        return render_derivation(derivation, width, colour=colour, notes=notes)
    return render(explanation_report(derivation, head, notes), format)


def explanation_report(
    derivation: Derivation, head: Mapping[str, Any], notes: tuple[str, ...] = ()
) -> Report:
    """The derivation as blocks (for Markdown), data and records."""
    references = References()
    blocks: list[Block] = [Headline(derivation.title)]
    if derivation.problem:
        blocks.append(Headline(f"This plan cannot do it: {derivation.problem}", "bad"))
    blocks.append(answer_table(derivation))
    for section in derivation.sections:
        blocks += _section_blocks(section, references)
    blocks.append(Bullets(title="Sources", items=references.items()))
    blocks.append(Bullets(title="Notes", items=notes))
    data = {
        **head,
        "answer": {x.name: {"value": x.value, "unit": x.unit, "line": x.line} for x in derivation.answer},
        "problem": derivation.problem or None,
        "sections": [_section_json(s) for s in derivation.sections],
        "notes": list(notes),
    }
    return Report(
        blocks=tuple(blocks),
        data=data,
        records=tuple(_record(s, x) for s in derivation.sections for x in s.lines),
    )


# ------------------------------------------------------------------------ inside


def _section_blocks(section: Section, references: References) -> list[Block]:
    """A section in Markdown: paragraphs and tables."""
    blocks: list[Block] = [Paragraph(section.intro, title=f"{section.number} {section.title}")]
    if section.given:
        rows: list[tuple[Cell | str, ...]] = [
            (pretty_name(x.name), result_text(x.value, x.unit), references.mark(x.source))
            for x in section.given
        ]
        blocks.append(table("", "given|>value|from", rows))
    blocks += [terms_table(t, references) for t in section.tables]
    lines = [_markdown_row(x, references) for x in section.lines]
    if lines:
        blocks.append(table("", "line|what|formula|numbers|>result|binds|from", lines))
    blocks += [Paragraph(note) for note in section.notes]
    return blocks


def _markdown_row(line: Line, references: References) -> tuple[Cell | str, ...]:
    what = f"{line.group}: {line.name}" if line.group else line.name
    return (
        line.id,
        f"{what} ({line.note})" if line.note else what,
        f"{pretty_name(line.symbol)} = {formula(line.expression)}",
        numbers_of(line),
        result_text(line.value, line.unit),
        line.binding or "",
        references.inputs(line),
    )


def _section_json(section: Section) -> dict[str, Any]:
    return {
        "key": section.key,
        "number": section.number,
        "title": section.title,
        "intro": section.intro,
        "given": [asdict(x) for x in section.given],
        "tables": [asdict(t) for t in section.tables],
        "lines": [_line_json(x) for x in section.lines],
        "notes": list(section.notes),
    }


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "group": line.group or None,
        "symbol": line.symbol,
        "name": line.name,
        "formula": f"{pretty_name(line.symbol)} = {formula(line.expression)}",
        "expression": line.expression,
        "inputs": {x.name: {"value": x.value, "unit": x.unit, "source": x.source} for x in line.inputs},
        "value": line.value,
        "unit": line.unit,
        "binding": line.binding,
        "note": line.note or None,
    }


def _record(section: Section, line: Line) -> dict[str, Any]:
    return {
        "section": section.key,
        "line": line.id,
        "group": line.group,
        "symbol": line.symbol,
        "name": line.name,
        "expression": line.expression,
        "inputs": "; ".join(f"{x.name}={x.value!r} {x.unit}".rstrip() for x in line.inputs),
        "value": line.value,
        "unit": line.unit,
        "binding": line.binding,
        "sources": "; ".join(f"{x.name}: {x.source}" for x in line.inputs),
    }
