"""What `compare --modes` says: the ratio of the two modes, or a map of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pdplan.modes import Contest, Modes, Side
from pdplan.printing import percentile_name
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Table, table
from pdplan.report.contract import candidate_json, header, record, slo_json, workload_json, world_json
from pdplan.report.parts import notes_block
from pdplan.report.words import (
    cost_words,
    engine_title,
    hourly,
    plan_words,
    short_plan,
    slo_words,
    workload_words,
)
from pdplan.units import format_count, format_duration, format_money, format_rate

WORDS = {
    "disaggregated": "disaggregated is ahead",
    "colocated": "colocated is ahead",
    "even": "even",
    "none": "neither meets the limits",
}


def modes_report(found: Modes) -> Report:
    """The report of one contest, or of a map of them."""
    data: dict[str, Any] = {
        **header(found.catalog_sha256),
        "inputs": world_json(found.world),
        "means": found.means,
        "contests": [_contest_json(c) for c in found.contests],
        "notes": list(found.notes),
    }
    first = found.contests[0]
    blocks = _one(first, found) if len(found.contests) == 1 else _map(found)
    return Report(
        blocks=(*blocks, notes_block(found.notes)),
        data=data,
        records=tuple(_record(c) for c in found.contests),
    )


def varied(found: Modes) -> dict[str, list[Any]]:
    """Inputs that differ between contests, with their values in the order given."""
    values: dict[str, list[Any]] = {}
    for contest in found.contests:
        for key, value in _inputs(contest).items():
            if value not in values.setdefault(key, []):
                values[key].append(value)
    return {key: many for key, many in values.items() if len(many) > 1}


def ratio_words(ratio: float) -> str:
    """
    >>> ratio_words(1.294), ratio_words(float("inf")), ratio_words(0.0), ratio_words(float("nan"))
    ('1.29×', 'only disagg.', 'only coloc.', 'neither')
    """
    if math.isnan(ratio):
        return "neither"
    if math.isinf(ratio):
        return "only disagg."
    return f"{ratio:.2f}×" if ratio else "only coloc."


# ------------------------------------------------------------------------ one contest


def _one(contest: Contest, found: Modes) -> tuple[Block, ...]:
    return (
        _headline(contest, found),
        Paragraph(f"{_served(contest)}for {workload_words(contest.workload)}, {slo_words(contest.slo)}"),
        _sides(contest, found),
        Bullets(
            title="What binds",
            items=tuple(f"{name}: {side.binding}" for name, side in _both(contest)),
        ),
    )


def _served(contest: Contest) -> str:
    """llama-3.1-70b in bf16, vLLM;"""
    label = contest.label
    model = " in ".join(label[key] for key in ("model", "precision") if key in label)
    words = [*([model] if model else []), *([engine_title(label["engine"])] if "engine" in label else [])]
    return f"{', '.join(words)}; " if words else ""


def _headline(contest: Contest, found: Modes) -> Headline:
    ratio = contest.ratio
    if math.isnan(ratio):
        return Headline("Neither mode meets the limits", "bad")
    if math.isinf(ratio) or ratio == 0:
        name, side = next((n, s) for n, s in _both(contest) if s.answer)
        assert side.answer is not None
        plan = side.answer
        return Headline(f"Only {name} meets the limits: {plan_words(plan.plan)}, {cost_words(plan.metrics)}")
    ahead, behind = ("disaggregated", "colocated") if ratio >= 1 else ("colocated", "disaggregated")
    times = max(ratio, 1 / ratio)
    sides = {name: side.answer.metrics for name, side in _both(contest) if side.answer}
    if found.means == "accelerators":
        rates = " against ".join(format_rate(sides[n].requests_per_s) for n in (ahead, behind))
        text = f"{ahead.capitalize()} serves {times:.2f} times the requests of {behind}: {rates}"
    else:
        text = f"{ahead.capitalize()} serves {times:.2f} times the requests of {behind} for the same cost"
    if _even(contest):
        within = f", within {times - 1:.0%}" if times >= 1.005 else ""
        return Headline(f"Even{within}" + (f": {text[0].lower()}{text[1:]}" if within else ""))
    return Headline(text)


def _even(contest: Contest) -> bool:
    return contest.verdict == "even"


def _sides(contest: Contest, found: Modes) -> Table:
    at = percentile_name(contest.slo.percentile)
    rows: list[tuple[Cell | str, ...]] = []
    for name, side in _both(contest):
        if side.answer is None:
            rows.append((name, Cell("none", "bad"), "", "", "", "", "", ""))
            continue
        m = side.answer.metrics
        rows.append(
            (
                name,
                short_plan(side.answer.plan),
                f"{m.gpus:,.0f}",
                format_rate(m.requests_per_s),
                hourly(m),
                format_money(m.usd_per_million_output_tokens),
                format_duration(m.ttft_slo_s),
                format_duration(m.tpot_slo_s),
            )
        )
    columns = f"mode|~plan|>GPUs|>requests|>?cost|>?$/M output|>TTFT {at}|>TPOT {at}"
    return table("", columns, rows)


def _both(contest: Contest) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return ("disaggregated", contest.disaggregated), ("colocated", contest.colocated)


# ------------------------------------------------------------------------ a map


def _map(found: Modes) -> tuple[Block, ...]:
    axes = varied(found)
    grids = _grids(found, axes) if {"isl", "osl"} & axes.keys() else (_listing(found, axes),)
    what = (
        "requests on the same accelerators" if found.means == "accelerators" else "requests for the same cost"
    )
    return (
        Headline(_summary(found)),
        Paragraph(f"disaggregated over colocated, {what}; {_common(found, axes)}"),
        *grids,
    )


def _summary(found: Modes) -> str:
    """Disaggregated is ahead in 12 of 27, by up to 2.31 times; colocated in 5; even in 10."""
    by = {v: [c for c in found.contests if c.verdict == v] for v in WORDS}
    times: dict[str, Callable[[float], float]] = {
        "disaggregated": lambda ratio: ratio,
        "colocated": lambda ratio: 1 / ratio if ratio else math.inf,
    }
    parts = []
    for name, of in times.items():
        finite = [t for c in by[name] if math.isfinite(t := of(c.ratio))]
        text = f"{name} is ahead in {len(by[name])} of {len(found.contests)}"
        parts.append(text + (f", by up to {max(finite):.2f} times" if finite else ""))
    parts.append(f"even in {len(by['even'])}")
    if by["none"]:
        parts.append(f"neither meets the limits in {len(by['none'])}")
    words = "; ".join(parts)
    return words[0].upper() + words[1:]


def _common(found: Modes, axes: Mapping[str, Any]) -> str:
    """What all contests share."""
    first = found.contests[0]
    shared = {k: v for k, v in _inputs(first).items() if k not in axes}
    lengths = [
        f"{format_count(shared[k])} tokens {w}" for k, w in (("isl", "in"), ("osl", "out")) if k in shared
    ]
    names = [str(shared[k]) for k in ("model", "precision", "hardware", "engine") if k in shared]
    slo = replace(first.slo, tpot_s=None) if "tpot" in axes else first.slo
    return ", ".join([*([" ".join(names)] if names else []), *lengths, slo_words(slo)])


def _grids(found: Modes, axes: Mapping[str, list[Any]]) -> tuple[Table, ...]:
    """One table of ISL against OSL for every combination of the other inputs."""
    others = [key for key in axes if key not in ("isl", "osl")]
    groups: dict[tuple[Any, ...], dict[tuple[float, float], Contest]] = {}
    for contest in found.contests:
        inputs = _inputs(contest)
        cell = (contest.workload.isl, contest.workload.osl)
        groups.setdefault(tuple(inputs[key] for key in others), {})[cell] = contest
    return tuple(
        _grid(", ".join(_value_words(k, v) for k, v in zip(others, values, strict=True)), cells)
        for values, cells in groups.items()
    )


def _grid(title: str, cells: Mapping[tuple[float, float], Contest]) -> Table:
    isl, osl = (list(dict.fromkeys(cell[axis] for cell in cells)) for axis in (0, 1))
    rows: list[tuple[Cell | str, ...]] = [
        (format_count(i), *(_ratio_cell(cells[i, o]) for o in osl)) for i in isl
    ]
    return table(title, "|".join([">tokens in", *(f">{format_count(o)} out" for o in osl)]), rows)


def _listing(found: Modes, axes: Mapping[str, list[Any]]) -> Table:
    """One row a contest, where lengths do not vary."""
    rows: list[tuple[Cell | str, ...]] = []
    for contest in found.contests:
        inputs = _inputs(contest)
        plans = [short_plan(s.answer.plan) if s.answer else "none" for _, s in _both(contest)]
        rows.append((*(_value_words(k, inputs[k]) for k in axes), _ratio_cell(contest), *plans))
    return table("", "|".join([*axes, ">ratio", "~disaggregated", "~colocated"]), rows)


def _ratio_cell(contest: Contest) -> Cell:
    style = {"disaggregated": "good", "colocated": "bad", "even": "", "none": "faint"}[contest.verdict]
    return Cell(ratio_words(contest.ratio), style)  # type: ignore[arg-type]


def _inputs(contest: Contest) -> dict[str, Any]:
    return {
        **contest.label,
        "isl": contest.workload.isl,
        "osl": contest.workload.osl,
        "tpot": contest.slo.tpot_s,
    }


def _value_words(key: str, value: Any) -> str:
    if key != "tpot":
        return str(value)
    return "no TPOT limit" if value is None else f"TPOT ≤ {format_duration(value)}"


# ------------------------------------------------------------------------ for programs


def _contest_json(contest: Contest) -> dict[str, Any]:
    finite = math.isfinite(contest.ratio)
    return {
        **contest.label,
        "workload": workload_json(contest.workload),
        "slo": slo_json(contest.slo),
        "ahead": contest.verdict,
        "ratio": contest.ratio if finite else None,
        **{
            name: {
                **(candidate_json(side.answer) or {"plan": None, "metrics": None}),
                "binding": side.binding,
            }
            for name, side in _both(contest)
        },
    }


def _record(contest: Contest) -> dict[str, Any]:
    sides: Sequence[tuple[str, dict[str, Any]]] = [
        (name, record(side.answer) if side.answer else {}) for name, side in _both(contest)
    ]
    return {
        **{f"asked_{k}": v for k, v in contest.label.items()},
        "isl": contest.workload.isl,
        "osl": contest.workload.osl,
        "ttft_limit_s": contest.slo.ttft_s,
        "tpot_limit_s": contest.slo.tpot_s,
        "ahead": contest.verdict,
        "ratio": contest.ratio if math.isfinite(contest.ratio) else None,
        **{
            f"{name}_{key}": fields.get(key)
            for name, fields in sides
            for key in ("requests_per_s", "gpus", "usd_per_h", "ttft_slo_s", "tpot_slo_s")
        },
    }
