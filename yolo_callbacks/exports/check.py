"""Checks before a training whether its model can be exported: formats, one after the other, in a separate process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.exports.export import pickle_classes_by_value
from yolo_callbacks.exports.formats import FOLDER
from yolo_callbacks.exports.plan import ExportPlan
from yolo_callbacks.exports.process import ExportProcess
from yolo_callbacks.exports.verdict import outputs_verdict
from yolo_callbacks.support import storage


@dataclass(frozen=True)
class CheckedFormat:
    """What came of one format.

    Attributes:
        name: The format.
        seconds: How long it took.
        error: Why the model cannot be exported to it; None if it can.
        note: What else is to be said, or None.
        log: What the exporter has printed, if it failed and the file could be written.
    """

    name: str
    seconds: float
    error: str | None = None
    note: str | None = None
    log: Path | None = None


class ModelCheck:
    """Exports a model to some formats, loads what comes out, and compares the outputs. Leaves only logs of failures.

    Args:
        plan: The formats and their arguments.
        settings: The training's validation arguments.
        save_dir: The run directory, for the logs.
        considerate: Whether the training is running, so the check must not slow it down.
    """

    def __init__(self, plan: ExportPlan, settings: Mapping[str, Any], save_dir: Path, *, considerate: bool) -> None:
        self._plan = plan
        self._settings = settings
        self._logs = save_dir / FOLDER
        self._considerate = considerate
        self._process = ExportProcess()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._process.cancelled

    def cancel(self) -> None:
        """End the running export, and start no other. Safe from any thread."""
        self._process.cancel()

    def run(self, checkpoint: bytes) -> Iterator[CheckedFormat]:
        """Check the formats, and yield what came of each.

        Raises:
            OSError: If the checkpoint cannot be written to a temporary folder.
            ImportError: If the user's script defines the model's class, and cloudpickle is not installed.
        """
        with tempfile.TemporaryDirectory(prefix="yolo-callbacks-", ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "model.pt"
            storage.write_bytes(checkpoint, path)
            pickle_classes_by_value(path)
            for name in self._plan.formats:
                start = time.monotonic()
                extra = {"reference": None, "outputs": True, "nice": self._considerate}
                request = {**self._plan.request(name, path, self._settings), **extra}
                outcome = self._process.run(request, path.parent, self._plan.timeout)
                if self.cancelled:
                    return
                error, note = outputs_verdict(outcome)
                log = self._keep_log(name, path.parent / "output.log", failed=error is not None)
                yield CheckedFormat(name, time.monotonic() - start, error, note, log)

    def _keep_log(self, name: str, printed: Path, *, failed: bool) -> Path | None:
        """Keep what a failed export has printed, and remove what an earlier one has."""
        log = self._logs / f"check-{name}.log"
        if not failed:
            storage.remove(log)
            return None
        try:
            storage.duplicate(printed, log)
        except OSError:
            return None
        return log
