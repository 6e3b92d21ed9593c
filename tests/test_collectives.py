"""The laws of collectives against published figures, their own properties, and synthetic links."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import ArrayLike

from pdplan.calibration.collectives import _messages
from pdplan.calibration.expert_exchange import exchange
from pdplan.calibration.messages import BULK, LOW_LATENCY, RING, SWITCH, Messages, ideal_links, links_entry
from pdplan.catalog.store import Catalog
from pdplan.documents.files import read_json
from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.laws.collectives import (
    Habit,
    Links,
    Routed,
    all_gather_time_s,
    all_reduce,
    all_reduce_time_s,
    expert_exchange_time_s,
    stage_hops_time_s,
)
from pdplan.link_constants import LinkSpeeds, links_of, with_fused_all_reduces

IDEAL = Links(scale_up_bytes_per_s=450e9, scale_out_bytes_per_s=50e9, domain_size=8)
REAL = Links(
    scale_up_bytes_per_s=450e9,
    scale_out_bytes_per_s=50e9,
    domain_size=8,
    scale_up_efficiency=0.9,
    scale_out_efficiency=0.85,
    direct_efficiency=0.7,
    local_share=0.5,
    scale_up_latency_s=3.5e-6,
    two_shot_rank_latency_s=1e-6,
    ring_latency_s=5e-6,
    ring_bulk_latency_s=2e-5,
    hop_latency_s=1e-6,
    scale_out_latency_s=1e-5,
    expert_latency_s=2e-5,
    expert_efficiency=0.5,
    bulk_expert_latency_s=3e-5,
    bulk_expert_efficiency=0.6,
)
SIZES = np.geomspace(1e3, 1e9, 400)


def top8(tokens: ArrayLike, ranks: ArrayLike, bytes_per_token: float = 7168.0) -> Routed:
    """Tokens of DeepSeek-V3 on their way to eight experts each, in FP8 unless said otherwise."""
    return Routed(tokens=tokens, per_token=8, bytes_per_token=bytes_per_token, ranks=ranks)


def fitted(accelerator: str, generation: str, up: float, out: float) -> Links:
    """Links with the packaged constants: the accelerator's, then its generation's, then the defaults'."""
    file = read_json(CONSTANTS_DIRECTORY / "kernels.json").data
    names = {f.name for f in dataclasses.fields(Links)}
    values: dict[str, float] = {}
    for scope in (
        (file["accelerators"] or {}).get(accelerator),
        (file["generations"] or {}).get(generation),
        file["defaults"],
    ):
        for key, value in ((scope or {}).get("links") or {}).items():
            if key in names:
                values.setdefault(key, float(value))
    return Links(scale_up_bytes_per_s=up, scale_out_bytes_per_s=out, domain_size=8, **values)


# DeepEP docs/legacy.md @dd758caf, low-latency kernels on H800: 128 tokens a rank, hidden 7168,
# top-8, FP8 dispatch and BF16 combine; microseconds.
DEEPEP = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369), 256: (194, 360)}


@pytest.mark.parametrize("ranks", DEEPEP)
def test_low_latency_exchange_meets_deepep(ranks: int) -> None:
    h800 = fitted("h800", "hopper", 200e9, 50e9)
    dispatch, combine = DEEPEP[ranks]
    for width, published in ((7168.0, dispatch), (2 * 7168.0, combine)):
        t = expert_exchange_time_s(top8(128, ranks, width), h800, deduplicate=False)
        assert float(t) * 1e6 == pytest.approx(published, rel=0.15)


