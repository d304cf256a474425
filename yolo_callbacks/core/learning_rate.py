"""Learning-rate schedules: the callbacks' factors on the trainer's own schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from yolo_callbacks.core.decision import Decision, SetLearningRate
from yolo_callbacks.core.extension import Extension

Schedule = Callable[[int], float]
"""Ultralytics' `lf`: index of the epoch, counted from 0 -> factor on the initial learning rate."""


@dataclass(frozen=True)
class LearningRateState:
    """The current factors, one per source. The same decisions in the same order give the same state.

    Attributes:
        factors: Factor and `min_lr` by source.
    """

    factors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def after(self, decision: Decision) -> LearningRateState:
        """Return the state after a decision; only `SetLearningRate` changes it."""
        if not isinstance(decision, SetLearningRate):
            return self
        return LearningRateState({**self.factors, decision.source: (decision.factor, decision.min_lr)})

    @property
    def touched(self) -> bool:
        """Whether there was any factor; if not, the trainer's schedule is left alone."""
        return bool(self.factors)

    def apply(self, value: float, lowest_initial_lr: float) -> float:
        """Return the schedule's `value` times every factor, but no rate below the highest `min_lr`.

        All groups get the same factor, which keeps their ratio, so the group with the lowest initial rate decides
        whether `min_lr` is reached.

        Args:
            value: Factor of the trainer's own schedule in this epoch.
            lowest_initial_lr: The lowest `initial_lr` of all parameter groups.
        """
        factor = math.prod(factor for factor, _ in self.factors.values())
        floor = max((min_lr for _, min_lr in self.factors.values()), default=0.0)
        return max(value * factor, floor / lowest_initial_lr) if floor and lowest_initial_lr > 0 else value * factor


@dataclass(frozen=True)
class Anneal:
    """The shortened end of a schedule: from its current value to its final value.

    It has the shape of Ultralytics' own schedule, a line or half a cosine. The first epoch keeps the value that it
    has in the trainer's schedule; the last one gets the final value.

    Attributes:
        start: Index of the first epoch, counted from 0.
        last: Index of the last epoch, counted from 0.
        first_lr: Learning rate of the first epoch in the group with the lowest one; None for that of the trainer's
            schedule.
        final: Final value, as a factor on the initial learning rate (Ultralytics' `lrf`).
        cosine: Whether the shape is a cosine.
    """

    start: int
    last: int
    first_lr: float | None
    final: float
    cosine: bool = False

    def value(self, epoch: int, base: Schedule, lowest_initial_lr: float) -> float:
        """Return the factor on the initial learning rate in an epoch.

        Args:
            epoch: Index of the epoch, counted from 0.
            base: The trainer's own schedule, which applies before `start`.
            lowest_initial_lr: The lowest `initial_lr` of all parameter groups.
        """
        if epoch < self.start:
            return float(base(epoch))
        known = self.first_lr is not None and lowest_initial_lr > 0
        first = (self.first_lr or 0.0) / lowest_initial_lr if known else float(base(self.start))
        done = min(1.0, (epoch - self.start) / (self.last - self.start)) if self.last > self.start else 1.0
        return (first - self.final) * ((1 + math.cos(math.pi * done)) / 2 if self.cosine else 1 - done) + self.final


@dataclass(frozen=True)
class Detour:
    """Where the trainer's own schedule is left: for the epochs of an extension, and for a shortened end.

    Attributes:
        anneal: The shortened end; None if the run is not finishing.
        extension: The newest extension of the run; None if it has none.
        final: Final value of the schedule, as a factor on the initial learning rate (Ultralytics' `lrf`).
        cosine: Whether the schedule is a cosine.
    """

    anneal: Anneal | None = None
    extension: Extension | None = None
    final: float = 0.0
    cosine: bool = False

    def __bool__(self) -> bool:
        return self.anneal is not None or self.extension is not None


class BaseSchedule:
    """The trainer's own schedule with its detour."""

    def __init__(self, own: Schedule, detour: Detour, lowest_initial_lr: float) -> None:
        self.own = own
        self._detour = detour
        self._lowest_initial_lr = lowest_initial_lr

    def __call__(self, epoch: int) -> float:
        """Return the multiple of the initial learning rate for the epoch with this index, counted from 0."""
        if self._detour.anneal is None:
            return self._extended(epoch)
        return self._detour.anneal.value(epoch, self._extended, self._lowest_initial_lr)

    def _extended(self, epoch: int) -> float:
        way = self._detour
        if way.extension is None:
            return float(self.own(epoch))
        return way.extension.value(epoch, self.own, self._lowest_initial_lr, way.final, cosine=way.cosine)


class ScaledSchedule:
    """The trainer's schedule times the callbacks' factors; replaces it in the trainer.

    Args:
        own: The trainer's schedule, or that of one parameter group.
        base: The schedule of the group with the lowest initial rate; its factor applies to all groups.
        state: The factors.
        lowest_initial_lr: The initial rate of that group.
    """

    def __init__(self, own: Schedule, base: BaseSchedule, state: LearningRateState, lowest_initial_lr: float) -> None:
        self.own = own
        self._base = base
        self._state = state
        self._lowest_initial_lr = lowest_initial_lr

    def __call__(self, epoch: int) -> float:
        """Return the multiple of the initial learning rate for the epoch with this index, counted from 0."""
        if self.own is self._base.own:
            return self._state.apply(self._base(epoch), self._lowest_initial_lr)
        return float(self.own(epoch)) * self.factor(epoch)

    def factor(self, epoch: int) -> float:
        """Return the factor on the trainer's own learning rates in an epoch."""
        own = float(self._base.own(epoch))
        if not own:
            return self._state.apply(1.0, 0.0)
        return self._state.apply(self._base(epoch), self._lowest_initial_lr) / own
