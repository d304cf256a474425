"""Checkpoints kept under names of their own: copied off the training thread, verified, and listed in `run.json`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import SaveCheckpoint
from yolo_callbacks.core.naming import BEST_KEPT, LAST_KEPT
from yolo_callbacks.run_dir.recovery import epochs_in
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.best_effort import BestEffortWrites
from yolo_callbacks.support.log import LOGGER, quiet
from yolo_callbacks.trainer.run import Run

_CONSEQUENCE = "what was there stays"


class CheckpointStore:
    """Carries out `SaveCheckpoint` decisions.

    The copy of `last.pt` is made by the worker while the next epoch trains; `wait` must be called before the trainer
    writes `last.pt` again. An old file is removed only after the new one is on disk.

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
        self._writes = BestEffortWrites()
        self._stored: dict[str, dict[str, Any]] = {str(item["file"]): dict(item) for item in known}

    @property
    def stored(self) -> list[dict[str, Any]]:
        """What is kept: file, role, epoch, monitor, value, size in bytes, SHA-256."""
        return [dict(item) for item in list(self._stored.values())]

    def forget_missing(self) -> None:
        """Take off the list what somebody else has removed. Not at every save: there may be thousands of files."""
        for file in list(self._stored):
            if not self.path(file).exists():
                self._stored.pop(file, None)

    def adopt(self, decisions: Iterable[SaveCheckpoint]) -> None:
        """List what decisions of an earlier part of the run have left: `run.json` may be behind by a moment.

        Every decision but those of the newest epoch was carried out before the next epoch's checkpoint was written.

        Args:
            decisions: All of them but the newest epoch's, oldest first.
        """
        left: dict[str, SaveCheckpoint] = {}
        for decision in decisions:
            left[decision.file] = decision
            for old in decision.drop:
                left.pop(old, None)
        for file, decision in left.items():
            path = self.path(file)
            if not self.has(decision) and epochs_in(path) == decision.epoch:  # otherwise the disk has refused it
                self._list(decision, storage.StoredFile(path, *storage.fingerprint(path)))

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
            Exception: What went wrong while a checkpoint was stored, unless it was the disk.
        """
        self._worker.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def settle(self) -> None:
        """Wait until everything is on disk, or has failed to be; from any thread."""
        self._worker.wait()

    def _attempt(self, decision: SaveCheckpoint, data: bytes | None, source: Path) -> None:
        """Store a checkpoint. A disk that fails must not end the training; anything else is a mistake of ours."""
        try:
            with self._writes.attempt(str(self.path(decision.file)), _CONSEQUENCE):
                self._store(decision, data, source)
        except Exception as error:
            self._error = error

    def keep_now(self, file: str, role: str, finished: int) -> bool:
        """Store the weights as they are, at once.

        Args:
            file: Where, relative to the run directory.
            role: What for.
            finished: Number of finished epochs.

        Returns:
            False if there is nothing that could be used later.
        """
        data = self._run.checkpointing.current_bytes(finished)
        if data is None:
            return False
        stored = storage.write_bytes(data, self.path(file), _check)
        self._list(SaveCheckpoint("", finished, file=file, role=role), stored)
        LOGGER.info(f"Saved the current weights, in epoch {self._run.epoch}, as {self.path(file)}")
        return True

    def keep_originals(self) -> bool:
        """Copy `last.pt` and `best.pt`, which Ultralytics is about to strip in place: that may be interrupted too.

        Returns:
            Whether there was room for that.
        """
        worked = True
        for path, kept in self._originals():
            if path.exists():
                with self._writes.attempt(str(kept), f"{path.name} is left alone") as attempt:
                    storage.duplicate(path, kept)
                worked = worked and attempt.worked
        return worked

    def mend_originals(self) -> None:
        """Put back what an interrupted stripping has destroyed."""
        for path, kept in self._originals():
            if kept.exists() and not storage.is_whole(path):
                LOGGER.info(f"{path} was damaged while it was stripped, and is restored from {kept.name}")
                with self._writes.attempt(str(path), "it stays as it is"):
                    storage.duplicate(kept, path)

    def drop_originals(self) -> None:
        """The stripping is done: the copies can go, each where the file itself is whole.

        That of `last.pt` goes last, because a run that is killed here can be resumed from it, and then tidies up.
        """
        for path, kept in reversed(self._originals()):
            if storage.is_whole(path):
                with self._writes.attempt(str(kept), "and not removed"):
                    kept.unlink(missing_ok=True)

    def _originals(self) -> list[tuple[Path, Path]]:
        return [
            (self._run.last_checkpoint, self.path(LAST_KEPT)),
            (self._run.best_checkpoint, self.path(BEST_KEPT)),
        ]

    def remove(self, file: str) -> None:
        """Remove a checkpoint, if it is there."""
        if self._unlink(file) and self._stored.pop(file, None) is not None:
            self._changed()

    def _unlink(self, file: str) -> bool:
        path = self.path(file)
        with self._writes.attempt(str(path), "and not removed") as attempt:
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
        """Make a stored checkpoint a finished model, as Ultralytics does with `best.pt`, and return its path."""
        path = self.path(decision.file)
        if not self.has(decision):
            LOGGER.warning(
                f"{path} of epoch {decision.epoch} does not exist, so the model keeps the weights of best.pt"
            )
            return None
        self._rewrite(decision.file, lambda temporary: strip(path, temporary))
        return path

    def prepare_export(self, file: str) -> Path:
        """Make a stored checkpoint one that gives the right values when it is exported, and return its path."""
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
    """Make sure that a checkpoint reads back as it was written, before it takes an older one's place.

    Raises:
        OSError: If it does not.
    """
    if not storage.is_whole(path):
        raise OSError("what was written does not read back")


def _strip_and_check(path: Path) -> None:
    strip(path)
    _check(path)


def strip(path: Path, target: Path | None = None) -> None:
    """Drop optimizer and other training state from a checkpoint with Ultralytics' own `strip_optimizer`.

    Raises:
        ValueError: If the file is not a checkpoint.
    """
    from ultralytics.utils.torch_utils import strip_optimizer

    with quiet("ultralytics", below=logging.WARNING):  # paths of files that are not kept
        stripped = strip_optimizer(path, str(target or ""))
    if not stripped:
        raise ValueError(f"{path} is not an Ultralytics checkpoint")
