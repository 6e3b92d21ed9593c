"""Published results of large deployments, and what pdplan says of each.

    python benchmarks/large_scale/published.py ../shared/published/disaggregation_results.csv

The figure compared is tokens/s per accelerator of one role alone: input tokens of prefill, output tokens of
decode (or of a colocated pool). `deployments.yaml` says how each publication was read as a pool.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pdplan.catalog.store import Catalog
from pdplan.compose import Variation, World, build_pool
from pdplan.efficiency import as_built
from pdplan.evaluate import Economics, evaluate_colocated
from pdplan.plan import PoolPlan, Serving
from pdplan.serving.pools import Pool, decode_tpot_s, prefill_service
from pdplan.workload import Slo, Speculation, Workload

READ_AS = Path(__file__).with_name("deployments.yaml")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One published result [tokens/s per accelerator], measured and predicted."""

    name: str
    phase: str
    accelerators: int
    measured: float
    predicted: float | None
    """None where the publication does not say enough, or says something else."""
    remark: str

    @property
    def ratio(self) -> float | None:
        """Predicted over measured."""
        return self.predicted / self.measured if self.predicted else None


def published_deployments(published: Path) -> Iterator[Deployment]:
    """Every row of the file, in the order of `deployments.yaml`; KeyError where one of them is not read."""
    rows = {row["id"]: row for row in csv.DictReader(published.read_text(encoding="utf-8").splitlines())}
    for read_as in yaml.safe_load(READ_AS.read_text(encoding="utf-8")):
        for name in read_as["rows"]:
            row = rows.pop(name)
            measured = float(row["tok_s_per_gpu"] or "nan")
            known = "unread" not in read_as
            yield Deployment(
                name=name,
                phase=row["phase"],
                accelerators=read_as["pool"]["dp"] if known else 0,
                measured=measured,
                predicted=_predicted(read_as, row) if known else None,
                remark=read_as["assumed"] if known else read_as["unread"],
            )
    if rows:
        raise KeyError(f"no entry of {READ_AS.name} reads {', '.join(rows)}")


def _predicted(read_as: Mapping[str, Any], row: Mapping[str, str]) -> float:
    """Tokens/s per accelerator of full workers: no queue, no other role."""
    given = dict(read_as["serving"])
    speculation = Speculation(drafted=given.pop("drafted", 0), acceptance=given.pop("acceptance", 0.7))
    serving = Serving(**given, speculation=speculation)
    isl = read_as.get("isl") or float(row["isl"])
    osl = read_as.get("osl") or float(row["osl"] or 1)
    ranks, phase = read_as["pool"]["dp"], read_as["phase"]
    workload = Workload(isl=isl, osl=osl, rate=1.0)
    world = _world(serving, read_as["pool"]["hardware"], even=read_as.get("even_experts", False))
    if phase == "prefill":
        prompts = round(read_as["step_tokens"] / isl * ranks)
        plan = PoolPlan(workers=1, max_batch=prompts, chunk_tokens=read_as["step_tokens"], **read_as["pool"])
        pool = _pool(world, serving, plan, phase, workload, read_as)
        return float(prefill_service(pool, workload).rate_per_server[0] * isl)
    batch = read_as["batch"]
    each = float(batch[row["id"]] if isinstance(batch, Mapping) else batch)
    pool = _pool(world, serving, PoolPlan(workers=1, **read_as["pool"]), phase, workload, read_as)
    if phase == "colocated":
        loop = Workload(isl=isl, osl=osl, concurrency=each * ranks)
        money = Economics(usd_per_gpu_h={phase: 1.0}, watt_per_gpu={phase: 1.0})
        return float(evaluate_colocated(pool, loop, Slo(), money).output_tok_per_s_per_gpu[0])
    return each / float(decode_tpot_s(pool, workload, np.asarray([each * ranks]))[0])


def _world(serving: Serving, hardware: str, *, even: bool) -> World:
    catalog = Catalog()
    return World(
        models={serving.model: catalog.model(serving.model)},
        accelerators={hardware: catalog.accelerator(hardware)},
        prices={},
        varied=Variation(engine=(("expert_skew", 0.0),)) if even else Variation(),
    )


def _pool(
    world: World, serving: Serving, plan: PoolPlan, role: str, workload: Workload, read_as: Mapping[str, Any]
) -> Pool:
    """The pool; attention's weights in another format, an earlier build of the engine where read so."""
    pool = build_pool(world, serving, plan, role, workload)
    formats, constants = pool.setting.formats, pool.setting.constants
    if weights := read_as.get("attention_weights"):
        formats = replace(formats, checkpoint=replace(formats.checkpoint, attention=weights))
    constants = replace(constants, engine=as_built(constants.engine, read_as.get("build", "")))
    return replace(pool, setting=replace(pool.setting, formats=formats, constants=constants))


def main() -> None:
    """Print one line a result."""
    print(f"{'published result':35} {'GPUs':>4} {'published':>9} {'predicted':>9} {'ratio':>5}")
    ratios = []
    for found in published_deployments(Path(sys.argv[1])):
        if found.ratio is None:
            print(f"{found.name:35} {'':4} {'not read':>9}  {found.remark}")
            continue
        ratios.append(found.ratio)
        both = f"{found.measured:9,.0f} {found.predicted:9,.0f}"
        print(f"{found.name:35} {found.accelerators:4} {both} {found.ratio:5.2f}")
    least, middle, most = np.quantile(ratios, [0, 0.5, 1])
    print(f"{len(ratios)} read: ratio {middle:.2f} in the median, {least:.2f} to {most:.2f}")


if __name__ == "__main__":
    main()
