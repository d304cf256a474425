"""Which epochs to keep: the N best, and one after each time interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo_callbacks.core.epochs import epochs_in_words
from yolo_callbacks.core.monitor import Monitor
from yolo_callbacks.core.naming import FileTemplate
from yolo_callbacks.core.record import EpochRecord, Plan

ALL = -1
"""As a number of files: no limit."""


@dataclass(frozen=True)
class Top:
    """The best checkpoints so far.

    Attributes:
        kept: (value, epoch, file), best first; of equal values the earlier first.
        newest: The one that was added last.
        dropped: Files that it replaced.
        changed_in: The epoch in which it was added; 0 before the first.
    """

    kept: tuple[tuple[float, int, str], ...] = ()
    newest: tuple[float, int, str] = (math.nan, 0, "")
    dropped: tuple[str, ...] = ()
    changed_in: int = 0


@dataclass(frozen=True)
class TopFold:
    """Finds the best `size` epochs; `ALL` keeps every validated epoch."""

    monitor: Monitor
    size: int
    template: FileTemplate

    def initial(self, plan: Plan) -> Top:
        """Return the state before the first epoch."""
        return Top()

    def step(self, state: Top, record: EpochRecord) -> Top:
        """Return the state after one more epoch."""
        value = self.monitor.value(record)
        if value is None or not math.isfinite(value) or self.size == 0:
            return state
        full = self.size != ALL and len(state.kept) >= self.size
        if full and not self.monitor.is_better(value, state.kept[-1][0]):
            return state
        newest = (value, record.epoch, self.template.render_record(record, value))
        sign = -1 if self.monitor.mode == "max" else 1
        ranked = sorted([*state.kept, newest], key=lambda item: (sign * item[0], item[1]))
        kept = tuple(ranked if self.size == ALL else ranked[: self.size])
        files = {file for _, _, file in kept}
        dropped = tuple(file for _, _, file in state.kept if file not in files)
        # with ALL, only the best is ever used; a list of all would grow to thousands
        return Top(kept[:1] if self.size == ALL else kept, newest, () if self.size == ALL else dropped, record.epoch)


def never_due(every_n_epochs: int | None, plan: Plan) -> tuple[str, ...]:
    """Return a sentence if `every_n_epochs` is longer than the run.

    Example:
        >>> never_due(50, Plan(planned_epochs=12)), never_due(12, Plan(planned_epochs=12))
        (('every_n_epochs=50 is never due in 12 epochs',), ())
    """
    late = every_n_epochs is not None and 0 < plan.planned_epochs < every_n_epochs
    return (f"every_n_epochs={every_n_epochs} is never due in {epochs_in_words(plan.planned_epochs)}",) * late


@dataclass(frozen=True)
class Due:
    """When a checkpoint was last due.

    Attributes:
        elapsed: Seconds of training until then.
        epoch: The epoch that ended then; 0 before the first time.
    """

    elapsed: float = 0.0
    epoch: int = 0


@dataclass(frozen=True)
class ClockFold:
    """Is due after the first epoch that ends at least `seconds` of training after the last time."""

    seconds: float

    def initial(self, plan: Plan) -> Due:
        """Return the state before the first epoch."""
        return Due()

    def step(self, state: Due, record: EpochRecord) -> Due:
        """Return the state after one more epoch."""
        return Due(record.elapsed, record.epoch) if record.elapsed - state.elapsed >= self.seconds else state
