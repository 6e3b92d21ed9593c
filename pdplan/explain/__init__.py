"""The derivation of a plan's numbers, line by line, from the planner's own results.

derivation    what a derivation is made of
arithmetic    the notation of its lines
builder       quantities, lines, sections
sources       where constants come from
case          the plan, evaluated
architecture  1 the model in numbers
seed          2 the seed formulas, 3 the laws in the ideal limit
memory_fit    4 memory
kernels, messages, steps, pipeline, phases, mixed
              5 prefill, 6 decode
waiting       7 KV transfer, 8 queueing
outcome       9 latency, 10 rates, 11 cost
mixture       5 to 10 for pools of several kinds of workers
"""

from __future__ import annotations

from dataclasses import replace

from pdplan.compose import World
from pdplan.explain.architecture import write_model
from pdplan.explain.builder import Builder
from pdplan.explain.case import Case, case_of, write_question
from pdplan.explain.derivation import SECTION_KEYS, Derivation, Input, Line, Section, StepTable, TermRow
from pdplan.explain.memory_fit import write_memory
from pdplan.explain.mixed import write_mixed
from pdplan.explain.mixture import write_mixture
from pdplan.explain.outcome import Found, answer, write_cost, write_latency, write_rates
from pdplan.explain.phases import write_decode, write_prefill
from pdplan.explain.seed import write_ideal, write_seed
from pdplan.explain.waiting import write_queueing, write_transfer
from pdplan.plan import Colocated, Mixed, Plan, role_of
from pdplan.workload import Slo, Workload

__all__ = ["SECTION_KEYS", "Derivation", "Input", "Line", "Section", "StepTable", "TermRow", "derive"]


def derive(world: World, plan: Plan, workload: Workload, slo: Slo, *, ideal: bool = False) -> Derivation:
    """Every number of a plan from formulas, constants and sources.

    The results are those of `evaluate_plan`, term by term. With `ideal`, efficiencies are 1
    and overheads 0. Raises InputError if the workload has neither rate nor concurrency.
    """
    case = case_of(replace(world, ideal=True) if ideal else world, plan, workload, slo)
    b = Builder()
    write_question(b, case)
    model = write_model(b, case)
    write_seed(b, case, model)
    write_ideal(b, case, model)
    write_memory(b, case)
    found = write_mixture(b, case) if isinstance(plan, Mixed) else _write_pools(b, case)
    write_cost(b, case, found)
    return b.build(f"{plan.model} on {_where(plan)}", case.metrics.reason, answer(found))


def _write_pools(b: Builder, case: Case) -> Found:
    """From the steps of each pool to latencies and rates, equal workers in each."""
    if isinstance(case.plan, Colocated):
        found = write_mixed(b, case)
    else:
        found = write_prefill(b, case)
        found |= write_decode(b, case)
        found |= write_transfer(b, case, found["S"])
    found |= write_queueing(b, case, found)
    write_latency(b, case, found)
    write_rates(b, case, found)
    return found


def _where(plan: Plan) -> str:
    return " + ".join(f"{p.workers} {role_of(name)} {p.hardware} {p.label}" for name, p in plan.pools.items())
