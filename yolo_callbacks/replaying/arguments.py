"""The arguments of a logged run, from its `args.yaml`, as far as stopping rules need them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo_callbacks.core.record import MIXING

_FILES = ("args.yaml", "opt.yaml")  # the second is YOLOv5's
_WANTED = (
    "close_mosaic",
    "copy_paste",
    "cos_lr",
    "cutmix",
    "epochs",
    "lrf",
    "mixup",
    "mosaic",
    "patience",
    "task",
    "warmup_epochs",
)
_PATIENCE, _WARMUP_EPOCHS, _CLOSE_MOSAIC, _LRF = 100, 3.0, 10, 0.01  # Ultralytics' defaults
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Arguments:
    """The arguments of a run; Ultralytics' defaults for those that are not recorded.

    Attributes:
        known: Whether the run has a file of them.
        epochs: Number of planned epochs; None if it is not recorded.
        patience: The trainer's own patience in epochs; 0 for never.
        warmup_epochs: Number of warm-up epochs.
        close_mosaic: Number of epochs without mosaic at the end; 0 if the run has no mosaic to close.
        lrf: Final learning rate as a share of the initial one.
        cosine: Whether the schedule is a cosine, not linear.
    """

    known: bool = False
    epochs: int | None = None
    patience: int = _PATIENCE
    warmup_epochs: float = _WARMUP_EPOCHS
    close_mosaic: int = _CLOSE_MOSAIC
    lrf: float = _LRF
    cosine: bool = False

    def schedule(self, planned_epochs: int) -> Callable[[int], float]:
        """Return the function from an epoch, counted from 1, to the trainer's factor on the initial learning rate."""
        if self.cosine:
            return lambda epoch: 1 + (self.lrf - 1) * max((1 - math.cos((epoch - 1) * math.pi / planned_epochs)) / 2, 0)
        return lambda epoch: max(1 - (epoch - 1) / planned_epochs, 0) * (1 - self.lrf) + self.lrf


def read_arguments(folder: Path, *, classifies: bool, yolov5: bool) -> Arguments:
    """Read a run's arguments; a file that cannot be read counts as missing.

    Args:
        folder: The run directory.
        classifies: Whether the run trains a classifier, which has no mosaic.
        yolov5: Whether it is a YOLOv5 run, which never closes its mosaic.
    """
    given = next((given for name in _FILES if (given := _read(folder / name))), {})
    without_mosaic = yolov5 or classifies or given.get("task") == "classify"
    return Arguments(
        known=bool(given),
        epochs=_whole(given, "epochs", 0) or None,
        patience=_whole(given, "patience", _PATIENCE),
        warmup_epochs=_number(given, "warmup_epochs", _WARMUP_EPOCHS),
        close_mosaic=0 if without_mosaic or not _mixes(given) else _whole(given, "close_mosaic", _CLOSE_MOSAIC),
        lrf=_number(given, "lrf", _LRF),
        cosine=given.get("cos_lr") is True,
    )


def _mixes(given: Mapping[str, Any]) -> bool:
    """Return whether any augmentation that `close_mosaic` switches off is on."""
    return any(_number(given, name, 1.0 if name == "mosaic" else 0.0) for name in MIXING)


def _read(path: Path) -> dict[str, Any]:
    """Return the wanted arguments; parsing all 100 of a file would take most of the time."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        data = yaml.load("\n".join(line for line in lines if line.startswith(_WANTED)), Loader=_LOADER)
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}


def _number(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    usable = isinstance(value, (int, float)) and math.isfinite(value) and value >= 0
    return float(value) if usable else default


def _whole(given: Mapping[str, Any], name: str, default: int) -> int:
    return int(_number(given, name, default))
