"""LiveRun: a run in this process, with the same properties as a `RecordedRun`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Decision, Stop
from yolo_callbacks.core.entry import Entry
from yolo_callbacks.session.session import Session


class LiveRun:
    """Reads the state of a session, during the run and after it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self._session.run.save_dir

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of `run.json`; empty until the run has opened, since the file may be another run's."""
        return self._session.files.manifest.content if self._session.opened and self._session.run.is_main else {}

    @property
    def entries(self) -> list[Entry]:
        """The epochs so far."""
        return self._session.entries

    @property
    def decisions(self) -> list[Decision]:
        """All decisions so far, oldest first."""
        return list(self._session.ledger.decisions)

    @property
    def stop(self) -> Stop | None:
        """Why the run ended before its last planned epoch; None while it runs or if it did not end early."""
        return self._session.stop_decision

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._session.ended
