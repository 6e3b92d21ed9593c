"""pdplan from Python: the commands as functions, results as values.

Values are read as the flags are: `isl="4k"` or 4096, `ttft="2s"` or 2.0 (seconds), `rate=20`.
Every function raises a `PdplanError` for input that is wrong; "infeasible" is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pdplan.catalog.store import Catalog
from pdplan.comparison import Comparison, compare_files, compare_questions
from pdplan.compose import World, evaluate_plan
from pdplan.documents.files import Document
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.inputs import Deployment, Given, deployment_from, question_from, read_deployment, read_question
from pdplan.inputs.questions import merged
from pdplan.plan import Colocated, Disaggregated, Metrics, Mixed, Plan
from pdplan.question import Candidate, Question, Recommendation

if TYPE_CHECKING:
    from pdplan.explain import Derivation
    from pdplan.search.fleets.fleet_plan import FleetPlan
    from pdplan.search.front import Front
    from pdplan.search.what_if.breakeven import BreakEven
    from pdplan.search.what_if.sensitivity import Sensitivity

Quantity = str | float
File = str | PathLike[str]


class _Traffic(TypedDict, total=False):
    isl: Quantity
    osl: Quantity
    rate: Quantity
    concurrency: Quantity
    isl_cv: float
    osl_cv: float
    arrival_cv: float
    prefix_reuse: Quantity
    ttft: Quantity
    tpot: Quantity
    latency: Quantity
    percentile: Quantity
    confidence: Quantity
    network: str | Mapping[str, Quantity]
    prices: Mapping[str, Quantity]
    inventory: Mapping[str, Any]
    price_kind: str
    provider: str
    granularity: str
    calibration: str | PathLike[str]


class DeploymentInputs(_Traffic, total=False):
    """What `evaluate` takes beside a plan: workload, objectives, prices, network."""


class QuestionInputs(_Traffic, total=False):
    """What `recommend` takes: the keys of a question file."""

    model: str
    hardware: str | Sequence[str]
    prefill_hardware: str | Sequence[str]
    decode_hardware: str | Sequence[str]
    precision: str | Sequence[str]
    kv_precision: str | Sequence[str]
    engine: str
    mode: str
    max_gpus: int
    max_usd_per_h: Quantity
    max_gpus_per_worker: int
    speculation: str | Mapping[str, Quantity]
    drafted: int
    acceptance: Quantity
    chunk_tokens: Quantity
    redundant_experts: int
    overlap: str
    alternatives: int
    objective: str
    spare: int | str
    headroom: Quantity
    mix: bool


class ComparisonInputs(_Traffic, total=False):
    """What `compare` takes: a list for a varied input gives one row each."""

    model: str | Sequence[str]
    hardware: str | Sequence[str]
    mode: str | Sequence[str]
    precision: str | Sequence[str]
    engine: str | Sequence[str]
    kv_precision: str
    max_gpus: int
    max_usd_per_h: Quantity
    max_gpus_per_worker: int
    speculation: str
    drafted: int
    acceptance: Quantity
    redundant_experts: int
    overlap: str
    mix: bool


def recommend(
    question: Question | File | None = None,
    world: World | None = None,
    *,
    catalog: Catalog | None = None,
    **inputs: Unpack[QuestionInputs],
) -> Recommendation:
    """The cheapest deployment that meets the objectives; the best of the other mode beside it.

    `question` is a question file, or a Question together with its World; `inputs` override a file's.

    >>> found = recommend(model="llama-3.1-8b", hardware="h100", isl="2k", osl=256, rate=2, tpot="30ms")
    >>> found.best.plan.model
    'llama-3.1-8b'
    """
    from pdplan.search import recommend as search

    return search(*_asked(question, world, inputs, catalog, "recommend"))


def sensitivity(found: Recommendation, *, change: float = 0.2, inputs: Sequence[str] = ()) -> Sensitivity:
    """What each input moves when it alone is (1 − change) and (1 + change) times its value.

    `inputs` restricts it to some: "rate", "tpot", "price.h200", "memory_bandwidth.h200", ...

    >>> asked = {"model": "llama-3.1-8b", "hardware": "h100", "isl": "2k", "osl": 256, "rate": 9}
    >>> sensitivity(recommend(**asked, tpot="30ms"), inputs=["rate"]).counted
    'cost'
    """
    from pdplan.search.what_if.sensitivity import sensitivity as vary

    if not 0 < change < 1:
        raise InputError(f"change: {change:g} is out of range; expected more than 0 and less than 1")
    return vary(_answer(found, "sensitivity"), change=change, only=_names(inputs))


def break_even(found: Recommendation, *, inputs: Sequence[str] = ()) -> BreakEven:
    """Values of the rate or budget, lengths, limits, the network and prices at which the answer turns.

    `inputs` restricts it to some, as in `sensitivity`.
    """
    from pdplan.search.what_if.breakeven import break_even as turns

    return turns(_answer(found, "break_even"), only=_names(inputs))


def front(
    question: Question | File | None = None,
    world: World | None = None,
    *,
    by_cost: bool = False,
    catalog: Catalog | None = None,
    **inputs: Unpack[QuestionInputs],
) -> Front:
    """The Pareto front of output tokens/s per accelerator against tokens/s of one user, both modes.

    `by_cost`: dollars per million output tokens instead. A rate plays no part.

    >>> found = front(model="llama-3.1-8b", hardware="h100", isl="2k", osl=256)
    >>> found.points[0].output_tok_per_s_per_gpu > found.points[-1].output_tok_per_s_per_gpu
    True
    """
    from pdplan.search.front import pareto_front

    asked, where = _asked(question, world, inputs, catalog, "front")
    return pareto_front(asked, where, by_cost=by_cost)


def evaluate(
    plan: Plan | Candidate | Mapping[str, Any] | File,
    *,
    catalog: Catalog | None = None,
    **inputs: Unpack[DeploymentInputs],
) -> Metrics:
    """The metrics of a deployment: a plan, the mapping of a plan file, or the file itself.

    >>> plan = {"model": "llama-3.1-8b", "colocated": {"hardware": "h100", "workers": 1}}
    >>> round(evaluate(plan, isl="2k", osl=256, rate=2).requests_per_s)
    2
    """
    found = _deployment(plan, inputs, catalog)
    return evaluate_plan(found.world, found.plan, found.workload, found.slo)


def compare(
    files: Sequence[File] = (), *, catalog: Catalog | None = None, **inputs: Unpack[ComparisonInputs]
) -> Comparison:
    """Several ways to serve one workload, cheapest first: plan files, or the combinations of inputs.

    >>> found = compare(model="llama-3.1-8b", hardware=["h100", "l40s"], isl="2k", osl=256, rate=2)
    >>> len(found.rows)
    2
    """
    values = _given(inputs, ComparisonInputs)
    if isinstance(files, str | PathLike):
        files = [files]
    if files:
        return compare_files([str(f) for f in files], values, _entries(catalog))
    return compare_questions({}, values, _entries(catalog))


def fleet(
    deployments: Mapping[str, Any] | File, *, catalog: Catalog | None = None, **inputs: Any
) -> FleetPlan:
    """Several deployments on shared accelerators at least cost together.

    `deployments` is a fleet file, or the mapping that it would hold; `inputs` override what stands at
    its top: inventory, prices, price_kind, provider, granularity, max_gpus, max_usd_per_h, time_limit.

    >>> chat = {"model": "llama-3.1-8b", "isl": "2k", "osl": 256, "rate": 2, "tpot": "30ms"}
    >>> found = fleet({"inventory": {"h100": 8}, "deployments": {"chat": chat, "more": chat | {"rate": 4}}})
    >>> [each.name for each in found.assigned]
    ['chat', 'more']
    """
    from pdplan.inputs.fleets import BUDGET_KEYS, SHARED_KEYS, fleet_from, read_fleet
    from pdplan.search.fleets.fleet_plan import plan_fleet

    known = (*SHARED_KEYS, *BUDGET_KEYS)
    for key in inputs:
        if key not in known:
            raise InputError(f"unknown input '{key}' (known: {', '.join(sorted(known))})")
    flags = {key: Given(value, key) for key, value in inputs.items() if value is not None}
    entries = _entries(catalog)
    if isinstance(deployments, Mapping):
        asked = fleet_from(Document(path="fleet", data=_plain(deployments), text=""), entries, flags)
    else:
        asked = read_fleet(_file(deployments, "fleet"), entries, flags)
    return plan_fleet(asked.wanted, asked.budgets)


def explain(
    plan: Plan | Candidate | Mapping[str, Any] | File,
    *,
    catalog: Catalog | None = None,
    **inputs: Unpack[DeploymentInputs],
) -> Derivation:
    """The derivation of a deployment's metrics, line by line."""
    from pdplan.explain import derive

    found = _deployment(plan, inputs, catalog)
    return derive(found.world, found.plan, found.workload, found.slo)


