"""The journal: one line per epoch, the source of truth of a run. Appended with fsync, readable after any crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Decision, decision_from_json
from yolo_callbacks.core.entry import EXTENDED_FORMAT, FORMAT, Entry, JournalContent
from yolo_callbacks.core.record import EpochRecord, Plan, plan_from_json, record_from_json, record_to_json
from yolo_callbacks.support import storage
from yolo_callbacks.support.best_effort import Attempt, BestEffortWrites
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import decode_number


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

    An incomplete line is left out. If an epoch is there twice (it ran again after a resume), the last entry counts.

    Args:
        path: A `journal.jsonl`.

    Returns:
        The plan, the decisions before the first epoch, the entries sorted by epoch up to the first unreadable line, and
        the epoch that a crash left pending.

    Raises:
        ValueError: If a newer version wrote it.
        OSError: If it cannot be read.
    """
    plan, entries = Plan(), dict[int, Entry]()
    pending: EpochRecord | None = None
    before: tuple[Decision, ...] = ()
    # not splitlines: a metric's name may contain other characters that it treats as line breaks
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not line:
            continue
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            LOGGER.warning(f"{path}, line {number} is incomplete; it and all later lines are ignored")
            break
        if data.get("format", 0) > EXTENDED_FORMAT:
            raise ValueError(
                f"{path} has format {data['format']}, but this version reads up to {EXTENDED_FORMAT}: upgrade "
                "yolo-callbacks"
            )
        if "plan" in data:
            plan = plan_from_json(data["plan"])
            before = tuple(decision_from_json(item) for item in data.get("decisions", ()))
            continue
        if "pending" in data:
            pending = record_from_json(data["pending"])
            continue
        entry = _entry(data)
        entries[entry.record.epoch] = entry
        pending = None
    return JournalContent(plan, before, [entries[epoch] for epoch in sorted(entries)], pending)


def _entry(data: Mapping[str, Any]) -> Entry:
    return Entry(
        record=record_from_json(data["record"]),
        decisions=tuple(decision_from_json(item) for item in data.get("decisions", ())),
        counters={name: decode_number(value) for name, value in data.get("counters", {}).items()},
    )
