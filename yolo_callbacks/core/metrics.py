"""Names of metrics: from short names to keys, which direction is better, and the error for an unknown name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from yolo_callbacks.core.record import EpochRecord
from yolo_callbacks.support.checks import SettingError, nearest

_HIGHER_IS_BETTER = (
    "mAP50-95",
    "mAP50",
    "precision",
    "recall",
    "accuracy_top1",
    "accuracy_top5",
    "mIoU",
    "pixel_acc",
    "delta1",
    "delta2",
    "delta3",
)
_LOWER_IS_BETTER = ("abs_rel", "rmse", "silog")
_SHORT = {name: name for name in _HIGHER_IS_BETTER + _LOWER_IS_BETTER} | {
    "top1": "accuracy_top1",
    "top5": "accuracy_top5",
}
_LOSS_SUMS = {"train_loss": "train/", "val_loss": "val/"}
_OF_THE_TRAINER = ("metrics/", "train/", "val/", "lr/")
# In a run with two heads, a name without its head means the task's own, as in ultralytics.cfg.TASK2METRIC.
_HEADS = ("(M)", "(P)", "(B)")

CLASS_METRICS = ("mAP50-95", "mAP50", "precision", "recall", "mIoU", "pixel_acc", "top1", "top5")
"""The metrics of a single class, as in `mAP50-95/person`."""

WORST_CLASS = "worst_class"
CLASS_SUMMARIES: dict[str, str] = {
    WORST_CLASS: "max",
    "classes/p10": "max",
    "classes/median": "max",
    "classes/at_zero": "min",
}
"""The metrics of all classes together, and their better direction."""

SHORT_NAMES: tuple[str, ...] = ("fitness", *_SHORT, *_LOSS_SUMS, "lr", WORST_CLASS)


class UnknownMetricError(SettingError):
    """A callback needs a metric that the run does not have. The message has the nearest match.

    Example:
        ```python
        try:
            model.train(data="coco8.yaml", epochs=3)
        except ycb.UnknownMetricError as error:
            print(error)  # EarlyStopping: 'recal' is not a metric of this run (did you mean 'recall'?); available: ...
        ```
    """


class UnmeasuredError(UnknownMetricError):
    """The same for a metric that callbacks measure: see `is_measured`."""


def keys_of(name: str, available: Iterable[str]) -> tuple[str, ...]:
    """Return the keys whose sum is the metric `name`: one key, or all losses for `val_loss` and `train_loss`.

    Args:
        name: A key of the trainer (`metrics/mAP50-95(B)`), a short name (`mAP50-95`, `val_loss`), a short name with
            its head (`mAP50-95(M)`), one class's metric (`mAP50-95/person`, `mAP50-95(M)/person`), or a metric of
            another data set (`test/mAP50-95`).
        available: The keys of the run.

    Raises:
        UnknownMetricError: If there is no such metric; the message has the nearest match.

    Example:
        >>> keys_of("mAP50", ["metrics/mAP50(B)", "metrics/mAP50(M)"])
        ('metrics/mAP50(M)',)
        >>> keys_of("val_loss", ["val/box_loss", "val/cls_loss", "train/box_loss"])
        ('val/box_loss', 'val/cls_loss')
    """
    keys = available if isinstance(available, Mapping) else tuple(available)
    found = _find(name, keys)
    if not found:
        raise (UnmeasuredError if is_measured(name) else UnknownMetricError)(unknown_metric(name, keys))
    return found


def _find(name: str, keys: Collection[str]) -> tuple[str, ...]:
    """Return the keys of a metric; empty if it is unknown."""
    if name in keys:
        return (name,)
    if name in _LOSS_SUMS:
        return tuple(key for key in keys if key.startswith(_LOSS_SUMS[name]) and key.endswith("loss"))
    if class_metric(name) is not None:
        candidates = class_keys(name)
    else:
        where, _, short = name.rpartition("/")  # `test/mAP50-95` is one of another data set
        stem = "lr/pg0" if name == "lr" else f"{where}{'/' * bool(where)}metrics/{_SHORT.get(short, short)}"
        candidates = (stem, *(stem + head for head in _HEADS))
    return next(((candidate,) for candidate in candidates if candidate in keys), ())


def class_metric(name: str) -> tuple[str, str] | None:
    """Return metric and class of a name such as `mAP50-95(M)/person`; None for any other name.

    Example:
        >>> class_metric("mAP50-95(M)/person"), class_metric("recall/salt/pepper"), class_metric("val/box_loss")
        (('mAP50-95(M)', 'person'), ('recall', 'salt/pepper'), None)
    """
    metric, _, label = name.partition("/")
    return (metric, label) if label and _headless(metric) in CLASS_METRICS else None


def is_of_classes(name: str) -> bool:
    """Return whether `name` is a metric of one class or of all classes together."""
    return name in CLASS_SUMMARIES or class_metric(name) is not None


def class_keys(name: str) -> tuple[str, ...]:
    """Return the possible keys of one class's metric, in order of preference.

    A name without its head means the task's own. The keys of a run with one head have none.
    """
    metric, _, label = name.partition("/")
    stem = _headless(metric)
    heads = ("", *_HEADS) if stem == metric else (metric[len(stem) :], *([""] if metric.endswith("(B)") else []))
    return tuple(f"{stem}{head}/{label}" for head in heads)


def is_measured(name: str) -> bool:
    """Return whether callbacks measure this metric, rather than the trainer.

    A validated epoch may lack it if it was rebuilt from Ultralytics' own log, which has only the trainer's metrics.
    """
    return name in CLASS_SUMMARIES or ("/" in name and not name.startswith(_OF_THE_TRAINER))


def unknown_metric(name: str, available: Iterable[str]) -> str:
    """Return the error message for a metric that the run does not have."""
    keys = dict.fromkeys(available)
    of_classes = [split for split in map(class_metric, keys) if split is not None]
    others = {*(key for key in keys if class_metric(key) is None), *(n for n in SHORT_NAMES if _find(n, keys))}
    wanted = class_metric(name)
    if wanted is not None:
        hint = nearest(wanted[1], dict.fromkeys(label for _, label in of_classes if label != wanted[1]))
        hint = hint or f" (for a function as monitor, add PerClassMetrics(classes=['{wanted[1]}']))"
    else:
        hint = nearest(name, [*others, *(_stem(key) for key in others)])
    counted = Counter(metric for metric, _ in of_classes)  # there may be a thousand classes
    grouped = (f"{metric}/<class> of {number} classes" for metric, number in counted.items())
    known = ", ".join(sorted([*others, *grouped]))
    return f"'{name}' is not a metric of this run{hint}; available: {known or 'none'}"


def direction(name: str) -> str | None:
    """Return the better direction of a metric, `"max"` or `"min"`; None if the name does not tell.

    Example:
        >>> direction("val/box_loss"), direction("mAP50-95"), direction("metrics/rmse"), direction("lr/pg0")
        ('min', 'max', 'min', None)
        >>> direction("mAP50-95/person"), direction("worst_class")
        ('max', 'max')
    """
    if name in CLASS_SUMMARIES:
        return CLASS_SUMMARIES[name]
    if class_metric(name) is not None:
        return "max"
    stem = _stem(name)
    if stem == "fitness" or _SHORT.get(stem, stem) in _HIGHER_IS_BETTER:
        return "max"
    if stem in _LOWER_IS_BETTER or re.search(r"(^|_)loss$", stem):
        return "min"
    return None


def could_be_metric(name: str) -> bool:
    """Return whether `name` has the form of a metric's name; the metrics of the run may not be known yet."""
    return "/" in name.strip("/") or _stem(name) in SHORT_NAMES


