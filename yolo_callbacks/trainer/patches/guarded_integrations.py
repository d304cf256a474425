"""Keeps Ultralytics' own integrations from failing a training.

Changed: the integrations' functions in `trainer.callbacks`, each wrapped in a guard. Ray Tune's is left alone, because
it runs the trial.
Why: any of them may raise. MLflow's does on the ranks above 0, whose trainers have no metrics. An exception is logged
once, and training continues.
Undone: never; the lists belong to this trainer only, and a guarded function equals its original.
Needed in: every supported version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolo_callbacks.trainer.patches.guard import Guard
from yolo_callbacks.trainer.patches.platform import PlatformGuard, platform_state
from yolo_callbacks.trainer.patches.platform_key import hide_key

_PACKAGE = "ultralytics.utils.callbacks"
_NONE, _PLATFORM = "base", "platform"  # modules of the package; functions in `base` do nothing and come first
_NAMES = {
    "clearml": "ClearML",
    "comet": "Comet",
    "dvc": "DVCLive",
    "mlflow": "MLflow",
    "tensorboard": "TensorBoard",
    "wb": "Weights & Biases",
}
_MAY_RAISE = ("raytune",)


def guard_integrations(trainer: Any) -> None:
    """Guard a trainer's integrations in place, in the same lists. Idempotent.

    Args:
        trainer: The trainer; it may be iterating over one of its lists.
    """
    guards: dict[str, Guard] = {}
    for event, functions in trainer.callbacks.items():
        for index in range(len(functions)):
            function = functions[index]
            name = _integration(function)
            if name and name not in _MAY_RAISE and not isinstance(function, _Guarded):
                guard = guards.setdefault(name, PlatformGuard() if name == _PLATFORM else Guard(_title(name)))
                functions[index] = _Guarded(event, function, guard)
    if _PLATFORM in guards:
        hide_key()


def integrations(trainer: Any) -> tuple[str, ...]:
    """Return which Ultralytics integrations receive the metrics of an epoch, such as `platform` and `wb`."""
    names = dict.fromkeys(_integration(function) for function in trainer.callbacks["on_fit_epoch_end"])
    return tuple(name for name in names if name and (name != _PLATFORM or platform_state(trainer)))


def before_integrations(functions: list[Any]) -> int:
    """Return the index of the first function of an integration in a list, or the list's length."""
    return next((index for index in range(len(functions)) if _integration(functions[index])), len(functions))


def _integration(function: Any) -> str:
    """Return the integration that a function belongs to (its module's name); empty for none."""
    package, _, name = str(getattr(function, "__module__", "")).rpartition(".")
    return name if package == _PACKAGE and name != _NONE else ""


class _Guarded:
    """A guarded function of an integration; equals the original, so that it can be found and removed as before."""

    def __init__(self, event: str, function: Callable[[Any], Any], guard: Guard) -> None:
        self._event, self._function, self._guard = event, function, guard
        self.__module__ = function.__module__

    def __call__(self, source: Any) -> None:
        self._guard.call(self._event, self._function, source)

    def __eq__(self, other: object) -> bool:
        return bool(self._function == (other._function if isinstance(other, _Guarded) else other))

    def __hash__(self) -> int:
        return hash(self._function)


def _title(name: str) -> str:
    return f"Ultralytics' {_NAMES.get(name, name)} integration"
