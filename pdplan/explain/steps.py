"""One forward step: a table of its terms, the lines that make each of them, and their sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.derivation import StepTable, TermRow
from pdplan.explain.kernels import op_lines
from pdplan.explain.messages import message_lines
from pdplan.explain.pipeline import StepLines, write_stages
from pdplan.explain.sources import Sources, described
from pdplan.explain.writer import Known, Writer
from pdplan.ops import Message, Op
from pdplan.step import BINDING_TERMS, StepTime, Term
from pdplan.step_messages import takes_bulk_kernels


def write_step(
    b: Builder,
    sources: Sources,
    step: StepTime,
    known: Mapping[str, Quantity],
    title: str,
    *,
    detail: bool = True,
) -> StepLines:
    """Write a step's table, its terms' lines where `detail` is wanted, the sum, and its stages.

    `known` holds the step's load: m tokens, o rows of the LM head, and of b_d, q, first,
    last (decode) and b_p, n, p (prefill) what there is; b_d and b_p count its sequences.
    """
    counts = [number(t.total_s) > 0 for t in step.terms]
    terms = [t for t, some in zip(step.terms, counts, strict=True) if some]
    names = _distinct(terms)
    b.table(
        StepTable(
            title=title,
            rows=tuple(_row(sources, t, name) for t, name in zip(terms, names, strict=True)),
            total_s=number(step.total_s),
            aside=not detail,
        )
    )
    writer = Writer(builder=b, sources=sources, known=dict(known))
    parts = [
        _lines(writer, term, f"{title}: {name}") if detail else _from_table(term, title)
        for term, name in zip(terms, names, strict=True)
    ]
    slowest = max(BINDING_TERMS, key=lambda kind: number(step.part_s(kind)))
    total = b.total(
        "t", f"{title}: sum of the terms", parts, "s", value=step.total_s, binding=slowest, detail=True
    )
    rest = iter(parts)
    written = [next(rest) if some else None for some in counts]
    stages = write_stages(b, sources, step, written, dict(known), title)
    return StepLines(total=total) if stages is None else replace(stages, total=total)


def _lines(writer: Writer, term: Term, group: str) -> Quantity:
    if isinstance(term.source, Op):
        return op_lines(writer, term, term.source, group)
    if isinstance(term.source, Message):
        return message_lines(writer, term, term.source, group)
    return _overhead_lines(writer, term, group)


def _from_table(term: Term, title: str) -> Quantity:
    return Quantity(
        number(term.total_s), "s", f"table '{title}', in its order; formulas as in the step at the mean batch"
    )


def _overhead_lines(writer: Writer, term: Term, group: str) -> Quantity:
    sources = writer.sources
    used: Known = {
        "t_step": sources.engine("step_overhead_s", "s"),
        "L": sources.model(sources.setting.stack.layers, "layers"),
        "t_layer": sources.engine("layer_overhead_s", "s"),
        "t_seq": sources.engine("sequence_overhead_s", "s"),
        "o": writer.known["o"],
    }
    return writer.line(
        group,
        "T",
        "scheduling, launch, sampling",
        "t_step+L*t_layer+t_seq*o",
        used,
        "s",
        value=term.total_s,
        binding="overhead",
    )


def _distinct(terms: list[Term]) -> list[str]:
    """Names of the terms, numbered where several kinds of layer have one of the same name."""
    total = Counter(t.name for t in terms)
    seen: Counter[str] = Counter()
    names = []
    for term in terms:
        seen[term.name] += 1
        names.append(f"{term.name} #{seen[term.name]}" if total[term.name] > 1 else term.name)
    return names


def _row(sources: Sources, term: Term, name: str) -> TermRow:
    source = term.source
    layers, rows, flop, moved = 1.0, None, None, 0.0
    constants = f"{sources.serving.engine} engine constants"
    if isinstance(source, Op):
        law = sources.setting.constants.roofline(source.family, source.dtype)
        layers = source.layers
        rows = None if source.rows is None else number(source.rows)
        flop = number(source.flop)
        moved = number(source.stored_bytes) + law.activation_traffic * number(source.activation_bytes)
        constants = described(sources.setting.constants.origin(source.family, source.dtype))
    elif isinstance(source, Message):
        layers, moved = source.layers, number(source.message_bytes)
        if source.tokens is not None:
            bulk = bool(number(takes_bulk_kernels(source, sources.setting.constants.links)))
            moved *= number(source.tokens) * (1 if bulk else source.per_token)
        constants = described(sources.setting.constants.origin("links", ""))
    return TermRow(
        name=name,
        layers=float(layers),
        rows=rows,
        flop=flop,
        moved_bytes=moved,
        compute_s=number(term.compute_s),
        memory_s=number(term.memory_s),
        network_s=number(term.network_s),
        overhead_s=number(term.overhead_s),
        total_s=number(term.total_s),
        binding=BINDING_TERMS[int(number(term.binding))],
        constants=constants,
    )
