"""Verified exports of a run's checkpoints: an exported file must score the same as its checkpoint."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_callbacks.exports.formats import FOLDER, expected_name
from yolo_callbacks.exports.plan import ExportPlan
from yolo_callbacks.exports.process import ExportProcess
from yolo_callbacks.exports.verdict import comparison, in_short, in_words, verdict
from yolo_callbacks.run_dir.checkpoints import CheckpointStore
from yolo_callbacks.run_dir.manifest import now, read_manifest
from yolo_callbacks.run_dir.recovery import epochs_in
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.log import LOGGER
from yolo_callbacks.support.secrets import without_secrets
from yolo_callbacks.trainer.run import Run

FORMAT = 1
REJECTED = ".rejected"
"""Suffix added to an exported file that failed verification."""

_REPORT, _SCRATCH = "report.json", ".scratch"
_ATTEMPTS = 3  # to copy a checkpoint while a newer one replaces it


@dataclass
class _Job:
    """The export of one checkpoint to all formats of a plan.

    Attributes:
        considerate: Whether training is still running, so the export must not slow it down.
    """

    plan: ExportPlan
    file: str
    considerate: bool
    sha256: str = ""
    epoch: int | None = None
    copy: Path = Path()
    process: ExportProcess = field(default_factory=ExportProcess)
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True
        self.process.cancel()


class Exports:
    """Exports checkpoints of a run, one at a time, and lists them in `export/report.json`.

    Args:
        run: The run.
        checkpoints: Its checkpoints.
        worker: Exports while the training runs.
        changed: Called with the exports' entries for `run.json`.
    """

    def __init__(
        self,
        run: Run,
        checkpoints: CheckpointStore,
        worker: Background,
        changed: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self._checkpoints = checkpoints
        self._worker = worker
        self._changed = changed
        self._folder = run.save_dir / FOLDER
        self._validation = run.validation_arguments()
        self._lock = threading.Lock()
        self._running: _Job | None = None
        self._closed = False
        self._tried: set[tuple[str, str, str]] = set()
        storage.remove(self._folder / _SCRATCH)
        known = read_manifest(self._folder / _REPORT).get("exports", []) if run.epochs_before else []
        self._items: list[dict[str, Any]] = known if isinstance(known, list) else []

    # ------------------------------------------------------------------------------------------ requests

    def soon(self, plan: ExportPlan, file: str) -> None:
        """Export a checkpoint off the training thread. Of several waiting in a series, only the newest is."""
        self._worker.submit(f"export of {plan.series}", lambda: self._export(plan, file, considerate=True))

    def finish(self, plan: ExportPlan, file: str) -> None:
        """Export the last checkpoint of a series, unless that is already done, and wait.

        A running export of an older checkpoint is cancelled. Errors are reported, not raised.
        """
        newest = next((item["sha256"] for item in self._checkpoints.stored if item["file"] == file), None)
        running = self._running
        if running is not None and running.plan.series == plan.series and running.sha256 != newest:
            running.cancel()
        self._worker.wait()
        self._export(plan, file, considerate=False)

    def cancel(self) -> None:
        """Cancel the running export and start no more."""
        self._closed = True
        running = self._running
        if running is not None:
            running.cancel()

    # ------------------------------------------------------------------------------------------ one checkpoint

    def _export(self, plan: ExportPlan, file: str, *, considerate: bool) -> None:
        self._checkpoints.settle()
        with self._lock:
            scratch = self._folder / _SCRATCH
            job = self._running = _Job(plan, file, considerate)
            try:
                if self._closed or (considerate and not self._checkpoints.path(file).exists()):
                    return  # a newer one has replaced it and waits in the queue
                self._take_copy(job, scratch)
                self._export_formats(job)
            except Exception as error:  # an export must never end the training
                for name in plan.formats:
                    self._note(job, name, {"error": f"{type(error).__name__}: {error}"}, 0.0)
            finally:
                self._running = None
                storage.remove(scratch)

    def _take_copy(self, job: _Job, scratch: Path) -> None:
        """Copy the checkpoint, because it may be replaced meanwhile and the exporter writes next to it.

        Raises:
            OSError: If it cannot be copied.
        """
        source = self._checkpoints.path(job.file)
        job.copy = scratch / source.name
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                job.sha256 = storage.copy(source, job.copy).sha256
            except OSError:
                if attempt == _ATTEMPTS:
                    raise
                continue
            listed = [item for item in self._checkpoints.stored if item["sha256"] == job.sha256]
            if listed:
                job.epoch = listed[0]["epoch"]
                break
        else:
            job.epoch = epochs_in(job.copy)
        pickle_classes_by_value(job.copy)

    def _export_formats(self, job: _Job) -> None:
        reference: Mapping[str, Any] | None = None
        for name in job.plan.formats:
            mark = (job.plan.series, name, job.sha256)
            if mark in self._tried:
                continue
            if self._is_verified(job, name):
                LOGGER.info(f"{job.file} has already been exported to {name} and verified")
                continue
            LOGGER.info(f"Exporting {job.file} to {name}{' and validating it' * (job.plan.tolerance is not None)} ...")
            request = {
                **job.plan.request(name, job.copy, self._validation),
                "reference": reference,
                "nice": job.considerate,
            }
            start = time.monotonic()
            outcome = job.process.run(request, job.copy.parent, job.plan.timeout)
            if job.cancelled:
                return
            self._tried.add(mark)
            self._note(job, name, outcome, time.monotonic() - start)
            reference = outcome.get("reference")

    # ------------------------------------------------------------------------------------------ the report

    def _is_verified(self, job: _Job, name: str) -> bool:
        """Return whether an earlier part of this run has exported the same checkpoint with the same settings."""
        for item in self._items_of(job, name):
            same = (item["from"]["sha256"], item["tolerance"], item["arguments"]) == (
                job.sha256,
                job.plan.tolerance,
                dict(job.plan.arguments),
            )
            path = self._folder / str(item["file"])
            if item["passed"] and same and path.exists():
                return storage.fingerprint_tree(path) == (item["bytes"], item["sha256"])
        return False

    def _items_of(self, job: _Job, name: str) -> list[dict[str, Any]]:
        return [item for item in self._items if (item["series"], item["format"]) == (job.plan.series, name)]

    def _note(self, job: _Job, name: str, outcome: Mapping[str, Any], seconds: float) -> None:
        """Move an exported file into place, or rename it if it is rejected, and report the result."""
        error, note = verdict(outcome, job.plan.tolerance)
        source = Path(job.file)
        item: dict[str, Any] = {
            "series": job.plan.series,
            "format": name,
            "file": None,
            "passed": error is None,
            "error": error,
            "note": note,
            "from": {"file": job.file, "epoch": job.epoch, "sha256": job.sha256},
            "bytes": None,
            "sha256": None,
            "tolerance": job.plan.tolerance,
            **comparison(outcome),
            "task": outcome.get("task"),
            "names": outcome.get("names"),
            "data": self._validation["data"],
            "arguments": dict(job.plan.arguments),
            "versions": outcome.get("versions"),
            "seconds": round(seconds, 1),
            "created": now(),
        }
        old = self._items_of(job, name)
        try:
            self._place(job, item, outcome.get("file"), expected_name(source.name, name), old)
        except OSError as problem:
            item.update(passed=False, error=item["error"] or f"it cannot be moved into place: {problem}")
        gone = old if item["passed"] else [one for one in old if not one["passed"]]
        for one in gone:
            if one["file"] and one["file"] != item["file"]:
                storage.remove(self._folder / one["file"])
        self._items = [one for one in self._items if all(one is not other for other in gone)] + [item]
        self._report(job, item)

    def _place(
        self, job: _Job, item: dict[str, Any], file: str | None, expected: str, old: Iterable[Mapping[str, Any]]
    ) -> None:
        made, target = job.copy.parent / (file or expected), self._folder / (file or expected)
        log = self._folder / f"{target.name}.log"
        if item["passed"]:
            storage.put_in_place(made, target)
            storage.remove(log)
            storage.remove(target.with_name(target.name + REJECTED))
        else:
            printed = job.copy.parent / "output.log"
            if printed.exists():
                storage.put_in_place(printed, log)
            if target.exists() and all(one["file"] != target.name for one in old if one["passed"]):
                storage.put_in_place(target, target.with_name(f"{target.name}.old"))  # of another run in this folder
            target = target.with_name(target.name + REJECTED)
            if not made.exists():
                return
            storage.put_in_place(made, target)
        size, digest = storage.fingerprint_tree(target)
        item.update(file=target.name, bytes=size, sha256=digest)

    def _report(self, job: _Job, item: Mapping[str, Any]) -> None:
        what = f"{job.file}{f' (epoch {job.epoch})' * (job.epoch is not None)}"
        if item["passed"]:
            LOGGER.info(f"Exported {what} to {self._folder / str(item['file'])}{in_words(item)}")
            if item["note"]:
                LOGGER.warning(f"{item['file']}: {item['note']}")
        else:
            aside = f" It was renamed to {item['file']}." if item["file"] else ""
            aside += f" ({item['note']}.)" if item["note"] else ""
            still = [one for one in self._items_of(job, item["format"]) if one["passed"]]
            kept = f" {still[-1]['file']} is still that of epoch {still[-1]['from']['epoch']}." if still else ""
            LOGGER.error(
                f"The export of {what} to {item['format']} was REJECTED: {item['error']}.{aside}{kept} "
                f"{self._checkpoints.path(job.file)} itself is safe."
            )
        content = {"format": FORMAT, "exports": self._items}
        try:
            storage.write_json(self._folder / _REPORT, without_secrets(content))
        except OSError as error:
            LOGGER.warning(f"{self._folder / _REPORT} cannot be written: {error}")
        self._changed([in_short(one) for one in self._items])


def pickle_classes_by_value(checkpoint: Path) -> None:
    """Make a checkpoint loadable outside the user's script if that script defines the model's class.

    Raises:
        ImportError: If cloudpickle, which this needs, is not installed.
    """
    with zipfile.ZipFile(checkpoint) as parts:
        pickles = [name for name in parts.namelist() if name.endswith("data.pkl")]
        if not any(b"__main__" in parts.read(name) for name in pickles):
            return
    import cloudpickle
    import torch

    content = torch.load(checkpoint, map_location="cpu", weights_only=False)
    with storage.replacing(checkpoint) as temporary:
        torch.save(content, temporary, pickle_module=cloudpickle)
