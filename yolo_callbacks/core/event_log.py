"""Event files of TensorBoard, written on a thread of their own, and read back to go on where a run was interrupted."""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from yolo_callbacks.core import storage
from yolo_callbacks.core.background import Background, tell_once

Write = Callable[[Any], None]
"""Adds something to a SummaryWriter."""

_MOST_HEAVY = 4  # pictures and histograms that wait; with the one that is written that is all the memory they take
_LONGEST = 512  # bytes of a record that may be a number's; histograms and pictures are passed over unread
_HEAD = struct.Struct("<Q4x")  # length of the record and a checksum of it; another one follows the record


class EventLog:
    """A SummaryWriter that costs the training next to nothing: what is added waits until a thread writes it, in order.

    An error while something is added (a picture that cannot be drawn) is told once. An error of the files ends the
    log: `failed` is set, and what is added from then on is dropped.

    Args:
        worker: Does the writing.
        who: What to call it in log lines.

    Attributes:
        failed: Whether the files could not be written.
    """

    def __init__(self, worker: Background, who: str) -> None:
        self.failed = False
        self._worker = worker
        self._who = who
        self._waiting: deque[tuple[str, Write, bool]] = deque()
        self._writer: Any = None
        self._told: set[str] = set()

    def open(self, folder: Path, first: Callable[[], int]) -> None:
        """Write to a new file from here on, that of before is closed.

        Args:
            folder: Where.
            first: Returns the step from which on all that earlier files hold is void; asked on the thread.
        """

        def reopen(_: Any) -> None:
            from torch.utils.tensorboard import SummaryWriter

            if self._writer is not None:
                self._writer.close()
            self._writer = SummaryWriter(str(folder), purge_step=first())

        self.add("opening its file", reopen)

    def add(self, what: str, write: Write, *, heavy: bool = False) -> None:
        """Queue something.

        Args:
            what: A few words for the log line of an error.
            write: Adds it.
            heavy: Whether it holds much memory: it is left out if several of that kind wait.
        """
        if self.failed:
            return
        if heavy and sum(item[2] for item in list(self._waiting)) >= _MOST_HEAVY:
            tell_once(self._told, f"{self._who}: {what}", RuntimeError("the disk is slower than the training"))
            return
        self._waiting.append((what, write, heavy))
        self._worker.submit(self._who, self._write)

    def close(self) -> None:
        """Write what waits and close the file, later on."""
        self.add("closing its file", lambda writer: writer.close())

    def _write(self) -> None:
        """Write all that waits. Called on the thread."""
        while self._waiting and not self.failed:
            what, write, _ = self._waiting.popleft()
            opened = self._writer is not None
            try:
                write(self._writer)
            except Exception as error:
                if not opened or self._is_dead():
                    self._fail()
                    raise
                tell_once(self._told, f"{self._who}: {what}", error)
        if self._writer is not None and self._writer.file_writer is not None:
            try:
                self._writer.flush()
            except Exception:
                self._fail()
                raise

    def _is_dead(self) -> bool:
        try:
            self._writer.flush()
        except Exception:
            return True
        return False

    def _fail(self) -> None:
        self.failed = True
        self._waiting.clear()
        with contextlib.suppress(Exception):
            self._writer.close()
        self._writer = None


def steps_of(folder: Path, tag: str) -> set[int]:
    """Return the steps that the event files of a folder have of a number, as TensorBoard would show them.

    What a later file has made void does not count, nor does what a crash has cut short.
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

    # not TensorBoard's own reader: it computes a checksum of every picture, in Python
    size = storage.size(path)
    with open(path, "rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            (length,) = _HEAD.unpack(head)
            if file.tell() + length + 4 > size:  # cut short, or no head at all
                return
            if length > _LONGEST:
                file.seek(length + 4, 1)
                continue
            record = file.read(length + 4)
            if tag in record or length < 64:
                try:
                    yield Event.FromString(record[:-4])
                except Exception:  # protobuf's error has no public name in all of its versions
                    return
