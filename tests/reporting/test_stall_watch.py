"""The thread behind Watchdog, looked at step by step, with a clock that the test turns."""

import json
import os
import threading
import time

import pytest

from tests.helpers import wait_for
from yolo_callbacks.core.eta import Eta
from yolo_callbacks.core.stall import Limits, StallJudge
from yolo_callbacks.reporting import stall_watch as module
from yolo_callbacks.reporting.pulse import Pulse
from yolo_callbacks.reporting.stall_watch import Post, StallWatch
from yolo_callbacks.run_dir.heartbeat import read_heartbeats, write_heartbeat

HELD = 30.0


class Scene:
    """A watch whose clock is turned by hand; its files and alerts are real."""

    def __init__(self, folder, *, stall_after=5.0, rank=0, ranks=1, every=10.0, **settings):
        self.now, self.alerts, self.folder = 100.0, [], folder
        self.pulse = Pulse(lambda: self.now)
        self.watch = StallWatch(
            self.pulse,
            StallJudge(Limits.of(stall_after, 60.0, HELD), 1.0),
            Post(folder, rank, ranks, "id" if rank == 0 else None),
            self.alerts.append,
            tick=1.0,
            every=every,
            clock=lambda: self.now,
            **settings,
        )
        self.pulse.begin_epoch(2, 10, 8)

    def wait(self, seconds):
        for _ in range(int(seconds)):
            self.now += 1.0
            self.watch.look()
        self.settle()

    def beat(self):
        self.now += 0.5
        self.pulse.beat()

    def settle(self):
        assert self.watch._files.wait(20)
        assert self.watch._alerts.wait(20)

    @property
    def file(self):
        return json.loads((self.folder / "heartbeat.json").read_text())


def test_a_heartbeat_says_how_far_the_run_is(tmp_path):
    scene = Scene(tmp_path)
    scene.pulse.set_eta(Eta(1000.0, at_most=True, epoch_seconds=100.0))
    scene.beat()
    scene.wait(2)
    beat = scene.file
    assert {key: beat[key] for key in ("run", "status", "phase", "epoch", "epochs", "batch", "batches")} == {
        "run": "id",
        "status": "running",
        "phase": "training",
        "epoch": 2,
        "epochs": 10,
        "batch": 1,
        "batches": 8,
    }
    assert (beat["pid"], beat["rank"], beat["ranks"], beat["every"]) == (os.getpid(), 0, 1, 10.0)
    assert (beat["eta"]["seconds"], beat["eta"]["at_most"]) == (998.5, True)  # of the first look
    assert beat["where"] is beat["waits_for"] is beat["batch_seconds"] is None
    assert len((tmp_path / "heartbeat.json").read_text()) < 1000


