"""What the export process is asked for."""

from pathlib import Path

import pytest

from yolo_callbacks.exports.plan import ExportPlan

SETTINGS = {"imgsz": 64, "data": "mine.yaml", "split": "val", "workers": 8, "plots": True, "rect": True}
CHECKPOINT = Path("run") / "weights" / "best.pt"


def plan(tolerance=0.005, **arguments):
    return ExportPlan("best", ("onnx",), arguments, tolerance, 60.0)


def test_both_validations_get_the_size_of_the_training_and_nothing_that_writes():
    request = plan().request("onnx", CHECKPOINT, SETTINGS)
    assert (request["checkpoint"], request["format"]) == (str(CHECKPOINT), "onnx")
    assert request["arguments"] == {"imgsz": 64, "device": "cpu"}
    validation = request["validation"]
    assert (validation["imgsz"], validation["batch"], validation["rect"], validation["workers"]) == (64, 1, False, 0)
    assert (validation["data"], validation["split"], validation["device"]) == ("mine.yaml", "val", "cpu")
    assert not any(validation[name] for name in ("plots", "save_json", "save_txt", "verbose"))
    assert validation["project"] == str(CHECKPOINT.parent)


def test_what_the_user_asks_for_goes_to_both():
    request = plan(imgsz=32, batch=4, max_det=10).request("onnx", CHECKPOINT, SETTINGS)
    assert request["arguments"]["imgsz"] == request["validation"]["imgsz"] == 32
    assert request["arguments"]["batch"] == request["validation"]["batch"] == 4


@pytest.mark.parametrize(("given", "conf"), [({"nms": True}, 0.25), ({"nms": True, "conf": 0.1}, 0.1), ({}, None)])
def test_an_export_with_nms_is_compared_at_the_confidence_that_is_built_into_it(given, conf):
    assert plan(**given).request("onnx", CHECKPOINT, SETTINGS)["validation"].get("conf") == conf


def test_without_a_tolerance_nothing_is_validated():
    assert plan(tolerance=None).request("onnx", CHECKPOINT, SETTINGS)["validation"] is None


def test_an_engine_is_built_on_the_gpu_and_a_quantized_one_calibrated_with_the_runs_own_images():
    assert "device" not in plan().request("engine", CHECKPOINT, SETTINGS)["arguments"]
    assert plan(int8=True).request("engine", CHECKPOINT, SETTINGS)["arguments"]["data"] == "mine.yaml"


def test_an_argument_goes_only_to_formats_that_take_it():
    request = plan(dynamic=True)
    assert request.request("onnx", CHECKPOINT, SETTINGS)["arguments"]["dynamic"] is True
    assert "dynamic" not in request.request("ncnn", CHECKPOINT, SETTINGS)["arguments"]
