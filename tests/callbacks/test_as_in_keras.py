"""EarlyStopping and ReduceLROnPlateau beside Keras's own, over random curves: they agree to the epoch."""

import json
from itertools import compress

import pytest

from tests.callbacks import keras_answers
from tests.callbacks.keras_answers import FIRST_RATE, questions
from tests.helpers import record, stop_epoch
from yolo_callbacks import EarlyStopping, History, Plan, ReduceLROnPlateau
from yolo_callbacks.core.learning_rate import LearningRateState


@pytest.fixture(scope="module")
def table():
    return json.loads(keras_answers.TABLE.read_text(encoding="utf-8"))


def test_the_table_answers_these_questions(table):
    assert table["keras"].startswith("3.15.")
    assert (table["seed"], table["questions"]) == (keras_answers.SEED, keras_answers.checksum())


def test_early_stopping_stops_in_the_epoch_in_which_keras_does(table):
    asked, expected = questions("EarlyStopping"), table["EarlyStopping"]
    got = [stop_epoch(EarlyStopping(**settings), curve) or 0 for settings, curve in asked]
    wrong = [a != b for a, b in zip(got, expected, strict=True)]
    assert [*compress(zip(asked, got, expected), wrong)] == []
    baselines = [stop for (settings, _), stop in zip(asked, expected) if settings["baseline"] is not None]
    for stops in (expected, baselines):  # it could be wrong in both ways
        assert 90 < sum(map(bool, stops)) < len(stops) - 90


def test_reduce_lr_on_plateau_sets_the_rates_that_keras_sets(table):
    asked, expected = questions("ReduceLROnPlateau"), table["ReduceLROnPlateau"]
    got = [changes(ReduceLROnPlateau(**settings), curve) for settings, curve in asked]
    wrong = [a != b for a, b in zip(got, expected, strict=True)]
    assert [*compress(zip(asked, got, expected), wrong)] == []
    assert sum(len(answer) > 2 for answer in expected) > 500  # several reductions


def changes(callback, curve):
    """Return epoch, new rate, epoch, new rate, ... under a schedule of the trainer's that is as constant as Keras's."""
    history, state, rate, changes = History(Plan(planned_epochs=1000)), LearningRateState(), FIRST_RATE, []
    for epoch, value in enumerate(curve, 1):
        history.append(record(epoch, value, base_lr=FIRST_RATE, lr_factor=rate / FIRST_RATE))
        if (decision := callback.decide(history)) is not None:
            state = state.after(decision)
        if (now := state.apply(1.0, FIRST_RATE) * FIRST_RATE) != rate:
            rate = now
            changes += [epoch, rate]
    return changes
