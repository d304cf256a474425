import enum
import logging
import signal
from types import SimpleNamespace

import pytest

from yolo_callbacks import PreemptionHandler
from yolo_callbacks.callbacks import preemption_handler
from yolo_callbacks.support import signals
from yolo_callbacks.support.signals import SignalWatch, check_signals


class Windows(SimpleNamespace):
    """The signal module of Windows, which has few signals, and two events that are none."""

    Signals = enum.IntEnum(
        "Signals",
        {"CTRL_C_EVENT": 0, "CTRL_BREAK_EVENT": 1, "SIGINT": 2, "SIGILL": 4, "SIGFPE": 8, "SIGSEGV": 11}
        | {"SIGTERM": 15, "SIGBREAK": 21, "SIGABRT": 22},
    )
    SIGINT, SIGTERM, SIGBREAK = Signals.SIGINT, Signals.SIGTERM, Signals.SIGBREAK
    SIG_DFL, SIG_IGN, default_int_handler = signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler

    def __init__(self):
        super().__init__(handlers={})

    def getsignal(self, number):
        return self.handlers.get(number, self.SIG_DFL)

    def signal(self, number, handler):
        self.Signals(number)  # ValueError for what Windows does not know
        self.handlers[number] = handler


@pytest.fixture
def windows(monkeypatch):
    module = Windows()
    for place in (signals, preemption_handler):
        monkeypatch.setattr(place, "signal", module)
    return module


def test_windows_has_no_sigusr1_and_trains_all_the_same(windows):
    handler = PreemptionHandler()
    assert handler.signals == ("SIGTERM", "SIGUSR1")
    arrived = []
    watch = SignalWatch(handler.signals, arrived.append)
    assert watch.start()
    assert list(windows.handlers) == [windows.SIGTERM]
    windows.handlers[windows.SIGTERM](15, None)
    watch.stop()
    assert (arrived, windows.handlers) == ([15], {windows.SIGTERM: windows.SIG_DFL})


def test_a_signal_that_this_system_lacks_is_told(windows, caplog):
    with caplog.at_level(logging.WARNING):
        assert check_signals("signals", ["SIGBREAK", "SIGHUP"]) == ("SIGBREAK", "SIGHUP")
        assert not caplog.records
        assert check_signals("signals", "SIGUSR1") == ("SIGUSR1",)
    assert "signals='SIGUSR1': this system has none of these signals" in caplog.text


@pytest.mark.parametrize("name", ["SIGUSR", "SIGKILL", "CTRL_C_EVENT", "usr1"])
def test_what_is_no_signal_is_refused_everywhere(name, windows, monkeypatch):
    with pytest.raises(ValueError, match=f"'{name}' is not a signal that can be handled"):
        check_signals("signals", [name])
    monkeypatch.setattr(signals, "signal", signal)
    with pytest.raises(ValueError, match=f"'{name}' is not a signal that can be handled"):
        check_signals("signals", [name])
