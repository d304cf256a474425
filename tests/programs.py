"""Python programs in processes of their own, `python -c CODE` or `python -m MODULE`, without most of the wait.

A process that trains for a second spends five more on importing torch and its like. Here one server per test process
imports those once, and each program is a fork of it. Ultralytics and this package are not among them: they read
environment variables when they are imported, so each program imports them anew. Output, signals, exit codes and what
runs at the interpreter's end are those of any Python process; only `/proc` shows the server's command and environment
(`command_and_environment` tells a program's own), and its parent is the server.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
HEAVY = ("cv2", "matplotlib", "pandas", "polars", "psutil", "requests", "torch._dynamo", "torchvision", "yaml")
POLL = 0.01  # seconds
SERVER = "YOLO_CALLBACKS_TEST_SERVER"
"""Names the socket of the server to a program that starts programs, too."""
FORKS = sys.platform == "linux"  # macOS has libraries that do not survive a fork, and Windows has no fork


def import_heavy() -> None:
    """Import what takes long and reads nothing of ours from the environment."""
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()


def environment() -> dict[str, str]:
    """Return this process's environment without pytest's variables, with which Ultralytics saves elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def run(words, *, cwd=None, env=None, timeout=300, **options) -> subprocess.CompletedProcess[str]:
    """Run `python WORD ...` to its end, and return its exit code and output, as `subprocess.run` does."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        program = start(words, cwd=cwd, env=env, stdout=stdout, stderr=stderr, **options)
        try:
            code = program.wait(timeout)
        except BaseException:
            program.kill()
            raise
        texts = [file.seek(0) or file.read() for file in (stdout, stderr)]
    return subprocess.CompletedProcess(list(words), code, *texts)


def start(words, *, cwd=None, env=None, stdout, stderr, start_new_session=False):
    """Start `python WORD ...`, and return an object with the methods of `subprocess.Popen`.

    Args:
        words: `"-c"` and code, or `"-m"` and a module, or `"-u"` and a file, and the arguments.
        cwd: The folder it starts in; this one without.
        env: Its environment variables; without it, `environment()`.
        stdout: An open file, or `subprocess.PIPE` to read from `.stdout`.
        stderr: An open file, or `subprocess.STDOUT`.
        start_new_session: Whether it leads a process group of its own.
    """
    env = environment() if env is None else env
    if not FORKS:
        words, options = [sys.executable, *map(str, words)], {"text": True, "start_new_session": start_new_session}
        return subprocess.Popen(words, cwd=cwd, env=env, stdout=stdout, stderr=stderr, **options)
    read = None
    if stdout == subprocess.PIPE:
        read, write = os.pipe()
        stdout = os.fdopen(write, "w")
    stderr = stdout if stderr == subprocess.STDOUT else stderr
    request = {
        "words": [str(word) for word in words],
        "cwd": str(cwd or Path.cwd()),
        "env": dict(env),
        "session": start_new_session,
        "parent": os.getpid(),
    }
    try:
        return Program(request, (stdout.fileno(), stderr.fileno()), read)
    finally:
        if read is not None:
            stdout.close()


class Subprocess:
    """What the package's own processes need of the module `subprocess`: plots and exports become programs, too."""

    DEVNULL, STDOUT, TimeoutExpired = subprocess.DEVNULL, subprocess.STDOUT, subprocess.TimeoutExpired

    @staticmethod
    def run(words, *, timeout, env, start_new_session, **_):
        return run(words[1:], timeout=timeout, env=env, start_new_session=start_new_session)

    @staticmethod
    def Popen(words, *, env, stdout, start_new_session, **_):
        return start(words[1:], env=env, stdout=stdout, stderr=stdout, start_new_session=start_new_session)


class Program:
    """A running program, with what the tests need of `subprocess.Popen`."""

    def __init__(self, request, files, read):
        self.args, self.returncode = request["words"], None
        self.stdout = None if read is None else os.fdopen(read, encoding="utf-8", errors="replace")
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server())
        socket.send_fds(self._connection, [b"\0"], files)
        self._answers = self._connection.makefile("rwb")
        self._answers.write(json.dumps(request).encode() + b"\n")
        self._answers.flush()
        self.pid = int(self._answers.readline())

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def poll(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout):
        """Read all output, wait for the end, and return both outputs. What takes longer is killed."""
        guard = threading.Timer(timeout, self.kill)
        guard.start()
        text = self.stdout.read()
        guard.cancel()
        self.wait()
        return text, None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.stdout:
            self.stdout.close()
        self.kill()
        self.wait()


def command_and_environment(process: psutil.Process) -> tuple[list[str], dict[str, str]]:
    """Return a process's words and environment variables, also if it is a program that is running.

    Raises:
        psutil.Error: If it has ended.
    """
    with contextlib.suppress(OSError, ValueError):
        return tuple(json.loads(_facts(server(), process.pid).read_text()))
    return process.cmdline(), process.environ()


def _facts(server: str, program: int) -> Path:
    return Path(server).with_name(f"{program}.json")


def server() -> str:
    """Return the path of the server's socket: this process's own server, or that of whoever has started it."""
    return os.environ.get(SERVER) or _own_server()


@functools.cache
def _own_server() -> str:
    path = Path(tempfile.mkdtemp(dir="/tmp")) / "socket"  # the path of a socket has at most 100 bytes
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.programs", str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # it ends with this process
        stdout=subprocess.PIPE,
    )
    server.stdout.readline()

    def end():
        server.stdin.close()
        server.wait()
        shutil.rmtree(path.parent, ignore_errors=True)

    atexit.register(end)
    return str(path)


# --------------------------------------------------------------------------------------------------- in the server


def serve(path: str) -> tuple[dict, list[int]] | None:
    """Fork for each program that is asked for. Return in the child with what it is to do, in the server at its end."""
    import_heavy()
    children: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [], POLL if children else None)
            if sys.stdin in ready:
                return None
            if listener in ready:
                connection, _ = listener.accept()
                _, files, _, _ = socket.recv_fds(connection, 1, 2)
                request = json.loads(connection.makefile("rb").readline())
                child = os.fork()
                if not child:
                    for other in (connection, *children.values()):
                        other.close()
                    return request, files
                for file in files:
                    os.close(file)
                _facts(path, child).write_text(json.dumps([request["words"], request["env"]]))
                connection.sendall(b"%d\n" % child)
                children[child] = connection
            while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                _facts(path, ended[0]).unlink()
                with children.pop(ended[0]) as connection, contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))


def become(request: dict, files: list[int]) -> None:
    """Turn this fork of the server into the program."""
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.getppid = lambda: request["parent"]
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    how, what, *arguments = request["words"]
    first = request["cwd"] if how == "-m" else ""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [first, *filter(None, named), *sys.path[1:]]
    sys.argv = [how, *arguments]
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    if how == "-m":
        runpy._run_module_as_main(what)
    elif how == "-u":
        exec(compile(Path(what).read_text(), what, "exec"), main.__dict__)
    else:
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    asked = serve(sys.argv[1])
    if asked:
        become(*asked)
