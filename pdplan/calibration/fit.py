"""Fitting the kernel law to measured kernels, robustly and reproducibly.

The interface that every family module (`gemm.py`, `experts.py`, `attention.py`,
`recurrence.py`, `collectives.py`) follows:

    SOURCES: dict[str, dict[str, str]]              # key -> {title, reference, date[, note]}
    def fit(tables: Tables) -> list[Block]: ...

A `Block` is one entry of constants/kernels.json. `fit_roofline` minimises the soft-L1
of log(predicted / measured), so that a factor of two too slow weighs as much as a
factor of two too fast and outliers pull little. Every fifth shape (by hash) is left
out, the constants are those of the other four, and the error on the fifth is
reported beside the error on all.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.laws.roofline import Array, Roofline

Scope = Literal["defaults", "generations", "accelerators"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One entry of constants/kernels.json.

    `name` is the generation or accelerator ("" for defaults), `dtype` the arithmetic
    type, "" for an entry that serves every type (links, elementwise).
    """

    scope: Scope
    name: str
    family: str
    dtype: str
    entry: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Apart:
    """When an engine gets constants of its own."""

    difference: float
    """The common constants miss its kernels by more than this in the median,"""
    gain: float
    """and its own miss by this share of that at most."""


NEAR = Apart(difference=0.07, gain=0.8)
NEVER = Apart(difference=np.inf, gain=0.0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a family is fitted: start values, which constants are free, when engines are told apart."""

    start: Roofline
    free: tuple[str, ...]
    told: Apart = NEAR
    known: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    """Accelerator or generation -> constants that other measurements tell; they are not free there."""

    def at(self, name: str) -> Recipe:
        """The recipe of one accelerator or generation, what is known of it put in."""
        known = self.known.get(name, {})
        free = tuple(f for f in self.free if f not in known)
        return dataclasses.replace(self, start=dataclasses.replace(self.start, **known), free=free, known={})


@dataclass(frozen=True, kw_only=True)
class FittedRoofline:
    """A law, and how far it stands from what it was fitted to (errors: |predicted/measured − 1|)."""

    law: Roofline
    rows: int
    median_error: float
    p90_error: float
    held_out_median_error: float
    """On every fifth shape, under constants fitted without them."""
    bias: float
    """Median of predicted/measured − 1."""

    def entry(self, source: str, shapes: str, free: Sequence[str], **more: Any) -> dict[str, Any]:
        """The entry for kernels.json: fitted constants, then what they were fitted to."""
        constants = {f.name: rounded(getattr(self.law, f.name)) for f in dataclasses.fields(Roofline)}
        defaults = dataclasses.asdict(Roofline())
        kept = {k: v for k, v in constants.items() if k in free or v != defaults[k]}
        return {
            **kept,
            "rows": self.rows,
            "median_error": rounded(self.median_error),
            "p90_error": rounded(self.p90_error),
            "held_out_median_error": rounded(self.held_out_median_error),
            "shapes": shapes,
            "source": source,
            **more,
        }


def predicted_s(counts: Counts | Sequence[Counts], rates: Rates, law: Roofline) -> Array:
    """Seconds that the planner's own law gives; a sequence of counts is kernels run one after the other."""
    parts = [counts] if isinstance(counts, Counts) else counts
    total: Array = np.zeros(())
    for part in parts:
        total = total + kernel_time(part, rates, law).total_s
    return total


BOUNDS: dict[str, tuple[float, float]] = {
    "compute_efficiency": (0.005, 1.0),
    "memory_efficiency": (0.005, 1.0),
    "overhead_s": (1e-8, 1e-3),
    "exponent": (1.0, 8.0),
    "activation_traffic": (0.0, 20.0),
    "row_tile": (0.0, 2e5),  # attention: rows that fill every unit at once
    "score_flop": (0.0, 2048.0),
    "depth_s": (1e-13, 1e-7),
    "input_traffic": (0.0, 20.0),
}
"""Physical limits: nothing beats the data sheet, nothing takes negative time."""


def fit_roofline(
    counts: Counts | Sequence[Counts],
    measured_s: ArrayLike,
    rates: Rates,
    recipe: Recipe,
    weights: ArrayLike | None = None,
) -> FittedRoofline:
    """The free constants that bring the law nearest to `measured_s`; the others stay as they start.

    rates: scalars, or one per row where accelerators are pooled. weights: of the rows in the fit
    (not in the reported errors).
    """
    measured = np.asarray(measured_s, dtype=float)

    def model(law: Roofline) -> Array:
        return predicted_s(counts, rates, law)

    weight = np.sqrt(np.ones_like(measured) if weights is None else np.asarray(weights, dtype=float))
    held = held_out(np.broadcast_to(np.asarray(_hash_basis(counts)), measured.shape))
    law_without = _minimise(model, measured, recipe, weight * ~held)
    law = _minimise(model, measured, dataclasses.replace(recipe, start=law_without), weight)
    law = dataclasses.replace(law, **{k: _tidy(getattr(law, k), BOUNDS[k]) for k in recipe.free})
    ratio = model(law) / measured
    error = np.abs(ratio - 1.0)
    blind = np.abs(model(law_without) / measured - 1.0)[held]
    return FittedRoofline(
        law=law,
        rows=int(measured.size),
        median_error=float(np.median(error)),
        p90_error=float(np.percentile(error, 90)),
        held_out_median_error=float(np.median(blind)) if blind.size else math.nan,
        bias=float(np.median(ratio) - 1.0),
    )


def _minimise(
    model: Callable[[Roofline], Array],
    measured: Array,
    recipe: Recipe,
    weight: Array,
) -> Roofline:
    """Positive constants are sought as logarithms (they span decades), the rest as they are."""
    from scipy.optimize import least_squares

    start, free = recipe.start, recipe.free
    bounds = [BOUNDS[name] for name in free]
    is_log = np.array([low > 0 for low, _ in bounds])
    used = weight > 0

    def forward(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(is_log, np.log(np.maximum(values, 1e-300)), values)

    def law_of(x: NDArray[np.float64]) -> Roofline:
        values = np.where(is_log, np.exp(np.where(is_log, x, 0.0)), x)
        return dataclasses.replace(start, **dict(zip(free, values.tolist(), strict=True)))

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        log_ratio = np.log(model(law_of(x)) / measured)
        return np.asarray((log_ratio * weight)[used])

    low, high = (forward(np.array(b)) for b in zip(*bounds, strict=True))
    margin = 1e-6 * (high - low)
    x0 = np.clip(forward(np.array([getattr(start, name) for name in free])), low + margin, high - margin)
    found = least_squares(
        residuals, x0, bounds=(low, high), loss="soft_l1", f_scale=0.1, x_scale="jac", max_nfev=200
    )
    return law_of(found.x)


def _hash_basis(counts: Counts | Sequence[Counts]) -> Array:
    first = counts if isinstance(counts, Counts) else counts[0]
    parts = np.broadcast_arrays(first.flop, first.stored_bytes, first.activation_bytes)
    return np.asarray(parts[0] * 3.0 + parts[1] * 7.0 + parts[2] * 13.0, dtype=float)


def held_out(shape: ArrayLike, fold: int = 5) -> NDArray[np.bool_]:
    """One shape in `fold`, chosen by a hash of the number that stands for it: the same in every run.

    >>> held_out(np.arange(1.0, 8.0)).tolist()
    [False, False, False, False, False, False, False]
    """
    bits = np.atleast_1d(np.asarray(shape, dtype=np.float64)).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((mixed >> np.uint64(40)) % np.uint64(fold) == 0).reshape(np.shape(shape))


def rounded(value: float, digits: int = 4) -> float:
    """To `digits` significant digits.

    >>> rounded(0.123456), rounded(3.00004e-6), rounded(float("inf"))
    (0.1235, 3e-06, inf)
    """
    return float(f"{value:.{digits}g}") if math.isfinite(value) else value


def _tidy(value: float, bounds: tuple[float, float]) -> float:
    """Rounded; what fell to its lower bound, or next to it, is zero."""
    low, high = bounds
    return 0.0 if low < 1e-9 and value < low + 1e-6 * (high - low) and value < 1e-3 * high else rounded(value)


def span(values: ArrayLike) -> str:
    """The range of a column, for `shapes`.

    >>> span([64, 7168]), span([8, 8])
    ('64-7168', '8')
    """
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:.6g}-{high:.6g}"
