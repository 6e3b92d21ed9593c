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
from pdplan.step import BINDING_TERMS, Overlapped, StepTime, Term
from pdplan.step.messages import takes_bulk_kernels


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
    terms = _counted(step)
    names = _distinct(terms)
    b.table(_table(sources, step, title, aside=not detail))
    writer = Writer(builder=b, sources=sources, known=dict(known))
    parts: list[Quantity] = []
    for term, name in zip(terms, names, strict=True):
        if isinstance(term.source, Overlapped):
            parts.append(_overlap_lines(writer, step, term, parts, title, detail=detail))
        else:
            parts.append(_lines(writer, term, f"{title}: {name}") if detail else _from_table(term, title))
    slowest = max(BINDING_TERMS, key=lambda kind: number(step.part_s(kind)))
    total = b.total(
        "t", f"{title}: sum of the terms", parts, "s", value=step.total_s, binding=slowest, detail=True
    )
    rest = iter(parts)
    written = [next(rest) if number(t.total_s) != 0 else None for t in step.terms]
    stages = write_stages(writer, step, written, title)
    return StepLines(total=total) if stages is None else replace(stages, total=total)


def _counted(step: StepTime) -> list[Term]:
    return [t for t in step.terms if number(t.total_s) != 0]


def _table(sources: Sources, step: StepTime, title: str, *, aside: bool) -> StepTable:
    terms = _counted(step)
    return StepTable(
        title=title,
        rows=tuple(_row(sources, t, name) for t, name in zip(terms, _distinct(terms), strict=True)),
        total_s=number(step.total_s),
        aside=aside,
    )


def _lines(writer: Writer, term: Term, group: str) -> Quantity:
    if isinstance(term.source, Op):
        return op_lines(writer, term, term.source, group)
    if isinstance(term.source, Message):
        return message_lines(writer, term, term.source, group)
    return _overhead_lines(writer, term, group)


def _overlap_lines(
    writer: Writer, step: StepTime, term: Term, parts: list[Quantity], title: str, *, detail: bool
) -> Quantity:
    """What two halves whose exchanges run beside kernels save of the step; the lines of one half before."""
    if not detail:
        return _from_table(term, title)
    source = term.source
    assert isinstance(source, Overlapped)
    b, known, group = writer.builder, dict(writer.known), f"{title}: {term.name}"
    for symbol in ("b_d", "b_p", "m", "o"):
        if symbol in known:
            unit = known[symbol].unit
            known[symbol] = writer.line(group, symbol, "of one half", "x/2", {"x": known[symbol]}, unit)
    half = f"{title}: one half"
    b.table(_table(writer.sources, source.half, half, aside=True))
    own = Writer(builder=b, sources=writer.sources, known=known)
    terms = _counted(source.half)
    halves = [_lines(own, t, f"{half}: {n}") for t, n in zip(terms, _distinct(terms), strict=True)]
    whole = _layer_parts(writer, step, parts, source.share, group)
    each = _layer_parts(writer, source.half, halves, source.share, f"{half}, layers with experts")
    found = {f"W_{k}": q for k, q in whole.items()} | {f"H_{k}": q for k, q in each.items()}
    slow = ""
    if source.taken:
        slow, found["c_x"] = "/(1-c_x)", writer.sources.engine("exchange_cores")
    before, experts = f"H_a{slow}", f"H_e{slow}"
    turns = f"max({before},H_c)+max(H_d,{before})+max({experts},H_d)+max(H_c,{experts})"
    return writer.line(
        group,
        "T",
        "the halves' turns less the whole's layers with experts",
        f"{turns}-(W_a+W_e+W_d+W_c)",
        found,
        "s",
        value=term.total_s,
        binding="network",
    )


def _layer_parts(
    writer: Writer, step: StepTime, written: list[Quantity], share: float, group: str
) -> dict[str, Quantity]:
    """Kernels before the dispatch, experts, dispatch and combine of the layers with experts."""
    lines = iter(written)
    sums: dict[tuple[str, bool], list[Quantity]] = {}
    for term in _counted(step):
        line, place = next(lines, None), term.place
        if line is not None and place is not None and place.turn is not None:
            sums.setdefault((place.turn, place.block[0] == "feed_forward"), []).append(line)
    stack = writer.sources.setting.stack
    found: dict[str, Quantity] = {}
    for symbol, part in (("a", "before"), ("e", "experts"), ("d", "dispatch"), ("c", "combine")):
        used = {f"t_{i}": q for i, q in enumerate(sums.get((part, True), []), 1)}
        shared = {f"s_{i}": q for i, q in enumerate(sums.get((part, False), []), 1)}
        expression = "+".join(used) or "0"
        if shared:
            used |= shared
            used["L_e"] = writer.sources.model(share * stack.layers, "layers")
            used["L"] = writer.sources.model(stack.layers, "layers")
            expression += f"+({'+'.join(shared)})*L_e/L"
        found[symbol] = writer.line(group, symbol, _PARTS[part], expression, used, "s")
    return found


_PARTS = {
    "before": "kernels before the dispatch, layers with experts",
    "experts": "experts",
    "dispatch": "dispatch",
    "combine": "combine",
}


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
            copies = source.tokens if bulk or source.decode_tokens is None else source.decode_tokens
            moved *= number(copies) * (1 if bulk else source.per_token)
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
        binding="network" if isinstance(source, Overlapped) else BINDING_TERMS[int(number(term.binding))],
        constants=constants,
    )
