"""No prediction beats physics: bytes at peak bandwidth, arithmetic at the peak, memory that is there.

The bounds are counted from the catalog entries, not from the ops that the predictions are made of.
A slice of all pairs of model and accelerator runs here: each model and each accelerator at least once.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from pdplan.architecture.checkpoints import checkpoint_for
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import BYTES_PER_ELEMENT, Model
from pdplan.architecture.parameters import (
    kv_bytes_per_token,
    matrix_parameters_per_token,
    parameters_total,
    weight_bytes,
)
from pdplan.architecture.stages import stages_of, whole
from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_setting, evaluate_plan, kv_precision_for
from pdplan.layout import Layout, decode_load, prefill_load
from pdplan.memory import memory_budget, weight_bytes_per_gpu
from pdplan.ops import Op
from pdplan.plan import Colocated, PoolPlan
from pdplan.search.workers.candidates import possible_layouts
from pdplan.serving.pools import Pool, mixed_step
from pdplan.step import Setting, StepTime, step_time
from pdplan.workload import Slo, Workload

CATALOG = Catalog(environment="")
MODELS = {m.name: m for m in CATALOG.models()}
ACCELERATORS = {a.name: a for a in CATALOG.accelerators()}
WORLD = World(models=MODELS, accelerators=ACCELERATORS, prices={})
BATCHES = np.asarray([1.0, 7.0, 64.0, 1000.0])[:, None]
PROMPTS = np.asarray([1.0, 500.0, 30_000.0])[:, None]
CONTEXT = 3000.0
ROUNDING = 1 - 1e-9
FALL = 0.93


def pairs() -> list[tuple[str, str]]:
    """Each model and each accelerator at least once, and no two of a kind side by side."""
    models, accelerators = list(MODELS), list(ACCELERATORS)
    count = max(len(models), len(accelerators))
    return [(models[i % len(models)], accelerators[7 * i % len(accelerators)]) for i in range(count)]


@cache
def setting_of(model: str, accelerator: str) -> Setting:
    precision = next(iter(MODELS[model].checkpoints))
    kv = kv_precision_for("auto", precision, "vllm")
    pool = PoolPlan(hardware=accelerator, workers=1)
    plan = Colocated(model=model, precision=precision, kv_precision=kv, colocated=pool)
    return build_setting(WORLD, plan, accelerator)


@cache
def layouts_of(model: str, accelerator: str) -> Layout:
    """Some of the layouts that the search looks at, small and large."""
    every = possible_layouts(WORLD, setting_of(model, accelerator), accelerator, 64)
    count = int(np.size(every.tp))
    return every[np.unique(np.linspace(0, count - 1, 24).astype(int))]


def steps_of(model: str, accelerator: str) -> list[StepTime]:
    setting, layout = setting_of(model, accelerator), layouts_of(model, accelerator)
    decode = step_time(setting, layout, decode_load(BATCHES, CONTEXT, CONTEXT))
    return [decode, step_time(setting, layout, prefill_load(1.0, PROMPTS))]


def stored(model: Model) -> float:
    """Bytes of every weight but tables, experts and what is no part of a step."""
    checkpoint = checkpoint_for(model, next(iter(model.checkpoints)))
    total = weight_bytes(model, checkpoint)
    table = model.vocab_size * model.hidden_size
    tables = 1 if model.tie_embeddings else 2
    formats = [BYTES_PER_ELEMENT[getattr(checkpoint, part)] for part in ("embedding", "head")]
    rest = total - table * sum(formats[:tables]) - 2.0 * model.other_parameters
    for group in model.layers:
        if isinstance(group.feed_forward, Experts):
            sizes = sum(m.parameters for m in group.feed_forward.expert_matrices(model.hidden_size))
            experts = group.count * group.feed_forward.experts * sizes
            rest -= experts * BYTES_PER_ELEMENT[checkpoint.experts]
    return rest


@pytest.mark.parametrize(("model", "accelerator"), pairs())
def test_no_kernel_beats_the_peaks(model, accelerator):
    setting = setting_of(model, accelerator)
    for step in steps_of(model, accelerator):
        for term in step.terms:
            assert np.all(np.isfinite(term.total_s)), term.name
            assert np.all(term.total_s >= 0), term.name
            if not isinstance(term.source, Op):
                continue
            op = term.source
            least = op.layers * np.maximum(
                op.flop / max(setting.formats.peaks.values()),
                op.stored_bytes / setting.bandwidth_bytes_per_s,
            )
            assert np.all(term.total_s >= least * ROUNDING), term.name
        assert np.all(step.total_s > 0)


@pytest.mark.parametrize(("model", "accelerator"), pairs())
def test_a_step_is_no_faster_than_the_model_at_the_peaks(model, accelerator):
    entry, setting, layout = MODELS[model], setting_of(model, accelerator), layouts_of(model, accelerator)
    decode, prefill = steps_of(model, accelerator)
    # A stage runs 1/pp of the layers; a step passes all stages, one after the other.
    bandwidth = setting.bandwidth_bytes_per_s * layout.tp * layout.dp
    peak = max(setting.formats.peaks.values()) * layout.tp * layout.dp
    in_layers, _ = matrix_parameters_per_token(entry)
    weights = stored(entry) / bandwidth
    plain = all(
        core.window is None and core.top_k is None
        for group in entry.layers
        if group.attention
        for core in group.attention.cores()
    )
    cache_bytes = kv_bytes_per_token(entry) / 2.0 * setting.formats.kv_bytes if plain else 0.0
    sequences = BATCHES * layout.dp  # a load is per attention rank
    assert np.all(decode.total_s >= weights * ROUNDING)
    assert np.all(decode.total_s >= (weights + sequences * CONTEXT * cache_bytes / bandwidth) * ROUNDING)
    assert np.all(decode.total_s >= sequences * 2.0 * in_layers / peak * ROUNDING)
    assert np.all(prefill.total_s >= PROMPTS * layout.dp * 2.0 * in_layers / peak * ROUNDING)


@pytest.mark.parametrize(("model", "accelerator"), pairs())
def test_more_bandwidth_and_more_arithmetic_are_never_slower(model, accelerator):
    setting, layout = setting_of(model, accelerator), layouts_of(model, accelerator)
    wider = replace(setting, bandwidth_bytes_per_s=1.7 * setting.bandwidth_bytes_per_s)
    faster = {name: 1.7 * peak for name, peak in setting.formats.peaks.items()}
    stronger = replace(setting, formats=replace(setting.formats, peaks=faster))
    for load in (decode_load(BATCHES, CONTEXT, CONTEXT), prefill_load(1.0, PROMPTS)):
        before = step_time(setting, layout, load).total_s
        assert np.all(step_time(wider, layout, load).total_s <= before * (1 + 1e-12))
        assert np.all(step_time(stronger, layout, load).total_s <= before * (1 + 1e-12))


@pytest.mark.parametrize(("model", "accelerator"), pairs())
def test_memory_is_there_and_holds_every_weight(model, accelerator):
    entry, setting, layout = MODELS[model], setting_of(model, accelerator), layouts_of(model, accelerator)
    found = memory_budget(setting, layout, CONTEXT)
    assert np.all(found.usable <= setting.usable_bytes)
    held = found.max_sequences / layout.dp
    used = found.weights + found.reserve + held * found.sequence
    fits = found.max_sequences > 0
    assert np.all(used[fits] <= float(found.usable) * (1 + 1e-12))
    checkpoint = checkpoint_for(entry, next(iter(entry.checkpoints)))
    everything = (
        weight_bytes(entry, checkpoint) - 2.0 * entry.hidden_size
    )  # the last norm is not worth a line
    for stages in np.unique(layout.pp).astype(int).tolist():
        some = layout[layout.pp == stages]
        each = [
            weight_bytes_per_gpu(setting.stack, setting.formats, some, stage)
            for stage in stages_of(setting.stack.order, whole(setting.stack), stages)
        ]
        assert np.all(
            np.max(each, axis=0) * some.gpus >= everything * ROUNDING
        )  # the fullest is above the mean
    assert parameters_total(entry) > 0


@pytest.mark.parametrize("answer", [2.0, 10.0, 100.0])
@pytest.mark.parametrize(("model", "accelerator"), pairs()[::9])
def test_a_fuller_colocated_worker_serves_no_less(model, accelerator, answer):
    """Requests/s of a batch, r/(OSL·TPOT(r)), hardly fall with it, however short answers are.

    A batch's work grows by no more than its requests. Counted as if each step held one prompt they fell to
    a third; what is left are steps to which more prompts come than they hold.
    """
    setting, layout = setting_of(model, accelerator), layouts_of(model, accelerator)
    pool = Pool(setting=setting, layout=layout, workers=np.ones(()), max_batch=layout.dp * layout.pp)
    running = np.geomspace(1.0, 500.0, 12)[:, None] * layout.dp * layout.pp
    for prompt in (60, 1000):
        workload = Workload(isl=prompt, osl=answer, rate=1.0)
        served = running / (answer * mixed_step(pool, workload, running).tpot_s)
        best_before = np.maximum.accumulate(served, axis=0)
        assert np.all(served >= FALL * best_before)


def test_a_closed_loop_of_short_answers_uses_no_more_than_there_is():
    pool = PoolPlan(hardware="h100", workers=1)
    plan = Colocated(model="llama-3.1-8b", precision="bf16", kv_precision="bf16", colocated=pool)
    loads = [Workload(isl=62, osl=2, concurrency=n) for n in (16, 200, 1000, 4000)]
    found = [evaluate_plan(WORLD, plan, load, Slo()) for load in loads]
    assert all(0 < metrics.utilisation["colocated"] <= 1 for metrics in found)
    rates = [metrics.requests_per_s for metrics in found]
    assert all(more >= 0.99 * less for less, more in pairwise(rates))
