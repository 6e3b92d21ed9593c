"""Measurements of one kernel family, gathered from several tables and fitted together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import Block, Counts, FittedRoofline, Scope, fit_roofline, rounded, span
from pdplan.calibration.tables import ACCELERATORS, GENERATIONS, Sheet
from pdplan.laws.roofline import Array, Roofline

_COUNTS = ("flop", "stored_bytes", "activation_bytes", "rows", "groups", "depth", "scores")
FEWEST_ROWS = 8
"""Fewer measurements than this fit no law."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Kernels of one family and arithmetic type on one accelerator: counts beside seconds.

    `counts` holds one array per field of `fit.Counts` that the family uses.
    """

    family: str
    dtype: str
    accelerator: str
    sheet: Sheet
    counts: Mapping[str, Array]
    seconds: Array
    engine: NDArray[Any]
    shapes: Mapping[str, Array]
    """What the counts were made of, for `shapes` of the entry."""
    source: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.family, self.dtype)

    def where(self, mask: NDArray[np.bool_]) -> Measured:
        """The rows that `mask` names."""
        rows = len(self.seconds)

        def cut(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {k: np.broadcast_to(v, rows)[mask] for k, v in arrays.items()}

        return Measured(
            family=self.family, dtype=self.dtype, accelerator=self.accelerator, sheet=self.sheet,
            counts=cut(self.counts), seconds=self.seconds[mask], engine=self.engine[mask],
            shapes=cut(self.shapes), source=self.source,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a family is fitted: which constants are free, and where they may go."""

    start: Roofline
    free: tuple[str, ...]
    bounds: Mapping[str, tuple[float, float]] | None = None


def blocks(measured: Iterable[Measured], recipes: Mapping[str, Recipe]) -> list[Block]:
    """Entries of every accelerator, and of every generation from its accelerators together."""
    groups: dict[tuple[Scope, str, str, str], list[Measured]] = {}
    for m in measured:
        groups.setdefault(("accelerators", m.accelerator, *m.key), []).append(m)
        for generation, members in GENERATIONS.items():
            if m.accelerator in members:
                groups.setdefault(("generations", generation, *m.key), []).append(m)
    for (scope, _, family, dtype), parts in list(groups.items()):
        # An accelerator outside the tables stands for its generation only where none inside does.
        if scope == "accelerators" and parts[0].accelerator not in ACCELERATORS:
            groups.setdefault(("generations", parts[0].sheet.generation, family, dtype), parts)
    order = {name: i for i, name in enumerate((*GENERATIONS, *ACCELERATORS))}
    found = []
    for scope, name, family, dtype in sorted(groups, key=lambda k: (k[0], order.get(k[1], 99), k[1:])):
        parts = groups[(scope, name, family, dtype)]
        if sum(len(p.seconds) for p in parts) < FEWEST_ROWS:
            continue
        entry = _entry(parts, recipes[family])
        found.append(Block(scope=scope, name=name, family=family, dtype=dtype, entry=entry))
    return found


SLOWER = 2.0
"""An engine this many times slower than another at the same shapes runs a fall-back kernel."""


def without_fallbacks(measured: Measured) -> Measured:
    """Without engines whose kernels nobody would choose: SGLang's MLA prefill in the absorbed
    form (3.4 times the arithmetic), its FP8 MLA cache through a gather, and the like."""
    names = sorted({*measured.engine.tolist()})
    shape = [tuple(row) for row in np.stack([np.broadcast_to(v, len(measured.seconds)) for v in measured.counts.values()], 1).tolist()]
    times: dict[str, dict[tuple[float, ...], float]] = {name: {} for name in names}
    for engine, key, seconds in zip(measured.engine.tolist(), shape, measured.seconds.tolist(), strict=True):
        times[engine][key] = seconds
    slow = set()
    for name in names:
        for other in names:
            common = sorted(times[name].keys() & times[other].keys(), key=lambda k: k[0])[len(times[name]) // 4 :]
            ratios = [times[name][k] / times[other][k] for k in common]
            if ratios and np.median(ratios) > SLOWER:
                slow.add(name)
    return measured.where(~np.isin(measured.engine, sorted(slow)))


def fit_together(parts: Sequence[Measured], recipe: Recipe) -> FittedRoofline:
    """One law for all `parts`, each engine of each accelerator weighing the same."""
    peak = np.concatenate([np.full(len(p.seconds), p.sheet.peak(p.dtype)) for p in parts])
    bandwidth = np.concatenate([np.full(len(p.seconds), p.sheet.bandwidth) for p in parts])
    counts = Counts(**{k: _column(parts, k) for k in _COUNTS if k in parts[0].counts})
    return fit_roofline(
        counts, np.concatenate([p.seconds for p in parts]), peak, bandwidth, recipe.start, recipe.free,
        weights=_equal_weights(parts), bounds=recipe.bounds,
    )  # fmt: skip


def _entry(parts: Sequence[Measured], recipe: Recipe) -> dict[str, Any]:
    fitted = fit_together(parts, recipe)
    names = list(parts[0].shapes)
    ranges = ", ".join(f"{n} {span(np.concatenate([np.ravel(p.shapes[n]) for p in parts]))}" for n in names)
    return fitted.entry(parts[0].source, ranges, recipe.free, bias=rounded(fitted.bias, 3))


def _column(parts: Sequence[Measured], name: str) -> Array:
    return np.concatenate([np.broadcast_to(p.counts[name], len(p.seconds)) for p in parts])


def _equal_weights(parts: Sequence[Measured]) -> Array:
    """Rows of a (accelerator, engine) together weigh as much as those of any other; mean 1."""
    label = np.concatenate([np.char.add(f"{p.accelerator}/", p.engine.astype(str)) for p in parts])
    _, index, number = np.unique(label, return_inverse=True, return_counts=True)
    return np.asarray(len(label) / (len(number) * number[index]), dtype=float)