# ------------------------------------------------------------------------ inside


def _given(inputs: Mapping[str, Any], kind: Any) -> dict[str, Given]:
    known = kind.__annotations__.keys() | _Traffic.__annotations__.keys()
    for key in inputs:
        if key not in known:
            close = nearest(key, known)
            hint = (
                f"; did you mean {quoted_list(close)}?" if close else f" (known: {', '.join(sorted(known))})"
            )
            raise InputError(f"unknown input '{key}'{hint}")
    return {key: Given(value, key) for key, value in inputs.items() if value is not None}


def _entries(catalog: Catalog | None) -> Catalog:
    if catalog is None:
        return Catalog()
    if not isinstance(catalog, Catalog):
        raise InputError(f"catalog: {catalog!r} is no pdplan.Catalog; write pdplan.Catalog([folder])")
    return catalog


def _asked(
    question: Question | File | None,
    world: World | None,
    inputs: Mapping[str, Any],
    catalog: Catalog | None,
    what: str,
) -> tuple[Question, World]:
    """A question and its world, however they were given; only `recommend` needs a load."""
    if isinstance(question, Question):
        if world is None or inputs:
            raise InputError(f"{what}: a Question needs its World beside it, and no other inputs")
        return question, world
    values = _merged(question, inputs, QuestionInputs)
    asked = question_from(values, _entries(catalog), needs_load=what == "recommend")
    return asked.question, asked.world


