"""Which memory grows from epoch to epoch, and how fast. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolo_callbacks.core.findings import GPU, PROCESS, WORKERS, Finding
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.core.trend import steady_growth

GROWING = {
    PROCESS: (
        "the memory of the training process",
        "something keeps data of every epoch, perhaps a callback",
    ),
    WORKERS: (
        "the memory of the data loader's workers",
        "a dataset that keeps what it has loaded, or that holds Python lists; NumPy arrays do not grow",
    ),
    GPU: (
        "the GPU memory in use at the end of an epoch",
        "something keeps tensors of every epoch; keep .item() or .detach().cpu()",
    ),
}
"""The columns that are judged, what they are called, and the usual cause."""

_LONGEST = 32  # epochs over which a growth is judged
_START = 4  # epochs at the start of a process in which memory grows anyway
_DROP = 0.9  # a memory that falls below this share of the one before starts anew
_MATTERS = 0.05  # growth by the planned end of the run, as a share of the memory
_MB = 1024.0  # in a GB


@dataclass(frozen=True)
class Memory:
    """The last epochs of one memory, without those at the start of the process."""

    epochs: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    skipped: int = 0
    last: float = 0.0

    def after(self, epoch: int, value: float) -> Memory:
        """Return it after one more epoch."""
        if value < _DROP * self.last:  # a resumed run, new workers, or memory that was freed
            return Memory(skipped=1, last=value)
        if self.skipped < _START:
            return Memory(skipped=self.skipped + 1, last=value)
        epochs, values = (*self.epochs, epoch)[-_LONGEST:], (*self.values, value)[-_LONGEST:]
        return Memory(epochs, values, self.skipped, value)


def growth(name: str, memory: Memory, newest: EpochRecord) -> Iterator[Finding]:
    """Yield the growth of a memory, if it is steady and matters by the planned end of the run.

    Args:
        name: The column.
        memory: Its last epochs.
        newest: The last of them.
    """
    trend = steady_growth(memory.epochs, memory.values)
    if trend is None:
        return
    first, epoch, end = memory.epochs[0], newest.epoch, max(newest.planned_epochs, newest.epoch)
    if trend.low * (end - first) < _MATTERS * memory.values[0]:
        return
    what, cause = GROWING[name]
    slope, low, high = (f"{_MB * value:.3g}" for value in (trend.slope, trend.low, trend.high))
    evidence = f"99 % interval {low} to {high}, epochs {first} to {epoch}"
    then = f"{memory.last + trend.slope * (end - epoch):.2f} GB by epoch {end} at this rate"
    yield Finding(name, epoch, trend.slope, f"{what} grows by {slope} MB per epoch ({evidence}), {then}: {cause}")