# DeepEP docs/legacy.md @dd758caf, high-throughput kernels on H800: 4096 tokens a rank, hidden
# 7168, top-8 of at most four nodes; GB/s of tokens that reach a rank (EP8) or a node, own included.
@pytest.mark.parametrize(
    ("ranks", "places", "dispatch", "combine"),
    [(8, 8, 153, 158), (16, 2, 43, 43), (32, 4, 58, 57), (64, 4, 51, 50)],
)
def test_high_throughput_exchange_meets_deepep(
    ranks: int, places: int, dispatch: float, combine: float
) -> None:
    h800 = fitted("h800", "hopper", 200e9, 50e9)
    reached = places * (1 - (1 - 1 / places) ** 8)
    for width, published in ((7168.0, dispatch), (2 * 7168.0, combine)):
        sent = dataclasses.replace(top8(4096, ranks, width), group_limit=4)
        t = float(expert_exchange_time_s(sent, h800))
        assert 4096 * reached * width / t / 1e9 == pytest.approx(published, rel=0.2)


# microsoft/vidur profiles (MIT), medians at 64 MiB, in shared/kernels/all_reduce_measured.csv;
# the constants come from other machines (aiconfigurator's).
@pytest.mark.parametrize(
    ("accelerator", "generation", "up", "ranks", "measured_s"),
    [
        ("h100", "hopper", 450e9, 2, 245e-6),
        ("h100", "hopper", 450e9, 4, 318e-6),
        ("h100", "hopper", 450e9, 8, 322e-6),
        ("a100-sxm-80gb", "ampere", 300e9, 2, 430e-6),
        ("a100-sxm-80gb", "ampere", 300e9, 4, 603e-6),
        ("a100-sxm-80gb", "ampere", 300e9, 8, 675e-6),
    ],
)
def test_all_reduce_meets_vidur(
    accelerator: str, generation: str, up: float, ranks: int, measured_s: float
) -> None:
    links = fitted(accelerator, generation, up, 25e9)
    assert float(all_reduce_time_s(67108864, ranks, links)) == pytest.approx(measured_s, rel=0.3)


def test_ring_by_hand() -> None:
    """Patarasuk & Yuan 2009: 2(r−1)/r of the message over the link of each rank."""
    assert float(all_reduce_time_s(8e9, 8, IDEAL)) == pytest.approx(2 * 7 / 8 * 8e9 / 450e9)
    assert float(all_gather_time_s(8e9, 8, IDEAL)) == pytest.approx(7 / 8 * 8e9 / 450e9)


def test_two_domains_by_hand() -> None:
    """16 ranks in two domains: the ring inside, then half of each share over the network twice."""
    expected = 1.75 * 8e9 / 450e9 + 2 * 0.5 * 1e9 / 50e9
    assert float(all_reduce_time_s(8e9, 16, IDEAL)) == pytest.approx(expected)


NVLS = dataclasses.replace(IDEAL, switch_reduces=True, switch_efficiency=0.5, switch_latency_s=1e-4)


def test_switch_that_adds_by_hand() -> None:
    """Eight ranks: the message out once and an eighth in, or an eighth out and the message in."""
    slow_ring = dataclasses.replace(NVLS, scale_up_efficiency=0.2, direct_efficiency=0.2)
    assert float(all_reduce_time_s(8e9, 8, slow_ring)) == pytest.approx(1e-4 + 9e9 / 225e9)
    # a pair sends each other half of the message anyway
    assert float(all_reduce_time_s(8e9, 2, slow_ring)) == pytest.approx(8e9 / 90e9)


def test_switch_is_taken_only_where_it_is_faster_and_exists() -> None:
    for ranks in (2, 4, 8):
        with_switch, without = (all_reduce_time_s(SIZES, ranks, x) for x in (NVLS, IDEAL))
        assert np.all(with_switch <= without)
    assert float(all_reduce_time_s(1e6, 8, NVLS)) == float(all_reduce_time_s(1e6, 8, IDEAL))  # latency


# NCCL 2.29 on eight GPUs, BF16, microseconds: aiconfigurator-core 0.12.0, systems/data/*/nccl (Apache-2.0)
NCCL_EIGHT = {
    ("h100", "hopper", 450e9): {134217728: 578.7, 536870912: 2111.1},
    ("h200", "hopper", 450e9): {134217728: 564.5, 536870912: 2040.3},
    ("b200", "blackwell", 900e9): {134217728: 398.4, 536870912: 1334.6},
    ("b300", "blackwell", 900e9): {134217728: 391.5, 536870912: 1335.4},
}


