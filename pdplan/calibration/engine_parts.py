"""Measured runs taken apart: what a step at the measured batch is made of, before engine constants.

Little's law says how many sequences ran: of the N requests in flight, the share TPOT·(OSL − 1) of a
request's life. At that batch the step's kernels, their starts and the messages are known but for the
engine's constants, and the fit is one of a few numbers on a table; no loop is solved inside it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_yaml
from pdplan.efficiency import Engine
from pdplan.laws.experts import last_rank_wait_s
from pdplan.laws.roofline import Array
from pdplan.layout import mixed_load, prefill_load
from pdplan.measured.predict import run_group
from pdplan.measured.run import Run
from pdplan.measured.runs import group_runs
from pdplan.measured.servers import ROLES, engine_settings
from pdplan.ops import Message, Op
from pdplan.serving.pools import (
    Pool,
    decode_step,
    decoding_together,
    draft_step,
    prefill_service,
    prompts_beside,
)
from pdplan.step import PROMPT_MLA, StepTime, in_fp8_blocks, step_time
from pdplan.workload import Workload

SKEWS = (0.0, 0.5, 1.0, 1.5)
"""Parts are computed at these and interpolated between."""
KEPT = (
    *("max_step_tokens", "mixes_prefill", "popularity_drift"),
    *("dispatch_bytes", "combine_bytes", "fp4_dispatch_bytes", "gathers_tokens", "sums_prompts"),
)
"""What the counts of a step depend on, of an engine that adds nothing."""
OF_PROMPTS = ("fp8", "fp8_flop", "mla")
"""What parts of prompts are told apart besides."""
DOUBTFUL = Path(__file__).parent / "doubtful_runs.yaml"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Seconds of a run's steps by what scales them; arrays over runs."""

    kernels: Array
    """Kernels of a decode step (and its drafts), without their starts."""
    starts: Array
    messages: Array
    """Collectives and exchanges, waits left out."""
    uneven: Array
    """Exchanges that wait for the last rank, as so many of 16 ranks."""
    collectives: Array
    """How many there are of both."""
    exchanged: Array
    """How many of them are exchanges with experts."""
    rows: Array
    """Sequences on a rank: what the sequence overhead counts."""
    mixed_kernels: Array
    """What prefills of others add to each output token."""
    mixed_starts: Array
    mixed_fp8: Array
    """Of `mixed_kernels`, block-scaled FP8 products of prompts alone."""
    mixed_fp8_flop: Array
    mixed_mla: Array
    """Of `mixed_kernels`, MLA of prompts alone."""
    prompt_kernels: Array
    """One prompt on its server."""
    prompt_starts: Array
    prompt_fp8: Array
    """Of `prompt_kernels`, block-scaled FP8 products."""
    prompt_fp8_flop: Array
    prompt_mla: Array
    """Of `prompt_kernels`, MLA."""
    prompt_messages: Array
    """All collectives, waits left out."""
    prompt_collectives: Array
    prompt_exchanged: Array

    def take(self, index: Array) -> Parts:
        return Parts(**{f.name: getattr(self, f.name)[index] for f in fields(Parts)})

    def put(self, index: Array, others: Parts) -> Parts:
        """A copy with the rows at `index` replaced."""
        table = {f.name: getattr(self, f.name).copy() for f in fields(Parts)}
        for name, values in table.items():
            values[index] = getattr(others, name)
        return Parts(**table)


def parts_of(
    runs: Sequence[Run], catalog: Catalog, engines: Mapping[str, Any], drafted: int | None = None
) -> list[Parts]:
    """The parts at each of `SKEWS`; where runs speculate, with `drafted` tokens (None: the most)."""
    return [_at_skew(list(runs), catalog, engines, skew, drafted) for skew in SKEWS]


def _at_skew(
    runs: list[Run], catalog: Catalog, engines: Mapping[str, Any], skew: float, drafted: int | None
) -> Parts:
    table = {f.name: np.full(len(runs), np.nan) for f in fields(Parts)}
    for index in group_runs(runs):
        group = [runs[i] for i in index]
        case = run_group(group, catalog, engines, drafted)
        skews = {role: engine_settings(group[0], role).get("expert_skew", skew) for role in ROLES}
        prefill = _bare(case.prefill, skews["prefill"]) if case.prefill else None
        found = _group_parts(group, _bare(case.decode, skews["decode"]), prefill, case.workload)
        for name, values in found.items():
            table[name][index] = np.broadcast_to(values, len(group))
    return Parts(**table)


def _bare(pool: Pool, skew: float) -> Pool:
    """The pool under an engine that adds nothing."""
    constants = pool.setting.constants
    kept = {k: getattr(constants.engine, k) for k in KEPT}
    engine = Engine(expert_skew=skew, **kept)
    return replace(pool, setting=replace(pool.setting, constants=replace(constants, engine=engine)))


