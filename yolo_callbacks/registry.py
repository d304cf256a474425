"""The public callbacks by name: for the configuration file, the command line, and the tests that walk over all."""

from __future__ import annotations

import yolo_callbacks
from yolo_callbacks.callback import Callback


def public_callbacks() -> dict[str, type[Callback]]:
    """Return every callback class that the package exports, by name.

    Example:
        >>> "EarlyStopping" in public_callbacks()
        True
    """
    exported = {name: getattr(yolo_callbacks, name) for name in yolo_callbacks.__all__ if name[0].isupper()}
    return {
        name: item
        for name, item in exported.items()
        if isinstance(item, type) and issubclass(item, Callback) and item is not Callback
    }
