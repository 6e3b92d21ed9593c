"""Pipeline stages: the slowest sets the rate, the sum the latency, the fullest what fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import model, world

from pdplan.architecture.stack import fold
from pdplan.architecture.stages import stage_layers, stages_of, whole
from pdplan.compose import build_setting
from pdplan.evaluate import serve_colocated
from pdplan.layout import Layout, decode_load, prefill_load
from pdplan.memory import memory_budget, sequence_bytes_per_gpu, weight_bytes_per_gpu
from pdplan.plan import Serving
from pdplan.serving.pools import Pool, decode_tpot_s, mixed_step, prefill_service
from pdplan.serving.queueing import mean_wait_s
from pdplan.step import Setting, step_time
from pdplan.workload import Slo, Workload


def setting(name: str, hardware: str = "h200", precision: str = "bf16", engine: str = "vllm") -> Setting:
    serving = Serving(model=name, precision=precision, kv_precision="bf16", engine=engine)
    return build_setting(world((name,), (hardware,)), serving, hardware)


def pool(of: Setting, running: float = 1.0, **layout: int) -> Pool:
    return Pool(
        setting=of,
        layout=Layout(**{k: [v] for k, v in layout.items()}),
        workers=np.ones(1),
        max_batch=np.array([running]),
    )


# vLLM's documentation and vllm/distributed/utils.py: 61 layers on 2, 4 and 8 stages
@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (61, 2, (31, 30)),
        (61, 4, (15, 15, 16, 15)),
        (61, 8, (7, 7, 8, 8, 8, 8, 8, 7)),
        (80, 4, (20, 20, 20, 20)),
        (32, 1, (32,)),
    ],
)
def test_layers_are_dealt_out_as_vllm_does(layers: int, stages: int, expected: tuple[int, ...]) -> None:
    assert stage_layers(layers, stages) == expected


@pytest.mark.parametrize("layers", [7, 24, 61, 94])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 7])
def test_no_layer_is_lost(layers: int, stages: int) -> None:
    dealt = stage_layers(layers, stages)
    assert sum(dealt) == layers
    assert max(dealt) == -(-layers // stages)
    assert dealt[-1] == min(dealt)


def test_deepseek_stages_keep_the_order_of_layers() -> None:
    """Three dense layers come first: on eight stages they are all in the first, with four of experts."""
    stack = fold(model("deepseek-r1"))
    first = next(s for s in stages_of(stack.order, whole(stack), 8) if s.first)
    assert (first.layers, first.feed_forwards) == (7, (3, 4))
    assert {s.layers for s in stages_of(stack.order, whole(stack), 8) if not s.first and not s.last} == {8}
    assert stages_of(stack.order, whole(stack), 1) == (whole(stack),)


def test_slowest_stage_by_hand() -> None:
    """Llama-3.1-70B, 80 layers: four stages of 20 equal layers; the last has the LM head and samples."""
    of = setting("llama-3.1-70b")
    load = decode_load(16.0, 1000.0, 1000.0)
    step = step_time(of, Layout(tp=2, pp=4), load)
    seconds = {t.name: float(t.total_s) for t in step.terms}
    engine = of.constants.engine
    sampling = 16 * engine.sequence_overhead_s
    head = seconds["LM head (head)"] + seconds["logits all-gather"] + sampling
    hops = seconds["pipeline hops"]
    layers = sum(seconds.values()) - head - hops  # with what a step costs the host, even over the stages
    assert float(step.earlier_s) == pytest.approx(layers / 4 + hops / 3)
    assert float(step.last_s) == pytest.approx(layers / 4 + head)
    # Four micro-batches: a stage works on one of them at a time.
    assert float(step.cycle_s(4.0)) == pytest.approx(4 * max(layers / 4 + hops / 3, layers / 4 + head))
    assert float(step.cycle_s(1.0)) == pytest.approx(sum(seconds.values()))


def test_sixty_one_layers_on_eight_stages_are_as_slow_as_sixty_four() -> None:
    """DeepSeek-R1: the stages of eight layers with experts decide, 8·8/61 = 1.05 of an even split."""
    of = setting("deepseek-r1", precision="fp8")
    load = prefill_load(1.0, 4096.0)
    step = step_time(of, Layout(tp=1, pp=8), load)
    experts = sum(float(t.total_s) for t in step.terms if t.place and t.place.block == ("feed_forward", 1))
    other = sum(float(t.total_s) for t in step.terms if t.place and t.place.block[0] in ("mixer", "layers"))
    hop = next(float(t.total_s) for t in step.terms if t.name == "pipeline hops") / 7
    host = of.constants.engine.step_overhead_s / 8
    assert float(step.slowest_s()) == pytest.approx(8 / 58 * experts + 8 / 61 * other + hop + host)
    assert 1.04 < float(8 * step.slowest_s() / step.total_s) < 1.09


@pytest.mark.parametrize("name", ["llama-3.1-70b", "deepseek-r1", "gpt-oss-120b", "nemotron-h-56b"])
@pytest.mark.parametrize("stages", [1, 2, 4, 8])
def test_a_round_is_never_shorter_than_the_step_and_grows_with_its_micro_batches(
    name: str, stages: int
) -> None:
    of = setting(name, precision="fp8" if name == "deepseek-r1" else "bf16")
    step = step_time(of, Layout(tp=1, pp=stages), decode_load(32.0, 500.0, 1500.0))
    rounds = [float(step.cycle_s(float(n))) for n in range(1, stages + 1)]
    assert rounds[0] == pytest.approx(float(step.total_s))
    assert np.all(np.diff(rounds) >= 0)
    # No split is better than an even one.
    assert rounds[-1] >= float(step.total_s) * (1 - 1e-9)
    assert float(step.slowest_s()) * stages >= float(step.total_s) * (1 - 1e-9)


def test_one_stage_is_one_of_an_array_with_several() -> None:
    of = setting("llama-3.1-70b")
    load = decode_load(np.full(3, 8.0), 100.0, 200.0)
    step = step_time(of, Layout(tp=np.array([2, 2, 2]), pp=np.array([1, 2, 4])), load)
    for at, stages in enumerate((1, 2, 4)):
        alone = step_time(of, Layout(tp=2, pp=stages), decode_load(8.0, 100.0, 200.0))
        for found, expected in (
            (step.total_s[at], alone.total_s),
            (step.slowest_s()[at], alone.slowest_s()),
            (step.cycle_s(np.full(3, float(stages)))[at], alone.cycle_s(float(stages))),
        ):
            assert float(found) == pytest.approx(float(expected), rel=1e-12)


def pipeline(stages: list[float], arrivals: np.ndarray) -> np.ndarray:
    """When each batch leaves the last of some stages, which work on one batch at a time, in order."""
    ready = arrivals.copy()
    for seconds in stages:
        free = 0.0
        for k, at in enumerate(ready):
            free = max(at, free) + seconds
            ready[k] = free
    return ready


def test_prefill_waits_for_the_slowest_stage_as_simulated() -> None:
    """A pipeline is no set of servers side by side: M/D/1 at its slowest stage, then the sum of all."""
    stages = [0.07, 0.08, 0.08, 0.075]
    rng = np.random.default_rng(5)
    rate = 0.8 / max(stages)
    arrivals = np.cumsum(rng.exponential(1 / rate, 60_000))
    simulated = np.mean(pipeline(stages, arrivals) - arrivals)
    law = mean_wait_s(1.0, rate, max(stages)) + sum(stages)
    assert float(law) == pytest.approx(simulated, rel=0.03)


def test_chunks_of_a_prompt_follow_each_other_through_the_stages() -> None:
    """Three chunks on four stages: the first goes through all, each other leaves one slowest stage later."""
    of = setting("llama-3.1-70b")
    workload = Workload(isl=24576, osl=100, rate=1)
    service = prefill_service(pool(of, 4.0, tp=2, pp=4), workload)
    assert np.all(service.steps == 3)
    slowest, through = float(service.step.slowest_s()[0]), float(service.step.total_s[0])
    assert float(service.time_s[0]) == pytest.approx(through + 2 * slowest)
    assert float(service.interval_s[0]) == pytest.approx(3 * slowest)
    assert float(service.rate_per_server[0]) == pytest.approx(1 / (3 * slowest))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_tpot_of_a_pipeline_is_a_round_of_its_micro_batches(engine: str) -> None:
    of = setting("llama-3.1-70b", engine=engine)
    workload = Workload(isl=1000, osl=500, rate=1)
    four, one = pool(of, tp=2, pp=4), pool(of, tp=2, pp=1)
    full = float(decode_tpot_s(four, workload, 256.0)[0])
    # A rank's 256 sequences go round as four groups of 64.
    by_hand = step_time(of, Layout(tp=2, pp=4), decode_load(64.0, workload.isl, workload.last_context))
    assert full == pytest.approx(float(by_hand.cycle_s(4.0)))
    # A single one waits for nobody: it is as fast as without stages, hops apart.
    hops = next(float(t.total_s) for t in by_hand.terms if t.name == "pipeline hops")
    alone = float(decode_tpot_s(four, workload, 1.0)[0])
    assert alone == pytest.approx(float(decode_tpot_s(one, workload, 0.25)[0]), abs=2 * hops)
    mixed = mixed_step(four, workload, np.array([256.0]))
    assert float(mixed.tpot_s[0]) > full
    assert float(mixed.mean_s[0]) == pytest.approx(float(mixed.tpot_s[0]) / 4)
    # What prompts take of the slowest stage is never more than what they take of the round.
    assert float(4 * mixed.prefill_slot_extra_s[0]) <= float(mixed.prefill_extra_s[0]) * (1 + 1e-9)


def test_fullest_stage_decides_what_fits() -> None:
    """Llama-3.1-8B, 32 layers on 2: the first has the embedding, the last the head, both half of all."""
    found = memory_budget(setting("llama-3.1-8b"), Layout(pp=np.array([1.0, 2.0])), 4000.0)
    # 32 layers of 218,112,000 parameters and two tables of 128,256 x 4,096, in 16 bit.
    layers, table = 32 * 218_112_000 * 2.0, 128_256 * 4_096 * 2.0
    assert found.weights == pytest.approx([layers + 2 * table, layers / 2 + table])
    assert found.sequence == pytest.approx([4000 * 131_072, 4000 * 65_536])


def test_weights_of_all_stages_are_the_weights_of_the_model() -> None:
    """DeepSeek-R1 in FP8 on eight stages: its first holds dense layers, six experts only; nothing is lost."""
    of = setting("deepseek-r1", precision="fp8")
    stack, layout = of.stack, Layout(pp=8, tp=1)
    order = stack.order
    start, total, cache = 0, 0.0, 0.0
    for number, count in enumerate(stage_layers(stack.layers, 8)):
        part = order[start : start + count]
        start += count
        stage = replace(
            whole(stack),
            layers=count,
            mixers=tuple(sum(m == k for m, _ in part) for k in range(len(stack.mixers))),
            feed_forwards=tuple(sum(f == k for _, f in part) for k in range(len(stack.feed_forwards))),
            first=number == 0,
            last=number == 7,
        )
        total += float(weight_bytes_per_gpu(stack, of.formats, layout, stage))
        cache += float(sequence_bytes_per_gpu(stack, of.formats, layout, 1000.0, stage))
    everything = weight_bytes_per_gpu(stack, of.formats, Layout(), whole(stack))
    assert total == pytest.approx(float(everything))
    assert cache == pytest.approx(70_272 * 1000)


@pytest.mark.parametrize(("name", "engine", "layout"), [
    ("llama-3.1-70b", "vllm", {"tp": 2, "pp": 4}),
    ("qwen3-235b-a22b", "sglang", {"tp": 8, "pp": 4, "dp": 8, "ep": 2}),
])  # fmt: skip
@pytest.mark.parametrize("workers", [1.0, 16.0])
def test_the_first_token_of_a_pipeline_comes_no_sooner_as_the_rate_grows(
    name: str, engine: str, layout: dict[str, int], workers: float
) -> None:
    """By the micro-batches that happen to be busy it came a seventh sooner; searches rely on order."""
    one = pool(setting(name, engine=engine), **layout)
    workload = Workload(isl=500, osl=100)
    running = np.geomspace(0.1, 256, 40)
    step = mixed_step(replace(one, workers=np.array([workers])), replace(workload, rate=1.0), running)
    rates = workers * running / (workload.osl * step.tpot_s)
    many = replace(one, workers=np.array([workers]), max_batch=np.array([4096.0]))
    ttft = serve_colocated(many, workload.at_rate(rates), Slo(), running).ttft
    stable = np.isfinite(ttft.mean_s)
    assert stable.sum() > 10
    for time in (ttft.mean_s, ttft.quantile_s(0.5), ttft.quantile_s(0.9), ttft.quantile_s(0.99)):
        assert np.all(np.diff(time[stable]) >= 0)
