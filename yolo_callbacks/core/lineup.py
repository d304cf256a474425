"""The callbacks of a run: their labels, and whether they go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from yolo_callbacks.core.metrics import UnknownMetricError, check_known
from yolo_callbacks.core.rule import Rule
from yolo_callbacks.support.checks import SettingError
from yolo_callbacks.support.numbers import plain

R = TypeVar("R", bound=Rule)

FUNCTION = "<function "
"""How the value of a parameter begins in `run.json` where JSON cannot hold it."""


def check_together(callbacks: Sequence[Rule]) -> None:
    """Make sure that callbacks go together.

    Raises:
        ValueError: If they do not.
    """
    if len({id(item) for item in callbacks}) < len(callbacks):
        raise ValueError("the same callback object is in the list twice")
    if sum(bool(item.restore_best_weights) for item in callbacks) > 1:
        raise ValueError("only one callback can restore its best weights, and several have restore_best_weights=True")
    check_outputs(label(callbacks))


def label(callbacks: Iterable[R]) -> dict[str, R]:
    """Name callbacks by their class; a second one of a class is `Name-2`, and so on."""
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
    """Make sure that no two callbacks write the same file, nor one that Ultralytics writes.

    Raises:
        ValueError: If they do.
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
                raise SettingError(f"{name} would write {file}, and so does Ultralytics with save_period={save_period}")


def check_metrics(
    callbacks: Mapping[str, Rule],
    metrics: Mapping[str, float],
    losses_known: bool,
    problem: Callable[[str], str | None] = lambda name: None,
    *,
    measures_more: bool = False,
) -> None:
    """Make sure that the run has every metric that a callback asks for.

    Args:
        callbacks: The callbacks by label.
        metrics: Names of all metrics that the run will have.
        losses_known: Whether the names of the losses are among them.
        problem: Returns why there will not be a metric, None where it knows of nothing.
        measures_more: Whether a validation may measure more.

    Raises:
        UnknownMetricError: If it has not; the message names the callback.
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
    """Return how the callbacks are set, as JSON can hold it."""
    return {
        name: {"class": type(callback).__name__, **_jsonable(callback.get_config())}
        for name, callback in callbacks.items()
    }


def _jsonable(value: Any) -> Any:
    """Return a callback's configuration as JSON can hold it; of a function, only its name."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    value = plain(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return f"{FUNCTION}{getattr(value, '__name__', value)}>"
