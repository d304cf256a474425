"""Names of checkpoint files: templates such as `{epoch:03d}-{mAP50-95:.4f}`, checked before they are used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from string import Formatter
from typing import Any

from yolo_callbacks.core.metrics import SHORT_NAMES, MetricView, could_be_metric, is_measured
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.support.checks import nearest

WEIGHTS = "weights"
BACKUP, PREEMPTED = f"{WEIGHTS}/backup.pt", f"{WEIGHTS}/preempted.pt"
LAST_KEPT, BEST_KEPT = f"{WEIGHTS}/last.kept.pt", f"{WEIGHTS}/best.kept.pt"
STATES = f"{WEIGHTS}/states"
LATEST, EXCEPTION = "latest.pt", "exception.pt"
TO_RESUME = (PREEMPTED, BACKUP, f"{WEIGHTS}/{LATEST}", LAST_KEPT, BEST_KEPT)
"""What a run leaves to be resumed, beside `last.pt`."""
MID_EPOCH = (PREEMPTED.removeprefix(f"{WEIGHTS}/"), EXCEPTION)
"""Names of checkpoints that were saved in the middle of an epoch."""
EXAMPLE_EPOCH = 12345
"""The epoch of example names: longer than any padding, so that names which may be the same one day are the same."""
_OWNED_BY_ULTRALYTICS = ("last", "best")
_LONGEST_NAME = 250  # that MLflow takes


class FileTemplate:
    """The name of a checkpoint, with the epoch's number and metrics filled in.

    Args:
        template: A path with `{epoch}` (counted from 1), `{monitor}` (what the callback watches) or any metric's name
            in braces, each with an optional format as in `str.format`. Relative to the run's `weights` folder unless
            absolute; a backslash separates folders as `/` does. The suffix is `.pt`; any other one that models have
            elsewhere (`.h5`, `.keras`, `.ckpt`) is replaced by it.

    Attributes:
        replaced_suffix: Whether the template had the suffix of other models.

    Raises:
        TypeError: If it is no string.
        ValueError: If a key is unknown, a format does not fit, or the path leaves the run directory.

    Example:
        >>> FileTemplate("{epoch:03d}-{mAP50-95:.4f}").render(7, {"mAP50-95": 0.51234}, None)
        'weights/007-0.5123.pt'
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise TypeError(f"filepath={template!r} must be a string such as '{{epoch:03d}}-{{fitness:.4f}}'")
        self._template = _with_suffix(template)
        self.replaced_suffix = not template.endswith(".pt") and not self._template.startswith(template)
        self.keys = tuple(_keys(self._template))
        path = PurePosixPath(self._template.replace("\\", "/"))
        self._absolute = path.is_absolute() or PureWindowsPath(self._template).is_absolute()
        if ".." in path.parts:
            raise ValueError(f"filepath={template!r} leaves the run directory: use an absolute path if you mean to")
        owned = path.stem.casefold() in _OWNED_BY_ULTRALYTICS  # Windows and macOS take Best.pt for best.pt
        if owned and not self._absolute and len(path.parts) == 1:
            raise ValueError(f"filepath={template!r} is a file that Ultralytics itself writes: choose another name")

    def render(self, epoch: int, metrics: Mapping[str, float], monitored: float | None) -> str:
        """Return the path for an epoch, with `/`: relative to the run directory, or absolute as asked for."""
        values = {key: _value(key, metrics) for key in self.keys if key not in ("epoch", "monitor")}
        if monitored is not None:
            values["monitor"] = monitored
        name = _ByName().vformat(self._template, (), {**values, "epoch": epoch}).replace("\\", "/")
        return name if self._absolute else f"{WEIGHTS}/{name}"

    def render_record(self, record: EpochRecord, monitored: float | None) -> str:
        """Return the path for an epoch's record."""
        return self.render(record.epoch, MetricView(record), monitored)

    def example(self) -> str:
        """Return a path such as it may write; two templates with the same example write the same files."""
        return self.render(EXAMPLE_EPOCH, dict.fromkeys(self.keys, 0.5), 0.5)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTemplate) and self._template == other._template

    def __hash__(self) -> int:
        return hash(self._template)


class _ByName(Formatter):
    """Takes a key as it stands: a class may be called `St. Bernard`, which is no attribute ` Bernard` of an `St`."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name


def _value(key: str, metrics: Mapping[str, float]) -> float:
    """Return a metric; NaN for one that is not the trainer's in an epoch that was rebuilt from the trainer's log."""
    return float(metrics.get(key, math.nan)) if is_measured(key) else metrics[key]


def slug(name: str) -> str:
    """Return a metric's name as a part of a file name: `metrics/mAP50-95(B)` -> `metrics-mAP50-95-B`.

    Example:
        >>> slug("metrics/mAP50-95(B)"), slug("mAP50-95/salt & pepper")
        ('metrics-mAP50-95-B', 'mAP50-95-salt-pepper')
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "monitor"


def safe_name(metric: str) -> str:
    """Return a metric's name as servers take it, MLflow for one: letters, digits and `_ - . / space`, no odd paths.

    Brackets go, as in Ultralytics' own reports to MLflow; any other character becomes `_`.

    Example:
        >>> safe_name("metrics/mAP50-95(B)"), safe_name("mAP50-95/salt & pepper"), safe_name("recall/..")
        ('metrics/mAP50-95B', 'mAP50-95/salt _ pepper', 'recall/__')
    """
    name = re.sub(r"[^\w./ -]", "_", re.sub(r"[()]", "", metric))
    parts = (re.sub(r"^\.{0,2}$", lambda dots: "_" * max(1, len(dots[0])), part) for part in name.split("/"))
    return "/".join(parts)[:_LONGEST_NAME].rstrip("/")


def _with_suffix(template: str) -> str:
    if template.endswith(".pt"):
        return template
    match = re.search(r"\.(h5|keras|ckpt|pth|hdf5)$", template)
    return (template[: match.start()] if match else template) + ".pt"


def _keys(template: str) -> list[str]:
    """Return the keys of a template, each of which may be a metric.

    Raises:
        ValueError: If one may not, or its format does not fit a number.
    """
    try:
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"filepath={template!r} is not a valid format: {error}") from None
    for name, spec in fields:
        if name not in ("epoch", "monitor") and not could_be_metric(name):
            allowed = ("epoch", "monitor", *SHORT_NAMES)
            raise ValueError(
                f"filepath={template!r}: unknown key '{{{name}}}'{nearest(name, allowed)}; allowed are "
                f"{', '.join(allowed)} and full keys such as 'metrics/mAP50-95(B)'"
            )
        try:
            format(1 if name == "epoch" else 0.5, spec or "")
        except ValueError as error:
            raise ValueError(f"filepath={template!r}: format '{spec}' does not fit '{{{name}}}': {error}") from None
    return list(dict.fromkeys(name for name, _ in fields))
