"""SIGTERM, sent as a cluster does."""

import time

import pytest

from tests.distributed.callbacks import preemptible
from yolo_callbacks.run_dir.manifest import read_manifest


@pytest.fixture(scope="module")
def preempted(start):
    """A machine that is taken away: every process is sent SIGTERM, and torchrun passes its own on to the ranks."""
    launch = start(preemptible, {"name": "run"})
    launch.wait_for("dawdles-0", "dawdles-1")
    torchrun, workers = launch.launcher_and_workers()
    assert len(workers) == 2
    for process in workers:
        process.terminate()
    time.sleep(0.2)
    torchrun.terminate()
    time.sleep(0.5)
    (launch.folder / "go-on").touch()
    return launch.wait()


def test_rank_0_saves_although_the_signal_comes_twice(preempted):
    run = preempted.folder / "run"
    assert read_manifest(run / "callbacks" / "run.json")["status"] == "preempted"
    assert (run / "weights" / "preempted.pt").exists()


def test_all_ranks_leave(preempted):
    assert preempted.returncode != 0
    assert not preempted.left_behind


def test_the_command_line_passes_a_signal_on_to_all_ranks(start):
    launch = start(preemptible, {"name": "run"}, pass_on=True)
    launch.wait_for("dawdles-0", "dawdles-1")
    launch.terminate()
    time.sleep(0.5)
    (launch.folder / "go-on").touch()
    launch.wait()
    assert launch.returncode != 0
    assert not launch.left_behind
    manifest = read_manifest(launch.folder / "run" / "callbacks" / "run.json")
    assert manifest["stop"]["message"].startswith("SIGTERM arrived from the launcher")
