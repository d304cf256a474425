"""Signals that take the machine away."""

import os
import signal
import subprocess
import threading

import pandas as pd
import pytest
from ultralytics import YOLO
from ultralytics.utils.patches import torch_load

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import TINY, TINY_MODEL
from yolo_callbacks.run_dir.manifest import read_manifest


def callbacks():
    return [ycb.CSVLogger(), ycb.PreemptionHandler(), ycb.BackupAndRestore()]


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def once(condition):
    """Return a callback that sends SIGTERM the first time that a condition on its argument holds."""
    sent = []

    def send(source):
        if not sent and condition(source):
            sent.append(1)
            kill()

    return send


MOMENTS = {
    "in an epoch": ("on_train_batch_start", lambda t: t.epoch == 2, 2, 2),
    "after the batches of an epoch": ("on_train_epoch_end", lambda t: t.epoch == 2, 2, 2),
    "in a validation": ("on_val_batch_start", lambda v: v.training and v.seen_epochs == 3, 2, 2),
    "between two epochs": ("on_fit_epoch_end", lambda t: t.epoch == 2, 3, 3),
    "before the first batch": ("on_train_start", lambda t: True, 0, 0),
    "in the first epoch": ("on_train_batch_start", lambda t: t.epoch == 0, 0, 0),
    "in the final evaluation": ("on_val_batch_start", lambda v: not v.training, 4, 4),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_saves_what_there_is_and_leaves(moment, train, tmp_path):
    event, condition, finished, epoch = MOMENTS[moment]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def register(model):
        model.add_callback("on_val_start", lambda v: setattr(v, "seen_epochs", getattr(v, "seen_epochs", 0) + 1))
        model.add_callback(event, once(condition))

    with pytest.raises(SystemExit) as left:
        train(callbacks(), before=register, epochs=4)
    assert left.value.code == 143
    assert {number: signal.getsignal(number) for number in before} == before
    run = tmp_path / "run"
    assert torch_load(run / "weights" / "preempted.pt", "cpu")["epoch"] == epoch - 1
    manifest = read_manifest(run / "callbacks" / "run.json")
    assert (manifest["status"], manifest["error"], manifest["epochs"]) == ("preempted", None, finished)
    assert manifest["stop"] == {"reason": "preempted", "message": "SIGTERM arrived", "epoch": finished}
    if not finished:
        with pytest.raises(FileNotFoundError, match=r"preempted\.pt is from the first epoch"):
            ycb.newest_checkpoint(run)
        return
    assert pd.read_csv(run / "callbacks" / "epochs.csv")["epoch"].tolist() == list(range(1, finished + 1))

    checkpoint = ycb.newest_checkpoint(run)
    assert checkpoint.name == "preempted.pt"
    model = YOLO(checkpoint)
    resumed = ycb.attach(model, callbacks())
    model.train(resume=True)
    assert resumed.history.index.tolist() == [1, 2, 3, 4]
    assert pd.read_csv(run / "results.csv")["epoch"].tolist() == [1, 2, 3, 4]
    assert sorted(path.name for path in (run / "weights").iterdir()) == ["best.pt", "last.pt"]
    assert read_manifest(run / "callbacks" / "run.json")["status"] == "finished"


def test_weights_from_the_middle_of_an_epoch_are_newer_than_the_last_checkpoint(train, tmp_path):
    with pytest.raises(SystemExit):
        train(callbacks(), before=lambda m: m.add_callback("on_train_batch_start", once(lambda t: t.epoch == 2)))
    weights = tmp_path / "run" / "weights"
    preempted, last = (torch_load(weights / name, "cpu") for name in ("preempted.pt", "last.pt"))
    assert preempted["updates"] == last["updates"] + 1


SLOW = """
import sys, time
from ultralytics import YOLO
import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL

def sleep(trainer):
    if trainer.epoch == 1:
        print("asleep", flush=True)
        time.sleep(60)

model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, [ycb.PreemptionHandler()])
model.add_callback("on_train_batch_start", sleep)
model.train(data=sys.argv[1], project=sys.argv[2], name="run", epochs=3, **TINY)
"""


def test_a_second_signal_ends_it_at_once(shapes, tmp_path):
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with programs.start(["-c", SLOW, shapes, tmp_path], **pipe) as program:
        while "asleep" not in program.stdout.readline():
            assert program.poll() is None
        program.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1)  # the batch is still to be finished
        program.terminate()
        assert program.wait(10) == -signal.SIGTERM
    assert not (tmp_path / "run" / "weights" / "preempted.pt").exists()


def test_the_signal_that_slurm_sends_has_its_own_code(train):
    with pytest.raises(SystemExit) as left:
        train(callbacks(), before=lambda m: m.add_callback("on_train_start", lambda t: kill(signal.SIGUSR1)))
    assert left.value.code == 128 + signal.SIGUSR1


def test_an_error_that_the_signal_caused_is_a_preemption_too(train, tmp_path):
    def lose_a_worker(trainer):
        if trainer.epoch == 2:
            kill()
            raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")

    with pytest.raises(SystemExit) as left:
        train(callbacks(), before=lambda m: m.add_callback("on_train_batch_start", lose_a_worker))
    assert left.value.code == 143
    assert read_manifest(tmp_path / "run" / "callbacks" / "run.json")["status"] == "preempted"
    assert torch_load(tmp_path / "run" / "weights" / "preempted.pt", "cpu")["epoch"] == 1


def test_handlers_are_put_back_after_every_end(train):
    mine = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        theirs = signal.getsignal(signal.SIGUSR1)
        seen = []
        train(
            callbacks(),
            before=lambda m: m.add_callback("on_train_epoch_start", lambda t: seen.append(signal.getsignal(10))),
            epochs=1,
        )
        assert signal.getsignal(signal.SIGUSR1) is theirs
        assert seen[0] is not theirs

        def fail(trainer):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            train(callbacks(), before=lambda m: m.add_callback("on_train_epoch_start", fail), epochs=1)
        assert signal.getsignal(signal.SIGUSR1) is theirs
    finally:
        signal.signal(signal.SIGUSR1, mine)


def test_nothing_is_installed_outside_the_main_thread(shapes, tmp_path):
    before, seen, failed = signal.getsignal(signal.SIGTERM), [], []

    def run():
        try:
            model = YOLO(TINY_MODEL, verbose=False)
            ycb.attach(model, callbacks())
            model.add_callback("on_train_epoch_start", lambda t: seen.append(signal.getsignal(signal.SIGTERM)))
            model.train(data=str(shapes), project=str(tmp_path), name="run", epochs=2, **TINY)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed
    assert seen == [before, before]
    assert pd.read_csv(tmp_path / "run" / "callbacks" / "epochs.csv")["epoch"].tolist() == [1, 2]
