"""The process that exports and verifies a checkpoint: bounded in time, and it never outlives its parent."""

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

# The process takes no part in a training of several ranks, and must not wait for one.
_OF_A_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


class ExportProcess:
    """Runs `python -m yolo_callbacks.exports.worker REQUEST`, once.

    A crash of an exporter, or of what loads the exported file, ends that process alone; and nothing that they change
    (threads, random state, handlers) is changed here. What it prints goes to a file next to the request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(self, request: Mapping[str, Any], folder: Path, timeout: float) -> dict[str, Any]:
        """Let a request be carried out and wait for it.

        Args:
            request: What `yolo_callbacks.exports.worker` is asked for.
            folder: Where request, result and what is printed go.
            timeout: The most seconds that it may take.

        Returns:
            What it told, as far as it came; with an `"error"` if anything went wrong.
        """
        asked, told, printed = (folder / name for name in ("request.json", "result.json", "output.log"))
        told.unlink(missing_ok=True)
        storage.write_json(asked, {**request, "result": str(told), "parent": os.getpid()})
        why = None
        with open(printed, "wb") as output:
            if not self._start(asked, output):
                return {"error": "it was cancelled"}
            try:
                why = _how_it_ended(self._wait(timeout))
            except subprocess.TimeoutExpired:
                why = f"it took longer than {timeout:g} s"
            finally:
                self._kill()
        try:
            result: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            result = {}
        if why is not None:
            result.setdefault("error", why)
        return result

    def cancel(self) -> None:
        """End it now, or keep it from being started. Safe from any thread."""
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
        """End the process, and what it may have started, if they are still there."""
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


def _how_it_ended(code: int) -> str | None:
    """Return what a process died of; None if it ended well."""
    if code >= 0:
        return f"its process ended with exit code {code}" if code else None
    with contextlib.suppress(ValueError):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process was ended by signal {-code}"


def _environment() -> dict[str, str]:
    """Return an environment with which the same modules are found, nothing is installed, and nothing downloaded."""
    kept = {key: value for key, value in python_process.environment().items() if key not in _OF_A_RANK}
    return {
        **kept,
        "PYTHONFAULTHANDLER": "1",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
    }
