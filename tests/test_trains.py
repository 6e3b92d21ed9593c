"""Loops that began with all their requests at once, against a simulation that counts every step."""

from __future__ import annotations

import heapq
import random
from statistics import mean

import numpy as np
import pytest

from pdplan.serving.closed_loop import shared_steps_s
from pdplan.serving.trains import Steps, gated_prompt_s, rank_lag, train_prompts

SHORTEST = 0.8
"""Of the longest answer: lengths are uniform between."""


def simulate(requests: int, away_s: float, steps: Steps, seed: int) -> float:
    """Mean time at prefill of rounds 2 to 10 of a loop that began with all its `requests` at once.

    A prompt goes to the rank that has the fewest, and each rank takes up to `most` of its own into a step,
    which ends with the fullest of them.
    """
    draw, ranks, most = random.Random(seed), int(steps.ranks), int(steps.most)
    arrivals = [(0.0, i) for i in range(requests)]
    queues: list[list[tuple[float, int]]] = [[] for _ in range(ranks)]
    running: list[list[tuple[float, int]]] | None = None
    end, order, times = 0.0, requests, []
    while len(times) < 10 * requests:
        if running is not None and (not arrivals or arrivals[0][0] > end):
            for came, number in (prompt for rank in running for prompt in rank):
                times.append((number, end - came))
                answer = away_s * draw.uniform(SHORTEST, 1.0) / (0.5 + SHORTEST / 2.0)
                heapq.heappush(arrivals, (end + answer, order))
                order += 1
            now, running = end, None
        else:
            now, number = heapq.heappop(arrivals)
            held = [len(q) + (len(running[i]) if running else 0) for i, q in enumerate(queues)]
            queues[int(np.argmin(held))].append((now, number))
        if running is None and any(queues) and not (arrivals and arrivals[0][0] <= now):
            running = [q[:most] for q in queues]
            queues = [q[most:] for q in queues]
            end = now + float(steps.fixed_s) + float(steps.each_s) * max(map(len, running))
    return mean(time for number, time in times if number >= requests)


def steps(fixed_s: float, each_s: float, most: int, ranks: int) -> Steps:
    return Steps(**{k: np.array(float(v)) for k, v in locals().items()})


def at_prefill_s(requests: int, away_s: float, one: Steps) -> float:
    """As `closed_disaggregated` puts the laws together."""
    each = requests / one.ranks
    waiting = train_prompts(each, away_s, one.full_prompt_s)
    ahead = shared_steps_s(waiting, one.fixed_s, one.alone_s, one.most)
    return float(np.maximum(one.alone_s + ahead, gated_prompt_s(each, away_s, one)))


@pytest.mark.parametrize("requests", [8, 32, 128])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.8, 1.2])
def test_one_server_of_single_prompts_keeps_its_train(requests: int, share: float) -> None:
    one = steps(0.0, 1.0, 1, 1)
    away = requests / share - 1.0
    found = mean(simulate(requests, away, one, seed) for seed in range(3))
    assert at_prefill_s(requests, away, one) == pytest.approx(found, rel=0.12)


@pytest.mark.parametrize(("fixed_s", "most"), [(0.0, 1), (0.02, 8), (0.0, 2)])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_ranks_that_step_together_wait_as_simulated(fixed_s: float, most: int, share: float) -> None:
    one = steps(fixed_s, 0.1, most, 8)
    each = 32
    away = each * (fixed_s / most + 0.1) / share - fixed_s - 0.1
    found = mean(simulate(each * 8, away, one, seed) for seed in range(2))
    assert at_prefill_s(each * 8, away, one) == pytest.approx(found, rel=0.37)


def test_a_saturated_server_is_never_idle() -> None:
    # 40 requests, 9 s away, 1 s each: 40 = (9 + R)/1, so that 30 others are ahead of each.
    assert float(train_prompts(40.0, 9.0, 1.0)) == pytest.approx(30.0, rel=0.02)


def test_waits_grow_with_the_requests_and_are_never_less_than_the_own_step() -> None:
    one = steps(0.02, 0.1, 4, 4)
    waits = [at_prefill_s(n, 60.0, one) for n in (1, 16, 256, 1024, 4096)]
    assert waits[0] == pytest.approx(0.12, rel=0.01)
    assert waits == sorted(waits)


@pytest.mark.parametrize(
    ("ranks", "prompts", "within"), [(2, 1, 0.02), (8, 1, 0.02), (8, 4, 0.35), (32, 2, 0.35)]
)
def test_the_longest_rank_is_as_long_as_drawn(ranks: int, prompts: int, within: float) -> None:
    draw = np.random.default_rng(1).uniform(SHORTEST, 1.0, (20_000, ranks, prompts)).mean(axis=2)
    longest = draw.max(axis=1).mean() / draw.mean() - 1.0
    spread = (1.0 - SHORTEST) / (0.5 + SHORTEST / 2.0)
    # Sums of several lengths are nearer to normal, whose largest lies farther out.
    assert float(rank_lag(ranks, prompts, spread)) == pytest.approx(longest, rel=within)
