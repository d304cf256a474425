"""The journal: one line per epoch, the source of truth of a run. Appended with fsync, readable after any crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Union

from yolo_callbacks.core.decision import Decision, decision_from_json
from yolo_callbacks.core.entry import EXTENDED_FORMAT, FORMAT, Entry, JournalContent
from yolo_callbacks.core.record import EpochRecord, Plan, plan_from_json, record_from_json, record_to_json
from yolo_callbacks.support import storage
from yolo_callbacks.support.best_effort import Attempt, BestEffortWrites
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import decode_number

_BEGIN = '{"format": '


class Journal:
    """Appends entries to `journal.jsonl`.

    A failing disk does not stop the training: the lines are kept in memory and written with the next line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = ""
        self._writes = BestEffortWrites()

    def begin(self, content: JournalContent) -> None:
        """Rewrite the journal: the plan, and the entries that are kept on a resume."""
        with self._attempt():
            storage.write_text(self.path, content.to_text())

    def announce(self, record: EpochRecord) -> None:
        """Add an epoch whose checkpoint is about to be written, so that no checkpoint is ever ahead of the journal.

        No fsync: the line only has to survive this process, and the checkpoint is no safer.
        """
        line = json.dumps({"format": FORMAT, "pending": record_to_json(record)}, ensure_ascii=False) + "\n"
        with self._attempt():
            storage.append_lines(self.path, line, sync=False)

    def append(self, entry: Entry, content: Callable[[], JournalContent]) -> None:
        """Add an epoch and wait until it is on disk.

        Args:
            entry: The epoch.
            content: Returns the whole journal; called if somebody has removed the file.
        """
        self._waiting += entry.to_line()
        with self._attempt():
            self._flush(content)

    def _flush(self, content: Callable[[], JournalContent]) -> None:
        if _has_header(self.path):
            storage.append_lines(self.path, self._waiting)
        else:
            LOGGER.warning(f"{self.path} was missing; rewriting it")
            storage.write_text(self.path, content().to_text())
        self._waiting = ""

    def _attempt(self) -> AbstractContextManager[Attempt]:
        return self._writes.attempt(str(self.path), "its lines are kept in memory")


def _has_header(path: Path) -> bool:
    """Return whether a journal still exists and starts with the line that `begin` wrote."""
    try:
        with open(path, "rb") as file:
            return b'"plan"' in file.read(40)
    except FileNotFoundError:
        return False


def read_journal(path: Path) -> JournalContent:
    """Read a journal back.

    Lines that cannot be read, such as an incomplete one, are left out, and a warning says which. If an epoch is there
    twice (it ran again after a resume), the last entry counts.

    Args:
        path: A `journal.jsonl`.

    Returns:
        The plan, the decisions before the first epoch, the entries sorted by epoch, and the epoch that a crash left
        pending.

    Raises:
        ValueError: If a newer version wrote it.
        OSError: If it cannot be read.
    """
    plan, entries = Plan(), dict[int, Entry]()
    pending: EpochRecord | None = None
    before: tuple[Decision, ...] = ()
    unreadable: list[int] = []
    # not splitlines: a metric's name may contain other characters that it treats as line breaks
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not line:
            continue
        item: _Item | None
        try:
            item = _item(line)
        except _UNREADABLE:
            unreadable.append(number)
            item = _item_after_torn(line)
        if isinstance(item, int):
            raise ValueError(
                f"{path} has format {item}, but this version reads up to {EXTENDED_FORMAT}: upgrade yolo-callbacks"
            )
        if isinstance(item, Entry):
            entries[item.record.epoch], pending = item, None
        elif isinstance(item, EpochRecord):
            pending = item
        elif item is not None:
            plan, before = item
    if unreadable:
        which, more = ", ".join(map(str, unreadable[:5])), len(unreadable) - 5
        LOGGER.warning(f"{path}: left out as damaged or incomplete: line {which}{f' and {more} more' * (more > 0)}")
    return JournalContent(plan, before, [entries[epoch] for epoch in sorted(entries)], pending)


_Item = Union[Entry, EpochRecord, tuple[Plan, tuple[Decision, ...]], int]
"""What a line holds: an epoch, a pending one, the plan with the decisions before the first epoch, or a newer format."""

_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError)


def _item(line: str) -> _Item:
    """Return what a line holds.

    Raises:
        Exception: One of `_UNREADABLE`, as a damaged line may hold anything.
    """
    data = json.loads(line)
    if data.get("format", 0) > EXTENDED_FORMAT:
        return int(data["format"])
    if "plan" in data:
        return plan_from_json(data["plan"]), tuple(decision_from_json(item) for item in data.get("decisions", ()))
    if "pending" in data:
        return record_from_json(data["pending"])
    return _entry(data)


def _item_after_torn(line: str) -> _Item | None:
    """Return the whole line that was appended to a torn one, without a line break between them; None for no such."""
    try:
        return _item(line[line.rindex(_BEGIN, 1) :])
    except _UNREADABLE:
        return None


def _entry(data: Mapping[str, Any]) -> Entry:
    counters = {name: decode_number(value) for name, value in data.get("counters", {}).items()}
    if not all(isinstance(value, (int, float)) for value in counters.values()):
        raise TypeError("a counter is no number")
    decisions = tuple(decision_from_json(item) for item in data.get("decisions", ()))
    return Entry(record=record_from_json(data["record"]), decisions=decisions, counters=counters)
