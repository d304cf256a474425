"""A steady growth is found and measured; steps, starts and noise are none."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_callbacks.core.trend import SHORTEST, steady_growth

LENGTH = 32
SEEDS = st.integers(0, 10_000)
few = settings(max_examples=25)


def noise(seed, size, length=LENGTH):
    source = random.Random(seed)
    return [source.gauss(0, size) for _ in range(length)]


def found(values):
    return steady_growth(range(len(values)), values)


@few
@given(
    seed=SEEDS,
    slope=st.floats(1e-4, 1e4),
    start=st.floats(0, 1e6),
    length=st.integers(SHORTEST, 60),
    size=st.floats(0, 0.5),
)
def test_a_growth_larger_than_its_noise_is_found_with_its_slope(seed, slope, start, length, size):
    trend = found([start + slope * (step + d) for step, d in enumerate(noise(seed, size, length))])
    assert 0 < trend.low <= trend.slope <= trend.high
    assert trend.slope == pytest.approx(slope, rel=0.2)


@few
@given(seed=SEEDS, factor=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_change_nothing(seed, factor, shift):
    values = [step + d for step, d in enumerate(noise(seed, 0.3))]
    one, other = found(values), found([factor * value + shift for value in values])
    for name in ("slope", "low", "high"):
        assert getattr(other, name) == pytest.approx(factor * getattr(one, name), rel=1e-6)


@few
@given(seed=SEEDS)
def test_what_falls_does_not_grow(seed):
    assert found([-step + d for step, d in enumerate(noise(seed, 0.3))]) is None


@few
@given(where=st.integers(8, LENGTH - 8), height=st.floats(1, 1e6), seed=SEEDS)
def test_one_step_is_no_growth_from_epoch_to_epoch(where, height, seed):
    assert found([height * (step >= where) + d for step, d in enumerate(noise(seed, 0.01))]) is None


@few
@given(half_life=st.floats(0.1, 7.0), height=st.floats(0.1, 1e6))
def test_a_start_that_levels_off_is_none(half_life, height):
    assert found([height * (1 - math.exp2(-step / half_life)) for step in range(LENGTH)]) is None


@few
@given(st.floats(-1e9, 1e9), st.integers(0, 60))
def test_what_stays_the_same_does_not_grow(value, length):
    assert found([value] * length) is None


@few
@given(period=st.integers(2, 8), height=st.floats(0.1, 1e3))
def test_what_comes_and_goes_does_not_grow(period, height):
    assert found([height * (step % period) for step in range(LENGTH)]) is None


@few
@given(seed=SEEDS, outliers=st.sets(st.integers(0, LENGTH - 1), max_size=3))
def test_a_few_outliers_do_not_move_the_slope(seed, outliers):
    values = [step + d + 1000 * (step in outliers) for step, d in enumerate(noise(seed, 0.1))]
    trend = found(values)
    assert trend is None or trend.slope == pytest.approx(1.0, rel=0.3)


def test_steps_may_be_missing():
    steps = [step for step in range(60) if step % 3]
    assert steady_growth(steps, [2.0 * step for step in steps]).slope == pytest.approx(2.0)


def test_too_few_values_say_nothing():
    assert found(list(range(SHORTEST))) is not None
    assert found(list(range(SHORTEST - 1))) is None


def test_noise_alone_is_hardly_ever_growth():
    assert sum(found(noise(seed, 1.0)) is not None for seed in range(200)) <= 4
