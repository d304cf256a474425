"""A training that really stands still: it is noticed, told, and if asked ended and resumed."""

import json
import threading
import time

import pytest
from ultralytics import YOLO
from ultralytics.data.base import BaseDataset

import yolo_callbacks as ycb
from tests import programs
from tests.helpers import run_json
from tests.receiver import Receiver

FOUR = {"batch": 1, "nbs": 1, "epochs": 3}
"""Four batches per epoch: the wait between two of them is what counts."""


class Sleeper:
    """Lets the data set sleep once, in the third picture of an epoch."""

    def __init__(self, monkeypatch, seconds):
        self.due, self._read = False, BaseDataset.__getitem__
        sleeper = self

        def sleepy_getitem(dataset, index):
            if sleeper.due and dataset.augment:
                sleeper.due = False
                time.sleep(seconds)
            return sleeper._read(dataset, index)

        monkeypatch.setattr(BaseDataset, "__getitem__", sleepy_getitem)

    def in_epoch(self, epoch):
        """Return a function for on_train_batch_end that lets it sleep before the third batch of an epoch."""
        ended = []

        def arm(trainer):
            ended.append(trainer.epoch + 1)
            self.due = ended.count(epoch) == 2 and ended[-1] == epoch

        return arm


class Poller(threading.Thread):
    """Reads the heartbeat as a GUI does."""

    def __init__(self, file):
        super().__init__(daemon=True)
        self.file, self.seen, self.over = file, [], threading.Event()

    def run(self):
        while not self.over.wait(0.05):
            if self.file.exists():
                self.seen.append(json.loads(self.file.read_text()))


def test_a_data_loader_that_blocks_is_noticed_and_a_long_validation_is_not(train, tmp_path, monkeypatch, said):
    sleeper, poller = Sleeper(monkeypatch, 4.0), Poller(tmp_path / "run" / "callbacks" / "heartbeat.json")
    validated = []

    def register(model):
        model.add_callback("on_train_batch_end", sleeper.in_epoch(2))
        model.add_callback("on_val_start", lambda _: validated.append(time.sleep(2.4) if not validated else 0))

    poller.start()
    with Receiver() as people:
        notify = ycb.Notify(f"json://127.0.0.1:{people.port}/t0ken", title="{event}")
        watchdog = ycb.Watchdog(2.0, slow_seconds=90, heartbeat_seconds=0.2)
        run = train([notify, watchdog], before=register, **FOUR)
        told = [(item["title"], item["message"]) for item in (request.json for request in people.requests)]
    poller.over.set()
    poller.join()
    assert len(run.history) == 3

    stalls = [item for item in told if item[0] in ("stall", "went on")]
    assert [title for title, _ in stalls] == ["stall", "went on"]
    assert stalls[0][1].startswith("epoch 2 of 3, batch 3 of 4: no batch has ended for 2.")
    assert "; it is in sleepy_getitem (e2e/test_watchdog.py:" in stalls[0][1]
    assert stalls[0][1].endswith(", waiting for data; stacks: callbacks/stall-1.txt")
    assert stalls[1][1].startswith("epoch 2 of 3, ")
    assert "went on after 4" in stalls[1][1]
    assert said.warnings == [f"Watchdog: {stalls[0][1]}"]

    folder = run.save_dir / "callbacks"
    assert [path.name for path in sorted(folder.glob("stall*"))] == ["stall-1.txt"]
    stacks = (folder / "stall-1.txt").read_text()
    assert "in sleepy_getitem" in stacks
    assert "yolo-callbacks watchdog (daemon)" in stacks

    phases = {beat["phase"] for beat in poller.seen}
    assert {"starting", "training", "validating"} & phases >= {"training", "validating"}
    assert {beat["status"] for beat in poller.seen} == {"running", "stalled", "finished"}
    stalled = [beat for beat in poller.seen if beat["status"] == "stalled"]
    assert {(beat["epoch"], beat["epochs"], beat["batch"], beat["batches"]) for beat in stalled} == {(2, 3, 2, 4)}
    assert stalled[0]["waits_for"] == "data"
    assert stalled[0]["run"] == run_json(run.save_dir)["id"]
    assert stalled[0]["eta"]["seconds"] >= 0  # known since the first epoch
    last = json.loads((folder / "heartbeat.json").read_text())
    assert (last["status"], last["phase"], last["epoch"], last["batch"], last["eta"]) == (
        "finished",
        "ended",
        3,
        4,
        None,
    )
    assert "Epoch" not in "".join(text for _, text in said.lines)  # less than a minute is left


