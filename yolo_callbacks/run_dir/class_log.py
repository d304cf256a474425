"""`classes.csv`: one row per class and epoch; read for a picture and after a crash."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.support import storage
from yolo_callbacks.support.best_effort import BestEffortWrites

EPOCH, CLASS = "epoch", "class"


class ClassLog:
    """Appends the metrics of each class. Keeps only rows in memory that a failing disk has refused.

    Args:
        path: The file.
        classes: The classes of the run.
        done: Number of epochs that a resumed run had finished, 0 for a fresh one. Rows of later epochs, which run
            again, are removed, and so are those of an incomplete epoch.
    """

    def __init__(self, path: Path, classes: Classes, done: int) -> None:
        self._path = path
        self._done = done
        self._header = _line([EPOCH, CLASS, classes.counted, *classes.metrics])
        self._cells = [_line([name])[:-1] for name in classes.names]
        self._metrics = classes.metrics
        self._begun = False
        self._waiting = ""
        self._writes = BestEffortWrites()

    def begin(self) -> None:
        """Remove the rows after the epoch that the run resumes from."""
        self._attempt()

    def add(self, epoch: int, results: ClassResults) -> None:
        """Add an epoch. If the disk fails, log that once and write the rows with a later epoch."""
        self._waiting += self._rows(epoch, results)
        self._attempt()

    def _attempt(self) -> None:
        with self._writes.attempt(str(self._path), "its rows are kept in memory"):
            self._flush()

    def _rows(self, epoch: int, results: ClassResults) -> str:
        counts = map(str, results.counts) if results.counts else itertools.repeat("")
        columns = [["" if value is None else repr(value) for value in results.values[name]] for name in self._metrics]
        lines = zip(self._cells, counts, *columns)
        return "".join(f"{epoch},{','.join(line)}\n" for line in lines)

    def _flush(self) -> None:
        if not self._begun:
            self._begin()
            self._begun = True
        if not self._waiting:
            return
        start = "" if self._path.exists() else self._header  # somebody removed it
        storage.append_lines(self._path, start + self._waiting, sync=False)
        self._waiting = ""

    def _begin(self) -> None:
        """Keep the complete epochs up to where the run is resumed, and nothing of an earlier run."""
        kept: Iterable[str] = ()
        if self._done and self._path.exists():
            if next(read_lines(self._path), "") == self._header:
                kept = self._kept()
            else:  # other classes, or another task
                storage.set_aside(self._path)
        with storage.replacing(self._path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(self._header)
            file.writelines(kept)

    def _kept(self) -> Iterator[str]:
        rows: list[str] = []
        for line in read_lines(self._path):
            epoch = line.partition(",")[0]
            if not re.fullmatch(r"[0-9]{1,7}", epoch) or int(epoch) > self._done:
                continue
            if rows and not rows[0].startswith(f"{epoch},"):
                rows = []
            rows.append(line)
            if len(rows) == len(self._cells):
                yield from rows


def read_lines(path: Path) -> Iterator[str]:
    """Yield the complete lines of a file. Class names contain no line break."""
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        yield from (line for line in file if line.endswith("\n"))


def read_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of `classes.csv`, the header first; a line that is no row is left out."""
    for line in read_lines(path):
        with contextlib.suppress(csv.Error):  # one reader per line: a damaged quotation mark would swallow the others
            yield next(csv.reader([line]), [])


def last_epoch(path: Path) -> int:
    """Return the epoch of the last complete row without reading the earlier ones; 0 if there is none."""
    with open(path, "rb") as file:
        file.seek(max(0, storage.size(path) - 4096))
        lines = file.read().split(b"\n")[:-1]
    cells = [line.partition(b",")[0] for line in lines]
    return next((int(cell) for cell in reversed(cells) if re.fullmatch(rb"[0-9]{1,7}", cell)), 0)


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
