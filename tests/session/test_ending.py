"""How a run ends: once, in order, and with its files saying how, whatever goes wrong meanwhile."""

import threading
import time

import pytest
import torch

from tests.callbacks.session_stub import SessionStub
from tests.helpers import run_json
from yolo_callbacks import Callback, SaveCheckpoint, Stop, StopReason
from yolo_callbacks.session import ending as module
from yolo_callbacks.session import run_files

LATE = Stop("the Platform", source="Platform", reason=StopReason.CANCELLED)
RESTORE = SaveCheckpoint("", 2, "EarlyStopping", file="weights/restored.pt", role="restore")


class Watches(Callback):
    """Notes what it is told in the end, and what run.json says by then."""

    priority, critical = 1, True

    def __init__(self, fails=None):
        self.fails, self.told = fails, []

    def close(self, session, error):
        self.told.append(("close", error, session.files.manifest.content["status"]))
        if self.fails is not None:
            raise self.fails

    def deliver(self, session, error):
        self.told.append(("deliver", error, run_json(session.run.save_dir)["status"]))


@pytest.fixture
def session():
    """Return a run of ten epochs that has done two, whose trainer has something to say about its end."""
    one = SessionStub(Watches())
    one.run.why_ended = lambda: LATE
    one.epoch(0.1)
    one.epoch(0.2)
    return one


def ending(session):
    return session._main.ending


def told(session):
    return session.callbacks["Watches"].told


def concluded(session):
    """Return what run.json says: the status, why it stopped, the error, and the number of epochs."""
    data = run_json(session.run.save_dir)
    return data["status"], data["stop"] and data["stop"]["reason"], data["error"], data["epochs"]


def test_a_run_that_completes_its_epochs_is_finished():
    session = SessionStub(Watches(), planned=2)
    session.run.why_ended = lambda: pytest.fail("nobody needs to know")
    session.epoch(0.1)
    session.epoch(0.2)
    assert not ending(session).begun
    ending(session).end(None)
    assert ending(session).begun
    assert ending(session).stop is None
    assert concluded(session) == ("finished", None, None, 2)
    assert told(session) == [("close", None, "running"), ("deliver", None, "finished")]


def test_a_run_has_ended_when_all_of_its_files_are_there(session, said):
    """A kill before that is resumed, and writes them."""
    seen = []

    def write():
        time.sleep(0.2)
        seen.append(session.files.manifest.content["status"])

    for worker in ("views", "plots"):
        session.files.background(worker).submit("a file", write)
    ending(session).end(None)
    assert seen == ["running", "running"]
    assert concluded(session)[0] == "stopped"


def test_a_thread_that_hangs_is_waited_for_once(session, said, monkeypatch):
    monkeypatch.setattr(run_files, "CLOSE_TIMEOUT", 0.1)
    hangs = threading.Event()
    session.files.background("plots").submit("a plot", hangs.wait)
    ending(session).end(None)
    hangs.set()
    assert said.warnings == ["plots did not finish within 0.1 s and was abandoned"]


def test_a_run_that_ends_early_says_what_the_trainer_knows(session):
    ending(session).end(None)
    assert (ending(session).stop.reason, ending(session).stop.epoch) == (StopReason.CANCELLED, 2)
    assert concluded(session) == ("stopped", "cancelled", None, 2)


def test_a_decision_of_ours_comes_before_what_the_trainer_knows(session):
    stop = Stop("a plateau", 3, "EarlyStopping", reason=StopReason.PLATEAU)
    session.epoch(0.2, [stop])
    ending(session).end(None)
    assert ending(session).stop is stop
    assert concluded(session) == ("stopped", "plateau", None, 3)


def test_a_run_without_an_epoch_has_stopped_for_no_reason():
    session = SessionStub(Watches())
    ending(session).end(None)
    assert concluded(session) == ("finished", None, None, 0)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ValueError("a mistake"), "failed", "ValueError: a mistake"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(3), "interrupted", "SystemExit: 3"),
    ],
)
def test_an_error_is_recorded_and_every_callback_told(error, status, sentence, session):
    ending(session).end(error)
    assert concluded(session) == (status, None, sentence, 2)
    assert told(session) == [("close", error, "running"), ("deliver", error, status)]


def test_a_run_ends_once(session):
    for error in (None, ValueError("later"), None):
        ending(session).end(error)
    assert len(told(session)) == 2
    assert concluded(session)[0] == "stopped"


def test_a_callback_that_fails_in_the_end_makes_the_run_fail(session):
    failure = session.callbacks["Watches"].fails = OSError("the network")
    with pytest.raises(OSError, match="the network"):
        ending(session).end(None)
    assert concluded(session)[::2] == ("failed", "OSError: the network")
    assert told(session)[1] == ("deliver", failure, "failed")


