"""Every system call with which a process changes the files of a folder: seen, failed, cut short, or the last it makes.

The kernel itself asks: a seccomp filter in the watched process hands each of these calls to this one (Linux 5.9), from
every thread and from C++, and the process waits. So what is tried is found by tracing, and the `OSError`s are real.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import re
import select
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash import ended, fork

_NUMBERS = {
    "x86_64": {
        "read": 0,
        "write": 1,
        "open": 2,
        "stat": 4,
        "lstat": 6,
        "pread64": 17,
        "pwrite64": 18,
        "writev": 20,
        "sendfile": 40,
        "fsync": 74,
        "fdatasync": 75,
        "truncate": 76,
        "ftruncate": 77,
        "rename": 82,
        "mkdir": 83,
        "rmdir": 84,
        "link": 86,
        "unlink": 87,
        "symlink": 88,
        "getdents64": 217,
        "openat": 257,
        "mkdirat": 258,
        "newfstatat": 262,
        "unlinkat": 263,
        "renameat": 264,
        "renameat2": 316,
        "copy_file_range": 326,
        "statx": 332,
    },
    "aarch64": {
        "mkdirat": 34,
        "unlinkat": 35,
        "renameat": 38,
        "truncate": 45,
        "ftruncate": 46,
        "openat": 56,
        "getdents64": 61,
        "read": 63,
        "write": 64,
        "writev": 66,
        "pread64": 67,
        "pwrite64": 68,
        "sendfile": 71,
        "newfstatat": 79,
        "fsync": 82,
        "fdatasync": 83,
        "renameat2": 276,
        "copy_file_range": 285,
        "statx": 291,
    },
}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_READING = ("read", "pread64", "getdents64", "stat", "lstat", "newfstatat", "statx")
_OF_DESCRIPTORS = ("write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "read", "pread64", "getdents64")
_AT = ("openat", "mkdirat", "unlinkat", "newfstatat", "statx")  # a folder's descriptor, then a path
_FROM_TO = {  # where the arguments of the two paths are
    "rename": (None, 0, None, 1),
    "link": (None, 0, None, 1),
    "symlink": (None, 0, None, 1),
    "renameat": (0, 1, 2, 3),
    "renameat2": (0, 1, 2, 3),
}
_COPIES = {"sendfile": (1, 0), "copy_file_range": (0, 2)}  # the arguments of source and target
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_NUMBERS_HERE = _NUMBERS.get(platform.machine(), {})
AVAILABLE = sys.platform == "linux" and bool(_NUMBERS_HERE)

KILL, HALF = "kill", "half"
"""What to do with a call, beside an error's number: kill the process before it; do half of it, then kill."""


@dataclass(frozen=True)
class Call:
    """A system call.

    Attributes:
        name: Its name.
        path: The file or folder within the watched one; two for a rename. What is random in a name is left out.
        number: Counts the calls of this name and path, from 1.
    """

    name: str
    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.name} {self.path} #{self.number}"


Act = Callable[[Call], Any]
"""Gets a call; returns None to let it pass, the number of an error, `KILL` or `HALF`."""


def watched(folder: Path, act: Act, function: Callable[..., Any], *args: Any, log: Path, reading: bool = False) -> int:
    """Run a function in a child, and ask about every system call by which it changes a folder.

    Args:
        folder: The folder; it need not exist.
        act: Decides about each call.
        function: What to run, with `args`.
        log: File for its output.
        reading: Ask about calls that only look at the folder instead.

    Returns:
        The exit code; negative for a signal.
    """
    ours, theirs = socket.socketpair()
    child = fork(_watch, ours, theirs, reading, function, *args, log=log)
    theirs.close()
    with ours:
        _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    ending = os.pidfd_open(child)
    try:
        _Listener(listener, folder, act, child, reading).serve(ending)
        return ended(child)
    finally:
        os.close(ending)
        os.close(listener)


# ------------------------------------------------------------------------------------------------- in the child


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _watch(ours: socket.socket, theirs: socket.socket, reading: bool, function: Callable[..., Any], *args: Any) -> None:
    ours.close()
    listener = _install(reading)
    socket.send_fds(theirs, [b"\0"], [listener])
    theirs.close()
    os.close(listener)
    function(*args)


def _install(reading: bool) -> int:
    """Install the filter in this process, and return the descriptor by which the kernel asks."""
    code = _program(reading)
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(code, len(code))
    content = _Filter(len(code) // 8, ctypes.addressof(buffer))
    seccomp = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    listener = int(libc.syscall(seccomp, 1, 8, ctypes.byref(content)))  # SET_MODE_FILTER, NEW_LISTENER
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def _program(reading: bool) -> bytes:
    """Return the filter in the kernel's own code: ask about these calls, allow all others."""
    asked = [n for name, n in _NUMBERS_HERE.items() if (name in _READING) == reading and name not in ("open", "openat")]
    opens = [(_NUMBERS_HERE[name], place) for name, place in (("open", 1), ("openat", 2)) if name in _NUMBERS_HERE]
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    allow, ask = 0x7FFF0000, 0x7FC00000
    lines = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURES[platform.machine()]), (give, 0, 0, allow), (load, 0, 0, 0)]
    for number in asked:
        lines += [(equal, 0, 1, number), (give, 0, 0, ask)]
    for number, place in opens:
        wanted = (allow, ask) if reading else (ask, allow)
        flags = [(load, 0, 0, 16 + 8 * place), (any_bit, 0, 1, _WRITES), *((give, 0, 0, what) for what in wanted)]
        lines += [(equal, 0, len(flags), number), *flags]
    lines.append((give, 0, 0, allow))
    return b"".join(struct.pack("HBBI", *line) for line in lines)


