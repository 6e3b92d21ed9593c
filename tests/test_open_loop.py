"""Waiting in an open loop, against a small simulation of one worker that counts every step."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pdplan.efficiency import Engine
from pdplan.serving.open_loop import Queue, open_queue
from pdplan.serving.queueing import response_quantile_s
from pdplan.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Server:
    """A worker whose steps take `step_s`, and `prompt_s` more for each of `together` prompts at most."""

    step_s: float
    prompt_s: float
    together: int
    answer: int
    load: float
    """Share of the time that prompts add: rate · prompt_s."""
    mixes: bool = True

    @property
    def rate(self) -> float:
        return self.load / self.prompt_s

    @property
    def mean_step_s(self) -> float:
        """A share `load` of the time goes to prompts, the rest to plain steps."""
        return self.step_s / (1.0 - self.load)


def simulate(server: Server, requests: int = 8_000, seed: int = 3) -> tuple[np.ndarray, float]:
    """TTFT of each request, and mean TPOT [s]: Poisson arrivals join the next step, the first ones first."""
    rng = np.random.default_rng(seed)
    coming = np.cumsum(rng.exponential(1 / server.rate, requests))
    first, end = np.zeros(requests), np.zeros(requests)
    waiting: list[int] = []
    running: list[tuple[int, int]] = []
    now, arrived, steps, done = 0.0, 0, 0, 0
    while done < requests:
        while arrived < requests and coming[arrived] <= now:
            waiting.append(arrived)
            arrived += 1
        if not waiting and not running:
            now = coming[arrived]
            continue
        started, waiting = waiting[: server.together], waiting[server.together :]
        decodes = server.mixes or not started
        now += server.prompt_s * len(started) + (server.step_s if decodes else 0.0)
        if decodes:
            steps += 1
            while running and running[0][0] <= steps:
                end[heapq.heappop(running)[1]] = now
                done += 1
        for request in started:
            first[request] = now
            heapq.heappush(running, (steps + server.answer - 1, request))
    kept = slice(requests // 10, requests * 9 // 10)
    return (first - coming)[kept], float(((end - first) / (server.answer - 1))[kept].mean())


def simulate_pool(server: Server, count: int, requests: int = 8_000, seed: int = 3) -> np.ndarray:
    """TTFT behind a router over `count` such servers: the least of 4 · waiting + running, as vLLM's counts.

    Each server steps by itself; a prompt in a step counts as running.
    """
    rng = np.random.default_rng(seed)
    coming = np.cumsum(rng.exponential(1 / (count * server.rate), requests))
    waiting: list[list[int]] = [[] for _ in range(count)]
    running: list[list[int]] = [[] for _ in range(count)]
    steps, under_way = [0] * count, [[-1]] * count
    first = np.zeros(requests)
    events = [(when, -1, i) for i, when in enumerate(coming)]
    idle = set(range(count))

    def begin(k: int, now: float) -> None:
        started, waiting[k] = waiting[k][: server.together], waiting[k][server.together :]
        under_way[k] = started
        if not started and not running[k]:
            idle.add(k)
            return
        heapq.heappush(events, (now + server.prompt_s * len(started) + server.step_s, k, 0))

    for k in idle:
        under_way[k] = []
    while events:
        now, k, request = heapq.heappop(events)
        if k < 0:
            load = [4 * len(waiting[s]) + len(running[s]) + len(under_way[s]) for s in range(count)]
            k = int(np.argmin(load + 0.1 * rng.random(count)))
            waiting[k].append(request)
            if k in idle:
                idle.discard(k)
                begin(k, now)
            continue
        steps[k] += 1
        while running[k] and running[k][0] <= steps[k]:
            heapq.heappop(running[k])
        for request in under_way[k]:
            first[request] = now
            heapq.heappush(running[k], steps[k] + server.answer - 1)
        begin(k, now)
    return (first - coming)[requests // 10 : requests * 9 // 10]


def law(server: Server, count: int = 1) -> tuple[Queue, float]:
    """The queue of each of `count` servers by its closed form, and what a prompt's own step takes [s]."""
    step, extra = server.step_s, server.prompt_s
    pool: Any = SimpleNamespace(
        setting=SimpleNamespace(
            constants=SimpleNamespace(
                engine=Engine(mixes_prefill=float(server.mixes), max_step_tokens=100.0 * server.together)
            )
        ),
        servers=np.asarray(float(count)),
    )
    own = step + extra if server.mixes else extra
    mixed: Any = SimpleNamespace(
        prefill_work_s=extra + step / server.together if server.mixes else extra,
        prefill_slot_s=own,
        prefill_slot_extra_s=extra,
        prefill_extra_s=extra,
        mean_s=server.mean_step_s,
        plain_s=step,
    )
    workload = Workload(isl=100, osl=server.answer, rate=server.rate)
    return open_queue(pool, workload, mixed, count * server.rate), own


