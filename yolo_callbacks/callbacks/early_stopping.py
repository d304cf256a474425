"""EarlyStopping: end a run that no longer improves, at once or after a finish with falling learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import Decision, Finish, SaveCheckpoint, Stop, StopReason
from yolo_callbacks.core.epochs import Epochs, check_epochs, check_patience, epochs_in_words, in_epochs
from yolo_callbacks.core.finishing import finish_after, finish_length
from yolo_callbacks.core.forecast import AUTO, ForecastFold
from yolo_callbacks.core.monitor import (
    Metric,
    Monitor,
    Progress,
    ProgressFold,
)
from yolo_callbacks.core.naming import WEIGHTS, slug
from yolo_callbacks.core.record import History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_bool, check_choice, check_int, check_number, check_verbose, quoted

DEFAULT_PATIENCE = 100
"""Ultralytics' own, if `train()` is given none."""


class EarlyStopping(Callback):
    """Stop training when a monitored metric has stopped improving.

    The patience counts epochs, not validations. A metric that stays at 0 is a plateau like any other, although
    Ultralytics' own early stopping never ends such a run. The trainer's own `patience` still applies: whichever runs
    out first ends the run.

    Args:
        monitor: A metric's name (`"fitness"`, `"mAP50-95"`, `"val_loss"`, `"metrics/recall(B)"`), or a function of
            the epoch's metrics that returns a number, for example
            `lambda m: 5 * m["precision"] * m["recall"] / (4 * m["precision"] + m["recall"] + 1e-9)` for F2.
            Defaults to `"fitness"`.
        min_delta: Least change that counts as an improvement, >= 0. Defaults to 0.
        patience: Epochs without improvement after which training stops: a whole number >= 1, or a share of the planned
            epochs in (0, 1). Epochs without validation count when the next one that is validated brings no
            improvement. Epochs of the warm-up do not count, nor do those after mosaic has closed.
            `"auto"` counts no epochs; it stops when the expected gain of the remaining epochs falls below `tolerance`
            (see docs/stopping.md). None takes the `patience` that you give to `train()`, where 0 means never, and
            `"auto"` if you give none (or 100, Ultralytics' default). Defaults to None.
        verbose: 1 logs a line when it stops, 0 does not. Defaults to 1.
        mode: `"max"`, `"min"`, or `"auto"`, which knows the direction of every metric by name; a function needs
            `"max"` or `"min"`. Defaults to `"auto"`.
        baseline: A value that an improvement must beat to end the wait; None for none. As in Keras, an epoch that
            improves never stops the run, even below the baseline. Not available with `patience="auto"`. Defaults to
            None.
        restore_best_weights: Whether `model.train()` leaves the best weights by this monitor in the model. They are
            kept in `weights/restore-<monitor>.pt`. Ultralytics' `best.pt` (best fitness) is kept too, and `train()`
            returns its metrics. Defaults to False, which leaves `best.pt` in the model.
        start_from_epoch: Number of epochs at the start that do not count, >= 0. Defaults to 0.
        min_delta_mode: `"abs"`, or `"rel"` for a share of the best value's absolute value. Defaults to `"abs"`.
        stopping_threshold: Stop at once when the metric is at least this good; None for never. Defaults to None.
        divergence_threshold: Stop at once when the metric is worse than this; None for never. Defaults to None.
        check_finite: Stop at once when the metric is NaN or infinite. Defaults to True.
        on_plateau: `"stop"`, or `"finish"`, which shortens the run instead: within `finish_epochs`, the learning rate
            falls from its current to its final value and mosaic closes, as at the end of a complete run. From then on
            no plateau ends the run, nor does the trainer's own `patience`. Defaults to `"stop"`.
        finish_epochs: Length of the finish: a whole number of epochs >= 1, or a share of the planned epochs in (0, 1);
            at least `close_mosaic` epochs. If no more epochs remain, the run ends as planned. Defaults to 0.2.
        tolerance: With `patience="auto"`, the expected gain below which the run stops, as a share in (0, 1) of the
            progress from the worst value in the first quarter of the run to the best so far. Defaults to 0.015.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or `monitor` is not the name of a metric.

    Example:
        ```python
        ycb.attach(model, [ycb.EarlyStopping(monitor="mAP50", patience=20, min_delta=0.001, restore_best_weights=True)])
        ```
    """

    priority = Priority.DECIDE
    critical = True

    def __init__(
        self,
        monitor: Metric = "fitness",
        min_delta: float = 0.0,
        patience: Epochs | str | None = None,
        verbose: int = 1,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        min_delta_mode: str = "abs",
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_finite: bool = True,
        on_plateau: str = "stop",
        finish_epochs: Epochs = 0.2,
        tolerance: float = 0.015,
    ) -> None:
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience if patience is None or _is_auto(patience) else check_patience(patience, (AUTO,))
        self.verbose = check_verbose(verbose)
        self.mode = mode
        self.baseline = _optional_number("baseline", baseline)
        self.restore_best_weights = check_bool("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_int("start_from_epoch", start_from_epoch, minimum=0)
        self.min_delta_mode = min_delta_mode
        self.stopping_threshold = _optional_number("stopping_threshold", stopping_threshold)
        self.divergence_threshold = _optional_number("divergence_threshold", divergence_threshold)
        self.check_finite = check_bool("check_finite", check_finite)
        self.on_plateau = check_choice("on_plateau", on_plateau, ("stop", "finish"))
        self.finish_epochs = check_epochs("finish_epochs", finish_epochs)
        self.tolerance = check_number("tolerance", tolerance, minimum=0.0, maximum=1.0, exclusive=True)
        if _is_auto(self.patience) and baseline is not None:
            raise ValueError(f"baseline={quoted(baseline)} needs a patience in epochs, not patience='auto'")
        self._monitor = Monitor.of(monitor, mode, min_delta=min_delta, min_delta_mode=min_delta_mode)
        self._fold = ProgressFold(self._monitor, self.start_from_epoch, self.baseline)
        self._forecast = ForecastFold(self._monitor, self.start_from_epoch)
        self._restore_file = f"{WEIGHTS}/restore-{slug(self._monitor.name)}.pt"

    def needs(self) -> Iterable[str]:
        """Return the monitored metric."""
        return self._monitor.needs

    def outputs(self) -> Iterable[str]:
        """Return the file of the weights to restore."""
        return (self._restore_file,) if self.restore_best_weights else ()

    def needs_validation(self, history: History) -> bool:
        """Return whether the patience would run out in the next epoch if it brought no improvement."""
        progress, patience = history.fold(self._fold), self.patience_at(history)
        finishes = self.on_plateau == "finish" and bool(history) and history[-1].planned_before_finish > 0
        return 0 < patience <= progress.wait + progress.skipped + 1 and not finishes

    def counters(self, history: History) -> Mapping[str, float]:
        """Return `wait`, the epochs without improvement, and with `"auto"` the `expected_gain` if there is one."""
        counters: dict[str, float] = {"wait": history.fold(self._fold).wait}
        if self._is_auto(history.plan) and (gain := history.fold(self._forecast).expected_gain) is not None:
            counters["expected_gain"] = gain
        return counters

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return a sentence if no plateau can end the run early."""
        finish = self.on_plateau == "finish"
        length = finish_length(self.finish_epochs, plan.planned_epochs, plan) if finish else 0
        last = plan.planned_epochs - 1 - length
        if self._is_auto(plan):
            why = self._forecast.out_of_reach(plan, last)
        else:
            why = self._fold.out_of_reach(self.patience_at(History(plan)), plan, last)
        return () if why is None else (f"{why}{f' (a finish takes {length} epochs)' if finish else ''}",)

    def may_stop(self, plan: Plan) -> bool:
        """Return whether a plateau or a threshold may end the run early."""
        thresholds = self.stopping_threshold, self.divergence_threshold
        return thresholds != (None, None) or (self._has_patience(plan) and not any(self.impossible(plan)))

    def _has_patience(self, plan: Plan) -> bool:
        return self._is_auto(plan) or self.patience_at(History(plan)) > 0

    def decide(self, history: History) -> list[Decision]:
        """Stop or finish the run if it is time, and keep new best weights if they are to be restored."""
        progress = history.fold(self._fold)
        if not history or progress.epoch != history.epoch:
            return []
        decisions: list[Decision] = []
        if self.restore_best_weights and progress.best_epoch == history.epoch:
            decisions.append(self._keep(progress))
        if (end := self._stop(progress) or self._plateau(progress, history)) is not None:
            decisions.append(end)
        return decisions

    def patience_at(self, history: History) -> int:
        """Return the current patience in epochs; 0 if it never runs out, as with `"auto"`."""
        if self._is_auto(history.plan):
            return 0
        if self.patience is None or isinstance(self.patience, str):
            return history.plan.trainer_patience
        planned = history[-1].whole_epochs if history else history.plan.planned_epochs
        return in_epochs(self.patience, planned)

    def _stop(self, progress: Progress) -> Stop | None:
        name, value = self._monitor.name, progress.value
        assert value is not None  # an epoch that counts has a value
        epoch = progress.epoch
        if self.check_finite and not math.isfinite(value):
            return Stop(f"stop, {name} is {value}", epoch, reason=StopReason.NOT_FINITE)
        threshold = self.stopping_threshold
        if threshold is not None and (value == threshold or self._monitor.is_better(value, threshold)):
            reached = f"{name} {value:.5g} has reached stopping_threshold={threshold:.5g}"
            return Stop(f"stop, {reached}", epoch, reason=StopReason.THRESHOLD)
        limit = self.divergence_threshold
        if limit is not None and self._monitor.is_better(limit, value):
            worse = f"{name} {value:.5g} is worse than divergence_threshold={limit:.5g}"
            return Stop(f"stop, {worse}", epoch, reason=StopReason.DIVERGED)
        return None

    def _plateau(self, progress: Progress, history: History) -> Stop | Finish | None:
        auto = self._is_auto(history.plan)
        why = self._too_little_to_gain(history) if auto else self._out_of_patience(progress, history)
        if why is None:
            return None
        why += f" ({self._best_in_words(progress)})"
        if self.on_plateau == "finish":
            return finish_after(history[-1], history.plan, self.finish_epochs, why)
        return Stop(f"stop, {why}", progress.epoch, reason=StopReason.PLATEAU)

    def _is_auto(self, plan: Plan) -> bool:
        unset = self.patience is None and self.baseline is None
        return self.patience == AUTO or (unset and plan.trainer_patience == DEFAULT_PATIENCE)

    def _out_of_patience(self, progress: Progress, history: History) -> str | None:
        """Return a sentence if the patience has run out."""
        patience = self.patience_at(history)
        if not patience or progress.wait < patience or progress.improved:  # Keras stops in no epoch that improves
            return None
        reference, baseline = progress.reference, self.baseline
        if baseline is not None and (reference is None or not self._monitor.improves(reference, baseline)):
            missed = f"{self._monitor.name} has not beaten the baseline of {baseline:.5g}"
        else:
            missed = f"no improvement{self._monitor.margin} in {self._monitor.name}"
        return f"{missed} for {epochs_in_words(progress.wait)}"

    def _too_little_to_gain(self, history: History) -> str | None:
        """Return a sentence if the expected gain is below the tolerance."""
        forecast = history.fold(self._forecast)
        gain = forecast.expected_gain
        if gain is None or gain >= self.tolerance or forecast.record:
            return None
        return (
            f"the rest of the run is expected to add {100 * gain:.2g} % to the progress in {self._monitor.name}, less "
            f"than the tolerance of {100 * self.tolerance:g} %"
        )

    def _best_in_words(self, progress: Progress) -> str:
        if progress.best is None:
            return "best: none"
        if self._monitor.is_worst(progress.best):
            return "still 0"
        return f"best: {progress.best:.5g} in epoch {progress.best_epoch}"

    def _keep(self, progress: Progress) -> SaveCheckpoint:
        return SaveCheckpoint(
            f"{self._monitor.name} {progress.best:.5g} is the best so far, kept to be restored",
            progress.epoch,
            file=self._restore_file,
            role="restore",
            value=progress.best,
            monitor=self._monitor.name,
            announce=False,
        )


def _optional_number(name: str, value: float | None) -> float | None:
    return None if value is None else check_number(name, value)


def _is_auto(patience: object) -> bool:
    return isinstance(patience, str) and patience == AUTO  # comparing an array gives another array
