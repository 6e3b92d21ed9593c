"""Ask for the cheapest plan of every model on every accelerator: each must end in an answer or a reason.

    python benchmarks/every_pair.py [--part 0/6]

A part is every n-th pair, so that parts see each model and each accelerator. All pairs take half an hour of
one core. Warnings count as errors; the exit code is 1 if any pair ends in one.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections import Counter

from pdplan.catalog.store import Catalog
from pdplan.inputs import given, question_from
from pdplan.search import recommend

SHAPES = (("2k", 512, 2, "5s", "100ms"), ("30k", 200, 0.5, "20s", "60ms"), ("200", 2000, 30, "2s", "40ms"))
"""Prompt, answer, requests/s, TTFT, TPOT: taken in turn."""


def ask(catalog: Catalog, model: str, accelerator: str, shape: tuple[object, ...]) -> str:
    """ "answered", "infeasible", or what is wrong."""
    keys = ("isl", "osl", "rate", "ttft", "tpot")
    values = given({"model": model, "hardware": [accelerator], **dict(zip(keys, shape, strict=True))})
    asked = question_from(values, catalog)
    found = recommend(asked.question, asked.world)
    if found.best is None:
        return "infeasible" if found.infeasible and found.infeasible.binding else "no reason given"
    metrics = found.best.metrics
    numbers = (
        metrics.requests_per_s,
        metrics.gpus,
        metrics.ttft_mean_s,
        metrics.ttft_p99_s,
        metrics.tpot_mean_s,
    )
    return "answered" if all(math.isfinite(n) and n > 0 for n in numbers) else f"not positive: {numbers}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", default="0/1", help="K/N: every N-th pair, from the K-th")
    first, _, step = parser.parse_args().part.partition("/")
    warnings.simplefilter("error")
    catalog = Catalog(environment="")
    counts: Counter[str] = Counter()
    wrong = 0
    accelerators = [a.name for a in catalog.accelerators()]
    for i, model in enumerate(m.name for m in catalog.models()):
        for j, accelerator in enumerate(accelerators):
            if (i + j) % int(step) != int(first):
                continue
            try:
                end = ask(catalog, model, accelerator, SHAPES[(i + j) % len(SHAPES)])
            except Exception as problem:
                end = f"{type(problem).__name__}: {problem}"
            counts[end] += 1
            if end not in ("answered", "infeasible"):
                wrong += 1
                print(f"{model} on {accelerator}: {end}")
    print(", ".join(f"{count:,} {end}" for end, count in counts.most_common()))
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
