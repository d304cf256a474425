"""TensorBoard's event files: written in the background, and read back when a run is resumed."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background, tell_once
from yolo_callbacks.support.log import LOGGER

Write = Callable[[Any], None]
"""Adds something to a SummaryWriter."""

_MAX_HEAVY = 4  # images and histograms in the queue; this bounds their memory
_MAX_WAITING = 4096  # entries in the queue: a disk that hangs for hours must not fill the memory
_MAX_SCALAR = 512  # bytes of a record with a scalar; longer ones (histograms, images) are skipped unread
_HEAD = struct.Struct("<Q4x")  # length of the record and its checksum; another checksum follows the record


class _Item(NamedTuple):
    what: str
    write: Write
    heavy: bool
    lasting: bool


class EventLog:
    """A SummaryWriter that writes in the background: what is added is queued, and a thread writes it in order.

    The queue is bounded, and `add` never waits: when it is full, the oldest entries are dropped, which is logged once.
    An error in an entry (an image that cannot be drawn) is logged once, too. An error of the files ends the log:
    `failed` is set, and everything added later is dropped.

    Args:
        worker: Thread that writes.
        who: Name in log lines.

    Attributes:
        failed: Whether the files could not be written.
    """

    def __init__(self, worker: Background, who: str) -> None:
        self.failed = False
        self._worker = worker
        self._who = who
        self._waiting: deque[_Item] = deque()
        self._lock = threading.Lock()
        self._writer: Any = None
        self._told: set[str] = set()

    def open(self, folder: Path, first: Callable[[], int]) -> None:
        """Close the current file, and write to a new one from here on.

        Args:
            folder: Where.
            first: Returns the step from which on earlier files no longer count; called on the thread.
        """

        def reopen(_: Any) -> None:
            from torch.utils.tensorboard import SummaryWriter

            _print_no_error_of_writers()
            if self._writer is not None:
                self._writer.close()
            self._writer = SummaryWriter(str(folder), purge_step=first())

        self.add("opening the event file", reopen, lasting=True)

    def add(self, what: str, write: Write, *, heavy: bool = False, lasting: bool = False) -> None:
        """Queue something.

        Args:
            what: Name in the log line of an error.
            write: Adds it.
            heavy: Whether it holds much memory: it is dropped if several of that kind are waiting.
            lasting: Whether later entries need it, so that it is never dropped.
        """
        if self.failed:
            return
        with self._lock:
            too_heavy = heavy and sum(item.heavy for item in self._waiting) >= _MAX_HEAVY
            full = not too_heavy and len(self._waiting) >= _MAX_WAITING
            if full:
                oldest = next((place for place, item in enumerate(self._waiting) if not item.lasting), None)
                if oldest is not None:
                    del self._waiting[oldest]
            if not too_heavy:
                self._waiting.append(_Item(what, write, heavy, lasting))
        if too_heavy:
            tell_once(self._told, f"{self._who}: {what}", RuntimeError("the disk is slower than training"))
            return
        if full and "full" not in self._told:
            self._told.add("full")
            LOGGER.warning(
                f"{self._who}: {_MAX_WAITING} entries are waiting because the disk is slower than training: the oldest "
                "are dropped"
            )
        self._worker.submit(self._who, self._write)

    def close(self) -> None:
        """Queue the closing of the file."""
        self.add("closing the event file", lambda writer: writer.close(), lasting=True)

    def _write(self) -> None:
        """Write the queue. Called on the thread."""
        while not self.failed and (item := self._next()) is not None:
            opened = self._writer is not None
            try:
                item.write(self._writer)
            except Exception as error:
                if not opened or self._is_dead():
                    self._fail()
                    raise
                tell_once(self._told, f"{self._who}: {item.what}", error)
        if self._writer is not None and self._writer.file_writer is not None:
            try:
                self._writer.flush()
            except Exception:
                self._fail()
                raise

    def _next(self) -> _Item | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _is_dead(self) -> bool:
        try:
            self._writer.flush()
        except Exception:
            return True
        return False

    def _fail(self) -> None:
        self.failed = True
        with self._lock:
            self._waiting.clear()
        with contextlib.suppress(Exception):
            self._writer.close()
        self._writer = None


def _print_no_error_of_writers() -> None:
    """Keep Python from printing the traceback of TensorBoard's own thread, whose error `flush` raises to us as well."""
    whole = threading.excepthook
    if whole in _HOOKS:
        return

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            whole(args)

    _HOOKS.add(hook)
    threading.excepthook = hook


_HOOKS = set[Callable[[threading.ExceptHookArgs], None]]()


def steps_of(folder: Path, tag: str) -> set[int]:
    """Return the steps of a scalar in the event files of a folder, as TensorBoard would show them.

    Steps that a later file purges do not count, nor does a record that a crash has cut short.
    """
    steps: set[int] = set()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in _small_events(path, tag.encode()):
            if event.HasField("session_log"):
                steps = {step for step in steps if step < event.step}
            elif any(value.tag == tag for value in event.summary.value):
                steps.add(event.step)
    return steps


def _small_events(path: Path, tag: bytes) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    # not TensorBoard's own reader, which computes a checksum of every image in Python
    size = storage.size(path)
    with open(path, "rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            (length,) = _HEAD.unpack(head)
            if file.tell() + length + 4 > size:  # cut short
                return
            if length > _MAX_SCALAR:
                file.seek(length + 4, 1)
                continue
            record = file.read(length + 4)
            if tag in record or length < 64:
                try:
                    yield Event.FromString(record[:-4])
                except Exception:  # protobuf's error has no public name in some versions
                    return