@pytest.mark.parametrize("case", NCCL_EIGHT, ids=lambda c: c[0])
def test_large_all_reduces_of_eight_meet_nccl(case: tuple[str, str, float]) -> None:
    links = dataclasses.replace(fitted(*case, 25e9), switch_reduces=True)
    for size, microseconds in NCCL_EIGHT[case].items():
        assert float(all_reduce_time_s(size, 8, links)) * 1e6 == pytest.approx(microseconds, rel=0.05)


# All-reduces of eight GPUs by size, microseconds: aiconfigurator-core 0.12.0, systems/data/*/comm/*/*/
# custom_allreduce (Apache-2.0), under CUDA graphs: TensorRT-LLM 1.3.0rc20, vLLM 0.24 and 0.14, SGLang 0.5.14
# and 0.5.10. Those of all engines in common would miss them by up to a half.
OWN_EIGHT = {
    ("h200", "trtllm"): {16384: 3.5, 131072: 6.4, 524288: 17.8, 2097152: 30.5},
    ("h200", "vllm"): {16384: 5.2, 131072: 7.9, 1048576: 14.1, 8388608: 48.4, 33554432: 165.9},
    ("h200", "vllm-0.17"): {16384: 5.3, 131072: 8.1, 33554432: 195.2},
    ("h200", "sglang-0.5.12"): {16384: 5.2, 262144: 14.2, 2097152: 20.0, 8388608: 60.6},
    ("b200", "trtllm"): {16384: 5.9, 262144: 7.9, 1048576: 17.8, 8388608: 55.4},
    ("b200", "vllm"): {16384: 8.1, 131072: 9.4, 1048576: 17.2, 8388608: 39.2},
    ("b200", "sglang-0.5.12"): {16384: 7.8, 131072: 9.4, 262144: 25.7, 8388608: 80.4},
    ("b200", "sglang"): {16384: 5.3, 262144: 8.5, 2097152: 18.9, 8388608: 36.2},
}
SPEEDS = {
    "h200": ("hopper", LinkSpeeds(scale_up_bytes_per_s=450e9, scale_out_bytes_per_s=50e9, domain_size=8)),
    "b200": ("blackwell", LinkSpeeds(scale_up_bytes_per_s=900e9, scale_out_bytes_per_s=50e9, domain_size=8)),
}


@pytest.mark.parametrize("case", OWN_EIGHT, ids="-".join)
def test_all_reduces_of_eight_meet_each_engine_s(case: tuple[str, str]) -> None:
    accelerator, engine = case
    generation, speeds = SPEEDS[accelerator]
    speeds = dataclasses.replace(speeds, switch_reduces=True)
    links, _ = links_of(accelerator, generation, speeds, engine)
    sizes, measured = np.array(list(OWN_EIGHT[case].items())).T
    error = np.abs(all_reduce_time_s(sizes, 8, links) / (measured * 1e-6) - 1.0)
    assert np.mean(error) < 0.2
    assert np.max(error) < 0.35


def test_engines_that_fuse_norms_take_kernels_that_start_sooner() -> None:
    """vLLM's own one-shot starts after 7 us on B200 (8.1 us of 16 kB), TensorRT-LLM's after 5 (5.9)."""
    generation, speeds = SPEEDS["b200"]
    own, _ = links_of("b200", generation, speeds, "vllm")
    fused, origins = links_of("b200", generation, speeds, "vllm", fused=True)
    assert own.scale_up_latency_s == pytest.approx(7e-6, rel=0.05)
    assert fused.scale_up_latency_s == pytest.approx(5e-6, rel=0.05)
    assert fused == with_fused_all_reduces(own, "b200", generation)
    assert origins["all_reduce", ""].scope.startswith("measured on b200")


