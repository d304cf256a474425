"""Run: the facade over one Ultralytics trainer.

The other modules of this package belong to it: together they are the only code that touches the trainer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolo_callbacks.core.classes import Classes, ClassResults
from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.layer_patterns import Layers
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import all_finite
from yolo_callbacks.trainer.ending import Ending
from yolo_callbacks.trainer.frozen_layers import FrozenLayers
from yolo_callbacks.trainer.introspection import (
    close_mosaic,
    description,
    learning_rates,
    loss_names,
    measure_names,
    measures,
    metric_names,
    numbers,
    validates_in_its_own_way,
    validation_arguments,
    warmup_epochs,
)
from yolo_callbacks.trainer.learning_rate import arm, base_schedule, lowest_group, take_out
from yolo_callbacks.trainer.model.view import ModelView
from yolo_callbacks.trainer.patches.files import (
    NothingLeft,
    checkpoint_path,
    go_straight_to_the_end,
    look_for_result,
    protect_files,
    steady_callbacks,
    tell_of_exceptions,
)
from yolo_callbacks.trainer.patches.guarded_integrations import (
    before_integrations,
    guard_integrations,
    integrations,
    is_cancelled,
    platform_model,
    release_console,
)
from yolo_callbacks.trainer.patches.published_metrics import Loan
from yolo_callbacks.trainer.patches.replaced_integrations import switch_off
from yolo_callbacks.trainer.per_class import class_results, classes_of

TRAINER = "trainer"
"""Source of what the trainer itself decided."""

PLATFORM = "Platform"
"""Source of a cancel that came from there."""


class Run:
    """One training run as callbacks see it: where it stands, what it measured, and the few things they may ask of it.

    Epochs are counted from 1 here, as in `results.csv`; the trainer counts from 0.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        save_dir: The run directory.
        model: The model, to be looked at.
        epoch_is_open: True from the end of an epoch's batches to its first on_fit_epoch_end. The final evaluation
            sends that event once more, without any training before it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.save_dir = Path(trainer.save_dir)
        self.model = ModelView(trainer)
        self._clock_start: float | None = None
        self._elapsed_before = 0.0
        self._train_started: float | None = None
        self._train_seconds: float | None = None
        self._base_lr: float | None = None
        self._metrics_before: object = None
        self._validated = False
        self._saved_epoch = 0
        self._serialized: bytes | None = None
        self._can_finish = False
        self._layers: FrozenLayers | None = FrozenLayers(trainer)
        self._ending: Ending | None = Ending(trainer)
        self._unprotect: Callable[[], None] | None = None
        self._loan = Loan(trainer)
        self._classes: Classes | None = None
        self.epoch_is_open = False

    def prepare(self) -> None:
        """Call it before the trainer is set up: what may only be done then."""
        if self.resumed and self.world_size < 2:  # the launched ranks do not all come by here
            go_straight_to_the_end(self._trainer)
            self._can_finish = True
        tell_of_exceptions(self._trainer)

    def guard(self) -> None:
        """Keep Ultralytics' integrations from failing the run, and the Platform from holding it up.

        Their functions are in the list that is gone through at this moment, so that list itself is changed.
        """
        guard_integrations(self._trainer)

    def protect(self, before_save: Callable[[], None], may_strip: Callable[[], bool]) -> None:
        """Make what Ultralytics writes survive a kill and a full disk, and its callbacks one that removes itself.

        Args:
            before_save: Called on rank 0 when the checkpoint of an epoch is about to be put in its place.
            may_strip: Called on rank 0 when `last.pt` and `best.pt` are about to be stripped in place; returns whether
                they may.
        """
        self.steady()
        if self.is_main:

            def may_strip_now() -> bool:
                self._save_what_ended()
                return may_strip()

            self._unprotect = protect_files(
                self._trainer, before_save, self._note_saved, self._note_validated, may_strip_now, self._loan
            )

    def steady(self) -> None:
        """Let every callback be called even if one before it removes itself, and take back what was lent them."""
        trainer = self._trainer
        at_end = {"on_train_epoch_end": lambda: take_out(trainer), "on_fit_epoch_end": self._loan.take_back}
        steady_callbacks(trainer, at_end)

    def _note_saved(self, data: bytes, saved: bool) -> None:
        self._serialized = None if saved else data
        if saved and self.epoch_is_open:
            self._saved_epoch = self.epoch

    def _note_validated(self) -> None:
        self._validated = True

    def _save_what_ended(self) -> None:
        """With `save=False`, write the checkpoint that `model.train()` loads in the end, whatever has ended the run.

        The trainer itself does so in the last planned epoch alone.
        """
        trainer = self._trainer
        if not trainer.args.save and self.has_trained and self._saved_epoch != self.epoch:
            trainer.save_model()

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
        """Number of epochs planned now; the trainer's `time` argument moves it, and a finish brings it forward."""
        return int(self._trainer.epochs)

    @property
    def has_time_limit(self) -> bool:
        """Whether the number of planned epochs moves with the trainer's `time` argument."""
        return bool(self._trainer.args.time)

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
    def has_trained(self) -> bool:
        """Whether a batch has gone through the model in this process."""
        return vars(self._trainer).get("tloss") is not None

    @property
    def stopping(self) -> bool:
        """Whether the trainer ends after this epoch."""
        return bool(self._trainer.stop)

    def plan(self) -> Plan:
        """Return what the run sets out to do."""
        return Plan(
            planned_epochs=self.planned_epochs,
            base_lr=self.scheduled_lr(1),
            final_lr=lowest_group(self._trainer)[1] * float(self._trainer.args.lrf),
            trainer_patience=int(self._trainer.args.patience or 0),
            warmup_epochs=warmup_epochs(self._trainer),
            close_mosaic=close_mosaic(self._trainer),
        )

    def scheduled_lr(self, epoch: int) -> float:
        """Return the learning rate that the trainer's own schedule gives an epoch, in the group with the lowest one.

        In a run that finishes, it is that of the way to the end.
        """
        anneal = self._ending.anneal if self._ending is not None else None
        return lowest_group(self._trainer)[1] * base_schedule(self._trainer, anneal)(epoch - 1)

    def metric_names(self) -> tuple[Mapping[str, float], bool]:
        """Return the metrics that this run will have, and whether the names of its losses are among them.

        Losses are named by the criterion, which most tasks can ask before the first batch.
        """
        names = ["fitness", *metric_names(self._trainer), *learning_rates(self._trainer)]
        losses = loss_names(self._trainer)
        names += [f"{split}/{name}" for split in ("train", "val") for name in losses]
        return dict.fromkeys(names, 0.0), bool(losses)

    @property
    def measures_more(self) -> bool:
        """Whether a validation may measure what `metric_names` does not know, since it is not Ultralytics' own."""
        return validates_in_its_own_way(self._trainer)

    def parameters_of(self, layers: Layers) -> frozenset[str]:
        """Return the names of the parameters in some layers of the model, as `SetFrozen` names them.

        Raises:
            ValueError: If a pattern names nothing in the model; the message gives the nearest name.
        """
        return FrozenLayers(self._trainer).parameters(layers)

    @property
    def classes(self) -> Classes:
        """The classes of the run, known once the model is built. Rank 0."""
        if self._classes is None:
            self._classes = classes_of(self._trainer)
        return self._classes

    def class_results(self) -> ClassResults | None:
        """Return what the epoch's validation says of each class, None if there was none. Rank 0."""
        return class_results(self._trainer, self.classes) if self.validated and self.classes.metrics else None

    def measure_names(self) -> tuple[str, ...]:
        """Return the names of what is measured of every epoch's speed and memory."""
        return measure_names(self._trainer)

    def describe(self) -> dict[str, Any]:
        """Return what a reader of `run.json` wants to know of the run: versions, task, device, arguments."""
        return description(self._trainer)

    def validation_arguments(self) -> dict[str, Any]:
        """Return the arguments of `YOLO.val` with which a checkpoint is judged as this run judges it."""
        return validation_arguments(self._trainer)

    # ---------------------------------------------------------------- the way of one epoch

    def begin_epoch(self, learning_rate: LearningRateState, freezing: FreezeState) -> None:
        """An epoch starts, or starts again: put in force what was decided, and start the clock.

        Raises:
            ValueError: If layers are to be frozen that cannot be.
        """
        anneal = None
        if self._ending is not None:
            self._ending.begin_epoch()
            anneal = self._ending.anneal
        arm(self._trainer, learning_rate, anneal)
        if self._layers is not None:
            self._layers.apply(freezing)
        self.model.begin_epoch()
        self._train_started = time.perf_counter()
        self._clock_start = self._clock_start or self._train_started

    def bring_end_forward(self, finishing: FinishState) -> None:
        """Let the run end where a finish ends, on every rank, also where the trainer has planned anew meanwhile.

        That the trainer has lost its patience in the epoch that begins the finish is taken back.
        """
        if self._ending is None or not finishing.begun:
            return
        stop = None if self._ending.state.begun else self.foreign_stop()
        self._ending.apply(finishing)
        if stop is not None and stop.reason is StopReason.TRAINER_PATIENCE:
            self._trainer.stop = False

    def end_train_part(self) -> None:
        """The batches of an epoch are done, its validation comes next."""
        self.epoch_is_open, self._validated = True, False
        self._metrics_before = self._trainer.metrics
        self._base_lr = self.scheduled_lr(self.epoch)
        if self._train_started is not None:
            self._train_seconds = time.perf_counter() - self._train_started

    @property
    def validated(self) -> bool:
        """Whether the epoch whose batches are done has been validated. Rank 0."""
        # who has joined after the validation knows by the dict, of which Ultralytics makes a new one each time
        validated = self._validated or self._trainer.metrics is not self._metrics_before
        return validated and self._trainer.fitness is not None

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
        lowest = lowest_group(self._trainer)[1]
        base_lr = self.scheduled_lr(record.epoch) if base_lr is None else base_lr
        finish = self._ending.state.decision if self._ending is not None else None
        own = base_lr / lowest if lowest else 0.0
        return replace(
            record,
            planned_epochs=self.planned_epochs,
            planned_before_finish=finish.planned_epochs if finish is not None else 0,
            base_lr=base_lr,
            next_base_lr=self.scheduled_lr(record.epoch + 1),
            lr_factor=learning_rate.apply(own, lowest) / own if own else learning_rate.apply(1.0, 0.0),
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

    # ---------------------------------------------------------------- Ultralytics' integrations

    @property
    def integrations(self) -> tuple[str, ...]:
        """Which of Ultralytics' integrations take the metrics of this run's epochs: `platform`, `wb`, `mlflow`, ..."""
        return integrations(self._trainer)

    def replace_integration(self, name: str) -> bool:
        """Switch one of Ultralytics' integrations off for this run, because a callback does its work.

        Args:
            name: Its module in `ultralytics.utils.callbacks`, such as `"tensorboard"`.

        Returns:
            Whether it was on.
        """
        return switch_off(self._trainer, name)

    @property
    def platform_model(self) -> dict[str, str]:
        """The id of the run's model on the Ultralytics Platform and its address; empty if it is not there."""
        return platform_model(self._trainer)

    def publish(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Add numbers to what Ultralytics' integrations send of the epoch that ends, and to nothing else. Rank 0.

        They read the trainer's metrics after us, in the same event. When all functions of that event were called the
        metrics are as before, so that neither `results.csv` nor a checkpoint has the numbers.

        Returns:
            The names that are left out, since the trainer's metrics have them already.
        """
        return self._loan.lend(values)

    def take_back(self) -> None:
        """Take what was published out of the trainer's metrics, if it is still there."""
        self._loan.take_back()

    # ---------------------------------------------------------------- what may be asked of the trainer

    def stop(self) -> None:
        """End the training after this epoch."""
        self._trainer.stop = True

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
        if patience and best and done - best >= patience and not self._finishes:
            return self._out_of_patience(best)
        return None

    def foreign_stop(self) -> Stop | None:
        """Return why the run ends before its time although nobody here asked for it; None if it does not.

        A cancel from the Platform counts also where the trainer has lost its flag: with `time` it sets it anew in every
        step, and on several GPUs it was not told.
        """
        cancelled = is_cancelled(self._trainer)
        if not self.stopping and not cancelled:
            return None
        trainer, args, best = self._trainer, self._trainer.args, self._trainer.stopper.best_epoch
        if args.time and time.time() - trainer.train_time_start > 3600 * args.time:
            message = f"the time limit of {args.time:g} h was reached"
            return Stop(message, source=TRAINER, reason=StopReason.TIME_LIMIT)
        if self.epoch >= self.planned_epochs:  # which the trainer has just reduced if it is out of time
            return None
        if cancelled:
            return self.external_stop
        patience = 0 if self._finishes else args.patience
        if patience and trainer.fitness is not None and self.epoch - best >= patience:
            return self._out_of_patience(best)
        return self.external_stop

    @property
    def _finishes(self) -> bool:
        return self._ending is not None and self._ending.state.begun

    def _out_of_patience(self, best: int) -> Stop:
        message = f"Ultralytics' own patience={self._trainer.args.patience} ran out (best epoch {best})"
        return Stop(message, source=TRAINER, reason=StopReason.TRAINER_PATIENCE)

    @property
    def external_stop(self) -> Stop:
        """What is noted when neither a callback here nor the trainer's own rules ended the run."""
        if is_cancelled(self._trainer):
            message = "cancelled from the Ultralytics Platform"
            return Stop(message, source=PLATFORM, reason=StopReason.CANCELLED)
        return Stop("something else set trainer.stop", source=TRAINER, reason=StopReason.EXTERNAL)

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
        take_out(trainer)
        if self._layers is not None:
            self._layers.settle()  # an error may have come in the middle of the optimizer's step
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
        """Register a function for the rest of this run, unless one like it is there.

        It comes after all others but Ultralytics' integrations, which are to see what was decided and published.
        """
        if not self.listens(event, function):
            functions = self._trainer.callbacks[event]
            functions.insert(before_integrations(functions), function)

    def release(self) -> None:
        """Let go of the trainer, and with it of the model's and the optimizer's memory; only `save_dir` is left."""
        try:
            if self._trainer is not None:
                self.model.release()
                self._loan.release()
                release_console(self._trainer)
            if self._unprotect is not None:
                self._unprotect()
        finally:
            self._trainer = self._unprotect = self._layers = self._ending = None
            self._serialized = self._metrics_before = None

    # ---------------------------------------------------------------- the batches

    def batch_losses(self) -> dict[str, float]:
        """Return the losses of the newest training batch. It waits for the device, as the trainer does itself."""
        return numbers(self._trainer.loss_items or {})

    @property
    def batches_per_epoch(self) -> int:
        """Number of training batches of an epoch; it grows if the first one has run out of memory."""
        return len(self._trainer.train_loader)

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


def is_verbose(trainer: Any) -> bool:
    """Return whether the user has not asked for less to be said, by `train(verbose=False)`."""
    return bool(getattr(trainer.args, "verbose", True))


def launched() -> bool:
    """Return whether this process was launched by another one that waits for it."""
    from ultralytics.utils import RANK

    return bool(RANK != -1)
