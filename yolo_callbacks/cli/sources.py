"""Where data and model come from on a machine that may be offline. Every replacement is announced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_callbacks.datasets import SHAPES, SHAPES_ARGUMENTS

DEMO = "demo"
SHAPES_SOURCE = "built-in shapes"
DEMO_SOURCE = "demo"
SUITABLE_ARGUMENTS: dict[str, dict[str, Any]] = {
    SHAPES_SOURCE: SHAPES_ARGUMENTS,
    DEMO_SOURCE: {"imgsz": 320, "epochs": 5, "batch": 4},
}
"""Default arguments for a source of data."""
_MODEL = "yolo26n"
_MODEL_SUFFIX = {
    "segment": "-seg",
    "pose": "-pose",
    "obb": "-obb",
    "classify": "-cls",
    "semantic": "-sem",
    "depth": "-depth",
}


class SourceError(Exception):
    """Data or model is not available; the message is one sentence."""


def find_data(name: str | None, task: str, standin: bool, pretrained: bool = False) -> tuple[str, dict[str, Any], str]:
    """Return what to train on.

    Args:
        name: The requested dataset; None for the built-in shapes, `"demo"` for coco8 if a model can learn from it, else
            the shapes.
        task: The model's task.
        standin: Whether generated images may replace coco8.
        pretrained: Whether the model is pretrained: from scratch, nothing is learned from coco8's 4 images.

    Returns:
        The value for Ultralytics' `data`, facts for `run.json`, and a warning ("" for none).

    Raises:
        SourceError: If coco8 can be neither found nor downloaded, and may not be replaced; or if there are no built-in
            shapes for the task.
    """
    if name is None:
        return _find_shapes(task)
    if name == DEMO:
        return _find_demo(task, standin, pretrained)
    if name not in ("coco8.yaml", "coco8"):
        _check_exists(name)
        return name, {}, ""
    problem = _try_coco8()
    if problem is None:
        return name, {}, ""
    if not standin:
        raise SourceError(_NO_COCO8.format(problem))
    from ultralytics.utils import DATASETS_DIR

    from yolo_callbacks.datasets.standin import build_coco8_standin

    file = build_coco8_standin(Path(DATASETS_DIR))
    warning = (
        "This is NOT coco8. It is not on this machine and cannot be downloaded, so the training uses 4 + 4 generated "
        f"images with the same layout and class names: {file}\n"
        "The metrics say nothing about coco8, and from scratch nothing is learned from 4 images. `yolo-cb train` "
        "without --data shows a real curve; --no-standin fails instead."
    )
    return str(file), {"data_source": "stand-in", "data_asked_for": name, "data_problem": problem}, warning


_NO_COCO8 = "coco8 is not on this machine and cannot be downloaded ({})"


def _find_shapes(task: str) -> tuple[str, dict[str, Any], str]:
    """Return the built-in shapes as `find_data` does.

    Raises:
        SourceError: If there are none for the task.
    """
    if task not in SHAPES:
        raise SourceError(f"there are no built-in shapes for task={task}: name a dataset with --data")
    return str(SHAPES[task]), {"data_source": SHAPES_SOURCE}, ""


def _find_demo(task: str, standin: bool, pretrained: bool) -> tuple[str, dict[str, Any], str]:
    """Return coco8 as `find_data` does, or the built-in shapes if coco8 is not found or nothing would be learned.

    Raises:
        SourceError: If the shapes may not replace coco8, or if there are none for the task.
    """
    problem = "without pretrained weights, nothing is learned from its 4 images"
    if pretrained and task == "detect":
        failure = _try_coco8()
        if failure is None:
            return "coco8.yaml", {"data_source": DEMO_SOURCE}, ""
        problem = _NO_COCO8.format(failure)
    if not standin:
        raise SourceError(f"the demo cannot train on coco8: {problem}")
    data, facts, _ = _find_shapes(task)
    warning = (
        f"This is NOT coco8: {problem}.\n"
        "The demo trains on the built-in shapes instead: 256 generated images, and 64 more for validation. The "
        "curve is real, but the metrics say nothing about coco8. --no-standin fails instead."
    )
    return data, {**facts, "data_asked_for": DEMO, "data_problem": problem}, warning


def _check_exists(name: str) -> None:
    """Check that Ultralytics finds a dataset YAML of this name; it may be able to get anything else.

    Raises:
        SourceError: If it does not.
    """
    from ultralytics.utils.checks import check_yaml

    if "://" in name or not name.lower().endswith((".yaml", ".yml")):
        return
    try:
        check_yaml(name)
    except FileNotFoundError as error:
        raise SourceError(f"dataset {name} is not available: {error}") from error


def _try_coco8() -> str | None:
    """Let Ultralytics find or download coco8; return the problem, None if there is none."""
    from ultralytics.data.utils import check_det_dataset

    try:
        check_det_dataset("coco8.yaml")
    except OSError as error:  # FileNotFoundError and every kind of failed connection
        return _in_one_line(error)
    return None


def load_model(name: str | None, task: str | None) -> tuple[Any, str]:
    """Return the model to train, and a note ("" for none).

    Args:
        name: The requested model; None for `yolo26n.pt`, or its counterpart for the task, if available, else the YAML.
        task: The task, if the model's name does not say it.

    Raises:
        SourceError: If the requested model is not available.
    """
    from ultralytics import YOLO

    default = _MODEL + _MODEL_SUFFIX.get(task or "", "")
    wanted, note = name or f"{default}.pt", ""
    problem = _try_weights(wanted) if wanted.endswith(".pt") else None
    if problem is not None:
        if name is not None:
            raise SourceError(f"model {name} is not available: {problem}")
        note = f"{wanted} is not on this machine and cannot be downloaded: training {default}.yaml from scratch."
        wanted = f"{default}.yaml"
    try:
        return YOLO(wanted, task=task), note
    except FileNotFoundError as error:
        raise SourceError(f"model {wanted} is not available: {error}") from error


def _try_weights(name: str) -> str | None:
    """Let Ultralytics find or download weights; return the problem, None if there is none."""
    from ultralytics.utils.downloads import attempt_download_asset

    try:
        if Path(attempt_download_asset(name)).exists():
            return None
    except OSError as error:
        return _in_one_line(error)
    return "there is no such file, and Ultralytics offers none of this name for download"


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
