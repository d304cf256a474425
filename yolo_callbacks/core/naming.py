"""Names of checkpoint files, and templates for them such as `{epoch:03d}-{mAP50-95:.4f}`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from string import Formatter
from typing import Any

from yolo_callbacks.core.metrics import SHORT_NAMES, MetricView, could_be_metric, is_measured
from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.support.checks import check_path, nearest, quoted

WEIGHTS = "weights"
JOURNAL = "callbacks/journal.jsonl"
BACKUP, PREEMPTED = f"{WEIGHTS}/backup.pt", f"{WEIGHTS}/preempted.pt"
EXTENDED = f"{WEIGHTS}/extended.pt"
LAST_KEPT, BEST_KEPT = f"{WEIGHTS}/last.kept.pt", f"{WEIGHTS}/best.kept.pt"
STATES = f"{WEIGHTS}/states"
LATEST, EXCEPTION = "latest.pt", "exception.pt"
TO_RESUME = (PREEMPTED, BACKUP, f"{WEIGHTS}/{LATEST}", LAST_KEPT, BEST_KEPT, EXTENDED)
"""Checkpoints that can be resumed, besides `last.pt`."""
MID_EPOCH = (PREEMPTED.removeprefix(f"{WEIGHTS}/"), EXCEPTION)
"""Names of checkpoints saved in the middle of an epoch."""
EXAMPLE_EPOCH = 12345
"""The epoch in example names: longer than any padding, so that templates which may clash have the same example."""
_OWNED_BY_ULTRALYTICS = ("last", "best")


class FileTemplate:
    """A template for the names of checkpoint files.

    Args:
        template: A path with `{epoch}` (counted from 1), `{monitor}` (the monitored value) or any metric's name in
            braces, each with an optional format as in `str.format`. Relative to the run's `weights` folder, or
            absolute; a backslash separates folders like `/`. The suffix is `.pt`; those of other frameworks (`.h5`,
            `.keras`, `.ckpt`, ...) are replaced by it.

    Attributes:
        keys: The keys in the template.
        replaced_suffix: Whether the template had the suffix of another framework.

    Raises:
        TypeError: If the template is not a string.
        ValueError: If a key is unknown, a format does not fit, the path leaves the run directory, or Ultralytics
            writes this file.

    Example:
        >>> FileTemplate("{epoch:03d}-{mAP50-95:.4f}").render(7, {"mAP50-95": 0.51234}, None)
        'weights/007-0.5123.pt'
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise TypeError(f"filepath={quoted(template)} must be a string such as '{{epoch:03d}}-{{fitness:.4f}}'")
        self._template = _with_suffix(template)
        self.replaced_suffix = not template.endswith(".pt") and not self._template.startswith(template)
        self.keys = tuple(_keys(self._template))
        path = PurePosixPath(self._template.replace("\\", "/"))
        self._absolute = path.is_absolute() or PureWindowsPath(self._template).is_absolute()
        check_path("filepath", template)
        if ".." in path.parts:
            raise ValueError(f"filepath={quoted(template)} leaves the run directory: use an absolute path for that")
        owned = path.stem.casefold() in _OWNED_BY_ULTRALYTICS  # to Windows and macOS, Best.pt is best.pt
        if owned and not self._absolute and len(path.parts) == 1:
            raise ValueError(
                f"filepath={quoted(template)} is a file that Ultralytics itself writes: choose another name"
            )

    def render(self, epoch: int, metrics: Mapping[str, float], monitored: float | None) -> str:
        """Return the path for an epoch, with `/`: relative to the run directory, or absolute."""
        values = {key: _value(key, metrics) for key in self.keys if key not in ("epoch", "monitor")}
        if monitored is not None:
            values["monitor"] = monitored
        name = _ByName().vformat(self._template, (), {**values, "epoch": epoch}).replace("\\", "/")
        return name if self._absolute else f"{WEIGHTS}/{name}"

    def render_record(self, record: EpochRecord, monitored: float | None) -> str:
        """Return the path for an epoch's record."""
        return self.render(record.epoch, MetricView(record), monitored)

    def example(self) -> str:
        """Return an example path; templates with the same example may write the same files."""
        return self.render(EXAMPLE_EPOCH, dict.fromkeys(self.keys, 0.5), 0.5)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTemplate) and self._template == other._template

    def __hash__(self) -> int:
        return hash(self._template)


class _ByName(Formatter):
    """Takes each key literally: a class may be called `St. Bernard`, where `str.format` sees an attribute of `St`."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        return kwargs[field_name], field_name


def _value(key: str, metrics: Mapping[str, float]) -> float:
    """Return a metric; NaN for one that callbacks measure, in an epoch that was rebuilt from the trainer's log."""
    return float(metrics.get(key, math.nan)) if is_measured(key) else metrics[key]


def slug(name: str) -> str:
    """Return a metric's name as part of a file name.

    Example:
        >>> slug("metrics/mAP50-95(B)"), slug("mAP50-95/salt & pepper")
        ('metrics-mAP50-95-B', 'mAP50-95-salt-pepper')
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "monitor"


def _with_suffix(template: str) -> str:
    if template.endswith(".pt"):
        return template
    match = re.search(r"\.(h5|keras|ckpt|pth|hdf5)$", template)
    return (template[: match.start()] if match else template) + ".pt"


def _keys(template: str) -> list[str]:
    """Return the unique keys of a template.

    Raises:
        ValueError: If a key is not `epoch`, `monitor` or the name of a metric, or its format does not fit a number.
    """
    try:
        fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"filepath={quoted(template)} is not a valid template: {error}") from None
    for name, spec, conversion in fields:
        if name not in ("epoch", "monitor") and not could_be_metric(name):
            allowed = ("epoch", "monitor", *SHORT_NAMES)
            raise ValueError(
                f"filepath={quoted(template)}: unknown key {quoted('{' + name + '}')}{nearest(name, allowed)}; "
                f"allowed are "
                f"{', '.join(allowed)} and full keys such as 'metrics/mAP50-95(B)'"
            )
        if conversion or re.search(r"\d{3}", spec or ""):
            raise ValueError(f"filepath={quoted(template)}: '{{{name}}}' takes a short format such as ':04d', ':.4f'")
        try:
            format(1 if name == "epoch" else 0.5, spec or "")
        except ValueError as error:
            raise ValueError(
                f"filepath={quoted(template)}: format {quoted(spec)} does not fit '{{{name}}}': {error}"
            ) from None
    return list(dict.fromkeys(name for name, *_ in fields))
