"""BackupAndRestore's decisions, and when the copy goes; tests/e2e/test_killed.py resumes real trainings from it."""

import zipfile

import pytest

from tests.callbacks.session_stub import SessionStub
from tests.helpers import NAN, SKIPPED, decisions_of
from yolo_callbacks import BackupAndRestore, Plan, Stop, StopReason


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (5, [5]), (6, [])])
def test_which_epochs_are_copied(every, epochs):
    """Also those that were not validated, or whose metrics are NaN: it is the way back, not the best one."""
    decided = decisions_of(BackupAndRestore(every_n_epochs=every), [0.1, SKIPPED, NAN, 0.1, 0.1])
    assert [decision.epoch for decision in decided] == epochs
    assert {(d.file, d.role, d.announce, d.drop) for d in decided} <= {("weights/backup.pt", "backup", False, ())}


def test_what_it_writes_and_what_it_can_never_do():
    callback = BackupAndRestore(every_n_epochs=5)
    assert list(callback.outputs()) == ["weights/backup.pt"]
    assert list(callback.impossible(Plan(planned_epochs=4))) == ["every_n_epochs=5 is never due in 4 epochs"]
    assert list(callback.impossible(Plan(planned_epochs=5))) == []


@pytest.fixture
def ended(tmp_path):
    """Return a function that ends a run in some way, and returns whether the copy is still there."""

    def end(reason=None, error=None, *, last_is_whole=True, **arguments):
        session = SessionStub(BackupAndRestore(**arguments), folder=tmp_path / "run")
        weights = session.run.save_dir / "weights"
        weights.mkdir(exist_ok=True)
        last, backup = weights / "last.pt", weights / "backup.pt"
        with zipfile.ZipFile(last, "w") as file:
            file.writestr("data", "weights" * 100)
        if not last_is_whole:
            last.write_bytes(last.read_bytes()[:-40])
        backup.write_bytes(b"a copy")
        session.run.trainer.last = last
        session.begin()
        session.epoch(0.5)
        session.end(error, None if reason is None else Stop("it ended", 1, reason=reason))
        return backup.exists()

    return end


@pytest.mark.parametrize("reason", [None, *(reason for reason in StopReason if not reason.from_outside)])
def test_the_copy_goes_when_the_run_has_nothing_left_to_train(reason, ended):
    assert not ended(reason)


@pytest.mark.parametrize("reason", [reason for reason in StopReason if reason.from_outside])
def test_the_copy_of_a_run_that_was_stopped_from_outside_stays(reason, ended):
    assert ended(reason)


@pytest.mark.parametrize("error", [ValueError("a mistake"), KeyboardInterrupt(), SystemExit(143)])
def test_the_copy_of_a_run_that_failed_stays(error, ended):
    assert ended(error=error)


def test_the_copy_stays_where_it_is_wanted(ended):
    assert ended(delete_checkpoint=False)
    assert ended(StopReason.PLATEAU, delete_checkpoint=False)


def test_the_copy_stays_where_nothing_else_would_load(ended, said):
    assert ended(last_is_whole=False)
    (warning,) = said.warnings
    assert "last.pt does not load" in warning
    assert "weights/backup.pt is kept" in warning


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs=0 must be >= 1"),
        ({"every_n_epochs": 0.5}, TypeError, "every_n_epochs=0.5 must be a whole number >= 1, not float"),
        ({"every_n_epochs": True}, TypeError, "every_n_epochs=True must be a whole number >= 1, not bool"),
        ({"delete_checkpoint": 1}, TypeError, "delete_checkpoint=1 must be True or False, not int"),
        ({"delete_checkpoint": "no"}, TypeError, "delete_checkpoint='no' must be True or False, not str"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        BackupAndRestore(**arguments)
    assert message in str(caught.value)
