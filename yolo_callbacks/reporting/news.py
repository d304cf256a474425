"""When a new best is worth a message. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yolo_callbacks.core.monitor import Progress, ProgressFold
from yolo_callbacks.core.record import EpochRecord, Plan

_NOTHING = Progress()


@dataclass(frozen=True)
class News:
    """What there is to tell of the best epoch so far.

    Attributes:
        progress: How the metric has done.
        told: The best value that was told last; None before the first.
        told_epoch: The epoch it was measured in.
        told_in: The epoch after which it was told, 0 before the first.
        told_at: Seconds of training when it was told.
        before: The value that was told before that, None for none.
        before_epoch: The epoch that was measured in.
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
    """Decides after which epochs a best is told: a new one, not too soon after the last, and no score of 0."""

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
