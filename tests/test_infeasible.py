"""An infeasible answer tells what to relax: relaxed as told, a broad sample of questions has a plan."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from helpers import question, world

from pdplan.compose import World
from pdplan.question import Question
from pdplan.search import recommend
from pdplan.units import parse_duration_s

LIMITS = {"--ttft": "ttft_s", "--tpot": "tpot_s", "--latency": "request_latency_s"}


def ask(seed: int) -> tuple[Question, World]:
    """Some question or other, often too tight."""
    r = random.Random(seed)
    model = r.choice(["llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b", "llama-3.1-70b"])
    hardware = tuple(r.sample(["h100", "l40s", "h20", "a100", "tpu-v6e", "l4"], r.choice([1, 1, 2])))
    options = {}
    if r.random() < 0.4:
        options["max_gpus"] = r.choice([1, 2, 3, 4, 8, 16])
    if r.random() < 0.5:
        options["max_gpus_per_worker"] = r.choice([1, 2, 4, 8])
    if r.random() < 0.3:
        options["mode"] = r.choice(["colocated", "disaggregated"])
    if r.random() < 0.3:
        options["request_latency_s"] = 10 ** r.uniform(-1, 1)
    if r.random() < 0.2:
        options["spare_workers"] = 1
    if r.random() < 0.2:
        options["headroom"] = r.choice([0.1, 0.3])
    if r.random() < 0.2:
        options["percentile"] = 0.99
    if r.random() < 0.2:
        options["arrival_cv"] = 2.0
    rate = 10 ** r.uniform(-1, 2.3)
    if "max_gpus" in options and r.random() < 0.2:
        rate = None
    options["ttft"] = 10 ** r.uniform(-2, 0.3) if r.random() < 0.8 else None
    options["tpot"] = 10 ** r.uniform(-3, -1) if r.random() < 0.8 else None
    lengths = {"isl": int(10 ** r.uniform(1.5, 4)), "osl": int(10 ** r.uniform(0, 3))}
    return question(model, hardware, rate=rate, **lengths, **options), world((model,), hardware)


def ways_out(q: Question, relax: tuple[str, ...]) -> Iterator[Question]:
    """The limits as told, with each one of the other flags."""
    limits = [flag for flag in relax if flag.split()[0] in LIMITS]
    for other in [flag for flag in relax if flag not in limits] or [""]:
        words = " ".join([*limits, other]).split()
        relaxed = q
        for name, value in zip(words[::2], words[1::2], strict=True):
            if name in LIMITS:
                slo = replace(relaxed.slo, **{LIMITS[name]: parse_duration_s(value)})
                relaxed = replace(relaxed, slo=slo)
            elif name == "--rate":
                relaxed = replace(relaxed, workload=relaxed.workload.at_rate(float(value)))
            else:
                field = {"--max-gpus": "max_gpus", "--spare": "spare_workers", "--headroom": "headroom"}[name]
                relaxed = replace(relaxed, **{field: float(value) if field == "headroom" else int(value)})
        yield relaxed


# 54: a limit and too few accelerators at once; 197: a layout that
# is fast enough but does not fit twice. The others: whatever comes.
@pytest.mark.parametrize("seed", [6, 7, 11, 12, 13, 14, 17, 19, 25, 30, 32, 33, 40, 42, 50, 54, 197])
def test_what_is_told_to_relax_makes_it_feasible(seed):
    q, w = ask(seed)
    found = recommend(q, w)
    assert found.best is None
    assert found.infeasible.relax
    assert found.infeasible.nearest is not None
    for relaxed in ways_out(q, found.infeasible.relax):
        assert recommend(relaxed, w).best is not None


@pytest.mark.parametrize("seed", [3, 15, 27])
def test_a_model_that_fits_nowhere_says_what_would_help_in_words(seed):
    q, w = ask(seed)
    told = recommend(q, w).infeasible
    assert "fits on no layout" in told.binding
    assert told.relax[0].startswith("more accelerators")
