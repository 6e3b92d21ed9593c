"""Predict measured runs: the same composition as every other command, a group of equal runs per call."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_network, build_setting, kv_precision_for
from pdplan.errors import PdplanError
from pdplan.evaluate import Economics, evaluate_colocated, evaluate_disaggregated, pool_memory
from pdplan.laws.roofline import Array
from pdplan.layout import Layout
from pdplan.measured.runs import Run, group_runs
from pdplan.plan import PoolPlan, Serving
from pdplan.pools import Pool
from pdplan.workload import Slo, Speculation, Workload


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """One number per run, NaN where `reasons` says why not."""

    tpot_mean_s: Array
    ttft_mean_s: Array
    total_tok_per_s_per_gpu: Array
    reasons: list[str] = field(default_factory=list)


def predict(runs: list[Run], catalog: Catalog) -> Predictions:
    """Mean TPOT, mean TTFT and tokens/s/GPU of every run, as a closed loop of its concurrency."""
    count = len(runs)
    tpot, ttft, rate = np.full(count, np.nan), np.full(count, np.nan), np.full(count, np.nan)
    reasons = [""] * count
    for index in group_runs(runs):
        group = [runs[i] for i in index]
        try:
            found = _predict_group(group, catalog)
        except PdplanError as problem:
            for i in index:
                reasons[i] = str(problem).splitlines()[0]
            continue
        tpot[index], ttft[index], rate[index] = found
    return Predictions(tpot_mean_s=tpot, ttft_mean_s=ttft, total_tok_per_s_per_gpu=rate, reasons=reasons)


def _predict_group(group: list[Run], catalog: Catalog) -> tuple[Array, Array, Array]:
    first = group[0]
    sender = first.prefill.hardware if first.prefill else first.hardware
    world = World(
        models={first.model: catalog.model(first.model)},
        accelerators={name: catalog.accelerator(name) for name in {first.hardware, sender}},
        prices={},
    )
    serving = Serving(
        model=first.model,
        precision=first.precision,
        kv_precision=kv_precision_for("auto", first.precision, first.engine),
        engine=first.engine,
    )
    setting = build_setting(world, serving, first.hardware)
    engine = setting.constants.engine
    speculation = Speculation()
    if first.spec == "mtp":
        speculation = Speculation(drafted=int(engine.mtp_drafted), acceptance=engine.mtp_acceptance)
    workload = Workload(
        isl=first.mean_isl, osl=first.mean_osl, concurrency=np.asarray([run.concurrency for run in group])
    )
    slo = Slo()
    decode = _pool(setting, [run.decode for run in group], speculation)
    decode = _within_memory(decode, workload)
    if first.prefill is None:
        nothing = {"colocated": float("nan")}
        metrics = evaluate_colocated(decode, workload, slo, Economics(usd_per_gpu_h=nothing, watt_per_gpu=nothing))
    else:
        prefill = _pool(build_setting(world, serving, sender), [run.prefill or run.decode for run in group])
        nothing = {"prefill": float("nan"), "decode": float("nan")}
        metrics = evaluate_disaggregated(
            prefill,
            decode,
            workload,
            slo,
            build_network(world, sender, first.hardware),
            Economics(usd_per_gpu_h=nothing, watt_per_gpu=nothing),
        )
    shape = (len(group),)
    return (
        np.broadcast_to(metrics.tpot_mean_s, shape),
        np.broadcast_to(metrics.ttft_mean_s, shape),
        np.broadcast_to(metrics.total_tok_per_s_per_gpu, shape),
    )


def _pool(setting: object, plans: list[PoolPlan], speculation: Speculation = Speculation()) -> Pool:
    axes = {axis: np.asarray([float(getattr(p, axis)) for p in plans]) for axis in ("tp", "pp", "dp", "ep")}
    layout = Layout(**axes)
    return Pool(
        setting=setting,  # type: ignore[arg-type]
        layout=layout,
        workers=np.asarray([float(p.workers) for p in plans]),
        max_batch=layout.dp * layout.pp,
        speculation=speculation,
    )


def _within_memory(pool: Pool, workload: Workload) -> Pool:
    """The batch that memory holds; a run that was measured did fit, so one sequence per server at least."""
    from dataclasses import replace

    held = pool_memory(pool, workload).max_sequences
    return replace(pool, max_batch=np.maximum(held, pool.servers_per_worker))
