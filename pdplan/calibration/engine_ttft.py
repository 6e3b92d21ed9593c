"""The part of the engine fit that TTFT tells: request handling, cold starts, convoys.

All else of TTFT (kernels, queues, held prompts) stands; measured TPOT stands in for the predicted one,
so that what step constants miss does not end up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pdplan.calibration.engine_constant import Constant
from pdplan.calibration.engine_parts import running_sequences
from pdplan.catalog.store import Catalog
from pdplan.laws.roofline import Array
from pdplan.laws.speculation import tokens_per_step
from pdplan.measured.predict import RunGroup, run_group, run_metrics
from pdplan.measured.run import Run
from pdplan.measured.runs import group_runs
from pdplan.serving.first_token import convoy_prompts, held_steps, prompts_per_step, step_prompts
from pdplan.serving.pools import Pool, prefill_service

COUNTED = ("vllm", "atom", "generic")
"""Engines whose steps of a hand-over are counted in a source, and not fitted."""
DRAFTING = "sglang"
"""The engine whose hand-over takes a share of the steps where it drafts."""
AMD = "amd"
COLD = (
    ("benchmarks", "inferencex sglang", "hopper", "cold_start_s"),
    ("benchmarks", "inferencex sglang", "blackwell", "cold_start_s"),
    ("benchmarks", "inferencex sglang", AMD, "cold_start_s"),
    ("benchmarks", "inferencex trtllm", "cold_start_s"),
)
CONVOYS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""The wait of convoys is computed for these numbers of prompts and interpolated between."""

