"""How the servers of a published benchmark were started, by constants/benchmark_servers.yaml."""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pdplan.architecture.model import Storage
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.documents.files import read_yaml
from pdplan.laws.roofline import Array
from pdplan.measured.run import Run
from pdplan.plan import PoolPlan
from pdplan.workload import Held
from pdplan.measured.recipes import recipe_for, recipe_lists


FILE = CONSTANTS_DIRECTORY / "benchmark_servers.yaml"
ENGINE_SETTINGS = (
    *("dispatch_bytes", "combine_bytes", "fp4_dispatch_bytes", "gathers_tokens", "operation_launch_s"),
    *("expert_skew", "sums_prompts", "one_shot_tokens", "fused_norms"),
)
"""Those that stand in for constants of the engine, in both pools or, with its role before the name, in one."""
DATED_SOURCE = "inferencex"
ROLES = ("prefill", "decode")
WEIGHTS = {
    "attention_weights": "attention",
    "query_up_weights": "query_up",
    "output_weights": "attention_output",
    "draft_weights": "draft",
}
"""Formats of weights by setting: the part of a checkpoint (`Checkpoint`) that it is of."""
SETTINGS = (
    *("held_up_to_steps", "queued_steps", "balanced_steps", "batched_steps", "batched_tokens"),
    *("step_tokens", "worker_prompts", "cold", "drafted", "rounds", "kv_precision"),
    *("rank_batch", "worker_batch", "padded_batch", "prefill_dp", "prefill_ep", "decode_dp", "decode_ep"),
    *("experts_over_all", "attention_dp", "dp_ignored", "build", "convoys"),
    *("prefill_workers", "prefill_size", "decode_workers", "decode_size"),
    *WEIGHTS,
    *("node_bytes_per_s", "handover_tokens_per_s", "all_reduce"),
    *ENGINE_SETTINGS,
    *(f"{role}_{name}" for role in ROLES for name in ENGINE_SETTINGS),
)


def server_settings(run: Run) -> dict[str, Any]:
    """The settings of one run's servers; without a rule, none. A recipe that the run was started by says more
    than a rule."""
    found: dict[str, Any] = {}
    rules = _rules()
    for index in _rules_where(tuple(_text(run, name) for name in _names())):
        if _in_range(run, rules[index]):
            found |= rules[index]["settings"]
    for where, recipes in recipe_lists():
        if run.prefill is not None and _are(run, where):
            recipe = recipe_for(run, recipes)
            found |= recipe.settings_for(run) if recipe else {}
    return found


def as_served(run: Run) -> Run:
    """The run with what its table leaves out and its servers' scripts say: tokens drafted, date, build, the sizes
    that ran where those listed did nothing, and how many sequences a decode worker took at once."""
    run = replace(run, date=run.date or _date_by_image(run))
    found = server_settings(run)
    everything = {"decode_dp": found.get("attention_dp"), "decode_ep": found.get("experts_over_all")}
    sizes = {name: "all" for name, wanted in everything.items() if wanted} | found
    decode = run.decode
    if found.get("dp_ignored"):
        decode = replace(decode, dp=1, ep=min(decode.ep, decode.tp))
    decode, prefill, gpus = _as_started(decode, sizes, "decode"), run.prefill, run.gpus
    if prefill is not None:
        prefill = _as_started(prefill, sizes, "prefill")
        gpus = decode.gpus + prefill.gpus if "decode_size" in sizes else gpus
    limits = [run.decode.max_batch, found.get("worker_batch")]
    limits.append(found["rank_batch"] * decode.dp if "rank_batch" in found else None)
    given = [int(limit) for limit in limits if limit is not None]
    return replace(
        run,
        drafted=run.drafted or int(found.get("drafted", 0)),
        kv_precision=found.get("kv_precision", "auto") if run.kv_precision == "auto" else run.kv_precision,
        decode=replace(decode, max_batch=min(given) if given else None),
        prefill=prefill,
        gpus=gpus,
        build=found.get("build", ""),
        settings=found,
    )


