"""How a run ends early with the end of its schedule.

`trainer/ending.py` puts it in force in the trainer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolo_callbacks.core.decision import Decision, Finish
from yolo_callbacks.core.epochs import Epochs, in_epochs
from yolo_callbacks.core.record import EpochRecord, Plan


@dataclass(frozen=True)
class FinishState:
    """Whether the end of the run was brought forward. The same decisions in the same order give the same state.

    Attributes:
        decision: The first `Finish` of the run, the only one that counts; None as long as there was none.
    """

    decision: Finish | None = None

    def after(self, decision: Decision) -> FinishState:
        """Return the state after a decision; other kinds than `Finish`, and a second one, change nothing."""
        return FinishState(decision) if self.decision is None and isinstance(decision, Finish) else self

    @property
    def begun(self) -> bool:
        """Whether the end was brought forward."""
        return self.decision is not None

    def end(self, planned_epochs: int) -> int:
        """Return the last epoch of a run that would go on to `planned_epochs`. It never moves to later."""
        return planned_epochs if self.decision is None else min(planned_epochs, self.decision.end_epoch)


def finish_after(record: EpochRecord, plan: Plan, length: Epochs, why: str) -> Finish | None:
    """Return the decision to finish from the next epoch on; None if the run ends as soon anyway.

    Args:
        record: The newest epoch.
        plan: What the run set out to do. A finish is never shorter than the epochs that go without mosaic.
        length: How many epochs it takes.
        why: What has happened, for the message.

    Example:
        >>> record = EpochRecord(40, {}, planned_epochs=100)
        >>> finish_after(record, Plan(planned_epochs=100, close_mosaic=10), 0.05, "a plateau").end_epoch
        50
        >>> finish_after(record, Plan(planned_epochs=100), 60, "a plateau") is None
        True
    """
    end = record.epoch + finish_length(length, record.planned_epochs, plan)
    if end >= record.planned_epochs:
        return None
    message = f"finish by epoch {end} instead of {record.planned_epochs}, {why}"
    return Finish(message, record.epoch, end_epoch=end)


def finish_length(length: Epochs, planned_epochs: int, plan: Plan) -> int:
    """Return how many epochs a finish takes: never fewer than those that go without mosaic."""
    return max(in_epochs(length, planned_epochs), plan.close_mosaic)


def finish_in(decisions: Iterable[Decision]) -> Finish | None:
    """Return the decision that has brought the end of a run forward, None if none did."""
    return next((decision for decision in decisions if isinstance(decision, Finish)), None)
