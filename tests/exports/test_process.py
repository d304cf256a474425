"""The process that exports: what it is given, how it ends, and what is known then."""

import os
import sys
import threading

import psutil
import pytest

from tests.helpers import wait_for
from yolo_callbacks.exports.process import ExportProcess
from yolo_callbacks.support import python_process


def test_a_process_that_fails_says_how(tmp_path):
    """The request names a checkpoint that is not there."""
    request = {"checkpoint": str(tmp_path / "no.pt"), "format": "onnx", "arguments": {}, "nice": True}
    told = ExportProcess().run(request, tmp_path, timeout=60)
    assert told["error"].startswith("FileNotFoundError")
    assert "Traceback" in (tmp_path / "output.log").read_text()
    assert ExportProcess().run(request, tmp_path, timeout=0.01)["error"] == "it took longer than 0.01 s"
    called_off = ExportProcess()
    called_off.cancel()
    assert called_off.run(request, tmp_path, timeout=60)["error"] == "it was cancelled"


@pytest.fixture
def program(monkeypatch):
    """Have a short program run in place of the worker; `request` is what it is asked for."""

    def set_program(text):
        start = "import json, os, sys, time\nrequest = json.load(open(sys.argv[2]))\n"
        monkeypatch.setattr(
            python_process, "command", lambda *words: [sys.executable, "-S", "-c", start + text, *words]
        )

    return set_program


TOLD = "json.dump(told, open(request['result'], 'w'))\n"
RESULT = "told = {'file': 'a.onnx'}; " + TOLD


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (RESULT, {"file": "a.onnx"}),
        (RESULT + "sys.exit(3)", {"file": "a.onnx", "error": "its process ended with exit code 3"}),
        ("sys.exit(3)", {"error": "its process ended with exit code 3"}),
        (
            "json.dump({'error': 'no room'}, open(request['result'], 'w')); sys.exit(1)",
            {"error": "no room"},  # its own reason says more
        ),
        ("", {"error": "its process left no result"}),
        ("open(request['result'], 'w').write('{'); sys.exit(3)", {"error": "its process ended with exit code 3"}),
        pytest.param(
            RESULT + "os.kill(os.getpid(), 11)",
            {"file": "a.onnx", "error": "its process was killed by SIGSEGV"},
            marks=pytest.mark.skipif(os.name != "posix", reason="signals"),
        ),
    ],
)
def test_what_is_known_however_it_ends(text, result, program, tmp_path):
    program(text)
    (tmp_path / "result.json").write_text('{"file": "of an earlier one"}')
    assert ExportProcess().run({}, tmp_path, timeout=60) == result


def test_it_gets_the_request_and_an_environment_of_its_own(program, tmp_path, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "true")
    monkeypatch.setenv("MINE", "kept")
    program(
        "print(sys.argv[1]); json.dump([request, dict(os.environ), sys.stdin.read()], open(request['result'], 'w'))"
    )
    request, environment, typed = ExportProcess().run({"format": "onnx"}, tmp_path, timeout=60)
    assert request == {"format": "onnx", "result": str(tmp_path / "result.json"), "parent": os.getpid()}
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & set(environment)
    assert (environment["YOLO_AUTOINSTALL"], environment["YOLO_OFFLINE"]) == ("false", "true")  # nothing is installed
    assert (environment["MINE"], typed) == ("kept", "")
    assert (tmp_path / "output.log").read_text() == "exports.worker\n"


FAMILY = (
    RESULT + "import subprocess\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
    "open(request['result'] + '.pids', 'w').write(f'{os.getpid()} {child.pid} ')\n"
    "time.sleep(600)"
)


def gone(number):
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("how", ["time limit", "cancel"])
def test_whatever_it_has_started_ends_with_it(how, program, tmp_path, monkeypatch):
    program(FAMILY)
    process, results, written = ExportProcess(), [], tmp_path / "result.json.pids"
    limit = 0.5 if how == "time limit" else 60
    wait = process._wait
    monkeypatch.setattr(process, "_wait", lambda timeout: wait_for(written.exists) and wait(timeout))

    def run():
        results.append(process.run({}, tmp_path, limit))

    thread = threading.Thread(target=run)
    thread.start()
    numbers = [int(word) for word in wait_for(lambda: written.exists() and written.read_text()).split()]
    if how == "cancel":
        process.cancel()
    thread.join(30)
    assert process.cancelled is (how == "cancel")
    error = "its process was killed by SIGKILL" if os.name == "posix" else "its process ended with exit code 15"
    assert results == [{"file": "a.onnx", "error": error if how == "cancel" else "it took longer than 0.5 s"}]
    for number in numbers:
        wait_for(lambda: gone(number), 10)  # noqa: B023


def test_what_was_cancelled_is_not_started(program, tmp_path):
    program("open(request['result'] + '.started', 'w')")
    process = ExportProcess()
    process.cancel()
    assert process.run({}, tmp_path, timeout=60) == {"error": "it was cancelled"}
    assert not (tmp_path / "result.json.started").exists()


def test_a_cancel_after_the_end_changes_nothing(program, tmp_path):
    program(RESULT)
    process = ExportProcess()
    assert process.run({}, tmp_path, timeout=60) == {"file": "a.onnx"}
    process.cancel()
    assert process.cancelled