def percentile(queue: Queue, server: Server, own: float, at: float = 0.9) -> float:
    """The TTFT that a share `at` of the requests stays below [s]."""
    some = queue.wait_s + (server.mean_step_s - queue.phase_s) / 2
    return float(response_quantile_s(at, queue.waits, some, own, phase_s=queue.phase_s))


LOADS = (0.1, 0.3, 0.5, 0.7)
SERVERS = {
    "many short prompts a step": {"step_s": 0.018, "prompt_s": 0.028, "together": 14, "answer": 250},
    "four prompts a step": {"step_s": 0.011, "prompt_s": 0.045, "together": 4, "answer": 500},
    "two long prompts a step": {"step_s": 0.009, "prompt_s": 0.09, "together": 2, "answer": 1500},
    "one prompt a step": {"step_s": 0.008, "prompt_s": 0.3, "together": 1, "answer": 3000},
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("kind", SERVERS)
def test_mixed_steps_wait_as_simulated(kind: str, load: float) -> None:
    server = Server(load=load, **SERVERS[kind])
    found, tpot = simulate(server)
    queue, own = law(server)
    assert server.mean_step_s == pytest.approx(tpot, rel=0.05)
    assert float(queue.wait_s + server.mean_step_s / 2 + own) == pytest.approx(found.mean(), rel=0.08)
    late = percentile(queue, server, own)
    assert late == pytest.approx(np.quantile(found, 0.9), rel=0.2)


@pytest.mark.parametrize("load", [0.3, 0.5])
@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("kind", ["many short prompts a step", "two long prompts a step"])
def test_servers_behind_a_router_that_counts_requests_wait_as_simulated(
    kind: str, count: int, load: float
) -> None:
    """As if the first free of all servers took the prompt, the 90th percentile would be up to 45 % short."""
    server = Server(load=load, **SERVERS[kind] | {"answer": 250})
    found = simulate_pool(server, count)
    queue, own = law(server, count)
    assert float(queue.wait_s + server.mean_step_s / 2 + own) == pytest.approx(found.mean(), rel=0.15)
    late = percentile(queue, server, own)
    # Rather late than early: an exponential tail is too long where arrivals are more even than at random.
    assert 0.8 < late / np.quantile(found, 0.9) < 1.5


@pytest.mark.parametrize("load", [0.1, 0.3, 0.5])
def test_prompts_alone_wait_as_simulated(load: float) -> None:
    server = Server(step_s=0.008, prompt_s=0.3, together=1, answer=1000, load=load, mixes=False)
    found, _ = simulate(server)
    queue, own = law(server)
    assert float(queue.wait_s + queue.phase_s / 2 + own) == pytest.approx(found.mean(), rel=0.08)


def test_steps_that_hold_everyone_by_hand() -> None:
    """Steps last D = t + x·A, A the Poisson arrivals of the step before: E[D] and E[D²] are known.

    An arrival meets R = E[D²]/(2·E[D]) of a step, in which λ·2R others come that share its own.
    """
    step, extra, load = 0.02, 0.05, 0.4
    server = Server(step_s=step, prompt_s=extra, together=1_000_000, answer=100, load=load)
    mean = step / (1 - load)
    square = mean**2 + extra * load * mean / (1 - load**2)
    rest = square / (2 * mean)
    queue, own = law(server)
    by_hand = rest + 2 * rest * server.rate * extra + own
    assert float(queue.wait_s + mean / 2 + own) == pytest.approx(by_hand, rel=1e-5)


def test_wait_grows_with_the_load_and_diverges() -> None:
    loads = np.linspace(0.02, 0.95, 40)
    for kind in SERVERS.values():
        waits = [float(law(Server(load=load, **kind))[0].wait_s) for load in loads]
        shares = [float(law(Server(load=load, **kind))[0].waits) for load in loads]
        assert np.all(np.diff([w for w in waits if np.isfinite(w)]) > 0)
        assert np.all((np.asarray(shares) > 0) & (np.asarray(shares) <= 1))
        assert float(law(Server(load=0.999999, **kind))[0].wait_s) > 100 * waits[0]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_step_met_at_random_makes_the_percentile_of_a_server_with_little_to_do(kind: str) -> None:
    """Half a step for all would leave the 90th percentile below the mean, by up to an eighth too short."""
    server = Server(load=0.02, **SERVERS[kind])
    found, _ = simulate(server)
    queue, own = law(server)
    for at in (0.5, 0.9):
        assert percentile(queue, server, own, at) == pytest.approx(np.quantile(found, at), rel=0.015)
    assert percentile(queue, server, own) > float(queue.wait_s + server.mean_step_s / 2 + own)
