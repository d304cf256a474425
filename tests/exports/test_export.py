"""Exports without a training: what may be asked for, what is rejected, and a process that never outlives its parent."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.cfg import TASKS

from yolo_callbacks import ModelCheckpoint
from yolo_callbacks.config import ConfigError, load_config
from yolo_callbacks.core.lineup import check_outputs, label
from yolo_callbacks.datasets import build_shapes
from yolo_callbacks.exports import worker
from yolo_callbacks.exports.export import pickle_classes_by_value
from yolo_callbacks.exports.verdict import verdict
from yolo_callbacks.support import storage

SUFFIX = {"detect": "", "segment": "-seg", "classify": "-cls", "semantic": "-sem"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"export_when": "later"}, ValueError, "export_when='later' is not one of 'end', 'best'"),
        ({"export_when": "best"}, ValueError, "needs a format to export"),
        (
            {"export": "onnx", "export_tolerance": -0.1},
            ValueError,
            "export_tolerance=-0.1 must be a finite number >= 0",
        ),
        ({"export": "onnx", "export_timeout": 0}, ValueError, "export_timeout=0 must be a finite number > 0"),
        ({"export": "onnx", "export_args": {"dynamc": True}}, ValueError, "(did you mean 'dynamic'?)"),
        ({"export": "onnx", "export_args": {"format": "engine"}}, ValueError, "'format' is not an export argument"),
        ({"export": "torchscript", "export_args": {"opset": 17}}, ValueError, "does not take 'opset'"),
        ({"export": "onnx", "export_args": {"imgsz": {64}}}, TypeError, "must be JSON-serializable"),
        ({"export": "onnx", "export_args": ["half"]}, TypeError, "must be a mapping"),
    ],
)
def test_wrong_arguments_fail_at_construction(arguments, error, message):
    with pytest.raises(error) as caught:
        ModelCheckpoint(**arguments)
    assert message in str(caught.value)


def test_numbers_of_numpy_are_arguments_too():
    callback = ModelCheckpoint(
        export="onnx", export_args={"imgsz": [np.int64(64), np.int32(96)], "iou": np.float32(0.5)}
    )
    assert json.dumps(callback.export_args) == '{"imgsz": [64, 96], "iou": 0.5}'


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ({"filepath": "a/best"}, {"filepath": "b/best"}, "export/best.torchscript"),
        ({"filepath": "a/{epoch}"}, {"filepath": "/b/{epoch:03d}", "monitor": "val_loss"}, "export/12345.torchscript"),
        ({"filepath": "a/best"}, {"filepath": "b/best", "export": ["openvino"]}, None),
        ({"filepath": "a/best"}, {"filepath": "b/other"}, None),
        ({}, {"monitor": "val_loss"}, None),
        ({"filepath": "a/best"}, {"filepath": "b/best", "export": None}, None),
    ],
)
def test_two_checkpoints_are_not_exported_to_the_same_file(first, second, clash):
    callbacks = [ModelCheckpoint(**{"export": ["torchscript", "onnx"], **given}) for given in (first, second)]
    if clash is None:
        check_outputs(label(callbacks))
    else:
        with pytest.raises(ValueError, match=f"ModelCheckpoint and ModelCheckpoint-2 would both write {clash}: give"):
            check_outputs(label(callbacks))


def test_each_format_gets_the_arguments_that_it_takes():
    callback = ModelCheckpoint(export=["onnx", "torchscript", "onnx"], export_args={"opset": 17, "imgsz": (64, 96)})
    assert callback.export == ("onnx", "torchscript")
    assert callback.export_args == {"opset": 17, "imgsz": [64, 96]}


@pytest.mark.parametrize(
    ("export", "package", "line"),
    [
        ("onnx", "onnx", "export='onnx' needs onnx: pip install onnx onnxslim onnxruntime"),
        ("onnx", "onnxruntime", "export='onnx' needs onnxruntime: pip install onnx onnxslim onnxruntime"),
        ("openvino", "openvino", "export='openvino' needs openvino: pip install openvino"),
        ("ncnn", "ncnn", "export='ncnn' needs ncnn: pip install ncnn"),
    ],
)
def test_a_missing_package_fails_at_construction(export, package, line, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    with pytest.raises(ImportError) as caught:
        ModelCheckpoint(export=["torchscript", export])
    assert str(caught.value) == line
    file = tmp_path / "callbacks.yaml"
    file.write_text(f"- ModelCheckpoint:\n    export: [{export}]\n")
    with pytest.raises(ConfigError, match="line 2: ModelCheckpoint: export"):
        load_config(file)


def test_without_a_proof_nothing_is_needed_to_load_the_file(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: "onnxrun" not in name and find(name, *rest))
    assert ModelCheckpoint(export="onnx", export_tolerance=None).export == ("onnx",)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_exported_loaded_and_validated(task, tmp_path):
    """The weights are random: what is compared here is that both sides are measured, with the same class."""
    data = build_shapes(tmp_path / "data", task, train=2, val=2, size=64)
    model = YOLO(f"yolo26n{SUFFIX.get(task, '-' + task)}.yaml", verbose=False)
    checkpoint = tmp_path / "work" / "mine.pt"
    checkpoint.parent.mkdir()
    torch.save({"model": model.model.half(), "train_args": {"imgsz": 64, "task": task}}, checkpoint)
    validation = {"data": str(data if task == "classify" else data / "data.yaml"), "imgsz": 64, "batch": 1}
    told = worker.carry_out(
        {
            "checkpoint": str(checkpoint),
            "format": "torchscript",
            "arguments": {"imgsz": 64, "device": "cpu"},
            "validation": {
                **validation, "rect": False, "device": "cpu", "plots": False, "project": str(tmp_path / "work"),
            },
            "reference": None,
            "result": str(tmp_path / "result.json"),
        }
    )  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text()) == told
    assert told["file"] == "mine.torchscript"
    assert (told["task"], told["exported"]["imgsz"] in (64, [64, 64])) == (task, True)
    assert told["exported"]["metrics"] == pytest.approx(told["reference"]["metrics"], rel=1e-3, abs=1e-3, nan_ok=True)
    assert {"preprocess", "inference", "postprocess"} == set(told["reference"]["latency_ms"])
    assert verdict(told, 0.005)[0] is None


def test_a_class_of_the_users_script_travels_with_its_checkpoint(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from yolo_callbacks.exports.export import pickle_classes_by_value\n"
        "class Mine(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        return super().forward(x) * 0 + 7\n"
        "torch.save({'model': Mine(2, 1)}, 'mine.pt')\n"
        "pickle_classes_by_value(Path('mine.pt'))\n"
    )
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True)
    model = torch.load(tmp_path / "mine.pt", weights_only=False)["model"]  # there is no such class in this process
    assert model(torch.zeros(1, 2)).item() == 7

    torch.save({"model": torch.nn.Linear(2, 1)}, tmp_path / "plain.pt")
    before = (tmp_path / "plain.pt").read_bytes()
    pickle_classes_by_value(tmp_path / "plain.pt")
    assert (tmp_path / "plain.pt").read_bytes() == before


def test_the_fingerprint_of_a_folder_knows_names_and_contents(tmp_path):
    def folder(name, **files):
        for file, text in files.items():
            path = tmp_path / name / file.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return storage.fingerprint_tree(tmp_path / name)

    size, digest = folder("one", b="22", a_c="1")
    assert size == 3
    listed = subprocess.run(["sha256sum", "a/c", "b"], cwd=tmp_path / "one", check=True, capture_output=True)
    (tmp_path / "list").write_bytes(listed.stdout)
    assert digest == storage.fingerprint(tmp_path / "list")[1]
    assert folder("two", a_c="1", b="22") == (size, digest)
    assert folder("three", a_d="1", b="22") != (size, digest)
    assert folder("four", a_c="1", b="23") != (size, digest)


@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_whatever_is_there_is_replaced(old, new, tmp_path):
    def make(path, kind):
        if kind == "file":
            path.write_text(path.name)
        elif kind == "folder":
            path.mkdir()
            (path / "inside").write_text(path.name)

    make(tmp_path / "old", old)
    make(tmp_path / "new", new)
    storage.put_in_place(tmp_path / "new", tmp_path / "old")
    found = tmp_path / "old" if new == "file" else tmp_path / "old" / "inside"
    assert found.read_text() == "new"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["old"]
