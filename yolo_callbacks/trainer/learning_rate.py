"""Applies learning-rate factors: one factor on top of the trainer's own schedule, from all callbacks together.

Ultralytics recomputes every rate from its schedule `lf`, so a rate written into the optimizer is lost one epoch later.
A changed schedule lasts: `lf'(e) = lf(e) * factor`, set before each epoch's `scheduler.step()`. For rates of some
parameters only, see `parameter_rates.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_callbacks.core.learning_rate import BaseSchedule, Detour, LearningRateState, ScaledSchedule, Schedule

_NO_DETOUR = Detour()


class SteppedRates:
    """Controls a scheduler other than LambdaLR, which takes no factor, by multiplying the rates after its step.

    Such a scheduler may compute rates from the current ones, so the factor is removed when an epoch's batches are done.
    Neither a checkpoint nor a rebuilt scheduler sees it.
    """

    def __init__(self, trainer: Any) -> None:
        self._optimizer = trainer.optimizer
        self._own_step = trainer.scheduler.step
        self._own: list[float] = []
        self._factor: float | None = None
        self.factor: Callable[[], float] = lambda: 1.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the scheduler's own step, then multiply its rates."""
        self.remove_factor()
        result = self._own_step(*args, **kwargs)
        factor, groups = self.factor(), self._optimizer.param_groups
        self._own, self._factor = [group["lr"] for group in groups], factor
        for group in groups:
            group["lr"] *= factor
        return result

    def remove_factor(self) -> None:
        """Restore every group's own rate."""
        factor, self._factor = self._factor, None
        if factor is None:
            return
        for group, own in zip(self._optimizer.param_groups, self._own):
            # the warm-up has set another rate since, which includes the factor
            group["lr"] = group["lr"] / factor if factor and group["lr"] != own * factor else own

    def own_rate(self, group: int) -> float:
        """Return a group's rate without the factor."""
        return float(self._own[group] if self._factor is not None else self._optimizer.param_groups[group]["lr"])


def lowest_group(trainer: Any) -> tuple[int, float]:
    """Return the parameter group with the lowest initial learning rate, and that rate (Ultralytics' `lr0`).

    A group at 0 does not count, since no factor changes it; the rate is 0 if all are.
    """
    rates = [float(group.get("initial_lr", group["lr"])) for group in trainer.optimizer.param_groups]
    lowest = min((rate for rate in rates if rate > 0), default=0.0)
    return (rates.index(lowest) if lowest else 0), lowest


def own_schedule(schedule: Schedule) -> Schedule:
    """Return the trainer's own schedule, without ours on top."""
    return schedule.own if isinstance(schedule, ScaledSchedule) else schedule


def base_schedule(trainer: Any, detour: Detour = _NO_DETOUR) -> BaseSchedule:
    """Return the schedule of the group with the lowest initial learning rate, without any factor.

    The plan of a scheduler other than LambdaLR is unknown: every epoch then gets its newest rate.
    """
    group, initial_lr = lowest_group(trainer)
    if _is_lambda(trainer.scheduler):
        return BaseSchedule(own_schedule(trainer.scheduler.lr_lambdas[group]), detour, initial_lr)

    def newest(_epoch: int) -> float:
        step = trainer.scheduler.step
        rate = step.own_rate(group) if isinstance(step, SteppedRates) else trainer.optimizer.param_groups[group]["lr"]
        return float(rate) / initial_lr if initial_lr else 0.0

    return BaseSchedule(newest, detour, initial_lr)


def apply_factors(trainer: Any, state: LearningRateState, detour: Detour = _NO_DETOUR) -> None:
    """Make the trainer use the factors, and leave its schedule where it is to, from its next step on.

    Idempotent; call it before every epoch on every rank: with a time limit the trainer builds a new schedule after
    every epoch, and a repeated epoch (NaN, out of memory) steps the scheduler again.
    """
    if not state.touched and not detour:
        return
    remove_factor(trainer)
    scheduler, lowest, base = trainer.scheduler, lowest_group(trainer)[1], base_schedule(trainer, detour)
    scaled: dict[int, ScaledSchedule] = {}

    def over(schedule: Schedule) -> ScaledSchedule:
        own = own_schedule(schedule)
        return scaled.setdefault(id(own), ScaledSchedule(own, base, state, lowest))

    if trainer.lf is not None:  # the warm-up approaches it in every group
        trainer.lf = over(trainer.lf)
    if _is_lambda(scheduler):
        scheduler.lr_lambdas = [over(schedule) for schedule in scheduler.lr_lambdas]
        return
    if not isinstance(scheduler.step, SteppedRates):
        scheduler.step = SteppedRates(trainer)
    scheduler.step.factor = lambda: over(base.own).factor(trainer.epoch)


def remove_factor(trainer: Any) -> None:
    """Restore the rates of the trainer's own scheduler, which computes with them and saves them."""
    step = getattr(trainer.scheduler, "step", None)
    if isinstance(step, SteppedRates):
        step.remove_factor()


def _is_lambda(scheduler: Any) -> bool:
    from torch.optim.lr_scheduler import LambdaLR

    return isinstance(scheduler, LambdaLR)
