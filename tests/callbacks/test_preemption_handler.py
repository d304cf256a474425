"""PreemptionHandler without a training, with signals that are really sent; tests/e2e/test_preempted.py trains."""

import os
import pickle
import signal

import pytest

from tests.callbacks.session_stub import SessionStub
from yolo_callbacks import PreemptionHandler, StopReason
from yolo_callbacks.callbacks import preemption_handler

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test leaves, the handlers are what they were."""
    before = handlers()
    yield before
    for number, handler in zip(SIGNALS, before):
        signal.signal(number, handler)


class Session(SessionStub):
    """Notes how it was left, and does not save what it has not."""

    def leave(self, stop, error, save_as):
        self.left = stop, error, save_as
        raise error


def kill(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture
def session():
    started = Session(PreemptionHandler())
    started.begin()
    return started


def handler_of(session):
    (callback,) = session.callbacks.values()
    return callback


MOMENTS = {
    "before an epoch": lambda callback, session: callback.on_train_epoch_start(session.run.trainer),
    "after a batch": lambda callback, session: callback.on_train_batch_end(session.run.trainer),
    "after a batch of the validation": lambda callback, session: callback.on_val_batch_end(None),
    "at the end": lambda callback, session: callback.close(session, None),
    "after an error that it may have caused": lambda callback, session: callback.teardown(session.run.trainer),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_run_left_at_the_next_opportunity(moment, number, session):
    callback = handler_of(session)
    MOMENTS["after a batch"](callback, session)  # nothing has arrived yet
    kill(number)
    with pytest.raises(SystemExit) as left:
        MOMENTS[moment](callback, session)
    stop, error, save_as = session.left
    assert left.value is error
    assert error.code == 128 + number
    assert save_as == "weights/preempted.pt"
    assert (stop.reason, stop.source) == (StopReason.PREEMPTED, "PreemptionHandler")
    assert stop.message == f"{signal.Signals(number).name} arrived"
    callback.teardown(session.run.trainer)  # it is left once


def test_a_run_that_failed_is_not_left_while_it_is_closed(session):
    """The error comes out first; teardown, which follows, leaves."""
    kill()
    handler_of(session).close(session, ValueError("a worker died"))
    with pytest.raises(SystemExit):
        handler_of(session).teardown(session.run.trainer)


def test_a_rank_that_was_launched_says_where_the_signal_came_from(monkeypatch):
    monkeypatch.setattr(preemption_handler, "is_worker", lambda: True)
    session = Session(PreemptionHandler())
    session.begin()
    kill()
    assert handlers()[0] is signal.SIG_IGN  # the launcher may pass on one that came here as well
    with pytest.raises(SystemExit):
        handler_of(session).on_train_batch_end(session.run.trainer)
    stop, _, _ = session.left
    assert stop.message.startswith("SIGTERM arrived from the launcher")


def test_a_rank_that_was_launched_is_not_left_after_an_error(monkeypatch):
    """The signal may have come because another rank has failed, and this one's error is the one to be told."""
    monkeypatch.setattr(preemption_handler, "is_worker", lambda: True)
    session = Session(PreemptionHandler())
    session.begin()
    kill()
    handler_of(session).teardown(session.run.trainer)


def test_a_second_signal_ends_the_process_at_once(session):
    kill()
    assert handlers() == [signal.SIG_DFL, signal.SIG_DFL]


@pytest.mark.parametrize("end", ["close", "teardown"])
def test_the_handlers_that_were_there_are_put_back(end, session, restored):
    assert all(now is not before for now, before in zip(handlers(), restored))
    if end == "close":
        handler_of(session).close(session, None)
    else:
        handler_of(session).teardown(session.run.trainer)
    assert handlers() == restored


def test_only_the_signals_that_are_named_are_watched(restored):
    session = SessionStub(PreemptionHandler("SIGUSR1"))
    session.begin()
    assert handlers()[0] == restored[0]
    assert handlers()[1] != restored[1]


def test_a_rank_that_saves_nothing_watches_all_the_same(restored):
    """Only rank 0 is set up; one that died at the signal would keep it from finishing its batch."""
    callback = PreemptionHandler()
    session = SessionStub(callback)
    callback.on_train_start(session.run.trainer)
    assert handlers() != restored
    kill()
    callback.on_train_batch_end(session.run.trainer)  # rank 0 leaves, and the launcher ends this one
    callback.teardown(session.run.trainer)
    assert handlers() == restored


def test_what_an_earlier_part_of_the_run_has_saved_goes_at_its_end(session):
    file = session.run.save_dir / "weights" / "preempted.pt"
    for error, left in ((ValueError("a mistake"), True), (None, False)):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"weights")
        handler_of(session).close(session, error)
        assert file.exists() == left


def test_a_signal_in_one_run_does_not_end_the_next(session):
    kill()
    callback = handler_of(session)
    callback.close(session, ValueError("a mistake"))
    again = Session(callback)
    again.begin()
    callback.on_train_batch_end(again.run.trainer)
    assert not hasattr(again, "left")


def test_it_is_pickled_without_the_run_and_its_handlers(session):
    copy = pickle.loads(pickle.dumps(handler_of(session)))
    assert copy.get_config() == {"signals": ("SIGTERM", "SIGUSR1")}
    kill()
    copy.teardown(session.run.trainer)


def test_what_it_was_built_with_is_kept():
    assert PreemptionHandler("SIGTERM").signals == ("SIGTERM",)
    assert PreemptionHandler(iter(["SIGTERM", "SIGUSR2"])).get_config() == {"signals": ("SIGTERM", "SIGUSR2")}
    assert list(PreemptionHandler().outputs()) == ["weights/preempted.pt"]


@pytest.mark.parametrize(
    ("signals", "error", "message"),
    [
        (15, TypeError, "signals=15 must be a list of signals such as 'SIGTERM'"),
        ([15], TypeError, r"signals=\[15\] must be a list of signals"),
        (["SIGTREM"], ValueError, r"'SIGTREM' is not a signal that can be handled \(did you mean 'SIGTERM'\?\)"),
        ("SIGKILL", ValueError, "signals='SIGKILL': 'SIGKILL' is not a signal that can be handled"),
    ],
)
def test_wrong_arguments_fail_at_construction(signals, error, message):
    with pytest.raises(error, match=message):
        PreemptionHandler(signals)
