"""Ultralytics' own log of a run, `results.csv` and its copy in every checkpoint: read as records, and mended."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.metrics import fitness_of
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.support import storage


def read_results_csv(path: Path) -> list[EpochRecord]:
    """Read Ultralytics' `results.csv` as records: metrics only, as it knows no more.

    An epoch that stands there twice counts as it was the last time. `fitness` is computed as Ultralytics does for
    each task. A row whose metrics and validation losses are all 0 was not validated.

    Args:
        path: A `results.csv`.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return _records(csv.DictReader(file, skipinitialspace=True))


def results_in_checkpoint(checkpoint: Mapping[str, Any]) -> list[EpochRecord]:
    """Return the records of `results.csv` as it was when a checkpoint was saved.

    Args:
        checkpoint: A loaded checkpoint; `train_results` holds the columns.
    """
    columns = checkpoint.get("train_results") or {}
    return _records(dict(zip(columns, row)) for row in zip(*columns.values()))


def _records(rows: Iterable[Mapping[str | Any, Any]]) -> list[EpochRecord]:
    records: dict[int, EpochRecord] = {}
    for row in rows:
        if None in row:  # more cells than columns, so that none can be told: depth without validation does that
            continue
        cells = {key.strip(): value for key, value in row.items() if key and value not in (None, "")}
        try:
            numbers = {key: float(value) for key, value in cells.items()}
            epoch = int(numbers.pop("epoch"))
        except (KeyError, TypeError, ValueError):
            continue
        records[epoch] = _record(epoch, numbers)
    return _summed([records[epoch] for epoch in sorted(records)])


def _summed(records: list[EpochRecord]) -> list[EpochRecord]:
    """Let `elapsed` go on over resumes, after each of which Ultralytics counts from 0 again."""
    summed, before, last = [], 0.0, 0.0
    for record in records:
        if record.elapsed < last:
            before += last
        last = record.elapsed
        summed.append(replace(record, elapsed=before + last))
    return summed


def _record(epoch: int, numbers: dict[str, float]) -> EpochRecord:
    elapsed = numbers.pop("time", 0.0)
    measured = {key: value for key, value in numbers.items() if key.startswith(("metrics/", "val/"))}
    if not any(measured.values()):
        rest = {key: value for key, value in numbers.items() if key not in measured}
        return EpochRecord(epoch, rest, validated=False, elapsed=elapsed)
    fitness = fitness_of(numbers)
    return EpochRecord(epoch, numbers if fitness is None else {**numbers, "fitness": fitness}, elapsed=elapsed)


def mend_results_csv(path: Path, done: int) -> int:
    """Leave one row for each of the first `done` epochs in `results.csv`, as if the run had never been interrupted.

    Ultralytics writes an epoch's row before its checkpoint. A process that dies in between leaves a row of an epoch
    that runs again after the resume, and would then stand there twice; one that dies while it writes leaves a part.

    Args:
        path: A `results.csv`; nothing happens if there is none.
        done: Number of epochs that the resumed run had finished.

    Returns:
        How many lines went.

    Raises:
        OSError: If it cannot be read or written.
    """
    if not path.exists():
        return 0
    text = path.read_text(encoding="utf-8", errors="replace")
    header, *lines = text.splitlines(keepends=True) or [""]
    fields = len(header.split(","))
    kept: dict[int, str] = {}
    for line in lines:
        number = line.split(",", 1)[0].strip()
        if number.isdigit() and int(number) <= done and len(line.split(",")) == fields and line.endswith("\n"):
            kept[int(number)] = line
    mended = header + "".join(kept[epoch] for epoch in sorted(kept))
    if mended != text:
        storage.write_text(path, mended)
    return len(lines) - len(kept)
