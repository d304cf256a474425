"""A stand-in for coco8 if it is neither found nor downloadable: 4 + 4 images, same layout, same 80 classes."""

from __future__ import annotations

from pathlib import Path

import yaml

from yolo_callbacks.datasets.build import build

NAME = "coco8-standin"


def build_coco8_standin(datasets_dir: Path) -> Path:
    """Build the stand-in in Ultralytics' dataset folder, unless it exists already.

    It has its own folder, so that the real coco8 can still be downloaded later.

    Args:
        datasets_dir: Ultralytics' dataset folder.

    Returns:
        Its dataset YAML.
    """
    import ultralytics

    original = Path(ultralytics.__file__).parent / "cfg" / "datasets" / "coco8.yaml"
    data = yaml.safe_load(original.read_text(encoding="utf-8"))
    names = tuple(data["names"].values())
    root = datasets_dir / NAME
    build(root, "detect", train=4, val=4, size=320, seed=8, max_objects=6, noise=12.0, class_names=names)
    file = root / f"{NAME}.yaml"
    content = {"path": str(root.resolve()), "train": data["train"], "val": data["val"], "names": data["names"]}
    file.write_text(
        "# Drawn by yolo-callbacks in place of coco8, which could not be downloaded.\n"
        + yaml.safe_dump(content, sort_keys=False),
        encoding="utf-8",
    )
    return file
