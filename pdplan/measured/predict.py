"""Predict measured runs: the same composition as every other command, a group of equal runs per call."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.compose import (
    NetworkSpec,
    World,
    build_network,
    build_setting,
    default_bandwidth,
    kv_precision_for,
)
from pdplan.efficiency import as_built, benchmark_settings, engine_constants, engine_file
from pdplan.errors import InputError, PdplanError
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, pool_memory
from pdplan.laws.roofline import Array
from pdplan.laws.speculation import acceptance_of_tokens, long_answer_tokens
from pdplan.layout import Layout
from pdplan.link_constants import with_all_reduces, with_fused_all_reduces
from pdplan.measured.maturity import tuning_factor
from pdplan.measured.run import Run
from pdplan.measured.runs import group_runs
from pdplan.measured.servers import (
    all_reduce_kernels,
    engine_settings,
    loop_settings,
    node_bytes_per_s,
    published_share,
    served_weights,
)
from pdplan.plan import Metrics, PoolPlan, Serving
from pdplan.serving.pools import Pool
from pdplan.step import Setting
from pdplan.uncertainty import LOADED
from pdplan.workload import Slo, Speculation, Workload


NO_SPECULATION = Speculation()
GENERIC_ENGINE = "generic"


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One number per run, NaN where `reasons` says why not.

    At a rate beyond capacity there is no steady TTFT; TPOT is that of full batches, tokens/s what they give.
    """

    tpot_mean_s: Array
    ttft_mean_s: Array
    ttft_median_s: Array
    total_tok_per_s_per_gpu: Array
    pool_load: Array
    """What the busiest pool has to do, as a share of what it can."""
    reasons: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    """What was taken for something that is not known; one line each."""

    @property
    def loaded(self) -> Array:
        """Where a pool is, and errors are wide."""
        return np.asarray(self.pool_load >= LOADED)

    @property
    def missed(self) -> int:
        """Runs of which nothing could be predicted."""
        return int(np.count_nonzero(np.isnan(self.tpot_mean_s)))


def predict(runs: list[Run], catalog: Catalog, engines: Mapping[str, Any] | None = None) -> Predictions:
    """Mean TPOT, TTFT and tokens/s/GPU of every run, as a closed loop of its concurrency or at its rate.

    `engines` stands in for constants/engines.yaml: other constants for cross-validation or calibration.
    """
    runs, assumed = _of_known_engines(runs, engine_file() if engines is None else engines)
    found = np.full((5, len(runs)), np.nan)
    reasons = [""] * len(runs)
    waiting = list(group_runs(runs, by_length=False))
    while waiting:
        index = waiting.pop()
        group = [runs[i] for i in index]
        try:
            found[:, index], load = _best_drafts(group, catalog, engines)
        except PdplanError as problem:
            lengths = [[index[i] for i in part] for part in group_runs(group)]
            if len(lengths) > 1:  # one of them may be what is wrong
                waiting += lengths
                continue
            for i in index:
                reasons[i] = str(problem).splitlines()[0]
            continue
        for i, share in zip(index, load, strict=True):
            if share > 1.0:
                reasons[i] = _beyond(share)
    tpot, ttft, median, rate, pool_load = found
    return Predictions(
        tpot_mean_s=tpot,
        ttft_mean_s=ttft,
        ttft_median_s=median,
        total_tok_per_s_per_gpu=rate,
        pool_load=pool_load,
        reasons=reasons,
        assumed=assumed,
    )


