"""The learning-rate controller: one factor over the trainer's own schedule, whoever asked for a part of it.

Ultralytics computes every rate anew from its schedule `lf`, so a rate written into the optimizer is gone one epoch
later. What lasts is the schedule itself: `lf'(e) = lf(e) * factor`, set before each epoch's `scheduler.step()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from yolo_callbacks.core.decision import Decision, SetLearningRate

Schedule = Callable[[int], float]
"""Ultralytics' `lf`: index of the epoch, counted from 0 -> what the initial learning rate is multiplied with."""


@dataclass(frozen=True)
class LearningRateState:
    """The factors in force, one a source. Pure: the same decisions in the same order give the same state.

    Attributes:
        factors: Factor and `min_lr` by source.
    """

    factors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def after(self, decision: Decision) -> LearningRateState:
        """Return the state after a decision; other kinds than `SetLearningRate` change nothing."""
        if not isinstance(decision, SetLearningRate):
            return self
        return LearningRateState({**self.factors, decision.source: (decision.factor, decision.min_lr)})

    @property
    def touched(self) -> bool:
        """Whether anybody has ever asked for a factor; if not, the trainer's schedule is left alone."""
        return bool(self.factors)

    def apply(self, value: float, lowest_initial_lr: float) -> float:
        """Return the schedule's `value` times every factor, not below the floors of those who have reduced it.

        All groups get the same multiple, so the ratio between them holds, and the group with the lowest initial rate
        is the one that the floor protects.

        Args:
            value: What the trainer's own schedule says for this epoch.
            lowest_initial_lr: The lowest `initial_lr` of all parameter groups.
        """
        factor = math.prod(factor for factor, _ in self.factors.values())
        floor = max((min_lr for _, min_lr in self.factors.values()), default=0.0)
        return max(value * factor, floor / lowest_initial_lr) if floor and lowest_initial_lr > 0 else value * factor


class ScaledSchedule:
    """The trainer's schedule with the factors over it; takes the place of `trainer.lf`."""

    def __init__(self, base: Schedule, state: LearningRateState, lowest_initial_lr: float) -> None:
        self.base = base
        self._state = state
        self._lowest_initial_lr = lowest_initial_lr

    def __call__(self, epoch: int) -> float:
        """Return the multiple of the initial learning rate for the epoch with this index, counted from 0."""
        return self._state.apply(float(self.base(epoch)), self._lowest_initial_lr)


def own_schedule(schedule: Schedule) -> Schedule:
    """Return the trainer's own schedule, whether ours lies over it or not."""
    return schedule.base if isinstance(schedule, ScaledSchedule) else schedule


def arm(trainer: Any, state: LearningRateState, lowest_initial_lr: float) -> None:
    """Make the trainer use the factors from its next `scheduler.step()` on.

    Idempotent, and to be called before every epoch on every rank: the trainer builds a new schedule after every epoch
    of a run with a time limit, and a repeated epoch (NaN, out of memory) steps through this point again.
    """
    if not state.touched:
        return
    trainer.lf = ScaledSchedule(own_schedule(trainer.lf), state, lowest_initial_lr)
    trainer.scheduler.lr_lambdas = [trainer.lf] * len(trainer.scheduler.base_lrs)
