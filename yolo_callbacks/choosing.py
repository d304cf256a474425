"""The arguments of attach(): checks of the model, and the list of callbacks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeGuard, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.config import load_config
from yolo_callbacks.core.events import check_events
from yolo_callbacks.core.lineup import check_together
from yolo_callbacks.defaults import default_callbacks
from yolo_callbacks.support.checks import quoted
from yolo_callbacks.trainer.versions import ultralytics_is_at_least

Callbacks = Union[Iterable[Callback], Callback, str, "os.PathLike[str]", None]
"""What `attach` takes: a callback, a list of callbacks, the path of a YAML file that lists them, or None."""


MINIMUM_ULTRALYTICS = (8, 4, 140)
"""The first version that passes callbacks to every GPU; older ones silently drop them."""


def resolve(callbacks: Callbacks) -> list[Callback]:
    """Return the callbacks as a list.

    Raises:
        TypeError: If it contains something other than callbacks.
        ValueError: If the callbacks conflict, or a configuration file has a mistake.
    """
    if callbacks is None:
        return default_callbacks()
    if isinstance(callbacks, (str, os.PathLike)):
        return load_config(callbacks)
    if isinstance(callbacks, Callback):
        callbacks = [callbacks]
    if not isinstance(callbacks, Iterable):
        hint = f": write {callbacks.__name__}()" if _is_class(callbacks) else ""
        raise TypeError(
            f"callbacks={quoted(callbacks)} must be a list of callbacks, one callback, the path of a YAML "
            f"file, or None{hint}"
        )
    chosen = list(callbacks)
    for item in chosen:
        if not isinstance(item, Callback):
            hint = f": write {item.__name__}()" if _is_class(item) else ""
            raise TypeError(
                f"{quoted(item)} is not a Callback{hint}; register a plain function with model.add_callback"
            )
        check_events(item)
    check_together(chosen)
    return chosen


def _is_class(item: object) -> TypeGuard[type[Callback]]:
    return isinstance(item, type) and issubclass(item, Callback)


def check_model(model: Any) -> None:
    """Check that a model takes callbacks.

    Raises:
        TypeError: If it does not.
    """
    if isinstance(model, type) or not callable(getattr(model, "add_callback", None)):
        hint = ": load it first, YOLO(path)" if isinstance(model, (str, os.PathLike)) else ""
        raise TypeError(
            f"cannot attach to {quoted(model)}: it must be an Ultralytics model such as YOLO('yolo26n.pt'){hint}"
        )


def check_version() -> None:
    """Check that the installed Ultralytics is new enough.

    Raises:
        ImportError: If it is not.
    """
    if not ultralytics_is_at_least(*MINIMUM_ULTRALYTICS):
        from ultralytics import __version__

        needed = ".".join(map(str, MINIMUM_ULTRALYTICS))
        raise ImportError(
            f"ultralytics {__version__} is too old, because it drops callbacks on several GPUs: run "
            f"pip install 'ultralytics>={needed}'"
        )
