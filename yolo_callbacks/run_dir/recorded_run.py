"""RecordedRun: a run read from its directory, such as one that other processes trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_callbacks.core.decision import Decision, Stop, StopReason
from yolo_callbacks.core.entry import Entry, JournalContent
from yolo_callbacks.core.naming import JOURNAL
from yolo_callbacks.core.record import Plan
from yolo_callbacks.run_dir.journal import read_journal
from yolo_callbacks.run_dir.manifest import manifest_of


class RecordedRun:
    """Reads the files at each access: the run may still be training in another process.

    Args:
        folder: The run directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of `run.json`; empty if there is none."""
        return manifest_of(self.folder)

    @property
    def journal(self) -> JournalContent:
        """The content of the journal; empty if there is none."""
        path = self.folder / JOURNAL
        return read_journal(path) if path.exists() else JournalContent(Plan(), (), [])

    @property
    def entries(self) -> list[Entry]:
        """The epochs."""
        return self.journal.entries

    @property
    def decisions(self) -> list[Decision]:
        """All decisions, oldest first."""
        return self.journal.decisions

    @property
    def stop(self) -> Stop | None:
        """Why the run ended before its last planned epoch; None if it did not end early."""
        stop = self.manifest.get("stop")
        if stop:
            return Stop(stop["message"], stop["epoch"], reason=StopReason(stop["reason"]))
        entries = self.entries
        return entries[-1].stop if entries else None

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return bool(self.manifest.get("status", "running") != "running")

    @property
    def restored(self) -> Path | None:
        """The checkpoint whose weights a completed run has restored; None if it restored none."""
        manifest = self.manifest
        files = [str(item["file"]) for item in manifest.get("checkpoints", []) if item.get("role") == "restore"]
        return self.folder / files[0] if files and manifest.get("status") in ("finished", "stopped") else None
