"""Writes to a disk that may be full or read-only for a while: training goes on, and each failure is logged once."""

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
    """How a write went; known once its `with` block is over."""

    worked: bool = False


class BestEffortWrites:
    """Writes that may fail without ending the training: logged when they begin to fail, and when they work again.

    Example:
        >>> writes = BestEffortWrites()
        >>> with writes.attempt("a file", "it is left out") as attempt:
        ...     pass
        >>> attempt.worked
        True
    """

    def __init__(self) -> None:
        self._failing: set[str] = set()

    @contextmanager
    def attempt(self, what: str, consequence: str, *, within: Path | None = None) -> Iterator[Attempt]:
        """Take an `OSError` in the block for a disk that fails, log it, and go on after the block.

        Args:
            what: The file.
            consequence: What it means if it fails, for people.
            within: A folder. For code that is not ours: an error that is not of this folder's disk is raised.
        """
        attempt = Attempt()
        try:
            yield attempt
        except OSError as error:
            if within is not None and not _is_of_disk(error, within):
                raise
            if what not in self._failing:
                LOGGER.warning(f"{what} cannot be written, {consequence}; training goes on: {error}")
            self._failing.add(what)
            return
        attempt.worked = True
        if what in self._failing:
            LOGGER.info(f"{what} can be written again")
            self._failing.discard(what)

    def replace(self, path: Path, data: bytes) -> bool:
        """Replace a checkpoint atomically; if the disk fails, the old one stays. Return whether it worked."""
        with self.attempt(str(path), "the one before stays") as attempt:
            storage.replace_unsynced(path, data)
        return attempt.worked


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
