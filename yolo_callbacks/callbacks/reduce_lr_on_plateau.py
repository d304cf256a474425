"""ReduceLROnPlateau: reduce the learning rate when a metric has stopped improving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SetLearningRate
from yolo_callbacks.core.epochs import Epochs, check_patience, epochs_in_words, in_epochs
from yolo_callbacks.core.monitor import (
    Metric,
    Monitor,
    Progress,
    ProgressFold,
)
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_int, check_number, check_verbose, quoted

FINAL = "final"


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when a monitored metric has stopped improving.

    The factor multiplies the trainer's own schedule (linear, cosine, warm-up) for the rest of the run. All parameter
    groups get the same factor and keep their ratio. While a metric that should grow is still 0, no epoch counts: the
    model has not begun to learn, which is not a plateau.

    Args:
        monitor: A metric's name or a function of the epoch's metrics, as in `EarlyStopping`. Defaults to
            `"fitness"`.
        factor: Factor on the learning rate, in (0, 1). Defaults to 0.1.
        patience: Epochs without improvement before a reduction: a whole number >= 1, or a share of the planned epochs
            in (0, 1). Epochs without validation count when the next one that is validated brings no improvement.
            Epochs of the warm-up do not count, nor do those after mosaic has closed. Defaults to 10.
        verbose: 1 logs a line for each reduction, 0 does not. Defaults to 1.
        mode: `"max"`, `"min"` or `"auto"`. Defaults to `"auto"`.
        min_delta: Least change that counts as an improvement, >= 0. Defaults to 1e-4.
        cooldown: Number of epochs after a reduction that do not count, >= 0. Defaults to 0.
        min_lr: Lower bound of the learning rate, >= 0. From the first reduction on, no group goes below it, even if
            the trainer's own schedule does. `"final"` is the final rate of this schedule (`lr0 * lrf`). Defaults to
            0.0.
        min_delta_mode: `"abs"`, or `"rel"` for a share of the best value's absolute value. Defaults to `"abs"`.
        start_from_epoch: Number of epochs at the start that do not count, >= 0. Defaults to 0.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or `monitor` is not the name of a metric.

    Example:
        ```python
        ycb.attach(model, [ycb.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=8, min_lr=1e-5)])
        ```
    """

    priority = Priority.DECIDE
    critical = True

    def __init__(
        self,
        monitor: Metric = "fitness",
        factor: float = 0.1,
        patience: Epochs = 10,
        verbose: int = 1,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: Union[float, str] = 0.0,
        *,
        min_delta_mode: str = "abs",
        start_from_epoch: int = 0,
    ) -> None:
        self.monitor = monitor
        self.factor = check_number("factor", factor, minimum=0.0, maximum=1.0, exclusive=True)
        self.patience = check_patience(patience)
        self.verbose = check_verbose(verbose)
        self.mode = mode
        self.min_delta = min_delta
        self.cooldown = check_int("cooldown", cooldown, minimum=0)
        if isinstance(min_lr, str) and min_lr != FINAL:
            raise ValueError(f"min_lr={quoted(min_lr)} must be a number >= 0 or '{FINAL}'")
        self.min_lr = min_lr if isinstance(min_lr, str) else check_number("min_lr", min_lr, minimum=0.0)
        self.min_delta_mode = min_delta_mode
        self.start_from_epoch = check_int("start_from_epoch", start_from_epoch, minimum=0)
        self._monitor = Monitor.of(monitor, mode, min_delta=min_delta, min_delta_mode=min_delta_mode)
        progress = ProgressFold(self._monitor, self.start_from_epoch)
        self._fold = ReductionFold(progress, self.factor, self.patience, self.cooldown, self.min_lr)

    def needs(self) -> Iterable[str]:
        """Return the monitored metric."""
        return self._monitor.needs

    def needs_validation(self, history: History) -> bool:
        """Return whether the next epoch would bring a reduction if it brought no improvement."""
        return bool(history) and self._fold.may_reduce(history.fold(self._fold), history[-1])

    def counters(self, history: History) -> Mapping[str, float]:
        """Return `wait`, the epochs without improvement, and `cooldown`, the epochs left of the cooldown."""
        state = history.fold(self._fold)
        return {"wait": state.progress.wait, "cooldown": state.cooldown}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return a sentence if there can be no reduction."""
        patience = in_epochs(self.patience, plan.planned_epochs)
        why = self._fold.progress.out_of_reach(patience, plan, plan.planned_epochs - 1)
        return () if why is None else (why,)

    def decide(self, history: History) -> SetLearningRate | None:
        """Reduce the learning rate if the patience has run out."""
        state = history.fold(self._fold)
        if not history or state.reduced_in != history.epoch:
            return None
        return SetLearningRate(
            f"no improvement{self._monitor.margin} in {self._monitor.name} for {epochs_in_words(state.waited)}, "
            f"learning rate x {self.factor:g} (now {state.factor:.3g} of the schedule)",
            history.epoch,
            factor=state.factor,
            min_lr=state.min_lr,
        )


@dataclass(frozen=True)
class Reductions:
    """The current reduction state.

    Attributes:
        progress: Progress of the metric; its `wait` starts again at a reduction.
        factor: Product of all reductions so far.
        cooldown: Number of epochs left of the cooldown.
        reduced_in: Epoch of the last reduction; 0 before the first.
        waited: Epochs without improvement before it.
        min_lr: Lower bound of the learning rate.
    """

    progress: Progress
    factor: float = 1.0
    cooldown: int = 0
    reduced_in: int = 0
    waited: int = 0
    min_lr: float = 0.0


@dataclass(frozen=True)
class ReductionFold:
    """Finds the epochs in which the learning rate is reduced.

    Source: `ReduceLROnPlateau.on_epoch_end` of Keras 3, with the same order of cooldown, comparison and wait.
    """

    progress: ProgressFold
    factor: float
    patience: Epochs
    cooldown: int
    min_lr: float | str

    def initial(self, plan: Plan) -> Reductions:
        """Return the state before the first epoch."""
        min_lr = (plan.final_lr or 0.0) if isinstance(self.min_lr, str) else self.min_lr
        return Reductions(self.progress.initial(plan), min_lr=min_lr)

    def step(self, state: Reductions, record: EpochRecord) -> Reductions:
        """Return the state after one more epoch."""
        state = replace(state, progress=self.progress.begun_anew(state.progress, record))
        progress = self.progress.step(state.progress, record)
        if progress.epoch == state.progress.epoch:  # nothing was measured
            return replace(state, progress=progress)
        passed = state.progress.skipped + 1
        cooldown = max(0, state.cooldown - passed)
        if self.progress.monitor.mode == "max" and progress.best == 0:
            progress = replace(progress, wait=0)
        if state.cooldown:
            progress = replace(progress, wait=min(progress.wait, max(0, passed - state.cooldown + 1)))
        patience = in_epochs(self.patience, record.whole_epochs)
        if progress.wait < patience or cooldown or self._at_floor(state, record):
            return replace(state, progress=progress, cooldown=cooldown)
        return replace(
            state,
            progress=replace(progress, wait=0),
            factor=state.factor * self.factor,
            cooldown=self.cooldown,
            reduced_in=record.epoch,
            waited=progress.wait,
        )

    def may_reduce(self, state: Reductions, record: EpochRecord) -> bool:
        """Return whether the epoch after `record` would bring a reduction if it brought no improvement."""
        passed = state.progress.skipped + 1
        wait = state.progress.wait + passed
        if state.cooldown:
            wait = min(wait, passed - state.cooldown + 1)
        enough = wait >= in_epochs(self.patience, record.whole_epochs) and passed >= state.cooldown
        return enough and not self._at_floor(state, record)

    @staticmethod
    def _at_floor(state: Reductions, record: EpochRecord) -> bool:
        """Return whether the rate is at `min_lr`, so that a reduction would change nothing."""
        if not state.min_lr or record.base_lr is None:
            return False
        return record.base_lr * record.lr_factor <= state.min_lr * (1 + 1e-9)
