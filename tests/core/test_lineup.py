"""Which callbacks go together, what they are called, and what run.json says of them."""

import pytest

from yolo_callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, ModelCheckpoint, UnknownMetricError
from yolo_callbacks.core.lineup import check_metrics, check_outputs, check_together, configuration, label


def test_a_second_one_of_a_class_is_numbered():
    first, second, third, other = EarlyStopping(), EarlyStopping(), EarlyStopping(), CSVLogger()
    labelled = label([first, other, second, third])
    assert labelled == {
        "EarlyStopping": first,
        "CSVLogger": other,
        "EarlyStopping-2": second,
        "EarlyStopping-3": third,
    }


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([CSVLogger(), CSVLogger()], r"CSVLogger and CSVLogger-2 would both write callbacks/epochs\.csv: give one"),
        ([CSVLogger("a.csv"), CSVLogger("A.csv")], r"would both write callbacks/A\.csv"),  # one file on Windows
        ([EarlyStopping(restore_best_weights=True)] * 2, "the same callback object is in the list twice"),
        (
            [EarlyStopping(restore_best_weights=True), EarlyStopping("val_loss", restore_best_weights=True)],
            "only one callback can restore its best weights",
        ),
    ],
)
def test_what_does_not_go_together(callbacks, message):
    with pytest.raises(ValueError, match=message):
        check_together(callbacks)


def test_what_goes_together():
    check_together([CSVLogger("a.csv"), CSVLogger("b.csv"), ModelCheckpoint(), BackupAndRestore()])


def test_files_that_ultralytics_writes():
    callbacks = label([ModelCheckpoint("epoch{epoch}")])
    check_outputs(callbacks)
    with pytest.raises(ValueError, match=r"ModelCheckpoint would write .*, and so does Ultralytics with save_period=2"):
        check_outputs(callbacks, save_period=2)
    check_outputs(label([ModelCheckpoint()]), save_period=2)


def test_a_metric_that_the_run_has_not_names_the_callback():
    callbacks = label([EarlyStopping(), EarlyStopping("val_loss")])
    check_metrics(callbacks, {"fitness": 0.0, "val/box_loss": 0.0}, losses_known=True)
    with pytest.raises(UnknownMetricError, match=r"^EarlyStopping-2: 'val_loss'"):
        check_metrics(callbacks, {"fitness": 0.0}, losses_known=True)
    check_metrics(callbacks, {"fitness": 0.0}, losses_known=False)
    with pytest.raises(UnknownMetricError, match=r"^EarlyStopping: there is none today$"):
        check_metrics(callbacks, {"fitness": 0.0}, True, lambda name: "there is none today")


class Odd(Callback):
    def __init__(self, function, nested, weights):
        self.function, self.nested, self.weights = function, nested, weights


def test_run_json_has_what_json_can_hold_and_of_a_function_its_name():
    odd = Odd(len, {1: (2, None, {"a": print})}, [True, 0.5, "x"])
    assert configuration({"it": odd}) == {
        "it": {
            "class": "Odd",
            "function": "<function len>",
            "nested": {"1": [2, None, {"a": "<function print>"}]},
            "weights": [True, 0.5, "x"],
        }
    }
