"""Formats, what they need, and the arguments they take."""

import importlib.util

import pytest

from yolo_callbacks.exports.formats import (
    check_export_args,
    check_formats,
    check_packages,
    expected_name,
    exported_file,
    takes,
)


def test_formats_are_those_of_ultralytics_each_once():
    assert check_formats(["onnx", "openvino", "onnx"]) == ("onnx", "openvino")
    with pytest.raises(ValueError, match=r"export='onx' is not one of .* \(did you mean 'onnx'\?\)"):
        check_formats(["onx"])


@pytest.mark.parametrize(
    ("name", "file"),
    [("onnx", "best.onnx"), ("openvino", "best_openvino_model"), ("torchscript", "best.torchscript")],
)
def test_where_an_export_will_be(name, file):
    assert expected_name("best.pt", name) == file
    assert exported_file("weights/deep/best.pt", name) == f"export/{file}"


@pytest.mark.parametrize(
    ("missing", "to_verify", "command"),
    [
        ("onnx", False, "pip install onnx onnxslim onnxruntime"),
        ("onnxruntime", True, "pip install onnx onnxslim onnxruntime"),
        ("onnxruntime", False, None),
    ],
)
def test_a_missing_package_is_named_with_all_that_the_format_needs(missing, to_verify, command, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    if command is None:
        check_packages(["onnx"], to_verify=to_verify)
    else:
        with pytest.raises(ImportError, match=rf"export='onnx' needs {missing}: {command}$"):
            check_packages(["onnx"], to_verify=to_verify)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["dynamic"], TypeError, "must be a mapping"),
        ({"dinamic": True}, ValueError, r"'dinamic' is not an export argument \(did you mean 'dynamic'\?\)"),
        ({"format": "onnx"}, ValueError, "'format' is not an export argument"),
        ({"optimize": True}, ValueError, "does not take 'optimize'"),
        ({"imgsz": object()}, TypeError, "must be JSON-serializable"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        check_export_args(arguments, ("onnx",))


def test_a_format_takes_what_ultralytics_lists_for_it():
    assert takes("onnx", "dynamic")
    assert not takes("ncnn", "dynamic")
    assert takes("ncnn", "conf")  # listed for none, so refused for none
