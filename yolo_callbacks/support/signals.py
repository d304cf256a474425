"""Signal handlers that are restored afterwards, that forked workers do not keep, and that need the main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

from yolo_callbacks.support.checks import check_names, nearest, quoted
from yolo_callbacks.support.log import LOGGER

_NEVER_CAUGHT = ("SIGKILL", "SIGSTOP")
_ON_SOME_SYSTEMS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGPWR", "SIGBREAK")


def check_signals(name: str, value: object) -> tuple[str, ...]:
    """Return names of signals. Names that only other systems know are accepted: Windows has no SIGUSR1.

    So one configuration works everywhere. If this system has none of the signals, a warning says so.

    Raises:
        TypeError: If it is not a list of names.
        ValueError: If a name is not a signal that a process can handle.
    """
    own = [item.name for item in signal.Signals if item.name.startswith("SIG")]  # Windows: not CTRL_C_EVENT
    known = [item for item in dict.fromkeys((*own, *_ON_SOME_SYSTEMS)) if item not in _NEVER_CAUGHT]
    checked = tuple(check_names(name, value, "a list of signals such as 'SIGTERM'", one=True))
    for item in checked:
        if item not in known:
            raise ValueError(
                f"{name}={quoted(value)}: {quoted(item)} is not a signal that can be handled{nearest(item, known)}"
            )
    if checked and not any(item in own for item in checked):
        LOGGER.warning(f"{name}={quoted(value)}: this system has none of these signals, so none will arrive")
    return checked


class SignalWatch:
    """Calls a function when a signal arrives between `start` and `stop`. A second signal ends the process immediately.

    Args:
        names: Names of signals. Those that the system does not have, or that the process was told to ignore, are
            skipped.
        react: Called with the signal's number between two instructions of the main thread; it should only set a flag.
        patient: Whether to ignore a second signal. The launcher of several ranks forwards a signal that they may have
            received themselves, and kills them if they take too long.
    """

    def __init__(self, names: Iterable[str], react: Callable[[int], None], *, patient: bool = False) -> None:
        self._numbers = [int(getattr(signal, name)) for name in names if hasattr(signal, name)]
        self._react = react
        self._before: dict[int, Any] = {}
        self._patient = patient
        self._owner = os.getpid()

    def start(self) -> bool:
        """Install the handlers. Return False outside the main thread, where Python allows none."""
        if threading.current_thread() is not threading.main_thread():
            return False
        for number in self._numbers:
            before = signal.getsignal(number)
            if before not in (None, signal.SIG_IGN):  # None: not installed by Python, so it could not be restored
                self._before[number] = before
                signal.signal(number, self._handle)
        return True

    def stop(self) -> None:
        """Restore the earlier handlers, except where ours has been replaced since."""
        while self._before and threading.current_thread() is threading.main_thread():
            number, before = self._before.popitem()
            if signal.getsignal(number) in (self._handle, self._second(number)):
                signal.signal(number, before)

    def _handle(self, number: int, frame: object) -> None:
        if os.getpid() != self._owner:  # a data loader worker, forked with this handler
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        for watched in self._before:
            signal.signal(watched, self._second(watched))
        self._react(number)

    def _second(self, number: int) -> Any:
        """Return the handler for a second signal. Ctrl-C raises KeyboardInterrupt, so that everything is closed."""
        if self._patient:
            return signal.SIG_IGN
        return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
