"""The time that is left of a run. Training, validation and the final evaluation each have a price of their own. Pure.

The price of an epoch is the mean of the middle three fifths of the last `WINDOW` epochs, so that neither a pause of the
machine nor an epoch that shared its GPU counts, and a lasting change soon does. The first epoch is left out as soon as
there is another: it fills caches, starts the workers and tunes kernels. `benchmarks/eta.py` measures the error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean

from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.support.numbers import duration

WINDOW = 20
"""Number of epochs that set the price of the next ones."""

_CUT = 0.2  # share of the fastest epochs that does not count, and of the slowest
_ENOUGH_CLOSED = 2  # epochs without mosaic that price the others without it; the first one starts new workers


@dataclass(frozen=True)
class Eta:
    """An estimate of the time that is left.

    Attributes:
        seconds: Seconds to the end of the final evaluation, >= 0.
        at_most: Whether the run may end earlier by its own rules, such as `EarlyStopping`.
        epoch_seconds: Seconds of the next epoch, which are part of `seconds`; 0 after the last one.

    Example:
        >>> str(Eta(3900.0)), str(Eta(3900.0, at_most=True)), Eta(3900.0, epoch_seconds=60.0).after(30.0).seconds
        ('about 1 h 5 min', 'at most 1 h 5 min', 3870.0)
    """

    seconds: float
    at_most: bool = False
    epoch_seconds: float = 0.0

    def after(self, passed: float) -> Eta:
        """Return the estimate some seconds later in the same epoch, which takes at least until now."""
        gone = min(max(passed, 0.0), self.epoch_seconds or self.seconds)
        return replace(self, seconds=self.seconds - gone, epoch_seconds=max(0.0, self.epoch_seconds - gone))

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'about'} {duration(self.seconds)}"


@dataclass(frozen=True)
class _Epoch:
    """What an epoch took: seconds in all, and its speed in training images per second, 0 if unknown."""

    seconds: float
    speed: float
    validated: bool
    closed: bool


@dataclass(frozen=True)
class _Clock:
    """The newest epochs, the newest validated ones, their share in the whole run, and the clock at the end."""

    epochs: tuple[_Epoch, ...] = ()
    validated: tuple[_Epoch, ...] = ()
    share: float = 0.0
    counted: int = 0
    elapsed: float = 0.0


@dataclass(frozen=True)
class _ClockFold:
    """Collects what the newest epochs took."""

    plan: Plan

    def initial(self, plan: Plan) -> _Clock:
        return _Clock()

    def step(self, state: _Clock, record: EpochRecord) -> _Clock:
        took = record.measures.get("seconds", record.elapsed - state.elapsed)
        state = replace(state, elapsed=record.elapsed)
        if not (math.isfinite(took) and took > 0):  # an epoch that was rebuilt from the trainer's log
            return state
        speed = record.measures.get("images_per_second", 0.0)
        epoch = _Epoch(took, speed if math.isfinite(speed) else 0.0, record.validated, self.plan.mosaic_closed(record))
        before = state if state.counted != 1 else replace(state, epochs=(), validated=())
        return replace(
            state,
            epochs=(*before.epochs, epoch)[-WINDOW:],
            validated=(*before.validated, *[epoch] * epoch.validated)[-WINDOW:],
            share=state.share + (epoch.validated - state.share) / (state.counted + 1),
            counted=state.counted + 1,
        )


def time_left(
    history: History,
    end: int,
    *,
    images: int = 0,
    seconds_to_limit: float | None = None,
    may_stop: bool = False,
    validations: float | None = None,
) -> Eta | None:
    """Return the time that is left after the newest epoch; None before the first one.

    Args:
        history: The epochs so far.
        end: The last planned epoch; a finish has moved it.
        images: Number of training images; with it, training and validation have separate prices. 0 if unknown.
        seconds_to_limit: Seconds until the trainer's `time` limit; None without one.
        may_stop: Whether something may stop the run before.
        validations: How many of the epochs to come will be validated; None for as many as lately.

    Example:
        >>> records = [EpochRecord(n, {}, elapsed=t) for n, t in enumerate((90.0, 120.0, 150.0), start=1)]
        >>> print(time_left(History(Plan(planned_epochs=100), records), 100))
        about 48 min
    """
    clock = history.fold(_ClockFold(history.plan))
    if not clock.epochs:
        return None
    newest, prices = history[-1], _prices(clock, images)
    left = 0 if newest.last else max(0, end - history.epoch)
    # the last epoch is always validated, and one in a row of others as often as lately
    share = fmean(epoch.validated for epoch in clock.epochs) or clock.share
    validated = min(left, 1) + max(0, left - 1) * share if validations is None else min(float(left), validations)
    seconds = left * prices.training + validated * prices.validation + (left - validated) * prices.rest
    if seconds_to_limit is not None and left:
        # the trainer plans as many epochs as fit; the limit ends the last one early, and it is then validated
        limited = max(0.0, seconds_to_limit) + prices.validation
        finishing = newest.planned_before_finish or end < newest.planned_epochs
        seconds = min(seconds, limited) if finishing else limited
    seconds += prices.validation  # the final evaluation validates best.pt
    next_epoch = prices.training + (prices.validation if newest.validated else prices.rest)
    return Eta(seconds, may_stop and left > 0, min(next_epoch, seconds) if left else 0.0)


@dataclass(frozen=True)
class _Prices:
    """Seconds of an epoch's training, and of what follows it with a validation and without one."""

    training: float
    validation: float
    rest: float


def _prices(clock: _Clock, images: int) -> _Prices:
    closed = [epoch for epoch in clock.epochs if epoch.closed][1:]
    epochs = closed if len(closed) >= _ENOUGH_CLOSED else clock.epochs
    without = [epoch for epoch in epochs if not epoch.validated]
    plain = typical(epoch.seconds for epoch in without)

    def training(epoch: _Epoch) -> float:
        if images and epoch.speed > 0:
            return min(epoch.seconds, images / epoch.speed)
        return min(epoch.seconds, plain) if plain and epoch.validated else epoch.seconds

    rest = typical(epoch.seconds - training(epoch) for epoch in without)
    validation = typical(epoch.seconds - training(epoch) for epoch in clock.validated)
    return _Prices(typical(map(training, epochs)), max(validation, rest), rest)


def typical(values: Iterable[float]) -> float:
    """Return the mean of the middle three fifths of some numbers; 0 if there are none.

    Example:
        >>> typical([9.0, 10.0, 11.0, 10.0, 500.0])
        10.333333333333334
    """
    ordered = sorted(values)
    cut = int(_CUT * len(ordered))
    return fmean(ordered[cut : len(ordered) - cut]) if ordered else 0.0
