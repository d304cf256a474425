"""CSVLogger: every epoch as a row of `callbacks/epochs.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.session.run_files import VIEWS
from yolo_callbacks.support import storage
from yolo_callbacks.support.checks import check_file_name, quoted

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session

_AFTER_METRICS, _LAST = "lr_factor", "event"


class CSVLogger(Callback):
    """Write one row per epoch to `callbacks/epochs.csv`, for people and for pandas.

    The file is replaced atomically after each epoch, so a reader never sees half a row. Numbers have full precision. A
    column that first appears in the middle of a run is empty in earlier rows. Ultralytics' `results.csv` stays as it
    is.

    | column | content |
    |---|---|
    | `epoch` | number of the epoch, counted from 1 |
    | `train/*`, `metrics/*`, `val/*`, `fitness` | the trainer's own; those of a validation are empty without one |
    | `lr/pg0`, `lr/pg1`, ... | learning rate of each parameter group at the end of the epoch |
    | `mAP50-95/person`, `gradients/norm`, ... | measured by other callbacks; empty if not measured |
    | `lr_factor` | factor of the callbacks on the trainer's own schedule |
    | `seconds` | duration of the epoch, including validation and saving |
    | `images_per_second` | training images divided by the time of the training part |
    | `rss_gb`, `gpu_gb` | memory of the process, and of the GPU if there is one, in GiB |
    | `elapsed` | seconds of training so far, summed over resumes |
    | `validated` | whether validation ran |
    | `EarlyStopping/wait`, ... | counters of the callbacks |
    | `event` | the decisions after the epoch |

    Args:
        filename: Name of the file in the run's `callbacks` folder, ending in `.csv`. Defaults to `"epochs.csv"`.
        separator: The character between fields. Defaults to `","`.

    Raises:
        TypeError: If an argument is not a string.
        ValueError: If `filename` contains a folder or has another suffix, or `separator` is not one character.

    Example:
        ```python
        run = ycb.attach(model, [ycb.CSVLogger()])
        model.train(data="coco8.yaml", epochs=3)
        pandas.read_csv(run.save_dir / "callbacks" / "epochs.csv")
        ```
    """

    priority = Priority.REPORT

    def __init__(self, filename: str = "epochs.csv", separator: str = ",") -> None:
        self.filename = check_file_name("filename", filename, suffix=".csv")
        if not isinstance(separator, str):
            raise TypeError(f"separator={quoted(separator)} must be a string, not {type(separator).__name__}")
        if len(separator) != 1 or separator in '\r\n"':
            raise ValueError(f"separator={quoted(separator)} must be one character such as ',' or ';'")
        self.separator = separator
        self._table = _Table(separator)

    def outputs(self) -> Iterable[str]:
        """Return the file."""
        return (f"callbacks/{self.filename}",)

    def setup(self, session: Session) -> None:
        """Start with the epochs of an interrupted run."""
        self._table = _Table(self.separator, session.measured_names)
        for entry in session.entries:
            self._table.add(entry.to_row())
        if session.entries:
            self._write(session)

    def act(self, session: Session) -> None:
        """Add the epoch's row."""
        self._table.add(session.entries[-1].to_row())
        self._write(session)

    def _write(self, session: Session) -> None:
        path = session.run.callbacks_dir / self.filename
        session.files.background(VIEWS).submit(self.filename, self._table.writer(path))


class _Table:
    """The rows as text, so that adding one costs the same at any length."""

    def __init__(self, separator: str, announced: Iterable[str] = ()) -> None:
        self._separator = separator
        self._announced = tuple(announced)
        self._columns: dict[str, None] = {}
        self._rows: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, and its new columns to all earlier rows."""
        self._rows.append(row)
        if row.keys() <= self._columns.keys():
            self._lines.append(self._line(row))
            return
        order = list(self._columns or row)
        if not self._columns:
            place = order.index(_AFTER_METRICS)
            order[place:place] = [name for name in self._announced if name not in order]
        self._columns = dict.fromkeys([*(name for name in [*order, *row] if name != _LAST), _LAST])
        self._lines = [self._line(dict(zip(self._columns, self._columns))), *map(self._line, self._rows)]

    def writer(self, path: Path) -> _Writer:
        """Return a task that writes the current rows."""
        return _Writer(path, self._lines, len(self._lines))

    def _line(self, row: dict[str, Any]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self._separator, lineterminator="\n").writerow(
            [row.get(name, "") for name in self._columns]
        )
        return text.getvalue()


class _Writer:
    """Writes the first `count` lines, since the list may grow in the meantime."""

    def __init__(self, path: Path, lines: list[str], count: int) -> None:
        self._path, self._lines, self._count = path, lines, count

    def __call__(self) -> None:
        storage.replace_unsynced(self._path, "".join(self._lines[: self._count]).encode("utf-8", storage.UNPAIRED))
