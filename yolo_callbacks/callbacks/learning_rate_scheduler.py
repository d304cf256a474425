"""LearningRateScheduler: a learning rate of your own for each epoch."""

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
from yolo_callbacks.support.checks import check_verbose

ScheduleFunction = Callable[..., float]
"""`schedule(epoch, lr)` or `schedule(epoch)`."""


class LearningRateScheduler(Callback):
    """Ask a function for the learning rate of each epoch.

    The function gets the rate that the epoch would have if it changed nothing: the trainer's own schedule times what
    this function has changed so far. So what it changed once stays, as in Keras, and the trainer's decay goes on
    under it. To replace the trainer's schedule, return a rate that does not depend on the second argument.

    The rate is the one of the parameter group with the lowest initial rate (Ultralytics' `lr0`); the others keep
    their ratio to it. Factors of other callbacks multiply the result. During the warm-up, the trainer interpolates
    towards the rate that is returned.

    Args:
        schedule: `schedule(epoch, lr) -> lr`, or `schedule(epoch) -> lr`, with the index of the epoch counted from 0,
            as in Keras. It must depend on nothing but its arguments, so that a resumed run computes the same rates.
        verbose: 1 logs a line for each epoch whose rate it changes, 0 does not. Defaults to 0.

    Raises:
        TypeError: If `schedule` is not such a function, or returns something that is no number.
        ValueError: If it returns a negative or infinite rate.

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
        """Set the factor that makes the next epoch's rate the one that the function asks for."""
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
    """The factor over the trainer's schedule for the next epoch, the rate it makes, and whether it is a new one."""

    factor: float = 1.0
    rate: float = 0.0
    changed: bool = False


@dataclass(frozen=True)
class _ScheduleFold:
    schedule: ScheduleFunction
    takes_rate: bool

    def __hash__(self) -> int:  # a function that is an object may have no hash of its own
        return hash(type(self.schedule))

    def initial(self, plan: Plan) -> _ScheduleState:
        return self._next(_ScheduleState(), 0, plan.base_lr)

    def step(self, state: _ScheduleState, record: EpochRecord) -> _ScheduleState:
        if record.last:  # there is no next epoch that the function could be asked for
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
    """Return whether a schedule takes the rate as well as the epoch, by its signature.

    Keras finds out by a TypeError, also by one that comes from within the function.
    """
    wrong = f"schedule={schedule!r} must be a function schedule(epoch, lr) -> lr, or schedule(epoch) -> lr"
    if not callable(schedule):
        raise TypeError(f"{wrong}, not {type(schedule).__name__}")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # written in C, without one: a look-up in a table
        return False
    for arguments in ((0, 0.0), (0,)):
        with contextlib.suppress(TypeError):
            signature.bind(*arguments)
            return len(arguments) > 1
    raise TypeError(wrong)


def _checked(rate: object, index: int) -> float:
    """Return what the user's function returned, if it can be a learning rate."""
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise TypeError(f"schedule(epoch={index}, lr) returned {rate!r}, it must return a number")
    if not math.isfinite(rate) or float(rate) < 0:
        raise ValueError(f"schedule(epoch={index}, lr) returned {rate!r}, it must be finite and >= 0")
    return float(rate)
