"""The fit of engine constants to measured serving runs.

Kernels come from kernel tables and stay as they are; runs tell what tables cannot: how much of the
kernels' starts is left in a graph, what the host adds, how uneven routing is, what speculation yields.
The fit minimises the soft-L1 of log(predicted/measured), of each group of runs (model, accelerator,
engine, precision, mode, spec) with the same weight, however many runs it has, and is drawn to the start
values with the strength of a few runs.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pdplan.calibration.engine_constant import Constant
from pdplan.calibration.engine_file import Fitted, with_values
from pdplan.calibration.engine_parts import SKEWS, Parts, doubtful, parts_of
from pdplan.calibration.engine_ttft import TTFT, FirstTokens, first_tokens, predicted_ttft
from pdplan.catalog.store import Catalog
from pdplan.efficiency import as_built, engine_constants
from pdplan.laws.roofline import Array
from pdplan.laws.speculation import long_answer_tokens
from pdplan.measured.maturity import tuning_factor
from pdplan.measured.run import Run

SHARP = 0.05
"""Log error beyond which a run pulls only linearly."""
STRENGTH = 0.5
"""Weight of the start values: a quarter of a run with its error at SHARP."""


SEQUENCES = ("vllm", "sglang", "trtllm")
"""Engines with a sequence overhead of their own; the others take vLLM's."""
OLD, CHAINED = "trtllm-1.1", "trtllm-1.1-chained"
DEEPGEMM, CUTLASS = "trtllm-1.1-deepgemm", "trtllm-1.1-cutlass"
STARTING = (
    *(OLD, DEEPGEMM, CUTLASS, "trtllm-cutlass", "sglang-0.5.5-mi355x", "sglang-0.5.5-blackwell"),
    *("sglang-0.5.5-cdna3", "sglang-0.5.7-cdna3", "sglang-flashinfer-drafts", "sglang-mori-fp4"),
)
"""Builds whose kernels start so many times as long."""
FEW_TOKENS = "sglang-fp8-blackwell"
"""The build whose FP8 products are of kernels made for few tokens."""
LONG_ANSWERS = "inferencex"
"""The benchmark whose answers go on after their end, and whose drafts are accepted the more."""
STEP = (
    Constant(path=("common", "expert_skew"), start=0.7, spread=0.5, low=0.0, high=1.5),
    Constant(path=("common", "kernel_overhead_share"), start=0.8, spread=0.3, low=0.0, high=1.0),
    Constant(path=("common", "step_overhead_s"), start=0.5e-3, spread=0.5e-3, low=0.0, high=5e-3),
    Constant(path=("common", "tuning_exponent"), start=0.1, spread=0.3, low=0.0, high=1.0),
    Constant(path=("common", "collective_wait_s"), start=3e-6, spread=3e-6, low=0.0, high=3e-5),
    Constant(path=("common", "rank_wait_s"), start=2e-5, spread=2e-5, low=0.0, high=3e-4),
    *(
        Constant(path=("engines", e, "sequence_overhead_s"), start=1.5e-5, spread=1e-5, low=1e-6, high=6e-5)
        for e in SEQUENCES
    ),
    Constant(path=("builds", OLD, "added_sequence_overhead_s"), start=1e-5, spread=1e-5, low=0.0, high=6e-5),
    Constant(path=("builds", OLD, "added_rank_wait_s"), start=1e-5, spread=1e-5, low=0.0, high=1e-4),
    *(
        Constant(path=("builds", build, "kernel_start_factor"), start=1.3, spread=0.5, low=1.0, high=4.0)
        for build in STARTING
    ),
    Constant(
        path=("builds", FEW_TOKENS, "prompt_fp8_flop_per_s"), start=4e14, spread=2e14, low=1e14, high=2e15
    ),
    Constant(path=("common", "mtp_acceptance"), start=0.65, spread=0.1, low=0.2, high=0.95),
    Constant(
        path=("benchmarks", LONG_ANSWERS, "acceptance_per_doubling"),
        start=0.02,
        spread=0.03,
        low=0.0,
        high=0.1,
    ),
    Constant(
        path=("generations", "cdna3", "kernel_overhead_share"), start=1.5, spread=1.0, low=0.5, high=8.0
    ),
    Constant(path=("generations", "cdna3", "kernel_time_factor"), start=1.0, spread=0.2, low=0.7, high=3.0),
    Constant(
        path=("generations", "cdna4", "kernel_overhead_share"), start=1.5, spread=1.0, low=0.5, high=8.0
    ),
    Constant(path=("generations", "cdna4", "kernel_time_factor"), start=1.0, spread=0.2, low=0.7, high=3.0),
    Constant(path=("generations", "amd", "exchange_wait_s"), start=5e-5, spread=5e-5, low=0.0, high=5e-4),
    Constant(
        path=("generations", "amd", "sglang", "prompt_mla_factor"), start=2.0, spread=1.0, low=1.0, high=6.0
    ),
)


