"""`run.json`: arguments, versions, decisions, why the run ended, and the kept checkpoints."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.secrets import without_secrets

FORMAT = 1

ISO = "%Y-%m-%dT%H:%M:%S%z"
"""The form of times: local, with the UTC offset, to the second."""


class Manifest:
    """Holds the content of `run.json` and writes it off the training thread whenever it changes.

    Args:
        path: The file.
        worker: Does the writing.
        resumed: Whether the run is resumed, and so keeps the file's content.
    """

    def __init__(self, path: Path, worker: Background, *, resumed: bool = False) -> None:
        self.path = path
        self._worker = worker
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._data: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "started": now(),
            **(read_manifest(path) if resumed else {}),
            "format": FORMAT,
            "pid": os.getpid(),  # a killed run still says "running": whoever reads this can ask for its process
            "host": socket.gethostname(),
            "status": "running",
            "stop": None,
            "eta": None,
            "error": None,
            "decisions": [],
        }

    def update(self, **fields: Any) -> None:
        """Set fields and write the file without secrets. The values must not be changed afterwards."""
        with self._lock:
            self._data.update(fields, updated=now())
        self._worker.submit("run.json", self._write)

    @property
    def content(self) -> dict[str, Any]:
        """The file's content, even if a failing disk has refused it."""
        with self._lock:
            data = dict(self._data)
        cleaned: dict[str, Any] = without_secrets(data)
        return cleaned

    @property
    def run_id(self) -> str:
        """A unique id that a resumed run keeps."""
        return str(self._data["id"])

    def remember(self, name: str, note: Mapping[str, Any]) -> None:
        """Add a note and write the file before returning."""
        with self._lock:
            self._data.update(notes={**self._data.get("notes", {}), name: dict(note)}, updated=now())
        self._write()

    def note(self, name: str) -> dict[str, Any]:
        """Return a note; empty if there is none."""
        return dict(self._data.get("notes", {}).get(name, {}))

    def _write(self) -> None:
        with self._writing:  # called from several threads; the newest content must be written last
            storage.write_json(self.path, self.content)


def manifest_of(run: Path) -> dict[str, Any]:
    """Return the content of a run directory's `run.json`; empty if there is none or it cannot be read."""
    return read_manifest(run / "callbacks" / "run.json")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the content of a `run.json`; empty if there is none or it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def now() -> str:
    """Return the local time in ISO 8601 with its UTC offset, to the second."""
    return time.strftime(ISO)
