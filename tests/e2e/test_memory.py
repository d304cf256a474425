"""After a training nothing of ours holds the trainer, the model or the optimizer: a k-fold loop must not fill a GPU."""

import gc
import weakref

import pytest
from ultralytics import YOLO

import yolo_callbacks as ycb
from tests import endurance
from tests.helpers import TINY, TINY_MODEL


class Keeper(ycb.Callback):
    """A user's callback that keeps all it was ever given."""

    def setup(self, session):
        model = session.run.model
        self.kept = [
            session,
            session.run,
            model,
            model.watch_gradients("Keeper", lambda step: None),
            model.watch_activations("Keeper", ["model.4"], lambda *_: None),
            model.watch_validation("Keeper", 1, lambda pictures: None),
        ]


class StopAfterOne(ycb.Callback):
    """Stops after the first epoch."""

    def decide(self, history):
        return ycb.Stop("enough", history.epoch) if history else None


def some():
    return [
        ycb.FreezeBackbone(1, lr_factor=0.5),
        ycb.LearningRateScheduler(lambda epoch, lr: lr * 0.5),
        ycb.ModelCheckpoint("kept"),
        Keeper(),
    ]


def everything():
    return [
        *some(),
        ycb.EarlyStopping(),
        ycb.ReduceLROnPlateau(),
        ycb.CSVLogger(),
        ycb.GradientMonitor(),
        ycb.ActivationMonitor(),
        ycb.SystemMonitor(),
        ycb.PerClassMetrics(),
        ycb.PlatformLogger(),
        ycb.PreemptionHandler(),
        ycb.BackupAndRestore(),
        ycb.TensorBoard(write_graph=False, histogram_freq=1, predictions_freq=1),
    ]


def fail(trainer):
    raise RuntimeError("mine")


def test_kept_attachments_hold_no_trainer(shapes, tmp_path):
    kept, alive = [], {}

    def train(name, callbacks, on_train_epoch_end=None, **arguments):
        model = YOLO(TINY_MODEL, verbose=False)
        kept.append((ycb.attach(model, callbacks), callbacks))
        if on_train_epoch_end is not None:
            model.add_callback("on_train_epoch_end", on_train_epoch_end)
        try:
            model.train(**TINY, data=str(shapes), project=str(tmp_path), name=name, **arguments)
        finally:
            alive[f"{name}: trainer"] = weakref.ref(model.trainer)
            for part in ("model", "ema", "optimizer", "scheduler", "validator", "train_loader"):
                alive[f"{name}: {part}"] = weakref.ref(getattr(model.trainer, part))

    train("finished", everything(), epochs=1)
    train("stopped", [*some(), StopAfterOne()], epochs=3, save=False)
    with pytest.raises(RuntimeError, match="mine"):
        train("failed", some(), fail, epochs=2)
    gc.collect()
    assert [what for what, reference in alive.items() if reference() is not None] == []
    assert [len(run.history) for run, _ in kept] == [1, 1, 0]


def test_nothing_grows_from_one_training_to_the_next(shapes, tmp_path):
    """`python -m tests.endurance` does this 300 times, with every callback; here a few show what grows each time."""
    bounds = dict.fromkeys(("files", "threads", "cached", "at exit"), 0.0)  # memory settles late
    found = list(endurance.trainings(tmp_path, shapes, 5, everything, epochs=1))
    assert endurance.growing(found, bounds)[1] == []


def test_what_grows_is_found():
    """Half of the trainings leave a file open, and each some memory: both are more than their bounds."""
    found = [
        dict.fromkeys(endurance.BOUNDS, 5) | {"files": 5 + i // 2, "memory (kB)": 50 * i + i % 3} for i in range(60)
    ]
    _, wrong = endurance.growing(found)
    assert [line.split(" grow")[0] for line in wrong] == ["memory (kB)", "files"]
