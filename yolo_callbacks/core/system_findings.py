"""What limits a run, and which memory grows, found in what `SystemMonitor` has measured. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.core.trend import steady_growth

PREFIX = "system/"
DATA, STEP = f"{PREFIX}data_seconds", f"{PREFIX}step_seconds"
VALIDATION, SAVE = f"{PREFIX}validation_seconds", f"{PREFIX}save_seconds"
DATA_WAIT, GPU_USE = f"{PREFIX}data_wait", f"{PREFIX}gpu_utilization"

_RECENT = 5  # epochs whose medians are judged
_FEWEST = 3
_WORTH = 0.5  # seconds per epoch below which nothing is worth a word
_WORSE = 0.15  # by how much a share must get worse to be told again

_LONGEST = 32  # epochs over which a growth is judged
_START = 4  # epochs at the start of a process in which memory grows anyway
_DROP = 0.9  # a memory that falls below this share of the one before starts anew
_MATTERS = 0.05  # growth by the planned end of the run, as a share of the memory
_FASTER = 2.0  # how many times faster it must get to be told again

_MB_PER_GB = 1024.0
_GROWING = {
    f"{PREFIX}rss_gb": (
        "the memory of the training process",
        "something keeps data of every epoch, such as a list in a callback",
    ),
    f"{PREFIX}workers_rss_gb": (
        "the memory of the data loader's workers",
        "a dataset that holds Python lists or dicts, or keeps what it has loaded; NumPy arrays do not grow",
    ),
    f"{PREFIX}gpu_allocated_gb": (
        "the GPU memory in use at the end of an epoch",
        "something keeps tensors of every epoch; keep .item() or .detach().cpu()",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run.

    Attributes:
        kind: What it is about: a part of the epoch, or a column.
        epoch: The epoch after which it was told.
        level: How bad it is: a share in [0, 1], or GiB per epoch.
        message: One sentence for people.
    """

    kind: str
    epoch: int
    level: float
    message: str


@dataclass(frozen=True)
class _Memory:
    """The last epochs of one memory, without the start of the process."""

    epochs: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    skipped: int = 0
    last: float = 0.0

    def after(self, epoch: int, value: float) -> _Memory:
        if value < _DROP * self.last:
            return _Memory(skipped=1, last=value)
        if self.skipped < _START:
            return _Memory(skipped=self.skipped + 1, last=value)
        epochs, values = (*self.epochs, epoch)[-_LONGEST:], (*self.values, value)[-_LONGEST:]
        return _Memory(epochs, values, self.skipped, value)


@dataclass(frozen=True)
class SystemState:
    """What has been found so far.

    Attributes:
        findings: The newest finding of each kind, in the order of their first appearance.
        started: Whether an epoch with measurements has been seen; the first one starts workers and fills caches.
        recent: The last measured epochs.
        memories: The last epochs of each memory.
    """

    findings: Mapping[str, Finding] = field(default_factory=dict)
    started: bool = False
    recent: tuple[_Times, ...] = ()
    memories: Mapping[str, _Memory] = field(default_factory=dict)

    def told_in(self, epoch: int) -> list[Finding]:
        """Return what there is to tell after an epoch."""
        return [finding for finding in self.findings.values() if finding.epoch == epoch]


@dataclass(frozen=True)
class _Times:
    """The seconds of one epoch, and the use of the GPU in its batches; NaN if unknown."""

    data: float
    step: float
    validation: float
    save: float
    whole: float
    gpu: float

    @classmethod
    def of(cls, record: EpochRecord) -> _Times | None:
        metrics = record.metrics
        data, step = metrics.get(DATA, math.nan), metrics.get(STEP, math.nan)
        if not math.isfinite(data + step) or data + step <= 0:
            return None
        validation, save = metrics.get(VALIDATION, 0.0), metrics.get(SAVE, 0.0)
        whole = max(record.measures.get("seconds", 0.0), data + step + validation + save)
        return cls(data, step, validation, save, whole, metrics.get(GPU_USE, math.nan))

    @property
    def training(self) -> float:
        return self.data + self.step


