"""Roots of many functions at once, against roots that are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan.laws.roofline import Array
from pdplan.roots import increasing_root


def kinked(kink: Array, steep: Array, flat: Array) -> tuple[object, Array]:
    """A steep line that turns flat at a kink where it is 1, and its root: 1/steep before the kink."""

    def function(x: Array) -> Array:
        return 1.0 + np.where(x < kink, steep, flat) * (x - kink)

    return function, kink - 1.0 / steep


@pytest.mark.parametrize("count", [1, 15, 300])
def test_a_kink_is_no_hindrance(count):
    """A pipeline's TPOT turns flat where its stages fill: the root lies just before that."""
    random = np.random.default_rng(count)
    kink = random.uniform(2.0, 90.0, count)
    function, root = kinked(kink, random.uniform(1.0, 50.0, count), random.uniform(1e-3, 0.1, count))
    calls = []

    def counted(x: Array) -> Array:
        calls.append(np.shape(x))
        return function(x)

    found = increasing_root(counted, np.zeros(count), np.full(count, 1e4))
    assert found == pytest.approx(root, rel=1e-9)
    assert len(calls) <= 25


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=40), st.floats(0.2, 4.0))
def test_company_changes_no_root(shares, power):
    """x^p = c alone and among others; c^(1/p) by hand."""
    c = np.array(shares)

    def roots(of: Array) -> Array:
        return increasing_root(lambda x: x**power - of, np.zeros(len(of)), np.ones(len(of)))

    together = roots(c)
    assert together == pytest.approx(c ** (1 / power), rel=1e-7, abs=1e-12)
    assert [roots(c[k : k + 1])[0] for k in range(len(c))] == pytest.approx(together, rel=1e-8, abs=1e-12)


def test_what_never_crosses_ends_where_it_comes_nearest():
    low, high = np.array([1.0, 1.0, 1.0]), np.array([2.0, 2.0, 2.0])
    assert increasing_root(lambda x: x - np.array([0.5, 3.0, 1.5]), low, high).tolist() == [1.0, 2.0, 1.5]


def test_known_ends_are_not_asked_for_again():
    calls = []

    def line(x: Array) -> Array:
        calls.append(x)
        return 3.0 * x - 6.0

    ends = (np.array([-6.0]), np.array([9.0]))
    assert increasing_root(line, np.zeros(1), np.full(1, 5.0), ends=ends) == pytest.approx(2.0)
    assert all(np.all((x > 0.0) & (x < 5.0)) for x in calls)
    assert len(calls) <= 2
