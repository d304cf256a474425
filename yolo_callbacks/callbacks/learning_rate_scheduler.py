"""LearningRateScheduler: the learning rate of each epoch from your own function."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SetLearningRate
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_verbose, quoted

ScheduleFunction = Callable[..., float]
"""`schedule(epoch, lr)` or `schedule(epoch)`."""


class LearningRateScheduler(Callback):
    """Take the learning rate of each epoch from a function.

    The function gets the rate that the epoch has without another change: the trainer's own schedule times the
    function's changes so far. So a change lasts, as in Keras, while the trainer's decay continues. To replace the
    trainer's schedule, return a rate that does not depend on `lr`.

    The rate is that of the parameter group with the lowest initial rate (Ultralytics' `lr0`); the other groups keep
    their ratio to it. Factors of other callbacks multiply the result. During the warm-up, the trainer interpolates
    towards the returned rate.

    Args:
        schedule: `schedule(epoch, lr) -> lr`, or `schedule(epoch) -> lr`, with the index of the epoch counted from 0,
            as in Keras. It must depend only on its arguments, so that a resumed run computes the same rates.
        verbose: 1 logs a line for each epoch whose rate it changes, 0 does not. Defaults to 0.

    Raises:
        TypeError: If `schedule` is not such a function, or returns something other than a number.
        ValueError: If it returns a rate that is negative or not finite.

    Example:
        ```python
        def halve_after_50(epoch, lr):
            return lr * 0.5 if epoch == 50 else lr

        ycb.attach(model, [ycb.LearningRateScheduler(halve_after_50)])
        ```
    """

    priority = Priority.DECIDE
    critical = True
    function_parameters = ("schedule",)

    def __init__(self, schedule: ScheduleFunction, verbose: int = 0) -> None:
        self.schedule = schedule
        self.verbose = check_verbose(verbose)
        self._fold = _ScheduleFold(schedule, _takes_rate(schedule))

    def decide(self, history: History) -> SetLearningRate | None:
        """Set the factor that gives the next epoch the function's rate."""
        state = history.fold(self._fold)
        if not state.changed:
            return None
        return SetLearningRate(
            f"learning rate of epoch {history.epoch + 1} is {state.rate:.6g}",
            history.epoch,
            factor=state.factor,
            routine=True,
        )


@dataclass(frozen=True)
class _ScheduleState:
    """The factor on the trainer's schedule for the next epoch, the resulting rate, and whether the factor is new."""

    factor: float = 1.0
    rate: float = 0.0
    changed: bool = False


@dataclass(frozen=True)
class _ScheduleFold:
    schedule: ScheduleFunction
    takes_rate: bool

    def __hash__(self) -> int:  # a callable object may not be hashable
        return hash(type(self.schedule))

    def initial(self, plan: Plan) -> _ScheduleState:
        return self._next(_ScheduleState(), 0, plan.base_lr)

    def step(self, state: _ScheduleState, record: EpochRecord) -> _ScheduleState:
        if record.last:  # there is no next epoch
            return replace(state, changed=False)
        return self._next(state, record.epoch, record.next_base_lr)

    def _next(self, state: _ScheduleState, index: int, base_lr: float | None) -> _ScheduleState:
        if not base_lr:
            return _ScheduleState(state.factor)
        asked = (index, base_lr * state.factor) if self.takes_rate else (index,)
        rate = _checked(self.schedule(*asked), index)
        factor = rate / base_lr
        return _ScheduleState(factor, rate, not math.isclose(factor, state.factor, rel_tol=1e-12))


def _takes_rate(schedule: Any) -> bool:
    """Return whether the signature of a schedule takes the rate as well as the epoch.

    Keras waits for a TypeError instead, and takes one from within the function for it.
    """
    wrong = f"schedule={quoted(schedule)} must be a function schedule(epoch, lr) -> lr, or schedule(epoch) -> lr"
    if not callable(schedule):
        raise TypeError(f"{wrong}, not {type(schedule).__name__}")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # a built-in such as dict.__getitem__ has no signature
        return False
    for arguments in ((0, 0.0), (0,)):
        with contextlib.suppress(TypeError):
            signature.bind(*arguments)
            return len(arguments) > 1
    raise TypeError(wrong)


def _checked(rate: object, index: int) -> float:
    """Return the rate that the function returned, if it is valid."""
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise TypeError(f"schedule(epoch={index}, lr) returned {quoted(rate)}, it must return a number")
    if not math.isfinite(rate) or float(rate) < 0:
        raise ValueError(f"schedule(epoch={index}, lr) returned {quoted(rate)}, it must be finite and >= 0")
    return float(rate)