HABIT = Habit(one_shot_bytes=128 * 16384, small_group_bytes=1e6, large_group_bytes=5e5)
"""TensorRT-LLM 1.0 (thop/allreduceOp.cpp): one-shot up to 128 tokens, NCCL from 1 MB over four ranks and from
0.5 MB over eight. Tokens of Llama-3.1-70B: 8,192 elements of two bytes."""


@pytest.mark.parametrize(
    ("ranks", "size", "kernel"),
    [(2, 16384 * 100, "one"), (2, 16384 * 200, "two"), (4, 999e3, "one"), (4, 1e6, "library"),
     (8, 499e3, "one"), (8, 5e5, "library")],
)  # fmt: skip
def test_a_habit_takes_its_kernel_whatever_the_others_take(ranks: int, size: float, kernel: str) -> None:
    chosen = all_reduce(ranks, REAL, HABIT)
    assert chosen.shots is not None
    each = {"one": chosen.shots[0], "two": chosen.shots[1], "library": chosen.ring}
    assert float(chosen.at(size)) == pytest.approx(float(each[kernel].at(size)))
    assert float(all_reduce_time_s(size, ranks, REAL)) <= float(chosen.at(size))


def test_one_rank_or_two_domains_under_a_habit() -> None:
    assert np.all(all_reduce_time_s(SIZES, 1, REAL, HABIT) == 0)
    crossing = all_reduce_time_s(SIZES, 16, REAL, HABIT)
    assert np.allclose(crossing, all_reduce_time_s(SIZES, 16, REAL))


def test_catalog_says_which_switches_add() -> None:
    """NVLink SHARP came with the NVSwitch of Hopper; bridges and PCIe have no switch."""
    adding = {a.name for a in Catalog().accelerators() if a.scale_up and a.scale_up.reduces_in_switch}
    assert adding == {
        "h100", "h200", "h800", "h20", "h20-3e", "b200", "b300", "gb200", "gb300", "rubin"
    }  # fmt: skip


def test_small_messages_take_the_one_shot() -> None:
    assert float(all_reduce_time_s(1024, 8, REAL)) == pytest.approx(3.5e-6 + 7 * 1024 / (0.7 * 450e9))


def test_shared_root_slows_down_with_ranks() -> None:
    """A contention of c makes r ranks 1 + c·(r−2) times slower than a switch does."""
    pcie = dataclasses.replace(IDEAL, contention=1.5)
    assert float(all_reduce_time_s(1e9, 8, pcie)) == pytest.approx(
        10 * float(all_reduce_time_s(1e9, 8, IDEAL))
    )
    assert float(all_reduce_time_s(1e9, 2, pcie)) == float(all_reduce_time_s(1e9, 2, IDEAL))


