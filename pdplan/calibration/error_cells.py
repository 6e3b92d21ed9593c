"""Log ratios of runs left out, and the interval that holds 80 % of others like them.

    log q = W · S · z(p)

with W how much wider errors are in a class of runs than in plain ones, z the quantiles of log ratios over
W, a group weighing as the square root of its runs, stretched about their median by S, since one more group
is not like those seen. How much groups differ is measured: by how much the quantiles learnt from the
others would have to be stretched to hold 80 % of a group. With b the root mean square of the logarithm of
that (of one kind of ground, all quantities and modes together, over 1 + 1/G), G the number of groups
learnt from, effectively, and T a Student's t of G − 1 degrees (at least one), since few groups tell
little of how much such groups differ, S solves

    E[2·Φ(1.2816·S·exp(−b·√(1 + 1/G)·T)) − 1] = 80 %
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pdplan.laws.roofline import Array
from pdplan.measured.run import Run
from pdplan.uncertainty import CLASSES, INTERVAL

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
ENDS = (round((1.0 - INTERVAL) / 2.0, 9), round((1.0 + INTERVAL) / 2.0, 9))
LOAD_WIDENS = ("ttft",)
"""What waits for a loaded pool. For TPOT and throughput such a class was no gain on groups left out."""
FEW = 20
"""Of fewer runs a class has no width of its own, and a group does not say how much groups differ."""


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Log ratios of one kind, mode and quantity, group by group."""

    own: Array
    """Of runs whose group was left out; NaN where a run does not count, or is of another mode."""
    wide: Array
    """How much wider than those of plain runs errors of its classes are."""
    names: Array
    without: Mapping[str, tuple[Array, Array]]
    """By group: the others' log ratios and widths, both found without it."""

    @property
    def groups(self) -> list[str]:
        return [str(name) for name in sorted(set(self.names[np.isfinite(self.own)]))]


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """Quantiles of log ratios of plain runs, not stretched, and from how many groups, effectively."""

    quantiles: Array
    groups: float

    @property
    def middle(self) -> float:
        return float(self.quantiles[LEVELS.index(0.5)])

    def ends(self, stretch: float) -> tuple[float, float]:
        low, high = (self.middle + stretch * (self.quantiles[LEVELS.index(p)] - self.middle) for p in ENDS)
        return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One group held against what was learnt from the others."""

    group: str
    learnt: Learnt
    logs: Array
    wide: Array

    @property
    def needed(self) -> float:
        """Logarithm of the stretch that would hold 80 % of the group, over √(1 + 1/G)."""
        low, high = self.learnt.ends(1.0)
        off = self.logs / self.wide - self.learnt.middle
        far = np.where(off > 0, off / (high - self.learnt.middle), off / (low - self.learnt.middle))
        return float(np.log(np.quantile(far, INTERVAL)) / np.sqrt(1.0 + 1.0 / self.learnt.groups))

    def inside(self, stretch: float) -> Array:
        low, high = self.learnt.ends(stretch)
        return np.asarray((self.logs >= low * self.wide) & (self.logs <= high * self.wide))

    def widths(self, stretch: float) -> Array:
        low, high = self.learnt.ends(stretch)
        return np.asarray((high - low) * self.wide)

    def scores(self, stretch: float) -> Array:
        """Interval scores (Gneiting & Raftery 2007): the width, and 2/(1 − 80 %) times what lies outside."""
        low, high = (end * self.wide for end in self.learnt.ends(stretch))
        outside = np.maximum(low - self.logs, 0.0) + np.maximum(self.logs - high, 0.0)
        return np.asarray(high - low + 2.0 / (1.0 - INTERVAL) * outside)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Quantiles of one kind, mode and quantity, and what they are worth."""

    factors: Array
    rows: int
    groups: int
    median_error: float
    """Of |predicted/measured − 1| of the runs left out."""
    differ: float
    stretch: float
    blind: float
    blind_groups: float
    half_width: float
    score: float

    @property
    def text(self) -> str:
        facts = [f"rows: {self.rows}", f"groups: {self.groups}"]
        names = ("median_error", "differ", "stretch", "blind", "blind_groups", "half_width", "score")
        facts += [f"{k}: {getattr(self, k):.3g}" for k in names if np.isfinite(getattr(self, k))]
        numbers = ", ".join(f"{f:.4g}" for f in self.factors)
        return f"{{{', '.join(facts)}, factors: [{numbers}]}}"


# ------------------------------------------------------------------------ one cell


def cells(errors: Mapping[tuple[str, str], Errors]) -> dict[tuple[str, str], Cell]:
    """The cells of one kind of ground, by mode and quantity; how much groups differ is learnt from all."""
    trials = {key: _trials(one) for key, one in errors.items()}
    everything = [t for some in trials.values() for t in some]
    found = {}
    for key, one in errors.items():
        used = np.isfinite(one.own)
        learnt = learn(one.own[used] / one.wide[used], one.names[used])
        differ = differing(everything)
        stretch = stretched(differ, learnt.groups)
        blind = [(t, _stretch_without(everything, t)) for t in trials[key]]
        middle = learnt.middle
        found[key] = Cell(
            factors=np.exp(middle + stretch * (learnt.quantiles - middle)),
            rows=int(used.sum()),
            groups=len(one.groups),
            median_error=float(np.median(np.abs(np.exp(-one.own[used]) - 1.0))),
            differ=differ,
            stretch=stretch,
            **_worth(blind),
        )
    return found


