"""A dataset that needs no network: seeded scenes of shapes, in Ultralytics' format.

`SHAPES` holds a dataset YAML for each task; its `download:` field builds the images on first use, so plain Ultralytics
can train on it, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

SHAPES: dict[str, Path] = {
    "detect": _HERE / "shapes.yaml",
    "segment": _HERE / "shapes-seg.yaml",
    "pose": _HERE / "shapes-pose.yaml",
    "obb": _HERE / "shapes-obb.yaml",
    "semantic": _HERE / "shapes-sem.yaml",
    "depth": _HERE / "shapes-depth.yaml",
}
"""The dataset YAML of each task. Classification has none: Ultralytics takes a folder, which `build_shapes` creates."""

SHAPES_ARGUMENTS: dict[str, Any] = {
    "imgsz": 96,
    "epochs": 20,
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "mosaic": 0.0,
}
"""Arguments of `train` with which a model learns the shapes from scratch in one to two minutes on two CPU cores.

The images are 96 pixels wide. Ultralytics' default `nbs=64` would give only four optimizer steps per epoch.
"""


def build_shapes(
    root: str | Path,
    task: str = "detect",
    *,
    train: int = 256,
    val: int = 64,
    size: int = 96,
    seed: int = 0,
    max_objects: int = 3,
    noise: float = 12.0,
) -> Path:
    """Build the shapes dataset in a folder, unless it exists already.

    Args:
        root: The folder; it appears complete or not at all.
        task: `"detect"`, `"segment"`, `"pose"`, `"obb"`, `"semantic"`, `"depth"` or `"classify"`.
        train: Number of training images, >= 1; for `"classify"`, of scenes, each object of which becomes an image.
        val: Number of validation images, >= 1, likewise.
        size: Side of the images in pixels, >= 32.
        seed: The same seed builds the same dataset.
        max_objects: The most shapes in one image, >= 1.
        noise: Standard deviation of the pixel noise in gray levels, >= 0.

    Returns:
        The folder. For every task but `"classify"` it holds a `data.yaml` to train on.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        ```python
        build_shapes("datasets/shapes-cls", "classify")
        YOLO("yolo26n-cls.yaml").train(data="datasets/shapes-cls", epochs=10, imgsz=64)
        ```
    """
    from yolo_callbacks.datasets.build import build

    return build(Path(root), task, train=train, val=val, size=size, seed=seed, max_objects=max_objects, noise=noise)
