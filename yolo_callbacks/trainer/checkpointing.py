"""The checkpoint of an epoch: whether `last.pt` holds it, and its bytes if not."""

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
    """Serializes the model of one training, at most once per epoch.

    Args:
        run: The run.
        layers: The run's frozen layers, whose learning rates must not be in a checkpoint.
    """

    def __init__(self, run: RunState, layers: FrozenLayers) -> None:
        self._run = run
        self._layers = layers
        self._saved_epoch = 0
        self._serialized: bytes | None = None

    def note_written(self, data: bytes, saved: bool) -> None:
        """Note that the trainer has written a checkpoint; `saved` is False if the disk refused it."""
        self._serialized = None if saved else data
        self.note_saved()

    def note_saved(self) -> None:
        """Note that the trainer has written `last.pt`, by whatever means."""
        if self._serialized is None and self._run.epoch_is_open:
            self._saved_epoch = self._run.epoch

    def close_epoch(self) -> None:
        """Drop the bytes of a completed epoch."""
        self._serialized = None

    def epoch_bytes(self) -> bytes | None:
        """Return the checkpoint of the epoch that has just ended; None if `last.pt` already holds it."""
        if self._saved_epoch == self._run.epoch:
            return None
        if self._serialized is None:
            self._serialized = _serialize(self._run.trainer, self._run.epoch - 1)
        return self._serialized

    def current_bytes(self, finished: int) -> bytes | None:
        """Return a checkpoint of the current weights; None if there is nothing worth saving.

        NaN weights are not worth saving: Ultralytics would replace them with 0.

        Args:
            finished: Number of finished epochs; a resume from the checkpoint starts with the next one.
        """
        trainer = self._run.trainer
        if trainer.ema is None or trainer.metrics is None or not all_finite(trainer.ema.ema.state_dict().values()):
            return None
        remove_factor(trainer)
        self._layers.restore_groups()  # an error may have interrupted the optimizer's step
        return _serialize(trainer, finished - 1)

    def save_final_epoch(self) -> None:
        """With `save=False`, write the checkpoint that `model.train()` loads at the end, whatever ended the run.

        The trainer itself does so only in the last planned epoch.
        """
        trainer, run = self._run.trainer, self._run
        if not trainer.args.save and run.has_trained and self._saved_epoch != run.epoch:
            trainer.save_model()

    @property
    def needs_calibration(self) -> bool:
        """Whether a checkpoint must be calibrated before use, as those of depth models must."""
        return bool(self._run.trainer.args.task == "depth")

    def calibrate(self, checkpoint: Path) -> None:
        """Calibrate the distances of a depth model, as Ultralytics does for its own checkpoints at the end.

        As there, a failure is logged; the model's distances are then on another scale.
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
    """Let the trainer save into a temporary folder; a trainer that overrides `save_model` may write there itself.

    Temporarily changes only the target of the bytes and the epoch that they name.
    """
    data = list[bytes]()
    changed = ("last", "best", "save_period", "epoch")
    kept = {name: vars(trainer)[name] for name in changed if name in vars(trainer)}  # no epoch before the first
    with tempfile.TemporaryDirectory() as folder:
        last, best = Path(folder) / "last.pt", Path(folder) / "best.pt"
        trainer.last = checkpoint_path(last, lambda _, content: data.append(content))
        trainer.best = checkpoint_path(best, lambda _, content: None)
        trainer.save_period, trainer.epoch = -1, epoch_index
        try:
            trainer.save_model()
            return data[0] if data else last.read_bytes()
        finally:
            for name in changed:
                vars(trainer).pop(name, None)
            vars(trainer).update(kept)
