"""The worker: what it reports after each step, and that it never outlives its parent; test_export.py really exports."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ultralytics

from yolo_callbacks.exports import worker


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_who_is_left_behind_ends_and_clears_up(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    child = (
        "import os, time; from pathlib import Path; from yolo_callbacks.exports.worker import _end_with; "
        f"_end_with(os.getppid(), Path({str(scratch)!r})); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    number = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(number) and scratch.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not scratch.exists()


class Model:
    """Stands for a YOLO: what it is made of decides how it exports, and what its validation says."""

    steps: list = []
    fails: dict = {}
    names = {0: "circle", 1: "square"}

    def __init__(self, path, task=None):
        self.path, self.task = Path(path), task or "detect"

    def export(self, **arguments):
        self._step("export", arguments)
        return str(self.path.with_suffix(".onnx"))

    def _smart_load(self, key):
        return {"validator": Validator}[key]

    def val(self, validator, **arguments):
        self._step("val", arguments)
        validator(args=SimpleNamespace(imgsz=64), _callbacks=None)
        return SimpleNamespace(results_dict={"mAP": 0.5, "recall": float("nan")})

    def _step(self, name, arguments):
        self.steps.append((name, self.path.suffix, self.task, arguments))
        if (name, self.path.suffix) in self.fails:
            raise self.fails[name, self.path.suffix]


class Validator:
    def __init__(self, args, _callbacks):
        self.args, self.names, self.device = args, Model.names, "cpu"
        self.speed = {"preprocess": 0.12345, "inference": 1, "postprocess": 2.0, "loss": 3.0}


MEASURED = {
    "metrics": {"mAP": 0.5, "recall": None},
    "latency_ms": {"preprocess": 0.123, "inference": 1.0, "postprocess": 2.0},
    "names": {"0": "circle", "1": "square"},
    "imgsz": 64,
    "device": "cpu",
}


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """Return a function that makes a request, with the result's file in `tmp_path`."""
    monkeypatch.setattr(ultralytics, "YOLO", Model)
    monkeypatch.setattr(Model, "steps", [])
    monkeypatch.setattr(Model, "fails", {})

    def make(**changes):
        request = {
            "checkpoint": str(tmp_path / "best.pt"),
            "format": "onnx",
            "arguments": {"half": True},
            "validation": {"imgsz": 64},
            "reference": None,
            "result": str(tmp_path / "result.json"),
        }
        return {**request, **changes}

    return make


def carried_out(request):
    """Carry out a request; return the result without versions, once it is known to be in the file too."""
    result = worker.carry_out(request)
    assert json.loads(Path(request["result"]).read_text()) == result
    return {key: value for key, value in result.items() if key != "versions"}


FOUND = {"task": "detect", "names": {"0": "circle", "1": "square"}, "file": "best.onnx"}


def test_both_are_validated_with_the_same_arguments_the_export_first(request_of):
    assert carried_out(request_of()) == {**FOUND, "exported": MEASURED, "reference": MEASURED}
    assert Model.steps == [
        ("export", ".pt", "detect", {"half": True, "format": "onnx"}),
        ("val", ".onnx", "detect", {"imgsz": 64}),
        ("val", ".pt", "detect", {"imgsz": 64}),
    ]


def test_a_checkpoint_that_was_measured_is_not_measured_again(request_of):
    assert carried_out(request_of(reference={"metrics": {}})) == {
        **FOUND,
        "exported": MEASURED,
        "reference": {"metrics": {}},
    }
    assert [step[:2] for step in Model.steps] == [("export", ".pt"), ("val", ".onnx")]


def test_without_verification_nothing_is_validated(request_of):
    assert carried_out(request_of(validation=None)) == FOUND
    assert [step[0] for step in Model.steps] == ["export"]


@pytest.mark.parametrize(
    ("step", "error", "known", "why"),
    [
        (("export", ".pt"), ValueError("no such layer\nat line 5"), ["task", "names"], "ValueError: no such layer"),
        (("export", ".pt"), MemoryError(), ["task", "names"], "MemoryError: "),
        (("val", ".onnx"), RuntimeError("bad"), ["task", "names", "file"], "RuntimeError: bad"),
        (("val", ".pt"), RuntimeError("bad"), ["task", "names", "file", "exported"], "RuntimeError: bad"),
    ],
)
def test_what_was_done_before_an_error_is_known(step, error, known, why, request_of):
    Model.fails[step] = error
    result = carried_out(request_of())
    assert list(result) == [*known, "error"]
    assert result["error"] == why


def test_a_package_that_is_missing_is_named_with_how_to_get_it(request_of):
    Model.fails["export", ".pt"] = ModuleNotFoundError("No module named 'onnx'", name="onnx")
    error = carried_out(request_of())["error"]
    assert "pip install" in error
    assert "onnx" in error


def test_each_step_is_in_the_file_before_the_next_one(request_of, monkeypatch):
    request, seen = request_of(), []
    monkeypatch.setattr(Model, "_step", lambda *_: seen.append(sorted(json.loads(Path(request["result"]).read_text()))))
    worker.carry_out(request)
    assert seen == [
        ["names", "task", "versions"],
        ["file", "names", "task", "versions"],
        ["exported", "file", "names", "task", "versions"],
    ]


@pytest.mark.parametrize(("imgsz", "expected"), [([64, 32], [64, 32]), (64, 64)])
def test_an_input_that_is_no_square_stays_as_it_is(imgsz, expected):
    assert worker.measure(Model("a.pt"), Validator, {"imgsz": imgsz})["imgsz"] == expected


@pytest.mark.parametrize(("names", "expected"), [({0: "a", 1: 5}, {"0": "a", "1": "5"}), ({}, {}), (None, {})])
def test_class_names_for_json(names, expected):
    assert worker._names(names) == expected


def test_the_versions_of_what_is_installed():
    found = worker.versions("onnx")
    assert found["python"] == platform.python_version()
    assert found["ultralytics"] == ultralytics.__version__
    assert set(worker.versions("a format of tomorrow")) <= set(found)
    assert "tensorrt" not in found


@pytest.mark.parametrize(("nice", "lowered"), [(True, [10]), (False, [])])
@pytest.mark.parametrize(("result", "code"), [({}, 0), ({"error": "no room"}, 1)])
def test_the_exit_code_and_the_priority(nice, lowered, result, code, tmp_path, monkeypatch):
    calls, parents = [], []
    monkeypatch.setattr(os, "nice", calls.append, raising=False)
    monkeypatch.setattr(worker, "_end_with", lambda *arguments: parents.append(arguments))
    monkeypatch.setattr(worker, "carry_out", lambda request: result)
    file = tmp_path / "request.json"
    file.write_text(json.dumps({"parent": 5, "nice": nice}))
    assert worker.main(file) == code
    assert (calls, parents) == (lowered, [(5, tmp_path)])
