"""What differs between runs: settings, results, and whether the validation set can tell the results apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo_callbacks.core.metrics import direction
from yolo_callbacks.inspecting.interval import difference, wilson
from yolo_callbacks.inspecting.overview import Overview, logged_run, overview_from
from yolo_callbacks.inspecting.validation_set import validation_images
from yolo_callbacks.replaying.logged_run import LoggedRun
from yolo_callbacks.run_dir.manifest import manifest_of

_NOT_SETTINGS = {"exist_ok", "mode", "name", "project", "resume", "save_dir", "verbose"}
_ABSENT = None


@dataclass(frozen=True)
class ComparedRun:
    """One of the compared runs.

    Attributes:
        overview: The run at a glance.
        settings: Its arguments by name; callbacks as `EarlyStopping.patience`, versions as `version.torch`.
        metrics: The best value of each metric of the validation, and its epoch.
        images: Number of its validation images; None if unknown.
        devices: Number of processes that trained it.
        has_arguments: Whether its arguments are recorded.
    """

    overview: Overview
    settings: Mapping[str, Any]
    metrics: Mapping[str, tuple[float, int]]
    images: int | None
    devices: int
    has_arguments: bool

    @property
    def device_hours(self) -> float | None:
        """Hours of training times the number of devices; None if the time is not logged."""
        seconds = self.overview.seconds
        return None if seconds is None else seconds * self.devices / 3600

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the best score; None if it cannot be told."""
        best = self.overview.best
        return None if best is None or not self.images or not 0 <= best <= 1 else wilson(best, self.images)


def read_compared(folder: Path, name: str) -> ComparedRun:
    """Read a run."""
    manifest, arguments = manifest_of(folder), _arguments(folder)
    given = {**(manifest.get("args") or {}), **arguments}
    settings = {key: value for key, value in given.items() if key not in _NOT_SETTINGS}
    for label, values in (manifest.get("callbacks") or {}).items():
        settings[label] = values.get("class", label)
        settings.update({f"{label}.{key}": value for key, value in values.items() if key != "class"})
    settings.update({f"version.{key}": value for key, value in (manifest.get("versions") or {}).items()})
    processes = manifest.get("processes")
    devices = processes if isinstance(processes, int) else _devices(given.get("device"))
    run = logged_run(folder)
    overview = overview_from(folder, manifest, run, name)
    return ComparedRun(overview, settings, _best_metrics(run), validation_images(given), devices, bool(given))


def differences(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Return the settings that differ, and their values; those of a callback only if all runs have it."""
    names = dict.fromkeys(key for run in runs for key in run.settings)
    found: dict[str, list[Any]] = {}
    for name in names:
        values = [run.settings.get(name, _ABSENT) for run in runs]
        label = name.partition(".")[0]
        in_all = label in (name, "version") or all(label in run.settings for run in runs)
        if in_all and any(value != values[0] for value in values[1:]):
            found[name] = values
    return found


def verdict(run: ComparedRun, first: ComparedRun) -> tuple[str, tuple[float, float] | None]:
    """Return whether two runs can be told apart, and the 95% interval of the difference of their best scores.

    The verdict is `better`, `worse`, `no clear difference`, or begins with `cannot tell`.
    """
    a, b = first.overview, run.overview
    if a.best is None or b.best is None:
        return "cannot tell: nothing was measured", None
    if a.metric != b.metric:
        return f"cannot tell: {b.metric} against {a.metric}", None
    if run.settings.get("data") != first.settings.get("data"):
        return "cannot tell: validated on other data", None
    if not (run.images and first.images):
        return "cannot tell: the validation set was not found", None
    if run.interval is None or first.interval is None:
        return "cannot tell: the metric is not a share", None
    low, high = difference(a.best, first.images, b.best, run.images)
    return "better" if low > 0 else "worse" if high < 0 else "no clear difference", (low, high)


def _arguments(folder: Path) -> dict[str, Any]:
    for name in ("args.yaml", "opt.yaml"):
        try:
            data = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(data, dict):
            return {str(key): value for key, value in data.items()}
    return {}


def _devices(device: Any) -> int:
    """Return the number of devices of an argument such as `0,1`, `[0, 1]` or `cpu`."""
    names = device if isinstance(device, list) else str(device or "").split(",")
    return max(1, len(names))


def _best_metrics(run: LoggedRun | None) -> dict[str, tuple[float, int]]:
    """Return the best value of each metric and the first epoch with it."""
    best: dict[str, tuple[float, int]] = {}
    for record in run.records if run is not None else ():
        for name, value in record.metrics.items():
            if not name.startswith("metrics/") or not math.isfinite(value):
                continue
            sign = -1 if direction(name) == "min" else 1
            if name not in best or sign * value > sign * best[name][0]:
                best[name] = (value, record.epoch)
    return best
