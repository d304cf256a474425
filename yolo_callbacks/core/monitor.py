"""Monitors: a metric, what counts as its improvement, and how long there has been none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Union

from yolo_callbacks.core.epochs import epochs_in_words
from yolo_callbacks.core.metrics import (
    SHORT_NAMES,
    MetricView,
    UnmeasuredError,
    could_be_metric,
    direction,
    is_loss,
    is_measured,
)
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.support.checks import check_choice, check_number, nearest, quoted

Metric = Union[str, Callable[[Mapping[str, float]], float]]
"""A metric's name, or a function of the epoch's metrics by their keys or short names."""


@dataclass(frozen=True)
class Monitor:
    """A metric, its direction, and the least change that counts. Create it with `Monitor.of`.

    Attributes:
        metric: Name or function.
        mode: `"max"` or `"min"`.
        min_delta: Least change that counts as an improvement, >= 0.
        min_delta_mode: `"abs"`, or `"rel"` for a share of the best value's absolute value.
    """

    metric: Metric
    mode: str
    min_delta: float = 0.0
    min_delta_mode: str = "abs"

    def __hash__(self) -> int:
        """Hash the name instead of the function, since a callable object may not be hashable."""
        return hash((self.name, self.mode, self.min_delta, self.min_delta_mode))

    @classmethod
    def of(cls, metric: Metric, mode: str = "auto", *, min_delta: float = 0.0, min_delta_mode: str = "abs") -> Monitor:
        """Check the arguments, and look up the direction for `mode="auto"`.

        Raises:
            TypeError: If `metric` is neither a name nor a function.
            ValueError: If the name is not that of a metric, or `mode="auto"` cannot know the direction.

        Example:
            >>> Monitor.of("val_loss").mode
            'min'
        """
        check_choice("mode", mode, ("auto", "min", "max"))
        check_choice("min_delta_mode", min_delta_mode, ("abs", "rel"))
        delta = check_number("min_delta", min_delta, minimum=0.0)
        if isinstance(metric, str):
            if not could_be_metric(metric):
                raise ValueError(
                    f"monitor={quoted(metric)} is not the name of a metric{nearest(metric, SHORT_NAMES)}{_FORMS}"
                )
            known = direction(metric)
        elif callable(metric):
            known = None
        else:
            raise TypeError(
                f"monitor={quoted(metric)} must be a metric's name or a function of the epoch's metrics, "
                f"not {type(metric).__name__}"
            )
        if mode == "auto" and isinstance(metric, str) and is_loss(metric) and known is None:
            raise ValueError(
                f"monitor={quoted(metric)} is not the name of a loss{nearest(metric, _LOSSES)}; "
                "if your own trainer has it, set mode='max' or mode='min'"
            )
        if mode == "auto" and known is None:
            name = metric if isinstance(metric, str) else _name_of(metric)
            hint = nearest(name.split("/")[-1], SHORT_NAMES) if isinstance(metric, str) else ""
            raise ValueError(
                f"mode='auto' cannot know which direction is better for {quoted(name)}{hint}: set mode='max' "
                f"or mode='min' "
                "with this monitor"
            )
        return cls(metric, mode if known is None or mode != "auto" else known, delta, min_delta_mode)

    @property
    def name(self) -> str:
        """The metric's name; for a function, the function's."""
        return self.metric if isinstance(self.metric, str) else _name_of(self.metric)

    @property
    def margin(self) -> str:
        """The least improvement, to follow that word: `""`, `" of more than 0.01"` or `" of more than 1 %"`."""
        delta = f"{100 * self.min_delta:g} %" if self.min_delta_mode == "rel" else f"{self.min_delta:g}"
        return f" of more than {delta}" if self.min_delta else ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the metrics that a run must have; empty for a function, of which they are unknown."""
        return (self.metric,) if isinstance(self.metric, str) else ()

    def value(self, record: EpochRecord) -> float | None:
        """Return the metric's value in this epoch; None if it was not measured.

        An epoch that was rebuilt from Ultralytics' own log has only the trainer's metrics; no other metric counts as
        measured in it.

        Raises:
            UnknownMetricError: If a validated epoch has no such metric.
            TypeError: If a function returned something other than a number.
        """
        view = MetricView(record)
        if isinstance(self.metric, str):
            if self.metric not in view and (not record.validated or is_measured(self.metric)):
                return None
            return view[self.metric]
        if not record.validated:
            return None
        try:
            value = self.metric(view)
        except UnmeasuredError:
            if record.measures:  # not a rebuilt epoch, so it is a mistake, such as a class that does not exist
                raise
            return None
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"monitor function '{self.name}' returned {quoted(value)}, it must return a number"
            ) from None

    def is_worst(self, value: float) -> bool:
        """Return whether this is the worst possible value, a score of 0; it is not reported as the best."""
        return value == 0 and self.mode == "max" and isinstance(self.metric, str) and direction(self.metric) == "max"

    def is_better(self, value: float, than: float) -> bool:
        """Return whether `value` is better than `than`, by however little. NaN never is."""
        return value > than if self.mode == "max" else value < than

    def delta(self, reference: float) -> float:
        """Return by how much a value has to beat `reference` to be an improvement."""
        return self.min_delta * (abs(reference) if self.min_delta_mode == "rel" else 1.0)

    def improves(self, value: float, reference: float) -> bool:
        """Return whether `value` beats `reference` by more than `min_delta`. NaN never does."""
        if not math.isfinite(self.min_delta * reference):
            return self.is_better(value, reference)
        delta = self.delta(reference)
        return value > reference + delta if self.mode == "max" else value < reference - delta


