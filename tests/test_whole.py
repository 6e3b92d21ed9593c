"""Whole numbers found by trying many at once, beside those found by trying every one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pdplan.search.workers.whole import AT_ONCE, TRIED, least_whole, most_whole

CASES = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 400), st.integers(0, 700)), min_size=1, max_size=12
)


@settings(max_examples=200)
@given(cases=CASES, copies=st.sampled_from([1, 100]))
def test_the_least_and_the_most_are_those_of_trying_every_number(cases, copies):
    """`high` counts as good though nothing says so; many cases leave few tries for each."""
    low, wide, turn = (np.tile(np.array(column, dtype=float), copies) for column in zip(*cases, strict=True))
    high = low + wide
    tried: list[int] = []

    def at_least(case: np.ndarray, n: np.ndarray) -> np.ndarray:
        tried.append(len(n))
        assert np.all((n >= low[case]) & (n < high[case]))
        return n >= turn[case]

    assert np.array_equal(least_whole(at_least, low, high), np.clip(turn, low, high))
    assert np.array_equal(most_whole(lambda case, n: n <= turn[case], high), np.minimum(turn, high))
    assert max(tried, default=0) <= max(AT_ONCE, 3 * len(low))


def test_a_hundred_million_numbers_take_few_calls():
    calls = 0
    answers = np.array([3.0, 1e5, 98_765_432.0])

    def good(case: np.ndarray, n: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return n >= answers[case]

    assert np.array_equal(least_whole(good, np.ones(3), np.full(3, 1e8)), answers)
    assert calls <= 2 + np.log(1e8) / np.log(TRIED) + 1
