"""How the server of a published benchmark was started, by constants/benchmark_servers.yaml."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_yaml

if TYPE_CHECKING:
    from pdplan.measured.runs import Run

FILE = CONSTANTS_DIRECTORY / "benchmark_servers.yaml"
SETTINGS = (
    "held_up_to_steps",
    "queued_steps",
    "step_tokens",
    "cold",
    "drafted",
    "date",
    "experts_over_all",
    "attention_dp",
    "build",
)


def server_settings(run: Run) -> dict[str, Any]:
    """The settings of one run's server; without a rule, none."""
    found: dict[str, Any] = {}
    for rule in _rules():
        if _matches(run, rule):
            found |= rule["settings"]
    return found


def as_served(run: Run) -> Run:
    """The run with what its table leaves out and its server's script says: tokens drafted, date, layout, build."""
    settings = server_settings(run)
    drafted = run.drafted or int(settings.get("drafted", 0))
    pool = run.decode
    if settings.get("experts_over_all"):
        pool = replace(pool, ep=pool.tp * pool.dp)
    if settings.get("attention_dp"):
        pool = replace(pool, tp=1, dp=pool.tp * pool.dp)
    date, build = run.date or settings.get("date", ""), settings.get("build", "")
    return replace(run, drafted=drafted, date=date, decode=pool, build=build)


def loop_settings(runs: Sequence[Run], bench: Mapping[str, float], step_tokens: float) -> dict[str, Any]:
    """Fields of a Workload that say how runs were made: arrays over the runs, whose lengths are alike.

    `bench` are the settings of the benchmark (engines.yaml), `step_tokens` the engine's default. Where
    answers are all of one length, a convoy is what a step holds unless the benchmark's fit says otherwise.
    """
    each = [server_settings(run) for run in runs]
    tokens = np.array([s.get("step_tokens", step_tokens) for s in each])
    found = {
        "burst_share": bench.get("burst_share", 0.0),
        "held_steps": np.array(
            [s.get("held_up_to_steps", 0.0) / 2.0 + s.get("queued_steps", 0.0) for s in each]
        ),
        "step_tokens": tokens,
        "cold_start_s": bench.get("cold_start_s", 0.0) * np.array([s.get("cold", 0.0) for s in each]),
    }
    if not runs[0].length_spread:
        whole = np.maximum(np.floor(tokens / runs[0].mean_isl), 1.0)
        found["convoy_prompts"] = bench.get("convoy_prompts", whole)
    return found


@functools.cache
def _rules() -> tuple[Mapping[str, Any], ...]:
    rules = read_yaml(FILE).data["rules"]
    for rule in rules:
        unknown = set(rule["settings"]) - set(SETTINGS)
        if unknown:
            raise ValueError(f"{FILE}: unknown settings {', '.join(sorted(unknown))}")
    return tuple(rules)


def _matches(run: Run, rule: Mapping[str, Any]) -> bool:
    exact = all(fnmatch.fnmatchcase(_text(run, k), str(v)) for k, v in rule["where"].items())
    return (
        exact
        and all(_value(run, k) >= v for k, v in rule.get("at_least", {}).items())
        and all(_value(run, k) < v for k, v in rule.get("below", {}).items())
    )


def _value(run: Run, name: str) -> Any:
    """A field of the run, or a size of the pool that decodes."""
    size = name.removeprefix("decode_")
    return getattr(run.decode, size) if size != name else getattr(run, name)


def _text(run: Run, name: str) -> str:
    value = _value(run, name)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
