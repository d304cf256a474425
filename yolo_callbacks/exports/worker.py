"""Export a checkpoint, load the exported file and validate both: `python -m yolo_callbacks.exports.worker REQUEST`.

A process of its own, so that nothing that an exporter or a runtime does can harm a training. The request is a JSON
file; what came out is told in another one, step by step, so that a crash loses only the step that it came in:

| request | |
|---|---|
| `checkpoint` | what to export; the exported file appears next to it |
| `format`, `arguments` | as `YOLO.export` takes them |
| `validation` | arguments for `YOLO.val` of both, or null for no verification |
| `reference` | what an earlier process measured of the same checkpoint with the same arguments, or null |
| `nice` | true while a training runs |
| `parent`, `result` | whom not to outlive, where to tell |
"""

from __future__ import annotations

import contextlib
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
    """Export, load again, validate, and return what came out; an `"error"` is among it if anything went wrong."""
    told: dict[str, Any] = {}

    def tell(**facts: Any) -> None:
        told.update(facts)
        storage.write_json(Path(request["result"]), told)

    try:
        tell(versions=versions(request["format"]))
        _carry_out(request, tell)
    except ModuleNotFoundError as error:
        traceback.print_exc()
        tell(error=install_hint(request["format"], error.name or str(error)))
    except Exception as error:  # whatever an exporter or a runtime comes up with
        traceback.print_exc()
        tell(error=f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}")
    return told


def _carry_out(request: Mapping[str, Any], tell: Any) -> None:
    from ultralytics import YOLO

    checkpoint = Path(request["checkpoint"])
    model = YOLO(checkpoint)
    tell(task=model.task, names=_names(model.names))
    exported = Path(model.export(**request["arguments"], format=request["format"]))
    tell(file=exported.name)
    if request["validation"] is None:
        return
    validator = model._smart_load("validator")  # the same for both: an exported file does not say what model it was
    del model  # the export has fused it
    measured = measure(YOLO(exported, task=YOLO(checkpoint).task), validator, request["validation"])
    tell(exported=measured)
    gc.collect()  # the runtime and its threads, before the other one is timed
    tell(reference=request["reference"] or measure(YOLO(checkpoint), validator, request["validation"]))


def measure(model: Any, validator: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Validate a model.

    Args:
        model: An Ultralytics model, of a checkpoint or of an exported file.
        validator: The class that validates it.
        arguments: Arguments of `YOLO.val`.

    Returns:
        Its metrics, milliseconds per image, names of its classes, image size and device.
    """
    seen: list[Any] = []

    def build(args: Any, _callbacks: Any) -> Any:
        built = validator(args=args, _callbacks=_callbacks)
        if isinstance(arguments["imgsz"], list):  # it would take a square for a rectangle
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
    """Return the versions of what is involved."""
    found = {"python": platform.python_version()}
    for package in (*_ALWAYS, *_PACKAGES.get(export_format, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _names(names: Mapping[int, str] | None) -> dict[str, str]:
    """Return the names of classes as JSON can hold them; an older validator of depths has none."""
    return {str(key): str(name) for key, name in dict(names or {}).items()}


def _leave_with(parent: int, scratch: Path) -> None:
    """End this process soon after the one that asked for it, however that one ends."""

    def watch() -> None:
        while _is_there(parent):
            time.sleep(0.5)
        storage.remove(scratch)
        os._exit(1)

    threading.Thread(target=watch, name="yolo-callbacks parent", daemon=True).start()


def _is_there(parent: int) -> bool:
    if os.name == "posix":  # who is left behind gets another parent
        return os.getppid() == parent
    import psutil

    return bool(psutil.pid_exists(parent))


def main(file: Path) -> int:
    """Carry out the request in a file, and return the exit code."""
    request = json.loads(file.read_text(encoding="utf-8"))
    _leave_with(request["parent"], file.parent)
    if request["nice"]:
        with contextlib.suppress(AttributeError, OSError):
            os.nice(10)
    return 1 if "error" in carry_out(request) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
