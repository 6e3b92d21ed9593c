"""The two formulas that everything starts from, and the laws in the limit where they hold exactly."""

from __future__ import annotations

from dataclasses import replace

from pdplan.compose import build_setting
from pdplan.explain.architecture import ModelNumbers
from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.case import Case
from pdplan.explain.sources import COUNTED, PLAN, Sources
from pdplan.layout import Layout, decode_load, prefill_load
from pdplan.ops import Op
from pdplan.step import StepTime, step_time

_WEIGHTS = ("gemm", "experts")


def write_seed(b: Builder, case: Case, model: ModelNumbers) -> None:
    """Section 2: one worker, efficiencies 1, overheads 0."""
    b.section(
        "seed",
        "The two seed formulas",
        "Prefill is compute-bound, decode is memory-bound. On one worker, its accelerators taken together, "
        "with every efficiency 1 and every overhead 0; the sections below say how far reality stands off.",
    )
    prefill, decode = case.sources[case.prefilling], case.sources[case.decoding]
    dtype = _main_dtype(prefill)
    tokens = Quantity(case.workload.new_tokens, "tokens", "the workload: prompt tokens that are not cached")
    b.line(
        "t_prefill",
        "prefill of one prompt: tokens · 2 · active parameters / FLOP/s",
        "n*2*P_t/(g*F)",
        {
            "n": tokens,
            "P_t": model.matrices_per_token,
            "g": _gpus(case, case.prefilling),
            "F": prefill.peak(dtype),
        },
        "s",
        binding="compute",
    )
    context = b.line(
        "c", "context, mean over the answer", "ISL+OSL/2", {"ISL": case.isl, "OSL": case.osl}, "tokens"
    )
    used = {"W_s": model.streamed_bytes, "c": context, "kv_t": model.kv_bytes_per_token}
    b.line(
        "t_decode",
        "decode of one token, batch 1: bytes read / memory bandwidth",
        "(W_s+c*kv_t)/(g*B)",
        used | {"g": _gpus(case, case.decoding), "B": decode.bandwidth()},
        "s",
        binding="memory",
    )


def write_ideal(b: Builder, case: Case, model: ModelNumbers) -> None:
    """Section 3: the laws with ideal constants on one accelerator give the seed numbers."""
    b.section(
        "ideal",
        "The laws in the ideal limit",
        "The same laws that plan the deployment, with efficiencies 1, overheads 0 and a sharp ridge, on one "
        "accelerator as if it held the model: matrix products alone take the seed's time.",
    )
    _write_ideal_prefill(b, case, _ideal_sources(case, case.prefilling), model)
    _write_ideal_decode(b, case, _ideal_sources(case, case.decoding), model)


def _ideal_sources(case: Case, name: str) -> Sources:
    hardware = case.plan.pools[name].hardware
    world = replace(case.world, ideal=True)
    return replace(case.sources[name], world=world, setting=build_setting(world, case.plan, hardware))


def _write_ideal_prefill(b: Builder, case: Case, sources: Sources, model: ModelNumbers) -> None:
    tokens = case.workload.new_tokens
    step = step_time(sources.setting, Layout(), prefill_load(1.0, tokens))
    n = Quantity(tokens, "tokens", "the workload: prompt tokens that are not cached")
    ops = [(t, t.source) for t in step.terms if isinstance(t.source, Op)]
    layers = [(t, op) for t, op in ops if op.family in _WEIGHTS and op.name != _HEAD]
    parts: dict[str, Quantity] = {}
    for dtype in dict.fromkeys(op.dtype for _, op in layers):
        here = [(t, op) for t, op in layers if op.dtype == dtype]
        weights = sum(op.layers * number(op.flop) for _, op in here) / (2.0 * tokens)
        p = Quantity(weights, "parameters", f"{COUNTED}: matrices that run in {dtype}")
        if abs(weights - model.matrices_per_token.value) <= 1e-12 * weights:
            p = model.matrices_per_token
        parts[f"t_{dtype.replace('-', '_')}"] = b.line(
            f"t_{dtype.replace('-', '_')}",
            f"matrix products of the layers in {dtype}: the seed formula",
            "n*2*P/F",
            {"n": n, "P": p, "F": sources.peak(dtype)},
            "s",
            value=sum(number(t.compute_s) for t, _ in here),
            binding="compute",
        )
    head = next((t, op) for t, op in ops if op.name == _HEAD)
    parts["t_head"] = b.line(
        "t_head",
        "LM head, last token only",
        "2*P_h/F",
        {"P_h": model.head, "F": sources.peak(head[1].dtype)},
        "s",
        value=head[0].compute_s,
    )
    rest = [t for t, op in ops if op.family not in _WEIGHTS]
    parts["t_core"] = Quantity(
        sum(number(t.compute_s) for t in rest),
        "s",
        "laws of the attention core and recurrent state, as in the prefill step",
    )
    _write_excess(b, step, parts, "compute", "prefill of one prompt in the ideal limit")


def _write_ideal_decode(b: Builder, case: Case, sources: Sources, model: ModelNumbers) -> None:
    first, last = case.workload.isl, case.workload.isl + case.workload.osl
    step = step_time(sources.setting, Layout(), decode_load(1.0, first, last))
    ops = [op for t in step.terms if isinstance(op := t.source, Op)]
    weights = sum(op.layers * number(op.stored_bytes) for op in ops if op.family in _WEIGHTS)
    cache = sum(op.layers * number(op.stored_bytes) for op in ops if op.family not in _WEIGHTS)
    w = Quantity(weights, "B", f"{COUNTED}: weights of all matrices")
    if abs(weights - model.streamed_bytes.value) <= 1e-12 * weights:
        w = model.streamed_bytes
    c = Quantity(
        cache, "B", f"{COUNTED}: cache and state that one sequence's step reads, mean over the answer"
    )
    parts = {
        "t_bytes": b.line(
            "t_bytes",
            "bytes read / memory bandwidth: the seed formula",
            "(W_s+C)/B",
            {"W_s": w, "C": c, "B": sources.bandwidth()},
            "s",
            value=step.part_s("memory"),
            binding="memory",
        )
    }
    _write_excess(b, step, parts, "memory", "decode step, batch 1, in the ideal limit")


def _write_excess(b: Builder, step: StepTime, parts: dict[str, Quantity], kind: str, name: str) -> None:
    """The whole ideal step: the seed's part, and what ops take that are bound otherwise."""
    excess = sum(max(number(t.total_s) - number(getattr(t, f"{kind}_s")), 0.0) for t in step.terms)
    if excess > 0:
        what = "memory" if kind == "compute" else "compute"
        parts["t_rest"] = Quantity(excess, "s", f"what ops that are {what}-bound take beyond that")
    b.total_of("t", name, parts, "s", value=step.total_s, binding=kind)


_HEAD = "LM head (head)"


def _main_dtype(sources: Sources) -> str:
    """The arithmetic type of most of the layers' work."""
    stack, formats = sources.setting.stack, sources.setting.formats
    return formats.arithmetic("experts" if stack.has_experts else "dense")


def _gpus(case: Case, name: str) -> Quantity:
    return Quantity(float(case.plan.pools[name].gpus_per_worker), "GPUs", f"{PLAN}: GPUs of a {name} worker")
