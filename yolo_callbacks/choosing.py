"""From what a user passes to attach() to a list of callbacks that go together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeGuard, Union

from yolo_callbacks.callback import Callback
from yolo_callbacks.config import load_config
from yolo_callbacks.core.events import check_events
from yolo_callbacks.core.lineup import check_together
from yolo_callbacks.defaults import default_callbacks

Callbacks = Union[Iterable[Callback], Callback, str, "os.PathLike[str]", None]
"""What `attach` takes: a callback, a list of them, the path of a file that lists them, or None for the default ones."""


def resolve(callbacks: Callbacks) -> list[Callback]:
    """Return the list of callbacks that was meant.

    Raises:
        TypeError: If it is no list of callbacks.
        ValueError: If they do not go together.
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
            f"callbacks={callbacks!r} must be a list of callbacks, one callback, the path of a YAML file, or None{hint}"
        )
    chosen = list(callbacks)
    for item in chosen:
        if not isinstance(item, Callback):
            hint = f": write {item.__name__}()" if _is_class(item) else ""
            raise TypeError(f"{item!r} is not a Callback{hint}; register a plain function with model.add_callback")
        check_events(item)
    check_together(chosen)
    return chosen


def _is_class(item: object) -> TypeGuard[type[Callback]]:
    return isinstance(item, type) and issubclass(item, Callback)
