"""Intervals of shares and of their differences."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks.inspecting.interval import difference, wilson

shares = st.floats(0, 1)
numbers = st.integers(1, 100_000)


@given(shares, numbers)
def test_an_interval_holds_the_share_and_stays_in_range(share, number):
    low, high = wilson(share, number)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


@given(shares, numbers, shares, numbers)
def test_a_difference_is_antisymmetric_and_inside_its_interval(a, n, b, m):
    low, high = difference(a, n, b, m)
    assert low - 1e-12 <= b - a <= high + 1e-12
    assert difference(b, m, a, n) == pytest.approx((-high, -low))


def test_more_images_tell_more():
    assert difference(0.5, 128, 0.52, 128)[0] < 0 < difference(0.5, 100_000, 0.52, 100_000)[0]


def test_newcombes_table():
    """His example (a), 56/70 against 48/80: 0.0524 to 0.3339."""
    assert [round(limit, 4) for limit in difference(48 / 80, 80, 56 / 70, 70)] == [0.0524, 0.3339]
    low, high = wilson(0, 10)
    assert (low, math.isclose(high, 0.2775, abs_tol=1e-4)) == (0.0, True)