def test_it_is_written_no_more_often_than_asked(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(module, "write_heartbeat", lambda folder, rank, beat: written.append(beat["quiet_seconds"]))
    scene = Scene(tmp_path, stall_after=None)
    for _ in range(35):
        scene.wait(1)
    assert written == [0.0, 11.0, 21.0, 31.0]


def test_a_stall_is_told_once_with_the_stacks_and_once_when_it_is_over(tmp_path):
    scene = Scene(tmp_path)
    scene.beat()
    scene.wait(20)
    (alert,) = scene.alerts
    assert alert.event == "stall"
    assert alert.seconds == 6.0
    assert alert.message.startswith("epoch 2 of 10, batch 2 of 8: no batch has ended for 6.0 s; it is in stack_of (")
    assert alert.message.endswith(f"; stacks: {tmp_path.name}/stall-1.txt")
    text = (tmp_path / "stall-1.txt").read_text()
    assert "no batch has ended for 6.0 s" in text.splitlines()[0]
    assert text.index("MainThread") < text.index("watchdog files")
    assert f'File "{__file__}"' in text
    assert "in test_a_stall_is_told_once_with_the_stacks_and_once_when_it_is_over" in text
    assert scene.file["status"] == "stalled"
    assert scene.file["where"].startswith("stack_of (support/stacks.py:")
    scene.beat()
    scene.wait(1)
    assert [item.event for item in scene.alerts] == ["stall", "went_on"]
    assert scene.alerts[1].message == "epoch 2 of 10, batch 3 of 8: went on after 20 s"
    assert (scene.file["status"], scene.file["where"]) == ("running", None)
    scene.wait(10)
    assert (tmp_path / "stall-2.txt").exists()


def test_a_training_in_a_thread_of_its_own_is_the_one_that_is_shown(tmp_path):
    go_on, scenes = threading.Event(), []

    def trains_here():
        scenes.append(Scene(tmp_path))
        go_on.wait(30)

    thread = threading.Thread(target=trains_here, daemon=True)
    thread.start()
    (scene,) = wait_for(lambda: scenes)
    scene.beat()
    scene.wait(7)
    go_on.set()
    thread.join()
    assert "; it is in wait (python" in scene.alerts[0].message
    text = (tmp_path / "stall-1.txt").read_text()
    assert text.index("in trains_here") < text.index("MainThread")


def test_a_long_validation_is_no_stall(tmp_path):
    scene = Scene(tmp_path)
    scene.beat()
    scene.pulse.end_batches()
    scene.wait(HELD - 1)
    scene.pulse.touch()
    scene.wait(HELD - 1)
    assert scene.alerts == []
    scene.wait(HELD)  # twice the wait that has passed well
    assert scene.alerts[0].message.startswith("epoch 2 of 10, validating: no sign of life for 59 s; ")


def test_no_more_than_twenty_files_of_stacks(tmp_path):
    for number in range(1, 21):
        (tmp_path / f"stall-{number}.txt").touch()
    scene = Scene(tmp_path)
    scene.beat()
    scene.wait(7)
    assert scene.alerts[0].message.endswith("its stacks were not written")
    assert len(list(tmp_path.glob("stall-*"))) == 20


def test_a_disk_that_hangs_delays_no_alert(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_TELL", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(module, "write_heartbeat", lambda *_: hangs.wait(20))
    scene = Scene(tmp_path)
    scene.beat()
    scene.now += 1
    scene.watch.look()  # its heartbeat hangs
    for _ in range(8):
        scene.now += 1
        scene.watch.look()
    assert wait_for(lambda: scene.alerts, 10)[0].message.endswith("its stacks were not written")
    hangs.set()
    scene.settle()


def test_a_disk_that_fails_is_told_once(tmp_path, said, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_heartbeat", full)
    scene = Scene(tmp_path, every=1.0)
    scene.wait(4)
    assert said.warnings == ["heartbeat failed; training continues: OSError: [Errno 28] No space left on device"]


def test_a_disk_that_refuses_the_file_of_a_frozen_interpreter_hides_no_stall(tmp_path, monkeypatch):
    scene = Scene(tmp_path, frozen_after=1000.0)
    scene.beat()
    scene.wait(4)

    def full(seconds):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scene.watch._frozen, "postpone", full)
    scene.watch._postponed = float("-inf")
    with pytest.raises(OSError, match="No space left"):
        scene.wait(1)
    scene.wait(3)
    scene.watch.end("finished")
    assert [alert.event for alert in scene.alerts] == ["stall"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"waits_for": "data", "where": "f (g.py:1)"}, "rank 1 is behind, in f (g.py:1), waiting for data"),
        ({"batch": 0, "waits_for": "ranks", "where": "b (c.py:1)"}, "rank 1 is behind, in b (c.py:1), waiting for"),
        ({"time": 1.0}, "rank 1 is behind and writes no heartbeat"),
        (None, "rank 1 is behind and writes no heartbeat"),
        ({"waits_for": "ranks"}, "rank 0 is behind, in stack_of (support/stacks.py:"),
    ],
)
def test_rank_0_names_the_rank_that_is_behind(tmp_path, monkeypatch, other, expected):
    monkeypatch.setattr(module, "_ASK_RANKS", 0.3)
    here = "data" if other and other.get("waits_for") == "ranks" and "batch" not in other else "ranks"
    monkeypatch.setattr(module, "waits_for", lambda places: here if places else None)
    scene = Scene(tmp_path, ranks=2)
    scene.beat()
    if other is not None:
        write_heartbeat(tmp_path, 1, {**scene.watch.beat(scene.now), "status": "stalled", **other})
    scene.wait(7)
    assert expected in scene.alerts[0].message


