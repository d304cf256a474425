"""Export a checkpoint, load the exported file and compare both: `python -m yolo_callbacks.exports.worker REQUEST`.

A separate process, so that no exporter or runtime can harm the training. The request is a JSON file; the result is
written to another one after each step, so that a crash loses only the current step:

| request | |
|---|---|
| `checkpoint` | what to export; the exported file is written next to it |
| `format`, `arguments` | as `YOLO.export` takes them |
| `validation` | arguments for `YOLO.val` of both, or null for no verification |
| `reference` | an earlier process's measurement of the same checkpoint with the same arguments, or null |
| `outputs` | true to compare the outputs for noise; it needs no data |
| `nice` | true while a training runs |
| `parent`, `result` | the process not to outlive, the file for the result |
"""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from yolo_callbacks.exports.formats import install_hint
from yolo_callbacks.exports.outputs import compare, settle
from yolo_callbacks.support import storage
from yolo_callbacks.support.numbers import finite_or_none

_PACKAGES = {
    "onnx": ("onnx", "onnxslim", "onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino", "nncf"),
    "engine": ("tensorrt", "onnx"),
    "coreml": ("coremltools",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn", "pnnx"),
}
_ALWAYS = ("yolo-callbacks", "ultralytics", "torch", "torchvision", "numpy")
_STEPS = ("preprocess", "inference", "postprocess")


def carry_out(request: Mapping[str, Any]) -> dict[str, Any]:
    """Export, load and validate, and return the result, with an `"error"` if anything went wrong."""
    result: dict[str, Any] = {}

    def report(**facts: Any) -> None:
        result.update(facts)
        storage.write_json(Path(request["result"]), result)

    try:
        report(versions=versions(request["format"]))
        _carry_out(request, report)
    except ModuleNotFoundError as error:
        traceback.print_exc()
        report(error=install_hint(request["format"], error.name or str(error)))
    except Exception as error:  # exporters and runtimes may raise anything
        traceback.print_exc()
        report(error=f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}")
    return result


def _carry_out(request: Mapping[str, Any], report: Any) -> None:
    from ultralytics import YOLO

    checkpoint = Path(request["checkpoint"])
    model = YOLO(checkpoint)
    report(task=model.task, names=_names(model.names))
    untouched = None
    if request.get("outputs"):
        settle(model.model, request["arguments"])
        untouched = copy.deepcopy(model.model)
    exported = Path(model.export(**request["arguments"], format=request["format"]))
    report(file=exported.name)
    if untouched is not None:
        predictor = model._smart_load("predictor")
        report(outputs=compare(exported, untouched, predictor, request["arguments"]))
    if request["validation"] is None:
        return
    validator = model._smart_load("validator")  # for both: an exported file does not name its model's class
    del model  # the export has fused it
    measured = measure(YOLO(exported, task=YOLO(checkpoint).task), validator, request["validation"])
    report(exported=measured)
    gc.collect()  # frees the runtime and its threads before the checkpoint is timed
    report(reference=request["reference"] or measure(YOLO(checkpoint), validator, request["validation"]))


def measure(model: Any, validator: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a model.

    Args:
        model: An Ultralytics model, of a checkpoint or of an exported file.
        validator: The class that validates it.
        arguments: Arguments of `YOLO.val`.

    Returns:
        Its metrics, milliseconds per image, class names, image size and device.
    """
    seen: list[Any] = []

    def build(args: Any, _callbacks: Any) -> Any:
        built = validator(args=args, _callbacks=_callbacks)
        if isinstance(arguments["imgsz"], list):  # the validator would make it a square
            built.args.imgsz = list(arguments["imgsz"])
        seen.append(built)
        return built

    metrics = model.val(validator=build, **arguments)
    size = seen[0].args.imgsz
    return {
        "metrics": {name: finite_or_none(float(value)) for name, value in metrics.results_dict.items()},
        "latency_ms": {step: round(float(seen[0].speed[step]), 3) for step in _STEPS},
        "names": _names(seen[0].names),
        "imgsz": list(size) if isinstance(size, (list, tuple)) else int(size),
        "device": str(seen[0].device),
    }


def versions(export_format: str) -> dict[str, str]:
    """Return the versions of Python and of the packages that an export uses."""
    found = {"python": platform.python_version()}
    for package in (*_ALWAYS, *_PACKAGES.get(export_format, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _names(names: Mapping[int, str] | None) -> dict[str, str]:
    """Return class names for JSON; older depth validators have none."""
    return {str(key): str(name) for key, name in dict(names or {}).items()}


def _end_with(parent: int, scratch: Path) -> None:
    """End this process soon after its parent ends, however that ends."""

    def watch() -> None:
        while _is_running(parent):
            time.sleep(0.5)
        storage.remove(scratch)
        os._exit(1)

    threading.Thread(target=watch, name="yolo-callbacks parent", daemon=True).start()


def _is_running(parent: int) -> bool:
    if os.name == "posix":  # an orphan gets another parent
        return os.getppid() == parent
    import psutil

    return bool(psutil.pid_exists(parent))


def main(file: Path) -> int:
    """Carry out the request in a file, and return the exit code."""
    request = json.loads(file.read_text(encoding="utf-8"))
    _end_with(request["parent"], file.parent)
    if request["nice"]:
        with contextlib.suppress(AttributeError, OSError):
            os.nice(10)
    return 1 if "error" in carry_out(request) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
