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
    """A schedule of the trainer, as long as nothing has brought its end forward: what factors lie over."""

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
    """A schedule of the trainer with the factors over it; takes its place in the trainer.

    Args:
        own: The schedule, maybe that of one parameter group alone.
        base: The schedule of the group with the lowest initial rate. All others are multiplied as it is.
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
        """Return what the trainer's own rates are multiplied with in an epoch."""
        own = float(self._base.own(epoch))
        if not own:
            return self._state.apply(1.0, 0.0)
        return self._state.apply(self._base(epoch), self._lowest_initial_lr) / own


class SteppedRates:
    """Controls a scheduler that is no LambdaLR, in which no factor fits: its rates are multiplied after its step.

    It may compute rates from rates, so it always finds its own: the factor is taken out when an epoch's batches are
    done. So no checkpoint has it either, nor a scheduler that is built anew.
    """

    def __init__(self, trainer: Any) -> None:
        self._optimizer = trainer.optimizer
        self._own_step = trainer.scheduler.step
        self._own: list[float] = []
        self._factor: float | None = None
        self.factor: Callable[[], float] = lambda: 1.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the scheduler's own step, and multiply the rates that it has set."""
        self.take_out()
        result = self._own_step(*args, **kwargs)
        factor, groups = self.factor(), self._optimizer.param_groups
        self._own, self._factor = [group["lr"] for group in groups], factor
        for group in groups:
            group["lr"] *= factor
        return result

    def take_out(self) -> None:
        """Give every group its own rate back."""
        factor, self._factor = self._factor, None
        if factor is None:
            return
        for group, own in zip(self._optimizer.param_groups, self._own):
            # a rate of the warm-up was set since, on the way to one with the factor
            group["lr"] = group["lr"] / factor if factor and group["lr"] != own * factor else own

    def own_rate(self, group: int) -> float:
        """Return a group's rate without the factor."""
        return float(self._own[group] if self._factor is not None else self._optimizer.param_groups[group]["lr"])


def lowest_group(trainer: Any) -> tuple[int, float]:
    """Return the parameter group with the lowest initial learning rate, and that rate (Ultralytics' `lr0`).

    A group at 0 does not count, since it stays there whatever it is multiplied with; the rate is 0 where all are.
    """
    rates = [float(group.get("initial_lr", group["lr"])) for group in trainer.optimizer.param_groups]
    lowest = min((rate for rate in rates if rate > 0), default=0.0)
    return (rates.index(lowest) if lowest else 0), lowest


def own_schedule(schedule: Schedule) -> Schedule:
    """Return the trainer's own schedule, whether ours lies over it or not."""
    return schedule.own if isinstance(schedule, ScaledSchedule) else schedule


def base_schedule(trainer: Any, anneal: Anneal | None = None) -> BaseSchedule:
    """Return the schedule of the group with the lowest initial learning rate, without any factor.

    What a scheduler that is no LambdaLR will do cannot be known: every epoch then gets its newest rate.
    """
    group, initial_lr = lowest_group(trainer)
    if _is_lambda(trainer.scheduler):
        return BaseSchedule(own_schedule(trainer.scheduler.lr_lambdas[group]), anneal, initial_lr)

    def newest(_epoch: int) -> float:
        step = trainer.scheduler.step
        rate = step.own_rate(group) if isinstance(step, SteppedRates) else trainer.optimizer.param_groups[group]["lr"]
        return float(rate) / initial_lr if initial_lr else 0.0

    return BaseSchedule(newest, anneal, initial_lr)


def arm(trainer: Any, state: LearningRateState, anneal: Anneal | None = None) -> None:
    """Make the trainer use the factors from its next `scheduler.step()` on, and the way to an end that came forward.

    Idempotent, and to be called before every epoch on every rank: the trainer builds a new schedule after every epoch
    of a run with a time limit, and a repeated epoch (NaN, out of memory) steps through this point again.
    """
    if not state.touched and anneal is None:
        return
    take_out(trainer)
    scheduler, lowest, base = trainer.scheduler, lowest_group(trainer)[1], base_schedule(trainer, anneal)
    scaled: dict[int, ScaledSchedule] = {}

    def over(schedule: Schedule) -> ScaledSchedule:
        own = own_schedule(schedule)
        return scaled.setdefault(id(own), ScaledSchedule(own, base, state, lowest))

    if trainer.lf is not None:  # the warm-up goes to it in every group
        trainer.lf = over(trainer.lf)
    if _is_lambda(scheduler):
        scheduler.lr_lambdas = [over(schedule) for schedule in scheduler.lr_lambdas]
        return
    if not isinstance(scheduler.step, SteppedRates):
        scheduler.step = SteppedRates(trainer)
    scheduler.step.factor = lambda: over(base.own).factor(trainer.epoch)


def take_out(trainer: Any) -> None:
    """Leave the rates as the trainer's own scheduler has set them, for what it computes from them and saves."""
    step = getattr(trainer.scheduler, "step", None)
    if isinstance(step, SteppedRates):
        step.take_out()


def _is_lambda(scheduler: Any) -> bool:
    from torch.optim.lr_scheduler import LambdaLR

    return isinstance(scheduler, LambdaLR)


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
