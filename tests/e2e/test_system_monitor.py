"""SystemMonitor on the real trainer: a slow loader and a leak are told with the right figures, and nothing else is."""

import logging
import mmap
import re
import time

import pandas as pd
import pytest
from ultralytics import YOLO
from ultralytics.data.dataset import YOLODataset

import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL, Crash, crash_in, journal
from yolo_callbacks.support.log import LOGGER

SLOW = 0.2  # seconds that a picture takes to load; there are four in an epoch
SLOW_EPOCHS, LAST = 7, 27
LEAK = 2**20  # bytes per epoch
TIMES = {f"system/{name}" for name in ("data_wait", "data_seconds", "step_seconds", "images_per_second")}


class StopAfter(ycb.Callback):
    """Ends the run early: its plan stays a long one."""

    priority = ycb.Priority.DECIDE

    def decide(self, history):
        return ycb.Stop("enough", history.epoch) if history.epoch >= LAST else None


class Leak(ycb.Callback):
    """Keeps a megabyte of every epoch."""

    kept = []

    def on_train_epoch_end(self, trainer):
        super().on_train_epoch_end(trainer)
        self.kept.append(mmap.mmap(-1, LEAK))
        self.kept[-1].write(b"x" * LEAK)


class Lines(logging.Handler):
    """What SystemMonitor says."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        _, found, text = record.getMessage().partition("SystemMonitor: ")
        self.lines += [text] * bool(found)


@pytest.fixture
def lines():
    handler = Lines()
    LOGGER.addHandler(handler)
    yield handler.lines
    LOGGER.removeHandler(handler)


def test_a_slow_loader_and_a_leak_are_told_once_each_and_the_resumed_run_goes_on(shapes, tmp_path, monkeypatch, lines):
    slow, get = [True], YOLODataset.__getitem__

    def load(dataset, index):
        time.sleep(SLOW * bool(dataset.augment and slow[0]))
        return get(dataset, index)

    def speed_up(trainer):
        slow[0] = trainer.epoch < SLOW_EPOCHS

    def train(weights, epoch=None, **arguments):
        model = YOLO(weights, verbose=False)
        run = ycb.attach(model, [ycb.SystemMonitor(), ycb.CSVLogger(), Leak(), StopAfter()])
        model.add_callback("on_train_epoch_start", speed_up)
        if epoch is not None:
            model.add_callback("on_train_epoch_start", crash_in(epoch))
        model.train(**arguments)
        return run

    monkeypatch.setattr(YOLODataset, "__getitem__", load)
    settings = {**TINY, "data": str(shapes), "epochs": 200, "val": False, "project": str(tmp_path), "name": "run"}
    with pytest.raises(Crash):
        train(TINY_MODEL, 6, **settings)
    (told,) = lines
    share = re.fullmatch(
        r"epoch 4: (\d+) % of the training time went into waiting for data \((.*) of (.*) s per epoch\): cache=disk or "
        r"cache=ram, or a faster disk",
        told,
    )
    assert share, told
    table = pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")
    assert list(table["epoch"]) == [1, 2, 3, 4, 5]
    assert (table["system/data_seconds"] >= 4 * SLOW).all() and table["system/data_seconds"].median() < 4 * SLOW + 2
    assert (
        table["system/data_wait"]
        == table["system/data_seconds"] / (table["system/data_seconds"] + table["system/step_seconds"])
    ).all()
    waits = table["system/data_wait"][1:4]
    assert waits.min() - 0.006 <= int(share[1]) / 100 <= waits.max() + 0.006
    waited = table["system/data_seconds"][1:4]
    assert waited.min() - 0.06 <= float(share[2]) <= waited.max() + 0.06

    lines.clear()
    run = train(tmp_path / "run" / "weights" / "last.pt", resume=True)
    (told,) = lines
    growth = re.match(
        r"epoch (\d+): the memory of the training process grows by (\S+) MB per epoch \(99 % interval (\S+) to (\S+), "
        r"epochs 5 to \1\), \S+ GB by epoch 200 at this rate: something keeps data of every epoch",
        told,
    )
    assert growth, told
    assert float(growth[2]) == pytest.approx(LEAK / 2**20, rel=0.25)
    assert float(growth[3]) <= float(growth[2]) <= float(growth[4])
    history = run.history
    assert len(history) == LAST
    assert history["system/data_wait"][SLOW_EPOCHS + 1 :].median() < waits.min()
    assert (history["system/save_seconds"] > 0).all()
    assert "system/validation_seconds" not in history
    assert set(journal(tmp_path / "run").entries[0].record.metrics) >= TIMES
    rows = [text for name, text in run.report().rows() if name == "System"]
    assert [text[:9] for text in rows] == ["epoch 4: ", f"epoch {growth[1]}:"]


def test_an_ordinary_run_has_its_columns_and_is_told_nothing(shapes, tmp_path, lines):
    model = YOLO(TINY_MODEL, verbose=False)
    model.add_callback("on_pretrain_routine_start", lambda trainer: setattr(trainer.args, "workers", 1))
    run = ycb.attach(model, [ycb.SystemMonitor(), ycb.EarlyStopping("system/rss_gb", mode="min", patience=200)])
    settings = {**TINY, "batch": 2, "save": False}  # with one batch, Ultralytics uses no workers
    model.train(**settings, data=str(shapes), epochs=LAST, project=str(tmp_path), name="run")
    assert lines == []
    table = run.history.filter(like="system/")
    assert list(table.pop("system/save_seconds").dropna().index) == [LAST]  # Ultralytics saves the last epoch anyway
    memory = {"system/rss_gb", "system/workers_rss_gb", "system/disk_free_gb"}
    assert set(table) == {*TIMES, *memory, "system/validation_seconds"}  # none of a GPU
    assert table.notna().all(axis=None) and (table > 0).all(axis=None)
    spent = table["system/data_seconds"] + table["system/step_seconds"] + table["system/validation_seconds"]
    assert (spent < run.history["seconds"]).all()
    assert spent.sum() > 0.5 * run.history["seconds"].sum()
    speed = table["system/images_per_second"] * (table["system/data_seconds"] + table["system/step_seconds"])
    assert speed.to_list() == pytest.approx([4.0] * LAST)  # four pictures an epoch
    assert "System" not in dict(run.report().rows())
