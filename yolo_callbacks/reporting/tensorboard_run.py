"""One run in TensorBoard: what is recorded when."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from yolo_callbacks.core.lineup import configuration
from yolo_callbacks.reporting import tensorboard_data as data
from yolo_callbacks.reporting.event_log import EventLog, steps_of
from yolo_callbacks.reporting.summary import completed
from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import without_secrets
from yolo_callbacks.trainer.model.predictions import Predicted, draw
from yolo_callbacks.trainer.model.tensor_sample import Sample, sample

if TYPE_CHECKING:
    from yolo_callbacks.session.session import Session
    from yolo_callbacks.trainer.model.gradient_watch import OptimizerStep

_MAX_NUMBERS = 4093  # per tensor in a histogram; a prime, see `sample`
_IMAGES = 4
_BATCHES = "batches"


class Settings(Protocol):
    """The arguments of the callback."""

    log_dir: str | None
    histogram_freq: int
    write_graph: bool
    update_freq: int | str
    predictions_freq: int


class BoardRun:
    """Records one run, from setup to close.

    Args:
        settings: The callback.
        session: The run.

    Attributes:
        told: Errors that were logged.
        steps_per_second: Batches per second in the newest epoch.
    """

    def __init__(self, settings: Settings, session: Session) -> None:
        self.told: set[str] = set()
        self._settings = settings
        self._session = session
        self._run = session.run
        self._name = "TensorBoard" if settings.log_dir is None else f"TensorBoard in {settings.log_dir}"
        self._worker = session.files.background(self._name)
        self._folder, is_new = self._choose_folder()
        self._graph = self._run.model.prepare_graph() if settings.write_graph and is_new else None
        self._log: EventLog
        self._epochs = data.Epochs()
        self._open_again, self._pause = 0, 1
        self._open()
        self._batches: EventLog | None = None
        self._batch = self._epoch = self._next_batch = 0
        self._began = self.steps_per_second = 0.0
        self._gradients: Sample = {}
        self._images: Sequence[Predicted] = ()
        self._undo: dict[str, Callable[[], None]] = {}
        where = settings.log_dir or self._run.save_dir.parent
        LOGGER.info(f"TensorBoard: view this run with 'tensorboard --logdir {where}'")

    def _choose_folder(self) -> tuple[Path, bool]:
        """Return the folder of this run's event files, and whether it is new."""
        settings, save_dir = self._settings, self._run.save_dir
        known = self._session.files.remembered(self._name).get("folder")
        if settings.log_dir is None:
            folder = save_dir
        elif known is not None:
            folder = Path(known)
        else:
            folder = storage.new_folder(Path(settings.log_dir).absolute() / save_dir.name)
        if known is None:
            self._session.files.remember(self._name, folder=str(folder))
        return folder, known is None

    def _open(self) -> None:
        """Begin a file, with all epochs that earlier files lack."""
        entries, now = list(self._session.entries), time.time()
        about = self._run.describe()
        callbacks = configuration(self._session.callbacks)
        before = [decision for decision in self._session.ledger.decisions if decision.epoch == 0]
        written = 0

        def first_step() -> int:
            nonlocal written
            written = data.complete_epochs(entries, steps_of(self._folder, data.MARK)) if entries else 0
            return entries[written - 1].record.epoch + 1 if written else 0

        def begin(writer: Any) -> None:
            self._epochs = data.Epochs(entries[:written])
            if not written:
                data.write_run(writer, about, callbacks)
                data.write_decisions(writer, before, now)
            for entry in entries[written:]:
                self._epochs.write(writer, entry, now)

        self._log = EventLog(self._worker, self._name)
        self._log.open(self._folder, first_step)
        self._log.add("earlier epochs", begin, lasting=True)
        if self._graph is not None:
            self._log.add("the graph of the model", self._write_graph, lasting=True)

    def _write_graph(self, writer: Any) -> None:
        trace, self._graph = self._graph, None
        if trace is not None:
            writer.add_graph(trace(), [])

    def begin_epoch(self) -> None:
        """An epoch starts, or starts again."""
        self._undo_all()
        self._gradients, self._images, self._batch, self._epoch = {}, (), 0, self._run.epoch
        self._began = time.perf_counter()
        if self._is_due(self._settings.histogram_freq):
            watch = self._run.model.watch_gradients("TensorBoard: histograms of gradients", self._look)
            self._undo["gradients"] = watch.remove
        if self._settings.update_freq != "epoch":
            self._open_batches()

    def _open_batches(self) -> None:
        """Have a file for this epoch's batches, in a separate folder, because batches count other steps."""
        first = (self._epoch - 1) * self._run.batches_per_epoch + 1
        if self._batches is None or (self._batches.failed and not self._log.failed):
            self._batches = EventLog(self._worker, f"{self._name} (batches)")
        elif self._next_batch == first:
            return
        self._next_batch = first
        self._batches.open(self._folder / _BATCHES, lambda: first)

    def _look(self, step: OptimizerStep) -> None:
        """Take the gradients of a step if they are finite: mixed precision skips the others."""
        import numpy as np

        found = sample(step.gradients, _MAX_NUMBERS)
        scale = float(step.scale)
        if all(np.isfinite(values).all() for values in found.values()):
            self._gradients = {name: values / scale for name, values in found.items()}
            self._undo.pop("gradients")()

    def end_batch(self) -> None:
        """A batch is done."""
        self._batch += 1
        if self._batches is None:
            return
        every = self._settings.update_freq if isinstance(self._settings.update_freq, int) else 1
        number = self._next_batch
        self._next_batch += 1
        if number % every == 0:
            losses, now = self._run.batch_losses(), time.time()
            self._batches.add("losses", partial(_write_losses, losses, number, now))

    def end_train_part(self) -> None:
        """The batches are done, a validation may follow."""
        seconds = time.perf_counter() - self._began
        self.steps_per_second = self._batch / seconds if self._began and seconds else 0.0
        if self._is_due(self._settings.predictions_freq):
            self._undo["images"] = self._run.model.watch_validation(
                "TensorBoard: images of predictions", _IMAGES, self._keep
            )

    def _keep(self, images: Sequence[Predicted]) -> None:
        self._images = images

    def end_epoch(self) -> None:
        """The epoch is complete."""
        self._undo_all()
        entry, now = self._session.entries[-1], time.time()
        epoch = entry.record.epoch
        if self._log.failed and epoch >= self._open_again:
            self._open_again, self._pause = epoch + self._pause, 2 * self._pause
            self._open()
        else:
            self._log.add("an epoch", lambda writer: self._epochs.write(writer, entry, now))
        if self._is_due(self._settings.histogram_freq):
            weights, gradients = self._run.model.sample_weights(_MAX_NUMBERS), self._gradients
            self._log.add("histograms", partial(_write_histograms, weights, gradients, epoch, now), heavy=True)
        if self._images:
            images, self._images = self._images, ()
            self._log.add("images of predictions", partial(_write_images, images, epoch, now), heavy=True)

    def close(self, error: BaseException | None) -> None:
        """The run has ended."""
        self._undo_all()
        stop, epoch = self._session.stop_decision, self._session.history.epoch
        how = stop.message if stop else completed(epoch)
        if error is not None and stop is None:
            how = without_secrets(f"{type(error).__name__}: {error}")
        if self._log.failed:
            self._open()
        self._log.add(
            "how it ended", lambda writer: data.write_end(writer, how, epoch, error is not None), lasting=True
        )
        for log in (self._log, self._batches):
            if log is not None:
                log.close()

    def _is_due(self, every: int) -> bool:
        return every > 0 and (self._run.epoch - 1) % every == 0

    def _undo_all(self) -> None:
        while self._undo:
            self._undo.popitem()[1]()


def _write_losses(losses: dict[str, float], step: int, now: float, writer: Any) -> None:
    for name, value in losses.items():
        writer.add_scalar(f"batch/{name}", value, step, now)


def _write_histograms(weights: Sample, gradients: Sample, epoch: int, now: float, writer: Any) -> None:
    for group, found in (("weights", weights), ("gradients", gradients)):
        data.write_histograms(writer, group, found, epoch, now)


def _write_images(images: Sequence[Predicted], epoch: int, now: float, writer: Any) -> None:
    writer.add_image("validation/labels_and_predictions", draw(images), epoch, now, dataformats="HWC")
