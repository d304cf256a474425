"""The process that exports and verifies a checkpoint; it has a time limit and never outlives its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.support import python_process, storage

# The process is not a rank of a distributed training and must not wait for one.
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


class ExportProcess:
    """Runs `python -m yolo_callbacks.exports.worker REQUEST`, once.

    A crash of an exporter or a runtime ends only that process, and whatever they change (threads, random state,
    handlers) is not changed here. Its output goes to a file next to the request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(self, request: Mapping[str, Any], folder: Path, timeout: float) -> dict[str, Any]:
        """Carry out a request and wait for it.

        Args:
            request: The request for `yolo_callbacks.exports.worker`.
            folder: Where request, result and output go.
            timeout: Time limit in seconds.

        Returns:
            The result as far as it got; with an `"error"` if anything went wrong.
        """
        request_file, result_file, output_file = (
            folder / name for name in ("request.json", "result.json", "output.log")
        )
        result_file.unlink(missing_ok=True)
        storage.write_json(request_file, {**request, "result": str(result_file), "parent": os.getpid()})
        failure = None
        with open(output_file, "wb") as output:
            if not self._start(request_file, output):
                return {"error": "it was cancelled"}
            try:
                failure = _failure(self._wait(timeout))
            except subprocess.TimeoutExpired:
                failure = f"it took longer than {timeout:g} s"
            finally:
                self._kill()
        try:
            result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            result = {}
            failure = failure or "its process left no result"
        if failure is not None:
            result.setdefault("error", failure)
        return result

    def cancel(self) -> None:
        """End the process, or prevent its start. Safe from any thread."""
        with self._lock:
            self._cancelled = True
        self._kill()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def _start(self, request: Path, output: Any) -> bool:
        with self._lock:
            if self._cancelled:
                return False
            self._process = subprocess.Popen(
                python_process.command("exports.worker", str(request)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                **python_process.APART,
            )
            return True

    def _wait(self, timeout: float) -> int:
        assert self._process is not None
        return self._process.wait(timeout)

    def _kill(self) -> None:
        """End the process and its children if they are still running."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        import psutil

        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        process.kill()
        process.wait()


def _failure(code: int) -> str | None:
    """Return how a process failed; None if it succeeded."""
    if code >= 0:
        return f"its process ended with exit code {code}" if code else None
    with contextlib.suppress(ValueError):
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process was killed by signal {-code}"


def _environment() -> dict[str, str]:
    """Return an environment with the same modules, in which nothing is installed or downloaded."""
    kept = {key: value for key, value in python_process.environment().items() if key not in _RANK_VARIABLES}
    return {
        **kept,
        "PYTHONFAULTHANDLER": "1",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
    }