TTFT = (
    Constant(path=("common", "request_overhead_s"), start=0.02, spread=0.02, low=0.0, high=0.3),
    Constant(path=("common", "operation_launch_s"), start=100e-6, spread=50e-6, low=0.0, high=1e-3),
    Constant(path=("generations", AMD, "operation_launch_s"), start=1.0, spread=0.5, low=0.0, high=3.0),
    Constant(path=("common", "token_overhead_s"), start=2.5e-6, spread=2e-6, low=0.0, high=3e-5),
    Constant(path=("common", "handover_steps"), start=5.0, spread=3.0, low=0.0, high=30.0),
    Constant(path=("engines", DRAFTING, "drafting_handover_share"), start=0.5, spread=0.3, low=0.0, high=1.0),
    *(
        Constant(path=path, start=60.0, spread=30.0, low=0.0, high=200.0)
        if "blackwell" in path  # the whole of a large step's kernels
        else Constant(path=path, start=1.5, spread=1.0, low=0.0, high=8.0)
        for path in COLD
    ),
    Constant(
        path=("benchmarks", "aiconfigurator-sweep", "convoy_prompts"),
        start=1.0,
        spread=1.0,
        low=1.0,
        high=4.0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class FirstTokens:
    """What TTFT is made of, in the units that the constants multiply; arrays over runs."""

    tokens: Array
    operations: Array
    """That the host starts one by one; 0 where the engine compiles them."""
    steps: Array
    """Tokens of each running sequence, at the measured TPOT, that pass before the prompt's first step."""
    beside: Array
    """The same beside the prompt, where the engine mixes."""
    handover: Array
    """The same for one step of a hand-over, if the decode worker is busy; 0 where they are COUNTED."""
    drafting: Array
    """1 where a worker of DRAFTING drafts."""
    prompts: Array
    """Prompts' work from the first step on, one's own included, where answers differ in length."""
    convoys: Array
    """The same where they do not, at each of CONVOYS; 0 where they do."""
    burst: Array
    """Prompts' work that the opening burst adds to the mean."""
    cold: Array
    """Share of the mean that a cold start has."""
    queue_s: Array
    """Wait for prefill, as predicted."""
    fixed_s: Array
    """Transfer of the cache, as predicted."""
    amd: Array
    """1 on AMD's accelerators."""
    place: Array
    """One column a line of COLD."""

    def take(self, index: Array) -> FirstTokens:
        return FirstTokens(**{f.name: getattr(self, f.name)[index] for f in fields(FirstTokens)})


def first_tokens(runs: Sequence[Run], catalog: Catalog, document: Mapping[str, Any]) -> FirstTokens:
    """The table of all runs, with queues as `document` predicts them."""
    table: dict[str, Array] = {}
    for index in group_runs(list(runs)):
        group = [runs[i] for i in index]
        for name, values in _of_group(group, run_group(group, catalog, document)).items():
            whole = table.setdefault(name, np.full((len(runs), *values.shape[1:]), np.nan))
            whole[index] = values
    return FirstTokens(**table)


def predicted_ttft(x: Array, facts: FirstTokens, prompt_s: Array, tpot_s: Array) -> Array:
    """Mean TTFT (or median, where only that is published) with constants `x`, in the order of TTFT [s]."""
    overhead, launch, amd, token, steps, share, *cold, convoy = x
    own = prompt_s + facts.beside * tpot_s
    behind = np.maximum(launch * amd**facts.amd * facts.operations - own, 0.0)
    handling = overhead + token * facts.tokens + behind
    i = int(np.clip(np.searchsorted(CONVOYS, convoy) - 1, 0, len(CONVOYS) - 2))
    part = (convoy - CONVOYS[i]) / (CONVOYS[i + 1] - CONVOYS[i])
    convoys = (1.0 - part) * facts.convoys[:, i] + part * facts.convoys[:, i + 1]
    work = np.where(convoys > 0, convoys, facts.prompts) + facts.burst
    waits = facts.queue_s + facts.fixed_s + facts.cold * (facts.place @ np.asarray(cold))
    passing = facts.steps + facts.beside + steps * share**facts.drafting * facts.handover
    return np.asarray(handling + passing * tpot_s + work * prompt_s + waits)


def _of_group(group: list[Run], case: RunGroup) -> dict[str, Array]:
    rows, workload = len(group), case.workload
    colocated = case.prefill is None
    pool = case.decode if case.prefill is None else case.prefill
    engine = pool.setting.constants.engine
    service = prefill_service(replace(pool, max_batch=pool.micro_batches_per_worker), workload)
    parts = run_metrics(group, case).parts
    each = np.asarray(workload.concurrency, dtype=float) / pool.servers
    running = running_sequences(group) / pool.workers
    share = prompts_per_step(pool, workload, running)
    tokens = tokens_per_step(pool.speculation.drafted, pool.speculation.acceptance) if colocated else 1.0
    held = held_steps(pool, workload, running) * colocated
    fits = step_prompts(pool, workload)
    alike = colocated and bool(np.any(workload.convoy_prompts))
    ahead = np.maximum((each - 1.0) / 2.0, 0.0)
    one_convoy = alike and not engine.mixes_prefill
    generation = case.world.accelerator(group[0].hardware).generation
    mean = np.array([not np.isnan(run.ttft_mean_s) for run in group])
    bench = f"{group[0].source} {group[0].engine}"
    handover = np.zeros(rows) if colocated else _handover(group, case.decode)
    counted = group[0].engine in COUNTED
    table = {
        "tokens": workload.isl,
        "operations": (engine.operation_launch_s > 0) * service.steps * service.step.operations,
        # A whole step waited for; or, on a decode worker, the first step.
        "steps": (1.0 + held) * tokens + counted * engine.handover_steps * handover,
        "beside": float(colocated and bool(engine.mixes_prefill)) * tokens,
        "handover": handover * (not counted),
        "drafting": float(group[0].engine == DRAFTING and group[0].speculates),
        "prompts": (1.0 + np.minimum(held * share, fits - 1.0)) * (1.0 + service.lag),
        "burst": np.where(one_convoy, 0.0, workload.burst_share * ahead) * mean * (1.0 + service.lag),
        "cold": np.array([float((run.settings or {}).get("cold", 0.0)) for run in group])
        * workload.burst_share
        * mean,
        # Requests of the opening burst have its wait in place of the later ones'.
        "queue_s": np.nan_to_num(parts["wait for prefill"] * (not alike))
        * (1.0 - (not colocated) * workload.burst_share * mean),
        "amd": float(generation.startswith("cdna")),
        "fixed_s": parts.get("KV transfer", np.zeros(())),
    }
    found = {k: np.broadcast_to(np.asarray(v, dtype=float), (rows,)) for k, v in table.items()}
    sizes = [convoy_prompts(pool, replace(workload, convoy_prompts=k), each) * alike for k in CONVOYS]
    vendor = AMD if generation.startswith("cdna") else generation
    places = [p[1] == bench and (len(p) == 3 or p[2] == vendor) for p in COLD]
    return found | {
        "convoys": np.stack([np.broadcast_to(s, (rows,)) for s in sizes], axis=-1),
        "place": np.tile(np.array(places, dtype=float), (rows, 1)),
    }


def _handover(group: list[Run], decode: Pool) -> Array:
    """Tokens of a step of the decode worker, where it is busy (`pools.first_step_s`)."""
    speculation = decode.speculation
    busy = -np.expm1(-running_sequences(group) / decode.workers)
    return tokens_per_step(speculation.drafted, speculation.acceptance) * busy
