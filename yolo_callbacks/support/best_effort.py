"""A disk that may be full or read-only for a while: training goes on, and nobody is told the same thing every epoch."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yolo_callbacks.support import storage
from yolo_callbacks.support.log import LOGGER


class Disk:
    """Writes that may fail without ending the training: told when it begins to fail, and when it works again."""

    def __init__(self) -> None:
        self._failing: set[str] = set()

    def attempt(self, what: str, consequence: str, write: Callable[[], Any], *, within: Path | None = None) -> bool:
        """Call `write`, and return whether it worked.

        Args:
            what: The file.
            consequence: What it means if it fails, for people.
            write: Writes it.
            within: A folder: an error that is not of the disk that it is on is raised. For code that is not ours.
        """
        try:
            write()
        except OSError as error:
            if within is not None and not _is_of_disk(error, within):
                raise
            if what not in self._failing:
                LOGGER.warning(f"{what} cannot be written, {consequence}; training goes on: {error}")
            self._failing.add(what)
            return False
        if what in self._failing:
            LOGGER.info(f"{what} can be written again")
            self._failing.discard(what)
        return True

    def replace(self, path: Path, data: bytes) -> bool:
        """Put a checkpoint in its place at once; if the disk fails, the old one stays. Return whether it worked."""
        return self.attempt(str(path), "the one before stays", lambda: storage.replace_unsynced(path, data))


_OF_DISKS = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE")}


def _is_of_disk(error: OSError, folder: Path) -> bool:
    """Return whether an error says that a folder cannot be written to; a lost connection is an OSError, too."""
    if error.filename is None:  # a write to an open file
        return type(error) is OSError and error.errno in _OF_DISKS and error.errno is not None
    if not _lies_in(error.filename, folder):
        return False
    # what is to be written may be missing, what is to be read may not
    return not isinstance(error, FileNotFoundError) or not Path(str(error.filename)).parent.is_dir()


def _lies_in(file: Any, folder: Path) -> bool:
    if isinstance(file, int):  # of an open file all that is known is its number
        return False
    return Path(os.path.abspath(os.fsdecode(file))).is_relative_to(os.path.abspath(folder))  # noqa: PTH100, as given
