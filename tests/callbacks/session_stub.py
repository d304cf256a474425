"""What a reporter sees of a run, without a training: for what a real one would take too long to show.

Session, ledger, run and files are the real ones. The trainer below them is a stand-in, and
tests/e2e/test_main_path.py proves that a real one has all that this one has.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from ultralytics.cfg import get_cfg
from ultralytics.engine.trainer import BaseTrainer

from tests.helpers import record
from yolo_callbacks import Plan
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.core.ledger import Ledger
from yolo_callbacks.session import session as session_module
from yolo_callbacks.session.ending import Ending
from yolo_callbacks.session.resuming import known_checkpoints
from yolo_callbacks.session.run_files import RunFiles
from yolo_callbacks.session.session import Session


def stand_in_trainer(folder, planned, resumed=False):
    """Return what there is of a trainer before its first epoch, as far as reporters look."""
    arguments = {"model": "/home/somebody/yolo26n.pt", "data": "/data/of/somebody/coco8.yaml", "epochs": planned}
    return SimpleNamespace(
        args=get_cfg(overrides=arguments),
        save_dir=folder,
        device=torch.device("cpu"),
        world_size=0,
        epochs=planned,
        start_epoch=int(resumed),
        resume=resumed,
        callbacks=defaultdict(list),
        metrics={"metrics/mAP50-95(B)": 0.0},
        loss_names=("box_loss",),
        loss_items={"box_loss": 1.0},
        optimizer=SimpleNamespace(param_groups=[{"lr": 0.01, "initial_lr": 0.01}]),
        train_loader=Loader(["the only batch"]),
        stop=False,
        validate=BaseTrainer.validate,
        validator=None,
    )


class Loader(list):
    """One batch of 100 pictures."""

    dataset = range(100)


class SessionStub(Session):
    """Epochs are added by hand; an error of a reporter comes out."""

    def __init__(self, *callbacks, folder=None, planned=10, resumed=False):
        if folder is None:
            temporary = tempfile.TemporaryDirectory()
            weakref.finalize(self, temporary.cleanup)
            folder = Path(temporary.name) / "runs" / "detect" / "train"
        (folder / "callbacks").mkdir(parents=True, exist_ok=True)
        trainer = stand_in_trainer(folder, planned, resumed)
        super().__init__(trainer)
        vars(trainer)[session_module._SLOT] = self
        self.join(callbacks)
        self.ledger = Ledger(self._callbacks, Plan(planned_epochs=planned))
        self.files = RunFiles(self.run, known_checkpoints(self.run))
        self._main = SimpleNamespace(ending=Ending(self.run, self.files, self.ledger, self._steps))
        self.opened = True

    def begin(self):
        for callback in self.callbacks.values():
            callback.setup(self)

    def epoch(self, value, decisions=(), counters=None, **fields):
        number = self.history.epoch + 1
        self.run.trainer.epoch = number - 1
        self.history.append(record(number, value, planned=self.run.planned_epochs, **fields))
        self.ledger.note(decisions)
        self.entries.append(Entry(self.history[-1], tuple(decisions), counters))
        for callback in self.callbacks.values():
            callback.act(self)

    def end(self, error=None, stop=None):
        self._main.ending._late_stop = stop
        for step in ("close", "deliver"):
            for callback in self.callbacks.values():
                getattr(callback, step)(self, error)
        self.files.wait()
