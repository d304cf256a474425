"""ReduceLROnPlateau: a lower learning rate when a metric has stopped improving."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.core.decision import SetLearningRate
from yolo_callbacks.core.epochs import Epochs, in_epochs
from yolo_callbacks.core.monitor import (
    Metric,
    Monitor,
    Progress,
    ProgressFold,
    check_patience,
)
from yolo_callbacks.core.record import EpochRecord, History, Plan
from yolo_callbacks.core.rule import Priority
from yolo_callbacks.support.checks import check_int, check_number, check_verbose

FINAL = "final"


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` when a monitored metric has stopped improving.

    The factor lies over the trainer's own schedule (linear, cosine, warm-up) and stays there. All parameter groups
    get the same factor, so the ratio between them holds. While a metric that should grow is still 0, nothing is
    counted: that is not a plateau but a model that has not begun to learn.

    Args:
        monitor: A metric's name or a function of the epoch's metrics, as in `EarlyStopping`. Defaults to
            `"fitness"`.
        factor: What the learning rate is multiplied with, in (0, 1). Defaults to 0.1.
        patience: Validated epochs without improvement before a reduction: a whole number >= 1, or a share of the
            planned epochs in (0, 1). Epochs of the warm-up do not count, nor do those after mosaic has closed.
            Defaults to 10.
        verbose: 1 logs a line for each reduction, 0 does not. Defaults to 1.
        mode: `"max"`, `"min"` or `"auto"`. Defaults to `"auto"`.
        min_delta: Least change that counts as an improvement, >= 0. Defaults to 1e-4.
        cooldown: Validated epochs after a reduction in which nothing is counted. Defaults to 0.
        min_lr: Lower bound of the learning rate, >= 0. From the first reduction on no group goes below it, not even
            where the trainer's own schedule would; `"final"` is the rate that this schedule ends with (`lr0 * lrf`).
            Defaults to 0.0.
        min_delta_mode: `"abs"`, or `"rel"` for a share of the best value's size. Defaults to `"abs"`.
        start_from_epoch: Number of epochs at the start that do not count. Defaults to 0.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range or the monitor cannot be a metric.

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
            raise ValueError(f"min_lr={min_lr!r} must be a number >= 0 or '{FINAL}'")
        self.min_lr = min_lr if isinstance(min_lr, str) else check_number("min_lr", min_lr, minimum=0.0)
        self.min_delta_mode = min_delta_mode
        self.start_from_epoch = check_int("start_from_epoch", start_from_epoch, minimum=0)
        self._monitor = Monitor.of(monitor, mode, min_delta=min_delta, min_delta_mode=min_delta_mode)
        progress = ProgressFold(self._monitor, self.start_from_epoch)
        self._fold = ReductionFold(progress, self.factor, self.patience, self.cooldown, self.min_lr)

    def needs(self) -> Iterable[str]:
        """Return the monitored metric."""
        return self._monitor.needs

    def counters(self, history: History) -> Mapping[str, float]:
        """Return how many epochs there was no improvement, and how many of the cooldown are left."""
        state = history.fold(self._fold)
        return {"wait": state.progress.wait, "cooldown": state.cooldown}

    def impossible(self, plan: Plan) -> Iterable[str]:
        """Return why there can be no reduction, if there can be none."""
        patience = in_epochs(self.patience, plan.planned_epochs)
        why = self._fold.progress.out_of_reach(patience, plan, plan.planned_epochs - 1)
        return () if why is None else (why,)

    def decide(self, history: History) -> SetLearningRate | None:
        """Reduce, if this epoch is one too many."""
        state = history.fold(self._fold)
        if not history or state.reduced_in != history.epoch:
            return None
        return SetLearningRate(
            f"{self._monitor.name} has not improved{self._monitor.margin} for {state.waited} epochs, "
            f"learning rate x {self.factor:g} (now x {state.factor:.3g} of the schedule)",
            history.epoch,
            factor=state.factor,
            min_lr=state.min_lr,
        )


@dataclass(frozen=True)
class Reductions:
    """How the reductions stand.

    Attributes:
        progress: How the metric has done since the last reduction.
        factor: Product of all reductions so far.
        cooldown: Validated epochs of the cooldown that are left.
        reduced_in: Epoch of the last reduction, 0 before the first.
        waited: How long there was no improvement then.
        min_lr: The floor.
    """

    progress: Progress
    factor: float = 1.0
    cooldown: int = 0
    reduced_in: int = 0
    waited: int = 0
    min_lr: float = 0.0


@dataclass(frozen=True)
class ReductionFold:
    """Decides in which epochs the learning rate is reduced; the counting is Keras's.

    Source: `ReduceLROnPlateau.on_epoch_end` of Keras 3, whose order of counting down the cooldown, comparing and
    waiting this follows.
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
        progress = self.progress.step(state.progress, record)
        if progress is state.progress:
            return state
        cooldown = max(0, state.cooldown - 1)
        if self.progress.monitor.mode == "max" and progress.best == 0:
            progress = replace(progress, wait=0)
        if state.cooldown:
            progress = replace(progress, wait=min(progress.wait, 0 if cooldown else 1))
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

    @staticmethod
    def _at_floor(state: Reductions, record: EpochRecord) -> bool:
        """Whether the rate is at the floor already, so that one more factor would change nothing."""
        if not state.min_lr or record.base_lr is None:
            return False
        return record.base_lr * record.lr_factor <= state.min_lr * (1 + 1e-9)
