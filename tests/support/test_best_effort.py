"""Which errors of code that is not ours say that the disk fails, and which are somebody's own."""

import errno
import socket
import ssl

import pytest

from yolo_callbacks.support.best_effort import BestEffortWrites


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied", "{run}/results.csv"),
        OSError(errno.EROFS, "Read-only file system", "{run}/results.csv"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "{run}/results.csv"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "{run}/weights/last.pt"),  # the folder is gone
    ],
    ids=str,
)
def test_what_is_of_the_disk_ends_no_training(error, tmp_path):
    if error.filename:
        error.filename = error.filename.format(run=tmp_path)
    with BestEffortWrites().attempt("a file", "it is left out", within=tmp_path) as attempt:
        raise error
    assert not attempt.worked


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("the server is down"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ssl.SSLError(ssl.SSL_ERROR_SYSCALL, "the number is that of EIO"),
        OSError("my own"),
        OSError(errno.ECONNREFUSED, "refused"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "{run}/mine.csv"),  # is read, and is not there
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a-command"),
    ],
    ids=str,
)
def test_what_is_not_of_the_disk_comes_out(error, tmp_path):
    if error.filename:
        error.filename = error.filename.format(run=tmp_path)
    with (
        pytest.raises(type(error)) as raised,
        BestEffortWrites().attempt("a file", "it is left out", within=tmp_path),
    ):
        raise error
    assert raised.value is error