HANGS = """
import sys, time
from ultralytics import YOLO
from ultralytics.data.base import BaseDataset
import yolo_callbacks as ycb
from tests.helpers import TINY, TINY_MODEL

read, state = BaseDataset.__getitem__, {"epoch": 0, "batch": 0}

def blocked_getitem(dataset, index):
    if (state["epoch"], state["batch"]) == (2, 2) and dataset.augment:
        time.sleep(600)
    return read(dataset, index)

BaseDataset.__getitem__ = blocked_getitem
model = YOLO(TINY_MODEL, verbose=False)
ycb.attach(model, [ycb.Watchdog(1.0, slow_seconds=60, exit_code=75), ycb.BackupAndRestore(), ycb.CSVLogger()])
model.add_callback("on_train_epoch_start", lambda trainer: state.update(epoch=trainer.epoch + 1, batch=0))
model.add_callback("on_train_batch_end", lambda trainer: state.update(batch=state["batch"] + 1))
model.train(data=sys.argv[1], project=sys.argv[2], name="run", **{**TINY, "batch": 1, "nbs": 1, "epochs": 3})
"""


def test_a_hanging_process_ends_with_the_code_and_is_resumed(shapes, tmp_path):
    began = time.monotonic()
    done = programs.run(["-c", HANGS, shapes, tmp_path], timeout=120)
    assert done.returncode == 75, done.stderr
    assert time.monotonic() - began < 60
    assert "the process ends with code 75" in done.stdout + done.stderr
    run = tmp_path / "run"
    assert "in blocked_getitem" in (run / "callbacks" / "stall-1.txt").read_text()
    beat = json.loads((run / "callbacks" / "heartbeat.json").read_text())
    assert (beat["status"], beat["epoch"], beat["batch"]) == ("stalled", 2, 2)
    assert run_json(run)["status"] == "running"  # as after any kill
    model = YOLO(ycb.newest_checkpoint(run))
    resumed = ycb.attach(model, [ycb.Watchdog(None, heartbeat_seconds=0.1), ycb.BackupAndRestore(), ycb.CSVLogger()])
    model.train(resume=True)
    assert resumed.history.index.tolist() == [1, 2, 3]
    beat = json.loads((run / "callbacks" / "heartbeat.json").read_text())
    assert (beat["status"], beat["epoch"], beat["run"]) == ("finished", 3, run_json(run)["id"])


@pytest.mark.parametrize("settings", [{"val": False, "epochs": 2}, {"time": 0.0003, "epochs": 50}])
def test_the_time_that_is_left_without_validation_and_with_a_time_limit(train, settings):
    class Estimates(ycb.Callback):
        def act(self, session):
            self.seen = [*getattr(self, "seen", []), watchdog._live.pulse.eta]

    watchdog, estimates = ycb.Watchdog(), Estimates()
    run = train([watchdog, estimates], **settings)
    epochs = len(run.history)
    assert len(estimates.seen) == epochs
    assert all(eta.seconds >= 0 and not eta.at_most for eta in estimates.seen)
    if "time" in settings:
        assert all(eta.seconds < 1.08 + 2 * max(run.history["seconds"]) for eta in estimates.seen)
    else:
        assert estimates.seen[0].seconds >= 0.5 * min(run.history["seconds"])
        assert estimates.seen[0].seconds > estimates.seen[-1].seconds
    assert run_json(run.save_dir)["eta"] is None


def test_an_error_leaves_a_heartbeat_that_says_so(train, tmp_path):
    def fail(trainer):
        raise RuntimeError("the machine is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        train([ycb.Watchdog()], before=lambda model: model.add_callback("on_train_epoch_end", fail), epochs=2)
    beat = json.loads((tmp_path / "run" / "callbacks" / "heartbeat.json").read_text())
    assert (beat["status"], beat["phase"]) == ("failed", "ended")
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if "watchdog" in name]


def test_a_training_with_it_has_the_same_numbers(train):
    watchdog = ycb.Watchdog("2x", min_seconds=0.01, slow_seconds=60, heartbeat_seconds=0.05)
    plain, watched = train([], epochs=2), train([watchdog], epochs=2)
    different = ["seconds", "images_per_second", "rss_gb", "elapsed"]
    assert plain.history.drop(columns=different).equals(watched.history.drop(columns=different))
