"""Finishing: a run that ends early, but with the end of its schedule.

`trainer/ending.py` applies it to the trainer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yolo_callbacks.core.decision import Decision, Finish
from yolo_callbacks.core.epochs import Epochs, in_epochs
from yolo_callbacks.core.record import EpochRecord, Plan


@dataclass(frozen=True)
class FinishState:
    """Whether the run is finishing. The same decisions in the same order give the same state.

    Attributes:
        decision: The first `Finish` of the run, the only one that counts; None before it.
    """

    decision: Finish | None = None

    def after(self, decision: Decision) -> FinishState:
        """Return the state after a decision; only the first `Finish` changes it."""
        return FinishState(decision) if self.decision is None and isinstance(decision, Finish) else self

    @property
    def begun(self) -> bool:
        """Whether the finish has begun."""
        return self.decision is not None

    def end(self, planned_epochs: int) -> int:
        """Return the last epoch of a run with this many planned epochs."""
        return planned_epochs if self.decision is None else min(planned_epochs, self.decision.end_epoch)


def finish_after(record: EpochRecord, plan: Plan, length: Epochs, why: str) -> Finish | None:
    """Return the decision to finish from the next epoch on; None if that would not make the run shorter.

    Args:
        record: The newest epoch.
        plan: The plan of the run.
        length: Length of the finish; at least `plan.close_mosaic` epochs.
        why: The reason, for the message.

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
    message = f"finish by epoch {end} instead of {record.planned_epochs}: {why}"
    return Finish(message, record.epoch, end_epoch=end)


def finish_length(length: Epochs, planned_epochs: int, plan: Plan) -> int:
    """Return the length of a finish in epochs, at least the `close_mosaic` epochs."""
    return max(in_epochs(length, planned_epochs), plan.close_mosaic)


def finish_in(decisions: Iterable[Decision], epoch: int) -> Finish | None:
    """Return the `Finish` that a run in this epoch is in; None if there is none, or it was extended since."""
    finishes = [decision for decision in decisions if isinstance(decision, Finish) and decision.end_epoch >= epoch]
    return finishes[-1] if finishes else None
