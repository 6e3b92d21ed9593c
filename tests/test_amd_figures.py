"""Laws of AMD's accelerators against kernels that AMD timed (benchmarks/amd)."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pdplan.calibration.attention_counts import Core, prefill_counts
from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_setting
from pdplan.laws.collectives import Routed, all_reduce_time_s, expert_exchange_time_s
from pdplan.laws.kernel import Counts, Rates, kernel_time
from pdplan.plan import Serving
from pdplan.step import Setting

pytest.importorskip("scipy")
from pdplan.calibration import amd, gemm

FIGURES = Path(__file__).parents[1] / "benchmarks" / "amd"


def figures(name: str, **where: str) -> dict[str, NDArray[np.float64]]:
    """The numbers of a file's rows that are `where` says."""
    with (FIGURES / name).open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if all(r[k] == v for k, v in where.items())]
    numeric = [k for k in rows[0] if k not in ("accelerator", "dtype", "weights", "release", "kind")]
    return {k: np.array([float(r[k]) for r in rows]) for k in numeric}


def setting(accelerator: str) -> Setting:
    catalog = Catalog()
    world = World(
        models={"deepseek-r1": catalog.model("deepseek-r1")},
        accelerators={accelerator: catalog.accelerator(accelerator)},
        prices={},
    )
    serving = Serving(model="deepseek-r1", precision="fp8", kv_precision="fp8", engine="sglang")
    return build_setting(world, serving, accelerator)


def ratio(
    accelerator: str, family: str, dtype: str, parts: list[Counts], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The shipped law over what was measured."""
    of = setting(accelerator)
    peak = of.formats.peaks[dtype.partition("-")[0]]
    rates = Rates(peak_flop_per_s=peak, bandwidth_bytes_per_s=of.bandwidth_bytes_per_s)
    law = of.constants.roofline(family, dtype)
    return np.asarray(sum(np.asarray(kernel_time(part, rates, law).total_s) for part in parts) / seconds)


@pytest.mark.parametrize(
    ("accelerator", "dtype", "weights"),
    [
        ("mi300x", "fp8-block", "plain"),
        ("mi355x", "fp8-block", "shuffled"),
        ("mi355x", "fp8", "shuffled"),
        ("mi355x", "fp4", "shuffled"),
    ],
)
def test_products_take_what_aiter_measured(accelerator: str, dtype: str, weights: str) -> None:
    rows = figures("products.csv", accelerator=accelerator, dtype=dtype, weights=weights)
    large = np.minimum(rows["n"], rows["k"]) >= gemm.LEAST_SIDE
    m, n, k, us = (rows[c][large] for c in ("m", "n", "k", "us"))
    alone = replace(gemm.counts_of(m, n, k, amd.WEIGHT_BYTES[dtype]), input_bytes=None)
    found = ratio(accelerator, "gemm", dtype, [alone], us * 1e-6)
    assert abs(np.median(found) - 1.0) < 0.15
    prompts = found[m >= 4096]
    assert abs(np.median(prompts) - 1.0) < 0.15


@pytest.mark.parametrize(
    ("accelerator", "dtype", "release"),
    [("mi300x", "fp8-block", "0b1924d9"), ("mi355x", "fp8-block", "0b1924d9"), ("mi355x", "fp4", "08eb9dc1")],
)
def test_experts_take_what_aiter_measured(accelerator: str, dtype: str, release: str) -> None:
    rows = figures("experts.csv", accelerator=accelerator, dtype=dtype, release=release)
    parts = amd.layer_counts(rows, amd.WEIGHT_BYTES[dtype])
    found = ratio(accelerator, "experts", dtype, parts, rows["us"] * 1e-6)
    decode, prompts = rows["tokens"] <= 512, rows["tokens"] >= 8192
    assert abs(np.median(found[decode]) - 1.0) < 0.2
    assert abs(np.median(found[prompts]) - 1.0) < 0.2


def test_counts_of_experts_by_hand() -> None:
    """One token of DeepSeek-R1 at tp 8: 8 routed experts and the shared one, 3 · 7168 · 256 weights each."""
    rows = {"tokens": 1.0, "hidden": 7168.0, "inter": 256.0, "experts": 257.0, "per_token": 9.0}
    up, down = amd.layer_counts({k: np.array([v]) for k, v in rows.items()}, 1.0)
    assert up.stored_bytes + down.stored_bytes == pytest.approx(9 * 3 * 7168 * 256)
    assert up.flop + down.flop == pytest.approx(2 * 9 * 3 * 7168 * 256)


def test_prompt_attention_that_took_no_part_in_a_fit() -> None:
    rows = figures("prompts.csv")
    one = np.ones_like(rows["batch"])
    core = Core(heads=rows["heads"], kv_elements=576.0 * one, qk_dim=192.0 * one, v_dim=128.0 * one)
    counts = prefill_counts(rows["batch"], rows["tokens"], 0.0 * one, core)
    measured = counts["flop"] / (rows["tflop_per_s"] * 1e12)
    found = ratio("mi355x", "prefill_mla", "bf16", [Counts(**counts)], measured)
    assert np.all(np.abs(found - 1.0) < 0.13)


def test_all_reduces_that_took_no_part_in_a_fit() -> None:
    rows = figures("messages.csv", kind="all_reduce")
    links = setting("mi355x").constants.links
    found = np.asarray(all_reduce_time_s(rows["bytes"], rows["ranks"], links)) / (rows["us"] * 1e-6)
    assert np.all(np.abs(found - 1.0) < 0.25)
    assert abs(np.median(found) - 1.0) < 0.15


@pytest.mark.parametrize("kind", ["dispatch", "combine"])
def test_exchanges_take_what_mori_measured(kind: str) -> None:
    rows = figures("messages.csv", kind=kind)
    routed = Routed(tokens=rows["tokens"], per_token=8.0, bytes_per_token=rows["bytes"], ranks=rows["ranks"])
    links = setting("mi355x").constants.links
    found = np.asarray(expert_exchange_time_s(routed, links, deduplicate=False)) / (rows["us"] * 1e-6)
    assert np.all(np.abs(found - 1.0) < 0.35)
    assert abs(np.median(found) - 1.0) < 0.2
