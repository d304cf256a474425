import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_callbacks import SetLearningRate, Stop
from yolo_callbacks.core.learning_rate import LearningRateState

factors = st.floats(1e-3, 1.0)


def state_of(*decisions):
    state = LearningRateState()
    for source, factor, min_lr in decisions:
        state = state.after(SetLearningRate("", 1, source, factor=factor, min_lr=min_lr))
    return state


def test_sources_multiply_and_each_replaces_its_own():
    state = state_of(("a", 0.5, 0.0), ("b", 0.1, 0.0), ("a", 0.25, 0.0))
    assert state.apply(1.0, 0.01) == pytest.approx(0.025)


def test_a_source_may_give_up_its_floor():
    assert state_of(("a", 0.5, 1e-4), ("a", 0.25, 0.0)).apply(1.0, 0.01) == pytest.approx(0.25)


def test_other_decisions_change_nothing():
    state = state_of(("a", 0.5, 0.0))
    assert state.after(Stop("", 1)) is state


@pytest.mark.parametrize(
    ("schedule", "factor", "min_lr", "expected"),
    [
        (1.0, 0.1, 1e-3, 0.1),  # lr 0.01 * 0.1 = 1e-3: just at the floor
        (1.0, 0.01, 1e-3, 0.1),  # the factor alone would go below it
        (0.05, 0.5, 1e-3, 0.1),  # even the schedule alone would be below it
        (1.0, 0.5, 0.0, 0.5),
    ],
)
def test_the_floor(schedule, factor, min_lr, expected):
    assert state_of(("a", factor, min_lr)).apply(schedule, 0.01) == pytest.approx(expected)


@given(st.floats(1e-4, 1.0), st.lists(factors, min_size=1, max_size=8), st.floats(1e-6, 1e-2), st.floats(1e-4, 0.1))
def test_reductions_never_go_below_the_floor_nor_above_what_it_needs(schedule, reductions, min_lr, initial_lr):
    state, product = LearningRateState(), 1.0
    for factor in reductions:
        product *= factor
        state = state.after(SetLearningRate("", 1, "plateau", factor=product, min_lr=min_lr))
    value = state.apply(schedule, initial_lr)
    assert value * initial_lr >= min_lr * (1 - 1e-12)
    assert value <= max(schedule, min_lr / initial_lr)


@given(st.permutations([("a", 0.5, 0.0), ("b", 0.3, 0.0), ("c", 0.2, 1e-9)]))
def test_the_order_of_sources_does_not_matter(decisions):
    assert math.isclose(state_of(*decisions).apply(1.0, 0.01), 0.03)
