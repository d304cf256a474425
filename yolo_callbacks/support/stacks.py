"""The stacks of all threads, taken while they run; and by a thread in C, if the interpreter itself stands still."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from yolo_callbacks.support import storage

Line = tuple[str, int, str]
"""File, line and function."""


def stack_of(ident: int) -> list[Line]:
    """Return the stack of a thread, by its `threading.get_ident()`, innermost line first; empty if it has ended."""
    with _no_collection():
        frames = sys._current_frames()
    return list(_lines(frames.get(ident)))


def all_threads(first: int) -> str:
    """Return the stacks of all threads as text, the innermost line of each at its end.

    Source lines are left out: reading them could wait for the same disk as the training.

    Args:
        first: The thread to begin with.
    """
    names = {thread.ident: thread for thread in threading.enumerate()}
    with _no_collection():
        frames = sys._current_frames()
    ordered = sorted(frames.items(), key=lambda item: item[0] != first)
    return "\n".join(_thread(names.get(ident), ident, frame) for ident, frame in ordered)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: within `sys._current_frames`, that can deadlock (CPython gh-106883)."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _thread(thread: threading.Thread | None, ident: int, frame: FrameType) -> str:
    name = f"{thread.name}{' (daemon)' * thread.daemon}" if thread is not None else "not started by Python"
    lines = [f'  File "{file}", line {line}, in {function}\n' for file, line, function in _lines(frame)]
    return f"Thread {ident}: {name}\n{''.join(reversed(lines))}"


def _lines(frame: FrameType | None) -> Iterator[Line]:
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back


class FrozenDump:
    """Writes all stacks from a thread in C, unless `postpone` is called again in time.

    This is all that can run while C code holds the interpreter's lock. Python has one such timer per process: another
    user of `faulthandler.dump_traceback_later` and this one replace each other.

    Args:
        path: The file. It exists, empty, while the timer runs, since C code cannot create it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def postpone(self, seconds: float) -> None:
        """Write in so many seconds from now."""
        if self._file is None:
            self._file = storage.open_for_dump(self._path)
        faulthandler.dump_traceback_later(seconds, file=self._file)

    def cancel(self) -> None:
        """Do not write, and remove the file if it is still empty."""
        if self._file is None:
            return
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        self._file = None
        if not storage.size(self._path):
            storage.remove(self._path)
