"""First tokens in a closed loop, against a small simulation of one server that counts every step."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pdplan.efficiency import Engine
from pdplan.serving.closed_loop import opening_burst_s
from pdplan.serving.first_token import convoy_prompts, first_token, held_steps, step_prompts
from pdplan.serving.pools import handling_s, prompts_beside
from pdplan.workload import Held, Speculation, Workload

PROMPT_S = 0.2
DECODE_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A benchmark: `requests` in flight, ten times as many in all, of which the first come at once."""

    requests: int
    prompts_per_step: float
    answer: int = 300
    spread: float = 0.0
    mixes: bool = True
    seed: int = 1


def simulate(loop: Loop) -> tuple[float, float, float]:
    """Mean TTFT of the opening burst and of all others, mean TPOT [s], counted step by step.

    A step takes DECODE_S if anything decodes, and PROMPT_S for each prompt (or part of one) in it;
    an answer's end sends the next request, some milliseconds later.
    """
    rng = np.random.default_rng(loop.seed)
    total = 10 * loop.requests
    answers = np.round(loop.answer * (1 - loop.spread * rng.random(total))).astype(int)
    sent = np.zeros(total)
    first = np.zeros(total)
    last = np.zeros(total)
    coming = [(1e-4 * i, i) for i in range(loop.requests)]
    waiting: dict[int, float] = {}
    running: dict[int, int] = {}
    now, done, following = 0.0, 0, loop.requests
    while done < total:
        while coming and coming[0][0] <= now:
            when, i = heapq.heappop(coming)
            waiting[i], sent[i] = 1.0, when
        if not waiting and not running:
            now = coming[0][0]
            continue
        room, started = loop.prompts_per_step, []
        for i in list(waiting):
            part = min(waiting[i], room)
            waiting[i] -= part
            room -= part
            if waiting[i] < 1e-9:
                started.append(i)
                del waiting[i]
            if room < 1e-9:
                break
        prompts = loop.prompts_per_step - room
        decodes = list(running) if loop.mixes or not prompts else []
        now += PROMPT_S * prompts + (DECODE_S if decodes else 0.0)
        for i in decodes:
            running[i] -= 1
            if running[i] <= 0:
                del running[i]
                last[i] = now
                done += 1
                if following < total:
                    heapq.heappush(coming, (now + 0.01 * rng.random(), following))
                    following += 1
        for i in started:
            first[i] = now
            running[i] = answers[i] - 1
    ttft = first - sent
    tpot = (last - first) / (answers - 1)
    return float(ttft[: loop.requests].mean()), float(ttft[loop.requests :].mean()), float(tpot.mean())


def pool_of(mixes: bool, step_tokens: float = 8192.0) -> Any:
    engine = Engine(mixes_prefill=float(mixes), max_step_tokens=step_tokens)
    return SimpleNamespace(
        setting=SimpleNamespace(constants=SimpleNamespace(engine=engine)),
        workers=1.0,
        max_batch=1024.0,
        servers=1.0,
        micro_batches_per_worker=1.0,
        layout=SimpleNamespace(dp=1.0),
        speculation=Speculation(),
    )


def closed(**more: Any) -> Workload:
    return Workload(isl=4096, osl=300, **{"concurrency": 16, **more})


@pytest.mark.parametrize(("requests", "together"), [(4, 2), (16, 2), (64, 2), (16, 4), (64, 4)])
def test_convoys_of_a_mixing_engine_wait_as_simulated(requests: int, together: int) -> None:
    found = simulate(Loop(requests=requests, prompts_per_step=together))[1]
    law = convoy_prompts(pool_of(True), closed(convoy_prompts=together), requests) * PROMPT_S
    assert float(law) == pytest.approx(found, rel=0.17)


@pytest.mark.parametrize("requests", [8, 32])
def test_without_mixing_all_requests_are_one_convoy(requests: int) -> None:
    found = simulate(Loop(requests=requests, prompts_per_step=1, mixes=False))[1]
    law = convoy_prompts(pool_of(False), closed(convoy_prompts=2), requests) * PROMPT_S
    assert float(law) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize("requests", [8, 32])
def test_answers_of_a_convoy_wait_for_half_the_prompts(requests: int) -> None:
    """All come before the first decode step, so that nobody waits for as many prompts as others run."""
    found = simulate(Loop(requests=requests, prompts_per_step=1, mixes=False))[2]
    workload = closed(concurrency=requests, convoy_prompts=2)
    met = float(prompts_beside(pool_of(False), workload, requests))
    assert DECODE_S + met * PROMPT_S / workload.osl == pytest.approx(found, rel=0.01)
    mixed = float(prompts_beside(pool_of(True), workload, requests))
    assert mixed == requests


@pytest.mark.parametrize("requests", [8, 32])
@pytest.mark.parametrize("together", [1, 4])
def test_the_opening_burst_waits_as_simulated(requests: int, together: int) -> None:
    first, others, _ = simulate(Loop(requests=requests, prompts_per_step=together, spread=0.2, answer=2000))
    workload = closed(concurrency=requests, burst_share=1.0)
    law = float(opening_burst_s(1.0, PROMPT_S, workload, together))
    assert law == pytest.approx(first - others, rel=0.15)


def test_a_cold_start_comes_on_top_of_the_burst() -> None:
    warm = opening_burst_s(1.0, PROMPT_S, closed(burst_share=0.1))
    cold = opening_burst_s(1.0, PROMPT_S, closed(burst_share=0.1, cold_start_s=2.0))
    assert float(cold - warm) == pytest.approx(0.2)


