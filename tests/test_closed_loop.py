"""Closed loops over two pools, against simulations that count every step."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pdplan.roots import increasing_root
from pdplan.serving.closed_loop import shared_steps_s
from pdplan.serving.trains import step_under_way

FIXED_S, EACH_S = 0.03, 0.02


def simulate(requests: int, away_s: float, most: int, rounds: int = 400) -> float:
    """Mean time at a server whose step takes FIXED_S + EACH_S·k for the k ≤ `most` prompts that wait."""
    draw = random.Random(1)
    arrivals = sorted(draw.expovariate(1 / away_s) for _ in range(requests))
    now, spent, served = 0.0, 0.0, 0
    while served < requests * rounds:
        now = max(now, arrivals[0])
        batch = [t for t in arrivals if t <= now][:most]
        arrivals = arrivals[len(batch) :]
        now += FIXED_S + EACH_S * len(batch)
        spent += sum(now - t for t in batch)
        served += len(batch)
        arrivals = sorted(arrivals + [now + draw.expovariate(1 / away_s) for _ in batch])
    return spent / served


@pytest.mark.parametrize(
    ("requests", "away_s"), [(4, 1.0), (16, 2.0), (16, 0.5), (32, 1.0), (64, 3.0), (64, 1.0)]
)
@pytest.mark.parametrize("most", [1, 8])
def test_prompts_that_share_steps_wait_as_simulated(requests: int, away_s: float, most: int) -> None:
    fixed = FIXED_S if most > 1 else FIXED_S + EACH_S

    def residence(queue: np.ndarray) -> np.ndarray:
        ahead = queue * (requests - 1) / requests
        return FIXED_S + EACH_S + shared_steps_s(ahead, fixed, FIXED_S + EACH_S, most)

    def surplus(queue: np.ndarray) -> np.ndarray:
        return queue - (requests - queue) / away_s * residence(queue)

    queue = increasing_root(surplus, np.zeros(1), np.full(1, requests - 1e-9))
    found = float(residence(queue)[0])
    assert found == pytest.approx(simulate(requests, away_s, most), rel=0.18)
    # Without shared steps a server so busy would be thought overloaded.
    if requests == 64 and away_s == 1.0 and most > 1:
        assert 64 / (1.0 + found) > 1 / (FIXED_S + EACH_S)


@pytest.mark.parametrize("work", [0.05, 0.3, 1.0, 3.0])
def test_ranks_that_step_together_are_as_busy_as_simulated(work: float) -> None:
    draw = random.Random(2)
    now, busy = 0.0, 0.0
    while busy < 4000:
        now += draw.expovariate(work)  # idle until one comes; a step takes 1
        while True:
            now, busy = now + 1.0, busy + 1.0
            if draw.random() < np.exp(-work):  # none came meanwhile
                break
    assert float(step_under_way(work)) == pytest.approx(busy / now, rel=0.04)
