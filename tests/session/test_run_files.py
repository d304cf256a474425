"""The files of a run: how it is said to have ended, what is remembered of it, and errors that must end nothing."""

import threading
import time
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.callbacks.session_stub import SessionStub
from tests.helpers import run_json
from yolo_callbacks import SaveCheckpoint, SetLearningRate, Stop, StopReason
from yolo_callbacks.session import run_files as module
from yolo_callbacks.session.run_files import VIEWS, RunFiles, status_of
from yolo_callbacks.support import storage

PLATEAU, PREEMPTED = (Stop("why", 2, reason=reason) for reason in (StopReason.PLATEAU, StopReason.PREEMPTED))
PLAN = object()  # of an export; only passed on


@pytest.fixture
def session():
    return SessionStub()


@pytest.fixture
def files(session):
    return session.files


def content(session):
    session.files.wait()
    return run_json(session.run.save_dir)


@pytest.mark.parametrize(
    ("stop", "error", "status"),
    [
        (None, None, "finished"),
        (PLATEAU, None, "stopped"),
        (None, ValueError(), "failed"),
        (PLATEAU, ValueError(), "failed"),
        (None, KeyboardInterrupt(), "interrupted"),
        (None, SystemExit(1), "interrupted"),
        (PLATEAU, KeyboardInterrupt(), "interrupted"),
        *product([PREEMPTED], [None, SystemExit(143), KeyboardInterrupt(), ValueError()], ["preempted"]),
    ],
)
def test_how_a_run_ended(stop, error, status):
    assert status_of(stop, error) == status


@given(st.sampled_from(StopReason))
def test_only_a_preemption_has_a_status_of_its_own(reason):
    status = status_of(Stop("", reason=reason), None)
    assert status == ("preempted" if reason is StopReason.PREEMPTED else "stopped")


@pytest.mark.parametrize(
    ("stop", "error", "said_of_it"),
    [
        (None, None, None),
        (PLATEAU, ValueError("a mistake"), "ValueError: a mistake"),
        (None, KeyboardInterrupt(), "KeyboardInterrupt"),
        (PREEMPTED, SystemExit(143), None),  # no error: it was asked for
    ],
)
def test_the_end_is_recorded_with_what_is_left(stop, error, said_of_it, session, files):
    files.checkpoints._stored = {"gone.pt": {"file": "gone.pt", "epoch": 1}}
    files.conclude(7, stop, error)
    data = content(session)
    assert (data["status"], data["error"], data["epochs"]) == (status_of(stop, error), said_of_it, 7)
    assert data["stop"] == ({"reason": stop.reason.value, "message": "why", "epoch": 2} if stop else None)
    assert data["checkpoints"] == []


def test_decisions_that_change_the_run_are_listed(session, files):
    files.list_decisions([SaveCheckpoint("", 1, file="a.pt"), SetLearningRate("", 1, factor=0.9, routine=True)])
    assert files.manifest.content["decisions"] == []
    slower, stop = SetLearningRate("slower", 1, "a", factor=0.5), Stop("enough", 2, "b")
    files.list_decisions([slower])
    files.list_decisions([stop])
    assert content(session)["decisions"] == [slower.to_json(), stop.to_json()]


