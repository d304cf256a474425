"""Reads a trainer's measurements and settings."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_callbacks._version import __version__
from yolo_callbacks.core.record import MIXING, warm_up

# Names of the losses, for tasks whose criterion does not name them before its first batch.
_LOSSES_BY_TASK = {"classify": ("loss",), "semantic": ("ce_loss", "dice_loss", "aux_loss")}

_JUDGED_BY = ("split", "single_cls", "classes", "conf", "iou", "max_det", "agnostic_nms", "overlap_mask")


def learning_rates(trainer: Any) -> dict[str, float]:
    """Return the learning rate of each parameter group under the trainer's names."""
    return {f"lr/pg{i}": group["lr"] for i, group in enumerate(trainer.optimizer.param_groups)}


def warmup_epochs(trainer: Any) -> float:
    """Return the number of warm-up epochs."""
    return warm_up(trainer.args.warmup_epochs or 0, trainer.epochs)


def close_mosaic(trainer: Any) -> int:
    """Return the number of last epochs without augmentations that mix images; 0 if that changes nothing."""
    args = trainer.args
    mixes = any(vars(args).get(name) for name in MIXING)
    return int(args.close_mosaic or 0) if mixes and hasattr(trainer.train_loader.dataset, "close_mosaic") else 0


def metric_names(trainer: Any) -> tuple[str, ...]:
    """Return the names of the validation's metrics. A depth validator has box metrics until it first validates."""
    if trainer.args.task == "depth":
        from ultralytics.utils.metrics import DepthMetrics

        return tuple(DepthMetrics().keys)
    return tuple(trainer.metrics or ())


def validates_in_its_own_way(trainer: Any) -> bool:
    """Return whether the validation, its validator or its metrics are overridden."""
    parts = (trainer.validate, type(trainer.validator), type(getattr(trainer.validator, "metrics", None)))
    modules = (str(getattr(part, "__module__", "")) for part in parts)
    return any(module.partition(".")[0] not in ("ultralytics", "builtins") for module in modules)


def loss_names(trainer: Any) -> tuple[str, ...]:
    """Return the names of the losses; empty if they are not known before the first batch."""
    if trainer.loss_names:
        return tuple(trainer.loss_names)
    from ultralytics.utils.torch_utils import unwrap_model

    try:
        criterion = unwrap_model(trainer.model).init_criterion()
    except Exception:  # a user's model may have none, or cannot build it yet
        return ()
    names = getattr(criterion, "loss_names", None) or getattr(getattr(criterion, "one2many", None), "loss_names", None)
    return tuple(names or _LOSSES_BY_TASK.get(trainer.args.task, ()))


def measures(trainer: Any, train_seconds: float | None, now: float | None = None) -> dict[str, float]:
    """Return duration, speed and memory of the epoch that has just ended.

    Args:
        trainer: The trainer.
        train_seconds: Duration of the epoch's batches; None if unknown.
        now: The time, if the trainer does not know the epoch's duration yet.
    """
    import psutil

    measured = {"seconds": float(trainer.epoch_time if now is None else now - trainer.epoch_time_start)}
    if train_seconds:
        measured["images_per_second"] = len(trainer.train_loader.dataset) / train_seconds
    measured["rss_gb"] = psutil.Process().memory_info().rss / 2**30
    if trainer.device.type != "cpu":
        measured["gpu_gb"] = float(trainer._get_memory())
    return measured


def measure_names(trainer: Any) -> tuple[str, ...]:
    """Return the names that `measures` returns."""
    return ("seconds", "images_per_second", "rss_gb", *(["gpu_gb"] if trainer.device.type != "cpu" else []))


def description(trainer: Any) -> dict[str, Any]:
    """Return the run's versions, task, device and arguments for `run.json`."""
    import torch
    import ultralytics

    args = vars(trainer.args)
    return {
        "task": args.get("task"),
        "model": str(args.get("model")),
        "data": str(args.get("data")),
        "device": str(trainer.device),
        "processes": max(1, int(trainer.world_size or 0)),
        "versions": {
            "python": platform.python_version(),
            "yolo_callbacks": __version__,
            **{package.__name__: package.__version__ for package in (ultralytics, torch)},
        },
        "args": {key: _plain(value) for key, value in args.items()},
    }


def is_verbose(trainer: Any) -> bool:
    """Return whether the trainer logs as usual; False after `train(verbose=False)`."""
    return bool(getattr(trainer.args, "verbose", True))


def validation_arguments(trainer: Any) -> dict[str, Any]:
    """Return the arguments of `YOLO.val` that validate a checkpoint as the run does."""
    args = vars(trainer.args)
    data = Path(str(args["data"]))
    chosen = {key: args.get(key) for key in _JUDGED_BY}
    return {
        "data": str(data.resolve()) if data.exists() else str(args["data"]),
        "imgsz": args["imgsz"],
        **{key: value for key, value in chosen.items() if value is not None},
    }


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers: other callbacks may put anything into the trainer's dicts."""
    numbers = {}
    for key, value in values.items():
        try:
            numbers[str(key)] = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            continue
    return numbers


def _plain(value: Any) -> Any:
    """Return a JSON-serializable value."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)
