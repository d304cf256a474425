"""A `results.csv` of any version of Ultralytics, or of YOLOv5, read fast and without trust.

`run_dir/results_csv.py` reads the one of a run that is going on. Here are 1,000 files that anybody may have left,
edited, or cut: what cannot be told is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from yolo_callbacks.core.metrics import fitness_of

_YOLOV5 = re.compile(r"metrics/mAP_0\.5(:0\.95)?(\([A-Z]\))?")
_RATE = re.compile(r"(?:x/lr|lr/)(\d+)")
_MEASURED = ("metrics/", "val/")  # what a validation gives
_SINGLE_SCORES = ("metrics/accuracy_top1", "metrics/mIoU", "metrics/delta1", "fitness")


class UnusableError(ValueError):
    """There is nothing in a log that could be replayed; the message goes on from the file's name."""


@dataclass(frozen=True)
class Row:
    """What a log says of one epoch.

    Attributes:
        epoch: Its number, counted from 1.
        metrics: The numbers under Ultralytics' names of today, `fitness` among them if it was validated.
        validated: Whether it was validated.
        elapsed: Seconds of training up to here, summed over resumes; 0 where they are not logged.
    """

    epoch: int
    metrics: dict[str, float]
    validated: bool
    elapsed: float


@dataclass(frozen=True)
class ResultsLog:
    """A `results.csv`.

    Attributes:
        rows: The epochs in order, each once.
        left_out: Number of lines that could not be read.
        yolov5: Whether YOLOv5 has written it.
        timed: Whether it says how long the epochs took.
    """

    rows: list[Row]
    left_out: int
    yolov5: bool
    timed: bool


def read_results_log(path: Path) -> ResultsLog:
    """Read a `results.csv`.

    An epoch that stands there twice, as after a resume, counts as it was the last time. Lines that are torn, or have
    other columns than the header says, are left out. Epochs that are counted from 0 are counted from 1.

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
        raise UnusableError("has no epoch in it")
    if not any(row.validated for row in rows.values()):
        raise UnusableError("has no epoch that was validated")
    first = 1 if 0 in rows else 0
    return ResultsLog(_in_order(rows, first), left_out, columns.yolov5, columns.timed)


def score_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Return the metrics whose mean a model is judged by here: see `ReplayReport`; none if there is none.

    Example:
        >>> score_keys(["metrics/mAP50-95(B)", "metrics/mAP50(B)", "metrics/mAP50-95(M)"])
        ('metrics/mAP50-95(B)', 'metrics/mAP50-95(M)')
    """
    boxes = tuple(name for name in names if name.startswith("metrics/mAP50-95"))
    return boxes or next(((name,) for name in _SINGLE_SCORES if name in names), ())


class _Columns:
    """What the columns of a file mean."""

    def __init__(self, header: str) -> None:
        raw = [name.strip() for name in header.split(",")]
        if "epoch" not in raw:
            raise UnusableError("is no results.csv: it has no column 'epoch'")
        self._header = raw
        self.yolov5 = any(_YOLOV5.fullmatch(name) for name in raw)
        names = [_name_of_today(name, self.yolov5) for name in raw]
        if not score_keys([name for name in names if name.startswith("metrics/")]):
            raise UnusableError("has no metric in it such as metrics/mAP50-95(B)")
        self._epoch = names.index("epoch")
        self._time = names.index("time") if "time" in names else None
        self.timed = self._time is not None
        kept = [i for i, name in enumerate(names) if name not in ("", "epoch", "time")]
        measured = [i for i in kept if names[i].startswith(_MEASURED)]
        self._names = [names[i] for i in kept]
        self._kept, self._measured = _getter(kept), _getter(measured)
        self._unmeasured = [name for name in self._names if not name.startswith(_MEASURED)]

    def row(self, line: str) -> Row | None:
        """Return what a line says; None if that cannot be told."""
        cells = line.split(",")
        if len(cells) != len(self._header):
            return None
        try:
            values = list(map(float, cells))
        except ValueError:
            return self._row_with_gaps(cells)
        return self._row(values)

    def is_header(self, line: str) -> bool:
        """Return whether a line is the header once more."""
        return [name.strip() for name in line.split(",")] == self._header

    def _row_with_gaps(self, cells: list[str]) -> Row | None:
        """Read a line with empty cells, which is how other programs write NaN."""
        try:
            values = [float(cell) if cell.strip() else float("nan") for cell in cells]
        except ValueError:
            return None
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
        if not any(self._measured(values)):  # what Ultralytics writes for an epoch without a validation
            return Row(int(number), {name: metrics[name] for name in self._unmeasured}, False, elapsed)
        fitness = fitness_of(metrics)
        if fitness is not None:
            metrics["fitness"] = fitness
        return Row(int(number), metrics, True, elapsed)


def _getter(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that takes these items out of a list, fast."""
    if len(indices) == 1:
        return lambda items: (items[indices[0]],)
    return itemgetter(*indices)


def _name_of_today(name: str, yolov5: bool) -> str:
    """Return what Ultralytics calls today what an older version, or YOLOv5, has called otherwise."""
    rate = _RATE.fullmatch(name)
    if rate:
        return f"lr/pg{rate[1]}"
    score = _YOLOV5.fullmatch(name)
    if score:
        return f"metrics/mAP50{'-95' if score[1] else ''}{score[2] or '(B)'}"
    return f"{name}(B)" if yolov5 and name in ("metrics/precision", "metrics/recall") else name


def _in_order(rows: dict[int, Row], first: int) -> list[Row]:
    """Return the rows in order, counted from 1; `elapsed` goes on where a resume has begun to count anew."""
    ordered, before, last = [], 0.0, 0.0
    for epoch in sorted(rows):
        row = rows[epoch]
        if row.elapsed < last:
            before += last
        last = row.elapsed
        ordered.append(Row(epoch + first, row.metrics, row.validated, before + last) if before or first else row)
    return ordered
