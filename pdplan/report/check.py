"""What `check` says: limits, what was found, which line to edit, what changed. One Report, all formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdplan.budget.baseline import Difference, Shift
from pdplan.budget.measures import MEMORY, Measure
from pdplan.budget.result import Check, DeploymentCheck, Edit, Finding, Spot
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Table, table
from pdplan.report.contract import (
    error_bars_json,
    header,
    metrics_json,
    plan_json,
    slo_json,
    workload_json,
    world_json,
)
from pdplan.report.formats.machine import clean
from pdplan.report.parts import bar_words, notes_block
from pdplan.report.words import cost_words, counted, per_cent, plan_words, workload_words


def check_report(check: Check, changes: Difference | None = None) -> Report:
    """The report of a check, beside a baseline where one is given."""
    blocks: list[Block] = [Headline(headline(check), "bad" if check.breaches else "good")]
    if check.at_risk:
        blocks.append(Paragraph(at_risk_words(check)))
    if changes is not None:
        blocks += _difference_blocks(changes)
    for one in check.deployments:
        blocks += _deployment_blocks(one)
    if check.total:
        blocks.append(_findings_table("total", check.total))
        blocks.append(_mending("What to do", check.total, None))
    notes = [f"{d.deployment.name}: {note}" for d in check.deployments for note in d.deployment.notes]
    blocks.append(notes_block(tuple(notes)))
    return Report(
        blocks=tuple(blocks),
        data={**check_json(check), "baseline": difference_json(changes) if changes else None},
        records=tuple(_record(f) for f in check.findings),
    )


def headline(check: Check) -> str:
    """The verdict in one sentence."""
    limits, where = len(check.findings), counted(len(check.deployments), "deployment")
    if not check.breaches:
        return f"Budget met: {counted(limits, 'limit')} of {where}"
    names = list(dict.fromkeys(f.deployment for f in check.breaches))
    return f"Budget breached: {len(check.breaches)} of {counted(limits, 'limit')}, in {', '.join(names)}"


def at_risk_words(check: Check) -> str:
    """Which limits hold at the estimate alone."""
    names = [f"{f.deployment} {f.limit.measure.key}" for f in check.at_risk]
    return (
        f"{counted(len(names), 'limit')} met at the estimate, but not at the pessimistic end of the error "
        f"bar (1 of 10 measured benchmarks was beyond it): {', '.join(names)}"
    )


def risk_words(finding: Finding) -> str:
    """ttft_p90 is 867 ms, and 2.65 s at the pessimistic end of its error bar: at most 2.00 s is allowed."""
    measure, limit = finding.limit.measure, finding.limit
    side = "at most" if limit.bound == "max" else "at least"
    assert finding.found is not None
    assert finding.pessimistic is not None
    return (
        f"{measure.key} is {measure.show(finding.found)}, and {measure.show(finding.pessimistic)} at the "
        f"pessimistic end of its error bar: {side} {measure.show(limit.value)} is allowed"
    )


def explain(finding: Finding) -> str:
    """A breach in one sentence: found, limit, over by."""
    measure, limit = finding.limit.measure, finding.limit
    if finding.found is None or finding.over_by is None:
        return f"{measure.key} was not judged: {finding.reason}"
    side = "at most" if limit.bound == "max" else "at least"
    over = f"{'over' if limit.bound == 'max' else 'short'} by {measure.show(abs(finding.over_by))}"
    share = f" ({_share(finding.over_by_share)})" if finding.over_by_share is not None else ""
    if measure.quantity == "share":  # "over by 2.4% (2.5%)" would need explaining
        over, share = f"{over[:-1]} percentage points", ""
    reason = f": {finding.reason}" if finding.reason else ""
    allowed = _shown_apart(measure, limit.value, finding.found)
    found = _shown_apart(measure, finding.found, limit.value)
    return f"{measure.key} is {found}, {side} {allowed} is allowed, {over}{share}{reason}"


def suggestions(finding: Finding) -> list[str]:
    """What mends a breach: the line of the plan to edit, and the limit that would pass."""
    found = []
    if finding.edit is not None:
        found.append(f"{finding.edit_spot}: {edit_words(finding.edit, finding)}")
    elif finding.deployment != "total":
        what = (
            "layout near this one"
            if finding.limit.measure is MEMORY
            else "change of workers, max_batch or tp"
        )
        found.append(f"no {what} meets {finding.limit.measure.key}; `pdplan recommend` searches all of them")
    passing = finding.passing_limit
    if passing is not None:
        limit = finding.limit
        verb = "raise" if limit.bound == "max" else "lower"
        lead = "or " if finding.edit is not None else ""
        found.append(
            f"{limit.spot}: {lead}{verb} the limit {limit.spot.key} to {limit.measure.write(passing)}"
        )
    return found


def edit_words(edit: Edit, finding: Finding | None) -> str:
    """The edit, what it leads to, what it costs, and what it leaves undone."""
    changes = ", ".join(str(c) for c in edit.changes)
    priced = edit.usd_per_h_delta == edit.usd_per_h_delta
    cost = _signed(edit.usd_per_h_delta, "/h", money=True) if priced else ""
    gpus = _signed(edit.gpus_delta, " GPUs") if edit.gpus_delta else ""
    effects = ", ".join(e for e in (cost, gpus) if e) or "at the same cost"
    result, tail = "meets every limit", ""
    if finding is not None:
        measure = finding.limit.measure
        result = f"gives {measure.key} {measure.show(edit.found)}"
    if finding is not None and edit.meets_all:
        tail = "; every limit is then met"
    if edit.newly_breached:
        tail += f"; but then breaches {', '.join(edit.newly_breached)}"
    if edit.still_breached:
        tail += f"; still breached: {', '.join(edit.still_breached)}"
    return f"{changes} {result} ({effects}){tail}"


# ------------------------------------------------------------------------ blocks


def _deployment_blocks(one: DeploymentCheck) -> list[Block]:
    deployment, metrics = one.deployment, one.metrics
    goodput = one.goodput_requests_per_s
    capable = f", goodput {_measure_show('goodput_requests_per_s', goodput)}" if goodput is not None else ""
    asked = workload_words(deployment.workload)
    words = f"{plan_words(deployment.plan)}: {cost_words(metrics)}; {asked}{capable}"
    blocks: list[Block] = [
        Paragraph(words, title=deployment.name),
        _findings_table("", one.findings),
    ]
    if one.breaches:
        blocks.append(_mending("What to edit", one.findings, one.fix))
    return blocks


def _findings_table(title: str, findings: tuple[Finding, ...]) -> Table:
    rows: list[tuple[Cell | str, ...]] = []
    sized = any(f.expected is not None for f in findings)
    bars = any(f.bar is not None for f in findings)
    for f in findings:
        measure, limit = f.limit.measure, f.limit
        sign = "≤" if limit.bound == "max" else "≥"
        found = "n/a" if f.found is None else _shown_apart(measure, f.found, limit.value)
        allowed = _shown_apart(measure, limit.value, limit.value if f.found is None else f.found)
        estimate = f.found if f.expected is None else f.expected
        expected = () if not sized else ("n/a" if estimate is None else measure.show(estimate),)
        bar = () if not bars else ("" if f.bar is None else bar_words(f.bar, measure.show),)
        rows.append((measure.key, *expected, found, *bar, f"{sign} {allowed}", _verdict(f), str(limit.spot)))
    heads = ["limit", *((">expected",) if sized else ()), ">at confidence" if sized else ">found"]
    heads += [*((">?8 of 10",) if bars else ()), ">allowed", "~verdict", "?line"]
    return table(title, "|".join(heads), rows)


def _verdict(finding: Finding) -> Cell:
    if finding.status == "not judged":
        return Cell("not judged: it cannot do the work", "faint")
    share = finding.over_by_share
    above = finding.limit.bound == "max"
    if finding.status == "breached":
        by = _share(share) if share is not None else finding.limit.measure.show(abs(finding.over_by or 0.0))
        return Cell(f"BREACHED, {by} {'over' if above else 'short'}", "bad")
    risk = "; pessimistic end misses" if finding.at_risk else ""
    if share is None or abs(share) < 5e-4:
        return Cell(f"met exactly{risk}", "good")
    return Cell(f"met, {_share(share)} {'below' if above else 'above'}{risk}", "good")


def _mending(title: str, findings: tuple[Finding, ...], fix: Edit | None) -> Bullets:
    items: list[str] = []
    if fix is not None:
        items.append(f"{fix.changes[0].spot}: {edit_words(fix, None)}")
    for f in findings:
        if f.status != "breached":
            continue
        shown = suggestions(f)
        if f.edit is not None and fix is not None and f.edit.plan == fix.plan:
            shown = shown[1:]  # said already
        items += ([f.reason] if f.reason else []) + shown
    return Bullets(title=title, items=tuple(dict.fromkeys(items)))


def _difference_blocks(changes: Difference) -> list[Block]:
    rows: list[tuple[Cell | str, ...]] = []
    same = [d.name for d in changes.deployments if d.kind == "unchanged"]
    for d in changes.deployments:
        name = d.name if d.kind == "changed" else f"{d.name} ({d.kind})"
        rows += [
            (name, f.field, _plain(f.old), _plain(f.new), "edited") for f in d.fields if d.kind == "changed"
        ]
        rows += [_shift_row(name, s) for s in d.shifts if s.is_change]
    rows += [_shift_row("total", s) for s in changes.total if s.is_change]
    blocks: list[Block] = [table(f"Since {changes.source}", "+deployment|+~what|>was|>is|>change", rows)]
    lines = []
    if not rows:
        lines.append("nothing has changed")
    elif same:
        lines.append(f"unchanged: {', '.join(same)}")
    if changes.newly_breached:
        lines.append(f"newly breached: {', '.join(f'{d} {limit}' for d, limit in changes.newly_breached)}")
    if changes.mended:
        lines.append(f"mended: {', '.join(f'{d} {limit}' for d, limit in changes.mended)}")
    if not changes.same_catalog:
        lines.append("the catalogs differ, so numbers may move without an edit")
    blocks.append(Paragraph("\n".join(lines)))
    return blocks


def _shift_row(name: str, shift: Shift) -> tuple[Cell | str, ...]:
    show = shift.measure.show
    old, new = ("none" if v is None else show(v) for v in (shift.old, shift.new))
    change = ""
    if shift.delta is not None:
        share = f" ({shift.share:+.1%})" if shift.share is not None else ""
        change = f"{'+' if shift.delta > 0 else '-'}{show(abs(shift.delta))}{share}"
    style = "good" if shift.is_better else "bad"
    return (name, shift.measure.key, old, new, Cell(change, style if change else ""))  # type: ignore[arg-type]


def _plain(value: Any) -> str:
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _measure_show(key: str, value: float) -> str:
    from pdplan.budget.measures import find_measure

    return find_measure(key, 0.9).show(value)


def _shown_apart(measure: Measure, value: float, other: float) -> str:
    """The value, with more digits where it would read like another one that it is not."""
    text = measure.show(value)
    return measure.write(value) if value != other and text == measure.show(other) else text


def _share(share: float | None) -> str:
    if share is None:
        return ""
    size = abs(share)
    return "<0.1%" if 0 < size < 5e-4 else per_cent(size)


def _signed(value: float, unit: str, money: bool = False) -> str:
    sign = "+" if value >= 0 else "-"
    return f"{sign}{'$' if money else ''}{abs(value):,.{2 if money else 0}f}{unit}"


# ------------------------------------------------------------------------ data


def check_json(check: Check) -> dict[str, Any]:
    """The JSON object without its baseline; numbers as they are printed, so that checks compare exactly."""
    data: dict[str, Any] = clean(
        {
            **header(check.catalog_sha256),
            "budget": check.path,
            "met": not check.breaches,
            "limits": len(check.findings),
            "breaches": len(check.breaches),
            "at_risk": len(check.at_risk),
            "deployments": [_deployment_json(d) for d in check.deployments],
            "total": {**check.totals, "findings": [finding_json(f) for f in check.total]},
        }
    )
    return data


def _deployment_json(one: DeploymentCheck) -> dict[str, Any]:
    deployment = one.deployment
    return {
        "name": deployment.name,
        "met": not one.breaches,
        "inputs": {
            "workload": workload_json(deployment.workload),
            "slo": slo_json(deployment.slo),
            **world_json(deployment.world),
        },
        "plan": plan_json(deployment.plan),
        "metrics": metrics_json(one.metrics),
        "error_bars": error_bars_json(
            deployment.plan,
            one.metrics,
            deployment.world.calibration,
            throughput=deployment.workload.concurrency is not None,
        ),
        "goodput_requests_per_s": one.goodput_requests_per_s,
        "findings": [finding_json(f) for f in one.findings],
        "fix": _edit_json(one.fix, None) if one.fix else None,
        "notes": list(deployment.notes),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """`found`, `allowed` and `over_by` are in the unit that the name of `metric` ends in."""
    share = finding.over_by_share
    passing = finding.passing_limit
    return {
        "deployment": finding.deployment,
        "limit": finding.limit.measure.key,
        "metric": finding.limit.measure.field,
        "bound": finding.limit.bound,
        "status": finding.status.replace(" ", "_"),
        "found": finding.found,
        "expected": finding.found if finding.expected is None else finding.expected,
        "low": finding.bar.low if finding.bar else None,
        "high": finding.bar.high if finding.bar else None,
        "met_at_pessimistic_end": None
        if finding.bar is None
        else finding.status == "met" and not finding.at_risk,
        "allowed": finding.limit.value,
        "over_by": finding.over_by,
        "over_by_percent": None if share is None else share * 100,
        "reason": finding.reason or None,
        "limit_at": _spot_json(finding.limit.spot),
        "edit_at": _spot_json(finding.edit_spot) if finding.edit_spot else None,
        "edit": _edit_json(finding.edit, finding) if finding.edit else None,
        "passing_limit": None if passing is None else finding.limit.measure.write(passing),
    }


def _spot_json(spot: Spot) -> dict[str, Any]:
    return {"file": spot.path, "line": spot.line, "column": spot.column, "key": spot.key}


def _edit_json(edit: Edit, finding: Finding | None) -> dict[str, Any]:
    return {
        "changes": [
            {"field": c.field, "old": c.old, "new": c.new, "at": _spot_json(c.spot)} for c in edit.changes
        ],
        "found": edit.found if finding else None,
        "usd_per_h_delta": edit.usd_per_h_delta,
        "gpus_delta": edit.gpus_delta,
        "meets_all": edit.meets_all,
        "still_breached": list(edit.still_breached),
        "newly_breached": list(edit.newly_breached),
    }


def difference_json(changes: Difference) -> dict[str, Any]:
    return {
        "source": changes.source,
        "same_catalog": changes.same_catalog,
        "deployments": [
            {
                "name": d.name,
                "kind": d.kind,
                "fields": [{"field": f.field, "old": f.old, "new": f.new} for f in d.fields],
                "metrics": {s.measure.field: _shift_json(s) for s in d.shifts},
            }
            for d in changes.deployments
        ],
        "total": {s.measure.field: _shift_json(s) for s in changes.total},
        "newly_breached": [{"deployment": d, "limit": limit} for d, limit in changes.newly_breached],
        "mended": [{"deployment": d, "limit": limit} for d, limit in changes.mended],
    }


def _shift_json(shift: Shift) -> dict[str, Any]:
    share = shift.share
    return {
        "old": shift.old,
        "new": shift.new,
        "delta": shift.delta,
        "delta_percent": None if share is None else share * 100,
    }


def _record(finding: Finding) -> Mapping[str, Any]:
    """A row of CSV."""
    full = finding_json(finding)
    edit = finding.edit
    row = {k: v for k, v in full.items() if k not in ("limit_at", "edit_at", "edit")}
    return {
        **row,
        "limit_at": str(finding.limit.spot),
        "edit_at": str(finding.edit_spot) if finding.edit_spot else None,
        "edit": ", ".join(str(c) for c in edit.changes) if edit else None,
        "edit_usd_per_h_delta": edit.usd_per_h_delta if edit else None,
    }
