"""The classes of a run, and the metrics of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from yolo_callbacks.core.metrics import (
    CLASS_SUMMARIES,
    WORST_CLASS,
    UnknownMetricError,
    class_keys,
    class_metric,
)
from yolo_callbacks.support.checks import nearest

_MOST_LISTED = 8  # classes in an error message; a dataset may have a thousand


@dataclass(frozen=True)
class Classes:
    """The classes of a run, known before its first epoch.

    Attributes:
        names: Their unique names, by index.
        metrics: The metrics of each class, such as `("precision", "recall", ...)`; with the head if the task has two.
        main: The metric that summaries such as `worst_class` are taken from.
        present: Indices of the classes in the validation set; None if that is not known in advance.
        without: Why classes have no metrics, if `metrics` is empty.
        counted: What `ClassResults.counts` counts, such as `"instances"`.
    """

    names: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    main: str = ""
    present: frozenset[int] | None = None
    without: str = ""
    counted: str = "instances"

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The index of each name."""
        return {name: index for index, name in enumerate(self.names)}

    def keys(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return, for those names that are a metric of a class or of all classes, the keys in an epoch's record.

        Example:
            >>> classes = Classes(("cat", "dog"), ("mAP50-95(B)", "mAP50-95(M)"), "mAP50-95(M)")
            >>> classes.keys(["mAP50-95/cat", "mAP50-95(B)/dog", "worst_class", "fitness", "mAP50-95/cow"])
            ('mAP50-95(M)/cat', 'mAP50-95(B)/dog', 'worst_class')
        """
        found = (self._key(name) for name in names)
        return tuple(dict.fromkeys(key for key in found if key is not None))

    def _key(self, name: str) -> str | None:
        if name in CLASS_SUMMARIES:
            return name if self.metrics else None
        split = class_metric(name)
        if split is None or split[1] not in self.index:
            return None
        return next((key for key in class_keys(name) if key.partition("/")[0] in self.metrics), None)

    def problem(self, name: str, known: Container[str] = ()) -> str | None:
        """Return a sentence that says why the run will not have this metric; None if it will.

        Args:
            name: A metric of one class or of all classes.
            known: The other numbers of the run; a user's own callback may measure something under such a name.
        """
        if self._key(name) is None:
            return None if name in known else self._unknown(name)
        label = name.partition("/")[2]
        if name in CLASS_SUMMARIES or self.present is None or self.index[label] in self.present:
            return None
        present = [name for index, name in enumerate(self.names) if index in self.present]
        return f"'{name}' cannot be measured: no '{label}' occurs in the validation set, only {_listed(present)}"

    def _unknown(self, name: str) -> str:
        metric, _, label = name.partition("/")
        if not self.metrics:
            return f"'{name}' is not available in this run: {self.without}"
        if label not in self.index:
            hint = nearest(label, self.names)
            return f"'{name}': this run has no class '{label}'{hint}; it has {_listed(self.names)}"
        hint = nearest(metric, self.metrics)
        return f"'{name}': this run has no {metric} per class{hint}; it has {', '.join(self.metrics)}"

    def select(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Return the classes that match names and patterns such as `"*_sign"`, in order of their index.

        Raises:
            UnknownMetricError: If one matches no class.
        """
        chosen: set[str] = set()
        for pattern in patterns:
            matching = [pattern] if pattern in self.index else [n for n in self.names if fnmatchcase(n, pattern)]
            if not matching:
                raise UnknownMetricError(
                    f"this run has no class '{pattern}'{nearest(pattern, self.names)}; it has {_listed(self.names)}"
                )
            chosen.update(matching)
        return tuple(name for name in self.names if name in chosen)


@dataclass(frozen=True)
class ClassResults:
    """The metrics of each class in one validation.

    Attributes:
        classes: The classes.
        values: For each metric one value per class; None for a class that does not occur.
        counts: How often each class occurs: objects, images, or pixels (semantic segmentation).
    """

    classes: Classes
    values: Mapping[str, Sequence[float | None]]
    counts: Sequence[int] = field(default_factory=tuple)

    def numbers(self, keys: Iterable[str]) -> dict[str, float]:
        """Return the values of these keys, without those of classes that do not occur."""
        summaries, numbers = self.summaries, dict[str, float]()
        for key in keys:
            value = summaries.get(key) if key in CLASS_SUMMARIES else self._value(key)
            if value is not None:
                numbers[key] = value
        return numbers

    def _value(self, key: str) -> float | None:
        metric, _, name = key.partition("/")
        return self.values[metric][self.classes.index[name]]

    @cached_property
    def summaries(self) -> dict[str, float]:
        """The lowest, 10th percentile and median of the main metric, and how many classes are at 0."""
        values = sorted(value for value in self.values[self.classes.main] if value is not None)
        if not values:
            return {}
        return {
            WORST_CLASS: values[0],
            "classes/p10": _quantile(values, 0.1),
            "classes/median": _quantile(values, 0.5),
            "classes/at_zero": float(sum(value == 0 for value in values)),
        }


def distinct(names: Iterable[object]) -> tuple[str, ...]:
    """Return class names as unique single lines of text.

    Example:
        >>> distinct(["car", "person", "car", "", "salt  & pepper"])
        ('car#0', 'person', 'car#2', '#3', 'salt & pepper')
    """
    encodable = (str(name).replace("\0", " ").encode("utf-8", "replace").decode() for name in names)
    plain = [" ".join(name.split()) for name in encodable]
    repeated = {name for name, number in Counter(plain).items() if number > 1 or not name}
    taken = {name for name in plain if name not in repeated}
    result = []
    for index, name in enumerate(plain):
        new = f"{name}#{index}" if name in repeated else name
        while new in taken and name in repeated:
            new += "#"
        taken.add(new)
        result.append(new)
    return tuple(result)


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, interpolated."""
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return round(values[low] + (place - low) * (values[high] - values[low]), 5)


def _listed(names: Sequence[str]) -> str:
    """Return names for a sentence: the first few, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:_MOST_LISTED])
    more = len(names) - _MOST_LISTED
    return (f"{shown} and {more} more" if more > 0 else shown) or "none"
