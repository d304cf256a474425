"""How many images a run was validated on, counted in its data set without importing Ultralytics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from yolo_callbacks.inspecting.settings import ultralytics_setting

_IMAGES = {"avif", "bmp", "dng", "heic", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
_MOST = 200_000  # beyond that, one more image changes nothing


def validation_images(arguments: Mapping[str, Any]) -> int | None:
    """Return the number of images of a run's validation set; None if it cannot be found.

    Args:
        arguments: The run's arguments, as in `args.yaml`.
    """
    data, split = arguments.get("data"), str(arguments.get("split") or "val")
    if not isinstance(data, str) or not data:
        return None
    try:
        places = _places(data, split)
        number = sum(_count(place) for place in places)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):  # a YAML of anybody's
        return None
    return number or None


def _places(data: str, split: str) -> list[Path]:
    """Return the directories, or files with lists of images, of a split."""
    if os.path.isdir(data):  # noqa: PTH112, a classifier's folder
        return [Path(data, split)]
    file = _yaml(data)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    given = content.get(split)
    root = _root(file, content.get("path"))
    return [root / place for place in ([given] if isinstance(given, str) else given)]


def _yaml(data: str) -> Path:
    """Return a data set's YAML: as given, or one that comes with Ultralytics."""
    package = find_spec("ultralytics")
    built_in = Path(package.origin).parent / "cfg" / "datasets" if package is not None and package.origin else None
    name = data if data.endswith((".yaml", ".yml")) else f"{data}.yaml"
    for path in (Path(data), *([built_in / name] if built_in is not None else [])):
        if path.is_file():
            return path
    raise FileNotFoundError(data)


def _root(file: Path, path: str | None) -> Path:
    """Return the root of a data set, found as `check_det_dataset` of Ultralytics does."""
    root = Path(path) if path else file.parent
    datasets = ultralytics_setting("datasets_dir")
    return datasets / root if not root.is_absolute() and not root.exists() and datasets is not None else root


def _count(place: Path) -> int:
    if place.is_file():
        return sum(bool(line.strip()) for line in place.read_text(encoding="utf-8").splitlines())
    number = 0
    for _, _, files in os.walk(place):
        number += sum(name.rpartition(".")[2].lower() in _IMAGES for name in files)
        if number > _MOST:
            break
    return number
