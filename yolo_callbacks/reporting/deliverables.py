"""The files of a finished run that are worth uploading to a server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks.core.naming import WEIGHTS

GROUPS = ("logs", "plots", "checkpoints", "exports")
"""Groups of files, small ones first."""

_LOGS = ("args.yaml", "results.csv", "callbacks/*.csv", "callbacks/run.json", "callbacks/journal.jsonl")
_PLOTS = ("*.png", "*.jpg", "callbacks/*.png")
_ROLES = ("best", "restore")
_SCRATCH = (".rejected", ".old", ".log", ".tmp")


def deliverables(
    folder: Path, checkpoints: Iterable[Mapping[str, Any]], groups: Collection[str] = GROUPS
) -> dict[str, Path]:
    """Return the files of a run by their path in its directory, without scratch files and `last.pt`.

    Args:
        folder: The run directory.
        checkpoints: What callbacks keep there, as in `run.json`; only the best ones are returned.
        groups: The wanted ones of `GROUPS`.
    """
    found = {
        "logs": _matching(folder, _LOGS),
        "plots": _matching(folder, _PLOTS),
        "checkpoints": _best(folder, checkpoints),
        "exports": _matching(folder / "export", ("**/*",)),
    }
    files = (path for group in GROUPS if group in groups for path in found[group])
    return {_place(path, folder): path for path in files if path.is_file()}


def _matching(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            parts = path.relative_to(folder).parts
            if not any(part.startswith(".") or part.endswith(_SCRATCH) for part in parts):
                yield path


def _best(folder: Path, checkpoints: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    yield folder / WEIGHTS / "best.pt"
    for item in checkpoints:
        if item["role"] in _ROLES:
            yield folder / str(item["file"])


def _place(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else f"{WEIGHTS}/{path.name}"
