"""Checkpoints kept under names of their own: copied off the training thread, verified, and listed in `run.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core import storage
from yolo_callbacks.core.background import Background
from yolo_callbacks.core.decision import SaveCheckpoint
from yolo_callbacks.core.log import LOGGER, without_chatter
from yolo_callbacks.core.run import Run


class CheckpointStore:
    """Carries out `SaveCheckpoint` decisions.

    The copy of `last.pt` is made by the worker while the next epoch trains; `wait` must be called before the trainer
    writes `last.pt` again. An old file goes only after the new one is on disk.

    Args:
        run: The run whose checkpoints are kept.
        worker: Does the copying.
        known: What an earlier part of this run has stored, as in `run.json`.
        changed: Called, by the worker, after the list has changed.
    """

    def __init__(
        self, run: Run, worker: Background, known: Iterable[Mapping[str, Any]], changed: Callable[[], None]
    ) -> None:
        self._run = run
        self._worker = worker
        self._changed = changed
        self._error: Exception | None = None
        self._stored: dict[str, dict[str, Any]] = {str(item["file"]): dict(item) for item in known}

    @property
    def stored(self) -> list[dict[str, Any]]:
        """What is kept now: file, role, epoch, monitor, value, size in bytes, SHA-256."""
        return [dict(item) for item in list(self._stored.values())]

    def path(self, file: str) -> Path:
        """Return where a decision's file is."""
        return self._run.save_dir / file

    def has(self, decision: SaveCheckpoint) -> bool:
        """Return whether the checkpoint of a decision is there."""
        return self._stored.get(decision.file, {}).get("epoch") == decision.epoch and self.path(decision.file).exists()

    def keep(self, decision: SaveCheckpoint, source: Path | None = None) -> None:
        """Start to store the checkpoint of the epoch that has just ended.

        Args:
            decision: What to keep and where.
            source: A file that holds it; None for what the trainer has just saved.
        """
        data = self._run.checkpoint_bytes() if source is None else None
        origin = source or self._run.last_checkpoint
        key = f"checkpoint {decision.file} of epoch {decision.epoch}"
        self._worker.submit(key, lambda: self._attempt(decision, data, origin))

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            Exception: What went wrong while a checkpoint was stored, unless it was the disk.
        """
        self._worker.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _attempt(self, decision: SaveCheckpoint, data: bytes | None, source: Path) -> None:
        """Store a checkpoint. A disk that fails must not end the training; anything else is a mistake of ours."""
        try:
            self._store(decision, data, source)
        except OSError as error:
            LOGGER.warning(f"{self.path(decision.file)} of epoch {decision.epoch} could not be stored: {error}")
        except Exception as error:
            self._error = error

    def keep_interrupted(self, file: str) -> None:
        """Store the weights as they are in the middle of an epoch, at once; nothing if there are none yet."""
        data = self._run.interrupted_checkpoint()
        if data is None:
            return
        stored = storage.write_bytes(data, self.path(file))
        self._list(SaveCheckpoint("", self._run.epoch, file=file, role="exception"), stored)
        LOGGER.info(f"The weights as they were in epoch {self._run.epoch} are saved as {self.path(file)}")

    def _store(self, decision: SaveCheckpoint, data: bytes | None, source: Path) -> None:
        target = self.path(decision.file)
        edit = strip if decision.weights_only else None
        file = storage.copy(source, target, edit) if data is None else storage.write_bytes(data, target, edit)
        for old in decision.drop:
            self.path(old).unlink(missing_ok=True)
            self._stored.pop(old, None)
        self._list(decision, file)

    def _list(self, decision: SaveCheckpoint, file: storage.StoredFile) -> None:
        self._stored[decision.file] = {
            "file": decision.file,
            "role": decision.role,
            "epoch": decision.epoch,
            "monitor": decision.monitor or None,
            "value": decision.value,
            "bytes": file.size,
            "sha256": file.sha256,
        }
        self._changed()

    def finalize(self, decision: SaveCheckpoint) -> Path | None:
        """Make a stored checkpoint a finished model, as Ultralytics does with `best.pt`, and return its path."""
        path = self.path(decision.file)
        if not self.has(decision):
            LOGGER.warning(
                f"{path} of epoch {decision.epoch} is not there, so the weights of best.pt stay in the model"
            )
            return None
        with storage.replacing(path) as temporary:
            strip(path, temporary)
        size, digest = storage.fingerprint(path)
        self._stored[decision.file].update(bytes=size, sha256=digest)
        self._changed()
        return path


def strip(path: Path, target: Path | None = None) -> None:
    """Drop optimizer and other training state from a checkpoint with Ultralytics' own `strip_optimizer`.

    Raises:
        ValueError: If the file is not a checkpoint.
    """
    from ultralytics.utils.torch_utils import strip_optimizer

    with without_chatter():
        stripped = strip_optimizer(path, str(target or ""))
    if not stripped:
        raise ValueError(f"{path} is not an Ultralytics checkpoint")
