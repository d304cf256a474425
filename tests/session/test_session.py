"""Who takes part in a run, which events reach whom, and what its beginning and its end make known."""

from types import SimpleNamespace

import pytest

from tests.callbacks.session_stub import SessionStub, stand_in_trainer
from yolo_callbacks import Callback, Priority, Stop, StopReason
from yolo_callbacks.core.events import TRAIN_EVENTS
from yolo_callbacks.session.hook import LIFECYCLE_EVENTS, Hook
from yolo_callbacks.session.session import Session, _receive


class Looks(Callback):
    """Notes the events that it gets."""

    def __init__(self):
        self.got, self.ready = [], 0

    def setup(self, session):
        self.ready += 1

    def on_train_batch_end(self, trainer):
        self.got.append(("on_train_batch_end", trainer))

    def on_train_start(self, trainer):
        self.got.append(("on_train_start", trainer))


class Early(Callback):
    priority = Priority.MEASURE


class Fails(Callback):
    critical = True

    def on_train_start(self, trainer):
        raise ValueError("a mistake")


@pytest.fixture
def trainer(tmp_path):
    return stand_in_trainer(tmp_path, 10)


@pytest.fixture
def session(trainer):
    return Session.of(trainer)


def listened(trainer):
    """Return the events that a trainer has a hook for, and how many."""
    hooks = {event: [f for f in functions if isinstance(f, Hook)] for event, functions in trainer.callbacks.items()}
    return {event: len(found) for event, found in hooks.items() if found}


def test_a_trainer_has_one_session(trainer, tmp_path):
    one = Session.of(trainer)
    assert Session.of(trainer) is one
    assert Session.of(stand_in_trainer(tmp_path, 10)) is not one


def test_a_run_that_has_not_begun_has_nothing_to_tell(session):
    assert not session.opened
    assert not session.ended
    assert len(session.history) == 0
    assert session.entries == []
    assert session.stop_decision is None
    assert session.finish_decision is None


# ------------------------------------------------------------------------------------ who takes part


def test_callbacks_are_in_order_of_priority_and_there_once(session):
    late, early = Looks(), Early()
    session.join([late])
    session.join([early, late])
    session.join([])
    assert list(session.callbacks.values()) == [early, late]
    with pytest.raises(TypeError):
        session.callbacks["mine"] = late


def test_two_of_a_class_have_two_names(session):
    session.join([Looks()])
    session.join([Looks()])
    assert len(set(session.callbacks)) == 2


def test_one_that_is_given_twice_at_once_is_there_once(session):
    callback = Looks()
    session.join([callback, callback])
    assert list(session.callbacks.values()) == [callback]


def test_who_joins_later_is_set_up_and_nobody_else_again():
    first, second = Looks(), Looks()
    session = SessionStub(first)
    session.begin()
    session.join([second])
    session.join([second])
    assert (first.ready, second.ready) == (1, 1)


def test_who_joins_before_the_beginning_is_not_set_up_yet(session):
    one = Looks()
    session.join([one])
    assert one.ready == 0


def test_a_callback_of_which_one_method_was_registered_gets_all_its_events(session, trainer):
    session.enlist(Looks())
    needed = {*LIFECYCLE_EVENTS, "on_train_batch_end", "on_train_start"}
    assert listened(trainer) == dict.fromkeys(needed, 1)
    session.enlist(Early())
    assert listened(trainer) == dict.fromkeys(needed, 1)
    trainer.callbacks["on_fit_epoch_end"].clear()  # somebody has replaced the list
    session.enlist(Early())
    assert listened(trainer) == dict.fromkeys(needed, 1)
    assert set(TRAIN_EVENTS) >= needed


def test_one_that_takes_part_already_is_not_enlisted(session, trainer):
    one = Looks()
    session.join([one])
    session.enlist(one)
    assert list(session.callbacks.values()) == [one]
    assert listened(trainer) == {}


def test_a_misspelt_method_is_an_error_before_anything_else(session):
    class Misspelt(Callback):
        def on_train_stat(self, trainer):
            pass

    with pytest.raises(Exception, match="on_train_start"):
        session.enlist(Misspelt())
    assert dict(session.callbacks) == {}


def test_an_integration_that_a_callback_replaces_is_switched_off_and_named(session, said):
    replaced = []
    session.run.replace_integration = lambda name: replaced.append(name) or name == "tensorboard"
    for name in ("tensorboard", "mlflow"):  # the second one is off already
        session.join([type("Mine", (Callback,), {"replaces": name})()])
    assert replaced == ["tensorboard", "mlflow"]
    assert said.lines == [("INFO", "Mine: Ultralytics' own Mine logging is off in this run; the callback replaces it")]