def _merged(file: File | None, inputs: Mapping[str, Any], kind: Any) -> Mapping[str, Given]:
    return merged(read_question(Path(file)) if file is not None else {}, _given(inputs, kind))


def _deployment(
    plan: Plan | Candidate | Recommendation | Mapping[str, Any] | File,
    inputs: Mapping[str, Any],
    catalog: Catalog | None,
) -> Deployment:
    values, entries = _given(inputs, DeploymentInputs), _entries(catalog)
    if isinstance(plan, Recommendation):
        raise InputError("plan: this is a recommendation; give its answer, found.best, or another plan")
    if isinstance(plan, Candidate):
        plan = plan.plan
    if isinstance(plan, Colocated | Disaggregated | Mixed):
        from pdplan.report.contract import plan_json

        plan = plan_json(plan)
    if isinstance(plan, Mapping):
        return deployment_from(Document(path="plan", data=_plain(plan), text=""), entries, values)
    return read_deployment(_file(plan, "plan"), entries, values)


def _file(given: Any, name: str) -> Path:
    if not isinstance(given, str | PathLike):
        raise InputError(f"{name}: {given!r} is no {name}; give one, a mapping or a file")
    return Path(given)


def _answer(found: Any, what: str) -> Recommendation:
    if not isinstance(found, Recommendation):
        raise InputError(f"{what}: {found!r} is no recommendation; give what pdplan.recommend returned")
    return found


def _names(inputs: Sequence[str]) -> Sequence[str]:
    return [inputs] if isinstance(inputs, str) else inputs


def _plain(plan: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return _plain(value)
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return {k: plain(v) for k, v in plan.items()}
