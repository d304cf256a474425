"""File writes. No other module writes files; every file is written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

UNPAIRED = "backslashreplace"
"""Writes half of a character pair, as in the path of an undecodable file name, as JSON's own escape of it."""

_CHUNK = 1 << 20
_TEMPORARY = ".tmp"
_IN_USE = (5, 32)  # Windows error codes for a file that another program has open
_PAUSES = (0.01, 0.03, 0.1, 0.3)  # seconds; a virus scanner or a reader releases a file within that time


@dataclass(frozen=True)
class StoredFile:
    """A written file: path, size in bytes, SHA-256."""

    path: Path
    size: int
    sha256: str


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; if the block succeeds, fsync the file and replace `path` with it.

    A reader sees the old file or the new one, never a part of it; a crash leaves the old one. The parent folder is
    created. After an error the temporary file is removed and `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}")
    with open(temporary, "xb"):  # with the permissions of any new file
        pass
    try:
        yield temporary
        _sync(temporary)
        _replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8) atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", UNPAIRED))


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def replace_unsynced(path: Path, data: bytes) -> None:
    """Replace a file atomically without waiting for the disk: for files that can be rebuilt from the journal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    try:
        temporary.write_bytes(data)
        _replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # report the first error, not a failed cleanup
            temporary.unlink()
        raise


def open_for_dump(path: Path) -> IO[bytes]:
    """Return an open file, unbuffered, to which C code can append at any moment; the caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "ab", buffering=0)


def append_lines(path: Path, text: str, *, sync: bool = True) -> None:
    """Append whole lines and, by default, wait until they are on disk.

    A crash may leave the last line incomplete; the journal's reader allows for that. An error (a full disk) leaves the
    file unchanged, so that the same lines can be tried again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:  # a buffer would be written once more when the file is closed
        size, rest = file.tell(), memoryview(text.encode("utf-8", UNPAIRED))
        try:
            while rest:  # a disk that is nearly full takes only a part
                rest = rest[file.write(rest) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, size)
            raise


def copy(source: Path, target: Path, edit: Callable[[Path], None] | None = None) -> StoredFile:
    """Replace `target` atomically with a copy of a file, never with a link.

    Args:
        source: The file to copy.
        target: The path of the copy.
        edit: Changes the copy before it replaces the target.

    Raises:
        OSError: If a file cannot be read or written, or the source changes while it is copied.
    """
    before = source.stat()
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        after = source.stat()
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
            raise OSError(f"{source} changed while it was copied")
        return _finish(temporary, target, edit)


def rename(source: Path, target: Path) -> None:
    """Rename a file atomically and wait until the new name is on disk."""
    _replace(source, target)
    _sync(target.parent)


def duplicate(source: Path, target: Path) -> None:
    """Copy a file atomically, without a checksum."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def write_bytes(data: bytes, target: Path, edit: Callable[[Path], None] | None = None) -> StoredFile:
    """Replace a file with these bytes atomically; `edit` as in `copy`."""
    with replacing(target) as temporary:
        temporary.write_bytes(data)
        return _finish(temporary, target, edit)


def _finish(temporary: Path, target: Path, edit: Callable[[Path], None] | None) -> StoredFile:
    if edit is not None:
        edit(temporary)
    return StoredFile(target, *fingerprint(temporary))


def fingerprint(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def fingerprint_tree(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file or a folder.

    A folder's hash is that of its sorted lines `<SHA-256 of the file>  <name>`, as `sha256sum` prints them.
    """
    if not path.is_dir():
        return fingerprint(path)
    digest, total = hashlib.sha256(), 0
    names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    for name in names:
        size, own = fingerprint(path / name)
        digest.update(f"{own}  {name}\n".encode())
        total += size
    return total, digest.hexdigest()


def put_in_place(source: Path, target: Path) -> None:
    """Move a file or a folder within one disk, replacing the target.

    A file is replaced atomically. A folder is removed first, so for a moment there is none.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in (source, *source.rglob("*")):
        if path.is_file():
            _sync(path)
    if source.is_dir() or target.is_dir():
        remove(target)
    rename(source, target)


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def remove_empty(folder: Path) -> None:
    """Remove a folder if there is nothing in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def size(path: Path) -> int:
    """Return a file's size in bytes, 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def cut_back(path: Path, size: int) -> None:
    """Truncate a text file after its last whole line if it has grown beyond `size`; ignore a failing disk."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > size:
            with open(path, "rb") as file:
                file.seek(size)
                whole = file.read().rfind(b"\n") + 1
            os.truncate(path, size + whole)


def replace_tail(path: Path, size: int, text: str) -> None:
    """Replace what a file has beyond its first `size` bytes, in place; for a file that nothing depends on."""
    with open(path, "r+b") as file:
        file.seek(size)
        file.write(text.encode())
        file.truncate()


def is_whole(archive: Path) -> bool:
    """Return whether a checkpoint (a zip archive) exists and all its parts match their checksums."""
    try:
        with zipfile.ZipFile(archive) as parts:
            return parts.testzip() is None
    except Exception:  # a damaged archive may ask for a password, or for a method that zipfile does not know
        return False


def new_folder(path: Path) -> Path:
    """Create a new folder: `x`, or `x-2`, `x-3`, ... if that exists."""
    number = 1
    while True:
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left in a folder."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        remove(path)


def set_aside(path: Path) -> Path:
    """Copy a file of an earlier run, so that it can be rewritten: `x.jsonl` -> `x.1.jsonl`, `x.2.jsonl`, ...

    The original is left in place, so a crash in between loses nothing.

    Returns:
        The path of the copy.
    """
    number = 1
    while (target := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    duplicate(path, target)
    return target


def _replace(source: Path, target: Path) -> None:
    """Rename a file, with retries: Windows refuses while another program has either file open."""
    for pause in _PAUSES:
        try:
            os.replace(source, target)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(pause)
        else:
            return
    os.replace(source, target)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk. Windows cannot open a folder, and need not."""
    try:
        # Windows cannot sync a file opened for reading
        descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network file systems refuse to sync a folder
            raise
    finally:
        os.close(descriptor)