@dataclass(kw_only=True)
class Sample:
    """Runs and all that the fit needs of them, once."""

    runs: list[Run]
    parts: list[list[Parts]]
    """By number of drafted tokens, from 1 to the most, and by skew; runs that draft nothing are in all."""
    generation: list[str]
    doubts: Mapping[int, str]
    ttft_doubts: Mapping[int, str]
    first: FirstTokens

    @functools.cached_property
    def weight(self) -> Array:
        """Square roots of the runs' weights."""
        keys = [(r.model, r.hardware, r.engine, r.precision, r.mode, r.spec) for r in self.runs]
        sizes = Counter(keys)
        weight = np.array([sizes[k] ** -0.5 for k in keys])
        return np.asarray(weight / weight.mean())

    @functools.cached_property
    def ttft_weight(self) -> Array:
        """For TTFT every run counts alike, but for the doubtful ones.

        What makes TTFT (hosts, cold starts, how prompts were held) differs between runs of one group more
        than what makes TPOT; with models or accelerators left out, equal weights predict colocated runs
        better.
        """
        weight = np.ones(len(self.runs))
        weight[[*self.doubts, *self.ttft_doubts]] = 0.0
        return weight


def sample(runs: list[Run], catalog: Catalog, document: Mapping[str, Any]) -> Sample:
    return Sample(
        runs=runs,
        parts=_parts_by_drafts(runs, catalog, document),
        generation=[catalog.accelerator(r.hardware).generation for r in runs],
        doubts=doubtful(runs),
        ttft_doubts=doubtful(runs, "ttft"),
        first=first_tokens(runs, catalog, document),
    )


def _parts_by_drafts(runs: list[Run], catalog: Catalog, document: Mapping[str, Any]) -> list[list[Parts]]:
    most = int(document["common"]["mtp_drafted"]["value"])
    table = parts_of(runs, catalog, document)
    index = np.array([i for i, r in enumerate(runs) if r.speculates], dtype=int)
    speculating = [runs[i] for i in index]
    fewer = [parts_of(speculating, catalog, document, k) for k in range(1, most)]
    return [[t.put(index, p) for t, p in zip(table, parts, strict=True)] for parts in fewer] + [table]


def fit(
    data: Sample, document: Mapping[str, Any], used: Array | None = None
) -> tuple[Fitted, dict[str, Any]]:
    """Constants fitted to the runs in `used` (all where None), and the document with them in place."""
    mask = np.ones(len(data.runs), dtype=bool) if used is None else np.asarray(used)
    step = _fit_step(data, document, mask)
    halfway = with_values(document, step)
    values = step | _fit_ttft(data, halfway, mask)
    return values, with_values(document, values)


def _fit_step(data: Sample, document: Mapping[str, Any], used: Array) -> Fitted:
    measured = np.array([r.tpot_mean_s for r in data.runs])
    counts = np.array([r.counts_for_tpot for r in data.runs]) & used
    index = np.flatnonzero(counts & (data.weight > 0))
    weight = data.weight[index]
    runs = [data.runs[i] for i in index]
    speculating = np.flatnonzero([r.speculates for r in runs])
    most = len(data.parts)
    cases = [(most, np.arange(len(index)), [p.take(index) for p in data.parts[-1]])]
    cases += [
        (drafted, speculating, [p.take(index[speculating]) for p in at_skew])
        for drafted, at_skew in enumerate(data.parts[:-1], start=1)
    ]
    generation = np.array(data.generation)[index]
    amd_made = np.array([float(name.startswith("cdna")) for name in generation])
    speculates = np.array([r.speculates for r in runs])
    known = np.array([r.drafted for r in runs])
    engine = np.array([r.engine for r in runs])
    starting = np.array([[float(r.build == build) for build in STARTING] for r in runs])
    slow_mla = amd_made * (engine == "sglang")
    few_tokens = np.array([float(r.build == FEW_TOKENS) for r in runs])
    old = np.array([float(r.build in (OLD, CHAINED, DEEPGEMM, CUTLASS)) for r in runs])
    endless, osl = np.array([r.source == LONG_ANSWERS for r in runs]), np.array([r.osl for r in runs])

    def predicted(x: Array) -> Array:
        skew, share, step_s, tuning, wait, last, vllm, sglang, trtllm, more, later, *rest = x
        starts, (reached, acceptance, growth, *factors, exchange, mla) = (
            rest[: len(STARTING)],
            rest[len(STARTING) :],
        )
        sequence_s = np.select([engine == "sglang", engine == "trtllm"], [sglang, trtllm + more * old], vllm)
        share_of = share * tuning_factor(tuning, runs) * np.prod(np.asarray(starts) ** starting, axis=1)
        slower = np.ones(len(index))
        for i, name in enumerate(("cdna3", "cdna4")):
            share_of = np.where(generation == name, share_of * factors[2 * i], share_of)
            slower = np.where(generation == name, factors[2 * i + 1], slower)
        best = np.full(len(index), np.inf)
        for drafted, rows, at_skew in cases:  # a run drafts as many tokens as serve it best
            parts = _between(at_skew, skew)
            step = parts.kernels * slower[rows] + parts.messages + share_of[rows] * parts.starts
            step = step + (last + later * old[rows]) * parts.uneven + wait * parts.collectives
            step = step + exchange * amd_made[rows] * parts.exchanged
            step = step + step_s + sequence_s[rows] * parts.rows
            others = parts.mixed_kernels * slower[rows] + share_of[rows] * parts.mixed_starts
            slow = np.maximum(parts.mixed_fp8_flop / reached - parts.mixed_fp8, 0.0)
            others = others + few_tokens[rows] * slow * slower[rows]
            others = others + (mla - 1.0) * slow_mla[rows] * parts.mixed_mla * slower[rows]
            drafts = np.where(known[rows] > 0, known[rows], drafted)
            drafts = np.where(speculates[rows], drafts, 0)
            tokens = long_answer_tokens(drafts, acceptance, growth * endless[rows], osl[rows])
            best[rows] = np.minimum(best[rows], step / tokens + others)
        return best

    return _minimise(STEP, predicted, measured[index], weight)


