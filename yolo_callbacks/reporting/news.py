"""When to report a new best. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yolo_callbacks.core.monitor import Progress, ProgressFold
from yolo_callbacks.core.record import EpochRecord, Plan

_NOTHING = Progress()


@dataclass(frozen=True)
class News:
    """The best epoch so far, and what was reported of it.

    Attributes:
        progress: The progress of the metric.
        told: The best value reported last; None before the first.
        told_epoch: The epoch with this value.
        told_in: The epoch after which it was reported, 0 before the first.
        told_at: Seconds of training when it was reported.
        before: The best value reported before that, None for none.
        before_epoch: The epoch with that value.
    """

    progress: Progress = _NOTHING
    told: float | None = None
    told_epoch: int = 0
    told_in: int = 0
    told_at: float = 0.0
    before: float | None = None
    before_epoch: int = 0


@dataclass(frozen=True)
class NewsFold:
    """Decides when to report a best: if it is new, not too soon after the last report, and not a score of 0."""

    progress: ProgressFold
    seconds: float

    def initial(self, plan: Plan) -> News:
        """Return the state before the first epoch."""
        return News()

    def step(self, state: News, record: EpochRecord) -> News:
        """Return the state after one more epoch."""
        progress = self.progress.step(state.progress, record)
        nothing = progress.best is None or self.progress.monitor.is_worst(progress.best)
        if nothing or progress.best_epoch == state.told_epoch or record.elapsed - state.told_at < self.seconds:
            return replace(state, progress=progress)
        return News(
            progress, progress.best, progress.best_epoch, record.epoch, record.elapsed, state.told, state.told_epoch
        )