def test_the_ranks_above_0_write_their_own_files_and_tell_nobody(tmp_path):
    scene = Scene(tmp_path, rank=1, ranks=2)
    scene.beat()
    scene.wait(7)
    assert scene.alerts == []
    assert (tmp_path / "stall-1-rank-1.txt").exists()
    assert read_heartbeats(tmp_path, 2)[1]["status"] == "stalled"
    assert read_heartbeats(tmp_path, 2)[1]["run"] is None
    scene.watch.end("finished")
    assert not (tmp_path / "heartbeat-rank-1.json").exists()


def test_the_last_heartbeat_says_how_the_run_ended(tmp_path):
    scene = Scene(tmp_path)
    scene.watch.end("stopped")
    assert (scene.file["status"], scene.file["phase"], scene.file["eta"]) == ("stopped", "ended", None)


def test_heartbeats_of_ranks_that_are_no_more_are_removed(tmp_path):
    for rank in range(4):
        write_heartbeat(tmp_path, rank, {})
    scene = Scene(tmp_path, ranks=2)
    scene.watch.start()
    scene.watch.end("finished")
    assert set(read_heartbeats(tmp_path, 9)) == {0, 1}


@pytest.fixture
def left(monkeypatch):
    codes = []
    monkeypatch.setattr(module.os, "_exit", codes.append)
    monkeypatch.setattr(module, "_SEND", 0.1)
    return codes


def test_a_stalled_process_ends_if_asked(tmp_path, left):
    scene = Scene(tmp_path, exit_code=75)
    scene.beat()
    scene.wait(6)
    assert left == [75]
    assert scene.alerts[0].message.endswith("; the process ends with code 75")
    assert scene.file["status"] == "stalled"


def test_it_does_not_end_if_it_goes_on_in_the_last_moment(tmp_path, left):
    scene = Scene(tmp_path, exit_code=75)
    scene.beat()
    tell, scene.watch._tell = scene.watch._tell, lambda alert: (scene.beat(), tell(alert))
    scene.wait(6)
    assert left == []
    scene.wait(1)
    assert [alert.event for alert in scene.alerts] == ["stall", "went_on"]


def test_exports_have_time_limits_of_their_own(tmp_path, left):
    scene = Scene(tmp_path, exit_code=75)
    scene.pulse.enter("closing")
    scene.wait(HELD + 1)
    assert scene.alerts[0].message.startswith("epoch 2 of 10, closing: no sign of life for 31 s")
    assert left == []


@pytest.mark.parametrize(("status", "age", "codes"), [("running", 0, []), ("stalled", 0, [75]), ("running", 500, [75])])
def test_a_rank_that_waits_for_rank_0_ends_only_if_that_one_stands_still(tmp_path, left, status, age, codes):
    scene = Scene(tmp_path, rank=1, ranks=2, exit_code=75)
    write_heartbeat(tmp_path, 0, {"status": status, "time": time.time() - age, "every": 5.0})
    scene.pulse.enter("validating")
    scene.wait(HELD + 1)
    assert left == codes


def test_a_suspended_process_is_told_and_not_ended(tmp_path, left):
    scene = Scene(tmp_path, exit_code=75)
    scene.beat()
    scene.wait(2)
    scene.now += 5000
    scene.watch.look()
    scene.settle()
    assert [alert.message for alert in scene.alerts] == [
        "epoch 2 of 10, batch 2 of 8: the process did not run for 4999 s (it was suspended)"
    ]
    assert left == []


def test_an_error_of_the_watch_does_not_end_it(tmp_path, said, monkeypatch):
    scene = Scene(tmp_path)
    looks = []

    def fail(*_):
        looks.append(1)
        raise ZeroDivisionError

    monkeypatch.setattr(scene.watch._judge, "look", fail)
    scene.watch._tick = 0.01
    scene.watch.start()
    wait_for(lambda: len(looks) > 3, 10)
    scene.watch.end("finished")
    assert said.warnings == ["Watchdog failed; training continues: ZeroDivisionError: "]
