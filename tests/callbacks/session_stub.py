"""What a reporter sees of a run, without a trainer: for what a real training would take too long to show."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.helpers import record
from yolo_callbacks import History, Plan
from yolo_callbacks.core.journal import Entry


class SessionStub:
    """Epochs are added by hand; notes are kept as run.json keeps them."""

    def __init__(self, *callbacks, folder=Path("runs/detect/train"), planned=10, notes=None, resumed=False):
        self.id = "f00d"
        self.notes = {} if notes is None else notes
        self.noted = 0
        self.history = History(Plan(planned_epochs=planned))
        self.entries = []
        self.stop_decision = self.finish_decision = None
        self.number_names = ("fitness", "metrics/mAP50-95(B)", "val/box_loss", "lr_factor", "seconds")
        names = [type(callback).__name__ for callback in callbacks]
        labels = [name if names.index(name) == i else f"{name}-{i + 1}" for i, name in enumerate(names)]
        self.callbacks = dict(zip(labels, callbacks))
        self.files = SimpleNamespace(remember=self._remember, remembered=lambda name: dict(self.notes.get(name, {})))
        self.run = SimpleNamespace(
            save_dir=folder,
            callbacks_dir=folder / "callbacks",
            resumed=resumed,
            planned_epochs=planned,
            metric_names=lambda: ({}, True),
            describe=lambda: {
                "task": "detect",
                "model": "/home/somebody/yolo26n.pt",
                "data": "/data/of/somebody/coco8.yaml",
                "device": "cpu",
                "processes": 1,
                "versions": {"python": "3"},
            },
        )

    def _remember(self, name, **note):
        self.noted += 1
        self.notes[name] = note

    def begin(self):
        for callback in self.callbacks.values():
            callback.setup(self)

    def epoch(self, value, decisions=(), counters=None, **fields):
        number = self.history.epoch + 1
        self.history.append(record(number, value, planned=self.run.planned_epochs, **fields))
        self.entries = [Entry(self.history[-1], tuple(decisions), counters)]
        for callback in self.callbacks.values():
            callback.act(self)

    def end(self, error=None, stop=None):
        self.stop_decision = stop
        for step in ("close", "deliver"):
            for callback in self.callbacks.values():
                getattr(callback, step)(self, error)
