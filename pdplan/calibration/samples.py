"""Samples of measured kernels, and the entries of kernels.json that are made of them.

One accelerator's sample makes its own entry, those of a generation are pooled for the
generation's, all of them for the default; engines whose kernels differ are told apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pdplan.calibration.fit import Block, FittedRoofline, Recipe, fit_roofline, predicted_s, rounded
from pdplan.laws.kernel import Counts, Rates
from pdplan.laws.roofline import Array, Roofline


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Measured kernels of one family and type: the counts of each, and how long it took."""

    counts: tuple[Counts, ...]
    """Kernels run one after the other within one measurement; arrays of one length."""
    measured_s: Array
    peak: Array
    bandwidth: Array
    engine: NDArray[np.str_]
    shapes: str

    @property
    def rows(self) -> int:
        return int(self.measured_s.size)

    def where(self, chosen: NDArray[Any]) -> Sample:
        """The rows that a mask or an index chooses."""

        def take(counts: Counts) -> Counts:
            values: dict[str, Any] = {f.name: getattr(counts, f.name) for f in dataclasses.fields(Counts)}
            cut: dict[str, Any] = {k: v if v is None else np.asarray(v)[chosen] for k, v in values.items()}
            return Counts(**cut)

        return Sample(
            counts=tuple(take(c) for c in self.counts),
            measured_s=self.measured_s[chosen],
            peak=self.peak[chosen],
            bandwidth=self.bandwidth[chosen],
            engine=self.engine[chosen],
            shapes=self.shapes,
        )

    def from_memory(self, cache_bytes: float) -> Sample:
        """Without rows whose weights came out of the cache, which in a step other layers have emptied.

        Those are rows that read less than a quarter of a large cache (the collectors rotate a
        few copies), and rows faster than 95 % of the data-sheet bandwidth allows.
        """
        stored: Array = np.zeros(())
        for counts in self.counts:
            stored = stored + np.asarray(counts.stored_bytes)
        return self.where((stored >= cache_bytes / 4.0) & (stored <= 0.95 * self.bandwidth * self.measured_s))

    def thinned(self, limit: int) -> Sample:
        """At most about `limit` rows, evenly picked: for pools of many tables."""
        step = -(-self.rows // limit)
        return self if step <= 1 else self.where(np.arange(0, self.rows, step))

    def errors(self, law: Roofline) -> Array:
        """|predicted / measured − 1| of every row."""
        return np.abs(predicted_s(self.counts, self.rates, law) / self.measured_s - 1.0)

    @property
    def rates(self) -> Rates:
        return Rates(peak_flop_per_s=self.peak, bandwidth_bytes_per_s=self.bandwidth)

    def fit(self, recipe: Recipe) -> FittedRoofline:
        """Every engine weighs the same, however many shapes its table has."""
        names, which, sizes = np.unique(self.engine, return_inverse=True, return_counts=True)
        weights = self.rows / (len(names) * sizes[which])
        return fit_roofline(self.counts, self.measured_s, self.rates, recipe, weights)


def pool(samples: Sequence[Sample]) -> Sample:
    """Samples of one family and type, one after the other."""

    def joined(index: int) -> Counts:
        values: dict[str, Any] = {}
        for field in dataclasses.fields(Counts):
            columns = [getattr(s.counts[index], field.name) for s in samples]
            values[field.name] = None if any(c is None for c in columns) else np.concatenate(columns)
        return Counts(**values)

    return Sample(
        counts=tuple(joined(i) for i in range(len(samples[0].counts))),
        measured_s=np.concatenate([s.measured_s for s in samples]),
        peak=np.concatenate([s.peak for s in samples]),
        bandwidth=np.concatenate([s.bandwidth for s in samples]),
        engine=np.concatenate([s.engine for s in samples]),
        shapes=samples[0].shapes
        if len({s.shapes for s in samples}) == 1
        else "union of the accelerators' shapes",
    )


FEWEST_OF_AN_ENGINE = 200
"""Rows below which an engine is not told apart."""
LARGEST_POOL = 120_000
"""Rows of a generation that its fit takes, about."""


def fitted_entry(sample: Sample, recipe: Recipe, source: str) -> dict[str, Any]:
    """The entry of one accelerator: constants common to its engines, and of engines that stand apart.

    Of the engines that the common constants miss by more than the recipe's `told.difference` in the
    median, and that constants of their own miss by `told.gain` of that at most, the farthest gets its own.
    The common ones are then those of the other engines, and so on. `measured_engines` says
    whose are common.
    """
    common = sample
    fitted = common.fit(recipe)
    apart: dict[str, Any] = {}
    while (stranger := _farthest_engine(common, fitted.law, recipe)) is not None:
        name, alone = stranger
        apart[name] = {
            k: v for k, v in alone.entry(source, "", recipe.free).items() if k not in ("shapes", "source")
        }
        common = common.where(common.engine != name)
        fitted = common.fit(recipe)
    entry = fitted.entry(source, sample.shapes, recipe.free)
    if len(set(sample.engine.tolist())) > 1:
        entry["measured_engines"] = sorted(set(common.engine.tolist()))
    if apart:
        entry["engines"] = dict(sorted(apart.items()))
    return entry


def _farthest_engine(sample: Sample, law: Roofline, recipe: Recipe) -> tuple[str, FittedRoofline] | None:
    """The engine that `law` misses most, with its own fit; None where all are near, or only one is left."""
    names = sorted(set(sample.engine.tolist()))
    found: list[tuple[float, str, FittedRoofline]] = []
    for name in names if len(names) > 1 else ():
        own = sample.where(sample.engine == name)
        missed = float(np.median(own.errors(law)))
        if missed > recipe.told.difference and own.rows >= FEWEST_OF_AN_ENGINE:
            alone = own.fit(dataclasses.replace(recipe, start=law))
            if alone.median_error <= missed * recipe.told.gain:
                found.append((missed, name, alone))
    if not found:
        return None
    _, name, alone = max(found, key=lambda f: f[:2])
    return name, alone


def stranger_errors(samples: Mapping[str, Sample], recipe: Recipe) -> tuple[float, float]:
    """Median and p90 error on a generation under constants fitted to the other generations.

    What an accelerator that nobody measured has to expect from the defaults; the
    median over the generations of `samples` (generation -> sample).
    """
    medians, p90s = [], []
    for left_out, sample in sorted(samples.items()):
        others = [s for name, s in sorted(samples.items()) if name != left_out]
        if not others:
            continue
        error = sample.errors(pool(others).fit(recipe).law)
        medians.append(float(np.median(error)))
        p90s.append(float(np.percentile(error, 90)))
    return (float(np.median(medians)), float(np.median(p90s))) if medians else (math.nan, math.nan)


def pooled_blocks(
    family: str,
    dtype: str,
    samples: Mapping[str, Sample],
    generations: Mapping[str, Sequence[str]],
    recipe: Recipe,
    source: str,
) -> list[Block]:
    """Blocks of every measured accelerator, of its generation, and the default of the type.

    samples: accelerator -> sample. The default's errors are those on a generation that
    took no part in its fit.
    """
    blocks = []
    by_generation: dict[str, Sample] = {}
    for generation, names in sorted(generations.items()):
        measured = [name for name in names if name in samples]
        entries = {name: fitted_entry(samples[name], recipe.at(name), source) for name in measured}
        blocks += [
            Block(scope="accelerators", name=n, family=family, dtype=dtype, entry=e)
            for n, e in entries.items()
        ]
        if not measured:
            continue
        pooled = pool([samples[name].thinned(LARGEST_POOL // len(measured)) for name in measured])
        by_generation[generation] = pooled
        entry = (
            entries[measured[0]]
            if len(measured) == 1
            else fitted_entry(pooled, recipe.at(generation), source)
        )
        blocks.append(
            Block(
                scope="generations",
                name=generation,
                family=family,
                dtype=dtype,
                entry={**entry, "measured_on": measured},
            )
        )
    thin = {name: s.thinned(LARGEST_POOL // 4) for name, s in by_generation.items()}
    everything = pool([thin[name] for name in sorted(thin)])
    fitted = everything.fit(recipe)
    entry = fitted.entry(source, everything.shapes, recipe.free)
    if len(thin) > 1:
        median, p90 = stranger_errors(thin, recipe)
        entry.update(
            median_error=rounded(median),
            p90_error=rounded(p90),
            errors="on a generation that took no part in the fit",
        )
    blocks.append(Block(scope="defaults", name="", family=family, dtype=dtype, entry=entry))
    return blocks


def for_other_types(blocks: Sequence[Block]) -> Block:
    """The default for types that nobody measured: that of BF16, the best-known one."""
    bf16 = next(b for b in blocks if b.scope == "defaults" and b.dtype == "bf16")
    return dataclasses.replace(
        bf16, dtype="", entry={**bf16.entry, "note": "of bf16, for types without their own"}
    )