def _trials(errors: Errors) -> list[Trial]:
    found = []
    for group in errors.groups:
        logs, wide = errors.without[group]
        others = np.isfinite(logs) & (errors.names != group)
        own = np.isfinite(errors.own) & (errors.names == group)
        if others.any():
            learnt = learn(logs[others] / wide[others], errors.names[others])
            found.append(Trial(group=group, learnt=learnt, logs=errors.own[own], wide=wide[own]))
    return found


def _stretch_without(trials: Sequence[Trial], own: Trial) -> float:
    return stretched(differing([t for t in trials if t.group != own.group]), own.learnt.groups)


def _worth(blind: Sequence[tuple[Trial, float]]) -> dict[str, float]:
    if not blind:
        return dict.fromkeys(("blind", "blind_groups", "half_width", "score"), float("nan"))
    inside = [trial.inside(stretch) for trial, stretch in blind]
    weights = [each.size**0.5 for each in inside]
    return {
        "blind": float(np.mean(np.concatenate(inside))),
        "blind_groups": float(np.average([each.mean() for each in inside], weights=weights)),
        "half_width": float(np.median(np.concatenate([t.widths(s) for t, s in blind])) / 2.0),
        "score": float(np.mean(np.concatenate([t.scores(s) for t, s in blind]))),
    }


def learn(logs: Array, names: Array) -> Learnt:
    """Quantiles at LEVELS where a group weighs as the square root of its runs.

    >>> learn(np.array([-1.0, 0.0, 1.0]), np.array(["a", "a", "a"])).middle
    0.0
    """
    _, index, counts = np.unique(names, return_inverse=True, return_counts=True)
    weight = counts[index] ** -0.5
    order = np.argsort(logs)
    reached = np.cumsum(weight[order])
    shares = (reached - weight[order] / 2.0) / reached[-1]
    by_group = np.sqrt(counts)
    return Learnt(
        quantiles=np.interp(LEVELS, shares, logs[order]),
        groups=float(by_group.sum() ** 2 / np.sum(by_group**2)),
    )


def differing(trials: Sequence[Trial]) -> float:
    """Root mean square of `Trial.needed`, weighed by the square root of runs; 0 where no group tells."""
    some = [(t.needed, t.logs.size**0.5) for t in trials if t.logs.size >= FEW]
    if not some:
        return 0.0
    needed, weights = np.array(some).T
    return float(np.sqrt(np.average(needed**2, weights=weights)))


def stretched(differ: float, groups: float) -> float:
    """The stretch whose interval holds 80 % of one more group's runs, on average over groups.

    Solves E[2·Φ(1.2816·S·exp(−b·√(1 + 1/G)·T)) − 1] = 80 % by bisection, T at 400 equally likely values.
    1 where groups do not differ.

    >>> round(stretched(0.0, 5.0), 9), round(stretched(0.4, 10.0), 2), round(stretched(0.4, 2.0), 2)
    (1.0, 1.08, 1.41)
    """
    from scipy.special import ndtr, ndtri, stdtrit

    t = stdtrit(max(groups - 1.0, 1.0), (np.arange(400) + 0.5) / 400)
    sizes = ndtri(ENDS[1]) * np.exp(-differ * np.sqrt(1.0 + 1.0 / groups) * t)
    low, high = 1.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2.0
        held = float(np.mean(2.0 * ndtr(middle * sizes) - 1.0))
        low, high = (middle, high) if held < INTERVAL else (low, middle)
    return low


# ------------------------------------------------------------------------ classes of runs


def class_masks(runs: Sequence[Run], tables: Sequence[str], loaded: Array, quantity: str) -> dict[str, Array]:
    """Which runs are of which class of `CLASSES`, for errors of a quantity."""
    return {
        "speculating": np.array([r.speculates for r in runs]),
        "no-tables": np.array([r.hardware not in tables for r in runs]),
        "loaded": loaded & (quantity in LOAD_WIDENS),
    }


def class_widths(logs: Array, masks: Mapping[str, Array]) -> dict[str, float]:
    """How many times as wide as that of plain runs the 80 % interval of each class is, at least 1.

    One class after the other in the order of `CLASSES`: of runs of no later class, their logs over what
    the earlier ones make of them. 1 where they, or plain runs, are fewer than FEW.
    """
    left = np.isfinite(logs)
    names = list(CLASSES)
    found = dict.fromkeys(names, 1.0)
    plain = _width(logs[left & ~np.any([masks[name] for name in names], axis=0)])
    for number, name in enumerate(names):
        later = [masks[other] for other in names[number + 1 :]]
        where = left & masks[name] & ~np.any([*later, np.zeros_like(left)], axis=0)
        ratio = _width((logs / widest(found, masks))[where]) / plain
        found[name] = max(ratio, 1.0) if np.isfinite(ratio) else 1.0
    return found


def _width(logs: Array) -> float:
    """Of the interval that holds 80 %; NaN of fewer than FEW."""
    if logs.size < FEW:
        return float("nan")
    low, high = np.quantile(logs, ENDS)
    return float(high - low)


def widest(widths: Mapping[str, float], masks: Mapping[str, Array]) -> Array:
    """Of every run, the widest of its classes."""
    return np.max([np.where(masks[name], widths[name], 1.0) for name in CLASSES], axis=0)