def _of_known_engines(runs: list[Run], document: Mapping[str, Any]) -> tuple[list[Run], list[str]]:
    """Runs of engines without constants as runs of the generic one, and what to say of that."""
    known = document["engines"]
    unknown = Counter(run.engine for run in runs if run.engine not in known)
    said = [
        f"{name}: an engine without constants, taken as {GENERIC_ENGINE} in {count:,} run{'s' * (count > 1)} "
        f"(known: {', '.join(known)})"
        for name, count in sorted(unknown.items())
    ]
    return [run if run.engine in known else replace(run, engine=GENERIC_ENGINE) for run in runs], said


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Equal runs but for layout and concurrency, as pools under a workload: arrays over the runs."""

    decode: Pool
    prefill: Pool | None
    workload: Workload
    world: World


def run_group(
    group: list[Run],
    catalog: Catalog,
    engines: Mapping[str, Any] | None = None,
    drafted: int | None = None,
) -> RunGroup:
    """The pools and the closed loop of a group of runs; PdplanError where a name is unknown.

    Where the runs speculate and do not say how many tokens they draft, it is `drafted` (None: as many as the
    engine may).
    """
    first = group[0]
    if (first.mode == "disaggregated") != (first.prefill is not None):
        raise InputError(f"mode is {first.mode}, and there is {'a' if first.prefill else 'no'} prefill pool")
    sender = first.prefill.hardware if first.prefill else first.hardware
    world = World(
        models={first.model: catalog.model(first.model)},
        accelerators={name: catalog.accelerator(name) for name in {first.hardware, sender}},
        prices={},
        constants=engines,
    )
    if first.prefill is not None and default_bandwidth(world, sender, first.hardware) is None:
        world = replace(world, network=_within_server(world, sender, first.hardware))
    generation = world.accelerator(first.hardware).generation
    bench = benchmark_settings(first.source, first.engine, generation, engines)
    kv_precision = kv_precision_for(first.kv_precision, first.precision, first.engine, engines)
    follows = bench.pop("kv_follows_weights", 0.0) and first.precision in ("fp8", "fp4")
    if follows and first.kv_precision == "auto":
        kv_precision = "fp8"
    serving = Serving(
        model=first.model, precision=first.precision, kv_precision=kv_precision, engine=first.engine
    )
    utilisation = bench.pop("memory_utilisation")

    def setting(hardware: str, role: str) -> Setting:
        built = build_setting(world, serving, hardware)
        engine = as_built(built.constants.engine, first.build, engines)
        share = engine.kernel_overhead_share * tuning_factor(engine.tuning_exponent, group)
        engine = replace(
            engine,
            memory_utilisation=max(engine.memory_utilisation, utilisation),
            kernel_overhead_share=share,
            **engine_settings(first, role),
        )
        formats = built.formats
        if weights := served_weights(first):
            formats = replace(formats, checkpoint=replace(formats.checkpoint, **weights))
        links = built.constants.links
        where = hardware, world.accelerator(hardware).generation
        if kernels := all_reduce_kernels(first):
            links = with_all_reduces(links, *where, kernels)
        if engine.fused_norms:
            links = with_fused_all_reduces(links, *where)
        if role == "decode" and (reached := node_bytes_per_s(first)) is not None:
            links = replace(links, scale_out_bytes_per_s=reached)
        constants = replace(built.constants, engine=engine, links=links)
        return replace(built, formats=formats, constants=constants)

    own = setting(first.hardware, "decode")
    engine = own.constants.engine
    speculation = Speculation()
    if first.speculates:
        drafts = first.drafted or drafted or int(engine.mtp_drafted)
        growth = bench.pop("acceptance_per_doubling", 0.0)
        tokens = float(long_answer_tokens(drafts, engine.mtp_acceptance, growth, first.osl))
        speculation = Speculation(drafted=drafts, acceptance=acceptance_of_tokens(drafts, tokens))
    workload = Workload(
        isl=_number_or_array([run.mean_isl for run in group]),
        osl=_number_or_array([run.mean_osl for run in group]),
        rate=np.asarray([run.rate for run in group]) if first.open_loop else None,
        concurrency=None if first.open_loop else np.asarray([run.concurrency for run in group]),
        arrival_cv=first.arrival_cv,
        prefix_reuse=first.prefix_reuse,
        **loop_settings(group, bench, engine.max_step_tokens),
    )
    decode = _within_memory(_pool(own, [run.decode for run in group], speculation), workload)
    decode = _within_slots(decode, group)
    padded = [float((run.settings or {}).get("padded_batch", 0.0)) for run in group]
    decode = replace(decode, padded_batch=np.asarray(padded) if any(padded) else 0.0)
    slots = np.asarray([float((run.settings or {}).get("expert_slots", 0.0)) for run in group])
    if slots.any():
        copies = np.maximum(slots - own.stack.experts, 0.0)
        decode = replace(decode, layout=replace(decode.layout, redundant=copies))
    prefill = None
    if first.prefill is not None:
        prefill = _pool(setting(sender, "prefill"), [run.prefill or run.decode for run in group])
        prefill = replace(prefill, max_batch=prefill.micro_batches_per_worker)
    return RunGroup(decode=decode, prefill=prefill, workload=workload, world=world)


def _tokens_in_flight(group: list[Run], tpot_s: Array, ttft_s: Array) -> Array:
    """Tokens per second and listed GPU of closed loops, their opening burst included.

    N requests in flight have N·(ISL + OSL)/(TTFT + TPOT·(OSL − 1)).
    """
    isl, osl, requests, gpus = np.array(
        [(run.mean_isl, run.mean_osl, run.concurrency, run.gpus) for run in group]
    ).T
    return np.asarray(requests * (isl + osl) / (ttft_s + tpot_s * (osl - 1.0)) / gpus)


def _beyond(load: float) -> str:
    return (
        f"no TTFT: the rate is {load:.2f} times what the deployment is predicted to carry, so its queue grows "
        "without end"
    )


def _best_drafts(
    group: list[Run], catalog: Catalog, engines: Mapping[str, Any] | None
) -> tuple[Array, Array]:
    """A group's prediction, and its load as a share of what it can carry, with the number of drafted tokens that serves each run best.

    How many a run drafted is not published; who tunes a run drafts fewer where the batch is large and
    each token costs arithmetic.
    """
    if not group[0].speculates or group[0].drafted:
        return _predict_group(group, catalog, engines)
    most = int(engine_constants(group[0].engine, "", engines).mtp_drafted)
    tried = [_predict_group(group, catalog, engines, k) for k in range(1, most + 1)]
    found, loads = np.stack([t[0] for t in tried]), np.stack([t[1] for t in tried])
    fastest = np.argmin(found[:, 0], axis=0)
    best = np.take_along_axis(found, fastest[None, None, :], axis=0)[0]
    return best, np.take_along_axis(loads, fastest[None, :], axis=0)[0]


def run_metrics(group: list[Run], case: RunGroup) -> Metrics:
    """What the pools of a group of runs do."""
    slo = Slo()
    if case.prefill is None:
        return evaluate_colocated(case.decode, case.workload, slo, _no_prices("colocated"))
    sender = group[0].prefill.hardware if group[0].prefill else group[0].hardware
    network = build_network(case.world, sender, group[0].hardware)
    money = _no_prices("prefill", "decode")
    return evaluate_disaggregated(case.prefill, case.decode, case.workload, slo, network, money)


def _predict_group(
    group: list[Run], catalog: Catalog, engines: Mapping[str, Any] | None, drafted: int | None = None
) -> tuple[Array, Array]:
    """TPOT, mean and median TTFT, tokens/s/GPU and the load of the busiest pool of each run; its rate over the
    highest it can carry."""
    case, first = run_group(group, catalog, engines, drafted), group[0]
    metrics = run_metrics(group, case)
    generation = case.world.accelerator(first.hardware).generation
    share = published_share(group, benchmark_settings(first.source, first.engine, generation, engines))
    busiest = np.max(np.broadcast_arrays(*metrics.utilisation.values()), axis=0)
    if first.open_loop:
        load = busiest
        throughput = metrics.total_tok_per_s_per_gpu / np.maximum(load, 1.0)
    else:
        load = np.zeros(())
        throughput = share * _tokens_in_flight(group, metrics.tpot_mean_s, metrics.ttft_mean_s)
    beyond = load > 1.0
    parts = (
        metrics.tpot_mean_s,
        np.where(beyond, np.nan, metrics.ttft_mean_s),
        np.where(beyond, np.nan, metrics.ttft_p50_s),
        throughput,
        busiest,
    )
    shape = (len(group),)
    return np.stack([np.broadcast_to(part, shape) for part in parts]), np.broadcast_to(load, shape)


def _within_server(world: World, *names: str) -> NetworkSpec:
    """The link inside a server, for accelerators of which no other is known: a measured run did have one."""
    links = [world.accelerator(name).scale_up for name in names]
    return NetworkSpec(
        bandwidth_bytes_per_s=min((x.bandwidth_bytes_per_s.value for x in links if x), default=None)
    )


def _number_or_array(lengths: list[float]) -> Any:
    return lengths[0] if len(set(lengths)) == 1 else np.asarray(lengths)


def _no_prices(*pools: str) -> Economics:
    nothing = dict.fromkeys(pools, float("nan"))
    return Economics(usd_per_gpu_h=nothing, watt_per_gpu=nothing)


def _pool(setting: Setting, plans: list[PoolPlan], speculation: Speculation = NO_SPECULATION) -> Pool:
    axes = {axis: np.asarray([float(getattr(p, axis)) for p in plans]) for axis in ("tp", "pp", "dp", "ep")}
    layout = Layout(**axes)
    return Pool(
        setting=setting,
        layout=layout,
        workers=np.asarray([float(p.workers) for p in plans]),
        max_batch=layout.dp * layout.pp,
        speculation=speculation,
    )


def _within_memory(pool: Pool, workload: Workload) -> Pool:
    """The batch that memory holds: of sequences at their full length, or, under an engine that preempts, at their
    mean one (a plan keeps to the full length). A measured run did fit: where not even two sequences a server
    seem to, what the tool knows of the engine's memory is wrong there, and no limit is set."""
    if pool.setting.constants.engine.preempts:  # sequences of all ages: half of their answers is there
        workload = replace(workload, osl=workload.osl / 2.0)
    held = pool_memory(pool, workload).max_sequences
    enough = held >= 2.0 * pool.micro_batches_per_worker
    if workload.concurrency is None:
        return replace(pool, max_batch=np.maximum(held, pool.micro_batches_per_worker))
    each = np.maximum(np.asarray(workload.concurrency) / pool.workers, pool.micro_batches_per_worker)
    return replace(pool, max_batch=np.where(enough, held, each))


def _within_slots(pool: Pool, group: list[Run]) -> Pool:
    """The batch that the server was started with, where its script says so."""
    slots = [math.inf if run.decode.max_batch is None else run.decode.max_batch for run in group]
    return replace(
        pool, max_batch=np.minimum(pool.max_batch, np.maximum(slots, pool.micro_batches_per_worker))
    )
