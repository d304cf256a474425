"""What takes too large a share of the time, judged by the last epochs. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from yolo_callbacks.core.findings import DATA, GPU, GPU_USE, SAVE, STEP, VALIDATION, WORKERS, Finding
from yolo_callbacks.core.record import EpochRecord

RECENT = 5
"""Number of epochs whose medians are judged."""

_FEWEST = 3  # epochs
_WORTH = 0.5  # seconds per epoch below which nothing is worth a word
_WAITING = 0.2  # shares of the time
_WAITING_OF_EPOCH = 0.1
_IDLING = 0.5
_TOO_LONG = {
    "validation": (0.5, "validation", "validate on fewer images, or less often"),
    "save": (0.25, "saving checkpoints", "a faster or local disk for project="),
}
_CACHE = "cache=disk or cache=ram, or a faster disk"


@dataclass(frozen=True)
class Times:
    """The seconds of one epoch, and the share of its batches' time in which the GPU idled (NaN if unknown)."""

    data: float
    step: float
    validation: float
    save: float
    whole: float
    gpu_idle: float

    @property
    def training(self) -> float:
        """Seconds of the training part."""
        return self.data + self.step


def times_of(record: EpochRecord) -> Times | None:
    """Return the times of an epoch; None if they were not measured."""
    metrics = record.metrics
    data, step = metrics.get(DATA, math.nan), metrics.get(STEP, math.nan)
    if not math.isfinite(data + step) or data + step <= 0:
        return None
    validation, save = metrics.get(VALIDATION, 0.0), metrics.get(SAVE, 0.0)
    whole = max(record.measures.get("seconds", 0.0), data + step + validation + save)
    return Times(data, step, validation, save, whole, 1.0 - metrics.get(GPU_USE, math.nan))


def limits(recent: Sequence[Times], newest: EpochRecord) -> Iterator[Finding]:
    """Yield what takes too large a share of the time, by the medians of the last epochs.

    Args:
        recent: The last epochs, at most `RECENT`.
        newest: The last of them.
    """
    if len(recent) < _FEWEST:
        return
    data, training, whole = (_median(recent, part) for part in ("data", "training", "whole"))
    waiting = statistics.median_low(times.data / times.training for times in recent)
    idle = _median(recent, "gpu_idle")
    if waiting >= _WAITING and data >= max(_WORTH, _WAITING_OF_EPOCH * whole):
        spent = f"{_percent(waiting)} of the training time went into waiting for data"
        advice = _loading(newest.metrics)
        yield Finding("data", newest.epoch, waiting, f"{spent} ({_of(data, training)} per epoch): {advice}")
    elif waiting < _WAITING and idle >= _IDLING and training >= _WORTH:
        worked = f"the GPU worked in only {_percent(1.0 - idle)} of the training time"
        advice = "a larger batch=, or compile=True"
        yield Finding(
            "gpu", newest.epoch, idle, f"{worked}, and waiting for data took {_percent(waiting)} of it: {advice}"
        )
    for part, (most, doing, advice) in _TOO_LONG.items():
        seconds = _median(recent, part)
        share = statistics.median_low(getattr(times, part) / times.whole for times in recent)
        if share >= most and seconds >= _WORTH:
            spent = f"{_percent(share)} of the time went into {doing} ({_of(seconds, whole)} per epoch)"
            yield Finding(part, newest.epoch, share, f"{spent}: {advice}")


def _loading(metrics: Mapping[str, float]) -> str:
    """Return how to load faster. On a CPU, Ultralytics sets `workers=0` itself."""
    if WORKERS in metrics:
        return f"more workers=, {_CACHE}"
    return f"workers= above 0, {_CACHE}" if GPU in metrics else _CACHE


def _median(recent: Sequence[Times], part: str) -> float:
    """Return the median of one part, the lower one of two, so that half the epochs are no majority."""
    values = [getattr(times, part) for times in recent]
    return math.nan if any(map(math.isnan, values)) else float(statistics.median_low(values))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _of(part: float, whole: float) -> str:
    digits = 1 if whole < 100 else 0
    return f"{part:.{digits}f} of {whole:.{digits}f} s"
