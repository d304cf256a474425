import multiprocessing.spawn
import sys

import pytest

from yolo_callbacks import callbacks_in_trials
from yolo_callbacks.exports.process import ExportProcess
from yolo_callbacks.pictures.drawing import draw_in_process
from yolo_callbacks.support.python_process import command


def test_it_is_the_python_that_runs_here():
    assert command("pictures.curves", "a", "b") == [sys.executable, "-m", "yolo_callbacks.pictures.curves", "a", "b"]


def test_a_frozen_program_is_not_started_again(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", str(program))
    reason = r"this program is frozen, .* multiprocessing\.set_executable\(path\)"
    with pytest.raises(RuntimeError, match=reason):
        draw_in_process("plotting", tmp_path / "a", tmp_path / "b")
    with pytest.raises(RuntimeError, match=reason):
        ExportProcess().run({}, tmp_path, timeout=5)
    with pytest.raises(RuntimeError, match=reason), callbacks_in_trials():
        pass
    assert not (tmp_path / "started").exists()
    multiprocessing.set_executable("/usr/bin/python-of-mine")
    assert command("pictures.curves")[0] == "/usr/bin/python-of-mine"
