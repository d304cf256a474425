"""Checkpoints kept under their own names: copied off the training thread, verified, and listed in `run.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import SaveCheckpoint
from yolo_callbacks.core.naming import BEST_KEPT, EXTENDED, LAST_KEPT
from yolo_callbacks.run_dir.recovery import epochs_in
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.best_effort import BestEffortWrites
from yolo_callbacks.support.log import LOGGER, quiet
from yolo_callbacks.trainer.run import Run

_CONSEQUENCE = "the previous file is kept"


class CheckpointStore:
    """Carries out `SaveCheckpoint` decisions.

    The worker copies `last.pt` while the next epoch trains; `wait` must be called before the trainer writes `last.pt`
    again. An old file is removed only after the new one is on disk.

    Args:
        run: The run whose checkpoints are kept.
        worker: Does the copying.
        known: What an earlier part of this run has stored, as in `run.json`.
        changed: Called by the worker after the list has changed.
    """

    def __init__(
        self, run: Run, worker: Background, known: Iterable[Mapping[str, Any]], changed: Callable[[], None]
    ) -> None:
        self._run = run
        self._worker = worker
        self._changed = changed
        self._error: Exception | None = None
        self._writes = BestEffortWrites()
        self._stored: dict[str, dict[str, Any]] = {str(item["file"]): dict(item) for item in known}

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The kept checkpoints: file, role, epoch, monitor, value, size in bytes, SHA-256."""
        return [dict(item) for item in list(self._stored.values())]

    def forget_missing(self) -> None:
        """Remove files from the list that no longer exist. Not done at every save: there may be thousands of files."""
        for file in list(self._stored):
            if not self.path(file).exists():
                self._stored.pop(file, None)

    def adopt(self, decisions: Iterable[SaveCheckpoint]) -> None:
        """List the checkpoints that an earlier part of the run has stored: `run.json` may lag slightly behind.

        Every decision except those of the newest epoch was carried out before the next epoch's checkpoint was written.

        Args:
            decisions: All decisions except the newest epoch's, oldest first.
        """
        left: dict[str, SaveCheckpoint] = {}
        for decision in decisions:
            left[decision.file] = decision
            for old in decision.drop:
                left.pop(old, None)
        for file, decision in left.items():
            path = self.path(file)
            if not self.has(decision) and epochs_in(path) == decision.epoch:  # otherwise the disk refused it
                self._list(decision, storage.StoredFile(path, *storage.fingerprint(path)))

    def path(self, file: str) -> Path:
        """Return the path of a decision's file."""
        return self._run.save_dir / file

    def has(self, decision: SaveCheckpoint) -> bool:
        """Return whether a decision's checkpoint exists."""
        return self._stored.get(decision.file, {}).get("epoch") == decision.epoch and self.path(decision.file).exists()

    def keep(self, decision: SaveCheckpoint, source: Path | None = None) -> None:
        """Start storing the checkpoint of the epoch that has just ended.

        Args:
            decision: What to keep and where.
            source: A file that holds it; None for the trainer's newest checkpoint.
        """
        data: bytes | None = None
        if source is None:
            with self._writes.attempt(f"the checkpoint for {decision.file}", _CONSEQUENCE) as attempt:
                data = self._run.checkpointing.epoch_bytes()
            if not attempt.worked:
                return
        key, origin = f"checkpoint {decision.file} of epoch {decision.epoch}", source or self._run.last_checkpoint
        self._worker.submit(key, lambda: self._attempt(decision, data, origin))

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            Exception: Any error while storing a checkpoint, except a disk error.
        """
        self._worker.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def settle(self) -> None:
        """Wait until every write is done, without raising an error. Safe from any thread."""
        self._worker.wait()

    def _attempt(self, decision: SaveCheckpoint, data: bytes | None, source: Path) -> None:
        """Store a checkpoint. A failing disk must not end the training; any other error is a bug."""
        try:
            with self._writes.attempt(str(self.path(decision.file)), _CONSEQUENCE):
                self._store(decision, data, source)
        except Exception as error:
            self._error = error

    def keep_now(self, file: str, role: str, finished: int) -> bool:
        """Store the current weights immediately.

        Args:
            file: The path, relative to the run directory.
            role: The role in the list.
            finished: Number of finished epochs.

        Returns:
            False if there is nothing worth saving.
        """
        data = self._run.checkpointing.current_bytes(finished)
        if data is None:
            return False
        stored = storage.write_bytes(data, self.path(file), _check)
        self._list(SaveCheckpoint("", finished, file=file, role=role), stored)
        LOGGER.info(f"Saved the current weights (epoch {self._run.epoch}) as {self.path(file)}")
        return True

    def keep_originals(self) -> bool:
        """Copy `last.pt` and `best.pt` before Ultralytics strips them in place, which a kill may interrupt.

        Returns:
            Whether the disk took the copies.
        """
        worked = True
        for path, kept in self._originals():
            if path.exists():
                with self._writes.attempt(str(kept), f"{path.name} is not stripped") as attempt:
                    storage.duplicate(path, kept)
                worked = worked and attempt.worked
        return worked

    def mend_originals(self) -> None:
        """Restore the files that an interrupted stripping has destroyed."""
        for path, kept in self._originals():
            if kept.exists() and not storage.is_whole(path):
                LOGGER.info(f"{path} was damaged while it was stripped; restoring it from {kept.name}")
                with self._writes.attempt(str(path), "it is left damaged"):
                    storage.duplicate(kept, path)

    def drop_originals(self) -> None:
        """Remove the copies after the stripping, each only if the file itself is intact.

        The copy of `last.pt` is removed last: a run that is killed here can be resumed from it, and then cleans up.
        """
        for path, kept in reversed(self._originals()):
            if storage.is_whole(path):
                with self._writes.attempt(str(kept), "so it is not removed"):
                    kept.unlink(missing_ok=True)

    def drop_extended(self) -> None:
        """Remove the checkpoint that an extension began from, if a later one is intact."""
        if self.path(EXTENDED).exists() and storage.is_whole(self._run.last_checkpoint):
            self._unlink(EXTENDED)

    def _originals(self) -> list[tuple[Path, Path]]:
        return [
            (self._run.last_checkpoint, self.path(LAST_KEPT)),
            (self._run.best_checkpoint, self.path(BEST_KEPT)),
        ]

    def remove(self, file: str) -> None:
        """Remove a checkpoint if it exists."""
        if self._unlink(file) and self._stored.pop(file, None) is not None:
            self._changed()

    def _unlink(self, file: str) -> bool:
        path = self.path(file)
        with self._writes.attempt(str(path), "so it is not removed") as attempt:
            path.unlink(missing_ok=True)
        return attempt.worked

    def _store(self, decision: SaveCheckpoint, data: bytes | None, source: Path) -> None:
        target = self.path(decision.file)
        edit = _strip_and_check if decision.weights_only else _check
        file = storage.copy(source, target, edit) if data is None else storage.write_bytes(data, target, edit)
        for old in decision.drop:
            if self._unlink(old):
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
        """Strip and calibrate a stored checkpoint, as Ultralytics does with `best.pt`, and return its path."""
        path = self.path(decision.file)
        if not self.has(decision):
            LOGGER.warning(
                f"{path} of epoch {decision.epoch} does not exist, so the model keeps the weights of best.pt"
            )
            return None
        with self._writes.attempt(str(path), "it keeps its optimizer"):
            self._rewrite(decision.file, lambda temporary: strip(path, temporary))
        return path

    def prepare_export(self, file: str) -> Path:
        """Make a stored checkpoint ready for export, and return its path."""
        path = self.path(file)
        if self._run.checkpointing.needs_calibration and path.exists():
            self._rewrite(file, lambda temporary: storage.copy(path, temporary))
        return path

    def _rewrite(self, file: str, write: Callable[[Path], Any]) -> None:
        path = self.path(file)
        with storage.replacing(path) as temporary:
            write(temporary)
            self._run.checkpointing.calibrate(temporary)
        size, digest = storage.fingerprint(path)
        self._stored[file].update(bytes=size, sha256=digest)
        self._changed()


def _check(path: Path) -> None:
    """Check that a written checkpoint can be read back before it replaces an older one.

    Raises:
        OSError: If it cannot.
    """
    if not storage.is_whole(path):
        raise OSError("the written checkpoint cannot be read back")


def _strip_and_check(path: Path) -> None:
    strip(path)
    _check(path)


def strip(path: Path, target: Path | None = None) -> None:
    """Remove the optimizer and other training state from a checkpoint with Ultralytics' `strip_optimizer`.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the file is not a checkpoint.
    """
    from ultralytics.utils.torch_utils import strip_optimizer

    with quiet("ultralytics", below=logging.WARNING):  # it would log temporary paths
        try:
            stripped = strip_optimizer(path, str(target or ""))
        except RuntimeError as error:  # torch writes the file itself, and knows no OSError
            raise OSError(f"the stripped checkpoint cannot be written: {str(error).splitlines()[0]}") from error
    if not stripped:
        raise ValueError(f"{path} is not an Ultralytics checkpoint")
