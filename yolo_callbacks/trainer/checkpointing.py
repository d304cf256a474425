"""The checkpoint of an epoch: whether `last.pt` holds it, and its bytes where it does not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.numbers import all_finite
from yolo_callbacks.trainer.frozen_layers import FrozenLayers
from yolo_callbacks.trainer.learning_rate import remove_factor
from yolo_callbacks.trainer.patches.files import checkpoint_path
from yolo_callbacks.trainer.run_state import RunState


class Checkpointing:
    """Serializes the model of one training, at most once an epoch.

    Args:
        run: The run.
        layers: The run's frozen layers, whose rates must not be in a checkpoint.
    """

    def __init__(self, run: RunState, layers: FrozenLayers) -> None:
        self._run = run
        self._layers = layers
        self._saved_epoch = 0
        self._serialized: bytes | None = None

    def note_written(self, data: bytes, saved: bool) -> None:
        """The trainer has written a checkpoint; `saved` says whether `last.pt` has it, or the disk has refused it."""
        self._serialized = None if saved else data
        self.note_saved()

    def note_saved(self) -> None:
        """The trainer says that it has written `last.pt`, by whatever means."""
        if self._serialized is None and self._run.epoch_is_open:
            self._saved_epoch = self._run.epoch

    def close_epoch(self) -> None:
        """Drop the bytes of an epoch that is dealt with."""
        self._serialized = None

    def epoch_bytes(self) -> bytes | None:
        """Return the checkpoint of the epoch that has just ended, or None where `last.pt` holds it already."""
        if self._saved_epoch == self._run.epoch:
            return None
        if self._serialized is None:
            self._serialized = _serialize(self._run.trainer, self._run.epoch - 1)
        return self._serialized

    def current_bytes(self, finished: int) -> bytes | None:
        """Return a checkpoint of the weights as they are at this moment; None if there is nothing to save.

        Weights that are NaN are nothing to save either: Ultralytics would save 0 in their place.

        Args:
            finished: Number of finished epochs; a run that is resumed from the checkpoint begins with the next one.
        """
        trainer = self._run.trainer
        if trainer.ema is None or trainer.metrics is None or not all_finite(trainer.ema.ema.state_dict().values()):
            return None
        remove_factor(trainer)
        self._layers.restore_groups()  # an error may have come in the middle of the optimizer's step
        return _serialize(trainer, finished - 1)

    def save_final_epoch(self) -> None:
        """With `save=False`, write the checkpoint that `model.train()` loads in the end, whatever has ended the run.

        The trainer itself does so in the last planned epoch alone.
        """
        trainer, run = self._run.trainer, self._run
        if not trainer.args.save and run.has_trained and self._saved_epoch != run.epoch:
            trainer.save_model()

    @property
    def needs_calibration(self) -> bool:
        """Whether a checkpoint must be calibrated before it can be used: that of a depth model must."""
        return bool(self._run.trainer.args.task == "depth")

    def calibrate(self, checkpoint: Path) -> None:
        """Fit the scale of a depth model's distances, as Ultralytics does for its own checkpoints at the end.

        A failure is logged, as there; the model then gives distances of another scale.
        """
        if not self.needs_calibration:
            return
        trainer = self._run.trainer
        from ultralytics.models.yolo.depth.calibrate import calibrate_checkpoint

        try:
            calibrate_checkpoint(
                checkpoint, trainer.test_loader, trainer.device, max_depth=trainer.data.get("max_depth") or 100.0
            )
        except Exception as error:
            LOGGER.warning(f"{checkpoint} could not be calibrated: {type(error).__name__}: {error}")


def _serialize(trainer: Any, epoch_index: int) -> bytes:
    """Let the trainer save into a temporary folder; one that overrides `save_model` may write there itself.

    Only where the bytes go, and the epoch that they name, are changed for the moment.
    """
    data = list[bytes]()
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
