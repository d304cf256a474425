"""Run: the facade over one Ultralytics trainer.

With `core/readings.py` and `core/protection.py`, which only this module uses, the only code that touches the trainer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.core.learning_rate import LearningRateState, arm, own_schedule
from yolo_callbacks.core.log import LOGGER
from yolo_callbacks.core.numbers import all_finite
from yolo_callbacks.core.protection import (
    NothingLeft,
    checkpoint_path,
    go_straight_to_the_end,
    look_for_result,
    protect_files,
    steady_callbacks,
    tell_of_exceptions,
)
from yolo_callbacks.core.readings import (
    description,
    learning_rates,
    loss_names,
    lowest_initial_lr,
    measure_names,
    measures,
    metric_names,
    numbers,
)
from yolo_callbacks.core.record import EpochRecord, Plan

TRAINER = "trainer"
"""Source of what the trainer itself decided."""


class Run:
    """One training run as callbacks see it: where it stands, what it measured, and the few things they may ask of it.

    Epochs are counted from 1 here, as in `results.csv`; the trainer counts from 0.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        save_dir: The run directory.
        epoch_is_open: True from the end of an epoch's batches to its first on_fit_epoch_end. The final evaluation
            sends that event once more, without any training before it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.save_dir = Path(trainer.save_dir)
        self._clock_start: float | None = None
        self._elapsed_before = 0.0
        self._train_started: float | None = None
        self._train_seconds: float | None = None
        self._base_lr: float | None = None
        self._metrics_before: object = None
        self._saved_epoch = 0
        self._serialized: bytes | None = None
        self._can_finish = False
        self._unprotect: Callable[[], None] | None = None
        self.epoch_is_open = False

    def prepare(self) -> None:
        """Call it before the trainer is set up: what may only be done then."""
        if self.resumed and self.world_size < 2:  # the launched ranks do not all come by here
            go_straight_to_the_end(self._trainer)
            self._can_finish = True
        tell_of_exceptions(self._trainer)

    def protect(self, before_save: Callable[[], None], may_strip: Callable[[], bool]) -> None:
        """Make what Ultralytics writes survive a kill and a full disk, and its callbacks one that removes itself.

        Args:
            before_save: Called on rank 0 when the checkpoint of an epoch is about to be put in its place.
            may_strip: Called on rank 0 when `last.pt` and `best.pt` are about to be stripped in place; returns whether
                they may.
        """
        self.steady()
        if self.is_main:
            self._unprotect = protect_files(self._trainer, before_save, self._note_saved, may_strip)

    def steady(self) -> None:
        """Let every callback be called even if one before it removes itself."""
        steady_callbacks(self._trainer)

    def _note_saved(self, data: bytes, saved: bool) -> None:
        self._serialized = None if saved else data
        if saved and self.epoch_is_open:
            self._saved_epoch = self.epoch

    # ---------------------------------------------------------------- where the run stands

    @property
    def trainer(self) -> Any:
        """The trainer itself, for a user's own callback; the callbacks of this package do not touch it."""
        return self._trainer

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, or the only one."""
        from ultralytics.utils import RANK

        return RANK in {-1, 0}

    @property
    def world_size(self) -> int:
        """Number of training processes; 0 or 1 without DDP."""
        return int(self._trainer.world_size or 0)

    @property
    def callbacks_dir(self) -> Path:
        """Where journal, CSV, picture and `run.json` go."""
        return self.save_dir / "callbacks"

    @property
    def epoch(self) -> int:
        """Number of the epoch that runs or has just ended, counted from 1; before the first, the last one's."""
        return int(vars(self._trainer).get("epoch", self.epochs_before - 1)) + 1

    @property
    def epochs_before(self) -> int:
        """Number of epochs that a resumed run had finished before; 0 for a fresh one."""
        return int(self._trainer.start_epoch)

    @property
    def planned_epochs(self) -> int:
        """Number of epochs planned now; the trainer's `time` argument moves it."""
        return int(self._trainer.epochs)

    @property
    def save_period(self) -> int:
        """Ultralytics' own `save_period`: above 0 it writes `epoch<N>.pt`, N counted from 0."""
        return int(self._trainer.args.save_period)

    @property
    def last_checkpoint(self) -> Path:
        """Ultralytics' `last.pt`."""
        return Path(self._trainer.last)

    @property
    def best_checkpoint(self) -> Path:
        """Ultralytics' `best.pt`."""
        return Path(self._trainer.best)

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from a checkpoint of an earlier process."""
        return bool(self._trainer.resume)

    @property
    def resumed_from(self) -> Path:
        """The checkpoint that a resumed run was loaded from: the one of the epoch before."""
        return Path(self._trainer.args.resume)

    @property
    def stopping(self) -> bool:
        """Whether the trainer ends after this epoch."""
        return bool(self._trainer.stop)

    def plan(self) -> Plan:
        """Return what the run sets out to do."""
        return Plan(
            planned_epochs=self.planned_epochs,
            base_lr=self.scheduled_lr(1),
            final_lr=lowest_initial_lr(self._trainer) * float(self._trainer.args.lrf),
            trainer_patience=int(self._trainer.args.patience or 0),
        )

    def scheduled_lr(self, epoch: int) -> float:
        """Return the learning rate that the trainer's own schedule gives an epoch, in the group with the lowest one."""
        return lowest_initial_lr(self._trainer) * float(own_schedule(self._trainer.lf)(epoch - 1))

    def metric_names(self) -> tuple[Mapping[str, float], bool]:
        """Return the metrics that this run will have, and whether the names of its losses are among them.

        Losses are named by the criterion, which most tasks can ask before the first batch.
        """
        names = ["fitness", *metric_names(self._trainer), *learning_rates(self._trainer)]
        losses = loss_names(self._trainer)
        names += [f"{split}/{name}" for split in ("train", "val") for name in losses]
        return dict.fromkeys(names, 0.0), bool(losses)

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of what is measured of every epoch's speed and memory."""
        return measure_names(self._trainer)

    def describe(self) -> dict[str, Any]:
        """Return what a reader of `run.json` wants to know of the run: versions, task, device, arguments."""
        return description(self._trainer)

    # ---------------------------------------------------------------- the way of one epoch

    def begin_epoch(self, learning_rate: LearningRateState) -> None:
        """An epoch starts, or starts again: put the learning-rate factors in force and start the clock."""
        arm(self._trainer, learning_rate, lowest_initial_lr(self._trainer))
        self._base_lr = self.scheduled_lr(self.epoch)
        self._train_started = time.perf_counter()
        self._clock_start = self._clock_start or self._train_started

    def end_train_part(self) -> None:
        """The batches of an epoch are done, its validation comes next."""
        self.epoch_is_open = True
        self._metrics_before = self._trainer.metrics
        if self._train_started is not None:
            self._train_seconds = time.perf_counter() - self._train_started

    @property
    def validated(self) -> bool:
        """Whether the epoch whose batches are done has been validated. Rank 0."""
        # validate() returns a new dict each time: the same one means that this epoch was not validated
        return self._trainer.metrics is not self._metrics_before and self._trainer.fitness is not None

    def checkpoint_was_saved(self) -> None:
        """The trainer says that it has written `last.pt` for the epoch that runs."""
        if self._serialized is None and self.epoch_is_open:  # else the disk has refused it
            self._saved_epoch = self.epoch

    def record(
        self, learning_rate: LearningRateState, measured: Mapping[str, float], *, complete: bool = True
    ) -> EpochRecord:
        """Build the record of the epoch that has just ended. Rank 0 only: the others have no metrics.

        Args:
            learning_rate: The factors that were in force.
            measured: What callbacks have measured.
            complete: False while the trainer has still to save its checkpoint.
        """
        trainer = self._trainer
        validated = self.validated
        metrics = {**numbers(trainer.label_loss_items(trainer.tloss)), **numbers(trainer.lr)}
        if validated:
            metrics = {**metrics, **numbers(trainer.metrics), "fitness": float(trainer.fitness)}
        record = EpochRecord(
            epoch=self.epoch,
            metrics={**metrics, **{name: value for name, value in measured.items() if name not in metrics}},
            validated=validated,
            last=self.stopping and self.foreign_stop() is None,
            elapsed=self._elapsed(),
            measures=measures(trainer, self._train_seconds, None if complete else time.time()),
        )
        return self.with_schedule(record, learning_rate, self._base_lr)

    def with_schedule(
        self, record: EpochRecord, learning_rate: LearningRateState, base_lr: float | None = None
    ) -> EpochRecord:
        """Return a record with what the trainer's own schedule says of its epoch and of the next one.

        Args:
            record: The record.
            learning_rate: The factors that were in force in its epoch.
            base_lr: What the schedule gave its epoch as it began: with `time` another schedule holds by its end.
                None asks the schedule of now.
        """
        lowest = lowest_initial_lr(self._trainer)
        base_lr = self.scheduled_lr(record.epoch) if base_lr is None else base_lr
        own = base_lr / lowest
        return replace(
            record,
            planned_epochs=self.planned_epochs,
            base_lr=base_lr,
            next_base_lr=self.scheduled_lr(record.epoch + 1),
            lr_factor=learning_rate.apply(own, lowest) / own if own else 1.0,
        )

    def close_epoch(self) -> None:
        """The epoch is dealt with: a further on_fit_epoch_end without training is the final evaluation's."""
        self.epoch_is_open = False
        self._train_started = self._train_seconds = self._serialized = self._base_lr = None

    @property
    def evaluates_finally(self) -> bool:
        """Whether the trainer is past its last epoch and has validated the finished model."""
        return not bool(getattr(self._trainer.validator, "training", True))

    def continue_clock(self, elapsed: float) -> None:
        """Count seconds on from where an interrupted run stood."""
        self._elapsed_before = elapsed

    # ---------------------------------------------------------------- what may be asked of the trainer

    def stop(self) -> None:
        """End the training after this epoch. With `save=False`, write the checkpoint that the trainer then needs."""
        self._trainer.stop = True
        if self.is_main and self._saved_epoch != self.epoch and self._serialized is None:
            self._trainer.save_model()
            self.checkpoint_was_saved()

    def finish(self) -> None:
        """Leave the training loop of a resumed run that had ended before, for what follows the last epoch.

        It does not return, but where that cannot be done.
        """
        if self._can_finish:
            raise NothingLeft

    def nothing_left(self) -> Stop | None:
        """Return why a resumed run has no epoch left to train by the trainer's own rules; None if it has."""
        done, patience, best = self.epochs_before, self._trainer.args.patience, self._trainer.stopper.best_epoch
        if done >= self.planned_epochs:
            return Stop("all planned epochs are done", epoch=done, source=TRAINER)
        if patience and best and done - best >= patience:
            return self._out_of_patience(best)
        return None

    def foreign_stop(self) -> Stop | None:
        """Return why the trainer ends before its time although nobody here asked for it; None if it does not."""
        if not self.stopping:
            return None
        trainer, args, best = self._trainer, self._trainer.args, self._trainer.stopper.best_epoch
        if args.time and time.time() - trainer.train_time_start > 3600 * args.time:
            message = f"the time limit of {args.time:g} h was reached"
            return Stop(message, source=TRAINER, reason=StopReason.TIME_LIMIT)
        if self.epoch >= self.planned_epochs:  # which the trainer has just reduced if it is out of time
            return None
        if args.patience and trainer.fitness is not None and self.epoch - best >= args.patience:
            return self._out_of_patience(best)
        return self.external_stop

    def _out_of_patience(self, best: int) -> Stop:
        message = f"Ultralytics' own patience={self._trainer.args.patience} ran out (best epoch {best})"
        return Stop(message, source=TRAINER, reason=StopReason.TRAINER_PATIENCE)

    external_stop = Stop("something else set trainer.stop", source=TRAINER, reason=StopReason.EXTERNAL)
    """What is noted when neither a callback here nor the trainer's own rules ended the run."""

    def checkpoint_bytes(self) -> bytes | None:
        """Return the checkpoint of this epoch, or None where `last.pt` holds it already.

        The trainer serializes its EMA itself, once an epoch; only where the bytes go is changed for the moment.
        """
        if self._saved_epoch == self.epoch:
            return None
        if self._serialized is None:
            self._serialized = self._serialize(self.epoch - 1)
        return self._serialized

    def checkpoint_now(self, finished: int) -> bytes | None:
        """Return a checkpoint of the weights as they are at this moment; None if there is nothing to save.

        Nothing is also what there is of weights that are NaN: Ultralytics would save 0 in their place.

        Args:
            finished: Number of finished epochs; resuming the checkpoint begins with the one after them.
        """
        trainer = self._trainer
        if trainer.ema is None or trainer.metrics is None or not all_finite(trainer.ema.ema.state_dict().values()):
            return None
        return self._serialize(finished - 1)

    @property
    def needs_calibration(self) -> bool:
        """Whether a checkpoint needs a last touch before it can be used: that of a depth model does."""
        return bool(self._trainer.args.task == "depth")

    def calibrate(self, checkpoint: Path) -> None:
        """Do for a depth model what Ultralytics does for its own when it ends: fit the scale of its distances.

        A failure is told, as there; the model then gives distances of another scale.
        """
        if not self.needs_calibration:
            return
        trainer = self._trainer
        from ultralytics.models.yolo.depth.calibrate import calibrate_checkpoint

        try:
            calibrate_checkpoint(
                checkpoint, trainer.test_loader, trainer.device, max_depth=trainer.data.get("max_depth") or 100.0
            )
        except Exception as error:
            LOGGER.warning(f"{checkpoint} could not be calibrated: {type(error).__name__}: {error}")

    def use_as_result(self, checkpoint: Path) -> None:
        """Make `model.train()` load this checkpoint when it returns; Ultralytics' own `best.pt` stays as it is."""
        self._trainer.best = checkpoint

    def listens(self, event: str, function: Callable[[Any], None]) -> bool:
        """Return whether a function is registered for an event of this run."""
        return function in self._trainer.callbacks[event]

    def listen(self, event: str, function: Callable[[Any], None]) -> None:
        """Register a function for the rest of this run, after all others, unless one like it is there."""
        if not self.listens(event, function):
            self._trainer.callbacks[event].append(function)

    def release(self) -> None:
        """Let go of the trainer, and with it of the model's and the optimizer's memory; only `save_dir` is left."""
        if self._unprotect is not None:
            self._unprotect()
        self._trainer = self._unprotect = None

    # ---------------------------------------------------------------- inside

    def _serialize(self, epoch_index: int) -> bytes:
        """Let the trainer save into a folder of its own; one that overrides `save_model` may write there itself."""
        trainer, data = self._trainer, list[bytes]()
        kept = trainer.last, trainer.best, trainer.save_period, trainer.epoch
        with tempfile.TemporaryDirectory() as folder:
            last, best = Path(folder) / "last.pt", Path(folder) / "best.pt"
            trainer.last = checkpoint_path(last, lambda _, content: data.append(content))
            trainer.best = checkpoint_path(best, lambda _, content: None)
            trainer.save_period, trainer.epoch = -1, epoch_index
            try:
                trainer.save_model()
                return data[0] if data else last.read_bytes()
            finally:
                trainer.last, trainer.best, trainer.save_period, trainer.epoch = kept

    def _elapsed(self) -> float:
        now = time.perf_counter()
        if self._clock_start is None:  # a callback registered for the end of an epoch alone saw none begin
            trainer = self._trainer
            took = trainer.epoch_time if trainer.epoch_time is not None else time.time() - trainer.epoch_time_start
            self._clock_start = now - float(took)
        return self._elapsed_before + now - self._clock_start


def bring_back(trainer: Any, find: Callable[[], Path | None]) -> None:
    """Let `model.train()` return with what `find` gives after the other processes have trained, if that is anything."""
    look_for_result(trainer, find)


def works_elsewhere(trainer: Any) -> bool:
    """Return whether a trainer only launches other processes, so that no event ever comes here."""
    return bool(getattr(trainer, "ddp", False))


def launched() -> bool:
    """Return whether this process was launched by another one that waits for it."""
    from ultralytics.utils import RANK

    return bool(RANK != -1)
