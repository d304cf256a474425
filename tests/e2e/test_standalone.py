"""Callbacks registered by one of their methods, and plain functions and subclasses beside ours."""

import pandas as pd
import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, constant
from yolo_callbacks.session.hook import Hook

ARGUMENTS = {**TINY, "name": "run"}


@pytest.mark.parametrize(
    "event", ["on_fit_epoch_end", "on_train_start", "on_train_epoch_end", "on_pretrain_routine_start"]
)
def test_one_method_is_enough(event, shapes, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    stopping = ycb.EarlyStopping(monitor=constant, mode="max", patience=3)
    model.add_callback(event, getattr(stopping, event))
    model.train(data=str(shapes), epochs=9, project=str(tmp_path), **ARGUMENTS)
    assert len(pd.read_csv(tmp_path / "run" / "results.csv")) == 4


def test_several_of_them_share_one_run(shapes, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    for callback in (
        ycb.CSVLogger(),
        ycb.EarlyStopping(monitor=constant, mode="max", patience=2),
        ycb.ModelCheckpoint(),
    ):
        model.add_callback("on_fit_epoch_end", callback.on_fit_epoch_end)
    model.train(data=str(shapes), epochs=9, project=str(tmp_path), **ARGUMENTS)
    frame = pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")
    assert frame["epoch"].tolist() == [1, 2, 3]
    assert frame["EarlyStopping/wait"].tolist() == [0, 1, 2]
    assert (tmp_path / "run" / "weights" / "best-fitness.pt").exists()


def test_a_standalone_callback_on_every_training_of_a_model(shapes, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    model.add_callback("on_fit_epoch_end", ycb.EarlyStopping(monitor=constant, mode="max", patience=2).on_fit_epoch_end)
    for name in ("one", "two"):
        model.train(data=str(shapes), epochs=9, project=str(tmp_path), **{**ARGUMENTS, "name": name})
        assert len(pd.read_csv(tmp_path / name / "results.csv")) == 3


class Recorder(ycb.Callback):
    """Writes down every event that it gets."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer):
        self.seen.append("start")

    def on_train_batch_end(self, trainer):
        self.seen.append("batch")

    def on_val_end(self, validator):
        self.seen.append("val" if validator.training else "final val")

    def on_fit_epoch_end(self, trainer):
        self.seen.append(f"fit {trainer.epoch}")

    def on_train_end(self, trainer):
        self.seen.append("end")

    def teardown(self, trainer):
        self.seen.append("teardown")

    def act(self, session):
        self.seen.append(f"act {session.history.epoch}")


def test_a_subclass_gets_its_events_but_not_the_final_evaluations(train):
    recorder = Recorder()
    train([recorder], epochs=2)
    epoch = ["batch", "val"]
    assert recorder.seen == [
        "start",
        *epoch,
        "act 1",
        "fit 0",
        *epoch,
        "act 2",
        "fit 1",
        "final val",
        "end",
        "teardown",
    ]


class StopsAfterTwo(ycb.Callback):
    """Its own method calls no `super()`."""

    def on_train_epoch_end(self, trainer):
        pass

    def decide(self, history):
        return ycb.Stop("two are enough") if history.epoch == 2 else None


def test_a_method_of_its_own_enlists_a_subclass(shapes, tmp_path):
    model = YOLO(TINY_MODEL, verbose=False)
    model.add_callback("on_train_epoch_end", StopsAfterTwo().on_train_epoch_end)
    model.train(data=str(shapes), epochs=9, project=str(tmp_path), **ARGUMENTS)
    assert len(pd.read_csv(tmp_path / "run" / "results.csv")) == 2


class Delegates(ycb.Callback):
    """Passes an event on to a callback that takes no part itself."""

    def __init__(self):
        self.inner = StopsAfterTwo()
        self.passed_on = []

    def on_train_epoch_end(self, trainer):
        self.passed_on.append(trainer.epoch + 1)
        self.inner.on_train_epoch_end(trainer)


def test_a_method_that_another_callback_calls_enlists_nobody(train):
    callback = Delegates()
    run = train([callback], epochs=3)
    assert callback.passed_on == [1, 2, 3]
    assert run.decisions == []


class CallsSuper(ycb.Callback):
    def __init__(self):
        self.epochs = []

    def on_fit_epoch_end(self, trainer):
        super().on_fit_epoch_end(trainer)
        self.epochs.append(trainer.epoch + 1)

    def act(self, session):
        self.epochs.append(f"act {session.history.epoch}")


def test_a_subclass_that_calls_super_is_not_called_twice(shapes, tmp_path):
    model, callback = YOLO(TINY_MODEL, verbose=False), CallsSuper()
    model.add_callback("on_fit_epoch_end", callback.on_fit_epoch_end)
    model.train(data=str(shapes), epochs=2, project=str(tmp_path), **ARGUMENTS)
    assert callback.epochs == [1, "act 1", 2, "act 2", 3]  # registered with Ultralytics itself: it gets all events


def test_batch_events_are_only_registered_for_those_who_ask(train):
    train([ycb.CSVLogger(), ycb.EarlyStopping()], epochs=1)
    assert train.model.callbacks["on_train_batch_end"] == [
        f for f in train.model.callbacks["on_train_batch_end"] if not isinstance(f, Hook)
    ]


def test_the_users_own_functions_are_left_alone(train):
    calls = []

    def mine(trainer):
        calls.append(trainer.epoch)

    def before(model):
        model.add_callback("on_train_epoch_end", mine)

    train([ycb.CSVLogger()], before=before, epochs=2)
    ycb.detach(train.model)
    assert calls == [0, 1]
    assert mine in train.model.callbacks["on_train_epoch_end"]
