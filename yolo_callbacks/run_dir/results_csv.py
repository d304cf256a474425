"""The `results.csv` of a run of ours, and its copy in every checkpoint: read as records, and repaired.

Every row with the number of an epoch counts: a resumed run needs whatever is known of each epoch. `results_log.py` is
faster and stricter, for files of any origin.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.metrics import fitness_of
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.run_dir.results_log import MEASURED, summed_over_resumes
from yolo_callbacks.support import storage


def read_results_csv(path: Path) -> list[EpochRecord]:
    """Read a `results.csv` as records with metrics only.

    If an epoch is there twice, the last row counts. `fitness` is computed as Ultralytics does for each task. A row
    whose metrics and validation losses are all 0 was not validated.

    Args:
        path: A `results.csv`.

    Raises:
        OSError: If it cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "\ufffd")
    # one reader per line: a damaged quotation mark would swallow all lines after it
    header, *lines = text.splitlines() or [""]
    return _records(_row(header, line) for line in lines)


def _row(header: str, line: str) -> Mapping[str | Any, Any]:
    try:
        return next(csv.DictReader([header, line], skipinitialspace=True), {})
    except csv.Error:  # a field that is too long
        return {}


def results_in_checkpoint(checkpoint: Mapping[str, Any]) -> list[EpochRecord]:
    """Return the records of `results.csv` at the time when a checkpoint was saved.

    Args:
        checkpoint: A loaded checkpoint; `train_results` holds the columns.
    """
    columns = checkpoint.get("train_results")
    if not isinstance(columns, Mapping) or not all(isinstance(values, (list, tuple)) for values in columns.values()):
        return []
    return _records(dict(zip(columns, row)) for row in zip(*columns.values()))


def _records(rows: Iterable[Mapping[str | Any, Any]]) -> list[EpochRecord]:
    records: dict[int, EpochRecord] = {}
    for row in rows:
        if None in row:  # more cells than columns, so no cell can be assigned; depth without validation does that
            continue
        cells = {key.strip(): value for key, value in row.items() if key and value not in (None, "")}
        try:
            numbers = {key: float(value) for key, value in cells.items()}
            epoch = numbers.pop("epoch")
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if epoch >= 1 and epoch.is_integer():
            records[int(epoch)] = _record(int(epoch), numbers)
    ordered = [records[epoch] for epoch in sorted(records)]
    seconds = summed_over_resumes(record.elapsed for record in ordered)
    return [replace(record, elapsed=elapsed) for record, elapsed in zip(ordered, seconds)]


def _record(epoch: int, numbers: dict[str, float]) -> EpochRecord:
    elapsed = numbers.pop("time", 0.0)
    measured = {key: value for key, value in numbers.items() if key.startswith(MEASURED)}
    if not any(measured.values()):
        rest = {key: value for key, value in numbers.items() if key not in measured}
        return EpochRecord(epoch, rest, validated=False, elapsed=elapsed)
    fitness = fitness_of(numbers)
    return EpochRecord(epoch, numbers if fitness is None else {**numbers, "fitness": fitness}, elapsed=elapsed)


def mend_results_csv(path: Path, done: int) -> int:
    """Leave one row for each of the first `done` epochs in `results.csv`, as if the run had never been interrupted.

    Ultralytics writes an epoch's row before its checkpoint. A process that dies in between leaves the row of an epoch
    that runs again after the resume, which would then have two; one that dies while writing leaves part of a row.

    Args:
        path: A `results.csv`; nothing happens if there is none.
        done: Number of epochs that the resumed run had finished.

    A file in which no row fits the header, because the header is damaged, stays as it is.

    Returns:
        The number of removed lines.

    Raises:
        OSError: If it cannot be read or written.
    """
    if not path.exists():
        return 0
    text = path.read_text(encoding="utf-8", errors="replace")
    header, *lines = text.splitlines(keepends=True) or [""]
    fields = len(header.split(","))
    fitting = [line for line in lines if len(line.split(",")) == fields and line.endswith("\n")]
    if not fitting and any(line.endswith("\n") for line in lines):
        return 0
    kept: dict[int, str] = {}
    for line in fitting:
        number = line.split(",", 1)[0].strip()
        if re.fullmatch(r"[0-9]{1,7}", number) and 1 <= int(number) <= done:
            kept[int(number)] = line
    mended = header + "".join(kept[epoch] for epoch in sorted(kept))
    if mended != text:
        storage.write_text(path, mended)
    return len(lines) - len(kept)
