"""An error in a step raises from a critical callback, and is logged once from another one."""

import pytest

from yolo_callbacks import Callback, Plan, Priority
from yolo_callbacks.core.metrics import UnknownMetricError
from yolo_callbacks.session.steps import Steps
from yolo_callbacks.support.checks import SettingError


class Fails(Callback):
    """Fails in every step, and counts how often it was asked."""

    def __init__(self, error=None):
        self.error = error or ValueError("a mistake")
        self.calls = []

    def _fail(self, step):
        self.calls.append(step)
        raise self.error

    def setup(self, session):
        self._fail("setup")

    def act(self, session):
        self._fail("act")

    def close(self, session, error):
        self._fail("close")

    def deliver(self, session, error):
        self._fail("deliver")

    def impossible(self, plan):
        self._fail("impossible")


class Controls(Fails):
    priority = Priority.CHECKPOINT


class Looks(Fails):
    priority = Priority.MEASURE
    critical = False


class MustReport(Fails):
    critical = True


def all_steps(steps):
    return (
        steps.setup,
        steps.act,
        lambda: steps.close(None),
        lambda: steps.deliver(None),
        lambda: steps.log_impossible(Plan()),
    )


@pytest.mark.parametrize("kind", [Fails, Looks])
def test_an_error_that_is_not_critical_is_logged_once(kind, said):
    callback = kind()
    for run in all_steps(Steps(None, {"Fails": callback})) * 2:
        run()
    assert callback.calls == ["setup", "act", "close", "deliver", "impossible"] * 2
    assert len([line for line in said.warnings if "Fails.act" in line]) == 1


@pytest.mark.parametrize("kind", [Controls, MustReport])
def test_a_critical_error_raises(kind):
    for run in all_steps(Steps(None, {"Controls": kind()})):
        with pytest.raises(ValueError, match="a mistake"):
            run()


@pytest.mark.parametrize("priority", Priority)
def test_a_class_that_sets_only_its_priority_is_critical_before_those_that_report(priority):
    for base in (Callback, Controls, Looks, MustReport):
        assert type("Own", (base,), {"priority": priority}).critical == (priority < Priority.REPORT)


def test_the_priority_may_come_from_a_class_that_is_no_callback():
    class Early:
        priority = Priority.DECIDE

    assert type("Own", (Early, Callback), {}).critical
    assert not type("Own", (Early, Callback), {"critical": False}).critical


def test_a_class_that_sets_neither_is_like_its_base():
    assert not Callback.critical
    for base in (Callback, Controls, Looks, MustReport):
        assert type("Own", (base,), {}).critical == base.critical


@pytest.mark.parametrize("error", [UnknownMetricError("no such metric"), SettingError("it does not fit this run")])
def test_a_reporter_whose_settings_do_not_fit_the_run_raises_before_it(error):
    steps = Steps(None, {"Fails": Fails(error)})
    with pytest.raises(type(error)):
        steps.setup()
    steps.act()


def test_callbacks_are_closed_the_last_one_first():
    closed = []

    class Closes(Callback):
        def close(self, session, error):
            closed.append((self, error))

    first, last, error = Closes(), Closes(), KeyboardInterrupt()
    Steps(None, {"first": first, "last": last}).close(error)
    assert closed == [(last, error), (first, error)]


def test_only_the_new_ones_are_set_up():
    class Counts(Callback):
        times = 0

        def setup(self, session):
            self.times += 1

    old, new = Counts(), Counts()
    Steps(None, {"old": old, "new": new}).setup(only=[new])
    assert (old.times, new.times) == (0, 1)