LAWS = {
    "all_reduce": lambda size, ranks, links: all_reduce_time_s(size, ranks, links),
    "all_gather": lambda size, ranks, links: all_gather_time_s(size, ranks, links),
    "low_latency": lambda size, ranks, links: expert_exchange_time_s(top8(size / 7168, ranks), links, False),
    "bulk": lambda size, ranks, links: expert_exchange_time_s(top8(size / 7168, ranks), links),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("ranks", [2, 4, 8, 16, 64])
def test_monotone_and_continuous_in_size(law, ranks: int) -> None:
    times = law(SIZES, ranks, REAL)
    assert np.all(np.diff(times) >= 0)
    assert np.all(
        times[1:] / times[:-1] <= SIZES[1] / SIZES[0] * (1 + 1e-9)
    )  # no jump: never faster than the bytes grow


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_one_rank_is_free(law) -> None:
    assert np.all(law(SIZES, 1, REAL) == 0)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("ranks", [2, 8, 32])
def test_more_bandwidth_is_never_slower_and_scalar_equals_array(law, ranks: int) -> None:
    faster = dataclasses.replace(REAL, scale_up_bytes_per_s=900e9, scale_out_bytes_per_s=100e9)
    assert np.all(law(SIZES, ranks, faster) <= law(SIZES, ranks, REAL))
    assert float(law(SIZES[7], ranks, REAL)) == law(SIZES, np.full(SIZES.shape, ranks), REAL)[7]


def test_high_throughput_sends_no_more_than_low_latency() -> None:
    ranks = np.array([2, 4, 8, 16, 32, 64, 128])
    tokens = 4096.0
    assert np.all(
        expert_exchange_time_s(top8(tokens, ranks), IDEAL)
        <= expert_exchange_time_s(top8(tokens, ranks), IDEAL, False) * (1 + 1e-12)
    )


def test_node_limit_only_helps() -> None:
    free = expert_exchange_time_s(top8(4096, 64), IDEAL)
    limited = expert_exchange_time_s(dataclasses.replace(top8(4096, 64), group_limit=4), IDEAL)
    # by hand: 7/8 of 4·(1 − (3/4)^8) = 3.5996 node copies, 7168 bytes each, over 50 GB/s
    assert float(limited) == pytest.approx(4096 * 7 / 8 * 4 * (1 - 0.75**8) * 7168 / 50e9)
    assert limited < free


@pytest.mark.parametrize(
    ("stages", "gpus_per_stage", "crossing"),
    [(1, 8, 0), (2, 4, 0), (2, 8, 1), (4, 4, 1), (8, 1, 0), (8, 2, 1), (8, 8, 7), (2, 16, 1)],
)
def test_stages_pay_the_slower_link_where_they_leave_a_domain_of_eight(
    stages: int, gpus_per_stage: int, crossing: int
) -> None:
    # Stages lie one after the other; counted by hand from the GPU numbers at each hop.
    ends = [k * gpus_per_stage for k in range(1, stages)]
    assert crossing == sum((end - 1) // 8 != end // 8 for end in ends)
    inside, across = (
        start + 1e9 / link
        for start, link in ((REAL.ring_latency_s, REAL.up), (REAL.scale_out_latency_s, REAL.out))
    )
    found = float(stage_hops_time_s(1e9, stages, gpus_per_stage, REAL))
    assert found == pytest.approx((stages - 1 - crossing) * inside + crossing * across)


def test_stage_hop_is_one_message() -> None:
    assert float(stage_hops_time_s(45e9, 2, 4, REAL)) == pytest.approx(5e-6 + 45 / (0.9 * 450))


def test_fit_recovers_links_it_was_given() -> None:
    """Samples made from known constants give these constants back."""
    size, ranks = (x.ravel() for x in np.meshgrid(np.geomspace(1e3, 1e9, 40), [2.0, 4.0, 8.0]))
    tokens = np.geomspace(1, 65536, 40)
    real = dataclasses.replace(REAL, switch_efficiency=0.7, switch_latency_s=6e-5)
    truth = {k: getattr(real, k) for k in (*RING, *LOW_LATENCY, *BULK, *SWITCH)}
    given = dataclasses.replace(ideal_links("h100"), **truth)
    samples = []
    for kind, law in (("all_reduce", all_reduce_time_s), ("all_gather", all_gather_time_s)):
        samples.append(
            _messages(kind, "h100", law(size, ranks, given), size, ranks, np.full(size.size, "x"), law)
        )
    for kind in ("low_latency", "bulk"):
        bulk = kind == "bulk"
        sent = top8(tokens, np.full(40, 8.0))
        sample: Messages = exchange(kind, "h100", expert_exchange_time_s(sent, given, bulk), sent)
        samples.append(sample)
    entry = links_entry(samples, "synthetic")
    assert entry["median_error"] < 0.01
    for name in (
        "scale_up_latency_s",
        "direct_efficiency",
        "switch_efficiency",
        "expert_latency_s",
        "bulk_expert_efficiency",
    ):
        assert entry[name] == pytest.approx(truth[name], rel=0.05)
