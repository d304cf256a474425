"""Stacks of all threads, also while C code holds the interpreter."""

import sys
import threading

import pytest

from tests import programs
from yolo_callbacks.support import stacks


def test_all_threads_and_what_they_are_in():
    begun, go_on = threading.Event(), threading.Event()

    def waits_here():
        begun.set()
        go_on.wait(30)

    thread = threading.Thread(target=waits_here, name="the other one", daemon=True)
    thread.start()
    begun.wait(30)
    text, swapped = (stacks.all_threads(ident) for ident in (threading.get_ident(), thread.ident))
    go_on.set()
    thread.join()
    main, other = text.index(": MainThread\n"), text.index(": the other one (daemon)\n")
    assert main < other
    assert swapped.index("the other one") < swapped.index("MainThread")
    assert "in waits_here" in text[other:]
    assert text.index("in test_all_threads_and_what_they_are_in") < text.index("in all_threads")


def test_one_thread_innermost_first():
    functions = [function for _, _, function in stacks.stack_of(threading.get_ident())]
    assert functions.index("stack_of") < functions.index("test_one_thread_innermost_first")
    assert stacks.stack_of(-1) == []


# in a process of its own: faulthandler shows at most 100 threads, and a test process may have more
FROZEN = """
import ctypes, sys
from pathlib import Path
from yolo_callbacks.support import stacks

def holds_the_interpreter():
    ctypes.PyDLL(None).usleep(2_000_000)  # a PyDLL keeps the lock; the dump has a thread that may start late

dump = stacks.FrozenDump(Path(sys.argv[1]))
dump.postpone(0.2)
holds_the_interpreter()
dump.cancel()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="usleep is POSIX")
def test_c_code_that_holds_the_interpreter_is_seen(tmp_path):
    done = programs.run(["-c", FROZEN, tmp_path / "callbacks" / "frozen.txt"])
    assert done.returncode == 0, done.stderr
    assert "in holds_the_interpreter" in (tmp_path / "callbacks" / "frozen.txt").read_text()


def test_nothing_is_left_if_nothing_happened(tmp_path):
    dump = stacks.FrozenDump(tmp_path / "frozen.txt")
    dump.cancel()
    dump.postpone(30.0)
    dump.postpone(30.0)
    dump.cancel()
    assert list(tmp_path.iterdir()) == []