def test_the_first_error_is_the_one_that_counts(session):
    first, session.callbacks["Watches"].fails = ValueError("first"), OSError("second")
    with pytest.raises(OSError, match="second"):
        ending(session).end(first)
    assert concluded(session)[2] == "ValueError: first"
    assert told(session)[1][1] is first


@pytest.mark.parametrize(("error", "hurry"), [(None, False), (ValueError(), False), (SystemExit(143), True)])
def test_files_are_waited_for_a_moment_only_where_the_machine_is_taken_away(error, hurry, session, monkeypatch):
    waited, wait = [], session.files.wait

    def noted(*, hurry):
        waited.append((hurry, len(told(session))))
        wait(hurry=hurry)

    monkeypatch.setattr(session.files, "wait", noted)
    ending(session).end(error)
    times = 2 if error is None else 1  # first for all else, then for run.json, which says that the run has ended
    assert waited == [(hurry, 1)] * times  # after `close`, before `deliver`


# ------------------------------------------------------------------------------------ leaving


def leave(session):
    error = SystemExit(143)
    with pytest.raises(SystemExit) as caught:
        ending(session).leave(
            Stop("SIGTERM", source="PreemptionHandler", reason=StopReason.PREEMPTED), error, "weights/preempted.pt"
        )
    assert caught.value is error


def test_leaving_saves_the_weights_and_records_a_preemption(session, monkeypatch, said):
    saved = []
    monkeypatch.setattr(session.files, "save_now", lambda *now: saved.append((*now, len(told(session)))))
    leave(session)
    assert saved == [("weights/preempted.pt", "preempted", 2, 0)]  # before anything is closed
    assert concluded(session) == ("preempted", "preempted", None, 2)
    assert ending(session).stop.epoch == 2
    assert ("INFO", "PreemptionHandler: SIGTERM, exiting with code 143") in said.lines


def test_leaving_a_run_that_has_ended_changes_nothing(session, monkeypatch):
    ending(session).end(None)
    monkeypatch.setattr(session.files, "save_now", lambda *now: pytest.fail("there is nothing to save"))
    leave(session)
    assert concluded(session)[0] == "stopped"
    assert len(told(session)) == 2


# ------------------------------------------------------------------------------------ last of all


@pytest.fixture
def restored(session):
    """Return the file that a decision of the run restores the model to."""
    path = session.run.save_dir / RESTORE.file
    path.parent.mkdir()
    torch.save({"epoch": 1, "model": torch.nn.Linear(1, 1), "train_args": {}}, path)
    session.ledger.note([RESTORE])
    session.files.checkpoints.adopt([RESTORE])
    session.run.checkpointing.calibrate = lambda file: None
    session.run.trainer.best = "best.pt"
    return path


def test_the_restored_weights_are_what_train_loads(session, restored, said):
    ending(session).end(None)
    assert session.run.trainer.best == "best.pt"
    ending(session).close(None, completed=True)
    assert session.run.trainer.best == restored
    assert said.lines[-1] == ("INFO", f"EarlyStopping: restored the weights of epoch 2 from {restored}")


@pytest.mark.parametrize(("error", "completed"), [(None, False), (ValueError(), True), (ValueError(), False)])
def test_a_run_that_does_not_come_to_its_end_restores_nothing(error, completed, session, restored):
    ending(session).end(error)
    ending(session).close(error, completed=completed)
    assert session.run.trainer.best == "best.pt"


def test_one_of_several_ranks_leaves_it_to_the_process_that_launched_it(session, restored, monkeypatch):
    monkeypatch.setattr(module, "is_worker", lambda: True)
    ending(session).end(None)
    ending(session).close(None, completed=True)
    assert session.run.trainer.best == "best.pt"


def test_an_error_after_the_end_is_recorded_too(session):
    ending(session).end(None)
    assert concluded(session)[0] == "stopped"
    ending(session).close(ValueError("in the final evaluation"), completed=True)
    assert concluded(session)[::2] == ("failed", "ValueError: in the final evaluation")
    assert len(told(session)) == 2


def test_an_error_that_has_been_recorded_is_not_replaced_by_what_follows_from_it(session):
    ending(session).end(ValueError("first"))
    ending(session).close(OSError("then"), completed=False)
    assert concluded(session)[2] == "ValueError: first"


def test_closing_ends_a_run_that_nothing_has_ended(session):
    ending(session).close(KeyboardInterrupt(), completed=False)
    assert concluded(session) == ("interrupted", None, "KeyboardInterrupt", 2)
    assert [step for step, *_ in told(session)] == ["close", "deliver"]
