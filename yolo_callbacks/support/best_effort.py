"""Writes to a disk that may be full or read-only for a while: each failure is logged once; training continues."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER


@dataclass
class Attempt:
    """Whether a write worked; known after its `with` block."""

    worked: bool = False


class BestEffortWrites:
    """Writes that may fail without ending the training; logs when a file starts to fail and when it works again.

    Example:
        >>> writes = BestEffortWrites()
        >>> with writes.attempt("a file", "it is skipped") as attempt:
        ...     pass
        >>> attempt.worked
        True
    """

    def __init__(self) -> None:
        self._failing: set[str] = set()

    @contextmanager
    def attempt(self, what: str, consequence: str, *, within: Path | None = None) -> Iterator[Attempt]:
        """Treat an `OSError` in the block as a failing disk: log it and continue after the block.

        Args:
            what: The file.
            consequence: What a failure means, for the log.
            within: A folder. For code that is not ours: an error that does not concern this folder is raised.
        """
        attempt = Attempt()
        try:
            yield attempt
        except OSError as error:
            if within is not None and not _is_disk_error(error, within):
                raise
            if what not in self._failing:
                LOGGER.warning(f"{what} cannot be written, {consequence}; training continues: {error}")
            self._failing.add(what)
            return
        attempt.worked = True
        if what in self._failing:
            LOGGER.info(f"{what} can be written again")
            self._failing.discard(what)

    def replace(self, path: Path, data: bytes) -> bool:
        """Replace a checkpoint atomically and return whether it worked; if the disk fails, keep the old one."""
        with self.attempt(str(path), "the previous one is kept") as attempt:
            storage.replace_unsynced(path, data)
        return attempt.worked


_DISK_ERRORS = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE")}


def _is_disk_error(error: OSError, folder: Path) -> bool:
    """Return whether an error means that a folder cannot be written to; a lost connection is an OSError too."""
    if error.filename is None:  # a write to an open file
        return type(error) is OSError and error.errno in _DISK_ERRORS and error.errno is not None
    if not _is_inside(error.filename, folder):
        return False
    # a file to write may be missing, a file to read may not
    return not isinstance(error, FileNotFoundError) or not Path(str(error.filename)).parent.is_dir()


def _is_inside(file: Any, folder: Path) -> bool:
    if isinstance(file, int):  # the descriptor of an open file, which has no path
        return False
    return Path(os.path.abspath(os.fsdecode(file))).is_relative_to(os.path.abspath(folder))  # noqa: PTH100, as given
