"""Finds runs: from files, run directories, trees of them, and globs."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Union

from yolo_callbacks.core import naming

RESULTS = "results.csv"
JOURNAL = Path(naming.JOURNAL)
_WITHOUT_RUNS = {"weights", "callbacks", "export"}  # subfolders of a run, which hold no other run

Paths = Union[str, "os.PathLike[str]", Iterable[Union[str, "os.PathLike[str]"]]]
"""A path or glob, or several."""


@dataclass(frozen=True)
class Skipped:
    """Something that was not replayed.

    Attributes:
        path: The run, or the path or glob that was given.
        reason: Why, such as `"is empty"`.
        rule: The rule that was not replayed; empty for all of them.
    """

    path: str
    reason: str
    rule: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.reason}" + (f" ({self.rule})" if self.rule else "")


@dataclass(frozen=True)
class LogFiles:
    """The logs of one run.

    Attributes:
        folder: The run directory.
        results: Ultralytics' log; None if there is none.
        journal: This package's; None if there is none, or only `results` was given.
        name: Name of the run.
    """

    folder: Path
    results: Path | None
    journal: Path | None = None
    name: str = ""


def find_logs(paths: Paths) -> tuple[list[LogFiles], list[Skipped]]:
    """Return the runs, each once, and the paths without any.

    Args:
        paths: A run directory means that run, any other directory all runs in it. A file means that file alone, even
            if its run has a journal. A path that does not exist is a glob.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: dict[tuple[Path | None, Path | None], LogFiles] = {}
    missing: list[Skipped] = []
    for item in given:
        logs = [logs for path in expanded(str(item)) for logs in _logs_at(path)]
        found.update({(log.results, log.journal): log for log in logs})
        if not logs:
            missing.append(Skipped(str(item), _why_nothing(str(item))))
    return _named(list(found.values())), missing


def expanded(path: str) -> list[Path]:
    """Return the paths that a path or glob means, `train2` before `train10`."""
    if _exists(path) or not glob.has_magic(path):
        return [Path(path)]
    matches = glob.glob(path, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
    return sorted(map(Path, matches), key=lambda path: [_natural(part) for part in path.parts])


def _why_nothing(path: str) -> str:
    if glob.has_magic(path) and not _exists(path):
        return "matches no run"
    return f"contains no {RESULTS}" if _is_dir(path) else "does not exist"


def _logs_at(path: Path) -> Iterator[LogFiles]:
    """Yield the runs at a path."""
    path = Path(os.path.abspath(path))  # noqa: PTH100, resolve() would show the targets of links
    if _is_dir(path):
        for folder, folders, _ in os.walk(path):
            folders[:] = sorted((name for name in folders if name not in _WITHOUT_RUNS), key=_natural)
            results, journal = Path(folder, RESULTS), Path(folder) / JOURNAL
            logs = results if results.is_file() else None, journal if journal.is_file() else None
            if any(logs):
                yield LogFiles(Path(folder), *logs)
    elif path.name == JOURNAL.name and _exists(path):
        yield LogFiles(path.parent.parent, None, path)
    elif _exists(path):
        yield LogFiles(path.parent, path)


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110, Path's own raises for a name that is too long


def _is_dir(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112, as above


def _named(logs: list[LogFiles]) -> list[LogFiles]:
    """Name each run by its folder, relative to their common parent; by its file if a folder holds several."""
    counted = Counter(log.folder for log in logs)
    labels = [str(log.folder if counted[log.folder] == 1 else log.results or log.journal) for log in logs]
    try:
        common = os.path.commonpath([str(Path(label).parent) for label in labels])
    except ValueError:  # several drives, or no run
        return [replace(log, name=label) for log, label in zip(logs, labels)]
    return [replace(log, name=os.path.relpath(label, common)) for log, label in zip(logs, labels)]


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort `train2` before `train10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