def test_a_note_is_there_after_a_resume(session, files, said, monkeypatch):
    assert files.remembered("A") == {}
    files.remember("A", id="x", step=3)
    files.remember("A", id="y")
    assert RunFiles(SessionStub(folder=session.run.save_dir, resumed=True).run).remembered("A") == {"id": "y"}
    assert RunFiles(SessionStub(folder=session.run.save_dir).run).remembered("A") == {}

    def refuse(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yolo_callbacks.support.storage.write_json", refuse)
    for _ in range(2):
        files.remember("A", id="z")
    assert len([text for text in said.warnings if "noting A in run.json" in text]) == 1


def test_leftovers_of_a_kill_go_and_nothing_else(session):
    folder = session.run.save_dir
    (folder / "weights" / "states").mkdir(parents=True)
    torn = []
    for place in ("callbacks", "weights", "weights/states"):
        (folder / place / "kept.txt").touch()
        with pytest.raises(KeyError), storage.replacing(folder / place / "new.txt") as temporary:
            torn.append(temporary)
            raise KeyError
    for path in torn:
        path.touch()  # as a kill leaves it
    RunFiles(session.run)
    assert [path for path in torn if path.exists()] == []
    assert all((folder / place / "kept.txt").exists() for place in ("callbacks", "weights", "weights/states"))


# ------------------------------------------------------------------------------------ checkpoints and exports


def test_weights_that_cannot_be_saved_are_told_and_end_nothing(session, files, said):
    session.run.checkpointing.current_bytes = lambda finished: None
    files.save_now("weights/preempted.pt", "preempted", 2)
    assert said.warnings == ["weights/preempted.pt is not saved: there are no weights yet, or they are NaN"]

    def fail(finished):
        raise RuntimeError("out of memory")

    session.run.checkpointing.current_bytes = fail
    files.save_now("weights/preempted.pt", "preempted", 2)
    assert "out of memory" in said.warnings[1]


def test_a_failed_export_is_told_and_ends_nothing(files, said, monkeypatch):
    done = []
    monkeypatch.setattr(files.checkpoints, "prepare_export", lambda file: done.append(("prepared", file)))
    monkeypatch.setattr(files.exports, "finish", lambda plan, file: done.append(("exported", file)))
    files.export("a.pt", PLAN)
    assert done == [("prepared", "a.pt"), ("exported", "a.pt")]

    def fail(plan, file):
        raise ValueError("no opset")

    monkeypatch.setattr(files.exports, "finish", fail)
    files.export("b.pt", PLAN)
    assert "the export of b.pt" in said.warnings[0]


@pytest.mark.parametrize(("task", "exported"), [("detect", ["a.pt"]), ("depth", [])])
def test_what_must_be_calibrated_first_is_exported_in_the_end(task, exported, session, files, monkeypatch):
    session.run.trainer.args.task = task
    soon = []
    monkeypatch.setattr(files.exports, "soon", lambda plan, file: soon.append(file))
    files.export_soon("a.pt", PLAN)
    assert soon == exported


def test_the_last_checkpoint_to_restore_is_the_one(session, files, monkeypatch):
    folder = session.run.save_dir / "weights"
    folder.mkdir()
    decisions = [SaveCheckpoint("", epoch, file=f"weights/{epoch}.pt", role="restore") for epoch in (1, 2)]
    decisions.append(SaveCheckpoint("", 3, file="weights/3.pt"))
    for one in decisions:
        torch.save(
            {"epoch": one.epoch - 1, "model": torch.nn.Linear(1, 1), "train_args": {}}, folder / f"{one.epoch}.pt"
        )
    files.checkpoints.adopt(decisions)
    assert files.restored(decisions) == (decisions[1], folder / "2.pt")
    assert files.restored(decisions[2:]) is None
    (folder / "2.pt").unlink()
    assert files.restored(decisions) is None


# ------------------------------------------------------------------------------------ threads


def test_each_name_has_one_worker_and_only_views_rest(files):
    assert files.background("mine") is files.background("mine")
    assert files.background("mine") is not files.background(VIEWS)
    assert files.background("mine")._share == 1.0
    assert files.background(VIEWS)._share < 0.1


@pytest.mark.parametrize("hurry", [True, False])
def test_a_worker_that_hangs_is_abandoned_by_name(hurry, files, said, monkeypatch):
    monkeypatch.setattr(module, "HURRY_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.1)
    over = threading.Event()
    for name in ("first", "second"):
        files.background(name).submit("a task", lambda: over.wait(30) and None)
    began = time.monotonic()
    files.wait(hurry=hurry)
    took = time.monotonic() - began
    assert said.warnings == [f"{name} did not finish within 0.1 s and was abandoned" for name in ("first", "second")]
    assert took >= (0.1 if hurry else 0.2)  # in a hurry, it is the time for all of them
    over.set()
    files.close()