def test_answers_of_many_lengths_wait_for_a_step_and_their_own() -> None:
    # Few requests and long answers: hardly any queue. The step under way is a whole one, since the
    # answer's end that sent the request began it; the own step carries the decodes as well.
    found = simulate(Loop(requests=4, prompts_per_step=4, spread=0.3, answer=2000))[1]
    step = SimpleNamespace(
        tpot_s=np.asarray(DECODE_S),
        mean_s=np.asarray(DECODE_S),
        prefill_service_s=np.asarray(PROMPT_S + DECODE_S),
        prefill_extra_s=np.asarray(PROMPT_S),
        prefill_work_s=np.asarray(PROMPT_S),
        handling_s=np.zeros(()),
        busy_stages=np.ones(()),
    )
    loop: Any = first_token(pool_of(True), closed(concurrency=4), step, 4.0)  # type: ignore[arg-type]
    assert float(loop.other_s + loop.service_s) == pytest.approx(found, rel=0.08)
    plan: Any = first_token(pool_of(True), Workload(isl=4096, osl=300, rate=1), step, 4.0)  # type: ignore[arg-type]
    assert float(plan.running_step_s) == pytest.approx(DECODE_S / 2)


def test_held_prompts_share_the_step_with_those_that_came_meanwhile() -> None:
    step = SimpleNamespace(
        tpot_s=np.asarray(0.01),
        mean_s=np.asarray(0.01),
        prefill_service_s=np.asarray(0.1),
        prefill_extra_s=np.asarray(0.09),
        prefill_work_s=np.asarray(0.09),
        handling_s=np.zeros(()),
        busy_stages=np.ones(()),
    )
    held = closed(held=Held(steps=15.0), step_tokens=32768.0)
    found: Any = first_token(pool_of(False), held, step, 300.0)  # type: ignore[arg-type]
    # One prompt comes a step (300 running of 300 tokens): 15 more while it is held, but a step holds 8.
    assert float(found.held_s) == pytest.approx(0.15)
    assert float(found.service_s) == pytest.approx(0.1 + 7 * 0.09)
    few: Any = first_token(pool_of(False), held, step, 30.0)  # type: ignore[arg-type]
    assert float(few.service_s) == pytest.approx(0.1 + 1.5 * 0.09)


def balanced(ranks: int, each: int, answer: int, together: int, limit: int = 60) -> float:
    """Mean steps that prompts wait where ranks take them only once all have one, or after `limit` steps.

    Each rank has a closed loop of its own, as a router that evens out requests makes it: an answer's end
    sends the next prompt to the same rank. Ten rounds, as in a benchmark; a step takes up to `together`.
    """
    rng = np.random.default_rng(3)
    ends: list[list[int]] = [[] for _ in range(ranks)]
    queues = [[0] * each for _ in range(ranks)]
    waits: list[int] = []
    passed = 0
    for now in range(10 * answer):
        for queue, running in zip(queues, ends, strict=True):
            while running and running[0] <= now:
                queue.append(heapq.heappop(running))
        passed = 0 if all(queues) else passed + 1
        if not (all(queues) or passed >= limit or not all(ends)):
            continue
        passed = 0
        for queue, running in zip(queues, ends, strict=True):
            for sent in queue[:together]:
                if now > 3 * answer:
                    waits.append(now - sent)
                heapq.heappush(running, now + int(answer * rng.uniform(0.8, 1.0)))
            del queue[:together]
    return float(np.mean(waits))


@pytest.mark.parametrize(
    ("ranks", "each", "answer", "together"),
    [(4, 64, 1024, 1), (4, 32, 1024, 1), (8, 8, 1024, 1), (8, 32, 656, 1), (4, 64, 1024, 8)],
)
def test_ranks_that_wait_for_one_another_wait_as_simulated(
    ranks: int, each: int, answer: int, together: int
) -> None:
    found = balanced(ranks, each, answer, together)
    pool = pool_of(True)
    pool.layout.dp = pool.micro_batches_per_worker = ranks
    held, room = Held(balanced_steps=60), 1024.0 * together
    workload = Workload(isl=1024, osl=0.9 * answer, concurrency=64, held=held, step_tokens=room)
    law = held_steps(pool, workload, ranks * each)
    assert float(law) == pytest.approx(found, rel=0.35)
    pool.layout.dp = 1
    assert float(held_steps(pool, workload, ranks * each)) == 0


def test_prompts_that_wait_for_others_to_join_wait_as_the_server_counts() -> None:
    held = Held(batched_steps=20.0, batched_tokens=14746.0)
    workload = Workload(isl=1024, osl=1000, concurrency=64, held=held)
    # Hardly any other comes: all 20 steps. One a step: the first waits 14 for the 15 that fill the
    # batch, those between half of that on average.
    assert float(held_steps(pool_of(True), workload, 0.01)) == pytest.approx(20.0, rel=1e-3)
    assert float(held_steps(pool_of(True), workload, 1000.0)) == pytest.approx(sum(range(15)) / 15)


def test_a_step_holds_whole_prompts_and_at_least_one() -> None:
    assert float(step_prompts(pool_of(True), closed(step_tokens=9000.0))) == 2
    assert float(step_prompts(pool_of(True, 2048.0), closed())) == 1


def test_request_handling_is_counted_by_hand() -> None:
    engine = Engine(request_overhead_s=5e-3, token_overhead_s=2e-6, operation_launch_s=1e-4)
    # 5 ms, 4,096 tokens of 2 us, 700 operations of 0.1 ms, of which 30 ms of kernels hide as much.
    assert float(handling_s(engine, closed(), 700.0, 30e-3)) == pytest.approx(5e-3 + 8.192e-3 + 40e-3)
    assert float(handling_s(engine, closed(), 700.0, 0.1)) == pytest.approx(5e-3 + 8.192e-3)
    assert float(handling_s(replace(engine, operation_launch_s=0.0), closed(), 700.0, 0.0)) < 0.02
