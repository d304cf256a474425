"""Puts learning-rate factors in force: one factor over the trainer's own schedule, whoever asked for a part of it.

Ultralytics computes every rate anew from its schedule `lf`, so a rate written into the optimizer is gone one epoch
later. What lasts is the schedule itself: `lf'(e) = lf(e) * factor`, set before each epoch's `scheduler.step()`. A rate
for some parameters alone is another matter: see `parameter_rates.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_callbacks.core.learning_rate import Anneal, BaseSchedule, LearningRateState, ScaledSchedule, Schedule


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
        self.remove_factor()
        result = self._own_step(*args, **kwargs)
        factor, groups = self.factor(), self._optimizer.param_groups
        self._own, self._factor = [group["lr"] for group in groups], factor
        for group in groups:
            group["lr"] *= factor
        return result

    def remove_factor(self) -> None:
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


def apply_factors(trainer: Any, state: LearningRateState, anneal: Anneal | None = None) -> None:
    """Make the trainer use the factors from its next `scheduler.step()` on, and the way to an end that came forward.

    Idempotent, and to be called before every epoch on every rank: the trainer builds a new schedule after every epoch
    of a run with a time limit, and a repeated epoch (NaN, out of memory) steps through this point again.
    """
    if not state.touched and anneal is None:
        return
    remove_factor(trainer)
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


def remove_factor(trainer: Any) -> None:
    """Leave the rates as the trainer's own scheduler has set them, for what it computes from them and saves."""
    step = getattr(trainer.scheduler, "step", None)
    if isinstance(step, SteppedRates):
        step.remove_factor()


def _is_lambda(scheduler: Any) -> bool:
    from torch.optim.lr_scheduler import LambdaLR

    return isinstance(scheduler, LambdaLR)
