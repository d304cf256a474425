"""Writes scenes as a dataset in Ultralytics' folder layout and label formats."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from yolo_callbacks.datasets.scenes import CLASS_NAMES, KEYPOINT_NAMES, Scene, Shape, draw_scene
from yolo_callbacks.support import storage
from yolo_callbacks.support.checks import check_choice, check_int, check_number

_SPLITS = ("train", "val")
_MILLIMETERS = 1000  # per meter: the unit of the depth maps


def build(  # see yolo_callbacks.datasets.build_shapes for the arguments
    root: Path,
    task: str,
    *,
    train: int,
    val: int,
    size: int,
    seed: int,
    max_objects: int,
    noise: float,
    class_names: tuple[str, ...] = CLASS_NAMES,
) -> Path:
    """Build a dataset in `root`, unless it exists already; in a temporary folder first, so `root` is always complete.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_choice("task", task, (*_LABELS, *_MAPS, "classify"))
    counts = {"train": check_int("train", train, minimum=1), "val": check_int("val", val, minimum=1)}
    check_int("size", size, minimum=32)
    check_int("max_objects", max_objects, minimum=1)
    check_number("noise", noise, minimum=0.0)
    if root.exists() and any(root.iterdir()):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = root.with_name(f".{root.name}.{uuid.uuid4().hex[:8]}")
    scratch.mkdir()
    try:
        for number, split in enumerate(_SPLITS):
            for index in range(counts[split]):
                rng = np.random.default_rng([seed, number, index])
                scene = draw_scene(rng, size=size, max_objects=max_objects, noise=noise, class_names=class_names)
                _write(scratch, split, index, scene, task, class_names)
        if task != "classify":  # for which Ultralytics takes the folder
            (scratch / "data.yaml").write_text(_data_yaml(task, class_names), encoding="utf-8")
        _put_in_place(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _data_yaml(task: str, class_names: tuple[str, ...]) -> str:
    """Return the dataset YAML; without a `path`, Ultralytics uses the folder of the YAML."""
    content: dict[str, object] = {"train": "images/train", "val": "images/val"}
    names = class_names
    if task == "pose":
        content.update(kpt_shape=[len(KEYPOINT_NAMES), 3], flip_idx=[0, 1, 3, 2])
    elif task == "semantic":
        content.update(masks_dir=_MAPS[task][0])
        names = (*class_names, "background")
    elif task == "depth":
        content.update(depth_scale=_MILLIMETERS)
        names = ("depth",)
    return yaml.safe_dump({**content, "names": dict(enumerate(names))}, sort_keys=False)


def _put_in_place(scratch: Path, root: Path) -> None:
    """Rename the finished folder; another process may have been faster."""
    try:
        if root.exists():
            root.rmdir()
        storage.rename(scratch, root)
    except OSError:
        if not (root.exists() and any(root.iterdir())):
            raise


def _write(root: Path, split: str, index: int, scene: Scene, task: str, class_names: tuple[str, ...]) -> None:
    if task == "classify":
        for number, shape in enumerate(scene.shapes):
            _write_image(root / split / class_names[shape.cls] / f"{index:05d}-{number}.jpg", _crop(scene, shape))
        return
    size = scene.image.shape[0]
    _write_image(root / "images" / split / f"{index:05d}.jpg", scene.image)
    if task in _MAPS:
        folder, draw = _MAPS[task]
        _write_image(root / folder / split / f"{index:05d}.png", draw(scene, len(class_names)))
        return
    label = root / "labels" / split / f"{index:05d}.txt"
    label.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        " ".join([str(shape.cls), *(f"{value:.6f}" for value in _LABELS[task](shape, size))]) for shape in scene.shapes
    ]
    label.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise OSError(f"{path} could not be encoded")
    path.write_bytes(data.tobytes())  # cv2.imwrite fails silently, and on non-ASCII paths of some systems


def _crop(scene: Scene, shape: Shape) -> np.ndarray:
    """Cut a shape out with a margin."""
    size = scene.image.shape[0]
    x1, y1, x2, y2 = shape.box
    margin = 0.15 * max(x2 - x1, y2 - y1)
    left, top = max(0, round(x1 - margin)), max(0, round(y1 - margin))
    return scene.image[top : min(size, round(y2 + margin)) + 1, left : min(size, round(x2 + margin)) + 1]


def _box(shape: Shape, size: int) -> list[float]:
    x1, y1, x2, y2 = (value / size for value in shape.box)
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _polygon(shape: Shape, size: int) -> list[float]:
    return [float(value) / size for value in shape.outline.ravel()]


def _pose(shape: Shape, size: int) -> list[float]:
    keypoints = [
        value
        for x, y, visible in shape.keypoints
        for value in ((float(x) / size, float(y) / size, float(visible)) if visible else (0.0, 0.0, 0.0))
    ]
    return [*_box(shape, size), *keypoints]


def _rotated_box(shape: Shape, size: int) -> list[float]:
    return [float(value) / size for value in shape.corners.ravel()]


_LABELS: dict[str, Callable[[Shape, int], list[float]]] = {
    "detect": _box,
    "segment": _polygon,
    "pose": _pose,
    "obb": _rotated_box,
}


def _class_map(scene: Scene, classes: int) -> np.ndarray:
    """Return the class of each pixel; the background gets the index after those of the shapes."""
    return _fill(np.full(scene.backdrop.shape, classes, np.uint8), scene, lambda shape: shape.cls)


def _depth_map(scene: Scene, classes: int) -> np.ndarray:
    """Return the distance of each pixel in whole millimeters."""
    backdrop = np.rint(_MILLIMETERS * scene.backdrop).astype(np.uint16)
    return _fill(backdrop, scene, lambda shape: round(_MILLIMETERS * shape.distance))


def _fill(canvas: np.ndarray, scene: Scene, value: Callable[[Shape], int]) -> np.ndarray:
    for shape in scene.shapes:
        cv2.fillPoly(canvas, [np.rint(shape.outline).astype(np.int32)], value(shape))
    return canvas


_MAPS: dict[str, tuple[str, Callable[[Scene, int], np.ndarray]]] = {
    "semantic": ("masks", _class_map),
    "depth": ("depth", _depth_map),
}
"""Tasks whose labels are images: the folder in which Ultralytics looks for them, and how they are drawn."""
