"""Extensions: more epochs after the end of a run, and what the learning rate does in them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from yolo_callbacks.core.stored_fields import checked_fields
from yolo_callbacks.support.checks import check_choice

CONTINUE, HOLD, REWARM = "continue", "hold", "rewarm"
SCHEDULES = (CONTINUE, HOLD, REWARM)
"""What the learning rate does in an extension."""

DEFAULT_SCHEDULE = REWARM  # measured: docs/more-epochs.md

_WARMUP_SHARE = 3  # a warm-up takes at most a third of an extension


@dataclass(frozen=True)
class Extension:
    """More epochs for a run. One mark in the plan of its journal, so that every decision can be recomputed from it.

    Attributes:
        after: Number of epochs that the run keeps; the first new one is the next.
        planned_epochs: Number of planned epochs with the extension.
        schedule: `"continue"`: the trainer's own schedule, recomputed for the new number of epochs. `"hold"`: the
            learning rate of the last kept epoch. `"rewarm"`: from there up to the initial rate, then down again.
        planned_before: Number of planned epochs without it.
        trained: Number of epochs that the run had trained; those above `after` are abandoned.
        first_lr: Learning rate of the last kept epoch in the trainer's own schedule, in the parameter group with the
            lowest one; None if unknown.
        warmup_epochs: Number of epochs in which `"rewarm"` raises the rate.
        mosaic_closed: Whether mosaic stays closed in all new epochs.
        ended: Why the run had ended early; `""` if it had not.
        held_progress: The share of a run that the extension before has held a loss at; None if it has not.

    Example:
        >>> extension = Extension(after=40, planned_epochs=90, schedule="hold", planned_before=50, trained=50)
        >>> print(extension)
        extended after epoch 40 to 90 epochs, schedule='hold' (epochs 41 to 50 are abandoned)
    """

    after: int
    planned_epochs: int
    schedule: str = DEFAULT_SCHEDULE
    planned_before: int = 0
    trained: int = 0
    first_lr: float | None = None
    warmup_epochs: int = 0
    mosaic_closed: bool = False
    ended: str = ""
    held_progress: float | None = None

    def __str__(self) -> str:
        lost = self.trained - self.after
        which = f"epochs {self.after + 1} to {self.trained} are" if lost > 1 else f"epoch {self.trained} is"
        tail = f" ({which} abandoned)" if lost > 0 else ""
        return f"extended after epoch {self.after} to {self.planned_epochs} epochs, schedule='{self.schedule}'{tail}"

    @property
    def length(self) -> int:
        """The number of new epochs."""
        return self.planned_epochs - self.after

    @property
    def loss_progress(self) -> float | None:
        """The share of a run that a held loss stays at; None if it moves on with the epochs."""
        if self.schedule != HOLD:
            return None
        if self.held_progress is not None:
            return self.held_progress
        return min(1.0, self.after / max(1, self.planned_before - 1))

    def value(self, epoch: int, own: Callable[[int], float], lowest: float, final: float, *, cosine: bool) -> float:
        """Return the factor on the initial learning rate in an epoch.

        Args:
            epoch: Index of the epoch, counted from 0.
            own: The trainer's own schedule for the new number of epochs.
            lowest: The lowest initial learning rate of all parameter groups.
            final: The factor that the schedule ends at (Ultralytics' `lrf`).
            cosine: Whether the rate falls in half a cosine; a line otherwise.
        """
        step = epoch - self.after
        if step < 0 or self.schedule == CONTINUE:
            return float(own(epoch))
        known = self.first_lr is not None and lowest > 0
        held = (self.first_lr or 0.0) / lowest if known else float(own(max(0, self.after - 1)))
        if self.schedule == HOLD:
            return held
        if step < self.warmup_epochs:
            return held + (1.0 - held) * (step + 1) / (self.warmup_epochs + 1)
        falling = self.length - 1 - self.warmup_epochs
        done = min(1.0, (step - self.warmup_epochs) / falling) if falling > 0 else 1.0
        return (1.0 - final) * ((1 + math.cos(math.pi * done)) / 2 if cosine else 1 - done) + final


def check_schedule(value: object) -> str:
    """Return `value` if it is a schedule for an extension.

    Raises:
        ValueError: If it is not.
    """
    return check_choice("schedule", value, SCHEDULES)


def rewarming(warmup_epochs: float, length: int) -> int:
    """Return in how many epochs `"rewarm"` raises the rate.

    Example:
        >>> rewarming(3.0, 50), rewarming(3.0, 5), rewarming(3.0, 2)
        (3, 1, 0)
    """
    return min(math.ceil(warmup_epochs), length // _WARMUP_SHARE)


def extended(before: tuple[Extension, ...], new: Extension) -> tuple[Extension, ...]:
    """Return the extensions of a run with one more; those that begin where it does, or later, are abandoned."""
    return (*(item for item in before if item.after < new.after), new)


def extension_from_json(data: Mapping[str, Any]) -> Extension:
    """Read back what `dataclasses.asdict` made of an extension.

    Raises:
        TypeError: If it is something else.
    """
    return checked_fields(Extension(**data))
