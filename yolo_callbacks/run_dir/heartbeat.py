"""The heartbeats of a run: one small file per rank that says how far it is. Written by `Watchdog`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage

HEARTBEAT = "heartbeat.json"
_MOST_STALLS = 20  # files of stacks in a run directory


def of_rank(name: str, rank: int) -> str:
    """Return the name of a rank's own file.

    Example:
        >>> of_rank("heartbeat.json", 0), of_rank("heartbeat.json", 2)
        ('heartbeat.json', 'heartbeat-rank-2.json')
    """
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-rank-{rank}{dot}{suffix}" if rank else name


def write_heartbeat(folder: Path, rank: int, beat: Mapping[str, Any]) -> None:
    """Replace the heartbeat of a rank atomically, without waiting for the disk."""
    data = json.dumps(beat, ensure_ascii=False, allow_nan=False)
    storage.replace_unsynced(folder / of_rank(HEARTBEAT, rank), f"{data}\n".encode())


def read_heartbeats(folder: Path, ranks: int) -> dict[int, dict[str, Any]]:
    """Return the heartbeats of all ranks; one that is missing or cannot be read is left out."""
    found: dict[int, dict[str, Any]] = {}
    for rank in range(ranks):
        try:
            beat = json.loads((folder / of_rank(HEARTBEAT, rank)).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(beat, dict):
            found[rank] = beat
    return found


def remove_heartbeats(folder: Path, *, first_rank: int = 1) -> None:
    """Remove the heartbeats of the ranks from this one on, such as those of an earlier part of the run."""
    for path in folder.glob("heartbeat-rank-*.json"):
        rank = path.stem.rpartition("-")[2]
        if rank.isdigit() and int(rank) >= first_rank:
            storage.remove(path)


def next_stall_file(folder: Path, rank: int) -> Path | None:
    """Return an unused path `stall-<n>.txt` for stacks; None if there are 20 of them."""
    paths = (folder / of_rank(f"stall-{number}.txt", rank) for number in range(1, _MOST_STALLS + 1))
    return next((path for path in paths if not path.exists()), None)
