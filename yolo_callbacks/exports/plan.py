"""What to export, and the request for the export process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_callbacks.exports.formats import takes

_SHARED = ("batch", "nms", "end2end", "conf", "iou", "max_det", "agnostic_nms")  # by exports and validations
_EMBEDDED_NMS_CONF = 0.25  # that Ultralytics builds into an export with embedded NMS


@dataclass(frozen=True)
class ExportPlan:
    """How to export a series of checkpoints, and how closely the exports must match.

    Attributes:
        series: Template of the checkpoints' names; a series keeps one verified export per format.
        formats: Ultralytics' names of the formats.
        arguments: Other arguments of `YOLO.export`.
        tolerance: The largest accepted difference in fitness; None exports without verification.
        timeout: Time limit in seconds for one format, verification included.
    """

    series: str
    formats: tuple[str, ...]
    arguments: Mapping[str, Any]
    tolerance: float | None
    timeout: float

    def request(self, name: str, checkpoint: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request for the export process. Both validations get the same images in the same shape.

        Args:
            name: The format.
            checkpoint: The checkpoint; the process works in its folder.
            settings: The training's validation arguments.
        """
        given = {key: value for key, value in self.arguments.items() if takes(name, key)}
        arguments = {"imgsz": settings["imgsz"], **given}
        if name != "engine":  # TensorRT needs a GPU
            arguments.setdefault("device", "cpu")  # the training may hold all of the GPU's memory
        if takes(name, "data") and any(arguments.get(key) for key in ("int8", "quantize")):
            arguments.setdefault("data", settings["data"])  # else Ultralytics calibrates with coco8
        return {
            "checkpoint": str(checkpoint),
            "format": name,
            "arguments": arguments,
            "validation": None if self.tolerance is None else _validation(arguments, checkpoint, settings),
        }


def _validation(arguments: Mapping[str, Any], checkpoint: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    shared = {key: arguments[key] for key in _SHARED if key in arguments}
    if shared.get("nms"):
        shared.setdefault("conf", _EMBEDDED_NMS_CONF)
    return {
        "batch": 1,
        **settings,
        **shared,
        "imgsz": arguments["imgsz"],
        "device": arguments.get("device"),
        "rect": False,  # an exported file has one input shape
        "workers": 0,
        "plots": False,
        "save_json": False,
        "save_txt": False,
        "verbose": False,
        "project": str(checkpoint.parent),
        "name": "val",
        "exist_ok": True,
    }
