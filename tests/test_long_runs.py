"""Thousands of epochs through the reporters that keep something, without a trainer: what do they hold on to?

RemoteMonitor's are in tests/callbacks/test_remote_monitor.py, PerClassMetrics' table in
tests/run_dir/test_class_log.py.
"""

import gc
import os
import tracemalloc

import pytest

from tests.callbacks.session_stub import SessionStub
from tests.receiver import free_port
from yolo_callbacks import Callback, CSVLogger, Notify, TensorBoard
from yolo_callbacks.callbacks import notify as notify_module
from yolo_callbacks.support.background import Background

EPOCHS = int(os.environ.get("YOLO_CB_LONG_RUN", "2000"))  # `make soak` takes 10,000
WARM = EPOCHS // 2
CONSTANT = 60 * (EPOCHS - WARM)  # bytes: queues, pools and caches that are as large at any length


class Measured(Callback):
    """Measures something, as a GradientMonitor does."""

    def measures(self, session):
        return ("gradients/norm",)


class LongRun(SessionStub):
    """Sends the events of a batch as well."""

    def __init__(self, *callbacks, folder):
        super().__init__(*callbacks, Measured(), folder=folder, planned=EPOCHS)
        self.worker = Background("views", share=0.5)
        self.files.background = lambda name: self.worker

    def epoch(self, value):
        self.run.trainer.epoch = self.history.epoch
        for event in ("on_train_epoch_start", "on_train_batch_end"):
            for callback in self.callbacks.values():
                getattr(callback, event)(self.run.trainer)
        super().epoch(value, counters={"EarlyStopping/wait": 1.0}, measures={"gradients/norm": value})
        if self.run.epoch % 250 == 0:  # no real epoch is faster than the writing of its numbers
            assert self.worker.wait(60)


def growth(session):
    """Return how many bytes the second half of a run leaves in memory."""
    session.begin()
    try:
        for epoch in range(WARM):
            session.epoch(0.3 + epoch / EPOCHS)
        assert session.worker.wait(60)
        gc.collect()
        tracemalloc.start()
        for epoch in range(WARM, EPOCHS):
            session.epoch(0.3 + epoch / EPOCHS)
        assert session.worker.wait(60)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        session.end(KeyboardInterrupt())
        session.worker.close(60)


@pytest.fixture(scope="module")
def journals_own(tmp_path_factory):
    """What the epochs themselves take."""
    return growth(LongRun(folder=tmp_path_factory.mktemp("bare")))


def test_the_epochs_themselves_are_what_there_is_to_keep(journals_own):
    assert 200 * (EPOCHS - WARM) < journals_own < 2_000 * (EPOCHS - WARM)


@pytest.mark.parametrize("which", ["Notify", "TensorBoard"])
def test_a_reporter_keeps_nothing_of_an_epoch(which, tmp_path, journals_own, monkeypatch):
    if which == "Notify":  # every epoch is a new best
        monkeypatch.setattr(notify_module, "HURRY", 0.0)
        reporter = Notify(f"json://127.0.0.1:{free_port()}/t0ken", min_interval_minutes=0, with_picture=False)
    else:
        reporter = TensorBoard(log_dir=tmp_path / "board", write_graph=False, update_freq="batch")
    run = LongRun(reporter, folder=tmp_path / "run")
    assert growth(run) < journals_own + CONSTANT
    assert len(run.entries) == EPOCHS


def test_the_table_keeps_a_row_an_epoch_and_no_more(tmp_path, journals_own):
    run = LongRun(CSVLogger(), folder=tmp_path)
    assert growth(run) < 2 * journals_own
    lines = (tmp_path / "callbacks" / "epochs.csv").read_text().splitlines()
    assert len(lines) == EPOCHS + 1
    assert lines[-1].startswith(f"{EPOCHS},")
