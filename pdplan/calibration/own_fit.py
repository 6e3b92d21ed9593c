"""Fit engine constants to the user's own runs: little where they are few, and cross-validated.

Each constant is drawn to the shipped one by a normal prior of its logarithm, as wide as that constant
differs between the groups of the shipped fit (constants/priors.yaml). Predictions are linearised around
the latest values (Gauss-Newton); the linear model's maximum a posteriori is pdplan.calibration.mixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pdplan.calibrated import (
    QUANTILES,
    Covered,
    CrossValidation,
    Improvement,
    LeftOut,
    OwnSpread,
    overlaid,
)
from pdplan.calibration.effects import (
    OBSERVED,
    Effect,
    blocks_of,
    effects_of,
    has_effect,
    sensitivities,
    shipped_value,
)
from pdplan.calibration.mixed import Observations, Posterior, posterior, weights
from pdplan.calibration.priors import Priors, read_priors
from pdplan.catalog.store import Catalog
from pdplan.efficiency import engine_file
from pdplan.errors import InputError
from pdplan.laws.roofline import Array
from pdplan.measured.accuracy import QUANTITIES, residuals
from pdplan.measured.predict import Predictions, predict
from pdplan.measured.run import Run
from pdplan.units import format_duration

LINEARISATIONS = 3
SETTLED = 0.01
"""Logarithm of a constant: a smaller step is none."""
SILENT = 1e-4
"""A constant that changes no prediction more than this, in logarithms, is not looked at again."""
MOST_FOLDS = 12
FAR = 20.0
"""No public run's TPOT is more than 5.3 times the predicted one, or less than a fifth of it."""
UNTOLD = 0.99
"""A constant whose prior variance is left to this share was not told by the runs: it stays as shipped."""


