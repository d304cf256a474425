"""Why a training ends, or has ended, without a decision of ours: facts in, `Stop` out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.trainer.patches.platform import is_cancelled

TRAINER = "trainer"
"""Source of the trainer's own stops."""

PLATFORM = "Platform"
"""Source of a cancel from the Ultralytics Platform."""


@dataclass(frozen=True)
class StopFacts:
    """What a trainer knows about its end.

    Attributes:
        epoch: Number of the current or last epoch, counted from 1.
        planned_epochs: Number of epochs planned now.
        best_epoch: The best epoch by the trainer's own early stopping, counted from 1; 0 for none.
        patience: Ultralytics' own `patience`; 0 if it is off or suspended by a finish.
        stopping: Whether the trainer ends after this epoch.
        cancelled: Whether the run was cancelled on the Platform. With `time`, and on several GPUs, `stopping` may still
            be False: the trainer overwrites its flag in every step, or has not received the cancel.
        has_fitness: Whether an epoch has been validated.
        time_limit: Ultralytics' own `time` in hours; 0 for none.
        out_of_time: Whether the time limit is reached.
    """

    epoch: int
    planned_epochs: int
    best_epoch: int
    patience: int
    stopping: bool = False
    cancelled: bool = False
    has_fitness: bool = False
    time_limit: float = 0.0
    out_of_time: bool = False


def stop_facts(trainer: Any, epoch: int, *, finishing: bool) -> StopFacts:
    """Read the facts from a trainer.

    Args:
        trainer: The trainer.
        epoch: Number of the current or last epoch, counted from 1.
        finishing: Whether a finish has brought the end forward.
    """
    args, started = trainer.args, vars(trainer).get("train_time_start")
    return StopFacts(
        epoch=epoch,
        planned_epochs=int(trainer.epochs),
        best_epoch=getattr(trainer.stopper, "best_epoch", 0),
        patience=0 if finishing else args.patience or 0,
        stopping=bool(trainer.stop),
        cancelled=is_cancelled(trainer),
        has_fitness=trainer.fitness is not None,
        time_limit=args.time or 0.0,
        out_of_time=bool(args.time and started is not None and time.time() - started > 3600 * args.time),
    )


def why_stopping(facts: StopFacts) -> Stop | None:
    """Return why the run ends early without a decision of ours; None if it does not.

    Example:
        >>> why_stopping(StopFacts(epoch=7, planned_epochs=9, best_epoch=2, patience=5)) is None
        True
        >>> why_stopping(StopFacts(7, 9, best_epoch=2, patience=5, stopping=True, has_fitness=True)).message
        "Ultralytics' own patience=5 ran out (best epoch 2)"
    """
    if not facts.stopping and not facts.cancelled:
        return None
    if facts.out_of_time:
        message = f"the time limit of {facts.time_limit:g} h was reached"
        return Stop(message, source=TRAINER, reason=StopReason.TIME_LIMIT)
    if facts.epoch >= facts.planned_epochs:  # which the trainer has just reduced if it is out of time
        return None
    if not facts.cancelled and facts.has_fitness and _out_of_patience(facts):
        return _patience_stop(facts)
    return why_ended(facts)


def why_finished(facts: StopFacts) -> Stop | None:
    """Return why a resumed run is already finished by the trainer's own rules; None if it is not.

    Example:
        >>> why_finished(StopFacts(epoch=9, planned_epochs=9, best_epoch=2, patience=0)).message
        'completed all 9 epochs'
    """
    if facts.epoch >= facts.planned_epochs:
        done = f"all {facts.epoch} epochs" if facts.epoch > 1 else "1 epoch"
        return Stop(f"completed {done}", epoch=facts.epoch, source=TRAINER)
    return _patience_stop(facts) if facts.best_epoch and _out_of_patience(facts) else None


def why_ended(facts: StopFacts) -> Stop:
    """Return why a run ended without a decision of ours or the trainer's own rules."""
    if facts.cancelled:
        return Stop("cancelled from the Ultralytics Platform", source=PLATFORM, reason=StopReason.CANCELLED)
    return Stop("something else set trainer.stop", source=TRAINER, reason=StopReason.EXTERNAL)


def _out_of_patience(facts: StopFacts) -> bool:
    return bool(facts.patience) and facts.epoch - facts.best_epoch >= facts.patience


def _patience_stop(facts: StopFacts) -> Stop:
    message = f"Ultralytics' own patience={facts.patience} ran out (best epoch {facts.best_epoch})"
    return Stop(message, source=TRAINER, reason=StopReason.TRAINER_PATIENCE)
