"""Both modes side by side: how many times the requests that separate phases serve for the same means.

One question, or a grid over prompt length, answer length and TPOT limit: a map of where
disaggregation pays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from pdplan.architecture.model import Model
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.comparison import VARIED, choices_of
from pdplan.compose import World
from pdplan.errors import InputError
from pdplan.inputs.given import Given, Values
from pdplan.inputs.questions import merged, question_from
from pdplan.question import Candidate, Mode, Question, amount
from pdplan.workload import Slo, Workload

Means = Literal["accelerators", "cost"]
Verdict = Literal["disaggregated", "colocated", "even", "none"]

MODES: tuple[Mode, ...] = ("disaggregated", "colocated")
GRID = ("isl", "osl", "tpot")
"""Inputs that may be given several times beside those of any comparison: the axes of a map."""
MAX_CELLS = 400
EVEN = 0.05
"""Modes closer than this are called even: whole workers alone move a plan by as much."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """The best plan of one mode, and what keeps it from being better; or why there is none."""

    answer: Candidate | None
    binding: str


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The two modes for one workload and SLO."""

    label: Mapping[str, str]
    """model, hardware, precision, engine."""
    workload: Workload
    slo: Slo
    disaggregated: Side
    colocated: Side
    ratio: float
    """Requests of the disaggregated plan over those of the colocated one for the same means:
    infinite where only disaggregation meets the limits, 0 where only colocation does, NaN where
    neither does."""

    @property
    def verdict(self) -> Verdict:
        """Which mode is ahead by more than `EVEN`."""
        if math.isnan(self.ratio):
            return "none"
        if self.ratio > 1 + EVEN:
            return "disaggregated"
        return "colocated" if self.ratio < 1 / (1 + EVEN) else "even"


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Contests in the order of the inputs, the last one varying fastest."""

    contests: tuple[Contest, ...]
    means: Means
    """What both modes have the same amount of: accelerators (the most requests that they serve),
    or requests, whose cost is compared."""
    world: World
    catalog_sha256: str
    notes: tuple[str, ...] = ()


def compare_modes(file: Values, flags: Values, catalog: Catalog) -> Modes:
    """The best plan of either mode for every combination of the inputs that were given more than once.

    Without a rate, both modes have `max_gpus` accelerators and the ratio is that of their
    goodputs; with one, the ratio is the colocated plan's cost over the disaggregated plan's.
    Raises InputError for what cannot be compared.
    """
    values = merged(file, flags)
    if "mode" in values:
        raise InputError(f"{values['mode'].where}: --modes compares both; leave one of the two out")
    if "mix" in values:
        raise InputError(f"{values['mix'].where}: --modes compares equal workers; leave one of the two out")
    axes = {key: choices_of(values[key]) for key in (*VARIED, *GRID) if key in values}
    cells = math.prod(len(c) for c in axes.values())
    if cells > MAX_CELLS:
        raise InputError(f"{cells} combinations are too many for one map; expected at most {MAX_CELLS}")
    models: dict[str, Model] = {}
    accelerators: dict[str, Accelerator] = {}
    prices: dict[str, float] = {}
    contests: list[Contest] = []
    notes: list[str] = []
    asked = None
    for chosen in product(*axes.values()):
        asked = question_from({**values, **dict(zip(axes, chosen, strict=True))}, catalog)
        models.update(asked.world.models)
        accelerators.update(asked.world.accelerators)
        prices.update(asked.world.prices)
        contests.append(contest(asked.question, asked.world))
        notes += asked.notes
    assert asked is not None
    return Modes(
        contests=tuple(contests),
        means="accelerators" if asked.question.wants_goodput else "cost",
        world=replace(asked.world, models=models, accelerators=accelerators, prices=prices),
        catalog_sha256=catalog.digest_of([*models.values(), *accelerators.values()]),
        notes=tuple(dict.fromkeys(notes)),
    )


def contest(question: Question, world: World) -> Contest:
    """The best plan of each mode, each searched on its own."""
    from pdplan.search.recommend import answer_of

    found = {mode: answer_of(replace(question, mode=mode), world) for mode in MODES}
    sides = {
        mode: Side(answer=f.best, binding=f.binding or f"no {mode} plan meets the limits")
        for mode, f in found.items()
    }
    apart, together = found["disaggregated"], found["colocated"]
    if apart.best is None or together.best is None:
        ratio = math.inf if apart.best else 0.0 if together.best else math.nan
    elif question.wants_goodput:
        ratio = apart.best.metrics.requests_per_s / together.best.metrics.requests_per_s
    else:
        goal = "gpus" if "gpus" in (apart.compared_by, together.compared_by) else question.objective
        ratio = amount(goal, together.best.metrics) / amount(goal, apart.best.metrics)
    return Contest(
        label={
            "model": question.model,
            "hardware": "+".join(dict.fromkeys((*question.prefill_hardware, *question.decode_hardware))),
            "precision": question.precision,
            "engine": question.engine,
        },
        workload=question.workload,
        slo=question.slo,
        disaggregated=sides["disaggregated"],
        colocated=sides["colocated"],
        ratio=float(ratio),
    )


def plain(values: Values) -> dict[str, Given]:
    """The values of a question that is no map; InputError where a length or limit is given several times."""
    found = dict(values)
    for key in GRID:
        if key in values:
            choices = choices_of(values[key])
            if len(choices) > 1:
                raise InputError(
                    f"{values[key].where}: several values make a map; add --modes, or give it once"
                )
            found[key] = choices[0]
    return found
