"""The files of one run: journal, `run.json`, checkpoints, exports, and the threads that write them. Rank 0 only."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Decision, SaveCheckpoint, Stop, StopReason
from yolo_callbacks.core.naming import JOURNAL, STATES, WEIGHTS
from yolo_callbacks.exports.export import Exports
from yolo_callbacks.exports.plan import ExportPlan
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.run_dir.journal import Journal
from yolo_callbacks.run_dir.manifest import Manifest
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background, tell_once
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.run import Run

VIEWS = "views"
"""The worker for files that are rewritten each time; it takes a bounded share of the time, however long they get."""

_VIEWS_SHARE = 0.02
CLOSE_TIMEOUT = 120.0  # seconds that the end of the training waits for each worker
HURRY_TIMEOUT = 10.0  # seconds in all, if the machine is about to be taken away


def status_of(stop: Stop | None, error: BaseException | None) -> str:
    """Return how a run ended: `finished`, `stopped`, `preempted`, `interrupted` or `failed`."""
    if stop is not None and stop.reason is StopReason.PREEMPTED:
        return "preempted"
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "interrupted"
    return "failed" if error is not None else "stopped" if stop else "finished"


class RunFiles:
    """The files of a run, and the threads that write them.

    Args:
        run: The run.
        known: The checkpoints that an earlier part of the run has kept; see `known_checkpoints`.

    Attributes:
        journal: One line per epoch.
        manifest: `run.json`.
        checkpoints: Checkpoints kept under their own names.
        exports: Their exports to other formats.
    """

    def __init__(self, run: Run, known: Iterable[Mapping[str, Any]] = ()) -> None:
        self._run = run
        self._workers: dict[str, Background] = {}
        self._told: set[str] = set()
        self._abandoned: set[str] = set()
        self._timeout = CLOSE_TIMEOUT
        self._listed: list[dict[str, Any]] = []
        self.manifest = Manifest(run.callbacks_dir / "run.json", self.background(VIEWS), resumed=run.epochs_before > 0)
        self.journal = Journal(run.save_dir / JOURNAL)
        self.checkpoints = CheckpointStore(run, self.background("checkpoints"), known, self._list_checkpoints)
        self.exports = Exports(run, self.checkpoints, self.background("exports"), self._list_exports)
        for folder in (run.callbacks_dir, run.save_dir / WEIGHTS, run.save_dir / STATES):
            storage.remove_leftovers(folder)

    def background(self, name: str) -> Background:
        """Return the run's worker of this name; slow work should have its own worker.

        `VIEWS` rewrites files that grow with the run, so it is limited to a share of the time.
        """
        if name not in self._workers:
            self._workers[name] = Background(name, share=_VIEWS_SHARE if name == VIEWS else 1.0)
        return self._workers[name]

    def remember(self, name: str, **note: Any) -> None:
        """Keep a callback's note for a resume in `run.json`; log a disk error."""
        try:
            self.manifest.remember(name, note)
        except OSError as error:
            tell_once(self._told, f"noting {name} in run.json", error)

    def remembered(self, name: str) -> dict[str, Any]:
        """Return a callback's note, also from before a resume; empty if there is none."""
        return self.manifest.note(name)

    def list_decisions(self, decisions: Iterable[Decision]) -> None:
        """Add the decisions that changed the course of the run to `run.json`; the journal has all."""
        worth = [d.to_json() for d in decisions if d.label and not isinstance(d, SaveCheckpoint)]
        if worth:
            self._listed = [*self._listed, *worth]
            self.manifest.update(decisions=self._listed)

    def _list_checkpoints(self) -> None:
        self.manifest.update(checkpoints=self.checkpoints.stored)

    def _list_exports(self, exports: list[dict[str, Any]]) -> None:
        self.manifest.update(exports=exports)

    def export_soon(self, file: str, plan: ExportPlan) -> None:
        """Export a checkpoint of this run while training continues."""
        if not self._run.checkpointing.needs_calibration:  # it needs the trainer's data, so it waits for the end
            self.exports.soon(plan, file)

    def export(self, file: str, plan: ExportPlan) -> None:
        """Export the last checkpoint of a series and wait; log and record failures."""
        try:
            self.checkpoints.prepare_export(file)
            self.exports.finish(plan, file)
        except Exception as error:  # the training is done; a failed export must not look like a failed training
            tell_once(self._told, f"the export of {file}", error)

    def save_now(self, file: str, role: str, finished: int) -> None:
        """Save the current weights; log a failure and continue.

        Args:
            file: The path, relative to the run directory.
            role: The role in `run.json`.
            finished: Number of finished epochs; a resume starts with the next one.
        """
        try:
            if not self.checkpoints.keep_now(file, role, finished):
                LOGGER.warning(f"{file} is not saved: there are no weights yet, or they are NaN")
        except Exception as error:  # must not hide the error that ends the training
            tell_once(self._told, f"saving {file}", error)

    def conclude(self, epochs: int, stop: Stop | None, error: BaseException | None) -> None:
        """Record in `run.json` how the run ended."""
        status = status_of(stop, error)
        error = None if status == "preempted" else error
        self.checkpoints.forget_missing()
        self.manifest.update(
            checkpoints=self.checkpoints.stored,
            status=status,
            eta=None,
            stop={"reason": stop.reason.value, "message": stop.message, "epoch": stop.epoch} if stop else None,
            error=f"{type(error).__name__}: {error}".removesuffix(": ") if error is not None else None,
            epochs=epochs,
        )

    def wait(self, *, hurry: bool = False) -> None:
        """Wait until everything is on disk, within a time limit; a short one if `hurry`."""
        self._timeout = HURRY_TIMEOUT if hurry else CLOSE_TIMEOUT
        deadline = time.monotonic() + self._timeout
        for name, worker in self._workers.items():
            if name in self._abandoned:
                continue
            if not worker.wait(max(0.0, deadline - time.monotonic()) if hurry else self._timeout):
                self._abandoned.add(name)
                LOGGER.warning(f"{name} did not finish within {self._timeout:g} s and was abandoned")

    def close(self) -> None:
        """Cancel the exports and end the threads."""
        self.exports.cancel()
        for worker in self._workers.values():
            worker.close(0.0 if self._timeout == HURRY_TIMEOUT else self._timeout)

    def restored(self, decisions: Iterable[Decision]) -> tuple[SaveCheckpoint, Path] | None:
        """Strip and return the checkpoint that the model is restored to; None if there is none."""
        wanted = [d for d in decisions if isinstance(d, SaveCheckpoint) and d.role == "restore"]
        path = self.checkpoints.finalize(wanted[-1]) if wanted else None
        return (wanted[-1], path) if path is not None else None
