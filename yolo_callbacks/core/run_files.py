"""The files of one run: journal, `run.json`, checkpoints, exports, and the threads that write them. Rank 0 only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core import storage
from yolo_callbacks.core.background import Background, tell_once
from yolo_callbacks.core.checkpoints import CheckpointStore
from yolo_callbacks.core.decision import Decision, SaveCheckpoint, Stop
from yolo_callbacks.core.export import export_checkpoint
from yolo_callbacks.core.journal import Journal, read_journal, read_results_csv
from yolo_callbacks.core.log import LOGGER
from yolo_callbacks.core.manifest import Manifest, read_manifest
from yolo_callbacks.core.naming import WEIGHTS
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.core.run import Run

VIEWS = "views"
"""The worker for files that are written whole each time: a bounded share of the time, however long they get."""

_VIEWS_SHARE = 0.02
_CLOSE_TIMEOUT = 120.0  # seconds that the end of a training waits for the last files and pictures


class RunFiles:
    """What a run leaves on disk.

    Args:
        run: The run.

    Attributes:
        journal: One line an epoch.
        manifest: `run.json`.
        checkpoints: Checkpoints kept under names of their own.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._workers: dict[str, Background] = {}
        self._told: set[str] = set()
        self._exports: list[dict[str, Any]] = []
        self._listed: list[dict[str, Any]] = []
        self.manifest = Manifest(run.callbacks_dir / "run.json", self.background(VIEWS))
        self.journal = Journal(run.callbacks_dir / "journal.jsonl")
        self.checkpoints = CheckpointStore(run, self.background("checkpoints"), self._known(), self._list_checkpoints)
        for folder in (run.callbacks_dir, run.save_dir / WEIGHTS):
            storage.remove_leftovers(folder)

    def background(self, name: str) -> Background:
        """Return the run's worker of this name; work that may take long should have a worker of its own.

        `VIEWS` writes whole files that grow with the run, so it is bounded to a share of the time.
        """
        if name not in self._workers:
            self._workers[name] = Background(name, share=_VIEWS_SHARE if name == VIEWS else 1.0)
        return self._workers[name]

    def _known(self) -> list[dict[str, Any]]:
        """Return the checkpoints that an earlier part of this run has kept, up to where it is resumed."""
        done = self._run.epochs_before
        listed = read_manifest(self.manifest.path).get("checkpoints", []) if done else []
        later = [item["file"] for item in listed if item["epoch"] > done]
        if later:
            LOGGER.warning(f"Kept checkpoints of epochs after {done}, which now run again: {', '.join(later)}")
        return [item for item in listed if item["epoch"] <= done]

    def earlier_epochs(self) -> list[EpochRecord]:
        """Return the epochs before this start: from the journal, and from results.csv where the journal lacks one.

        The journal of another run in the same folder is set aside.
        """
        done, path = self._run.epochs_before, self.journal.path
        written = [entry.record for entry in read_journal(path).entries] if path.exists() else []
        if written and written[-1].epoch > done:
            whose = f"epochs after {done}, which now run again," if done else "an earlier run"
            LOGGER.warning(f"The journal of {whose} is kept as {storage.set_aside(path)}")
        if not done:
            return []
        results = self._run.save_dir / "results.csv"
        records = {record.epoch: record for record in (read_results_csv(results) if results.exists() else [])}
        records.update((record.epoch, record) for record in written)
        return [records[epoch] for epoch in sorted(records) if epoch <= done]

    def list_decisions(self, decisions: Iterable[Decision]) -> None:
        """Add what changed the course of the run to `run.json`; the journal has every decision."""
        worth = [d.to_json() for d in decisions if d.label and not isinstance(d, SaveCheckpoint)]
        if worth:
            self._listed = [*self._listed, *worth]
            self.manifest.update(decisions=self._listed)

    def _list_checkpoints(self) -> None:
        self.manifest.update(checkpoints=self.checkpoints.stored)

    def export(self, file: str, formats: Iterable[str], arguments: Mapping[str, Any]) -> None:
        """Export a checkpoint of this run into `export/`, one format after the other; failures are told and noted."""
        checkpoint, folder = self.checkpoints.path(file), self._run.save_dir / "export"
        for name in formats:
            self._exports.append(export_checkpoint(checkpoint, folder, name, arguments))
            self.manifest.update(exports=list(self._exports))

    def save_interrupted(self, file: str) -> None:
        """Save the weights as they are in the middle of an epoch; a failure is told and changes nothing."""
        try:
            self.checkpoints.keep_interrupted(file)
        except Exception as error:  # the exception that ended the training must not be hidden by this one
            tell_once(self._told, f"saving {file}", error)

    def conclude(self, epochs: int, stop: Stop | None, error: BaseException | None) -> None:
        """Say in `run.json` how the run ended."""
        status = "failed" if error is not None else "stopped" if stop else "finished"
        self.manifest.update(
            status="interrupted" if isinstance(error, KeyboardInterrupt) else status,
            stop={"reason": stop.reason.value, "message": stop.message, "epoch": stop.epoch} if stop else None,
            error=f"{type(error).__name__}: {error}".removesuffix(": ") if error is not None else None,
            epochs=epochs,
        )

    def wait(self) -> None:
        """Wait until everything is on disk, for a while."""
        for name, worker in self._workers.items():
            if not worker.wait(_CLOSE_TIMEOUT):
                LOGGER.warning(f"{name} did not finish within {_CLOSE_TIMEOUT:g} s and is left behind")

    def close(self) -> None:
        """End the threads."""
        for worker in self._workers.values():
            worker.close(_CLOSE_TIMEOUT)

    def restored(self, decisions: Iterable[Decision]) -> tuple[SaveCheckpoint, Path] | None:
        """Return the checkpoint that the model is to be left with, made a finished model; None if there is none."""
        wanted = [d for d in decisions if isinstance(d, SaveCheckpoint) and d.role == "restore"]
        path = self.checkpoints.finalize(wanted[-1]) if wanted else None
        return (wanted[-1], path) if path is not None else None
