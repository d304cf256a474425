"""When a training stands still, and on which rank. Pure: readings of a clock in, findings out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from yolo_callbacks.support.checks import check_number
from yolo_callbacks.support.numbers import plain

BATCH = "batch"
"""The wait between two batches of an epoch; every other wait is called by its phase."""

_SAMPLES = 61  # of the batch time, about one per second
_ENOUGH = 5  # samples before a multiple of their median means anything
_TWICE = 2.0  # how much longer than the longest wait so far a wait must be


class Place(NamedTuple):
    """A line that a thread is in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.function} ({'/'.join(self.file.replace(chr(92), '/').split('/')[-2:])}:{self.line})"


class Reading(NamedTuple):
    """What the training has shown so far.

    Attributes:
        kind: What it waits for now: `BATCH`, or its phase.
        last: Time of the last sign of life, in seconds.
        epoch: Number of the epoch.
        batch: Number of batches that have ended in it.
    """

    kind: str
    last: float
    epoch: int
    batch: int


@dataclass(frozen=True)
class Limits:
    """How long is too long.

    Attributes:
        multiple: Multiple of the usual batch time; None if `seconds` is given.
        seconds: Seconds between two batches; None if `multiple` is given. Both None: never too long.
        floor: With `multiple`, the least number of seconds.
        slow: Seconds for everything but the wait between two batches.

    Example:
        >>> limits = Limits.of("10x", floor=60.0, slow=1800.0)
        >>> limits.limit(BATCH, usual=0.5, longest=0.9), limits.limit(BATCH, usual=9.0, longest=9.5)
        (60.0, 90.0)
        >>> limits.limit("validating", usual=0.5, longest=1000.0)
        2000.0
    """

    multiple: float | None
    seconds: float | None
    floor: float
    slow: float

    @classmethod
    def of(cls, stall_after: float | str | None, floor: float, slow: float) -> Limits:
        """Return the limits for an argument `stall_after`, checked by `check_stall_after`."""
        if isinstance(stall_after, str):
            return cls(float(stall_after[:-1]), None, floor, slow)
        return cls(None, stall_after, floor, slow)

    def limit(self, kind: str, usual: float | None, longest: float) -> float:
        """Return the number of seconds after which a wait is too long; infinite if none is.

        Args:
            kind: What is waited for.
            usual: The usual batch time, None while it is unknown.
            longest: The longest wait of this kind that has ended, 0 for none.
        """
        if self.multiple is None and self.seconds is None:
            return math.inf
        if kind != BATCH:
            return max(self.slow, self.seconds or 0.0, _TWICE * longest)
        if self.multiple is None:
            return self.seconds or 0.0
        if usual is None:
            return max(self.slow, self.floor)
        return max(self.floor, self.multiple * usual, min(_TWICE * longest, self.slow))


