"""Fleets solved deployment by deployment at prices, beside the integer programme of all of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.market import Lot, Tariff
from pdplan.search.fleets.apart import cover, solve_apart
from pdplan.search.fleets.programme import Column, Option, Programme, Solution, solve


@settings(max_examples=60)
@given(data=st.data())
def test_a_cover_costs_what_trying_every_set_finds(data):
    """Up to four items, each as often as it takes."""
    count = data.draw(st.integers(1, 4))
    share = np.sort([data.draw(st.integers(4, 20)) / 20 for _ in range(count)])
    cost = np.array([float(data.draw(st.integers(1, 12))) for _ in range(count)])
    chosen, bound = cover(cost, share)
    most = math.ceil(1 / share[0])
    times = itertools.product(range(most + 1), repeat=count)
    least = min(float(cost @ n) for n in times if share @ n >= 1 - 1e-12)
    assert bound == pytest.approx(least)
    assert cost[chosen].sum() == pytest.approx(least)
    assert share[chosen].sum() >= 1 - 1e-9


def test_of_too_many_choices_the_bound_is_still_one(monkeypatch):
    """With three followed at once the choice may be dearer than the best, its bound may not."""
    rng = np.random.default_rng(5)
    share, cost = np.sort(rng.uniform(0.05, 0.4, 30)), np.zeros(30)
    cost[:] = share * rng.uniform(1.0, 1.1, 30)
    exact = cover(cost, share)[1]
    monkeypatch.setattr("pdplan.search.fleets.apart.MOST", 3)
    chosen, bound = cover(cost, share)
    assert bound <= exact * (1 + 1e-9)
    assert cost[chosen].sum() >= exact * (1 - 1e-9)


def a_programme(data: st.DataObject, stock: int) -> Programme:
    """Two to four deployments, each with a way of one role and one of two, on two kinds of accelerators.

    Workers serve a little more each the more of a kind there are, as pools do.
    """
    options, columns, kind = [], [], 0
    for deployment in range(data.draw(st.integers(2, 4))):
        rate = float(data.draw(st.integers(3, 30)))
        for roles in (("colocated",), ("prefill", "decode")):
            options.append(Option(deployment=deployment, roles=roles, rate=rate))
            for role, hardware in itertools.product(roles, "ab"):
                gpus, each = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.floats(0.5, 4.0))
                columns += [
                    Column(
                        option=len(options) - 1,
                        role=role,
                        kind=kind,
                        low=n,
                        high=n,
                        rate_each=each * gpus * (1 - 0.3 / n),
                        gpus_each=float(gpus),
                        hardware=hardware,
                    )
                    for n in range(1, 40 // gpus + 1)
                ]
                kind += 1
    return Programme(
        options=options,
        columns=columns,
        tariffs={
            "a": Tariff(lots=(Lot(usd_per_h=1.0, gpus=stock),), unit=data.draw(st.sampled_from([1, 4]))),
            "b": Tariff(lots=(Lot(usd_per_h=1.5, gpus=2.5 * stock), Lot(usd_per_h=2.5))),
        },
    )


def is_a_solution(programme: Programme, found: Solution) -> None:
    """Every deployment is served in one way, and what that costs is what it says."""
    used: dict[str, float] = {"a": 0.0, "b": 0.0}
    served: dict[tuple[int, str], float] = {}
    for k, n in found.counts.items():
        column = programme.columns[k]
        used[column.hardware] += n * column.gpus_each
        key = (column.option, column.role)
        served[key] = served.get(key, 0.0) + n * column.rate_each
    ways = {programme.options[option].deployment: option for option, _ in served}
    assert sorted(ways) == sorted({o.deployment for o in programme.options})
    for option in ways.values():
        for role in programme.options[option].roles:
            assert served[option, role] >= programme.options[option].rate * (1 - 1e-6)
    cost = 0.0
    for hardware, tariff in programme.tariffs.items():
        cost += float(tariff.cost_per_h(np.ceil(used[hardware] / tariff.unit) * tariff.unit))
    assert found.objective == pytest.approx(cost)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), scarce=st.booleans())
def test_bound_and_solution_bracket_the_optimum(data, scarce):
    programme = a_programme(data, stock=8 if scarce else 10_000)
    exact, apart = solve(programme, 20.0), solve_apart(programme)
    assert exact is not None
    if apart is None:  # the plans found did not fit the stock
        assert scarce
        return
    is_a_solution(programme, apart)
    assert apart.bound <= exact.objective * (1 + 1e-6)
    assert apart.bound <= apart.objective * (1 + 1e-9)
    single = all(tariff.unit == 1 for tariff in programme.tariffs.values())
    if apart.gap <= 1e-6 or (single and not scarce):  # said to be the optimum, or nothing shared is scarce
        assert apart.objective <= exact.objective * (1 + 1e-5)
