"""Published pairs of colocated and disaggregated runs, and what pdplan says of each.

    python benchmarks/modes/published_pairs.py ../shared/published/colocated_vs_disaggregated.csv

The figure compared is output tokens/s per GPU, disaggregated over colocated. `pairs.yaml` says
how each publication was read as plans.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import pdplan
from pdplan.plan import Metrics

READ_AS = Path(__file__).with_name("pairs.yaml")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both runs of a publication [output tokens/s per GPU], measured and predicted."""

    name: str
    measured: tuple[float, float]
    predicted: tuple[float, float] | None
    """None where the publication does not say enough."""
    remark: str

    @property
    def measured_ratio(self) -> float:
        """Disaggregated over colocated."""
        return self.measured[1] / self.measured[0]

    @property
    def predicted_ratio(self) -> float | None:
        return self.predicted[1] / self.predicted[0] if self.predicted else None


def published_pairs(published: Path) -> Iterator[Pair]:
    """Every pair of the file, in the order of `pairs.yaml`."""
    rows = list(csv.DictReader(published.read_text(encoding="utf-8").splitlines()))
    for read_as in yaml.safe_load(READ_AS.read_text(encoding="utf-8")):
        found = {mode: _rows(rows, read_as["rows"], mode) for mode in ("agg", "disagg")}
        for together, apart in zip(found["agg"], found["disagg"], strict=True):
            measured = float(together["output_tok_s_per_gpu"]), float(apart["output_tok_s_per_gpu"])
            yield Pair(
                name=read_as["name"]
                if len(found["agg"]) == 1
                else f"{read_as['name']}, {together['hardware']}",
                measured=measured,
                predicted=None if "unread" in read_as else _predicted(read_as, together, apart),
                remark=read_as.get("unread") or read_as["assumed"],
            )


def _rows(rows: list[dict[str, str]], wanted: Mapping[str, str], mode: str) -> list[dict[str, str]]:
    return [r for r in rows if r["mode"] == mode and all(r[k].startswith(v) for k, v in wanted.items())]


def _predicted(
    read_as: Mapping[str, Any], together: Mapping[str, str], apart: Mapping[str, str]
) -> tuple[float, float]:
    both = []
    for mode, roles, row in (
        ("colocated", ("colocated",), together),
        ("disaggregated", ("prefill", "decode"), apart),
    ):
        plan = {**read_as["plan"], "mode": mode, **{role: read_as[role] for role in roles}, "slo": {}}
        workload = dict(read_as["workload"])
        if "user_tok_per_s" in read_as:
            both.append(_most_tokens(plan, workload, read_as["user_tok_per_s"]))
        else:
            concurrency = workload.pop("concurrency", None) or float(row["concurrency"])
            both.append(_tokens(plan, workload, concurrency).output_tok_per_s_per_gpu)
    return float(both[0]), float(both[1])


def _tokens(plan: Mapping[str, Any], workload: Mapping[str, Any], concurrency: float) -> Metrics:
    return pdplan.evaluate({**plan, "workload": {**workload, "concurrency": concurrency}})


def _most_tokens(plan: Mapping[str, Any], workload: Mapping[str, Any], user_tok_per_s: float) -> float:
    """The most output tokens/s per GPU over concurrency, the median user reading at that speed or faster."""
    best = 0.0
    for concurrency in np.unique(np.round(np.geomspace(1, 1024, 61))):
        found = _tokens(plan, workload, float(concurrency))
        if found.reason == "" and found.tpot_p50_s <= 1 / user_tok_per_s:
            best = max(best, float(found.output_tok_per_s_per_gpu))
    return best


def main() -> None:
    """Print one line a pair."""
    print(f"{'pair':45} {'published':>21} {'ratio':>6}  {'predicted':>17} {'ratio':>6}")
    for pair in published_pairs(Path(sys.argv[1])):
        published = f"{pair.measured[0]:.1f} -> {pair.measured[1]:.1f}"
        predicted, ratio = "not enough is said", ""
        if pair.predicted and pair.predicted_ratio:
            predicted = f"{pair.predicted[0]:.1f} -> {pair.predicted[1]:.1f}"
            ratio = f"{pair.predicted_ratio:.2f}"
        print(f"{pair.name:45} {published:>21} {pair.measured_ratio:6.2f}  {predicted:>17} {ratio:>6}")


if __name__ == "__main__":
    main()