def check_known(name: str, available: Iterable[str], losses_known: bool = True, measures_more: bool = False) -> None:
    """Check that a run has a metric.

    Args:
        name: The metric.
        available: The metrics of the run.
        losses_known: Whether they include the losses; if not, the name of any loss passes.
        measures_more: Whether a custom validation may measure more; if so, any name that begins with `metrics/`
            passes.

    Raises:
        UnknownMetricError: If the run does not have it; the message has the nearest match.
    """
    if (is_loss(name) and not losses_known) or (_is_of_validation(name) and measures_more):
        return  # checked in the first epoch
    keys_of(name, available)


def fitness_of(metrics: Mapping[str, float]) -> float | None:
    """Return the fitness of these metrics, as Ultralytics computes it; None if they do not determine it.

    Source: the `fitness` properties of `ultralytics.utils.metrics`: the sum of the heads' mAP50-95 for detection,
    segmentation, pose and oriented boxes; the mean of top-1 and top-5 accuracy; mIoU; delta1.

    Example:
        >>> fitness_of({"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(M)": 0.25})
        0.75
    """
    scores = [value for key, value in metrics.items() if key.startswith("metrics/mAP50-95")]
    if scores:
        return sum(scores)
    if "metrics/accuracy_top1" in metrics:
        top1 = metrics["metrics/accuracy_top1"]
        return (top1 + metrics.get("metrics/accuracy_top5", top1)) / 2
    return metrics.get("metrics/mIoU", metrics.get("metrics/delta1"))


def _is_of_validation(name: str) -> bool:
    """Return whether a metric is one of the validation, or of the validation of another data set."""
    return "metrics/" in name and name.rpartition("metrics/")[0][-1:] in ("", "/")


def is_loss(name: str) -> bool:
    """Return whether `name` is a loss or a sum of losses."""
    return name in _LOSS_SUMS or name.startswith(("train/", "val/"))


class MetricView(Mapping[str, float]):
    """The metrics of one epoch, by the trainer's keys and by short names.

    Example:
        >>> view = MetricView(EpochRecord(1, {"metrics/precision(B)": 0.5, "fitness": 0.25}))
        >>> view["precision"], view["fitness"]
        (0.5, 0.25)
    """

    def __init__(self, record: EpochRecord) -> None:
        self._metrics = record.metrics

    def __getitem__(self, name: str) -> float:
        return sum(self._metrics[key] for key in keys_of(name, self._metrics))

    def get(self, name: str, default: Any = None) -> Any:
        """Return a metric, or `default` if there is none."""
        found = _find(name, self._metrics)
        return sum(self._metrics[key] for key in found) if found else default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(_find(name, self._metrics))

    def __iter__(self) -> Iterator[str]:
        yield from self._metrics
        yield from (name for name in SHORT_NAMES if name not in self._metrics and name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _stem(name: str) -> str:
    """Drop the prefix and the head: `metrics/mAP50-95(B)`, `test/metrics/mAP50-95(B)` -> `mAP50-95`."""
    _, of_another_set, short = name.partition("/metrics/")
    return _headless(short if of_another_set else name.split("/", 1)[-1])


def _headless(name: str) -> str:
    """Drop the head: `mAP50-95(B)` -> `mAP50-95`."""
    return re.sub(r"\([A-Z]\)$", "", name)