def check_stall_after(value: object) -> float | str | None:
    """Return a multiple such as `"10x"`, a number of seconds > 0, or None.

    Raises:
        TypeError: If it is something else.
        ValueError: If it is out of range.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        try:
            return check_number("stall_after", plain(value), minimum=0.0, exclusive=True)
        except TypeError:
            raise TypeError(
                f"stall_after={value!r} must be a multiple such as '10x', a number of seconds, or None"
            ) from None
    try:
        multiple = float(value.removesuffix("x"))
    except ValueError:
        multiple = math.nan
    if not value.endswith("x") or not (math.isfinite(multiple) and multiple >= 2):
        raise ValueError(f"stall_after={value!r} must be a multiple of at least 2, such as '10x', or a number")
    return value


@dataclass(frozen=True)
class Stalled:
    """Nothing has happened for too long.

    Attributes:
        seconds: How long.
        limit: How long it may be.
        usual: The usual batch time, None if unknown.
    """

    seconds: float
    limit: float
    usual: float | None


@dataclass(frozen=True)
class WentOn:
    """A stall is over, after so many seconds. `suspended`: the whole process did not run."""

    seconds: float
    suspended: bool = False


class StallJudge:
    """Looks at readings, about one per `tick` seconds, and finds stalls.

    The time in which the process as a whole did not run (a suspended machine, SIGSTOP) does not count.

    Args:
        limits: How long is too long.
        tick: Seconds between two readings.

    Attributes:
        stalled: Whether the training stands still.
        quiet: Seconds since the last sign of life.
    """

    def __init__(self, limits: Limits, tick: float) -> None:
        self.stalled, self.quiet = False, 0.0
        self._limits, self._tick = limits, tick
        self._samples: deque[float] = deque(maxlen=_SAMPLES)
        self._longest: dict[str, float] = {}
        self._before: Reading | None = None
        self._now, self._lost = -math.inf, 0.0

    @property
    def usual(self) -> float | None:
        """The usual seconds of a batch; None while they are unknown."""
        return median(self._samples) if len(self._samples) >= _ENOUGH else None

    def add(self, batch_seconds: float) -> None:
        """Add the batch time of a whole epoch."""
        self._samples.append(batch_seconds)

    def look(self, now: float, reading: Reading) -> Stalled | WentOn | None:
        """Return what has changed since the last reading; None for nothing."""
        before, self._before = self._before, reading
        missed, self._now = now - self._now - self._tick, now
        if before is None:
            return None
        missed = missed if missed > max(1.0, 5 * self._tick) else 0.0
        alive = reading.last != before.last or reading.kind != before.kind
        event = self._signs_of_life(before, reading, missed, now) if alive else None
        if not alive:
            self._lost += missed
        self.quiet = max(0.0, now - reading.last - self._lost)
        if event is None and missed >= self._limits.limit("", None, 0.0):
            event = WentOn(missed, suspended=True)
        if event is not None or self.stalled:
            return event
        limit = self._limits.limit(reading.kind, self.usual, self._longest.get(reading.kind, 0.0))
        if self.quiet <= limit:
            return None
        self.stalled = True
        return Stalled(self.quiet, limit, self.usual)

    def _signs_of_life(self, before: Reading, reading: Reading, missed: float, now: float) -> WentOn | None:
        suspended_since = missed <= now - reading.last
        waited = max(0.0, reading.last - before.last - self._lost - (0.0 if suspended_since else missed))
        self._longest[before.kind] = max(waited, self._longest.get(before.kind, 0.0))
        self._lost = missed if suspended_since else 0.0
        batches = reading.batch - before.batch
        if before.kind == reading.kind == BATCH and reading.epoch == before.epoch and batches > 0:
            self._samples.append(waited / batches)
        stalled, self.stalled = self.stalled, False
        return WentOn(waited) if stalled else None


def waits_for(places: Iterable[Place]) -> str | None:
    """Return what a thread waits for by its stack, innermost line first: `"data"`, other `"ranks"`, or None.

    Example:
        >>> waits_for([Place("site-packages/torch/utils/data/dataloader.py", 1490, "_try_get_data")])
        'data'
    """
    for place in places:
        file = place.file.replace("\\", "/")
        if "/torch/utils/data/" in file or "/ultralytics/data/" in file:
            return "data"
        if "/torch/distributed/" in file or place.function == "_engine_run_backward":
            return "ranks"
        if file.endswith("/ultralytics/engine/trainer.py"):  # the training loop; further out is what called it
            return None
    return None


def behind(beats: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Return the ranks that the others wait for, by the heartbeats of all ranks; empty if that cannot be told.

    These are the ranks with the fewest batches. If all have the same number, they are those that are in something
    other than an exchange with the other ranks.

    Example:
        >>> behind({0: {"epoch": 2, "waits_for": "ranks"}, 1: {"epoch": 2, "waits_for": "data"}})
        [1]
    """
    progress = {rank: _progress(beat) for rank, beat in beats.items()}
    last = sorted(rank for rank, done in progress.items() if done == min(progress.values()))
    if len(last) < len(beats):
        return last
    elsewhere = sorted(rank for rank, beat in beats.items() if beat.get("waits_for") != "ranks")
    return elsewhere if len(elsewhere) < len(beats) else []


def _progress(beat: Mapping[str, Any]) -> tuple[float, float]:
    batch = beat.get("batch") if beat.get("phase", "training") == "training" else math.inf
    return float(beat.get("epoch") or 0), float(batch or 0)
