"""`run.json`: arguments, versions, decisions, why the run ended, and the kept checkpoints."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import StopReason
from yolo_callbacks.support import storage
from yolo_callbacks.support.background import Background
from yolo_callbacks.support.log import LOGGER
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
        earlier = read_manifest(path) if resumed else {}
        if resumed and not earlier and storage.size(path):
            LOGGER.warning(f"{path} cannot be read and is kept as {storage.set_aside(path)}")
        self._data: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "started": now(),
            **earlier,
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
    """Return the content of a `run.json`; empty if there is none or it cannot be read.

    A field that is not of the form in which it is written is left out: others may have edited the file, or a disk
    damaged it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    known = {name: check(data[name]) for name, check in _FORMS.items() if name in data}
    return {name: value for name, value in {**data, **known}.items() if value is not _MALFORMED}


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _MALFORMED


def _stop(value: Any) -> Any:
    if value is None:
        return None
    reasons = [reason.value for reason in StopReason]
    fits = isinstance(value, dict) and isinstance(value.get("message"), str) and value.get("reason") in reasons
    return value if fits and type(value.get("epoch")) is int else _MALFORMED


def _notes(value: Any) -> Any:
    notes = value.items() if isinstance(value, dict) else ()
    return {name: note for name, note in notes if isinstance(note, dict)}


def _checkpoints(value: Any) -> Any:
    def fits(item: dict[str, Any]) -> bool:
        return "file" in item and all(isinstance(item[name], _TYPES[name]) for name in _TYPES if name in item)

    return [item for item in _items(value) if fits(item)]


def _exports(value: Any) -> Any:
    def fits(item: dict[str, Any]) -> bool:
        if not item.get("passed", True):
            return "format" in item and "error" in item
        fitness = item.get("fitness", {})
        values = fitness.values() if isinstance(fitness, dict) else ("damaged",)
        return "file" in item and all(value is None or isinstance(value, (int, float)) for value in values)

    return [item for item in _items(value) if fits(item)]


def _items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _callbacks(value: Any) -> Any:
    fits = isinstance(value, dict) and all(
        isinstance(item, dict) and isinstance(item.get("class"), str) for item in value.values()
    )
    return value if fits else _MALFORMED


_MALFORMED = object()
_TYPES: dict[str, Any] = {
    "file": str,
    "role": str,
    "epoch": int,
    "monitor": (str, type(None)),
    "value": (int, float, type(None)),
}
_FORMS: dict[str, Callable[[Any], Any]] = {
    "id": _text,
    "started": _text,
    "status": _text,
    "stop": _stop,
    "notes": _notes,
    "checkpoints": _checkpoints,
    "exports": _exports,
    "callbacks": _callbacks,
}


def now() -> str:
    """Return the local time in ISO 8601 with its UTC offset, to the second."""
    return time.strftime(ISO)