@dataclass(frozen=True)
class Progress:
    """The progress of a monitored metric so far.

    Attributes:
        value: Newest value; None before the first.
        epoch: Epoch of the newest value.
        best: Best finite value, even if it is no improvement by `min_delta`; None before the first.
        best_epoch: Epoch of the best value.
        reference: The value that an improvement has to beat by `min_delta`.
        wait: Number of counted epochs since the last improvement.
        skipped: Number of counted epochs without a value since the newest one; they add to the wait when the next value
            is no improvement.
        improved: Whether the newest value is an improvement. One that does not beat the baseline is, but does not
            end the wait.
        plan: The plan of the run.
    """

    value: float | None = None
    epoch: int = 0
    best: float | None = None
    best_epoch: int = 0
    reference: float | None = None
    wait: int = 0
    skipped: int = 0
    improved: bool = False
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True)
class ProgressFold:
    """Follows a monitor over the epochs. The first `start_from_epoch` epochs are ignored.

    The wait counts epochs, not values: those without one, such as epochs that were not validated, count as soon as the
    next value is no improvement.

    Epochs of the warm-up, and those after mosaic has closed, can bring an improvement but do not add to the wait:
    there, the metric says nothing about the epochs before or after. Where a run was extended, the wait begins anew.

    Attributes:
        monitor: The monitor.
        start_from_epoch: Number of epochs at the start to ignore, >= 0.
        baseline: A value that an improvement must beat to end the wait; None for none.
    """

    monitor: Monitor
    start_from_epoch: int = 0
    baseline: float | None = None

    def initial(self, plan: Plan) -> Progress:
        """Return the state before the first epoch."""
        return Progress(plan=plan)

    def step(self, state: Progress, record: EpochRecord) -> Progress:
        """Return the state after one more epoch."""
        value = self.monitor.value(record)
        if record.epoch <= self.start_from_epoch:
            return state
        state = self.begun_anew(state, record)
        if value is None:
            # a rebuilt epoch, which has no measures, was never asked for what callbacks measure
            missed = not record.validated or bool(record.measures)
            counts = missed and _counts(record, state.plan)
            return replace(state, skipped=state.skipped + 1) if counts else state
        finite = math.isfinite(value)
        leads = finite and (state.best is None or self.monitor.is_better(value, state.best))
        improved = finite and (state.reference is None or self.monitor.improves(value, state.reference))
        beats_baseline = self.baseline is None or self.monitor.improves(value, self.baseline)
        counts = _counts(record, state.plan)
        return Progress(
            value=value,
            epoch=record.epoch,
            best=value if leads else state.best,
            best_epoch=record.epoch if leads else state.best_epoch,
            reference=value if improved else state.reference,
            wait=0 if improved and beats_baseline else state.wait + state.skipped + counts,
            improved=improved,
            plan=state.plan,
        )

    @staticmethod
    def begun_anew(state: Progress, record: EpochRecord) -> Progress:
        """Return the state before an epoch; the first one of an extension begins the wait anew."""
        begins = record.epoch - 1 == state.plan.start_of(record.epoch) > 0
        return replace(state, wait=0, skipped=0) if begins else state

    def out_of_reach(self, patience: int, plan: Plan, last: int) -> str | None:
        """Return why the patience can never run out; None if it can, or if the run's length is unknown.

        Args:
            patience: The patience in epochs.
            plan: The plan of the run.
            last: The last epoch in which the end of the patience makes a difference.

        Example:
            >>> fold = ProgressFold(Monitor.of("fitness"))
            >>> fold.out_of_reach(2, Plan(planned_epochs=12, close_mosaic=10), last=11) is None
            True
            >>> print(fold.out_of_reach(5, Plan(planned_epochs=12, close_mosaic=10), last=11))
            patience=5 cannot run out: at most 2 of the 12 epochs count; train longer, or lower patience or close_mosaic
        """
        planned = plan.planned_epochs
        closes = 0 < plan.close_mosaic < planned
        # those that `_counts`, without looking at each: a long run asks after every epoch
        first = max(self.start_from_epoch, math.ceil(plan.warmup_epochs)) + 1
        count = max(0, min(last, planned - plan.close_mosaic if closes else last) - first + 1)
        if not planned or count >= patience:
            return None
        causes = {
            "patience": count,
            "warmup_epochs": plan.warmup_epochs,
            "close_mosaic": closes,
            "start_from_epoch": self.start_from_epoch,
        }
        lower = " or ".join(name for name, matters in causes.items() if matters)
        return (
            f"patience={patience} cannot run out: {f'at most {count}' if count else 'none'} of the "
            f"{epochs_in_words(planned)} count{'' if count > 1 else 's'}; train longer"
            f"{f', or lower {lower}' if lower else ''}"
        )


def _counts(record: EpochRecord, plan: Plan) -> bool:
    """Return whether an epoch can add to the wait."""
    return not plan.warms_up(record.epoch) and not plan.mosaic_closed(record)


_LOSSES = [f"{split}{name}_loss" for split in ("train/", "val/") for name in ("box", "cls", "dfl", "l1", "seg", "pose")]
_LOSSES += ["train_loss", "val_loss"]

_FORMS = (
    ": use a short name such as 'fitness', 'mAP50-95' or 'val_loss', a key such as 'val/box_loss', or a class's metric "
    "such as 'mAP50-95/person'"
)


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)