@dataclass(frozen=True)
class SystemFold:
    """Judges the last epochs after each one, and tells each kind of finding once, and again if it gets worse."""

    def initial(self, plan: Plan) -> SystemState:
        """Return the state before the first epoch."""
        return SystemState()

    def step(self, state: SystemState, record: EpochRecord) -> SystemState:
        """Return the state after one more epoch."""
        times = _Times.of(record)
        if times is not None and not state.started:
            state = replace(state, started=True)
        elif times is not None:
            state = replace(state, recent=(*state.recent, times)[-_RECENT:])
            found = _limits(state.recent, record.epoch)
            state = _told(state, found, lambda old, new: new >= old + _WORSE)
        memories = dict(state.memories)
        for name in _GROWING:
            value = record.metrics.get(name, math.nan)
            if math.isfinite(value):
                memories[name] = memories.get(name, _Memory()).after(record.epoch, value)
                growth = _growth(name, memories[name], record)
                state = _told(state, growth, lambda old, new: new >= _FASTER * old)
        return replace(state, memories=memories)


def _told(state: SystemState, found: Iterator[Finding], is_worse: Callable[[float, float], bool]) -> SystemState:
    findings = dict(state.findings)
    for finding in found:
        before = findings.get(finding.kind)
        if before is None or is_worse(before.level, finding.level):
            findings[finding.kind] = finding
    return replace(state, findings=findings)


# ---------------------------------------------------------------------------------------------------- time


def _limits(recent: Sequence[_Times], epoch: int) -> Iterator[Finding]:
    """Yield what takes too large a share of the last epochs."""
    if len(recent) < _FEWEST:
        return
    data, training = _median(recent, "data"), _median(recent, "training")
    waiting = statistics.median(times.data / times.training for times in recent)
    if waiting >= 0.2 and data >= max(_WORTH, 0.1 * _median(recent, "whole")):
        yield Finding(
            "data",
            epoch,
            waiting,
            f"{waiting:.0%} of the training time went into waiting for data ({_seconds(data)} of {_seconds(training)} "
            "per epoch): more workers=, cache=disk or cache=ram, or a faster disk",
        )
    gpu = _median(recent, "gpu")
    if waiting < 0.2 and gpu <= 0.5 and training >= _WORTH:  # not for NaN
        yield Finding(
            "gpu",
            epoch,
            1.0 - gpu,
            f"the GPU worked in only {gpu:.0%} of the training time, and waiting for data took {waiting:.0%}: a larger "
            "batch=, or compile=True",
        )
    for part, least, doing, advice in (
        ("validation", 0.5, "validation", "validate on fewer images, or less often"),
        ("save", 0.25, "saving checkpoints", "a faster or local disk for project="),
    ):
        share = statistics.median(getattr(times, part) / times.whole for times in recent)
        seconds = _median(recent, part)
        if share >= least and seconds >= _WORTH:
            whole = _seconds(_median(recent, "whole"))
            spent = f"{share:.0%} of the time went into {doing} ({_seconds(seconds)} of {whole} per epoch)"
            yield Finding(part, epoch, share, f"{spent}: {advice}")


def _median(recent: Sequence[_Times], part: str) -> float:
    return statistics.median(getattr(times, part) for times in recent)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


# ---------------------------------------------------------------------------------------------------- memory


def _growth(name: str, memory: _Memory, record: EpochRecord) -> Iterator[Finding]:
    """Yield the growth of a memory, if it is steady and matters by the planned end of the run."""
    trend = steady_growth(memory.epochs, memory.values)
    if trend is None:
        return
    end = max(record.planned_epochs, record.epoch)
    if trend.low * (end - memory.epochs[0]) < _MATTERS * memory.values[0]:
        return
    what, cause = _GROWING[name]
    slope, low, high = (_MB_PER_GB * value for value in (trend.slope, trend.low, trend.high))
    more = f"{memory.values[-1] + trend.slope * (end - record.epoch):.2f} GB by epoch {end}"
    yield Finding(
        name,
        record.epoch,
        trend.slope,
        f"{what} grows by {slope:.3g} MB per epoch (99 % interval {low:.3g} to {high:.3g}, epochs {memory.epochs[0]} to "
        f"{record.epoch}), {more} at this rate: {cause}",
    )
