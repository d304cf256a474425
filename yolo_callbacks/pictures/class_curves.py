"""One metric of each class over the epochs, read from `classes.csv`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo_callbacks.run_dir.class_log import CLASS, EPOCH, last_epoch, read_rows

_MAX_COLUMNS = 600  # of a heat map: more could not be distinguished
_PREFERRED = ("mAP50-95", "mIoU", "top1")
_HEADS = ("(M)", "(P)", "", "(B)")

Floats = NDArray[np.float64]


@dataclass
class ClassCurves:
    """One metric of each class over the epochs.

    Attributes:
        metric: The metric.
        names: The classes that occur in the validation set, in order of their first row.
        absent: The classes that do not.
        values: One row per class, one column per epoch, or per several epochs of a long run; NaN if not measured.
        newest: The newest value of each class.
        ends: The first and last epoch of each column.
    """

    metric: str
    names: list[str]
    absent: list[str]
    values: Floats
    newest: Floats
    ends: list[tuple[int, int]]


def read_curves(path: Path) -> ClassCurves:
    """Read one metric of each class from `classes.csv`, in memory that does not grow with the run.

    Raises:
        ValueError: If it has no values.
        OSError: If it cannot be read.
    """
    rows = read_rows(path)
    header = next(rows, [])
    metric = next((name + head for name in _PREFERRED for head in _HEADS if name + head in header), "")
    epochs = last_epoch(path)
    if not metric or not epochs:
        raise ValueError(f"{path} has no class to draw")
    name_at, value_at, epoch_at = header.index(CLASS), header.index(metric), header.index(EPOCH)
    width = math.ceil(epochs / _MAX_COLUMNS)
    columns = math.ceil(epochs / width)
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    newest: dict[str, float] = {}
    seen = np.zeros(epochs + 1, dtype=bool)
    for row in rows:
        try:
            epoch, value = int(row[epoch_at]), float(row[value_at] or "nan")
        except (ValueError, IndexError):  # damaged
            continue
        if len(row) != len(header) or not 1 <= epoch <= epochs:
            continue
        name = row[name_at]
        if name not in sums:
            sums[name], counts[name] = np.zeros(columns), np.zeros(columns)
        if row[value_at]:
            column = (epoch - 1) // width
            sums[name][column] += value
            counts[name][column] += 1
            newest[name] = value
            seen[epoch] = True
    names = list(newest)
    if not names:
        raise ValueError(f"no class of {path} occurs in the validation set")
    with np.errstate(invalid="ignore"):
        values = np.array([sums[name] / counts[name] for name in names]).reshape(len(names), columns)
    measured = [column for column in range(columns) if seen[1 + column * width : 1 + (column + 1) * width].any()]
    return ClassCurves(
        metric,
        names,
        [name for name in sums if name not in newest],
        values[:, measured],
        np.array([newest[name] for name in names]),
        [(1 + column * width, min(epochs, (column + 1) * width)) for column in measured],
    )
