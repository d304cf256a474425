"""What Ctrl-C and SIGTERM do during `yolo-cb train`."""

import io
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from yolo_callbacks import StopReason
from yolo_callbacks.cli.interrupts import forward_signals, stop_on_interrupt


class Attached:
    """What can be asked to stop, or is not training yet."""

    def __init__(self, trains=True):
        self.trains, self.asked = trains, []

    def stop(self, message, reason):
        self.asked.append((message, reason))
        return self.trains


@pytest.fixture(autouse=True)
def handlers():
    """Handle signals as any program does, and make sure that it is so again after each test."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGUSR1: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    left = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert left == usual


def console():
    return Console(file=io.StringIO(), width=40)


def test_the_first_ctrl_c_asks_for_a_stop_and_says_so():
    attached, screen = Attached(), console()
    with stop_on_interrupt(attached, screen):
        assert attached.asked == []
        signal.raise_signal(signal.SIGINT)
    assert attached.asked == [("interrupted (Ctrl-C)", StopReason.INTERRUPTED)]
    assert screen.file.getvalue() == (
        "\nStopping after this epoch, with everything saved. Press Ctrl-C again to stop immediately.\n"
    )


def test_the_second_one_ends_the_training():
    attached = Attached()
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(attached, console()):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert len(attached.asked) == 1


def test_where_nothing_trains_the_first_one_ends_the_command_and_says_nothing():
    screen = console()
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(Attached(trains=False), screen):
        signal.raise_signal(signal.SIGINT)
    assert screen.file.getvalue() == ""


def test_after_the_training_ctrl_c_is_as_it_was():
    attached = Attached()
    with stop_on_interrupt(attached, console()):
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert attached.asked == []


@pytest.fixture
def children(monkeypatch):
    """Return two processes that sleep, and make them the only children of this one: other tests may have more."""
    started = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)]
    children, ours = psutil.Process.children, {child.pid for child in started}
    monkeypatch.setattr(psutil.Process, "children", lambda me: [item for item in children(me) if item.pid in ours])
    yield started
    for child in started:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_launcher_of_ranks_gets_sigterm_for_either_signal(number, children):
    with forward_signals(SimpleNamespace(trainer=SimpleNamespace(ddp=True))) as forwarded:
        os.kill(os.getpid(), number)
        assert [child.wait(30) for child in children] == [-signal.SIGTERM] * 2
        assert forwarded == [number]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("model", [SimpleNamespace(), SimpleNamespace(trainer=SimpleNamespace(ddp=False))])
def test_with_one_rank_or_none_yet_a_signal_ends_the_command_with_its_code(model, number, children):
    with pytest.raises(SystemExit) as caught, forward_signals(model) as forwarded:
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    assert forwarded == []
    assert [child.poll() for child in children] == [None, None]


def test_whether_there_are_ranks_is_asked_when_the_signal_arrives(children):
    """The model has no trainer before `train()`."""
    model = SimpleNamespace()
    with forward_signals(model) as forwarded:
        model.trainer = SimpleNamespace(ddp=True)
        os.kill(os.getpid(), signal.SIGTERM)
        assert [child.wait(30) for child in children] == [-signal.SIGTERM] * 2
    assert forwarded == [signal.SIGTERM]
