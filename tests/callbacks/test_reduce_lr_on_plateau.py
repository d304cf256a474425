import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import SKIPPED, decisions_of, reductions
from yolo_callbacks import Plan, ReduceLROnPlateau, SetLearningRate


@pytest.mark.parametrize(
    ("values", "settings", "expected"),
    [
        ([0.1, 0.2, 0.3], {"patience": 1}, []),
        ([0.5] * 7, {"patience": 3, "factor": 0.5}, [(4, 0.5), (7, 0.25)]),
        ([0.5] * 9, {"patience": 2, "factor": 0.1, "cooldown": 3}, [(3, 0.1), (7, 0.01)]),
        ([0.5, SKIPPED, SKIPPED, 0.5, 0.5], {"patience": 2, "factor": 0.5}, [(4, 0.5)]),
        ([0.5, 0.50005, 0.5001], {"patience": 2, "factor": 0.5, "min_delta": 1e-3}, [(3, 0.5)]),
        ([0.5] * 6, {"patience": 2, "factor": 0.5, "start_from_epoch": 3}, [(6, 0.5)]),
        ([0.0] * 20, {"patience": 2}, []),  # has not begun to learn: a lower rate would not help
        ([0.0, 0.0, 0.5, 0.5, 0.5], {"patience": 2, "factor": 0.5}, [(5, 0.5)]),
    ],
)
def test_when_it_reduces(values, settings, expected):
    assert reductions(ReduceLROnPlateau(**settings), values) == [(e, pytest.approx(f)) for e, f in expected]


def keras_reductions(values, factor, patience, cooldown, min_delta):
    """The rule as Keras documents it, written down independently for comparison."""
    best, wait, resting, rate, events = -math.inf, 0, 0, 1.0, []
    for epoch, value in enumerate(values, 1):
        if resting > 0:
            resting, wait = resting - 1, 0
        if value > best + min_delta:
            best, wait = value, 0
        elif resting == 0:
            wait += 1
            if wait >= patience:
                rate, resting, wait = rate * factor, cooldown, 0
                events.append((epoch, rate))
    return events


@given(
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=60),
    st.floats(0.1, 0.9),
    st.integers(1, 6),
    st.integers(0, 5),
    st.floats(0, 0.1),
)
def test_it_counts_as_keras_does(values, factor, patience, cooldown, min_delta):
    callback = ReduceLROnPlateau(factor=factor, patience=patience, cooldown=cooldown, min_delta=min_delta)
    assert reductions(callback, values) == keras_reductions(values, factor, patience, cooldown, min_delta)


def test_no_reduction_once_the_rate_is_at_the_floor():
    callback = ReduceLROnPlateau(patience=1, factor=0.1, min_lr=1e-3)
    changes = reductions(callback, [0.5] * 6, base_lr=1e-3, lr_factor=1.0)
    assert changes == []
    assert len(reductions(callback, [0.5] * 6, base_lr=1e-2, lr_factor=1.0)) == 5


def test_the_final_rate_as_the_floor():
    callback = ReduceLROnPlateau(patience=1, min_lr="final")
    plan = Plan(planned_epochs=100, base_lr=0.01, final_lr=0.0001)
    (change,) = (d for d in decisions_of(callback, [0.5, 0.5], plan=plan, base_lr=0.01))
    assert isinstance(change, SetLearningRate)
    assert change.min_lr == 0.0001


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factor": 1.0}, ValueError, "factor=1.0 must be a finite number > 0 and < 1"),
        ({"factor": 2}, ValueError, "factor=2"),
        ({"patience": 0}, ValueError, "patience=0"),
        ({"cooldown": -1}, ValueError, "cooldown=-1 must be >= 0"),
        ({"min_lr": -1e-5}, ValueError, "min_lr=-1e-05"),
        ({"min_lr": "end"}, ValueError, "min_lr='end' must be a number >= 0 or 'final'"),
        ({"monitor": "val_los"}, ValueError, "did you mean 'val_loss'?"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        ReduceLROnPlateau(**arguments)
    assert message in str(caught.value)


def test_neither_the_warm_up_nor_the_epochs_after_mosaic_count():
    plan = Plan(planned_epochs=12, warmup_epochs=3.0, close_mosaic=4)
    assert reductions(ReduceLROnPlateau(patience=2, factor=0.5), [0.5] * 12, plan=plan) == [(5, 0.5), (7, 0.25)]
