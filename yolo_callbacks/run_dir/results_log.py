"""A `results.csv` of any version of Ultralytics, or of YOLOv5, read fast and without trust.

There may be 1,000 files that anybody has edited or truncated: rows that cannot be interpreted are left out.
`results_csv.py` reads the file of a run that is resumed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from yolo_callbacks.core.metrics import fitness_of

_YOLOV5 = re.compile(r"metrics/mAP_0\.5(:0\.95)?(\([A-Z]\))?")
_RATE = re.compile(r"(?:x/lr|lr/)(\d+)")
MEASURED = ("metrics/", "val/")
"""Prefixes of what a validation measures."""

_SINGLE_SCORES = ("metrics/accuracy_top1", "metrics/mIoU", "metrics/delta1", "fitness")


class UnusableError(ValueError):
    """A log has nothing that can be replayed; the message continues the sentence after the file's name."""


@dataclass(frozen=True)
class Row:
    """One epoch of a log.

    Attributes:
        epoch: Its number, counted from 1.
        metrics: The numbers under Ultralytics' current names, with `fitness` if the epoch was validated.
        validated: Whether it was validated.
        elapsed: Seconds of training so far, summed over resumes; 0 if they are not logged.
    """

    epoch: int
    metrics: dict[str, float]
    validated: bool
    elapsed: float


@dataclass(frozen=True)
class ResultsLog:
    """A `results.csv`.

    Attributes:
        rows: The epochs in order, one row each.
        left_out: Number of lines that could not be read.
        yolov5: Whether YOLOv5 wrote the file.
        timed: Whether it has the time of each epoch.
    """

    rows: list[Row]
    left_out: int
    yolov5: bool
    timed: bool


def read_results_log(path: Path) -> ResultsLog:
    """Read a `results.csv`.

    If an epoch is there twice, as after a resume, the last row counts. Torn lines, and lines that do not match the
    header, are left out. Epochs counted from 0 are renumbered from 1.

    Raises:
        UnusableError: If nothing in it can be replayed.
        OSError: If it cannot be read.
    """
    data = path.read_bytes()
    if not data.strip():
        raise UnusableError("is empty")
    return parse_results(data.decode("utf-8-sig", errors="replace"))


def parse_results(text: str) -> ResultsLog:
    """Read the text of a `results.csv`; see `read_results_log`."""
    header, *lines = text.split("\n")
    columns = _Columns(header)
    rows: dict[int, Row] = {}
    left_out = 0
    for line in lines:
        row = columns.row(line)
        if row is not None:
            rows[row.epoch] = row
        elif line.strip():
            left_out += not columns.is_header(line)
    if not rows:
        raise UnusableError("has no epochs")
    if not any(row.validated for row in rows.values()):
        raise UnusableError("has no validated epoch")
    first = 1 if 0 in rows else 0
    return ResultsLog(_in_order(rows, first), left_out, columns.yolov5, columns.timed)


