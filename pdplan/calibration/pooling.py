"""Measurements of one kernel family, gathered from several tables and fitted together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import Block, Recipe, span
from pdplan.calibration.samples import Sample, fitted_entry, pool, pooled_blocks
from pdplan.calibration.tables import GENERATIONS, Sheet
from pdplan.laws.kernel import Counts
from pdplan.laws.roofline import Array

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

    def sample(self) -> Sample:
        """The same rows as `fit.Sample`."""
        rows = len(self.seconds)
        counts = Counts(**{k: np.array(np.broadcast_to(v, rows)) for k, v in self.counts.items()})
        return Sample(
            counts=(counts,),
            measured_s=self.seconds,
            peak=np.full(rows, self.sheet.peak(self.dtype)),
            bandwidth=np.full(rows, self.sheet.bandwidth),
            engine=self.engine.astype(str),
            shapes=", ".join(f"{name} {span(v)}" for name, v in self.shapes.items()),
        )

    def where(self, mask: NDArray[np.bool_]) -> Measured:
        """The rows that `mask` names."""
        rows = len(self.seconds)

        def cut(arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {k: np.broadcast_to(v, rows)[mask] for k, v in arrays.items()}

        return Measured(
            family=self.family,
            dtype=self.dtype,
            accelerator=self.accelerator,
            sheet=self.sheet,
            counts=cut(self.counts),
            seconds=self.seconds[mask],
            engine=self.engine[mask],
            shapes=cut(self.shapes),
            source=self.source,
        )


def blocks(measured: Iterable[Measured], recipes: Mapping[str, Recipe]) -> list[Block]:
    """Entries of every accelerator, of every generation, and the defaults."""
    families: dict[tuple[str, str], list[Measured]] = {}
    for m in measured:
        families.setdefault(m.key, []).append(m)
    found: list[Block] = []
    for (family, dtype), parts in sorted(families.items()):
        found += _family(family, dtype, parts, recipes[family])
    return found + _other_types(found)


def _family(family: str, dtype: str, parts: Sequence[Measured], recipe: Recipe) -> list[Block]:
    by_name: dict[str, list[Measured]] = {}
    for m in parts:
        by_name.setdefault(m.accelerator, []).append(m)
    samples = {name: pool([m.sample() for m in own]) for name, own in by_name.items()}
    samples = {name: s for name, s in samples.items() if s.rows >= FEWEST_ROWS}
    if not samples:
        return []
    sources = {name: own[0].source for name, own in by_name.items()}
    generations: dict[str, tuple[str, ...]] = {
        g: tuple(n for n in names if n in samples) for g, names in GENERATIONS.items()
    }
    inside = {n for names in generations.values() for n in names}
    outside = []
    for name in samples:
        generation = by_name[name][0].sheet.generation
        # An accelerator outside the tables stands for its generation only where none inside does.
        if name not in inside:
            if generations.get(generation):
                outside.append(name)
            else:
                generations[generation] = (name,)
    source = next(iter(sorted({sources[n] for names in generations.values() for n in names})))
    found = pooled_blocks(family, dtype, samples, generations, recipe, source)
    found += [
        Block(
            scope="accelerators",
            name=n,
            family=family,
            dtype=dtype,
            entry=fitted_entry(samples[n], recipe, sources[n]),
        )
        for n in outside
    ]
    return [dataclasses.replace(b, entry=_without_nan(b.entry)) for b in found]


def _without_nan(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Too few rows leave no shape to hold out."""
    return {k: v for k, v in entry.items() if not (isinstance(v, float) and math.isnan(v))}


def _other_types(found: Sequence[Block]) -> list[Block]:
    """The default of a family for types without their own: BF16's, or the one there is."""
    defaults: dict[str, Block] = {}
    for b in found:
        if b.scope == "defaults" and (b.family not in defaults or b.dtype == "bf16"):
            defaults[b.family] = b
    return [
        dataclasses.replace(
            b, dtype="", entry={**b.entry, "note": f"of {b.dtype}, for types without their own"}
        )
        for b in defaults.values()
    ]


SLOWER = 2.0
"""An engine this many times slower than another at the same shapes runs a fall-back kernel."""


def without_fallbacks(measured: Measured) -> Measured:
    """Without engines whose kernels nobody would choose: SGLang's MLA prefill in the absorbed
    form (3.4 times the arithmetic), its FP8 MLA cache through a gather, and the like."""
    names = sorted({*measured.engine.tolist()})
    columns = [np.broadcast_to(v, len(measured.seconds)) for v in measured.counts.values()]
    shape = [tuple(row) for row in np.stack(columns, axis=1).tolist()]
    times: dict[str, dict[tuple[float, ...], float]] = {name: {} for name in names}
    for engine, key, seconds in zip(measured.engine.tolist(), shape, measured.seconds.tolist(), strict=True):
        times[engine][key] = seconds
    slow = set()
    for name in names:
        for other in names:
            common = sorted(times[name].keys() & times[other].keys(), key=lambda k: k[0])
            ratios = [times[name][k] / times[other][k] for k in common[len(common) // 2 :]]  # the larger half
            if ratios and np.median(ratios) > SLOWER:
                slow.add(name)
    return measured.where(~np.isin(measured.engine, sorted(slow)))


def not_from_cache(measured: Measured) -> Measured:
    """Without rows that read faster than memory can: their bytes came out of the cache,
    which in a step other layers have emptied."""
    stored = np.broadcast_to(measured.counts["stored_bytes"], len(measured.seconds))
    return measured.where(stored <= 0.95 * measured.sheet.bandwidth * measured.seconds)