# ------------------------------------------------------------------------------------ events


def test_an_event_reaches_those_that_have_a_method_for_it(session, trainer):
    looks, other = Looks(), Early()
    session.join([looks, other])
    _receive("on_train_start", trainer)
    _receive("on_train_batch_end", trainer)
    _receive("on_train_batch_start", trainer)
    assert [event for event, _ in looks.got] == ["on_train_start", "on_train_batch_end"]
    assert all(source is trainer for _, source in looks.got)


def test_a_method_that_is_registered_itself_is_not_called_twice(session, trainer):
    looks = Looks()
    session.join([looks])
    trainer.callbacks["on_train_start"].append(looks.on_train_start)
    session.handle("on_train_start")
    assert looks.got == []


def test_an_error_in_a_critical_callback_comes_out_of_the_event(session):
    session.join([Fails()])
    with pytest.raises(ValueError, match="a mistake"):
        session.handle("on_train_start")


@pytest.mark.parametrize(
    ("is_open", "epochs", "finally_", "passes"),
    [(True, 0, False, True), (True, 2, True, True), (False, 2, False, False), (False, 0, True, False)],
)
def test_the_final_evaluation_is_no_epoch(is_open, epochs, finally_, passes):
    class Fits(Callback):
        fits = 0

        def on_fit_epoch_end(self, trainer):
            self.fits += 1

    one = Fits()
    session = SessionStub(one)
    session._HANDLERS = {}  # of the session itself; here, only who is told counts
    for _ in range(epochs):
        session.epoch(0.5)
    session.run.epoch_is_open = is_open
    session.run.trainer.validator = SimpleNamespace(training=not finally_)
    session.handle("on_fit_epoch_end")
    assert one.fits == int(passes)


def test_the_request_to_stop_is_taken_once_and_the_newest_counts(session):
    first, second = Stop("first"), Stop("second", reason=StopReason.INTERRUPTED)
    session.request_stop(first)
    session.request_stop(second)
    assert session._take_request() is second
    assert session._take_request() is None


# ------------------------------------------------------------------------------------ the end


def test_leaving_before_the_training_has_begun_raises_and_saves_nothing(session, tmp_path):
    error = SystemExit(143)
    with pytest.raises(SystemExit) as caught:
        session.leave(Stop("SIGTERM"), error, "weights/preempted.pt")
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def ending():
    """Return a run in its last moments, and what it is told about them."""
    session, told = SessionStub(), []
    session._main = SimpleNamespace(
        ending=SimpleNamespace(begun=False, close=lambda error, completed: told.append((error, completed)))
    )
    session.exact = SimpleNamespace(close=told.append)
    return session, told


def teardown_in(session, error):
    """Send the last event as Ultralytics does, while an error is on its way, if there is one."""
    if error is None:
        session.handle("teardown")
        return
    try:
        raise error
    except type(error):
        session.handle("teardown")


@pytest.mark.parametrize("error", [None, ValueError("a mistake"), KeyboardInterrupt()])
def test_what_ends_the_training_is_told_and_the_trainer_let_go(error, ending):
    session, told = ending
    teardown_in(session, error)
    assert told == [(error, False), error]
    assert session.ended
    assert session.run.trainer is None


def test_an_error_around_the_training_does_not_end_it(trainer):
    """`train()` may be called inside an except block, where another error is being handled."""
    told = []
    try:
        raise ValueError("an earlier one")
    except ValueError:
        session = Session(trainer)
        session.exact = SimpleNamespace(close=told.append)
        session.handle("teardown")
    assert told == [None]


def test_the_trainer_is_let_go_even_if_the_end_fails(ending):
    session, _ = ending

    def fail(error, completed):
        raise OSError("a full disk")

    session._main.ending.close = fail
    with pytest.raises(OSError, match="a full disk"):
        session.handle("teardown")
    assert session.ended
    assert session.run.trainer is None


def test_a_critical_callback_that_fails_in_the_last_event_leaves_nothing_open(ending):
    class FailsLast(Callback):
        critical = True

        def teardown(self, trainer):
            raise ValueError("in the end")

    session, told = ending
    session.join([FailsLast()])
    with pytest.raises(ValueError, match="in the end"):
        session.handle("teardown")
    assert len(told) == 2
    assert session.run.trainer is None