# ------------------------------------------------------------------------------------------------- who is asked

_RECEIVE, _SEND = 0xC0502100, 0xC0182101


class _Listener:
    def __init__(self, listener: int, folder: Path, act: Act, child: int, reading: bool) -> None:
        self._listener, self._act, self._child = listener, act, child
        self._folder = os.path.realpath(folder)
        self._names = {number: name for name, number in _NUMBERS_HERE.items()}
        self._seen: Counter[tuple[str, str]] = Counter()

    def serve(self, ending: int) -> None:
        """Answer until the process has ended."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(ending, select.POLLIN)
        while True:
            events = dict(poll.poll())
            if events.get(self._listener, 0) & select.POLLIN:
                self._answer()
            elif ending in events or events.get(self._listener):
                return

    def _answer(self) -> None:
        asked = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, asked)
        except OSError as error:  # it has died meanwhile
            if error.errno not in (errno.ENOENT, errno.EINTR):
                raise
            return
        number, thread, _, call, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
        what = None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # likewise
            what = self._decide(thread, self._names[call], arguments)
        answer = struct.pack("QqiI", number, 0, 0, 1) if what is None else struct.pack("QqiI", number, 0, -what, 0)
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(self._listener, _SEND, answer)

    def _decide(self, thread: int, name: str, arguments: list[int]) -> int | None:
        path = self._path(thread, name, arguments)
        if path is None:
            return None
        self._seen[name, path] += 1
        what = self._act(Call(name, path, self._seen[name, path]))
        if what == HALF:
            self._do_half(thread, name, arguments)
        if what in (KILL, HALF):
            os.kill(self._child, signal.SIGKILL)
            return None
        return what

    def _path(self, thread: int, name: str, arguments: list[int]) -> str | None:
        """Return the path of a call in the folder, None if it is elsewhere."""
        if name in _FROM_TO:
            a, b, c, d = _FROM_TO[name]
            names = [
                self._inside(self._named(thread, arguments[p], None if f is None else arguments[f]))
                for f, p in ((a, b), (c, d))
            ]
            return " -> ".join(map(str, names)) if any(names) else None
        if name in _COPIES:
            return self._inside(self._opened(thread, arguments[_COPIES[name][1]]))
        if name in _OF_DESCRIPTORS:
            return self._inside(self._opened(thread, arguments[0]))
        if name in _AT:
            return self._inside(self._named(thread, arguments[1], arguments[0]))
        return self._inside(self._named(thread, arguments[0], None))

    def _inside(self, path: str) -> str | None:
        if path != self._folder and not path.startswith(self._folder + os.sep):
            return None
        path = os.path.relpath(path, self._folder)
        path = re.sub(r"\.[0-9a-f]{8}\.tmp$", ".*.tmp", path)
        return re.sub(r"(events\.out\.tfevents\.).*", r"\1*", path)

    @staticmethod
    def _opened(thread: int, descriptor: int) -> str:
        return os.readlink(f"/proc/{thread}/fd/{_signed(descriptor)}")

    @staticmethod
    def _named(thread: int, address: int, folder: int | None) -> str:
        name = os.fsdecode(_memory(thread, address, 4096).split(b"\0", 1)[0])
        if os.path.isabs(name):
            return os.path.normpath(name)
        here = "cwd" if folder is None or _signed(folder) == -100 else f"fd/{_signed(folder)}"  # AT_FDCWD
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{thread}/{here}"), name))

    def _do_half(self, thread: int, name: str, arguments: list[int]) -> None:
        """Do the first half of a call that writes, with the process's own descriptor."""
        if name == "write":
            target = _borrow(thread, arguments[0])
            os.write(target, _memory(thread, arguments[1], max(1, arguments[2] // 2)))
        elif name in _COPIES:
            source, target = (_borrow(thread, arguments[place]) for place in _COPIES[name])
            os.sendfile(target, source, None, max(1, os.fstat(source).st_size // 2))


def _memory(thread: int, address: int, size: int) -> bytes:
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        try:
            return memory.read(size)
        except OSError:  # it ends with this page
            return memory.read(4096 - address % 4096)


def _borrow(thread: int, descriptor: int) -> int:
    """Return a descriptor of our own for what another process has opened."""
    status = Path(f"/proc/{thread}/status").read_text()
    process = os.pidfd_open(int(re.search(r"Tgid:\s*(\d+)", status)[1]))
    libc = ctypes.CDLL(None, use_errno=True)
    borrowed = int(libc.syscall(438, process, _signed(descriptor), 0))  # pidfd_getfd
    if borrowed < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    os.close(process)
    return borrowed


def _signed(number: int) -> int:
    return ctypes.c_int32(number & 0xFFFFFFFF).value