def _as_started(plan: PoolPlan, sizes: Mapping[str, Any], role: str) -> PoolPlan:
    """The same accelerators, or as many as the settings say, attention split over `dp` ranks and by tensor within
    them, experts over `ep`; either may be "all"."""
    workers, ranks = sizes.get(f"{role}_workers", plan.workers), sizes.get(f"{role}_size", plan.tp * plan.dp)
    dp, ep = (sizes.get(f"{role}_{axis}") or getattr(plan, axis) for axis in ("dp", "ep"))
    dp, ep = (ranks if size == "all" else int(size) for size in (dp, ep))
    return replace(plan, workers=workers, tp=ranks // dp, dp=dp, ep=ep)


def loop_settings(runs: Sequence[Run], bench: Mapping[str, float], step_tokens: float) -> dict[str, Any]:
    """Fields of a Workload that say how runs were made: arrays over the runs, whose lengths are alike.

    `bench` are the settings of the benchmark (engines.yaml), `step_tokens` the engine's default. Where
    answers are all of one length, a convoy is what a step holds unless the benchmark's fit says otherwise.
    """
    each = [server_settings(run) if run.settings is None else run.settings for run in runs]
    tokens = np.array([_step_tokens(run, s, step_tokens) for run, s in zip(runs, each, strict=True)])
    found = {
        "burst_share": _burst_share(each, bench),
        "held": _held(each),
        "step_tokens": tokens,
        "cold_start_s": bench.get("cold_start_s", 0.0) * np.array([s.get("cold", 0.0) for s in each]),
    }
    if any("handover_tokens_per_s" in s for s in each):
        reached = np.array([s.get("handover_tokens_per_s", np.inf) for s in each])
        found["handover_s"] = np.array([run.mean_isl for run in runs]) / reached
    if runs[0].prefill is not None:
        found["isl_spread"] = runs[0].length_spread / (1.0 - runs[0].length_spread / 2.0)
    if not runs[0].length_spread and all(s.get("convoys", 1) for s in each):
        whole = np.maximum(np.floor(tokens / np.array([run.mean_isl for run in runs])), 1.0)
        found["convoy_prompts"] = bench.get("convoy_prompts", whole)
    return found


def _step_tokens(run: Run, settings: Mapping[str, Any], default: float) -> float:
    """Prompt tokens that a step of an attention rank holds: no more than the prompts that its worker takes have."""
    tokens = float(settings.get("step_tokens", default))
    plan = run.prefill or run.decode
    prompts = max(settings.get("worker_prompts", math.inf) // plan.dp, 1.0)
    return float(min(tokens, prompts * run.mean_isl))


def _held(each: Sequence[Mapping[str, Any]]) -> Held:
    """How servers kept prompts waiting, one number a run."""

    def of(name: str, default: float = 0.0) -> Any:
        return np.array([float(settings.get(name, default)) for settings in each])

    return Held(
        steps=of("held_up_to_steps") / 2.0 + of("queued_steps"),
        balanced_steps=of("balanced_steps"),
        batched_steps=of("batched_steps"),
        batched_tokens=of("batched_tokens", np.inf),
    )


def engine_settings(run: Run, role: str = "decode") -> dict[str, Any]:
    """What stands in for constants of the run's engine in the pool of a role, "decode" if it has one pool only."""
    found = server_settings(run) if run.settings is None else run.settings
    both = {name: found[name] for name in ENGINE_SETTINGS if name in found}
    own = {name: found[f"{role}_{name}"] for name in ENGINE_SETTINGS if f"{role}_{name}" in found}
    return {name: float(value) for name, value in (both | own).items()}


def served_weights(run: Run) -> dict[str, Storage]:
    """Formats of parts of a checkpoint, where what ran is not the catalog's: another checkpoint, or what the
    server turned its weights into."""
    found = server_settings(run) if run.settings is None else run.settings
    return {part: found[name] for name, part in WEIGHTS.items() if name in found}


def node_bytes_per_s(run: Run) -> float | None:
    """What collectives of an accelerator had across nodes, where it was not the data sheet's link."""
    found = server_settings(run) if run.settings is None else run.settings
    return found.get("node_bytes_per_s")


def all_reduce_kernels(run: Run) -> str | None:
    """Whose all-reduces ran, by their name in kernels.json, where they were not the engine's of today."""
    found = server_settings(run) if run.settings is None else run.settings
    return found.get("all_reduce")


def published_share(runs: Sequence[Run], bench: Mapping[str, float]) -> Array:
    """Share of a closed loop's tokens/s that a benchmark publishes; 1 where the loop itself is what is known.

    1/(1 + δ/R · (1 − 1/N)): the clock runs until the last of R rounds of N requests has ended, and while they
    end, ever fewer are in flight. Ends spread evenly and steps as long as ever make δ = 1/2 round; steps get
    shorter. N = 1 never drains.
    """
    each = [server_settings(run) if run.settings is None else run.settings for run in runs]
    names = ["drain_rounds" if run.prefill is None else "drain_rounds_of_two_pools" for run in runs]
    published = [not run.open_loop and not math.isnan(run.total_tok_per_s_per_gpu) for run in runs]
    drain = np.array([bench.get(name, 0.0) for name in names]) * published
    others = 1.0 - 1.0 / np.array(
        [max(run.concurrency, 1.0) if known else 1.0 for run, known in zip(runs, published, strict=True)]
    )
    return np.asarray(1.0 / (1.0 + drain * _burst_share(each, bench) * others))


def _burst_share(each: Sequence[Mapping[str, Any]], bench: Mapping[str, float]) -> Any:
    """Share of a run's requests that come at once: of `rounds` times its requests in flight, one round."""
    share = bench.get("burst_share", 0.0)
    if not share or not any("rounds" in settings for settings in each):
        return share
    return np.array([1.0 / s["rounds"] if "rounds" in s else share for s in each])


@functools.cache
def _file() -> Mapping[str, Any]:
    return dict(read_yaml(FILE).data)


def _date_by_image(run: Run) -> str:
    """When the image of an undated run of InferenceX was in use; "" for other sources."""
    if run.source != DATED_SOURCE:
        return ""
    lines = _file()["dates"].get(run.engine, {})
    return next(
        (
            str(date)
            for image, date in reversed(lines.items())
            if fnmatch.fnmatchcase(run.engine_version, image)
        ),
        "",
    )


@functools.cache
def _rules() -> tuple[Mapping[str, Any], ...]:
    rules = _file()["rules"]
    for rule in rules:
        unknown = set(rule["settings"]) - set(SETTINGS)
        if unknown:
            raise ValueError(f"{FILE}: unknown settings {', '.join(sorted(unknown))}")
    return tuple(rules)


@functools.cache
def _names() -> tuple[str, ...]:
    """What any rule asks for by its text."""
    return tuple(sorted({name for rule in _rules() for name in rule["where"]}))


@functools.lru_cache(maxsize=4096)
def _rules_where(texts: tuple[str, ...]) -> tuple[int, ...]:
    """The rules whose texts match; thousands of runs differ in numbers only."""
    said = dict(zip(_names(), texts, strict=True))
    return tuple(
        index
        for index, rule in enumerate(_rules())
        if all(fnmatch.fnmatchcase(said[name], str(v)) for name, v in rule["where"].items())
    )


def _are(run: Run, where: Mapping[str, Any]) -> bool:
    return all(fnmatch.fnmatchcase(_text(run, k), str(v)) for k, v in where.items())


def _in_range(run: Run, rule: Mapping[str, Any]) -> bool:
    return all(_value(run, k) >= v for k, v in rule.get("at_least", {}).items()) and all(
        _value(run, k) < v for k, v in rule.get("below", {}).items()
    )


def _value(run: Run, name: str) -> Any:
    """A field of the run, a size of the pool that decodes or prefills (0 where there is none), or the requests
    in flight on an attention rank (rank_concurrency), the prompt tokens that come first (burst_tokens)."""
    if name == "burst_tokens":
        return run.concurrency * run.isl
    if name == "rank_concurrency":
        return run.concurrency / (run.decode.workers * run.decode.dp * run.decode.pp)
    role, _, size = name.partition("_")
    if role in ("decode", "prefill") and size:
        return getattr(getattr(run, role), size, 0)
    return getattr(run, name)


def _text(run: Run, name: str) -> str:
    value = _value(run, name)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
