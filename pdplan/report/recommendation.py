"""What `recommend` says: the answer first, then what it rests on, then what else there is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pdplan.compose import plan_bill
from pdplan.printing import percentile_name
from pdplan.question import (
    Candidate,
    Certificate,
    Goal,
    Infeasible,
    OtherKind,
    Question,
    Recommendation,
    amount,
)
from pdplan.report.blocks import Block, Bullets, Cell, Headline, Paragraph, Report, Table, table
from pdplan.report.contract import (
    candidate_json,
    error_bars_json,
    header,
    infeasible_json,
    metrics_json,
    other_kind_json,
    pessimistic_json,
    plan_json,
    question_json,
    record,
    relax_words,
)
from pdplan.report.market import bill_blocks, bill_json
from pdplan.report.mixture import mixture_json, mixture_words, routes_blocks, routes_json
from pdplan.report.parts import (
    confidence_blocks,
    error_bars_block,
    figures_table,
    margin,
    notes_block,
    objectives_table,
    pools_table,
    ttft_paragraph,
)
from pdplan.report.robustness import robust_words, robustness_blocks, robustness_json
from pdplan.report.words import (
    GOALS,
    OBJECTIVES,
    choices_words,
    cost_words,
    counted,
    formats_words,
    goal_of,
    hourly,
    plan_words,
    serving_words,
    short_plan,
    slo_words,
    workload_words,
)
from pdplan.routes import RouteMetrics, routes_of
from pdplan.uncertainty import slo_of
from pdplan.units import format_duration, format_money, format_percent, format_rate

if TYPE_CHECKING:
    from pdplan.report.why import Why

_LIMIT_TITLES = {field: title for title, field, _, _ in OBJECTIVES} | {"gpus": "GPUs", "usd_per_h": "cost"}


def recommendation_report(
    found: Recommendation, *, catalog_sha256: str = "", notes: tuple[str, ...] = (), why: Why | None = None
) -> Report:
    """The report of an answer, or of why there is none."""
    best, question = found.best, found.question
    everything = tuple(dict.fromkeys((*notes, *found.notes)))
    data: dict[str, Any] = {
        **header(catalog_sha256),
        "inputs": question_json(found.question, found.world),
        "plan": plan_json(best.plan) if best else None,
        "metrics": metrics_json(best.metrics) if best else None,
        "bill": bill_json(plan_bill(found.world, best.plan)) if best else None,
        "error_bars": error_bars_json(
            best.plan, best.metrics, found.world.calibration, throughput=question.wants_goodput
        )
        if best
        else None,
        **(pessimistic_json(best.plan, best.metrics, question.slo) if best else {}),
        "alternatives": [candidate_json(c) for c in found.alternatives],
        "best_other_mode": candidate_json(found.best_other_mode),
        "best_other_kind": other_kind_json(found.best_other_kind),
        "binding": found.binding or (found.infeasible.binding if found.infeasible else ""),
        "certificate": _certificate_json(found.certificate),
        "mixture": mixture_json(found.mixture),
        **routes_json(_routes(found)),
        "robustness": robustness_json(found),
        "infeasible": infeasible_json(found.infeasible),
        **(why.json() if why else {"sensitivity": None, "break_even": None}),
        "layouts": found.layouts,
        "notes": list(everything),
    }
    blocks = _answer(found, best) if best else _no_answer(found)
    records = _records(found)
    if why:
        blocks += why.blocks()
        records += why.records()
    return Report(blocks=(*blocks, notes_block(everything)), data=data, records=tuple(records))


def answer_words(question: Question, best: Candidate) -> str:
    """The answer in one sentence."""
    words = f"{plan_words(best.plan)}: {cost_words(best.metrics)}"
    if question.objective == "energy":
        words += f", {best.metrics.power_kw:,.1f} kW"
    if question.wants_goodput:
        return f"up to {format_rate(best.metrics.requests_per_s)} with {words}"
    return words


def ratio_words(best: Candidate, other: Candidate, *, goodput: bool = False, objective: Goal = "cost") -> str:
    """The best of the other mode beside the recommended plan, in words."""
    what = f"best {other.plan.mode}: {plan_words(other.plan)}: {cost_words(other.metrics)}"
    if goodput:
        share = other.metrics.requests_per_s / best.metrics.requests_per_s
        served = format_rate(other.metrics.requests_per_s)
        return f"{what}, {served}: {share:.2f} times the requests of the {best.plan.mode} plan"
    goal = goal_of(objective, best.metrics, other.metrics)
    share = amount(goal, other.metrics) / amount(goal, best.metrics)
    thing = GOALS[goal]
    if share == 1:
        return f"{what}, the same {thing} as the {best.plan.mode} plan"
    return f"{what}, {share:.2f} times the {thing} of the {best.plan.mode} plan"


def wanted_words(question: Question) -> str:
    """for 20.0 req/s of 4,096 tokens in and 1,024 out, TTFT ≤ 2.00 s at p90, at most 64 GPUs."""
    words = f"for {workload_words(question.workload)}, {slo_words(question.slo)}"
    if question.max_gpus is not None:
        words += f", at most {counted(question.max_gpus, 'GPU')}"
    if question.max_usd_per_h is not None:
        words += f", at most {format_money(question.max_usd_per_h)}/h"
    if question.objective != "cost":
        words += f"; least {GOALS[question.objective]}"
    if question.choices:
        words += f"; chosen among {choices_words(question.choices)}"
    return words + robust_words(question)


# ------------------------------------------------------------------------ inside


def _routes(found: Recommendation) -> tuple[RouteMetrics, ...]:
    """What the requests on each route of a mixed plan see."""
    best = found.best
    if best is None:
        return ()
    workload = found.question.workload.at_rate(best.metrics.requests_per_s)
    return routes_of(found.world, best.plan, workload, slo_of(best.plan, found.question.slo))


def _answer(found: Recommendation, best: Candidate) -> list[Block]:
    question, slo = found.question, slo_of(best.plan, found.question.slo)
    blocks: list[Block] = [
        Headline(answer_words(question, best)),
        Paragraph(f"{serving_words(best.plan)}; {wanted_words(question)}"),
        pools_table(best.plan, best.metrics),
        objectives_table(best.metrics, slo),
        *routes_blocks(_routes(found), slo),
        *confidence_blocks(best.plan, best.metrics, slo),
        error_bars_block(best.plan, best.metrics, found.world.calibration, throughput=question.wants_goodput),
        figures_table(best.metrics),
        ttft_paragraph(best.metrics),
        *bill_blocks(best.plan, found.world),
    ]
    if found.binding:
        blocks.append(Paragraph(found.binding, title="What binds"))
    if found.certificate:
        blocks.append(Paragraph(_certificate_words(found.certificate, found), title="Certificate"))
    if found.mixture:
        blocks.append(Paragraph(mixture_words(found), title="Mixed pools"))
    blocks += robustness_blocks(found)
    blocks.append(Paragraph(_other_words(found, best), title="The other way"))
    if found.best_other_kind:
        words = other_kind_words(found, best, found.best_other_kind)
        blocks.append(Paragraph(words, title="Next best of another kind"))
    if found.alternatives:
        blocks.append(_alternatives(found, best))
    return blocks


def _certificate_json(certificate: Certificate | None) -> dict[str, float] | None:
    if certificate is None:
        return None
    return {
        "lower_bound": certificate.lower_bound,
        "gap": certificate.gap,
        "solver_gap": certificate.solver_gap,
    }


def _certificate_words(certificate: Certificate, found: Recommendation) -> str:
    """What the integer programme proves about mixes of worker types."""
    assert found.best is not None
    goal = goal_of(found.compared_by, found.best.metrics)
    bound = f"{format_money(certificate.lower_bound)}/h"
    if goal == "gpus":
        bound = counted(math.ceil(certificate.lower_bound - 1e-6), "GPU")
    elif goal == "energy":
        bound = f"{certificate.lower_bound / 1e3:,.1f} kW"
    if certificate.gap < 5e-4:
        return f"no mix of worker types, in either mode, can serve this below {bound}: none is cheaper"
    return (
        f"no mix of worker types, in either mode, can serve this below {bound}, queues left out; "
        f"this plan is {format_percent(certificate.gap)} above"
    )


def _other_words(found: Recommendation, best: Candidate) -> str:
    other = found.best_other_mode
    if other is not None:
        question = found.question
        return ratio_words(best, other, goodput=question.wants_goodput, objective=found.compared_by)
    mode = "disaggregated" if best.plan.mode == "colocated" else "colocated"
    if found.question.mode != "any":
        return f"{mode} plans were not asked for (--mode {found.question.mode})"
    if found.mixture:
        return f"no {mode} plan of equal workers meets the objectives within the inventory"
    return f"no {mode} plan meets the objectives"


def other_kind_words(found: Recommendation, best: Candidate, other: OtherKind) -> str:
    """The best plan that differs in kind, what it costs more and why."""
    metrics, question = other.candidate.metrics, found.question
    words = f"{plan_words(other.candidate.plan)}: {cost_words(metrics)}"
    if question.wants_goodput:
        share = metrics.requests_per_s / best.metrics.requests_per_s
        words += f", {share:.2f} times the requests"
    else:
        goal = goal_of(found.compared_by, best.metrics, metrics)
        share = amount(goal, metrics) / amount(goal, best.metrics)
        words += f", the same {GOALS[goal]}" if share == 1 else f", {share:.2f} times the {GOALS[goal]}"
    return f"{words}; differs in {' and '.join(other.differs_in)}\n{other.why}"


def _alternatives(found: Recommendation, best: Candidate) -> Table:
    at = percentile_name(found.question.slo.percentile)
    goodput, objective = found.question.wants_goodput, found.compared_by
    open_ = bool(found.question.choices)
    rows: list[tuple[Cell | str, ...]] = []
    for candidate in found.alternatives:
        metrics = candidate.metrics
        if goodput:
            shown = format_rate(metrics.requests_per_s)
            share = metrics.requests_per_s / best.metrics.requests_per_s
        else:
            shown = f"{metrics.power_kw:,.1f} kW" if objective == "energy" else hourly(metrics)
            goal = goal_of(objective, metrics, best.metrics)
            share = amount(goal, metrics) / amount(goal, best.metrics)
        rows.append(
            (
                candidate.plan.mode,
                *([formats_words(candidate.plan)] if open_ else []),
                short_plan(candidate.plan),
                f"{metrics.gpus:,.0f}",
                shown,
                f"{share:.2f}×",
                format_duration(metrics.ttft_slo_s),
                format_duration(metrics.tpot_slo_s),
            )
        )
    title = "requests" if goodput else "power" if objective == "energy" else "cost"
    formats = "+~formats|" if open_ else ""
    columns = f"+mode|{formats}~plan|>GPUs|>{title}|>?vs best|>TTFT {at}|>TPOT {at}"
    # A search for the most goodput proves its best of each mode and kind, and passes others on the way.
    return table("Next best of those tried" if goodput else "Next best", columns, rows)


def _no_answer(found: Recommendation) -> list[Block]:
    infeasible = found.infeasible or Infeasible(binding="no layout meets the limits", nearest=None)
    question = found.question
    blocks: list[Block] = [
        Headline(f"No plan meets this: {infeasible.binding}", "bad"),
        Paragraph(f"{question.model} in {question.precision}; {wanted_words(question)}"),
    ]
    nearest = infeasible.nearest
    if nearest is not None:
        blocks.append(
            Paragraph(f"{plan_words(nearest.plan)}: {cost_words(nearest.metrics)}", title="The nearest miss")
        )
    if infeasible.misses:
        rows: list[tuple[Cell | str, ...]] = [
            (
                _LIMIT_TITLES.get(name, name.replace("inventory_", "inventory of ")),
                _limit(name, value),
                _limit(name, allowed),
                margin(value, allowed),
            )
            for name, (value, allowed) in infeasible.misses.items()
        ]
        blocks.append(table("By how much", "limit|>found|>allowed|margin", rows))
    blocks.append(Bullets(title="What would help", items=relax_words(infeasible)))
    return blocks


def _limit(name: str, value: float) -> str:
    if name == "usd_per_h":
        return f"{format_money(value)}/h"
    return format_duration(value) if name.endswith("_s") else f"{value:,.0f}"


def _records(found: Recommendation) -> list[dict[str, Any]]:
    rows: list[tuple[str, Candidate]] = []
    if found.best:
        rows.append(("best", found.best))
    rows += [("alternative", c) for c in found.alternatives]
    if found.best_other_mode:
        rows.append(("best_other_mode", found.best_other_mode))
    if found.best_other_kind:
        rows.append(("best_other_kind", found.best_other_kind.candidate))
    if found.infeasible and found.infeasible.nearest:
        rows.append(("nearest_miss", found.infeasible.nearest))
    return [{"answer": name, **record(candidate)} for name, candidate in rows]