def score_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics whose mean scores a model, see `ReplayReport`; empty if there is none.

    Example:
        >>> score_keys(["metrics/mAP50-95(B)", "metrics/mAP50(B)", "metrics/mAP50-95(M)"])
        ('metrics/mAP50-95(B)', 'metrics/mAP50-95(M)')
    """
    boxes = tuple(name for name in names if name.startswith("metrics/mAP50-95"))
    return boxes or next(((name,) for name in _SINGLE_SCORES if name in names), ())


class _Columns:
    """The columns of a file and what they mean."""

    def __init__(self, header: str) -> None:
        raw = [name.strip() for name in header.split(",")]
        if "epoch" not in raw:
            raise UnusableError("is not a results.csv: it has no column 'epoch'")
        self._header = raw
        self.yolov5 = any(_YOLOV5.fullmatch(name) for name in raw)
        names = [_current_name(name, self.yolov5) for name in raw]
        if not score_keys([name for name in names if name.startswith("metrics/")]):
            raise UnusableError("has no metric such as metrics/mAP50-95(B)")
        self._epoch = names.index("epoch")
        self._time = names.index("time") if "time" in names else None
        self.timed = self._time is not None
        kept = [i for i, name in enumerate(names) if name not in ("", "epoch", "time")]
        measured = [i for i in kept if names[i].startswith(MEASURED)]
        self._names = [names[i] for i in kept]
        self._kept, self._measured = _getter(kept), _getter(measured)
        self._unmeasured = [name for name in self._names if not name.startswith(MEASURED)]

    def row(self, line: str) -> Row | None:
        """Return the row of a line; None if it cannot be interpreted."""
        cells = line.split(",")
        if len(cells) != len(self._header):
            return None
        try:
            values = list(map(float, cells))
        except ValueError:
            return self._row_with_gaps(cells)
        return self._row(values)

    def is_header(self, line: str) -> bool:
        """Return whether a line repeats the header."""
        return [name.strip() for name in line.split(",")] == self._header

    def _row_with_gaps(self, cells: list[str]) -> Row | None:
        """Read a line with empty cells, which is how other programs write NaN."""
        try:
            values = [float(cell) if cell.strip() else float("nan") for cell in cells]
        except ValueError:
            return None
        if cells[self._epoch].strip() and not any(cell.strip() for cell in self._measured(cells)):  # not validated
            values = [value if cell.strip() else 0.0 for value, cell in zip(values, cells)]
        row = self._row(values)
        if row is None:
            return None
        empty = {name for name, cell in zip(self._names, self._kept(cells)) if not cell.strip()}
        metrics = {name: value for name, value in row.metrics.items() if name not in empty}
        return Row(row.epoch, metrics, row.validated, row.elapsed)

    def _row(self, values: list[float]) -> Row | None:
        number = values[self._epoch]
        if number < 0 or not number.is_integer():
            return None
        metrics = dict(zip(self._names, self._kept(values)))
        elapsed = values[self._time] if self._time is not None else 0.0
        elapsed = elapsed if math.isfinite(elapsed) else 0.0
        if not any(self._measured(values)):  # Ultralytics writes zeros for an epoch without validation
            return Row(int(number), {name: metrics[name] for name in self._unmeasured}, False, elapsed)
        fitness = fitness_of(metrics)
        if fitness is not None:
            metrics["fitness"] = fitness
        return Row(int(number), metrics, True, elapsed)


def _getter(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a fast function that picks these items of a list."""
    if len(indices) == 1:
        return lambda items: (items[indices[0]],)
    return itemgetter(*indices)


def _current_name(name: str, yolov5: bool) -> str:
    """Return Ultralytics' current name for a column of an older version or of YOLOv5."""
    rate = _RATE.fullmatch(name)
    if rate:
        return f"lr/pg{rate[1]}"
    score = _YOLOV5.fullmatch(name)
    if score:
        return f"metrics/mAP50{'-95' if score[1] else ''}{score[2] or '(B)'}"
    return f"{name}(B)" if yolov5 and name in ("metrics/precision", "metrics/recall") else name


def _in_order(rows: dict[int, Row], first: int) -> list[Row]:
    """Return the rows in order, counted from 1, with `elapsed` summed over resumes."""
    ordered = [rows[epoch] for epoch in sorted(rows)]
    seconds = summed_over_resumes(row.elapsed for row in ordered)
    return [Row(row.epoch + first, row.metrics, row.validated, elapsed) for row, elapsed in zip(ordered, seconds)]


def summed_over_resumes(times: Iterable[float]) -> Iterator[float]:
    """Yield the seconds of training at each epoch; Ultralytics' own count starts from 0 after each resume.

    Example:
        >>> list(summed_over_resumes([5, 9, 4, 8]))
        [5.0, 9.0, 13.0, 17.0]
    """
    before = last = 0.0
    for elapsed in times:
        if elapsed < last:
            before += last
        last = elapsed
        yield before + last
