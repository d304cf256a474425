"""EarlyStopping: end a run that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from yolo_callbacks.callback import Callback, Priority
from yolo_callbacks.core.checks import check_bool, check_int, check_number, check_verbose
from yolo_callbacks.core.decision import Decision, SaveCheckpoint, Stop, StopReason
from yolo_callbacks.core.monitor import (
    Metric,
    Monitor,
    Patience,
    Progress,
    ProgressFold,
    check_patience,
    patience_in_epochs,
)
from yolo_callbacks.core.naming import WEIGHTS, slug
from yolo_callbacks.core.record import History


class EarlyStopping(Callback):
    """Stop training when a monitored metric has stopped improving.

    Only epochs that were really validated count. A metric that stays at 0 is a plateau like any other; Ultralytics'
    own early stopping never ends such a run. The trainer's own `patience` goes on working beside this: whichever runs
    out first ends the run.

    Args:
        monitor: A metric's name (`"fitness"`, `"mAP50-95"`, `"val_loss"`, `"metrics/recall(B)"`), or a function of
            the epoch's metrics that returns a number, for example
            `lambda m: 5 * m["precision"] * m["recall"] / (4 * m["precision"] + m["recall"] + 1e-9)` for F2.
            Defaults to `"fitness"`.
        min_delta: Least change that counts as an improvement, >= 0. Defaults to 0.
        patience: Validated epochs without improvement after which training stops: a whole number >= 1, or a share of
            the planned epochs in (0, 1). None takes the trainer's own `patience` argument, where 0 means never.
            Defaults to None.
        verbose: 1 logs a line when it stops, 0 does not. Defaults to 1.
        mode: `"max"`, `"min"`, or `"auto"`, which knows the direction of every metric by name; a function needs it
            said. Defaults to `"auto"`.
        baseline: A value that must be beaten for the wait to end; None for none. Defaults to None.
        restore_best_weights: Whether `model.train()` leaves the weights that were best by this monitor in the model.
            They are kept in `weights/restore-<monitor>.pt`; Ultralytics' `best.pt`, which is best by fitness, is kept
            too, and its metrics are what `train()` returns. Defaults to False, which leaves `best.pt` in the model.
        start_from_epoch: Number of epochs at the start that do not count. Defaults to 0.
        min_delta_mode: `"abs"`, or `"rel"` for a share of the best value's size. Defaults to `"abs"`.
        stopping_threshold: Stop at once when the metric is at least this good; None for never. Defaults to None.
        divergence_threshold: Stop at once when the metric is worse than this; None for never. Defaults to None.
        check_finite: Stop at once when the metric is NaN or infinite. Defaults to True.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range or the monitor cannot be a metric.

    Example:
        ```python
        ycb.attach(model, [ycb.EarlyStopping(monitor="mAP50", patience=20, min_delta=0.001, restore_best_weights=True)])
        ```
    """

    priority = Priority.DECIDE

    def __init__(
        self,
        monitor: Metric = "fitness",
        min_delta: float = 0.0,
        patience: Patience | None = None,
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
    ) -> None:
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = None if patience is None else check_patience(patience)
        self.verbose = check_verbose(verbose)
        self.mode = mode
        self.baseline = _optional_number("baseline", baseline)
        self.restore_best_weights = check_bool("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_int("start_from_epoch", start_from_epoch, minimum=0)
        self.min_delta_mode = min_delta_mode
        self.stopping_threshold = _optional_number("stopping_threshold", stopping_threshold)
        self.divergence_threshold = _optional_number("divergence_threshold", divergence_threshold)
        self.check_finite = check_bool("check_finite", check_finite)
        self._monitor = Monitor.of(monitor, mode, min_delta=min_delta, min_delta_mode=min_delta_mode)
        self._fold = ProgressFold(self._monitor, self.start_from_epoch, self.baseline)
        self._restore_file = f"{WEIGHTS}/restore-{slug(self._monitor.name)}.pt"

    def needs(self) -> Iterable[str]:
        """Return the monitored metric."""
        return self._monitor.needs

    def outputs(self) -> Iterable[str]:
        """Return the file that the weights to restore are kept in."""
        return (self._restore_file,) if self.restore_best_weights else ()

    def counters(self, history: History) -> Mapping[str, float]:
        """Return how many validated epochs there was no improvement."""
        return {"wait": history.fold(self._fold).wait}

    def decide(self, history: History) -> list[Decision]:
        """Stop, and keep the weights of a new best where they are to be restored."""
        progress = history.fold(self._fold)
        if not history or progress.epoch != history.epoch:
            return []
        decisions: list[Decision] = []
        if self.restore_best_weights and progress.best_epoch == history.epoch:
            decisions.append(self._keep(progress))
        if (stop := self._stop(progress, self.patience_at(history))) is not None:
            decisions.append(stop)
        return decisions

    def patience_at(self, history: History) -> int:
        """Return the patience in epochs as it stands now; 0 means that it never runs out."""
        if self.patience is None:
            return history.plan.trainer_patience
        planned = history[-1].planned_epochs if history else history.plan.planned_epochs
        return patience_in_epochs(self.patience, planned)

    def _stop(self, progress: Progress, patience: int) -> Stop | None:
        name, value = self._monitor.name, progress.value
        assert value is not None  # an epoch that counts has a value
        epoch = progress.epoch
        if self.check_finite and not math.isfinite(value):
            return Stop(f"stop, {name} is {value}", epoch, reason=StopReason.NOT_FINITE)
        threshold = self.stopping_threshold
        if threshold is not None and (value == threshold or self._monitor.is_better(value, threshold)):
            return Stop(f"stop, {name} {value:.5g} has reached {threshold:.5g}", epoch, reason=StopReason.THRESHOLD)
        limit = self.divergence_threshold
        if limit is not None and self._monitor.is_better(limit, value):
            return Stop(f"stop, {name} {value:.5g} is worse than {limit:.5g}", epoch, reason=StopReason.DIVERGED)
        if patience and progress.wait >= patience:
            best = "none" if progress.best is None else f"{progress.best:.5g} in epoch {progress.best_epoch}"
            message = f"stop, {name} has not improved{self._monitor.margin} for {progress.wait} epochs (best: {best})"
            return Stop(message, epoch, reason=StopReason.PLATEAU)
        return None

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