def _group_parts(group: list[Run], pool: Pool, prefill: Pool | None, workload: Workload) -> dict[str, Array]:
    running = running_sequences(group) / pool.workers
    if prefill is None:
        running = decoding_together(pool, workload, running)
    step = decode_step(pool, workload, running)
    draft = draft_step(pool, workload, running)
    found = _split(step)
    found = {k: v for k, v in found.items() if k not in OF_PROMPTS}
    if draft is not None:
        more = _split(draft)
        found = {k: v + pool.speculation.drafted * more[k] for k, v in found.items()}
    each = running / pool.micro_batches_per_worker
    found["rows"] = each * (1.0 + pool.speculation.drafted)
    found |= dict.fromkeys(
        ("mixed_kernels", "mixed_starts", *(f"mixed_{name}" for name in OF_PROMPTS)), np.zeros(())
    )
    server = pool if prefill is None else prefill
    alone = prefill_service(replace(server, max_batch=server.micro_batches_per_worker), workload)
    prompt = {k: alone.steps * v for k, v in _split(alone.step).items()}
    if prefill is None:
        share = prompts_beside(pool, workload, running) / workload.osl
        extra = prompt
        if pool.setting.constants.engine.mixes_prefill:
            chunk = workload.new_tokens / alone.steps
            past = workload.cached_tokens + (workload.new_tokens - chunk) / 2.0
            together = np.maximum(pool.setting.constants.engine.max_step_tokens // workload.new_tokens, 1.0)
            prompts = np.clip(share, 1.0, together)
            load = mixed_load(_decode_load(pool, workload, each), prefill_load(prompts, chunk, past))
            both, plain = _split(step_time(pool.setting, pool.layout, load)), _split(step)
            extra = {k: alone.steps * (both[k] - plain[k]) / prompts for k in both}
        found["mixed_kernels"] = share * (extra["kernels"] + extra["messages"])
        found["mixed_starts"] = share * extra["starts"]
        found |= {f"mixed_{name}": share * prompt[name] for name in OF_PROMPTS}
    found["prompt_kernels"], found["prompt_starts"] = prompt["kernels"], prompt["starts"]
    wanted = (*OF_PROMPTS, "messages", "collectives", "exchanged")
    found |= {f"prompt_{name}": prompt[name] for name in wanted}
    return found


def _decode_load(pool: Pool, workload: Workload, each: Array) -> Any:
    from pdplan.layout import decode_load

    queries = 1.0 + pool.speculation.drafted
    return decode_load(each, workload.isl, workload.last_context, queries)


def _split(step: StepTime) -> dict[str, Array]:
    """Seconds of a step by part, and how many collectives it waits for, each as one over 16 ranks."""
    found: dict[str, Array] = dict.fromkeys(
        ("kernels", *OF_PROMPTS, "starts", "messages", "uneven", "collectives", "exchanged"),
        np.zeros(()),
    )
    for term in step.terms:
        if isinstance(term.source, Op):
            found["kernels"] = found["kernels"] + (term.total_s - term.overhead_s)
            found["starts"] = found["starts"] + term.overhead_s
            if term.source.family == PROMPT_MLA:
                found["mla"] = found["mla"] + (term.total_s - term.overhead_s)
            if in_fp8_blocks(term.source):
                found["fp8"] = found["fp8"] + (term.total_s - term.overhead_s)
                found["fp8_flop"] = found["fp8_flop"] + term.source.layers * np.asarray(term.source.flop)
        elif isinstance(term.source, Message):
            source = term.source
            found["messages"] = found["messages"] + term.total_s
            happens = source.layers * (term.total_s > 0)
            if source.uneven:
                found["uneven"] = found["uneven"] + happens * last_rank_wait_s(1.0, source.ranks)
            if source.exchange != "stage_hop":
                found["collectives"] = found["collectives"] + happens * last_rank_wait_s(1.0, source.ranks)
            if source.exchange == "expert_exchange":
                found["exchanged"] = found["exchanged"] + happens
    return found


def running_sequences(runs: Sequence[Run]) -> Array:
    """Sequences that decode, on average over the run, in all workers; TTFT is half a second if unknown."""
    ttft = np.array([run.ttft_s for run in runs])
    ttft = np.where(np.isfinite(ttft), ttft, 0.5)
    answer = np.array([run.tpot_mean_s * (run.mean_osl - 1.0) for run in runs])
    return np.array([run.concurrency for run in runs]) * answer / (ttft + answer)


def doubtful(runs: Sequence[Run], quantity: str = "") -> dict[int, str]:
    """Index and reason of the runs that calibration/doubtful_runs.yaml names.

    A rule with `only` is of that quantity ("ttft") and counts when it is asked for.
    """
    rules = read_yaml(DOUBTFUL).data["doubtful"]
    found: dict[int, str] = {}
    for i, run in enumerate(runs):
        for rule in rules:
            if rule.get("only", quantity) != quantity:
                continue
            if all(fnmatch.fnmatch(_field(run, k), str(v)) for k, v in rule["where"].items()):
                found[i] = rule["reason"]
    return found


def _field(run: Run, name: str) -> str:
    return str(run.decode.dp if name == "decode_dp" else getattr(run, name))
