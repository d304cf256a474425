"""Reads the per-class results of a trainer's validation. Used only by `run.py` and `run_state.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_callbacks.core.classes import Classes, ClassResults, distinct

_DECIMALS = 5  # as Ultralytics rounds its own metrics
_OF_BOXES = {"precision": "p", "recall": "r", "mAP50": "ap50", "mAP50-95": "ap"}
# The heads of a task and the attributes of their results in the validator's metrics; the last one scores the task.
_HEADS = {
    "detect": {"": "box"},
    "obb": {"": "box"},
    "segment": {"(B)": "box", "(M)": "seg"},
    "pose": {"(B)": "box", "(P)": "pose"},
}


def classes_of(trainer: Any) -> Classes:
    """Return the classes of a run, before its first epoch. Rank 0."""
    task, metrics = trainer.args.task, getattr(trainer.validator, "metrics", None)
    if task in _HEADS and all(hasattr(metrics, part) for part in _HEADS[task].values()):
        measured = tuple(name + head for head in _HEADS[task] for name in _OF_BOXES)
        return Classes(_names(trainer), measured, measured[-1], _present(trainer))
    if task == "classify" and hasattr(trainer.validator, "pred"):
        return Classes(_names(trainer), ("top1", "top5"), "top1", _present(trainer), counted="images")
    if task == "semantic" and hasattr(metrics, "class_result"):
        return Classes(_names(trainer), ("mIoU", "pixel_acc"), "mIoU", counted="pixels")
    if task == "depth":
        return Classes(without="a depth model measures distances and has no classes")
    return Classes(without=f"{type(trainer.validator).__name__} has no per-class results")


def class_results(trainer: Any, classes: Classes) -> ClassResults:
    """Return the per-class results of the validation that has just ended. Rank 0."""
    task, validator = trainer.args.task, trainer.validator
    if task == "classify":
        return _of_classify(validator, classes)
    metrics = validator.metrics
    indices = [int(index) for index in metrics.ap_class_index]
    if task == "semantic":
        rows = [metrics.class_result(place) for place in range(len(indices))]
        columns: dict[str, Sequence[float]] = {
            name: [row[place] for row in rows] for place, name in enumerate(classes.metrics)
        }
    else:
        parts = {head: getattr(metrics, part) for head, part in _HEADS[task].items()}
        columns = {
            name + head: getattr(part, attribute)
            for head, part in parts.items()
            for name, attribute in _OF_BOXES.items()
        }
    values = {name: _spread(column, indices, len(classes.names)) for name, column in columns.items()}
    counts = [int(number) for number in metrics.nt_per_class] if metrics.nt_per_class is not None else []
    return ClassResults(classes, values, counts)


def _of_classify(validator: Any, classes: Classes) -> ClassResults:
    """Count the images of each class, and those with a top-1 or top-5 hit."""
    import torch

    number = len(classes.names)
    targets, predicted = torch.cat(validator.targets).long(), torch.cat(validator.pred).long()
    right = predicted == targets[:, None]
    counts = torch.bincount(targets, minlength=number)
    indices = torch.nonzero(counts).flatten().tolist()
    hits = {"top1": right[:, 0], "top5": right.any(1)}
    values = {
        name: _spread((torch.bincount(targets[hit], minlength=number) / counts)[indices].tolist(), indices, number)
        for name, hit in hits.items()
    }
    return ClassResults(classes, values, counts.tolist())


def _spread(column: Iterable[float], indices: Sequence[int], number: int) -> list[float | None]:
    """Return one value per class; None for classes without one."""
    values: list[float | None] = [None] * number
    for index, value in zip(indices, column):
        if index < number:
            values[index] = round(float(value), _DECIMALS)
    return values


def _names(trainer: Any) -> tuple[str, ...]:
    """Return the class names that the validator uses: the model's."""
    from ultralytics.utils.torch_utils import unwrap_model

    names = getattr(unwrap_model(trainer.model), "names", None) or trainer.data["names"]
    by_index = names if isinstance(names, Mapping) else dict(enumerate(names))
    return distinct(by_index.get(index, "") for index in range(1 + max(by_index, default=-1)))


def _present(trainer: Any) -> frozenset[int] | None:
    """Return which classes occur in the labels of the validation set; None if unknown."""
    try:
        return frozenset(_labelled(trainer.test_loader.dataset))
    except Exception:  # a user's own dataset may be anything
        return None


def _labelled(dataset: Any) -> set[int]:
    import numpy as np

    if hasattr(dataset, "samples"):
        return {int(sample[1]) for sample in dataset.samples}
    parts = getattr(dataset, "datasets", None) or [dataset]
    found = [np.unique(label["cls"]) for part in parts for label in part.labels]
    return {int(index) for index in np.unique(np.concatenate(found))}
