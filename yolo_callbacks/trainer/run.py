"""Run: the door to one Ultralytics trainer. `run_state.py` has what can be read, this module what can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.classes import ClassResults
from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.core.extension import Extension
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.trainer import stops
from yolo_callbacks.trainer.checkpointing import Checkpointing
from yolo_callbacks.trainer.ending import restart_patience
from yolo_callbacks.trainer.epoch_clock import EpochClock
from yolo_callbacks.trainer.exact.training_state import TrainingState
from yolo_callbacks.trainer.extra_validation import ValidationOnData
from yolo_callbacks.trainer.frozen_layers import FrozenLayers
from yolo_callbacks.trainer.learning_rate import apply_factors, remove_factor
from yolo_callbacks.trainer.machine import Machine
from yolo_callbacks.trainer.model.view import ModelView
from yolo_callbacks.trainer.patches.callback_lists import protect_callback_lists
from yolo_callbacks.trainer.patches.files import protect_files
from yolo_callbacks.trainer.patches.guarded_integrations import before_integrations, guard_integrations
from yolo_callbacks.trainer.patches.loop import SkipTraining, allow_skip_training, send_teardown_after_exceptions
from yolo_callbacks.trainer.patches.platform import release_console
from yolo_callbacks.trainer.patches.published_metrics import PublishedMetrics
from yolo_callbacks.trainer.patches.replaced_integrations import switch_off
from yolo_callbacks.trainer.patches.validation import SkippableValidation
from yolo_callbacks.trainer.per_class import class_results
from yolo_callbacks.trainer.recording import EpochRecorder
from yolo_callbacks.trainer.run_state import RunState


class Run(RunState):
    """One training run as callbacks see it: its state, its metrics, and the few actions that they may request.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        model: A read-only view of the model.
        checkpointing: Serializes the model.
        training_state: Everything that the next epoch depends on.
        clock: Where the time of an epoch goes.
        machine: Memory, disk, and load of the GPU.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self._layers = FrozenLayers(trainer)
        self._recorder = EpochRecorder(self)
        self._published = PublishedMetrics(trainer)
        self._can_skip_training = False
        self._validation = SkippableValidation(trainer)
        self._unprotect: Callable[[], None] | None = None
        self.model = ModelView(trainer)
        self.checkpointing = Checkpointing(self, self._layers)
        self.training_state = TrainingState(trainer)
        self.clock = EpochClock(trainer)
        self.machine = Machine(trainer)

    # ---------------------------------------------------------------- patches

    def prepare(self) -> None:
        """Change the training loop. Call it before the trainer is set up."""
        if self.resumed and self.world_size < 2:  # not all launched ranks call this
            allow_skip_training(self._trainer)
            self._can_skip_training = True
        send_teardown_after_exceptions(self._trainer)

    def guard_integrations(self) -> None:
        """Keep Ultralytics' integrations from failing the run, and the Platform from delaying it.

        Changes the lists in place, because Ultralytics may be iterating over one.
        """
        guard_integrations(self._trainer)

    def protect_callback_lists(self) -> None:
        """Call every callback even if an earlier one removes itself, and undo what was for one event only."""
        trainer = self._trainer
        at_end = {"on_train_epoch_end": lambda: remove_factor(trainer), "on_fit_epoch_end": self._published.remove}
        protect_callback_lists(trainer, at_end)

    def protect(self, before_save: Callable[[], None], may_strip: Callable[[], bool]) -> None:
        """Make Ultralytics' files survive a kill and a full disk, and its callback lists a self-removing callback.

        Args:
            before_save: Called on rank 0 before an epoch's checkpoint replaces the previous one.
            may_strip: Called on rank 0 before `last.pt` and `best.pt` are stripped in place; returns whether they may
                be.
        """
        self.protect_callback_lists()
        if self.is_main:

            def may_strip_now() -> bool:
                self.checkpointing.save_final_epoch()
                return may_strip()

            written, validated = self.checkpointing.note_written, self._recorder.note_validated
            self._unprotect = protect_files(
                self._trainer, before_save, written, validated, may_strip_now, self._published, self.clock.during
            )

    def resume_exactly(self, epochs: int, state: Mapping[str, Any]) -> None:
        """Let a resumed run begin where its saved state ends, whatever its checkpoint holds. Every rank.

        Args:
            epochs: Number of epochs that the state has behind it.
            state: What `capture_state` has returned.
        """
        self.checkpoint_epochs = self.epochs_before
        self.training_state.prepare(epochs, state)

    # ---------------------------------------------------------------- what happens in one epoch

    def begin_epoch(self, learning_rate: LearningRateState, freezing: FreezeState) -> None:
        """Begin an epoch, or a repeated one: apply what was decided, and start the clock.

        Raises:
            ValueError: If layers cannot be frozen in this training.
        """
        self._ending.begin_epoch()
        apply_factors(self._trainer, learning_rate, self._ending.detour)
        self._layers.apply(freezing)
        self.model.begin_epoch()
        self._recorder.begin_epoch()
        self.clock.begin_epoch()

    def skip_validation(self, skip: bool, unless: Callable[[], bool]) -> None:
        """Let the epoch that has just begun go without validation, unless the run is about to end. Every rank.

        Args:
            skip: Whether to skip it.
            unless: Called after the batches, on rank 0; returns whether to validate after all.
        """
        self._validation.skip(unless if skip and self.validates else None)

    def end_batches(self) -> None:
        """Note the end of an epoch's batches; the validation is next."""
        self.epoch_is_open = True
        self._recorder.end_batches()

    def apply_finish(self, finishing: FinishState) -> None:
        """Make the run end where a finish ends, on every rank, even if the trainer has changed its plan meanwhile.

        If the trainer runs out of patience in the epoch that begins the finish, the run continues.
        """
        if not finishing.begun:
            return
        stop = None if self._ending.state.begun else self.why_stopping()
        self._ending.apply(finishing)
        if stop is not None and stop.reason is StopReason.TRAINER_PATIENCE:
            self._trainer.stop = False

    def extend(self, extension: Extension | None) -> None:
        """Let the run go on as its newest extension says. Every rank.

        In its first epoch, Ultralytics' own patience begins anew.
        """
        self._ending.extension = extension
        if extension is not None and extension.after == self.epochs_before:
            restart_patience(self._trainer.stopper, extension.after)

    def follow(self, extension: Extension | None, finishing: FinishState) -> None:
        """Let the run go on as it was decided before it was resumed, on every rank."""
        self.extend(extension)
        self.apply_finish(finishing)

    def record(
        self, learning_rate: LearningRateState, measured: Mapping[str, float], *, complete: bool = True
    ) -> EpochRecord:
        """Build the record of the epoch that has just ended; see `EpochRecorder.record`. Rank 0."""
        last = self.stopping and self.why_stopping() is None
        return self._recorder.record(learning_rate, measured, complete=complete, last=last)

    def with_schedule(self, record: EpochRecord, learning_rate: LearningRateState) -> EpochRecord:
        """Return a record with the scheduled learning rates of its epoch and the next one."""
        return self._recorder.with_schedule(record, learning_rate)

    def class_results(self) -> ClassResults | None:
        """Return the per-class results of the epoch; None if it was not validated. Rank 0."""
        return class_results(self._trainer, self.classes) if self._recorder.validated and self.classes.metrics else None

    def extra_validation(self, name: str, data: str | None, split: str) -> ValidationOnData:
        """Return a validation of the model on another data set. Rank 0, once the model is built.

        Raises:
            SettingError: If there is no such data set, or the model cannot be validated on it.
        """
        return ValidationOnData(self._trainer, name, data, split)

    def close_epoch(self) -> None:
        """Close an epoch: a further on_fit_epoch_end without training is the final evaluation's."""
        self.epoch_is_open = False
        self._recorder.close_epoch()
        self.checkpointing.close_epoch()

    def capture_state(self) -> dict[str, Any] | None:
        """Return a copy of the training's state after the epoch that has just ended, see `TrainingState.capture`."""
        with self._published.hidden():
            return self.training_state.capture()

    def continue_clock(self, elapsed: float) -> None:
        """Continue the clock of an interrupted run."""
        self._recorder.continue_clock(elapsed)

    # ---------------------------------------------------------------- the end

    def stop(self) -> None:
        """End the training after this epoch."""
        self._trainer.stop = True

    def skip_training(self) -> None:
        """Leave the training loop of a resumed run that had already ended, and skip to what follows the last epoch.

        Returns only if that is not possible.
        """
        if self._can_skip_training:
            raise SkipTraining

    def why_stopping(self) -> Stop | None:
        """Return why the run ends early without a decision of ours; None if it does not."""
        return stops.why_stopping(self._stop_facts(self.epoch))

    def why_finished(self) -> Stop | None:
        """Return why a resumed run is already finished by the trainer's own rules; None if it is not."""
        return stops.why_finished(self._stop_facts(self.epochs_before))

    def why_ended(self) -> Stop:
        """Return why a run ended without a decision of ours or the trainer's own rules."""
        return stops.why_ended(self._stop_facts(self.epoch))

    def _stop_facts(self, epoch: int) -> stops.StopFacts:
        return stops.stop_facts(self._trainer, epoch, finishing=self._ending.state.begun)

    def use_as_result(self, checkpoint: Path) -> None:
        """Make `model.train()` load this checkpoint when it returns; Ultralytics' `best.pt` is unchanged."""
        self._trainer.best = checkpoint

    # ---------------------------------------------------------------- callbacks and integrations

    def listens(self, event: str, function: Callable[[Any], None]) -> bool:
        """Return whether a function is registered for an event of this run."""
        return function in self._trainer.callbacks[event]

    def listen(self, event: str, function: Callable[[Any], None]) -> None:
        """Register a function for the rest of this run, unless an equal one is registered.

        It is placed last, but before Ultralytics' integrations, so that they see what was decided and published.
        """
        if not self.listens(event, function):
            functions = self._trainer.callbacks[event]
            functions.insert(before_integrations(functions), function)

    def replace_integration(self, name: str) -> bool:
        """Switch an Ultralytics integration off for this run, because a callback replaces it.

        Args:
            name: Its module in `ultralytics.utils.callbacks`, such as `"tensorboard"`.

        Returns:
            Whether it was on.
        """
        return switch_off(self._trainer, name)

    def publish(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Add numbers to what Ultralytics' integrations send for the ending epoch, and to nothing else. Rank 0.

        They read the trainer's metrics after us, in the same event. After that event the metrics are restored, so that
        neither `results.csv` nor a checkpoint has the numbers.

        Returns:
            The names that were left out because the trainer's metrics already have them.
        """
        return self._published.add(values)

    def unpublish(self) -> None:
        """Remove what was published from the trainer's metrics."""
        self._published.remove()

    # ---------------------------------------------------------------- the very end

    def release(self) -> None:
        """Drop the trainer, and with it the memory of model and optimizer; only `save_dir` remains."""
        try:
            if self._trainer is not None:
                self._validation.undo()
                self.model.release()
                self.training_state.release()
                self.clock.release()
                self.machine.release()
                self._published.release()
                release_console(self._trainer)
            if self._unprotect is not None:
                self._unprotect()
        finally:
            self._trainer = self._unprotect = None
            self._layers.release()
            self._ending.release()
            self._recorder.release()
            self.checkpointing.close_epoch()
