"""What callbacks measure becomes part of an epoch's record, once."""

from types import SimpleNamespace

import numpy as np
import pytest

from yolo_callbacks import Callback, EarlyStopping, History, Priority, UnknownMetricError
from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.session.measuring import Measuring
from yolo_callbacks.session.steps import Steps

CLASSES = Classes(("car", "ghost"), ("recall", "mAP50-95"), "mAP50-95")


class Run:
    """A run of two classes, of which the second does not occur."""

    def __init__(self):
        self.epoch, self.classes, self.measures_more, self.validations = 1, CLASSES, False, 0

    def metric_names(self):
        return {"fitness": 0.0, "val/box_loss": 0.0}, True

    def measure_names(self):
        return ("seconds",)

    def class_results(self):
        self.validations += 1
        columns = {"recall": [0.5, None], "mAP50-95": [0.25, None]}
        return ClassResults(CLASSES, columns, [3, 0])

    def record(self, learning_rate, measured, *, complete):
        return SimpleNamespace(measured=measured, complete=complete)


class Measures(Callback):
    """Measures what it is given."""

    priority = Priority.MEASURE
    critical = False

    def __init__(self, numbers):
        self.numbers, self.calls = numbers, 0

    def measures(self, session):
        return tuple(self.numbers)

    def measure(self, session):
        self.calls += 1
        return self.numbers


class Critical(Measures):
    critical = True


def measuring(*callbacks):
    run, labelled = Run(), {f"{type(c).__name__}-{number}": c for number, c in enumerate(callbacks)}
    return Measuring(run, Steps(None, labelled)), run


def measured(one):
    return one.record(LearningRateState()).measured


def test_each_epoch_is_measured_once():
    """It is announced before its checkpoint is written, and completed after that."""
    callback = Measures({"mine/a": 1.0})
    one, run = measuring(callback)
    assert one.record(LearningRateState(), complete=False).measured == measured(one) == {"mine/a": 1.0}
    assert callback.calls == 1
    run.epoch = 2
    measured(one)
    assert callback.calls == 2


class SavesSlowly(Measures):
    """Knows how long a checkpoint takes when it is saved."""

    def measure_after_save(self, session):
        return {"mine/late": len(self.numbers)}


def test_what_is_known_after_saving_is_missing_in_what_is_announced_before():
    one, _ = measuring(SavesSlowly({"mine/a": 1.0}))
    assert one.record(LearningRateState(), complete=False).measured == {"mine/a": 1.0}
    assert measured(one) == {"mine/a": 1.0, "mine/late": 1.0}


def test_an_error_after_saving_is_logged_and_costs_no_other_number(said):
    broken = SavesSlowly({"mine/a": 1.0})
    broken.measure_after_save = lambda session: {"mine/late": "much"}
    one, _ = measuring(broken, SavesSlowly({}))
    assert measured(one) == {"mine/a": 1.0, "mine/late": 0.0}
    assert "SavesSlowly-0.measure_after_save failed" in said.warnings[0]


def test_numbers_of_any_kind_become_pythons():
    one, _ = measuring(Measures({"a/a": np.float32(0.5), "a/b": True}), Measures({"b/a": np.int64(3)}))
    assert measured(one) == {"a/a": 0.5, "a/b": 1.0, "b/a": 3.0}
    assert {type(value) for value in measured(one).values()} == {float}


def test_what_is_no_number_is_logged_and_raises_from_a_critical_callback(said):
    one, _ = measuring(Measures({"a/a": "much"}), Measures({"b/a": 1.0}))
    assert measured(one) == {"b/a": 1.0}
    assert "Measures-0.measure failed" in said.warnings[0]
    assert "Measures-0.measure()['a/a'] is 'much', but it must be a number" in said.warnings[0]
    one, _ = measuring(Critical({"a/a": "much"}))
    with pytest.raises(TypeError, match="is 'much'"):
        measured(one)


def test_classes_are_measured_where_somebody_asks_for_them(said):
    one, run = measuring(EarlyStopping("recall/car"), Measures({"mine/a": 1.0}))
    assert one.names == ("mine/a", "recall/car")
    assert measured(one) == {"mine/a": 1.0, "recall/car": 0.5}
    nobody, run = measuring(EarlyStopping())
    assert measured(nobody) == {}
    assert run.validations == 0


def test_a_class_that_does_not_occur_is_told_once(said):
    one, run = measuring(EarlyStopping("recall/ghost"), EarlyStopping("worst_class"))
    for epoch in (1, 2):
        run.epoch = epoch
        assert measured(one) == {"worst_class": 0.25}
    assert said.warnings == ["recall/ghost cannot be measured: no such class occurs in the validation set"]


def test_all_numbers_are_known_by_name_before_the_first_epoch():
    one, _ = measuring(EarlyStopping("recall/car", patience=3), Measures({"mine/a": 1.0}))
    names = one.number_names(History())
    assert names[:4] == ("fitness", "val/box_loss", "mine/a", "recall/car")
    assert names[4:6] == ("lr_factor", "seconds")
    assert "EarlyStopping-0/wait" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("recall/cat", "EarlyStopping-0: 'recall/cat': this run has no class 'cat'.*did you mean 'car'"),
        ("top1", "EarlyStopping-0: 'top1' is not a metric of this run"),
        ("mine/b", "EarlyStopping-0: 'mine/b' is not a metric of this run"),
    ],
)
def test_what_will_not_be_there_fails_before_the_first_epoch(monitor, message):
    one, _ = measuring(EarlyStopping(monitor, mode="max"), Measures({"mine/a": 1.0}))
    with pytest.raises(UnknownMetricError, match=message):
        one.check()


def test_what_callbacks_measure_can_be_watched():
    one, _ = measuring(EarlyStopping("mine/a", mode="max"), EarlyStopping("recall/car"), Measures({"mine/a": 1.0}))
    one.check()
