"""The callbacks of a run: labels, conflicts, and configuration."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from yolo_callbacks.core.metrics import UnknownMetricError, check_known
from yolo_callbacks.core.rule import Rule
from yolo_callbacks.support.checks import SettingError, quoted
from yolo_callbacks.support.numbers import plain

R = TypeVar("R", bound=Rule)

_DEEPEST = 20  # levels of nested lists in a parameter

FUNCTION = "<function "
"""Prefix in `run.json` of a parameter's value that JSON cannot hold."""


def check_together(callbacks: Sequence[Rule]) -> None:
    """Check that callbacks do not conflict.

    Raises:
        ValueError: If one is listed twice, two restore their best weights, or two write the same file.
    """
    if len({id(item) for item in callbacks}) < len(callbacks):
        raise ValueError("the same callback object is in the list twice")
    if sum(bool(item.restore_best_weights) for item in callbacks) > 1:
        raise ValueError("only one callback can restore its best weights, and several have restore_best_weights=True")
    check_outputs(label(callbacks))


def label(callbacks: Iterable[R]) -> dict[str, R]:
    """Return the callbacks by label: the name of the class, `Name-2` for a second one of it, and so on."""
    labelled: dict[str, R] = {}
    for callback in callbacks:
        name, number = type(callback).__name__, 1
        while (key := name if number == 1 else f"{name}-{number}") in labelled:
            number += 1
        labelled[key] = callback
    return labelled


def label_of(callback: Rule, labelled: Mapping[str, Rule]) -> str:
    """Return the label that a callback has among those of its run."""
    return next(name for name, item in labelled.items() if item is callback)


def check_outputs(callbacks: Mapping[str, Rule], save_period: int = 0) -> None:
    """Check that no two callbacks write the same file, and none a file of Ultralytics.

    Args:
        callbacks: The callbacks by label.
        save_period: Ultralytics' `save_period`, in epochs; 0 for none.

    Raises:
        ValueError: If two writers share a file.
    """
    writers: dict[str, str] = {}
    for name, callback in callbacks.items():
        for file in callback.outputs():
            one = file.casefold()  # Windows and macOS take A.pt for a.pt
            if one in writers:
                raise ValueError(f"{writers[one]} and {name} would both write {file}: give one of them another name")
            writers[one] = name
            number = file.removeprefix("weights/epoch").removesuffix(".pt")
            if save_period > 0 and number.isdigit():
                raise SettingError(
                    f"{name} would write {file}, and so does Ultralytics with save_period={save_period}: give it "
                    "another name"
                )


def check_metrics(
    callbacks: Mapping[str, Rule],
    metrics: Mapping[str, float],
    losses_known: bool,
    problem: Callable[[str], str | None] = lambda name: None,
    *,
    measures_more: bool = False,
) -> None:
    """Check that the run will have every metric that a callback needs.

    Args:
        callbacks: The callbacks by label.
        metrics: The metrics that the run will have.
        losses_known: Whether they include the losses.
        problem: Returns why the run will not have a metric; None if it knows of no reason.
        measures_more: Whether a validation may measure more metrics.

    Raises:
        UnknownMetricError: If a metric is missing; the message names the callback.
    """
    for name, callback in callbacks.items():
        try:
            for metric in callback.needs():
                if (why := problem(metric)) is not None:
                    raise UnknownMetricError(why)
                check_known(metric, metrics, losses_known, measures_more)
        except UnknownMetricError as error:
            raise UnknownMetricError(f"{name}: {error}") from None


def configuration(callbacks: Mapping[str, Rule]) -> dict[str, Any]:
    """Return class and parameters of each callback, as JSON can hold them."""
    return {
        name: {"class": type(callback).__name__, **_jsonable(callback.get_config())}
        for name, callback in callbacks.items()
    }


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can hold it; a function becomes its name."""
    if depth > _DEEPEST:  # perhaps a list that contains itself
        return quoted(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item, depth + 1) for item in value]
    value = plain(value)
    if isinstance(value, (int, float)) and not abs(value) <= sys.maxsize:  # strict JSON has no NaN, nor text such ints
        return str(value) if isinstance(value, float) else quoted(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return f"{FUNCTION}{getattr(value, '__name__', None) or quoted(value)}>"
