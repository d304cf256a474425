"""Signal handlers that are restored, that forked workers do not inherit, and that live in the main thread only."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

from yolo_callbacks.support.checks import check_names, nearest
from yolo_callbacks.support.log import LOGGER

_NEVER_CAUGHT = ("SIGKILL", "SIGSTOP")
_OF_SOME_SYSTEMS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGPWR", "SIGBREAK")


def check_signals(name: str, value: object) -> tuple[str, ...]:
    """Return names of signals. A name that only other systems know is accepted: Windows has no SIGUSR1.

    So the same configuration works everywhere. It is logged if this system has none of them.

    Raises:
        TypeError: If it is not a list of names.
        ValueError: If a name is no signal that a process can handle.
    """
    own = [item.name for item in signal.Signals if item.name.startswith("SIG")]  # Windows: not CTRL_C_EVENT
    known = [item for item in dict.fromkeys((*own, *_OF_SOME_SYSTEMS)) if item not in _NEVER_CAUGHT]
    checked = tuple(check_names(name, value, "a list of signals such as 'SIGTERM'", one=True))
    for item in checked:
        if item not in known:
            raise ValueError(f"{name}={value!r}: '{item}' is no signal to wait for{nearest(item, known)}")
    if checked and not any(item in own for item in checked):
        LOGGER.warning(f"{name}={value!r}: this system has none of these signals, so none will arrive")
    return checked


class SignalWatch:
    """Calls a function when a signal arrives, from `start` to `stop`. A second signal ends the process at once.

    Args:
        names: Names of signals. Those that the system does not have, or that the process was told to ignore, are left
            alone.
        react: Called with the signal's number, between two instructions of the main thread: it should only take note.
        patient: Whether a second signal does nothing, because whoever sends it ends the process in another way if it
            takes too long: the launcher of several ranks passes on a signal that they may have had themselves.
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
            if before not in (None, signal.SIG_IGN):  # None: not installed by Python, it could not be put back
                self._before[number] = before
                signal.signal(number, self._handle)
        return True

    def stop(self) -> None:
        """Restore the earlier handlers, unless somebody else has replaced ours since."""
        while self._before and threading.current_thread() is threading.main_thread():
            number, before = self._before.popitem()
            if signal.getsignal(number) in (self._handle, self._second(number)):
                signal.signal(number, before)

    def _handle(self, number: int, frame: object) -> None:
        if os.getpid() != self._owner:  # a data loader's worker, forked with this handler
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        for watched in self._before:
            signal.signal(watched, self._second(watched))
        self._react(number)

    def _second(self, number: int) -> Any:
        """Return the handler for a second signal: Ctrl-C raises an exception, so that everything is closed."""
        if self._patient:
            return signal.SIG_IGN
        return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