@dataclass(frozen=True)
class Parameter:
    """One number of the fit."""

    effect: Effect
    owner: str
    shipped: float
    prior_sd: float
    low: float
    high: float

    def value(self, log_factor: float) -> float:
        return float(np.clip(self.shipped * math.exp(log_factor), self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Parameters with their posterior, the linear model at them, and the document they make."""

    parameters: tuple[Parameter, ...]
    found: Posterior
    data: Observations
    """Linear around `found`: its target includes what the slopes say of it."""
    run_of: Array
    """By observation, the run."""
    shipped: Mapping[str, Any]

    @property
    def prior_left(self) -> Array:
        return np.clip(self.found.variance / np.array([p.prior_sd for p in self.parameters]) ** 2, 0.0, 1.0)

    @property
    def told(self) -> list[int]:
        """Parameters that the runs say something about."""
        return [i for i, left in enumerate(self.prior_left) if left < UNTOLD]

    def document(self, found: Posterior | None = None) -> Mapping[str, Any]:
        """constants/engines.yaml with the values of a posterior in place."""
        mean = (found or self.found).mean
        return overlaid(self.shipped, blocks_of(_values(self.parameters, mean, self.told)))


def fit_own(runs: list[Run], catalog: Catalog, priors: Priors | None = None) -> Fit:
    """The engine constants that the runs make most likely; InputError where none can be predicted."""
    priors = priors or read_priors()
    document = _with_engines(runs)
    parameters = _parameters(runs, catalog, document, priors)
    effects = tuple(dict.fromkeys(p.effect for p in parameters))
    prior_sd = np.array([p.prior_sd for p in parameters])
    noise = np.repeat([priors.noise[q] for q in OBSERVED], len(runs))
    weight = np.tile(weights(runs), len(OBSERVED))
    mean = np.zeros(len(parameters))
    for _ in range(LINEARISATIONS):
        target, slopes = sensitivities(runs, catalog, document, effects, _values(parameters, mean))
        effects = tuple(e for e in effects if np.abs(slopes[e]).max() > SILENT)
        design = _design(runs, parameters, slopes)
        seen = np.isfinite(target)
        if not seen.any():
            raise InputError(f"none of the runs can be predicted: {_first_reason(runs, catalog, document)}")
        data = Observations(
            design=design[seen], target=(target + design @ mean)[seen], noise=noise[seen], weight=weight[seen]
        )
        found = posterior(data, prior_sd)
        moved, mean = np.max(np.abs(found.mean - mean)), _inside(parameters, found.mean)
        if moved < SETTLED:
            break
    run_of = np.tile(np.arange(len(runs)), len(OBSERVED))[seen]
    return Fit(
        parameters=parameters,
        found=replace(found, mean=mean),
        data=data,
        run_of=run_of,
        shipped=document,
    )


def impossible(runs: Sequence[Run], catalog: Catalog) -> list[LeftOut]:
    """Runs whose TPOT no server can have had: their times are in another unit, or of something else."""
    found = []
    predicted = predict(list(runs), catalog, _with_engines(runs)).tpot_mean_s
    for run, tpot in zip(runs, predicted, strict=True):
        ratio = max(run.tpot_mean_s / tpot, tpot / run.tpot_mean_s)
        if ratio > FAR:  # not where there is no prediction
            here, there = format_duration(run.tpot_mean_s), format_duration(float(tpot))
            reason = (
                f"its TPOT is {here}, {ratio:,.0f} times off the {there} predicted: another unit of time?"
            )
            found.append(LeftOut(run=run.id, reason=reason))
    return found


def engines_without_constants(runs: Sequence[Run]) -> list[str]:
    """Engines of the runs that have no shipped constants: the generic ones are where their fit starts."""
    return sorted({run.engine for run in runs} - set(engine_file()["engines"]))


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What cross-validation says, and how far measurements lay from predictions."""

    summary: CrossValidation
    spread: dict[str, dict[str, OwnSpread]]


def cross_validate(fit: Fit, runs: list[Run], catalog: Catalog) -> Checked:
    """Leave out each deployment (or each run, of one deployment) in turn and predict it by the rest.

    A fold is solved on the linear model of all runs, and predicted in full.
    """
    kind, folds = _folds(runs)
    before = predict(runs, catalog, fit.shipped)
    after = before
    prior_sd = np.array([p.prior_sd for p in fit.parameters])
    for fold in folds:
        kept = ~np.isin(fit.run_of, fold)
        found = posterior(fit.data.take(kept), prior_sd)
        found = replace(found, mean=_inside(fit.parameters, found.mean))
        apart = predict([runs[i] for i in fold], catalog, fit.document(found))
        after = _spliced(after, fold, apart)
    improvements, ratios = {}, {}
    errors = residuals(runs, before), residuals(runs, after)
    for quantity in QUANTITIES:
        old, new = (getattr(e, quantity) for e in errors)
        both = np.isfinite(old) & np.isfinite(new)
        ratios[quantity] = np.where(both, 1.0 / (1.0 + new), np.nan)
        if both.any():
            improvements[quantity] = Improvement(
                runs=int(both.sum()),
                before=_round(np.median(np.abs(old[both]))),
                after=_round(np.median(np.abs(new[both]))),
            )
    summary = CrossValidation(
        left_out=kind,
        helped=kind != "nothing" and _helps(errors[0].tpot, errors[1].tpot, errors[0].ttft, errors[1].ttft),
        **improvements,
    )
    return Checked(summary=summary, spread=_spreads(runs, ratios))


def covered_by(runs: Sequence[Run]) -> tuple[Covered, ...]:
    """What ran, with the number of runs."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for run in runs:
        for hardware in dict.fromkeys((run.hardware, run.prefill.hardware if run.prefill else run.hardware)):
            key = (run.model, hardware, run.engine, run.mode)
            counts[key] = counts.get(key, 0) + 1
    return tuple(
        Covered(model=m, hardware=h, engine=e, mode=mode, runs=n)  # type: ignore[arg-type]
        for (m, h, e, mode), n in sorted(counts.items())
    )


# ------------------------------------------------------------------------ the linear model


def _with_engines(runs: Sequence[Run]) -> Mapping[str, Any]:
    """The shipped document; engines that it does not know start as the generic one."""
    unknown = engines_without_constants(runs)
    shipped = engine_file()
    return overlaid(shipped, {"engines": {name: {} for name in unknown}}) if unknown else shipped


def _parameters(
    runs: Sequence[Run], catalog: Catalog, document: Mapping[str, Any], priors: Priors
) -> tuple[Parameter, ...]:
    found: dict[tuple[Effect, str], Parameter] = {}
    for effect in effects_of(document, runs):
        prior = priors.of(effect)
        for run in runs:
            owner = effect.owner(run)
            if (effect, owner) not in found and has_effect(effect, run, document):
                generation = catalog.accelerator(run.hardware).generation
                value = shipped_value(effect, run, generation, document)
                found[effect, owner] = Parameter(
                    effect, owner, value, prior.log_sd, min(prior.low, value), max(prior.high, value)
                )
    return tuple(found.values())


def _design(runs: Sequence[Run], parameters: Sequence[Parameter], slopes: Mapping[Effect, Array]) -> Array:
    """One column a parameter: its effect's slopes, of its owner's runs."""
    columns = []
    for p in parameters:
        own = np.array([p.effect.owner(run) == p.owner for run in runs])
        slope = slopes.get(p.effect, np.zeros(()))  # none where the runs are silent
        columns.append(np.where(np.tile(own, len(OBSERVED)), slope, 0.0))
    return np.array(columns).T


def _inside(parameters: Sequence[Parameter], mean: Array) -> Array:
    """The logarithms, held to what the constants may be."""
    return np.array([math.log(p.value(x) / p.shipped) for p, x in zip(parameters, mean, strict=True)])


def _values(
    parameters: Sequence[Parameter], mean: Array, only: Sequence[int] | None = None
) -> dict[Effect, dict[str, float]]:
    values: dict[Effect, dict[str, float]] = {}
    for i, p in enumerate(parameters):
        if only is None or i in only:
            values.setdefault(p.effect, {})[p.owner] = p.value(mean[i])
    return values


def _first_reason(runs: list[Run], catalog: Catalog, document: Mapping[str, Any]) -> str:
    reasons = [r for r in predict(runs, catalog, document).reasons if r]
    return reasons[0] if reasons else "every prediction is endless (a rate beyond the capacity?)"


# ------------------------------------------------------------------------ cross-validation


def _folds(runs: Sequence[Run]) -> tuple[Literal["deployment", "run", "nothing"], list[list[int]]]:
    """Indices of runs to leave out together."""
    deployments: Callable[[Run], Any] = lambda r: (  # noqa: E731
        r.model, r.hardware, r.engine, r.precision, r.spec, r.decode, r.prefill, r.isl, r.osl
    )  # fmt: skip
    groups: dict[Any, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(deployments(run), []).append(i)
    if len(groups) > 1:
        return "deployment", _dealt(list(groups.values()))
    if len(runs) > 1:
        return "run", _dealt([[i] for i in range(len(runs))])
    return "nothing", []


def _dealt(groups: list[list[int]]) -> list[list[int]]:
    """At most MOST_FOLDS of them, groups kept whole."""
    folds: list[list[int]] = [[] for _ in range(min(len(groups), MOST_FOLDS))]
    for i, group in enumerate(groups):
        folds[i % len(folds)] += group
    return folds


def _spliced(whole: Predictions, index: Sequence[int], part: Predictions) -> Predictions:
    """The predictions with those of some runs replaced."""
    names = ("tpot_mean_s", "ttft_mean_s", "ttft_median_s", "total_tok_per_s_per_gpu")
    arrays = {}
    for name in names:
        arrays[name] = getattr(whole, name).copy()
        arrays[name][list(index)] = getattr(part, name)
    return replace(whole, **arrays)


def _helps(*pairs: Array) -> bool:
    """Whether the logs of the errors shrank: mean gain of TPOT and TTFT, beyond its standard error."""
    old, new = np.concatenate(pairs[0::2]), np.concatenate(pairs[1::2])
    both = np.isfinite(old) & np.isfinite(new)
    gain = np.abs(np.log1p(old[both])) - np.abs(np.log1p(new[both]))
    if gain.size < 2:
        return False
    return bool(gain.mean() > gain.std(ddof=1) / math.sqrt(gain.size))


def _spreads(runs: Sequence[Run], ratios: Mapping[str, Array]) -> dict[str, dict[str, OwnSpread]]:
    found: dict[str, dict[str, OwnSpread]] = {}
    for mode in ("colocated", "disaggregated"):
        inside = np.array([run.mode == mode for run in runs])
        for quantity, values in ratios.items():
            seen = values[inside & np.isfinite(values)]
            if seen.size:
                quantiles = tuple(_round(q, 4) for q in np.quantile(seen, QUANTILES))
                own = OwnSpread(runs=int(seen.size), quantiles=quantiles)
                found.setdefault(mode, {})[quantity] = own
    return found


def _round(value: float, digits: int = 3) -> float:
    return float(f"{float(value):.{digits}g}")
