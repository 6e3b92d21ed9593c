"""Plan LLM inference deployments: what to buy, how to lay it out, and why.

>>> import pdplan
>>> found = pdplan.recommend(model="llama-3.1-8b", hardware="h100", isl="2k", osl=256, rate=2, tpot="30ms")
>>> found.best.plan.mode in ("colocated", "disaggregated")
True

What is named in `__all__` is loaded on first use, so that `import pdplan` costs nothing.

Where things are, along the way from what is given to what is said:

catalog, architecture, workload      models and accelerators, lengths and objectives
ops, laws, step                      counts of one forward step, the laws of their times, its seconds
efficiency, calibrated, uncertainty  constants, a user's own, and how far off predictions are
serving, memory, plan, evaluate      pools, queues, what fits; a plan and its metrics
compose                              the one point where catalogs, plans and workloads become metrics
search, comparison, modes            the cheapest plan, plans side by side
explain, budget                      why, and whether a deployment keeps its limits
report, inputs, cli, api             how it is said and asked
measured, calibration                measured runs, and the fits of constants to them
documents, units, printing, errors   files, quantities, errors
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "Catalog",
    "CatalogError",
    "Colocated",
    "Comparison",
    "Disaggregated",
    "Infeasible",
    "InputError",
    "Metrics",
    "NoPriceError",
    "PdplanError",
    "PoolPlan",
    "Question",
    "Recommendation",
    "Slo",
    "Speculation",
    "UnknownNameError",
    "Workload",
    "World",
    "break_even",
    "compare",
    "evaluate",
    "explain",
    "fleet",
    "front",
    "recommend",
    "sensitivity",
]

if TYPE_CHECKING:
    from pdplan.api import break_even, compare, evaluate, explain, fleet, front, recommend, sensitivity
    from pdplan.catalog.store import Catalog
    from pdplan.comparison import Comparison
    from pdplan.compose import World
    from pdplan.errors import CatalogError, InputError, NoPriceError, PdplanError, UnknownNameError
    from pdplan.plan import Colocated, Disaggregated, Metrics, PoolPlan
    from pdplan.question import Candidate, Infeasible, Question, Recommendation
    from pdplan.workload import Slo, Speculation, Workload

_HOMES = {
    "api": ("break_even", "compare", "evaluate", "explain", "fleet", "front", "recommend", "sensitivity"),
    "catalog.store": ("Catalog",),
    "comparison": ("Comparison",),
    "compose": ("World",),
    "errors": ("CatalogError", "InputError", "NoPriceError", "PdplanError", "UnknownNameError"),
    "plan": ("Colocated", "Disaggregated", "Metrics", "PoolPlan"),
    "question": ("Candidate", "Infeasible", "Question", "Recommendation"),
    "workload": ("Slo", "Speculation", "Workload"),
}


class _Package(ModuleType):
    """A package whose functions keep their names where a submodule has the same one (`evaluate`, `explain`).

    Python sets a submodule as an attribute of its package when it is first imported, which
    would turn `pdplan.evaluate(...)` into a call of a module. `from pdplan.evaluate import ...` works.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'pdplan' has no attribute '{name}'")
    value = getattr(import_module(f"pdplan.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
