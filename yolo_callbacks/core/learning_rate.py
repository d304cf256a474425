"""The learning-rate controller: one factor over the trainer's own schedule, whoever asked for a part of it.

Ultralytics computes every rate anew from its schedule `lf`, so a rate written into the optimizer is gone one epoch
later. What lasts is the schedule itself: `lf'(e) = lf(e) * factor`, set before each epoch's `scheduler.step()`.

A rate for some parameters alone is another matter: see `ParameterRates`. This is the only module that writes to the
optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
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


@dataclass(frozen=True)
class Anneal:
    """The end of a schedule that has less time for it: from where the trainer's stands to where that would have ended.

    It has the shape of Ultralytics' own, a line or half a cosine. The first epoch has the value that it would have had
    anyway, the last one the final value. Pure.

    Attributes:
        start: Index of the first epoch, counted from 0.
        last: Index of the last epoch.
        first_lr: Learning rate of the first epoch in the group with the lowest one; None for what the trainer's
            schedule gives that epoch.
        final: What the schedule ends with, as a multiple of the initial learning rate (Ultralytics' `lrf`).
        cosine: Whether it is a cosine.
    """

    start: int
    last: int
    first_lr: float | None
    final: float
    cosine: bool = False

    def value(self, epoch: int, base: Schedule, lowest_initial_lr: float) -> float:
        """Return the multiple of the initial learning rate for an epoch.

        Args:
            epoch: Index of the epoch, counted from 0.
            base: The trainer's own schedule, which holds before the first epoch.
            lowest_initial_lr: The lowest `initial_lr` of all parameter groups.
        """
        if epoch < self.start:
            return float(base(epoch))
        known = self.first_lr is not None and lowest_initial_lr > 0
        first = (self.first_lr or 0.0) / lowest_initial_lr if known else float(base(self.start))
        done = min(1.0, (epoch - self.start) / (self.last - self.start)) if self.last > self.start else 1.0
        return (first - self.final) * ((1 + math.cos(math.pi * done)) / 2 if self.cosine else 1 - done) + self.final


class BaseSchedule:
    """The trainer's schedule, as long as nothing has brought its end forward: what factors lie over."""

    def __init__(self, own: Schedule, anneal: Anneal | None, lowest_initial_lr: float) -> None:
        self.own = own
        self._anneal = anneal
        self._lowest_initial_lr = lowest_initial_lr

    def __call__(self, epoch: int) -> float:
        """Return the multiple of the initial learning rate for the epoch with this index, counted from 0."""
        if self._anneal is None:
            return float(self.own(epoch))
        return self._anneal.value(epoch, self.own, self._lowest_initial_lr)


class ScaledSchedule:
    """The schedule with the factors over it; takes the place of `trainer.lf`."""

    def __init__(self, base: BaseSchedule, state: LearningRateState, lowest_initial_lr: float) -> None:
        self.base = base
        self._state = state
        self._lowest_initial_lr = lowest_initial_lr

    def __call__(self, epoch: int) -> float:
        """Return the multiple of the initial learning rate for the epoch with this index, counted from 0."""
        return self._state.apply(self.base(epoch), self._lowest_initial_lr)


def own_schedule(schedule: Schedule) -> Schedule:
    """Return the trainer's own schedule, whether ours lies over it or not."""
    return schedule.base.own if isinstance(schedule, ScaledSchedule) else schedule


def arm(trainer: Any, state: LearningRateState, lowest_initial_lr: float, anneal: Anneal | None = None) -> None:
    """Make the trainer use the factors from its next `scheduler.step()` on, and the way to an end that came forward.

    Idempotent, and to be called before every epoch on every rank: the trainer builds a new schedule after every epoch
    of a run with a time limit, and a repeated epoch (NaN, out of memory) steps through this point again.
    """
    if not state.touched and anneal is None:
        return
    base = BaseSchedule(own_schedule(trainer.lf), anneal, lowest_initial_lr)
    trainer.lf = ScaledSchedule(base, state, lowest_initial_lr)
    trainer.scheduler.lr_lambdas = [trainer.lf] * len(trainer.scheduler.base_lrs)


class ParameterRates:
    """Lets some parameters learn at their group's rate times a factor of their own.

    Groups of their own that last would be in every checkpoint, and Ultralytics could not resume from it, as it builds
    the groups that it knows. So the groups are split for the length of a step: before it, after the trainer has set
    its rates, and whatever these are. Optimizers keep their state by parameter and not by group, so that each
    parameter learns exactly as in a group with its rate.
    """

    def __init__(self) -> None:
        self._factors: dict[Any, float] = {}
        self._optimizer: Any = None
        self._hooks: list[Any] = []
        self._whole: Any = None

    def set(self, optimizer: Any, factors: Mapping[Any, float]) -> None:
        """Put factors in force from the next step on; those that were in force before are not any more.

        Args:
            optimizer: The trainer's optimizer.
            factors: Factor by parameter; without any, nothing is left on the optimizer.
        """
        self.join()
        self._factors = dict(factors)
        if self._hooks and (optimizer is not self._optimizer or not factors):
            while self._hooks:
                self._hooks.pop().remove()
        if factors and not self._hooks:
            self._hooks = [
                optimizer.register_step_pre_hook(lambda *_: self._split()),
                optimizer.register_step_post_hook(lambda *_: self.join()),
            ]
        self._optimizer = optimizer

    def join(self) -> None:
        """Put the whole groups back, also where a step has not come to its end."""
        if self._whole is not None:
            self._optimizer.param_groups, self._whole = self._whole, None

    def _split(self) -> None:
        self.join()
        self._whole = self._optimizer.param_groups
        self._optimizer.param_groups = [part for group in self._whole for part in self._parts(group)]

    def _parts(self, group: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield a group for each factor; one that nothing asks for stays as it is."""
        by_factor: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(self._factors.get(parameter, 1.0), []).append(parameter)
        for factor, parameters in by_factor.items():
            whole = factor == 1.0 and len(by_factor) == 1
            yield group if whole else {**group, "params": parameters, "lr": group["lr"] * factor}
        if not by_factor:
            yield group


def forget(optimizer: Any, parameters: Iterable[Any]) -> None:
    """Drop what the optimizer remembers of parameters: their momentum begins anew with their next gradient."""
    for parameter in parameters:
        optimizer.state.pop(parameter, None)
