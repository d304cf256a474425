import math
from functools import partial

import pytest

from tests.helpers import record
from yolo_callbacks import History, LearningRateScheduler, Plan
from yolo_callbacks.core.learning_rate import LearningRateState


def rates(schedule, base):
    """Return the rate that each epoch gets, for a trainer whose own schedule is `base`, one rate an epoch."""
    callback = LearningRateScheduler(schedule)
    history, state, seen = History(Plan(planned_epochs=len(base), base_lr=base[0])), LearningRateState(), []
    for epoch in range(1, len(base) + 1):
        decision = callback.decide(history)
        state = state.after(decision) if decision else state
        seen.append(state.apply(base[epoch - 1], 1.0))
        following = base[epoch] if epoch < len(base) else 0.0
        item = record(epoch, 0.5, planned=len(base), base_lr=base[epoch - 1], next_base_lr=following)
        history.append(item)
    return seen


def test_the_example_of_keras():
    def schedule(epoch, lr):
        return lr if epoch < 3 else lr * math.exp(-0.1)

    expected = [0.01] * 3 + [0.01 * math.exp(-0.1 * n) for n in range(1, 8)]
    assert rates(schedule, [0.01] * 10) == pytest.approx(expected)


def test_what_is_changed_once_stays_and_the_trainers_decay_goes_on():
    base = [0.01 * (1 - e / 20) for e in range(20)]
    changed = rates(lambda epoch, lr: lr * 0.1 if epoch == 5 else lr, base)
    assert changed == pytest.approx(base[:5] + [0.1 * lr for lr in base[5:]])


def test_a_rate_of_its_own_replaces_the_trainers_schedule():
    base = [0.01 * (1 - e / 20) for e in range(20)]
    assert rates(lambda epoch, lr: 0.002, base) == pytest.approx([0.002] * 20)


def test_zero_is_not_for_ever():
    assert rates(lambda epoch, lr: 0.0 if epoch == 1 else 0.01, [0.01] * 4) == pytest.approx([0.01, 0.0, 0.01, 0.01])


def test_a_list_with_one_rate_an_epoch_is_enough():
    assert rates(lambda epoch, lr: TABLE[epoch], [0.01] * 3) == pytest.approx(TABLE)


TABLE = [0.01, 0.005, 0.001]


class FromTable:
    def __call__(self, epoch):
        return TABLE[epoch]


@pytest.mark.parametrize(
    "schedule",
    [
        lambda epoch: TABLE[epoch],
        FromTable(),
        partial(lambda table, epoch: table[epoch], TABLE),
        dict(enumerate(TABLE)).__getitem__,  # written in C
        lambda epoch, *rates: TABLE[epoch] * len(rates),
        lambda epoch, lr=None: TABLE[epoch] if lr else None,
    ],
)
def test_one_argument_is_enough_as_in_keras(schedule):
    assert rates(schedule, [0.01] * 3) == pytest.approx(TABLE)


@pytest.mark.parametrize("schedule", [lambda: 0.1, lambda a, b, c: 0.1, lambda *, epoch: 0.1])
def test_a_function_that_takes_neither_one_nor_two(schedule):
    with pytest.raises(TypeError, match=r"must be a function schedule\(epoch, lr\) -> lr, or schedule\(epoch\) -> lr"):
        LearningRateScheduler(schedule)


def test_an_error_within_the_function_is_its_own():
    """Keras asks again with one argument, and tells of that."""
    with pytest.raises(TypeError, match="unsupported operand"):
        rates(lambda epoch, lr: lr * None, [0.01])


@pytest.mark.parametrize(
    ("returned", "error"),
    [(None, TypeError), ("0.1", TypeError), (True, TypeError), (-1.0, ValueError), (math.nan, ValueError)],
)
def test_a_bad_rate(returned, error):
    with pytest.raises(error, match=r"schedule\(epoch=0, lr\) returned"):
        rates(lambda epoch, lr: returned, [0.01])


def test_a_schedule_must_be_a_function():
    with pytest.raises(TypeError, match=r"schedule=0.1 must be a function schedule\(epoch, lr\) -> lr, .*, not float"):
        LearningRateScheduler(0.1)