def _prompt_s(data: Sample, document: Mapping[str, Any], rows: list[int]) -> Array:
    """Seconds of one prompt alone on its server."""
    index = np.array(rows)
    parts = _between([p.take(index) for p in data.parts[-1]], document["common"]["expert_skew"]["value"])
    engines = [
        as_built(
            engine_constants(data.runs[i].engine, data.generation[i], document), data.runs[i].build, document
        )
        for i in rows
    ]
    common = engines[0]
    share = np.array([e.kernel_overhead_share for e in engines])
    share = share * tuning_factor(common.tuning_exponent, [data.runs[i] for i in rows])
    slower = np.array([e.kernel_time_factor for e in engines])
    waiting = common.collective_wait_s * parts.prompt_collectives
    waiting = waiting + np.array([e.exchange_wait_s for e in engines]) * parts.prompt_exchanged
    reached = np.array([e.prompt_fp8_flop_per_s for e in engines])
    slow = np.maximum(parts.prompt_fp8_flop / reached - parts.prompt_fp8, 0.0)
    more = np.array([e.prompt_mla_factor for e in engines]) - 1.0
    kernels = (parts.prompt_kernels + slow + more * parts.prompt_mla) * slower
    return kernels + parts.prompt_messages + waiting + share * parts.prompt_starts


def _fit_ttft(data: Sample, document: Mapping[str, Any], used: Array) -> Fitted:
    """What `engine_ttft` lists; all else of TTFT stands."""
    rows = [
        i
        for i, r in enumerate(data.runs)
        if used[i] and data.ttft_weight[i] and r.counts_for_tpot and not r.saturated_prefill and r.ttft_s > 0
    ]
    facts = data.first.take(np.array(rows))
    prompt = _prompt_s(data, document, rows)
    tpot, measured = (np.array([getattr(data.runs[i], k) for i in rows]) for k in ("tpot_mean_s", "ttft_s"))

    def predicted(x: Array) -> Array:
        return predicted_ttft(x, facts, prompt, tpot)

    return _minimise(TTFT, predicted, measured, data.ttft_weight[rows], sharp=2 * SHARP)


def _between(at_skew: list[Parts], skew: float) -> Parts:
    """Parts at a skew, linear between the ones computed."""
    i = int(np.clip(np.searchsorted(SKEWS, skew) - 1, 0, len(SKEWS) - 2))
    a = (skew - SKEWS[i]) / (SKEWS[i + 1] - SKEWS[i])
    low, high = at_skew[i], at_skew[i + 1]
    return Parts(
        **{name: (1 - a) * getattr(low, name) + a * getattr(high, name) for name in low.__dataclass_fields__}
    )


def _minimise(
    constants: Sequence[Constant],
    predicted: Callable[[Array], Array],
    measured: Array,
    weight: Array,
    sharp: float = SHARP,
) -> Fitted:
    from scipy.optimize import least_squares

    start = np.array([c.start for c in constants])
    spread = np.array([c.spread for c in constants])

    def cost(z: Array) -> Array:
        x = start + spread * z
        return np.concatenate([weight * np.log(predicted(x) / measured), STRENGTH * z])

    low, high = (np.array([getattr(c, k) for c in constants]) for k in ("low", "high"))
    found = least_squares(
        cost,
        np.zeros(len(constants)),
        bounds=((low - start) / spread - 1e-9, (high - start) / spread + 1e-9),
        loss="soft_l1",
        f_scale=sharp,
    )
    x = np.clip(start + spread * found.x, low, high)
    error = np.abs(predicted(x) / measured - 1.0)
    return {
        c.path: {
            "value": float(f"{v:.3g}"),
            "rows": int(measured.size),
            "median_error": float(f"{np.median(error):.3g}"),
        }
        for c, v in zip(constants, x, strict=True)
    }
