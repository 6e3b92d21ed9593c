"""What several tests build: worlds and questions over shipped catalog entries."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pdplan.architecture.model import Model
from pdplan.catalog.accelerator import Accelerator
from pdplan.catalog.store import Catalog
from pdplan.compose import World
from pdplan.question import Question
from pdplan.workload import Slo, Workload

SHARED = Path(__file__).parents[2] / "shared"


@functools.cache
def model(name: str) -> Model:
    return Catalog().model(name)


@functools.cache
def accelerator(name: str) -> Accelerator:
    return Catalog().accelerator(name)


def world(models: tuple[str, ...], hardware: tuple[str, ...], **options: Any) -> World:
    return World(
        models={n: model(n) for n in models},
        accelerators={n: accelerator(n) for n in hardware},
        prices=options.pop("prices", {}),
        **options,
    )


def question(
    name: str,
    hardware: tuple[str, ...],
    *,
    isl: float,
    osl: float,
    rate: float | None,
    ttft: float | None = None,
    tpot: float | None = None,
    **options: Any,
) -> Question:
    shape = {k: options.pop(k) for k in ("isl_cv", "prefix_reuse", "arrival_cv") if k in options}
    slo = {k: options.pop(k) for k in ("percentile", "request_latency_s") if k in options}
    return Question(
        model=name,
        workload=Workload(isl=isl, osl=osl, rate=rate, **shape),
        slo=Slo(ttft_s=ttft, tpot_s=tpot, **slo),
        prefill_hardware=options.pop("prefill_hardware", hardware),
        decode_hardware=options.pop("decode_hardware", hardware),
        colocated_hardware=options.pop("colocated_hardware", hardware),
        precision=options.pop("precision", next(iter(model(name).checkpoints))),
        **options,
    )
