"""The files of one run: journal, `run.json`, checkpoints, exports, and the threads that write them. Rank 0 only."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Decision, SaveCheckpoint, Stop, StopReason
from yolo_callbacks.core.entry import JournalContent
from yolo_callbacks.core.naming import BACKUP, MID_EPOCH, TO_RESUME, WEIGHTS
from yolo_callbacks.core.record import EpochRecord, Plan
from yolo_callbacks.exports.export import Exports
from yolo_callbacks.exports.plan import ExportPlan
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.run_dir.journal import Journal, read_journal
from yolo_callbacks.run_dir.manifest import Manifest, manifest_of
from yolo_callbacks.run_dir.recovery import checkpoints_in, epochs_in, load
from yolo_callbacks.run_dir.results_csv import mend_results_csv, read_results_csv, results_in_checkpoint
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background, tell_once
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.trainer.run import Run

VIEWS = "views"
"""The worker for files that are written whole each time: a bounded share of the time, however long they get."""

_VIEWS_SHARE = 0.02
_CLOSE_TIMEOUT = 120.0  # seconds that the end of a training waits for the last files and pictures
_HURRY_TIMEOUT = 10.0  # the same, in all, where the machine is taken away


def status_of(stop: Stop | None, error: BaseException | None) -> str:
    """Say in one word how a run ended: `finished`, `stopped`, `preempted`, `interrupted` or `failed`."""
    if stop is not None and stop.reason is StopReason.PREEMPTED:
        return "preempted"
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "interrupted"
    return "failed" if error is not None else "stopped" if stop else "finished"


class RunFiles:
    """What a run leaves on disk.

    Args:
        run: The run.

    Attributes:
        journal: One line an epoch.
        manifest: `run.json`.
        checkpoints: Checkpoints kept under names of their own.
        exports: What became of them in other formats.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._workers: dict[str, Background] = {}
        self._told: set[str] = set()
        self._timeout = _CLOSE_TIMEOUT
        self._listed: list[dict[str, Any]] = []
        known = self._known()
        self.manifest = Manifest(run.callbacks_dir / "run.json", self.background(VIEWS), resumed=run.epochs_before > 0)
        self.journal = Journal(run.callbacks_dir / "journal.jsonl")
        self.checkpoints = CheckpointStore(run, self.background("checkpoints"), known, self._list_checkpoints)
        self.exports = Exports(run, self.checkpoints, self.background("exports"), self._list_exports)
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
        listed = manifest_of(self._run.save_dir).get("checkpoints", []) if done else []
        later = [item["file"] for item in listed if item["epoch"] > done]
        if later:
            LOGGER.warning(f"Kept checkpoints of epochs after {done}, which now run again: {', '.join(later)}")
        return [item for item in listed if item["epoch"] <= done]

    def earlier_epochs(self) -> list[EpochRecord]:
        """Return the epochs before this start, one record each, cut back to where the run is resumed.

        They come from the journal; where it lacks one, from `results.csv`, or else from the checkpoint that the run is
        resumed from. The journal of another run in the same folder is set aside.
        """
        done, path = self._run.epochs_before, self.journal.path
        journal = read_journal(path) if path.exists() else JournalContent(Plan(), (), [])
        written = [entry.record for entry in journal.entries]
        if written and written[-1].epoch > done:
            whose = f"epochs after {done}, which now run again," if done else "an earlier run"
            LOGGER.warning(f"The journal of {whose} is kept as {storage.set_aside(path)}")
        if not done:
            return []
        records = {record.epoch: record for record in [*written, *([journal.pending] if journal.pending else [])]}
        for source in (self._results, self._results_in_checkpoint):
            if any(epoch not in records for epoch in range(1, done + 1)):
                records = {record.epoch: record for record in source()} | records
        missing = [str(epoch) for epoch in range(1, done + 1) if epoch not in records]
        if missing:
            LOGGER.warning(f"Epochs {', '.join(missing)} are in no log and count as if they had not been")
        return [records[epoch] for epoch in sorted(records) if epoch <= done]

    def _results(self) -> list[EpochRecord]:
        path = self._run.save_dir / "results.csv"
        return read_results_csv(path) if path.exists() else []

    def _results_in_checkpoint(self) -> list[EpochRecord]:
        return results_in_checkpoint(load(self._run.resumed_from))

    def tidy_checkpoints(self) -> None:
        """Put aside what another run in this folder, or a part of this one that runs again, has left to be resumed."""
        done, last = self._run.epochs_before, self._run.last_checkpoint
        known = [last, *(self.checkpoints.path(name) for name in TO_RESUME)]
        if done:
            resumed = self._run.resumed_from.resolve()
            stale = [path for path in known if path.resolve() != resumed and (epochs_in(path) or 0) > done]
        else:  # nothing here is this run's, whatever its name
            resumed = None
            others = (path for path in checkpoints_in(self._run.save_dir) if path not in known)
            stale = [path for path in known if path.exists()] + [path for path in others if epochs_in(path)]
        for path in stale:
            storage.rename(path, path.with_name(f"{path.name}.old"))
        if stale:
            names = ", ".join(path.name for path in stale)
            LOGGER.warning(f"{names} of {'epochs that now run again' if done else 'an earlier run'} are kept as *.old")
        if last in stale and resumed is not None:
            storage.duplicate(resumed, last)
        self.checkpoints.forget_missing()

    def mend_best(self) -> None:
        """Write `best.pt` where the process died between `last.pt` and it."""
        if not self._run.epochs_before:
            return
        content, best = load(self._run.resumed_from), self._run.best_checkpoint
        fitness = (content.get("train_metrics") or {}).get("fitness")
        if fitness is None or content.get("best_fitness") != fitness:
            return
        source = self.newest_epoch()
        if source is not None and epochs_in(best) != self._run.epochs_before:
            storage.duplicate(source, best)

    def newest_epoch(self) -> Path | None:
        """Return a checkpoint of the last epoch before a resume, with the weights that were validated; None for none.

        What was saved in the middle of the next epoch does for resuming, but not for that.
        """
        candidates = [self._run.last_checkpoint, self.checkpoints.path(BACKUP), self._run.resumed_from]
        whole = (path for path in candidates if path.name not in MID_EPOCH)
        return next((path for path in whole if epochs_in(path) == self._run.epochs_before), None)

    def mend_results(self) -> None:
        """Take the rows of epochs that run again out of Ultralytics' `results.csv`."""
        path, done = self._run.save_dir / "results.csv", self._run.epochs_before
        try:
            gone = mend_results_csv(path, done) if done else 0
        except OSError as error:
            LOGGER.warning(f"{path} cannot be mended: {error}")
            return
        if gone:
            LOGGER.info(f"{path}: {gone} row{'s' * (gone > 1)} of epochs that run again went")

    def remember(self, name: str, **note: Any) -> None:
        """Keep what a callback has to know again when the run is resumed, in `run.json`; a failing disk is told."""
        try:
            self.manifest.remember(name, note)
        except OSError as error:
            tell_once(self._told, f"noting {name} in run.json", error)

    def remembered(self, name: str) -> dict[str, Any]:
        """Return what a callback has noted in this run, also before it was resumed; empty for nothing."""
        return self.manifest.note(name)

    def list_decisions(self, decisions: Iterable[Decision]) -> None:
        """Add what changed the course of the run to `run.json`; the journal has every decision."""
        worth = [d.to_json() for d in decisions if d.label and not isinstance(d, SaveCheckpoint)]
        if worth:
            self._listed = [*self._listed, *worth]
            self.manifest.update(decisions=self._listed)

    def _list_checkpoints(self) -> None:
        self.manifest.update(checkpoints=self.checkpoints.stored)

    def _list_exports(self, exports: list[dict[str, Any]]) -> None:
        self.manifest.update(exports=exports)

    def export_soon(self, file: str, plan: ExportPlan) -> None:
        """Export a checkpoint of this run while the training goes on."""
        if not self._run.needs_calibration:  # which needs the trainer's own data: at the end
            self.exports.soon(plan, file)

    def export(self, file: str, plan: ExportPlan) -> None:
        """Export a checkpoint of this run, the last one of its series, and wait; failures are told and noted."""
        try:
            self.checkpoints.prepare_export(file)
            self.exports.finish(plan, file)
        except Exception as error:  # the training is done, and must not be lost by what follows it
            tell_once(self._told, f"the export of {file}", error)

    def save_now(self, file: str, role: str, finished: int) -> None:
        """Save the weights as they are at this moment; a failure is told and changes nothing.

        Args:
            file: Where, relative to the run directory.
            role: What for.
            finished: Number of finished epochs; resuming the file begins with the one after them.
        """
        try:
            if not self.checkpoints.keep_now(file, role, finished):
                LOGGER.warning(f"{file} is not saved: there are no weights yet, or they are NaN")
        except Exception as error:  # what ends the training must not be hidden by this one
            tell_once(self._told, f"saving {file}", error)

    def conclude(self, epochs: int, stop: Stop | None, error: BaseException | None) -> None:
        """Say in `run.json` how the run ended."""
        status = status_of(stop, error)
        error = None if status == "preempted" else error
        self.checkpoints.forget_missing()
        self.manifest.update(
            checkpoints=self.checkpoints.stored,
            status=status,
            stop={"reason": stop.reason.value, "message": stop.message, "epoch": stop.epoch} if stop else None,
            error=f"{type(error).__name__}: {error}".removesuffix(": ") if error is not None else None,
            epochs=epochs,
        )

    def wait(self, *, hurry: bool = False) -> None:
        """Wait until everything is on disk, for a while, or only a short one."""
        self._timeout = _HURRY_TIMEOUT if hurry else _CLOSE_TIMEOUT
        deadline = time.monotonic() + self._timeout
        for name, worker in self._workers.items():
            if not worker.wait(max(0.0, deadline - time.monotonic()) if hurry else self._timeout):
                LOGGER.warning(f"{name} did not finish within {self._timeout:g} s and is left behind")

    def close(self) -> None:
        """End the threads, and an export that is left."""
        self.exports.cancel()
        for worker in self._workers.values():
            worker.close(0.0 if self._timeout == _HURRY_TIMEOUT else self._timeout)

    def restored(self, decisions: Iterable[Decision]) -> tuple[SaveCheckpoint, Path] | None:
        """Return the checkpoint that the model is to be left with, made a finished model; None if there is none."""
        wanted = [d for d in decisions if isinstance(d, SaveCheckpoint) and d.role == "restore"]
        path = self.checkpoints.finalize(wanted[-1]) if wanted else None
        return (wanted[-1], path) if path is not None else None
