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
from pdplan.efficiency import Engine
from pdplan.files import read_yaml
from pdplan.laws.roofline import Array
from pdplan.layout import mixed_load, prefill_load
from pdplan.measured.predict import run_group
from pdplan.measured.runs import Run, group_runs
from pdplan.ops import Message, Op
from pdplan.pools import Pool, decode_step, draft_step, prefill_service
from pdplan.step import StepTime, step_time
from pdplan.workload import Workload

SKEWS = (0.0, 0.5, 1.0, 1.5)
"""Parts are computed at these and interpolated between."""
DOUBTFUL = Path(__file__).parent / "doubtful_runs.yaml"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Seconds of a run's steps by what scales them; arrays over runs."""

    kernels: Array
    """Kernels of a decode step (and its drafts), without their starts."""
    starts: Array
    messages: Array
    rows: Array
    """Rows of the LM head on a rank: what the sequence overhead counts."""
    mixed_kernels: Array
    """What prefills of others add to each output token."""
    mixed_starts: Array
    prompt_kernels: Array
    """One prompt on its server."""
    prompt_starts: Array
    prompt_messages: Array

    def take(self, index: Array) -> Parts:
        return Parts(**{f.name: getattr(self, f.name)[index] for f in fields(Parts)})


def parts_of(runs: Sequence[Run], catalog: Catalog, engines: Mapping[str, Any]) -> list[Parts]:
    """The parts at each of `SKEWS`."""
    return [_at_skew(list(runs), catalog, engines, skew) for skew in SKEWS]


def _at_skew(runs: list[Run], catalog: Catalog, engines: Mapping[str, Any], skew: float) -> Parts:
    table = {f.name: np.full(len(runs), np.nan) for f in fields(Parts)}
    for index in group_runs(runs):
        group = [runs[i] for i in index]
        case = run_group(group, catalog, engines)
        found = _group_parts(group, _bare(case.decode, skew), case.prefill, case.workload, skew)
        for name, values in found.items():
            table[name][index] = np.broadcast_to(values, len(group))
    return Parts(**table)


def _bare(pool: Pool, skew: float) -> Pool:
    """The pool under an engine that adds nothing."""
    constants = pool.setting.constants
    kept = {k: getattr(constants.engine, k) for k in ("max_step_tokens", "mixes_prefill")}
    engine = Engine(expert_skew=skew, **kept)
    return replace(pool, setting=replace(pool.setting, constants=replace(constants, engine=engine)))


def _group_parts(
    group: list[Run], pool: Pool, prefill: Pool | None, workload: Workload, skew: float
) -> dict[str, Array]:
    running = running_sequences(group) / pool.workers
    step = decode_step(pool, workload, running)
    draft = draft_step(pool, workload, running)
    kernels, starts, messages = _split(step)
    if draft is not None:
        more = _split(draft)
        drafted = pool.speculation.drafted
        kernels, starts, messages = (
            a + drafted * b for a, b in zip((kernels, starts, messages), more, strict=True)
        )
    each = running / pool.servers_per_worker
    queries = 1.0 + pool.speculation.drafted
    found: dict[str, Array] = {
        "kernels": kernels,
        "starts": starts,
        "messages": messages,
        "rows": each * queries,
        "mixed_kernels": np.zeros(()),
        "mixed_starts": np.zeros(()),
    }
    server = pool if prefill is None else _bare(prefill, skew)
    alone = prefill_service(replace(server, max_batch=server.servers_per_worker), workload)
    prompt = [alone.steps * part for part in _split(alone.step)]
    if prefill is None:
        share = each / workload.osl
        extra = prompt
        if pool.setting.constants.engine.mixes_prefill:
            chunk = workload.new_tokens / alone.steps
            past = workload.cached_tokens + (workload.new_tokens - chunk) / 2.0
            load = mixed_load(_decode_load(pool, workload, each), prefill_load(np.ones(()), chunk, past))
            both = _split(step_time(pool.setting, pool.layout, load))
            extra = [alone.steps * (b - a) for b, a in zip(both, _split(step), strict=True)]
        found["mixed_kernels"] = share * (extra[0] + extra[2])
        found["mixed_starts"] = share * extra[1]
    found |= dict(zip(("prompt_kernels", "prompt_starts", "prompt_messages"), prompt, strict=True))
    return found


def _decode_load(pool: Pool, workload: Workload, each: Array) -> Any:
    from pdplan.layout import decode_load

    queries = 1.0 + pool.speculation.drafted
    return decode_load(each, workload.isl, workload.last_context, queries)


def _split(step: StepTime) -> tuple[Array, Array, Array]:
    """Kernels without their starts, starts, messages."""
    kernels, starts, messages = (np.zeros(()) for _ in range(3))
    for term in step.terms:
        if isinstance(term.source, Op):
            kernels = kernels + (term.total_s - term.overhead_s)
            starts = starts + term.overhead_s
        elif isinstance(term.source, Message):
            messages = messages + term.total_s
    return kernels, starts, messages


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
