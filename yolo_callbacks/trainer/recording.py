"""Builds the record of an epoch: the trainer's metrics, durations, and learning rates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from yolo_callbacks.core.learning_rate import LearningRateState
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.trainer.introspection import measures, numbers
from yolo_callbacks.trainer.learning_rate import lowest_group
from yolo_callbacks.trainer.run_state import RunState


class EpochRecorder:
    """Times the epochs of one training, and builds their records.

    Args:
        run: The run.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._clock_start: float | None = None
        self._elapsed_before = 0.0
        self._train_started: float | None = None
        self._train_seconds: float | None = None
        self._base_lr: float | None = None
        self._metrics_before: object = None
        self._validated = False

    def begin_epoch(self) -> None:
        """Start timing an epoch, or a repeated one."""
        self._train_started = time.perf_counter()
        self._clock_start = self._clock_start or self._train_started

    def end_batches(self) -> None:
        """Note the end of an epoch's batches; the validation is next."""
        self._validated = False
        self._metrics_before = self._run.trainer.metrics
        self._base_lr = self._run.scheduled_lr(self._run.epoch)
        if self._train_started is not None:
            self._train_seconds = time.perf_counter() - self._train_started

    def note_validated(self) -> None:
        """Note that the epoch was validated."""
        self._validated = True

    def close_epoch(self) -> None:
        """Forget a completed epoch."""
        self._train_started = self._train_seconds = self._base_lr = None

    def continue_clock(self, elapsed: float) -> None:
        """Continue the clock of an interrupted run."""
        self._elapsed_before = elapsed

    def release(self) -> None:
        """Drop references into the trainer."""
        self._metrics_before = None

    @property
    def validated(self) -> bool:
        """Whether the current epoch has been validated. Rank 0."""
        # if we joined after the validation, the metrics tell: Ultralytics creates a new dict each time
        trainer = self._run.trainer
        return (self._validated or trainer.metrics is not self._metrics_before) and trainer.fitness is not None

    def record(
        self, learning_rate: LearningRateState, measured: Mapping[str, float], *, complete: bool, last: bool
    ) -> EpochRecord:
        """Build the record of the epoch that has just ended. Rank 0 only: the others have no metrics.

        Args:
            learning_rate: The factors of the epoch.
            measured: Numbers measured by callbacks.
            complete: False if the trainer has not saved its checkpoint yet.
            last: Whether it is the last planned epoch.
        """
        trainer, validated = self._run.trainer, self.validated
        metrics = {**numbers(trainer.label_loss_items(trainer.tloss)), **numbers(trainer.lr)}
        if validated:
            metrics = {**metrics, **numbers(trainer.metrics), "fitness": float(trainer.fitness)}
        record = EpochRecord(
            epoch=self._run.epoch,
            metrics={**metrics, **{name: value for name, value in measured.items() if name not in metrics}},
            validated=validated,
            last=last,
            elapsed=self._elapsed(),
            measures=measures(trainer, self._train_seconds, None if complete else time.time()),
        )
        return self.with_schedule(record, learning_rate, self._base_lr)

    def with_schedule(
        self, record: EpochRecord, learning_rate: LearningRateState, base_lr: float | None = None
    ) -> EpochRecord:
        """Return a record with the trainer's scheduled learning rates of its epoch and the next one.

        Args:
            record: The record.
            learning_rate: The factors of its epoch.
            base_lr: The scheduled rate when the epoch began; with `time`, the schedule has changed by its end. None
                asks the current schedule.
        """
        run, lowest = self._run, lowest_group(self._run.trainer)[1]
        base_lr = run.scheduled_lr(record.epoch) if base_lr is None else base_lr
        own = base_lr / lowest if lowest else 0.0
        return replace(
            record,
            planned_epochs=run.planned_epochs,
            planned_before_finish=run.planned_before_finish,
            base_lr=base_lr,
            next_base_lr=run.scheduled_lr(record.epoch + 1),
            lr_factor=learning_rate.apply(own, lowest) / own if own else learning_rate.apply(1.0, 0.0),
        )

    def _elapsed(self) -> float:
        now = time.perf_counter()
        if self._clock_start is None:  # a callback registered only for the end of an epoch saw none begin
            trainer = self._run.trainer
            took = trainer.epoch_time if trainer.epoch_time is not None else time.time() - trainer.epoch_time_start
            self._clock_start = now - float(took)
        return self._elapsed_before + now - self._clock_start
