"""Run: the door to one Ultralytics trainer. What it can be asked is in `run_state.py`, what it can be told is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.classes import ClassResults
from yolo_callbacks.core.decision import Stop, StopReason
from yolo_callbacks.core.finishing import FinishState
from yolo_callbacks.core.freezing import FreezeState
from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.trainer import stops
from yolo_callbacks.trainer.checkpointing import Checkpointing
from yolo_callbacks.trainer.exact.training_state import TrainingState
from yolo_callbacks.trainer.frozen_layers import FrozenLayers
from yolo_callbacks.trainer.learning_rate import apply_factors, remove_factor
from yolo_callbacks.trainer.model.view import ModelView
from yolo_callbacks.trainer.patches.callback_lists import protect_callback_lists
from yolo_callbacks.trainer.patches.files import protect_files
from yolo_callbacks.trainer.patches.guarded_integrations import before_integrations, guard_integrations
from yolo_callbacks.trainer.patches.loop import SkipTraining, allow_skip_training, send_teardown_after_exceptions
from yolo_callbacks.trainer.patches.platform import release_console
from yolo_callbacks.trainer.patches.published_metrics import PublishedMetrics
from yolo_callbacks.trainer.patches.replaced_integrations import switch_off
from yolo_callbacks.trainer.per_class import class_results
from yolo_callbacks.trainer.recording import EpochRecorder
from yolo_callbacks.trainer.run_state import RunState


class Run(RunState):
    """One training run as callbacks see it: where it stands, what it measured, and the few things they may ask of it.

    Args:
        trainer: An Ultralytics trainer.

    Attributes:
        model: The model, to be looked at.
        checkpointing: Serializes the model.
        training_state: Everything that the next epoch depends on.
    """

    def __init__(self, trainer: Any) -> None:
        super().__init__(trainer)
        self._layers = FrozenLayers(trainer)
        self._recorder = EpochRecorder(self)
        self._published = PublishedMetrics(trainer)
        self._can_skip_training = False
        self._unprotect: Callable[[], None] | None = None
        self.model = ModelView(trainer)
        self.checkpointing = Checkpointing(self, self._layers)
        self.training_state = TrainingState(trainer)

    # ---------------------------------------------------------------- patches

    def prepare(self) -> None:
        """Change the training loop; to be called before the trainer is set up."""
        if self.resumed and self.world_size < 2:  # the launched ranks do not all come by here
            allow_skip_training(self._trainer)
            self._can_skip_training = True
        send_teardown_after_exceptions(self._trainer)

    def guard_integrations(self) -> None:
        """Keep Ultralytics' integrations from failing the run, and the Platform from holding it up.

        The list that Ultralytics iterates over at this moment has their functions, so that list itself is changed.
        """
        guard_integrations(self._trainer)

    def protect_callback_lists(self) -> None:
        """Call every callback even if one before it removes itself, and end what was for one event alone."""
        trainer = self._trainer
        at_end = {"on_train_epoch_end": lambda: remove_factor(trainer), "on_fit_epoch_end": self._published.remove}
        protect_callback_lists(trainer, at_end)

    def protect(self, before_save: Callable[[], None], may_strip: Callable[[], bool]) -> None:
        """Make Ultralytics' files survive a kill and a full disk, and its callbacks one that removes itself.

        Args:
            before_save: Called on rank 0 before the checkpoint of an epoch replaces the last one.
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
                self._trainer, before_save, written, validated, may_strip_now, self._published
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
        """An epoch starts, or starts again: put in force what was decided, and start the clock.

        Raises:
            ValueError: If layers are to be frozen that cannot be.
        """
        self._ending.begin_epoch()
        apply_factors(self._trainer, learning_rate, self._ending.anneal)
        self._layers.apply(freezing)
        self.model.begin_epoch()
        self._recorder.begin_epoch()

    def end_batches(self) -> None:
        """The batches of an epoch are done, its validation comes next."""
        self.epoch_is_open = True
        self._recorder.end_batches()

    def apply_finish(self, finishing: FinishState) -> None:
        """Let the run end where a finish ends, on every rank, also where the trainer has planned anew meanwhile.

        If the trainer runs out of patience in the very epoch that begins the finish, it goes on all the same.
        """
        if not finishing.begun:
            return
        stop = None if self._ending.state.begun else self.why_stopping()
        self._ending.apply(finishing)
        if stop is not None and stop.reason is StopReason.TRAINER_PATIENCE:
            self._trainer.stop = False

    def record(
        self, learning_rate: LearningRateState, measured: Mapping[str, float], *, complete: bool = True
    ) -> EpochRecord:
        """Build the record of the epoch that has just ended, see `EpochRecorder.record`. Rank 0."""
        last = self.stopping and self.why_stopping() is None
        return self._recorder.record(learning_rate, measured, complete=complete, last=last)

    def with_schedule(self, record: EpochRecord, learning_rate: LearningRateState) -> EpochRecord:
        """Return a record with what the present schedule says of its epoch and of the next one."""
        return self._recorder.with_schedule(record, learning_rate)

    def class_results(self) -> ClassResults | None:
        """Return what the epoch's validation says of each class, None if there was none. Rank 0."""
        return class_results(self._trainer, self.classes) if self._recorder.validated and self.classes.metrics else None

    def close_epoch(self) -> None:
        """The epoch is dealt with: a further on_fit_epoch_end without training is the final evaluation's."""
        self.epoch_is_open = False
        self._recorder.close_epoch()
        self.checkpointing.close_epoch()

    def capture_state(self) -> dict[str, Any] | None:
        """Return a copy of the training's state after the epoch that has just ended, see `TrainingState.capture`."""
        with self._published.hidden():
            return self.training_state.capture()

    def continue_clock(self, elapsed: float) -> None:
        """Count seconds on from where an interrupted run stood."""
        self._recorder.continue_clock(elapsed)

    # ---------------------------------------------------------------- the end

    def stop(self) -> None:
        """End the training after this epoch."""
        self._trainer.stop = True

    def skip_training(self) -> None:
        """Leave the training loop of a resumed run that had ended before, for what follows the last epoch.

        It returns only where that cannot be done.
        """
        if self._can_skip_training:
            raise SkipTraining

    def why_stopping(self) -> Stop | None:
        """Return why the run ends early although no callback here asked for it; None if it does not."""
        return stops.why_stopping(self._stop_facts(self.epoch))

    def why_finished(self) -> Stop | None:
        """Return why a resumed run has no epoch left to train by the trainer's own rules; None if it has."""
        return stops.why_finished(self._stop_facts(self.epochs_before))

    def why_ended(self) -> Stop:
        """Return why a run has ended that neither a callback here nor the trainer's own rules have ended."""
        return stops.why_ended(self._stop_facts(self.epoch))

    def _stop_facts(self, epoch: int) -> stops.StopFacts:
        return stops.stop_facts(self._trainer, epoch, finishing=self._ending.state.begun)

    def use_as_result(self, checkpoint: Path) -> None:
        """Make `model.train()` load this checkpoint when it returns; Ultralytics' own `best.pt` stays as it is."""
        self._trainer.best = checkpoint

    # ---------------------------------------------------------------- callbacks and integrations

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

    def replace_integration(self, name: str) -> bool:
        """Switch one of Ultralytics' integrations off for this run, because a callback does its work.

        Args:
            name: Its module in `ultralytics.utils.callbacks`, such as `"tensorboard"`.

        Returns:
            Whether it was on.
        """
        return switch_off(self._trainer, name)

    def publish(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Add numbers to what Ultralytics' integrations send of the epoch that ends, and to nothing else. Rank 0.

        They read the trainer's metrics after us, in the same event. When all functions of that event have been called,
        the metrics are as before, so that neither `results.csv` nor a checkpoint has the numbers.

        Returns:
            The names that are left out, since the trainer's metrics have them already.
        """
        return self._published.add(values)

    def unpublish(self) -> None:
        """Remove what was published from the trainer's metrics, if it is still there."""
        self._published.remove()

    # ---------------------------------------------------------------- the very end

    def release(self) -> None:
        """Let go of the trainer, and with it of the model's and the optimizer's memory; only `save_dir` is left."""
        try:
            if self._trainer is not None:
                self.model.release()
                self.training_state.release()
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
