"""One workload, several ways to serve it: `recommend` or `evaluate` per row, cheapest first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from pdplan.architecture.model import Model
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.compose import World, evaluate_plan
from pdplan.errors import InputError
from pdplan.evaluate import judged, meets
from pdplan.inputs.deployments import read_deployment
from pdplan.inputs.given import Given, Values
from pdplan.inputs.questions import merged, question_from
from pdplan.plan import Metrics
from pdplan.question import Candidate
from pdplan.uncertainty import slo_of
from pdplan.units import format_duration
from pdplan.workload import Slo, Workload

VARIED = ("model", "hardware", "mode", "precision", "engine")
"""Inputs that a comparison may give several values."""
MAX_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way: what sets it apart, and what came of it."""

    label: Mapping[str, str]
    answer: Candidate | None
    reason: str = ""
    """Why there is no answer, or what the given plan misses."""
    meets: bool = True
    """Whether the answer keeps every objective: a given plan may not."""
    throughput: bool = False
    """Whether requests/s are a result (a closed loop, the most goodput) rather than what was asked for."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows, cheapest first, those without an answer last."""

    rows: tuple[Row, ...]
    workload: Workload
    slo: Slo
    catalog_sha256: str
    world: World
    notes: tuple[str, ...] = ()
    by_goodput: bool = False
    """No rate was given: rows are sorted by the requests that they serve."""
    open_formats: bool = False
    """Each row was searched over several formats, so that its plan's are part of the answer."""

    @property
    def best(self) -> Candidate | None:
        """The first answer that keeps the objectives."""
        return next((row.answer for row in self.rows if row.answer and row.meets), None)


def compare_questions(file: Values, flags: Values, catalog: Catalog) -> Comparison:
    """`recommend` for every combination of the inputs that were given more than once."""
    from pdplan.search import recommend
    from pdplan.search.reasons import price_notes

    values = merged(file, flags)
    axes = {key: choices_of(values[key]) for key in VARIED if key in values}
    count = math.prod(len(choices) for choices in axes.values())
    if count > MAX_ROWS:
        raise InputError(f"{count} rows are too many to compare; expected at most {MAX_ROWS}")
    rows: list[Row] = []
    notes: list[str] = []
    asked = None
    models: dict[str, Model] = {}
    accelerators: dict[str, Accelerator] = {}
    prices: dict[str, float] = {}
    for chosen in product(*axes.values()):
        asked = question_from({**values, **dict(zip(axes, chosen, strict=True))}, catalog)
        models.update(asked.world.models)
        accelerators.update(asked.world.accelerators)
        prices.update(asked.world.prices)
        found = recommend(asked.question, asked.world)
        question = asked.question
        label = {
            "model": question.model,
            "hardware": "+".join(dict.fromkeys((*question.prefill_hardware, *question.decode_hardware))),
            "mode": question.mode,
            "precision": found.best.plan.precision if found.best else question.precision,
            "engine": question.engine,
        }
        reason = found.infeasible.binding if found.infeasible else ""
        rows.append(
            Row(
                label=label,
                answer=found.best,
                reason=reason,
                meets=found.best is not None,
                throughput=question.wants_goodput,
            )
        )
        notes += [*asked.notes, *found.notes]
    assert asked is not None
    question = asked.question
    world = replace(asked.world, models=models, accelerators=accelerators, prices=prices)
    notes = [*(note for note in notes if "catalog price" not in note), *price_notes(accelerators, world)]
    return Comparison(
        rows=tuple(_sorted(rows, question.wants_goodput)),
        workload=question.workload,
        slo=question.slo,
        catalog_sha256=catalog.digest_of([*models.values(), *accelerators.values()]),
        world=world,
        notes=tuple(dict.fromkeys(notes)),
        by_goodput=question.wants_goodput,
        open_formats=bool(question.choices),
    )


def compare_files(files: Sequence[str | Path], flags: Values, catalog: Catalog) -> Comparison:
    """`evaluate` for every plan file; flags override each file's workload and objectives."""
    varied = [flags[key].where for key in (*VARIED, "mix") if key in flags]
    if varied:
        raise InputError(f"{varied[0]}: plan files say what they deploy; leave it out, or give no plan files")
    messages: list[str] = []
    deployments = []
    for path in files:
        try:
            deployments.append(read_deployment(path, catalog, flags))
        except InputError as problem:
            messages += problem.messages
    if messages:
        raise InputError(*messages)
    rows: list[Row] = []
    for found in deployments:
        metrics = evaluate_plan(found.world, found.plan, found.workload, found.slo)
        slo = slo_of(found.plan, found.slo)
        fine = bool(meets(metrics, slo))
        rows.append(
            Row(
                label={"file": found.source, "model": found.plan.model},
                answer=None if metrics.reason else Candidate(plan=found.plan, metrics=metrics),
                reason=metrics.reason or _missed(metrics, slo),
                meets=fine,
                throughput=found.workload.concurrency is not None,
            )
        )
    notes = [note for found in deployments for note in found.notes]
    if len({(d.workload, d.slo) for d in deployments}) > 1:
        notes.insert(
            0,
            "the files differ in workload or objectives; flags such as --rate set them for all rows",
        )
    models = {k: v for d in deployments for k, v in d.world.models.items()}
    accelerators = {k: v for d in deployments for k, v in d.world.accelerators.items()}
    first = deployments[0]
    return Comparison(
        rows=tuple(_sorted(rows, False)),
        workload=first.workload,
        slo=first.slo,
        catalog_sha256=catalog.digest_of([*models.values(), *accelerators.values()]),
        world=World(
            models=models,
            accelerators=accelerators,
            prices={k: v for d in deployments for k, v in d.world.prices.items()},
            network=first.world.network,
            market=first.world.market,
            calibration=first.world.calibration,
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def cost(candidate: Candidate) -> float:
    """Dollars per hour; NaN where no price is known."""
    return float(candidate.metrics.usd_per_h)


# ------------------------------------------------------------------------ inside


def _missed(metrics: Metrics, slo: Slo) -> str:
    """TPOT is 29.7 ms, 20.0 ms are allowed; nothing where every objective is kept."""
    found = judged(metrics, slo)
    sure = "" if slo.confidence is None else f" at {slo.confidence * 100:g} % confidence"
    pairs = (("TTFT", "ttft_s"), ("TPOT", "tpot_s"), ("request latency", "request_latency_s"))
    return "; ".join(
        f"{name} is {format_duration(found[field])}{sure}, {format_duration(limit)} are allowed"
        for name, field in pairs
        if (limit := getattr(slo, field)) is not None and not found[field] <= limit
    )


def choices_of(given: Given) -> list[Given]:
    """The values of one input, each on its own."""
    many = given.value if isinstance(given.value, list | tuple) else [given.value]
    return [Given(value, given.where) for value in dict.fromkeys(many)]


def _sorted(rows: list[Row], by_goodput: bool) -> list[Row]:
    """Answers that keep the objectives first, then the cheapest; else in the order given."""

    def key(row: Row) -> tuple[bool, bool, float]:
        if row.answer is None:
            return True, True, 0.0
        amount = -row.answer.metrics.requests_per_s if by_goodput else cost(row.answer)
        return False, not row.meets, math.inf if math.isnan(amount) else float(amount)

    return sorted(rows, key=key)
